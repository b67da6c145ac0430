//! Single messages: peeked, found by position or by place, with their metadata in headers as Apache Pulsar does.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message as _;
use serde_json::json as value;

use super::path::{Subscription, Topic};
use super::reply::{Failure, Reply, json};
use super::routes::Routes;
use super::subscriptions::number;
use super::topics::Shared;
use crate::semantics::backlog::Peeked;
use crate::semantics::{Position, Refusal, TopicName};
use crate::server::Hub;
use crate::timestamp::iso_8601;
use crate::wire::compression::unpack;
use crate::wire::frame::split_entry;
use crate::wire::messages::{KeyValue, MessageMetadata};

pub(super) fn routes(topic: &str) -> Routes {
    Routes::default()
        .get(&format!("{topic}/subscription/{{subscription}}/position/{{position}}"), peek)
        .get(&format!("{topic}/examinemessage"), examine)
        .get(&format!("{topic}/ledger/{{ledger}}/entry/{{entry}}"), by_id)
        .get(&format!("{topic}/messageid/{{timestamp}}"), id_by_time)
        .get(&format!("{topic}/lastMessageId"), last_id)
}

type Parts = Path<BTreeMap<String, String>>;

fn persistent(topic: &TopicName) -> Result<(), Failure> {
    if topic.is_persistent() {
        return Ok(());
    }
    Err(Failure::not_allowed("Messages of a non-persistent topic are kept nowhere"))
}

async fn peek(State(hub): Shared, Subscription { topic, name }: Subscription, Path(path): Parts) -> Reply {
    persistent(&topic)?;
    let n = number(&path, "position")?;
    if n == 0 {
        return Err(Failure::precondition("Messages are counted from 1"));
    }
    let found = hub.look(|broker| broker.peek(&topic, &name, n))?;
    shown(&hub, found, "Message not found").await
}

#[derive(Debug, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Place {
    initial_position: String,
    message_position: u64,
}

impl Default for Place {
    fn default() -> Place {
        Place { initial_position: "latest".into(), message_position: 1 }
    }
}

async fn examine(State(hub): Shared, Topic(topic): Topic, Query(place): Query<Place>) -> Reply {
    persistent(&topic)?;
    let from_last = place.initial_position != "earliest";
    let (any, found) = hub.look(|broker| {
        let any = broker.examine(&topic, false, 1)?;
        Ok::<_, Refusal>((any, broker.examine(&topic, from_last, place.message_position)?))
    })?;
    if any.is_none() {
        return Err(Failure::precondition("Could not examine messages due to the total message is zero"));
    }
    shown(&hub, found, "Message not found").await
}

async fn by_id(State(hub): Shared, Topic(topic): Topic, Path(path): Parts) -> Reply {
    persistent(&topic)?;
    let position = Position { ledger: number(&path, "ledger")?, entry: number(&path, "entry")? };
    let found = hub.look(|broker| broker.entry_at(&topic, position))?;
    shown(&hub, found, "Message id not found").await
}

async fn id_by_time(State(hub): Shared, Topic(topic): Topic, Path(path): Parts) -> Reply {
    persistent(&topic)?;
    let time_ms = number(&path, "timestamp")?;
    let position = hub.look(|broker| {
        // When nothing is that new, the place of the next message.
        let next = || {
            broker.topic_stats(&topic).map(|stats| stats.last.map(|last| Position { entry: last.entry + 1, ..last }))
        };
        broker.entry_since(&topic, time_ms)?.map_or_else(next, |found| Ok(Some(found.position)))
    })?;
    Ok(json(id(position, -1)))
}

async fn last_id(State(hub): Shared, Topic(topic): Topic) -> Reply {
    persistent(&topic)?;
    let last = hub.look(|broker| broker.topic_stats(&topic))?.last;
    Ok(json(id(last, topic.partition().map_or(-1, i64::from))))
}

/// A message id as the Java client reads it; -1:-1 is that of no message.
pub(super) fn id(position: Option<Position>, partition: i64) -> serde_json::Value {
    let (ledger, entry) = position.map_or((-1, -1), |at| (at.ledger as i64, at.entry as i64));
    value!({ "ledgerId": ledger, "entryId": entry, "partitionIndex": partition, "batchIndex": -1, "batchSize": 0 })
}

