//! The schema registry over HTTP: read, list, add, check and delete the schemas of a topic.
//!
//! A definition is text here. That of a key-value schema is two, so it comes as JSON with both and is not taken.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json as value};

use super::path::Topic;
use super::reply::{Failure, Reply, json, parse};
use super::routes::Routes;
use super::subscriptions::number;
use super::tenants::Force;
use super::topics::Shared;
use crate::semantics::TopicName;
use crate::semantics::schema::{Schema, SchemaKind, SchemaVersion};
use crate::server::Hub;

pub(super) fn routes() -> Routes {
    let topic = "/admin/v2/schemas/{tenant}/{namespace}/{topic}";
    let of = |rest: &str| format!("{topic}/{rest}");
    Routes::default()
        .get(&of("schema"), last)
        .post(&of("schema"), put)
        .delete(&of("schema"), delete)
        .get(&of("schema/{version}"), by_version)
        .get(&of("schemas"), all)
        .post(&of("compatibility"), check)
        .post(&of("version"), version_of)
        .refuse("GET", &of("metadata"), "Schemas are not in ledgers of their own in this broker: see `schemas`")
}

fn not_found() -> Failure {
    Failure::not_found("Schema not found")
}

/// # Errors
/// The namespace does not exist.
fn check_namespace(hub: &Hub, topic: &TopicName) -> Result<(), Failure> {
    hub.look(|broker| broker.catalog().namespace(topic.namespace()).map(drop))
        .map_err(|_| Failure::not_found("Namespace not found"))
}

async fn last(State(hub): Shared, Topic(topic): Topic) -> Reply {
    check_namespace(&hub, &topic)?;
    let version = hub.look(|broker| broker.schema(&topic, None).and_then(shown));
    version.map(json).ok_or_else(not_found)
}

async fn by_version(State(hub): Shared, Topic(topic): Topic, Path(path): Path<BTreeMap<String, String>>) -> Reply {
    check_namespace(&hub, &topic)?;
    let version = number(&path, "version")?;
    let version = hub.look(|broker| broker.schema(&topic, Some(version)).and_then(shown));
    version.map(json).ok_or_else(not_found)
}

async fn all(State(hub): Shared, Topic(topic): Topic) -> Reply {
    check_namespace(&hub, &topic)?;
    let versions = hub.look(|broker| broker.schemas(&topic).iter().filter_map(shown).collect::<Vec<_>>());
    Ok(json(value!({ "getSchemaResponses": versions })))
}

fn shown(version: &SchemaVersion) -> Option<Value> {
    let schema = version.schema.as_ref()?;
    let data = match schema.kind {
        SchemaKind::KeyValue => key_and_value(&schema.data),
        _ => String::from_utf8_lossy(&schema.data).into_owned(),
    };
    Some(value!({
        "version": version.version,
        "type": schema.kind,
        "timestamp": version.at_ms,
        "data": data,
        "properties": schema.properties,
    }))
}

/// A key-value schema is the key's, then the value's, each behind its length in four bytes.
fn key_and_value(data: &[u8]) -> String {
    let part = |data: &[u8]| -> Option<(Value, usize)> {
        let length = usize::try_from(u32::from_be_bytes(data.get(..4)?.try_into().ok()?)).ok()?;
        let end = length.checked_add(4)?;
        let text = String::from_utf8_lossy(data.get(4..end)?);
        Some((serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.into_owned())), end))
    };
    let both = part(data).and_then(|(key, end)| Some((key, part(data.get(end..)?)?.0)));
    both.map_or_else(String::new, |(key, value)| value!({ "key": key, "value": value }).to_string())
}

#[derive(Debug, Deserialize)]
struct Posted {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

fn posted(body: &[u8]) -> Result<Schema, Failure> {
    let posted: Posted = parse(body)?;
    let unknown = || Failure::invalid(format!("There is no schema type {}", posted.kind));
    let kind = SchemaKind::named(&posted.kind).ok_or_else(unknown)?;
    if kind == SchemaKind::KeyValue {
        return Err(Failure::not_supported("Key-value schemas are added by clients, not over HTTP"));
    }
    Ok(Schema { kind, data: posted.schema.into_bytes(), properties: posted.properties.unwrap_or_default() })
}

async fn put(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    check_namespace(&hub, &topic)?;
    let schema = posted(&body)?;
    let version = hub.change(|broker| broker.handle_put_schema(&topic, schema)).await?;
    Ok(json(value!({ "version": { "version": version } })))
}

/// Says in the status whether this could be the next schema, and by which rule.
async fn check(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    check_namespace(&hub, &topic)?;
    let schema = posted(&body)?;
    let (strategy, checked) =
        hub.look(|broker| (broker.schema_compatibility(&topic), broker.check_schema(&topic, &schema)));
    let answer = value!({ "schemaCompatibilityStrategy": strategy, "compatibility": checked.is_ok() });
    Ok((StatusCode::ACCEPTED, json(answer)).into_response())
}

async fn version_of(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    check_namespace(&hub, &topic)?;
    let schema = posted(&body)?;
    let version = hub.look(|broker| broker.schema_version(&topic, &schema)).ok_or_else(not_found)?;
    Ok(json(value!({ "version": version })))
}

async fn delete(State(hub): Shared, Topic(topic): Topic, Query(query): Query<Force>) -> Reply {
    check_namespace(&hub, &topic)?;
    let version = hub.change(|broker| broker.handle_delete_schema(&topic, query.force)).await?;
    Ok(json(value!({ "version": version.map_or(-1, |version| version as i64) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_of_a_key_value_schema_are_shown() {
        let data = [&7u32.to_be_bytes()[..], br#"{"a":1}"#, &0u32.to_be_bytes()[..]].concat();
        assert_eq!(key_and_value(&data), r#"{"key":{"a":1},"value":""}"#);
        assert_eq!(key_and_value(&[0, 0, 0, 9, 1]), "");
    }
}
