//! What is done to a topic as a whole: compaction, its end, and what the user notes about it.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json as value};

use super::messages::id;
use super::path::{Topic, each};
use super::reply::{Failure, Reply, done, json, parse};
use super::routes::Routes;
use super::topics::Shared;
use crate::semantics::compaction::CompactionStatus;

pub(super) fn routes(topic: &str) -> Routes {
    let of = |rest: &str| format!("{topic}/{rest}");
    Routes::default()
        .put(&of("compaction"), compact)
        .get(&of("compaction"), status)
        .post(&of("terminate"), terminate)
        .post(&of("terminate/partitions"), terminate_partitions)
        .get(&of("properties"), properties)
        .put(&of("properties"), set_properties)
        .delete(&of("properties"), clear_property)
}

async fn compact(State(hub): Shared, Topic(topic): Topic) -> Reply {
    hub.change(|broker| each(broker, &topic)?.iter().try_for_each(|topic| broker.handle_compact(topic))).await?;
    Ok(done())
}

async fn status(State(hub): Shared, Topic(topic): Topic) -> Reply {
    let status = hub.look(|broker| broker.compaction_status(&topic))?;
    let (name, error) = match status {
        CompactionStatus::NotRun => ("NOT_RUN", String::new()),
        CompactionStatus::Running => ("RUNNING", String::new()),
        CompactionStatus::Success => ("SUCCESS", String::new()),
        CompactionStatus::Error(reason) => ("ERROR", reason),
    };
    Ok(json(value!({ "status": name, "lastError": error })))
}

async fn terminate(State(hub): Shared, Topic(topic): Topic) -> Reply {
    if hub.look(|broker| broker.partitions(&topic))? > 0 {
        return Err(Failure::not_allowed("Termination of a partitioned topic is not allowed"));
    }
    let last = hub.change(|broker| broker.handle_terminate(&topic)).await?;
    Ok(json(id(last, -1)))
}

/// The last message of each partition, by its number.
async fn terminate_partitions(State(hub): Shared, Topic(topic): Topic) -> Reply {
    if hub.look(|broker| broker.partitions(&topic))? == 0 {
        return Err(Failure::not_found(format!("Partitioned topic {topic} not found")));
    }
    let last = hub
        .change(|broker| {
            let partitions = each(broker, &topic)?;
            partitions.iter().map(|partition| broker.handle_terminate(partition)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let last: Map<String, Value> =
        last.into_iter().enumerate().map(|(index, last)| (index.to_string(), id(last, -1))).collect();
    Ok(json(last))
}

async fn properties(State(hub): Shared, Topic(topic): Topic) -> Reply {
    Ok(json(hub.look(|broker| broker.topic_properties(&topic))?))
}

async fn set_properties(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    let properties: BTreeMap<String, String> = parse(&body)?;
    hub.change(|broker| broker.handle_edit_topic_properties(&topic, |all| all.extend(properties))).await?;
    Ok(done())
}

#[derive(Debug, Deserialize)]
struct Key {
    key: Option<String>,
}

async fn clear_property(State(hub): Shared, Topic(topic): Topic, Query(Key { key }): Query<Key>) -> Reply {
    hub.change(|broker| {
        broker.handle_edit_topic_properties(&topic, |all| {
            if let Some(key) = key {
                all.remove(&key);
            }
        })
    })
    .await?;
    Ok(done())
}
