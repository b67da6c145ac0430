//! Schemas in one form: what stands beside a reference or beside variants is put into what it belongs to.
//!
//! A derive writes `{"$ref": …, "properties": {"kind": …}}` for a variant that is told by a field, and `{"oneOf": …,
//! "properties": …}` for an enum that is flattened into a struct. Both are objects that have the fields of both.

use serde_json::{Map, Value};

use crate::shape::resolve;

/// The whole schema, with nothing beside references and variants where that can be had.
pub(crate) fn normal(root: &Value) -> Value {
    let mut normal = root.clone();
    walk(root, &mut normal, &mut Vec::new());
    normal
}

/// `under_way`: references that are being put into what names them; within these, one more is left as it is.
fn walk(root: &Value, node: &mut Value, under_way: &mut Vec<String>) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(root, item, under_way)),
        Value::Object(map) => {
            let before = under_way.len();
            if map.contains_key("properties") {
                inline_reference(root, map, under_way);
                inline_variants(root, map, under_way);
            }
            map.iter_mut().filter(|(key, _)| !is_data(key)).for_each(|(_, value)| walk(root, value, under_way));
            under_way.truncate(before);
            distribute(map);
        }
        _ => {}
    }
}

/// Values, not schemas.
fn is_data(key: &str) -> bool {
    matches!(key, "const" | "enum" | "default" | "examples")
}

fn inline_reference(root: &Value, map: &mut Map<String, Value>, under_way: &mut Vec<String>) {
    if let Some(target) = target_of(root, map, under_way).filter(|target| plain_object(target).is_some()) {
        map.remove("$ref");
        merge(map, target.as_object().unwrap_or(&Map::new()));
    }
}

fn inline_variants(root: &Value, map: &mut Map<String, Value>, under_way: &mut Vec<String>) {
    let Some(variants) = variants_key(map).and_then(|key| map.get_mut(key)?.as_array_mut()) else { return };
    for variant in variants {
        // What has fields beside its reference is seen to when the walk comes there.
        let bare = variant.as_object().filter(|variant| !variant.contains_key("properties"));
        if let Some(target) = bare.and_then(|bare| target_of(root, bare, under_way)) {
            *variant = target.clone();
        }
    }
}

fn target_of<'a>(root: &'a Value, map: &Map<String, Value>, under_way: &mut Vec<String>) -> Option<&'a Value> {
    let reference = map.get("$ref")?.as_str()?;
    if under_way.iter().any(|one| one == reference) {
        return None;
    }
    let target = root.pointer(reference.strip_prefix('#')?)?;
    under_way.push(reference.to_owned());
    Some(resolve(root, target))
}

fn variants_key(map: &Map<String, Value>) -> Option<&'static str> {
    ["oneOf", "anyOf"].into_iter().find(|key| map.contains_key(*key))
}

fn distribute(map: &mut Map<String, Value>) {
    if !map.contains_key("properties") {
        return;
    }
    let Some(key) = variants_key(map) else { return };
    let Some(Value::Array(variants)) = map.get(key) else { return };
    // Others stay as they are, and are compared as a whole.
    let Some(plain) = variants.iter().map(plain_object).collect::<Option<Vec<_>>>() else { return };
    let beside: Map<String, Value> =
        map.iter().filter(|(name, _)| matches!(name.as_str(), "properties" | "required")).map(own).collect();
    let whole = plain.into_iter().map(|variant| {
        let mut one = variant.clone();
        // The variant is closed by itself; the fields beside it are there too.
        one.remove("additionalProperties");
        merge(&mut one, &beside);
        Value::Object(one)
    });
    let whole = whole.collect();
    let rest = map.iter().filter(|(name, _)| matches!(name.as_str(), "title" | "description" | "$defs" | "$schema"));
    let mut distributed: Map<String, Value> = rest.map(own).collect();
    distributed.insert(key.to_owned(), Value::Array(whole));
    *map = distributed;
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

/// An object that names its fields, and is nothing else besides.
fn plain_object(node: &Value) -> Option<&Map<String, Value>> {
    let map = node.as_object()?;
    let is_more = ["$ref", "allOf", "oneOf", "anyOf", "not"].into_iter().any(|key| map.contains_key(key));
    (!is_more && map.get("type").and_then(Value::as_str) == Some("object")).then_some(map)
}

/// The fields of both; what stands in `map` already stays.
fn merge(map: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (name, value) in other {
        match (map.get_mut(name), value) {
            (Some(Value::Object(there)), Value::Object(more)) if name == "properties" => {
                for (field, node) in more {
                    there.entry(field.clone()).or_insert_with(|| node.clone());
                }
            }
            (Some(Value::Array(there)), Value::Array(more)) if name == "required" => {
                there.extend(more.iter().filter(|field| !there.contains(field)).cloned().collect::<Vec<_>>());
            }
            (Some(_), _) => {}
            (None, value) => {
                map.insert(name.clone(), value.clone());
            }
        }
    }
}
