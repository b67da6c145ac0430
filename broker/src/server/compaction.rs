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
use crate::semantics::compaction::Outcome;
use crate::semantics::{Entry, Facts, Location, Position, TopicId};
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

async fn run(hub: &Arc<Hub>, topic: TopicId, entries: Vec<(Position, Entry)>) -> Result<Outcome, String> {
    let entries = Arc::new(entries);
    let (reader, all) = (hub.reader.clone(), entries.clone());
    let latest = blocking(move || Latest::of(&all, &|location| reader.read(location))).await?;
    let latest = Arc::new(latest);
    let (mut from, mut last_index) = (0, None);
    while from < entries.len() {
        let (reader, all, latest) = (hub.reader.clone(), entries.clone(), latest.clone());
        let (kept, next) = blocking(move || keep(&all, from, &latest, &|location| reader.read(location))).await?;
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
    Ok(Outcome { last_index, removed: latest.removed })
}

async fn blocking<R: Send + 'static>(act: impl FnOnce() -> io::Result<R> + Send + 'static) -> Result<R, String> {
    let done = tokio::task::spawn_blocking(act).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

/// The payload at a place.
type Read<'a> = &'a dyn Fn(Location) -> io::Result<Bytes>;

/// Where the last message of each key is: which entry, and which of its batch.
#[derive(Debug, Default)]
struct Latest {
    place: HashMap<String, (usize, usize)>,
    /// How many messages were replaced, deleted their key or had none: what Apache Pulsar counts as removed
    /// (`AbstractTwoPhaseCompactor`, 4.0).
    removed: u64,
}

impl Latest {
    fn of(entries: &[(Position, Entry)], read: Read<'_>) -> io::Result<Latest> {
        let mut latest = Latest::default();
        for (at, (_, entry)) in entries.iter().enumerate() {
            match Contents::of(&read(entry.location)?) {
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
        let removes = match message {
            Keyed { key: None, .. } => true,
            Keyed { key: Some(key), empty: true } => {
                self.place.remove(&key);
                true
            }
            Keyed { key: Some(key), empty: false } => self.place.insert(key, (at, index)).is_some(),
        };
        self.removed += u64::from(removes);
    }

    /// Messages without a key are not kept, as by Apache Pulsar's default.
    fn is(&self, message: &Keyed, at: usize, index: usize) -> bool {
        message.key.as_ref().is_some_and(|key| self.place.get(key) == Some(&(at, index)))
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
    read: Read<'_>,
) -> io::Result<(Vec<KeptEntry>, usize)> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for (at, (position, entry)) in entries.iter().enumerate().skip(from) {
        let payload = read(entry.location)?;
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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::frame::metadata_of;
    use crate::wire::messages::MessageMetadata;

    fn entry(metadata: MessageMetadata, payload: &[u8]) -> Bytes {
        let mut entry = (metadata.encoded_len() as u32).to_be_bytes().to_vec();
        entry.extend(metadata.encode_to_vec());
        entry.extend(payload);
        Bytes::from(entry)
    }

    fn message(key: Option<&str>, payload: &[u8]) -> Bytes {
        entry(MessageMetadata { partition_key: key.map(str::to_owned), ..Default::default() }, payload)
    }

    /// A batch of messages with these keys and payloads.
    fn batch(messages: &[(&str, &str)]) -> Bytes {
        let mut payload = Vec::new();
        for (key, value) in messages {
            // Field 2, the key; field 3, the payload's size.
            let mut metadata = vec![2 << 3 | 2, key.len() as u8];
            metadata.extend(key.as_bytes());
            metadata.extend([3 << 3, value.len() as u8]);
            payload.extend((metadata.len() as u32).to_be_bytes());
            payload.extend(metadata);
            payload.extend(value.as_bytes());
        }
        let num_messages_in_batch = Some(messages.len() as i32);
        entry(MessageMetadata { num_messages_in_batch, ..Default::default() }, &payload)
    }

    /// What is kept of a topic with these entries: entry id, payload, and which of its batch was the last.
    fn compacted(payloads: &[Bytes]) -> Vec<(u64, Bytes, Option<u32>)> {
        let place = |index: usize| Location { segment: 1, offset: index as u32, len: 1 };
        let entries: Vec<(Position, Entry)> = (0..payloads.len())
            .map(|index| {
                let position = Position { ledger: 1, entry: index as u64 };
                (position, Entry { location: place(index), facts: Facts { deliver_at_ms: 7, ..Facts::default() } })
            })
            .collect();
        let read = |location: Location| Ok(payloads[location.offset as usize].clone());
        let latest = Latest::of(&entries, &read).expect("readable");
        let (mut from, mut all) = (0, Vec::new());
        while from < entries.len() {
            let (kept, next) = keep(&entries, from, &latest, &read).expect("readable");
            assert!(next > from);
            all.extend(kept);
            from = next;
        }
        assert!(all.iter().all(|kept| kept.facts.deliver_at_ms == 0), "nobody waits for what is compacted");
        all.into_iter().map(|kept| (kept.position.entry, kept.payload, kept.last_index)).collect()
    }

    #[test]
    fn the_last_message_of_each_key_is_kept_as_it_was() {
        let kept = message(Some("a"), b"2");
        let all =
            compacted(&[message(Some("a"), b"1"), message(Some("b"), b"1"), kept.clone(), message(None, b"no key")]);
        assert_eq!(all, [(1, message(Some("b"), b"1"), None), (2, kept, None)]);
    }

    #[test]
    fn an_empty_message_deletes_its_key_and_is_not_kept() {
        let all = compacted(&[
            message(Some("a"), b"1"),
            message(Some("b"), b"1"),
            message(Some("a"), b""),
            message(Some("b"), b""),
            message(Some("b"), b"2"),
        ]);
        assert_eq!(all, [(4, message(Some("b"), b"2"), None)]);
    }

    #[test]
    fn batches_keep_what_is_the_last_of_its_key() {
        let all = compacted(&[
            batch(&[("a", "1"), ("b", "1")]),
            batch(&[("a", "2"), ("c", "1"), ("a", "3"), ("d", "")]),
            message(Some("c"), b"2"),
        ]);
        let ids: Vec<_> = all.iter().map(|(entry, _, last)| (*entry, *last)).collect();
        assert_eq!(ids, [(0, Some(1)), (1, Some(2)), (2, None)]);
        let keyed = |key: &str| Some(Keyed { key: Some(key.into()), empty: false });
        assert_eq!(Contents::of(&all[0].1), Contents::Batch(vec![None, keyed("b")]));
        assert_eq!(Contents::of(&all[1].1), Contents::Batch(vec![None, None, keyed("a"), None]));
        assert!(metadata_of(&all[1].1).is_some());
    }

    #[test]
    fn what_cannot_be_read_is_kept() {
        let opaque = entry(MessageMetadata { num_messages_in_batch: Some(3), ..Default::default() }, b"not three");
        assert_eq!(compacted(std::slice::from_ref(&opaque)), [(0, opaque, None)]);
    }

    #[test]
    fn much_is_kept_in_parts() {
        let large = vec![1; WRITE_BYTES];
        let keys: Vec<String> = (0..3).map(|key| key.to_string()).collect();
        let all: Vec<Bytes> = keys.iter().map(|key| message(Some(key), &large)).collect();
        assert_eq!(compacted(&all).len(), 3);
    }
}
