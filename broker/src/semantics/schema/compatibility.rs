//! Which schema may follow which, by the strategies that a namespace can choose from.

use super::avro::Avro;
use super::{Schema, SchemaKind, SchemaVersion, incompatible};
use crate::semantics::effect::{Refusal, RefusalKind};
use crate::semantics::policies::SchemaCompatibility as Strategy;

/// Larger definitions are refused, so that looking at one takes no noticeable time.
const DEFINITION_BYTES_MAX: usize = 256 * 1024;

/// # Errors
/// The definition does not fit the type.
pub fn validate(schema: &Schema) -> Result<(), Refusal> {
    let invalid = |reason: String| {
        let message = format!("Invalid schema definition data for {} schema: {reason}", schema.kind.name());
        Err(Refusal::new(RefusalKind::InvalidSchema, message))
    };
    if schema.data.len() > DEFINITION_BYTES_MAX {
        return invalid(format!("more than {DEFINITION_BYTES_MAX} bytes"));
    }
    match schema.kind {
        // Former clients describe JSON by a JSON Schema, which is JSON and more than we ask.
        SchemaKind::Json if serde_json::from_slice::<serde_json::Value>(&schema.data).is_ok() => Ok(()),
        kind if kind.is_avro() => Avro::parse(&schema.data).map(|_| ()).or_else(invalid),
        // The Python client's word for no definition.
        SchemaKind::String if &*schema.data == b"null" => Ok(()),
        kind if kind.is_primitive() && !schema.data.is_empty() => invalid("it has none".into()),
        SchemaKind::KeyValue => {
            let Some((key, value)) = key_value(schema) else { return invalid("no key and value".into()) };
            validate(&key)?;
            validate(&value)
        }
        SchemaKind::AutoConsume => invalid("it is for consumers only".into()),
        _ => Ok(()),
    }
}

/// Whether two schemas are the same version; properties do not count.
pub fn is_same(known: &Schema, new: &Schema) -> bool {
    if known.kind != new.kind {
        return false;
    }
    if known.data == new.data {
        return true;
    }
    let both = || Some((Avro::parse(&known.data).ok()?, Avro::parse(&new.data).ok()?));
    new.kind.is_avro() && both().is_some_and(|(known, new)| known.is_same(&new))
}

/// Whether a schema can follow these, oldest first.
///
/// # Errors
/// It cannot.
pub fn check(known: &[SchemaVersion], new: &Schema, strategy: Strategy) -> Result<(), Refusal> {
    if strategy == Strategy::AlwaysCompatible {
        return Ok(());
    }
    let transitive =
        matches!(strategy, Strategy::BackwardTransitive | Strategy::ForwardTransitive | Strategy::FullTransitive);
    let from = if transitive { 0 } else { known.len().saturating_sub(1) };
    check_each(&known[from..], new, strategy)
}

/// Whether a consumer of this schema can read what is there.
///
/// # Errors
/// It cannot.
pub fn check_consumer(known: &[SchemaVersion], new: &Schema, strategy: Strategy) -> Result<(), Refusal> {
    match strategy {
        Strategy::Backward | Strategy::Forward | Strategy::ForwardTransitive | Strategy::Full => {
            check(known, new, Strategy::Backward)
        }
        Strategy::AlwaysCompatible => Ok(()),
        _ => check_each(known, new, strategy),
    }
}

fn check_each(known: &[SchemaVersion], new: &Schema, strategy: Strategy) -> Result<(), Refusal> {
    for version in known {
        let Some(old) = &version.schema else { continue };
        if old.kind != new.kind {
            let (old, new) = (old.kind.name(), new.kind.name());
            return Err(incompatible(format!("Incompatible schema: exists schema type {old}, new schema type {new}")));
        }
        if !follows(old, new, strategy) {
            return Err(incompatible(format!(
                "Incompatible schema: it is not {strategy:?} compatible with version {} of the topic's schema",
                version.version
            )));
        }
    }
    Ok(())
}

fn follows(old: &Schema, new: &Schema, strategy: Strategy) -> bool {
    if strategy == Strategy::AlwaysIncompatible {
        return false;
    }
    match new.kind {
        SchemaKind::KeyValue => match (key_value(old), key_value(new)) {
            (Some((old_key, old_value)), Some((new_key, new_value))) => {
                old_key.kind == new_key.kind
                    && old_value.kind == new_value.kind
                    && follows(&old_key, &new_key, strategy)
                    && follows(&old_value, &new_value, strategy)
            }
            _ => false,
        },
        kind if kind.is_avro() => match (Avro::parse(&old.data), Avro::parse(&new.data)) {
            (Ok(old), Ok(new)) => avro_follows(&old, &new, strategy),
            // JSON Schema: its clients' changes are taken on trust, as by Apache Pulsar between two of them.
            _ => kind == SchemaKind::Json,
        },
        _ => true,
    }
}

fn avro_follows(old: &Avro, new: &Avro, strategy: Strategy) -> bool {
    match strategy {
        Strategy::AlwaysCompatible => true,
        Strategy::AlwaysIncompatible | Strategy::Undefined => false,
        Strategy::Backward | Strategy::BackwardTransitive => new.can_read(old),
        Strategy::Forward | Strategy::ForwardTransitive => old.can_read(new),
        Strategy::Full | Strategy::FullTransitive => new.can_read(old) && old.can_read(new),
    }
}

/// The two schemas of a key-value schema: each preceded by its length, their types in the properties.
fn key_value(schema: &Schema) -> Option<(Schema, Schema)> {
    let part = |bytes: &mut &[u8], name: &str| {
        let (len, rest) = bytes.split_at_checked(4)?;
        let len = i32::from_be_bytes(len.try_into().ok()?).max(0) as usize;
        let (data, rest) = rest.split_at_checked(len)?;
        *bytes = rest;
        let kind = schema.properties.get(&format!("{name}.schema.type")).map(String::as_str);
        // `BYTES` has no number on the wire: it is no schema.
        let kind = kind.and_then(SchemaKind::named).unwrap_or(SchemaKind::None);
        Some(Schema { kind, data: data.to_vec(), properties: Default::default() })
    };
    let mut bytes = schema.data.as_slice();
    let key = part(&mut bytes, "key")?;
    let value = part(&mut bytes, "value")?;
    // A key-value schema in a key-value schema would have to be taken apart without end.
    let nested = key.kind == SchemaKind::KeyValue || value.kind == SchemaKind::KeyValue;
    (bytes.is_empty() && !nested).then_some((key, value))
}
