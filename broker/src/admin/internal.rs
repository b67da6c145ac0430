//! The stored form of a topic: ledgers and cursors.

use axum::extract::State;
use serde_json::{Map, Value, json as value};

use super::path::{Topic, each};
use super::reply::{Failure, Reply, json};
use super::routes::Routes;
use super::topics::Shared;
use crate::semantics::stats::{SubscriptionStats, TopicStorage};
use crate::semantics::{Broker, Position, Refusal, TopicName};
use crate::server::Hub;

pub(super) fn routes(topic: &str) -> Routes {
    Routes::default()
        .get(&format!("{topic}/internalStats"), stats)
        .get(&format!("{topic}/partitioned-internalStats"), partitioned_stats)
        .get(&format!("{topic}/internal-info"), info)
}

/// What is left of a position when there is none.
fn shown_position(position: Option<Position>) -> String {
    position.map_or_else(|| "-1:-1".to_owned(), |position| position.to_string())
}

async fn stats(State(hub): Shared, Topic(topic): Topic) -> Reply {
    Ok(json(shown(&topic, &hub.look(|broker| broker.topic_storage(&topic))?)))
}

/// The partitions' names and what is asked of each.
pub(super) fn partitions<T>(
    hub: &Hub,
    topic: &TopicName,
    of: impl Fn(&Broker, &TopicName) -> Result<T, Refusal>,
) -> Result<Vec<(TopicName, T)>, Failure> {
    let all = hub.look(|broker| {
        if broker.partitions(topic)? == 0 {
            return Ok(None);
        }
        let partitions = each(broker, topic)?.into_iter();
        Ok::<_, Refusal>(Some(
            partitions
                .filter_map(|name| {
                    let found = of(broker, &name).ok()?;
                    Some((name, found))
                })
                .collect(),
        ))
    })?;
    all.ok_or_else(|| Failure::not_found(format!("Partitioned Topic {topic} not found")))
}

async fn partitioned_stats(State(hub): Shared, Topic(topic): Topic) -> Reply {
    let all = partitions(&hub, &topic, Broker::topic_storage)?;
    let shown: Map<String, Value> = all.iter().map(|(name, state)| (name.to_string(), shown(name, state))).collect();
    Ok(json(value!({ "metadata": { "partitions": all.len(), "deleted": false }, "partitions": shown })))
}

fn shown(topic: &TopicName, state: &TopicStorage) -> Value {
    let stats = &state.stats;
    let ledgers = state.ledgers.iter().map(|(ledger, entries)| {
        value!({ "ledgerId": ledger, "entries": entries, "size": 0, "offloaded": false, "underReplicated": false })
    });
    let cursors: Map<String, Value> = stats
        .subscriptions
        .iter()
        .zip(&state.acked)
        .map(|(each, acked)| (each.name.clone(), cursor(each, acked)))
        .collect();
    let mut all = value!({
        "entriesAddedCounter": stats.entries,
        "numberOfEntries": stats.entries,
        "totalSize": stats.bytes,
        "currentLedgerEntries": state.ledgers.last().map_or(0, |(_, entries)| *entries),
        "currentLedgerSize": stats.bytes,
        "waitingCursorsCount": 0,
        "pendingAddEntriesCount": 0,
        "cursors": cursors,
    });
    if topic.is_persistent()
        && let Some(fields) = all.as_object_mut()
    {
        fields.insert("lastConfirmedEntry".into(), shown_position(stats.last).into());
        fields.insert("state".into(), "LedgerOpened".into());
        fields.insert("ledgers".into(), ledgers.collect());
        fields.insert("schemaLedgers".into(), Value::Array(Vec::new()));
        fields.insert(
            "compactedLedger".into(),
            value!({ "ledgerId": -1, "entries": -1, "size": -1, "offloaded": false, "underReplicated": false }),
        );
    }
    all
}

fn cursor(state: &SubscriptionStats, acked: &[(Position, Position)]) -> Value {
    value!({
        "markDeletePosition": shown_position(state.mark_delete),
        "readPosition": shown_position(state.read),
        "backlog": state.backlog,
        "individuallyDeletedMessages": ranges(acked),
        "totalNonContiguousDeletedMessagesRange": acked.len(),
        "waitingReadOp": false,
        "pendingReadOps": 0,
        "state": if state.durable { "Open" } else { "NoLedger" },
        "active": !state.consumers.is_empty(),
        "properties": state.properties,
    })
}

/// Half-open at their beginning, as the Java broker writes them: `[(5:0..5:2]]`.
fn ranges(acked: &[(Position, Position)]) -> String {
    let ranges = acked.iter().map(|(first, last)| {
        let before = i128::from(first.entry) - 1;
        format!("({}:{before}..{last}]", first.ledger)
    });
    format!("[{}]", ranges.collect::<Vec<_>>().join(","))
}

/// Ledgers and cursors as they are stored; of a partitioned topic those of its partitions.
async fn info(State(hub): Shared, Topic(topic): Topic) -> Reply {
    let shown = |state: &TopicStorage| {
        let ledgers = state
            .ledgers
            .iter()
            .map(|(ledger, entries)| value!({ "ledgerId": ledger, "entries": entries, "isOffloaded": false }));
        let durable = state.stats.subscriptions.iter().filter(|state| state.durable);
        let cursors: Map<String, Value> = durable
            .map(|state| {
                let (ledger, entry) = state.mark_delete.map_or((-1, -1), |at| (at.ledger as i64, at.entry as i64));
                let mark = value!({ "ledgerId": ledger, "entryId": entry });
                (state.name.clone(), value!({ "version": 0, "cursorsLedgerId": -1, "markDelete": mark }))
            })
            .collect();
        value!({ "version": 0, "ledgers": ledgers.collect::<Vec<_>>(), "cursors": cursors })
    };
    if hub.look(|broker| broker.partitions(&topic))? == 0 {
        return Ok(json(shown(&hub.look(|broker| broker.topic_storage(&topic))?)));
    }
    let all = partitions(&hub, &topic, Broker::topic_storage)?;
    let partitions: Map<String, Value> = all.iter().map(|(name, state)| (name.to_string(), shown(state))).collect();
    Ok(json(value!({ "version": 0, "partitions": partitions })))
}
