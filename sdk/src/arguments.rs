//! Arguments on the wire: a map by parameter name, in MessagePack, or in JSON where JSON can say all of them.
//!
//! A parameter more than the map has is an error unless it is an `Option`, which is then `None`; an
//! entry more than there are parameters is ignored. So an optional parameter can be added, and any
//! removed, while older calls are on their way.

use bytes::Bytes;
use everpulse_protocol::payload::{Format, PayloadError};
use everpulse_protocol::{Failure, FailureKind, Payload, codec};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::definition::{Argument, Definition};

/// Writes the map, one entry after another, in the format of the code that calls.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// The same in JSON, as long as it can say all that came.
    json: Option<Vec<u8>>,
    error: Option<PayloadError>,
}

impl Encoder {
    /// A map that will have so many entries.
    #[must_use]
    pub fn new(entries: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        match entries {
            0..16 => bytes.push(0x80 | entries),
            _ => bytes.extend([0xde, 0, entries]),
        }
        let json = (crate::format::current() == Format::Json).then(|| vec![b'{']);
        Self { bytes, json, error: None }
    }

    /// Writes the next entry.
    pub fn entry<T: Argument>(&mut self, name: &'static str, value: &T) {
        if self.error.is_some() {
            return;
        }
        self.json = self.json.take().and_then(|json| json_entry(json, name, value).ok());
        let written = rmp_serde::encode::write_named(&mut self.bytes, name)
            .and_then(|()| rmp_serde::encode::write_named(&mut self.bytes, value));
        if let Err(error) = written {
            self.error = Some(PayloadError::Encode {
                type_name: std::any::type_name::<T>(),
                reason: format!("`{name}`: {error}"),
            });
        }
    }

    /// The whole map.
    ///
    /// # Errors
    /// When the `Serialize` of a value failed.
    pub fn finish(self) -> Result<Payload, PayloadError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (format, data) = match self.json {
            Some(mut json) => {
                json.push(b'}');
                (Format::Json, json)
            }
            None => (Format::MessagePack, self.bytes),
        };
        Ok(Payload { encoding: format.name().to_owned(), data: Bytes::from(data) })
    }
}

fn json_entry<T: Argument>(mut json: Vec<u8>, name: &str, value: &T) -> serde_json::Result<Vec<u8>> {
    if json.len() > 1 {
        json.push(b',');
    }
    serde_json::to_writer(&mut json, name)?;
    json.push(b':');
    serde_json::to_writer(&mut json, value)?;
    Ok(json)
}

/// Reads the map, one parameter after another.
#[derive(Debug)]
pub struct Decoder<'a> {
    definition: &'static str,
    format: Format,
    entries: Vec<(String, &'a [u8])>,
}

impl<'a> Decoder<'a> {
    /// Finds the entries.
    ///
    /// # Errors
    /// When the payload is no map with text for keys.
    pub fn new<D: Definition>(payload: &'a Payload) -> Result<Self, Box<Failure>> {
        let undecodable =
            |reason: String| undecodable(format!("the arguments of `{}` cannot be read: {reason}", D::NAME));
        let Some(format) = payload.format() else { return Err(undecodable(payload.unknown().to_string())) };
        let no_map = || undecodable("they are not a map by parameter name".to_owned());
        if format == Format::Json {
            let fields: JsonFields<'a> = serde_json::from_slice(&payload.data)
                .map_err(|error| undecodable(format!("they are not a map by parameter name: {error}")))?;
            let known = |name: &String| D::PARAMETERS.contains(&name.as_str());
            let entries = fields.0.into_iter().filter(|(name, _)| known(name)).collect();
            return Ok(Self { definition: D::NAME, format, entries });
        }
        let (entries, rest) = header(&payload.data).ok_or_else(no_map)?;
        let mut reader = rmp_serde::Deserializer::new(rest);
        reader.set_max_depth(codec::DEPTH_MAX);
        let mut found = Vec::with_capacity(D::PARAMETERS.len());
        for _ in 0..entries {
            let name = String::deserialize(&mut reader).map_err(|error| undecodable(error.to_string()))?;
            let start = *reader.get_ref();
            IgnoredAny::deserialize(&mut reader).map_err(|error| undecodable(format!("`{name}`: {error}")))?;
            let length = start.len() - reader.get_ref().len();
            if D::PARAMETERS.contains(&name.as_str()) {
                found.push((name, &start[..length]));
            }
        }
        Ok(Self { definition: D::NAME, format, entries: found })
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn entry<T: Argument>(&mut self, name: &'static str) -> Result<T, Box<Failure>> {
        let bytes = self.entries.iter().find(|(found, _)| found == name).map(|(_, bytes)| *bytes);
        let value = match bytes {
            Some(bytes) if self.format == Format::Json => {
                serde_json::from_slice(bytes).map_err(|error| error.to_string())
            }
            Some(bytes) => T::deserialize(&mut codec::reader(bytes)).map_err(|error| error.to_string()),
            None => T::deserialize(Missing).map_err(|error| error.to_string()),
        };
        value.map_err(|reason| {
            undecodable(format!(
                "argument `{name}` of `{}` cannot be read as {}: {reason}",
                self.definition,
                std::any::type_name::<T>()
            ))
        })
    }
}

fn undecodable(message: String) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Undecodable, message))
}