async fn shown(hub: &Hub, found: Option<Peeked>, otherwise: &str) -> Reply {
    let Some(Peeked { position, entry }) = found else { return Err(Failure::not_found(otherwise)) };
    let reader = hub.reader.clone();
    let read = tokio::task::spawn_blocking(move || reader.read(entry.location)).await;
    let entry = match read.map_err(std::io::Error::other).and_then(|read| read) {
        Ok(entry) => entry,
        // It was acknowledged and given back while it was looked for.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Failure::not_found(otherwise)),
        Err(error) => return Err(Failure::internal(format!("Could not read message {position}: {error}"))),
    };
    let mut shown = message(position, &entry)?;
    shown.extensions_mut().extend(super::spelling::of_pulsar().await);
    Ok(shown)
}

/// The payload, decompressed or refused, with everything else in headers.
fn message(position: Position, entry: &Bytes) -> Reply {
    let unreadable = || Failure::internal(format!("The metadata of message {position} cannot be read"));
    let (metadata, payload) = split_entry(entry).ok_or_else(unreadable)?;
    let metadata = MessageMetadata::decode(metadata).map_err(|_| unreadable())?;
    let compression = metadata.compression.unwrap_or(0);
    let mut headers = Headers::default();
    headers.add("message-id", position);
    let properties =
        metadata.properties.into_iter().map(|property| KeyValue::decode(property).map_err(|_| unreadable()));
    let properties = properties.map(|property| property.map(|KeyValue { key, value }| (key, value)));
    let properties: BTreeMap<String, String> = properties.collect::<Result<_, _>>()?;
    headers.add("property", value!(properties));
    headers.add("publish-time", iso_8601(metadata.publish_time));
    headers.maybe("event-time", metadata.event_time.filter(|at| *at != 0).map(iso_8601));
    headers.maybe("deliver-at-time", metadata.deliver_at_time.filter(|at| *at > 0).map(|at| iso_8601(at as u64)));
    if let Some(count) = metadata.num_messages_in_batch {
        headers.add("num-batch-message", count);
        headers.add("batch-size", metadata.uncompressed_size.unwrap_or(payload.len() as u32));
    }
    headers.maybe("null-value", metadata.null_value);
    headers.maybe("null-partition-key", metadata.null_partition_key);
    headers.maybe("num-chunks-from-msg", metadata.num_chunks_from_msg);
    headers.maybe("chunk-id", metadata.chunk_id);
    headers.maybe("total-chunk-msg-size", metadata.total_chunk_msg_size);
    headers.maybe("uuid", metadata.uuid);
    headers.add("is-encrypted", metadata.encryption_algo.is_some());
    headers.maybe("encryption-algo", metadata.encryption_algo.clone());
    headers.add("producer-name", &metadata.producer_name);
    headers.add("sequence-id", metadata.sequence_id);
    headers.maybe("highest-sequence-id", metadata.highest_sequence_id.filter(|id| *id > 0));
    headers.maybe("partition-key", metadata.partition_key);
    headers.maybe("partition-key-b64-encoded", metadata.partition_key_b64_encoded);
    headers.maybe("base64-ordering-key", metadata.ordering_key.map(|key| BASE64.encode(key)));
    headers.maybe("base64-schema-version-b64encoded", metadata.schema_version.map(|version| BASE64.encode(version)));
    headers.maybe("uncompressed-size", metadata.uncompressed_size.filter(|_| compression != 0));
    // What is encrypted was compressed before.
    if compression == 0 || metadata.encryption_algo.is_some() {
        return Ok(headers.with(payload));
    }
    let unpacked = unpack(compression, &payload, metadata.uncompressed_size.unwrap_or(0) as usize);
    let unpacked = unpacked.ok_or_else(|| Failure::internal(format!("Message {position} cannot be decompressed")))?;
    Ok(headers.with(unpacked.into()))
}

#[derive(Debug, Default)]
struct Headers(HeaderMap);

impl Headers {
    /// `X-Pulsar-..`; what cannot be in a header is left out rather than losing the message.
    fn add(&mut self, name: &'static str, value: impl ToString) {
        let name = HeaderName::try_from(format!("x-pulsar-{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.to_string().as_bytes())) {
            self.0.insert(name, value);
        }
    }

    fn maybe(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn with(mut self, payload: Bytes) -> Response {
        self.add("txn-uncommitted", false);
        ([(header::CONTENT_TYPE, "application/octet-stream")], self.0, payload).into_response()
    }
}
