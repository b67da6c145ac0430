//! Doing what compactions need payloads for: reading a topic twice, once for the last message of each key,
//! once to keep those.
//!
//! One topic at a time, in a task of its own. What it writes goes the way of messages; it waits for each
//! [`WRITE_BYTES`] to be stored, so that it takes little memory and leaves room for producers.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::hub::Hub;
use crate::semantics::{Entry, Facts, Position, TopicId};
use crate::storage::Reader;
use crate::wire::contents::{Contents, Keyed, rebatch};

/// About how much is written before it is waited for.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

/// Compacts what is asked for, until it is dropped.
pub async fn compact(hub: Arc<Hub>) {
    loop {
        let topic = hub.next_compaction().await;
        let Some(entries) = hub.act(|broker| broker.handle_begin_compaction(topic)) else { continue };
        let outcome = run(&hub, topic, entries).await;
        if let Err(reason) = &outcome {
            tracing::warn!(topic = topic.0, reason, "could not compact a topic; what was compacted before stays");
        }
        hub.act(|broker| broker.handle_end_compaction(topic, outcome));
    }
}

/// Which message of its batch the last kept one is.
async fn run(hub: &Arc<Hub>, topic: TopicId, entries: Vec<(Position, Entry)>) -> Result<Option<u32>, String> {
    let entries = Arc::new(entries);
    let (reader, all) = (hub.reader.clone(), entries.clone());
    let latest = blocking(move || Latest::of(&all, &reader)).await?;
    let latest = Arc::new(latest);
    let (mut from, mut last_index) = (0, None);
    while from < entries.len() {
        let (reader, all, latest) = (hub.reader.clone(), entries.clone(), latest.clone());
        let (kept, next) = blocking(move || keep(&all, from, &latest, &reader)).await?;
        from = next;
        let stored = hub.change(|broker| {
            for entry in kept {
                last_index = entry.last_index;
                broker.handle_compacted(topic, entry.position, entry.facts, entry.payload);
            }
            Ok(())
        });
        stored.await.map_err(|refusal| refusal.message)?;
    }
    Ok(last_index)
}

async fn blocking<R: Send + 'static>(act: impl FnOnce() -> io::Result<R> + Send + 'static) -> Result<R, String> {
    let done = tokio::task::spawn_blocking(act).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

/// Where the last message of each key is: which entry, and which of its batch.
#[derive(Debug, Default)]
struct Latest(HashMap<String, (usize, usize)>);

impl Latest {
    fn of(entries: &[(Position, Entry)], reader: &Reader) -> io::Result<Latest> {
        let mut latest = Latest::default();
        for (at, (_, entry)) in entries.iter().enumerate() {
            match Contents::of(&reader.read(entry.location)?) {
                Contents::Message(message) => latest.note(message, at, 0),
                Contents::Batch(messages) => {
                    for (index, message) in messages.into_iter().enumerate() {
                        if let Some(message) = message {
                            latest.note(message, at, index);
                        }
                    }
                }
                Contents::Opaque => {}
            }
        }
        Ok(latest)
    }

    fn note(&mut self, message: Keyed, at: usize, index: usize) {
        match message {
            Keyed { key: None, .. } => {}
            Keyed { key: Some(key), empty: true } => {
                self.0.remove(&key);
            }
            Keyed { key: Some(key), empty: false } => {
                self.0.insert(key, (at, index));
            }
        }
    }

    /// Messages without a key are not kept, as by Apache Pulsar's default.
    fn is(&self, message: &Keyed, at: usize, index: usize) -> bool {
        message.key.as_ref().is_some_and(|key| self.0.get(key) == Some(&(at, index)))
    }
}

struct KeptEntry {
    position: Position,
    facts: Facts,
    payload: Bytes,
    last_index: Option<u32>,
}

/// The next entries to keep, about [`WRITE_BYTES`] of them, and where to go on.
fn keep(
    entries: &[(Position, Entry)],
    from: usize,
    latest: &Latest,
    reader: &Reader,
) -> io::Result<(Vec<KeptEntry>, usize)> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for (at, (position, entry)) in entries.iter().enumerate().skip(from) {
        let payload = reader.read(entry.location)?;
        let facts = Facts { deliver_at_ms: 0, ..entry.facts };
        let whole = |payload, last_index| Some(KeptEntry { position: *position, facts, payload, last_index });
        let keeping = match Contents::of(&payload) {
            Contents::Opaque => whole(payload, None),
            Contents::Message(message) => latest.is(&message, at, 0).then(|| whole(payload, None)).flatten(),
            Contents::Batch(messages) => {
                let keeps = |index: usize| {
                    let message = messages.get(index).and_then(Option::as_ref);
                    message.is_some_and(|message| latest.is(message, at, index))
                };
                let last = (0..messages.len()).rev().find(|index| keeps(*index));
                last.and_then(|last| {
                    let less = rebatch(&payload, keeps).unwrap_or(payload);
                    whole(less, Some(last as u32))
                })
            }
        };
        if let Some(entry) = keeping {
            bytes += entry.payload.len();
            kept.push(entry);
        }
        if bytes >= WRITE_BYTES {
            return Ok((kept, at + 1));
        }
    }
    Ok((kept, entries.len()))
}