/// The number of entries of a MessagePack map, and what follows its header.
fn header(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match *bytes {
        [first @ 0x80..=0x8f, ref rest @ ..] => Some((u32::from(first & 0x0f), rest)),
        [0xde, a, b, ref rest @ ..] => Some((u32::from_be_bytes([0, 0, a, b]), rest)),
        [0xdf, a, b, c, d, ref rest @ ..] => Some((u32::from_be_bytes([a, b, c, d]), rest)),
        _ => None,
    }
}

/// The fields of a JSON object, in their order, with the bytes of their values. Of one that is there twice the first counts,
/// as in MessagePack.
struct JsonFields<'a>(Vec<(String, &'a [u8])>);

impl<'de: 'a, 'a> Deserialize<'de> for JsonFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor).map(JsonFields)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(String, &'de [u8])>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object by parameter name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            fields.push((name, value.get().as_bytes()));
        }
        Ok(fields)
    }
}

/// What a parameter without an entry is read from: `None` for an `Option`, an error for all others.
struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("it is missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Never, SourceLocation};

    struct Ship {}
    impl Definition for Ship {
        const NAME: &'static str = "ship";
        const LOCATION: SourceLocation = SourceLocation { file: "here.rs", line: 1 };
        const PARAMETERS: &'static [&'static str] = &["order", "weight", "note"];
        type Output = ();
        type Error = Never;
    }

    fn read(payload: &Payload) -> Result<(String, u32, Option<String>), String> {
        let mut decoder = Decoder::new::<Ship>(payload).map_err(|failure| failure.message)?;
        let mut read = || -> Result<_, Box<Failure>> {
            Ok((decoder.entry("order")?, decoder.entry("weight")?, decoder.entry("note")?))
        };
        read().map_err(|failure| failure.message)
    }

    fn write(entries: &[(&'static str, &str)], weight: u32) -> Payload {
        let mut encoder = Encoder::new(u8::try_from(entries.len() + 1).unwrap());
        encoder.entry("weight", &weight);
        for (name, value) in entries {
            encoder.entry(name, &(*value).to_owned());
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn entries_are_found_by_name_in_any_order_and_strange_ones_are_skipped() {
        let payload = write(&[("colour", "red"), ("note", "fragile"), ("order", "o-1")], 7);
        assert_eq!(read(&payload), Ok(("o-1".to_owned(), 7, Some("fragile".to_owned()))));
    }

    #[test]
    fn a_missing_option_is_none_and_any_other_missing_parameter_is_named() {
        assert_eq!(read(&write(&[("order", "o-1")], 7)), Ok(("o-1".to_owned(), 7, None)));
        let error = read(&write(&[], 7)).unwrap_err();
        assert_eq!(error, "argument `order` of `ship` cannot be read as alloc::string::String: it is missing");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_parameter() {
        let mut encoder = Encoder::new(2);
        encoder.entry("order", &1_u8);
        encoder.entry("weight", &2_u8);
        let error = read(&encoder.finish().unwrap()).unwrap_err();
        assert!(error.starts_with("argument `order` of `ship` cannot be read as alloc::string::String: "), "{error}");
    }

    #[test]
    fn arguments_in_json_are_an_object_and_read_by_the_same_rules() {
        let payload = crate::format::with(Format::Json, || write(&[("colour", "red"), ("order", "o-\"1\"")], 7));
        assert_eq!(payload.data, r#"{"weight":7,"colour":"red","order":"o-\"1\""}"#);
        assert_eq!(read(&payload), Ok(("o-\"1\"".to_owned(), 7, None)));
        let json = |text: &'static str| Payload { encoding: Format::Json.name().to_owned(), data: text.into() };
        let error = read(&json(r#"{"weight": "7", "order": "o-1"}"#)).unwrap_err();
        assert!(error.starts_with("argument `weight` of `ship` cannot be read as u32: "), "{error}");
        let error = read(&json("{\"weight\": 7}")).unwrap_err();
        assert_eq!(error, "argument `order` of `ship` cannot be read as alloc::string::String: it is missing");
        let mut encoder = crate::format::with(Format::Json, || Encoder::new(2));
        encoder.entry("weight", &7_u32);
        encoder.entry("order", &std::collections::BTreeMap::from([((1_u8, 2_u8), 3_u8)]));
        let payload = encoder.finish().unwrap();
        assert_eq!(
            payload.format(),
            Some(Format::MessagePack),
            "JSON has no such keys, and the call is made all the same"
        );
        assert!(read(&json("[1, 2]")).unwrap_err().contains("not a map by parameter name"));
        assert!(read(&json("{\"weight\": 7")).unwrap_err().contains("not a map by parameter name"));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for payload in [Payload::encode(&vec![1, 2]).unwrap(), Payload { data: Bytes::new(), ..write(&[], 1) }] {
            assert_eq!(
                read(&payload).unwrap_err(),
                "the arguments of `ship` cannot be read: they are not a map by parameter name"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            for format in [Format::MessagePack, Format::Json] {
                let _ = read(&Payload { encoding: format.name().to_owned(), data: bytes.clone().into() });
            }
        }
    }
}
