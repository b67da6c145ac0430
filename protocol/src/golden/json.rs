//! JSON that keeps the order of its fields, and the way between it and MessagePack.
//!
//! | MessagePack | JSON |
//! |---|---|
//! | nil, booleans, integers, 64-bit floats, texts, arrays | the same |
//! | maps with texts for keys, none of which begins with `$` | objects, in the same order |
//! | `{"data": bytes}` whose bytes are MessagePack | `{"$payload": value}` |
//! | `{"encoding": "json", "data": bytes}` whose bytes are JSON without spaces | `{"$json": value}` |
//! | the bytes of a `body` (a version byte, MessagePack) | `{"$body": value}` |
//! | other bytes | `{"$uuid": ..}` if they are 16, else `{"$base64": ..}` |
//!
//! Whatever else there is has no JSON; then the bytes around it are shown as Base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rmpv::Value;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::codec;
use crate::payload::Format;

const PAYLOAD: &str = "$payload";
const JSON: &str = "$json";
const BODY: &str = "$body";
const UUID: &str = "$uuid";
const BYTES: &str = "$base64";

/// An event that was taken in is a body in a body, with a payload in it.
const ENVELOPES_MAX: u32 = 4;
/// What is nested deeper is not shown: readers of JSON have their limits.
const LEVELS_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    fn tagged(tag: &str, value: Self) -> Self {
        Self::Map(vec![(tag.to_owned(), value)])
    }
}

/// The JSON of MessagePack bytes; none if JSON cannot say it.
pub(super) fn of_message(bytes: &[u8]) -> Option<Json> {
    opened(bytes, ENVELOPES_MAX)
}

/// The same, if exactly these bytes come back from the JSON's text.
pub(super) fn exact(bytes: &[u8]) -> Option<Json> {
    exact_within(bytes, ENVELOPES_MAX)
}

/// `envelopes`: so many bytes in bytes are looked into.
fn opened(bytes: &[u8], envelopes: u32) -> Option<Json> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, codec::DEPTH_MAX).ok()?;
    if rest.is_empty() { of_value(&value, envelopes) } else { None }
}

fn exact_within(bytes: &[u8], envelopes: u32) -> Option<Json> {
    let json = opened(bytes, envelopes.checked_sub(1)?)?;
    if depth(&json) > LEVELS_MAX {
        return None;
    }
    let text = serde_json::to_string(&json).ok()?;
    let back = to_message(&serde_json::from_str(&text).ok()?).ok()?;
    (encode(&back) == bytes).then_some(json)
}

pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory takes all that is written");
    bytes
}

/// Puts a text in the place of those of all headers; true if there are any. What users say is not looked through.
pub(super) fn hide_headers(json: &mut Json, hidden: &str) -> bool {
    let mut any = false;
    match json {
        Json::List(values) => {
            for value in values {
                any |= hide_headers(value, hidden);
            }
        }
        Json::Map(fields) => {
            for (key, value) in fields {
                any |= match (key.as_str(), value) {
                    (PAYLOAD | JSON, _) => false,
                    ("headers", Json::Map(tagged)) => hide_texts(tagged, hidden),
                    (_, value) => hide_headers(value, hidden),
                };
            }
        }
        _ => {}
    }
    any
}

/// Of headers as a value: an object of texts.
fn hide_texts(tagged: &mut [(String, Json)], hidden: &str) -> bool {
    let [(tag, Json::Map(headers))] = tagged else { return false };
    if tag != PAYLOAD && tag != JSON {
        return false;
    }
    for (_, text) in headers.iter_mut() {
        *text = Json::Text(hidden.to_owned());
    }
    !headers.is_empty()
}

fn of_value(value: &Value, envelopes: u32) -> Option<Json> {
    Some(match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Json::Unsigned(number),
            (None, number) => Json::Signed(number?),
        },
        Value::F64(number) if number.is_finite() => Json::Float(*number),
        Value::String(text) => Json::Text(text.as_str()?.to_owned()),
        Value::Binary(bytes) => of_bytes(bytes),
        Value::Array(values) => {
            Json::List(values.iter().map(|value| of_value(value, envelopes)).collect::<Option<_>>()?)
        }
        Value::Map(entries) => match payload(entries, envelopes) {
            Some(json) => json,
            None => Json::Map(entries.iter().map(|entry| of_entry(entry, envelopes)).collect::<Option<_>>()?),
        },
        Value::F32(_) | Value::F64(_) | Value::Ext(..) => return None,
    })
}

