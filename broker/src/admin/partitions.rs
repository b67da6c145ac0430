//! Partitioned topics: how many partitions they have.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Query, State};
use serde_json::{Value, json as value};

use super::path::Topic;
use super::reply::{Failure, Reply, done, json, parse};
use super::routes::Routes;
use super::tenants::Force;
use super::topics::Shared;

pub(super) fn routes(topic: &str) -> Routes {
    let path = format!("{topic}/partitions");
    Routes::default()
        .get(&path, get)
        .put(&path, create)
        .post(&path, update)
        .delete(&path, delete)
        .post(&format!("{topic}/createMissedPartitions"), create_missed)
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Asked {
    /// A client that may create the topic takes no answer for "not partitioned".
    check_allow_auto_creation: bool,
}

async fn get(State(hub): Shared, Topic(topic): Topic, Query(asked): Query<Asked>) -> Reply {
    // What a client may use it may also create, as the namespace says.
    let partitions =
        hub.change(|broker| broker.partitioned_metadata(topic.as_str(), asked.check_allow_auto_creation)).await?;
    let properties = hub.look(|broker| broker.topic_properties(&topic)).unwrap_or_default();
    let mut metadata = value!({ "partitions": partitions, "deleted": false });
    if partitions > 0 && !properties.is_empty() {
        metadata["properties"] = value!(properties);
    }
    Ok(json(metadata))
}

async fn create(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    let (count, properties) = (count_in(&body)?, properties_in(&body)?);
    if topic.partition().is_some() {
        return Err(Failure::precondition("Partitioned Topic Name should not contain '-partition-'"));
    }
    hub.change(|broker| {
        broker.handle_set_partitions(&topic, count, false)?;
        broker.handle_edit_topic_properties(&topic, |all| all.extend(properties))
    })
    .await?;
    Ok(done())
}

async fn update(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    let count = count_in(&body)?;
    let present = hub.look(|broker| broker.partitions(&topic))?;
    if present == 0 {
        return Err(Failure::conflict(format!("Topic {topic} is not the partitioned topic.")));
    }
    let set = hub.change(|broker| broker.handle_set_partitions(&topic, count, true)).await;
    set.map_err(|refusal| Failure::from(refusal).instead_of(406, 422))?;
    Ok(done())
}

/// Partitions that are listed but not there come back.
async fn create_missed(State(hub): Shared, Topic(topic): Topic) -> Reply {
    let count = hub.look(|broker| broker.partitions(&topic))?;
    if count == 0 {
        return Err(Failure::not_found(format!("Topic {topic} does not exist")));
    }
    hub.change(|broker| broker.handle_create_missed_partitions(&topic)).await?;
    Ok(done())
}

async fn delete(State(hub): Shared, Topic(topic): Topic, Query(query): Query<Force>) -> Reply {
    let (partitions, exists) =
        hub.look(|broker| broker.partitions(&topic).map(|count| (count, broker.has_topic(&topic))))?;
    if partitions == 0 && exists {
        return Err(Failure::conflict(format!(
            "{topic} is a non-partitioned topic. Instead of calling delete-partitioned-topic please call delete."
        )));
    }
    hub.change(|broker| broker.handle_delete_partitioned(&topic, query.force)).await?;
    Ok(done())
}

fn properties_in(body: &[u8]) -> Result<BTreeMap<String, String>, Failure> {
    let mut body: Value = parse(body)?;
    match body.get_mut("properties").map(Value::take) {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(properties) => serde_json::from_value(properties)
            .map_err(|error| Failure::invalid(format!("The properties cannot be understood: {error}"))),
    }
}

/// A plain number, or the object that newer clients send.
fn count_in(body: &[u8]) -> Result<u32, Failure> {
    let body: Value = parse(body)?;
    let count = body.as_i64().or_else(|| body.get("partitions").and_then(Value::as_i64));
    let count = count.ok_or_else(|| Failure::invalid("Expected a number of partitions"))?;
    // Too many are refused like too few, with the words of the state machine.
    Ok(u32::try_from(count.max(0)).unwrap_or(u32::MAX))
}
