//! One schema as alternatives, each of one type.

use serde_json::{Map, Value};

/// What a value may be, one of several.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Alternative<'a> {
    Anything,
    Exactly(&'a Value),
    Of(&'a str, &'a Map<String, Value>),
    /// Said in words that are not compared here.
    Opaque(&'a Value),
}

/// No schema refers to others so often without a cycle.
const DEPTH_MAX: usize = 64;
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Whether it stands for a type that says nothing of itself.
pub(crate) fn is_unknown(node: &Value) -> bool {
    node.get("x-unknown") == Some(&Value::Bool(true))
}

/// What is meant by a node, behind all references.
pub(crate) fn resolve<'a>(root: &'a Value, mut node: &'a Value) -> &'a Value {
    for _ in 0..DEPTH_MAX {
        let Some(path) = node.get("$ref").and_then(Value::as_str) else { return node };
        let Some(found) = path.strip_prefix('#').and_then(|path| root.pointer(path)) else { return node };
        node = found;
    }
    node
}

/// All that a value may be.
pub(crate) fn alternatives<'a>(root: &'a Value, node: &'a Value) -> Vec<Alternative<'a>> {
    let mut all = Vec::new();
    gather(root, node, 0, &mut all);
    all
}

fn gather<'a>(root: &'a Value, node: &'a Value, depth: usize, all: &mut Vec<Alternative<'a>>) {
    let node = resolve(root, node);
    let Some(map) = node.as_object() else {
        // `true` is anything; `false` is nothing, and adds nothing.
        if node.as_bool() == Some(true) {
            all.push(Alternative::Anything);
        }
        return;
    };
    if depth > DEPTH_MAX || map.contains_key("allOf") || map.contains_key("not") || map.contains_key("$ref") {
        return all.push(Alternative::Opaque(node));
    }
    let several = map.get("oneOf").or_else(|| map.get("anyOf")).and_then(Value::as_array);
    if let Some(several) = several {
        // Fields beside the variants (an enum that is flattened into a struct) belong to each of them.
        if map.contains_key("properties") {
            return all.push(Alternative::Opaque(node));
        }
        return several.iter().for_each(|one| gather(root, one, depth + 1, all));
    }
    if let Some(value) = map.get("const") {
        return all.push(Alternative::Exactly(value));
    }
    if let Some(values) = map.get("enum").and_then(Value::as_array) {
        return all.extend(values.iter().map(Alternative::Exactly));
    }
    match map.get("type") {
        Some(Value::String(name)) => all.push(Alternative::Of(known(name), map)),
        Some(Value::Array(names)) => {
            all.extend(names.iter().filter_map(Value::as_str).map(|name| Alternative::Of(known(name), map)));
        }
        // Only annotations.
        None if !map.keys().any(|key| matches!(key.as_str(), "properties" | "items" | "prefixItems")) => {
            all.push(Alternative::Anything);
        }
        _ => all.push(Alternative::Opaque(node)),
    }
}

fn known(name: &str) -> &'static str {
    TYPES.into_iter().find(|known| *known == name).unwrap_or("unknown")
}

/// How a person is told what something is.
pub(crate) fn describe(root: &Value, node: &Value) -> String {
    let name = node.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    if let Some(name) = name {
        return format!("`{name}`");
    }
    let mut said: Vec<String> = alternatives(root, node).iter().map(describe_one).collect();
    said.dedup();
    match said.len() {
        0 => "nothing".to_owned(),
        1..=6 => said.join(" or "),
        more => format!("one of {more}"),
    }
}

pub(crate) fn describe_one(alternative: &Alternative<'_>) -> String {
    match alternative {
        Alternative::Anything => "anything".to_owned(),
        Alternative::Exactly(value) => value.to_string(),
        Alternative::Opaque(_) => "something of its own".to_owned(),
        Alternative::Of(name, map) => {
            let format = map.get("format").and_then(Value::as_str);
            let variant = (*name == "object").then(|| tag(map)).flatten();
            let title = map.get("title").and_then(Value::as_str);
            match (variant, title, format) {
                (Some(variant), ..) => format!("variant `{variant}`"),
                (None, Some(title), _) if *name == "object" => format!("`{title}`"),
                (.., Some(format)) => format!("{name} ({format})"),
                _ => (*name).to_owned(),
            }
        }
    }
}

/// What an object says that it is: a variant with data by its one field, or by a field that has one value.
pub(crate) fn tag(map: &Map<String, Value>) -> Option<&str> {
    let properties = map.get("properties")?.as_object()?;
    let constant = properties.values().find_map(|property| property.get("const").and_then(Value::as_str));
    let only = || {
        let closed = map.get("additionalProperties") == Some(&Value::Bool(false));
        (properties.len() == 1 && closed && required(map).count() == 1).then(|| properties.keys().next()).flatten()
    };
    constant.or_else(|| only().map(String::as_str))
}

/// The fields that must be there.
pub(crate) fn required(map: &Map<String, Value>) -> impl Iterator<Item = &str> {
    map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The integers that it allows, by its format and its bounds.
pub(crate) fn range(map: &Map<String, Value>) -> (i128, i128) {
    let (low, high) = match map.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
        Some("uint128") => (0, i128::MAX),
        Some("int8") => (i128::from(i8::MIN), i128::from(i8::MAX)),
        Some("int16") => (i128::from(i16::MIN), i128::from(i16::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Some("int64" | "int") => (i128::from(i64::MIN), i128::from(i64::MAX)),
        _ => (i128::MIN, i128::MAX),
    };
    let bound = |name: &str| map.get(name).and_then(integer);
    (low.max(bound("minimum").unwrap_or(low)), high.min(bound("maximum").unwrap_or(high)))
}

/// A number without a fraction.
pub(crate) fn integer(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}