fn of_entry((key, value): &(Value, Value), envelopes: u32) -> Option<(String, Json)> {
    let key = key.as_str().filter(|key| !key.starts_with('$'))?;
    let body = match value {
        Value::Binary(bytes) if key == "body" => match bytes.split_first() {
            Some((&codec::VERSION, rest)) => exact_within(rest, envelopes).map(|json| Json::tagged(BODY, json)),
            _ => None,
        },
        _ => None,
    };
    Some((key.to_owned(), body.map_or_else(|| of_value(value, envelopes), Some)?))
}

/// A value of a user: in the encoding that is not named, or in JSON.
fn payload(entries: &[(Value, Value)], envelopes: u32) -> Option<Json> {
    match entries {
        [(key, Value::Binary(data))] if key.as_str() == Some("data") => {
            Some(Json::tagged(PAYLOAD, exact_within(data, envelopes)?))
        }
        [(encoding, Value::String(json)), (key, Value::Binary(data))]
            if encoding.as_str() == Some("encoding")
                && json.as_str() == Some(Format::Json.name())
                && key.as_str() == Some("data") =>
        {
            Some(Json::tagged(JSON, exact_json(data)?))
        }
        _ => None,
    }
}

/// JSON as a user's process wrote it, if exactly these bytes come back.
fn exact_json(bytes: &[u8]) -> Option<Json> {
    let json: Json = serde_json::from_slice(bytes).ok()?;
    (depth(&json) <= LEVELS_MAX && serde_json::to_vec(&json).ok()? == bytes).then_some(json)
}

fn depth(json: &Json) -> usize {
    match json {
        Json::List(values) => 1 + values.iter().map(depth).max().unwrap_or_default(),
        Json::Map(fields) => 1 + fields.iter().map(|(_, value)| depth(value)).max().unwrap_or_default(),
        _ => 0,
    }
}

fn of_bytes(bytes: &[u8]) -> Json {
    match Uuid::from_slice(bytes) {
        Ok(uuid) => Json::tagged(UUID, Json::Text(uuid.to_string())),
        Err(_) => Json::tagged(BYTES, Json::Text(BASE64.encode(bytes))),
    }
}

/// # Errors
/// When a field that begins with `$` is none that this release writes.
pub(super) fn to_message(json: &Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Unsigned(number) => Value::from(*number),
        Json::Signed(number) => Value::from(*number),
        Json::Float(number) => Value::F64(*number),
        Json::Text(text) => Value::from(text.as_str()),
        Json::List(values) => Value::Array(values.iter().map(to_message).collect::<Result<_, _>>()?),
        Json::Map(fields) => match fields.as_slice() {
            [(tag, value)] if tag.starts_with('$') => tagged(tag, value)?,
            fields => {
                let entry = |(key, value): &(String, Json)| Ok((Value::from(key.as_str()), to_message(value)?));
                Value::Map(fields.iter().map(entry).collect::<Result<_, String>>()?)
            }
        },
    })
}

fn tagged(tag: &str, value: &Json) -> Result<Value, String> {
    Ok(match (tag, value) {
        (PAYLOAD, value) => Value::Map(vec![("data".into(), Value::Binary(encode(&to_message(value)?)))]),
        (JSON, value) => {
            let data = serde_json::to_vec(value).map_err(|error| error.to_string())?;
            let format = Value::from(Format::Json.name());
            Value::Map(vec![("encoding".into(), format), ("data".into(), Value::Binary(data))])
        }
        (BODY, value) => {
            let mut bytes = vec![codec::VERSION];
            bytes.extend(encode(&to_message(value)?));
            Value::Binary(bytes)
        }
        (UUID, Json::Text(text)) => {
            let uuid = Uuid::parse_str(text).map_err(|_| format!("{text:?} is no UUID"))?;
            Value::Binary(uuid.as_bytes().to_vec())
        }
        (BYTES, Json::Text(text)) => {
            Value::Binary(BASE64.decode(text).map_err(|error| format!("{text:?} is no Base64: {error}"))?)
        }
        _ => return Err(format!("`{tag}` is unknown, or its value is of another kind")),
    })
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(number) => serializer.serialize_u64(*number),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
            Self::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(number))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(u64::try_from(number).map_or(Json::Signed(number), Json::Unsigned))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Float(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if fields.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("`{key}` is there twice")));
            }
            fields.push((key, value));
        }
        Ok(Json::Map(fields))
    }
}
