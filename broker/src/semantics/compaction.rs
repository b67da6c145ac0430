//! Compaction: what is kept of each key, beside the log.
//!
//! It needs payloads, so somebody else does it: [`Effect::Compact`] asks for it, [`Broker::handle_begin_compaction`]
//! says what to read, [`Broker::handle_compacted`] takes what is kept, and [`Broker::handle_end_compaction`] puts
//! all of that in the place of what was kept before, in one change. A crash before that change leaves the former
//! result. What is kept is stored as messages of a topic of its own, without a name, at their old positions:
//! so the log can let go of the originals.
//!
//! ```text
//! kept before: a1 b1 │ log: a2 c1 b2 ...     ──►     kept: a2 c1 b2 │ log: ...
//!                    horizon                                       horizon
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::TopicId;
use super::broker::Broker;
use super::effect::{Effect, Refusal, RefusalKind};
use super::entry::{Entry, Facts, Location, Position};
use super::log::{Log, PerSegment};
use super::name::TopicName;
use super::subscription::Kind;
use super::topic::Topic;

/// What is durably known of a topic's compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionMeta {
    /// Under which id the entries that were kept are stored.
    pub kept: TopicId,
    /// The last position that was looked at.
    pub horizon: Position,
    /// Which message of its batch the last kept one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_index: Option<u32>,
}

/// How a topic's compaction stands, for the admin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CompactionStatus {
    #[default]
    NotRun,
    Running,
    Success,
    Error(String),
}

/// What the admin can see of a compacted topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The last position that was looked at.
    pub horizon: Position,
    pub entries: u64,
    pub bytes: u64,
}

/// How the last compaction of a topic went, since the topic was loaded. Times are milliseconds since 1970, zero for
/// "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastCompaction {
    /// Messages that a later one replaced, and those that only said so.
    pub removed: u64,
    pub succeeded_ms: u64,
    pub failed_ms: u64,
    pub took_ms: u64,
}

/// What came of reading a topic for its compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Of the last message that was kept, if it is of a batch.
    pub last_index: Option<u32>,
    pub removed: u64,
}

/// The result of the last compaction, and the one that is being made.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    pub status: CompactionStatus,
    pub last: LastCompaction,
    /// What was kept, up to the horizon of the topic's [`CompactionMeta`].
    pub kept: Log,
    running: Option<Running>,
    /// Bytes in the log that were not looked at yet.
    pub fresh_bytes: u64,
}

#[derive(Debug)]
struct Running {
    id: TopicId,
    kept: Log,
    horizon: Position,
    begun_ms: u64,
    /// How many of the fresh bytes it looks at.
    bytes: u64,
    failed: Option<String>,
}

/// An entry that is being stored for a compaction.
#[derive(Debug)]
pub(super) struct Keeping {
    topic: TopicId,
    id: TopicId,
    position: Position,
    facts: Facts,
}

impl Compaction {
    /// Counts the entries of each segment that it keeps.
    pub fn per_segment(&self, segments: &mut PerSegment) {
        self.kept.per_segment(segments);
        if let Some(running) = &self.running {
            running.kept.per_segment(segments);
        }
    }
}

impl Topic {
    /// Whatever the log must not let go of, since nobody has compacted it: its first offset.
    pub fn uncompacted_from(&self) -> u64 {
        self.meta.compaction.map_or(0, |compaction| self.log.ceiling(compaction.horizon.next()))
    }

    /// Whether entries wait for a compaction.
    pub fn holds_for_compaction(&self, threshold: Option<u64>) -> bool {
        let wanted = threshold.is_some_and(|threshold| threshold > 0) || self.compaction.running.is_some();
        self.meta.compaction.is_some() || wanted
    }
}

impl Broker {
    /// The admin wants a topic compacted.
    ///
    /// # Errors
    /// No such topic, not a persistent one, or it is being compacted.
    pub fn handle_compact(&mut self, name: &TopicName) -> Result<(), Refusal> {
        let id = self.topic(name)?.id;
        if !name.is_persistent() {
            let message = "A non-persistent topic has nothing to compact";
            return Err(Refusal::new(RefusalKind::NotAllowed, message));
        }
        if !self.ask_for_compaction(id) {
            return Err(Refusal::new(RefusalKind::AlreadyExists, "Compaction already in progress"));
        }
        Ok(())
    }

    /// False if it is being done already.
    fn ask_for_compaction(&mut self, id: TopicId) -> bool {
        let Some(topic) = self.topics.get_mut(&id) else { return false };
        if topic.compaction.status == CompactionStatus::Running {
            return false;
        }
        topic.compaction.status = CompactionStatus::Running;
        self.emit(Effect::Compact { topic: id });
        true
    }

    /// Asks for the compaction of topics that have more fresh bytes than their namespace allows.
    pub(super) fn compact_by_threshold(&mut self) {
        let mut due = Vec::new();
        for topic in self.topics.values() {
            let threshold = self.catalog.policy(&topic.name, |policies| policies.compaction_threshold).unwrap_or(0);
            if threshold > 0 && topic.compaction.fresh_bytes > threshold {
                due.push(topic.id);
            }
        }
        for topic in due {
            self.ask_for_compaction(topic);
        }
    }

    /// # Errors
    /// No such topic.
    pub fn compaction_status(&self, name: &TopicName) -> Result<CompactionStatus, Refusal> {
        self.topic(name).map(|topic| topic.compaction.status.clone())
    }

    /// What compaction has kept of a topic, if it was ever compacted.
    ///
    /// # Errors
    /// No such topic.
    pub fn compacted(&self, name: &TopicName) -> Result<Option<Compacted>, Refusal> {
        let topic = self.topic(name)?;
        Ok(topic.meta.compaction.map(|meta| Compacted {
            horizon: meta.horizon,
            entries: topic.compaction.kept.count() as u64,
            bytes: topic.compaction.kept.bytes(),
        }))
    }

    /// Begins: what was kept before, and all that came since. None if there is nothing new.
    pub fn handle_begin_compaction(&mut self, id: TopicId) -> Option<Vec<(Position, Entry)>> {
        let kept = TopicId(self.next_topic);
        let topic = self.topics.get_mut(&id)?;
        let from = topic.uncompacted_from();
        let horizon = topic.log.last_position().filter(|_| from < topic.log.end());
        let Some(horizon) = horizon else {
            topic.compaction.status = CompactionStatus::Success;
            let failed_ms = topic.compaction.last.failed_ms;
            topic.compaction.last =
                LastCompaction { succeeded_ms: self.now_ms, failed_ms, ..LastCompaction::default() };
            return None;
        };
        self.next_topic += 1;
        let before =
            topic.compaction.kept.iter().map(|(offset, entry)| (topic.compaction.kept.position(offset), entry));
        let fresh = topic.log.iter_from(from).map(|(offset, entry)| (topic.log.position(offset), entry));
        let all = before.chain(fresh).filter_map(|(position, entry)| Some((position?, entry))).collect();
        let bytes = topic.compaction.fresh_bytes;
        let begun_ms = self.now_ms;
        topic.compaction.running =
            Some(Running { id: kept, kept: Log::default(), horizon, begun_ms, bytes, failed: None });
        self.edit_meta(id, |meta| meta.compacting = Some(kept));
        Some(all)
    }

    /// An entry is kept, as it was or with less in it. Positions must ascend.
    pub fn handle_compacted(&mut self, topic: TopicId, position: Position, facts: Facts, payload: Bytes) {
        let running = self.topics.get(&topic).and_then(|topic| topic.compaction.running.as_ref());
        let Some(id) = running.filter(|running| running.failed.is_none()).map(|running| running.id) else { return };
        let keeping = Keeping { topic, id, position, facts };
        self.store_kept(keeping, Effect::Append { topic: id, position, facts, origin: None, payload });
    }

    pub(super) fn kept_stored(&mut self, keeping: &Keeping, location: Location) {
        let topic = self.topics.get_mut(&keeping.topic);
        let running = topic.and_then(|topic| topic.compaction.running.as_mut());
        match running.filter(|running| running.id == keeping.id) {
            Some(running) => running.kept.push(keeping.position, Entry { location, facts: keeping.facts }),
            None => self.emit(Effect::Released { segment: location.segment, entries: 1 }),
        }
    }

    pub(super) fn kept_failed(&mut self, keeping: &Keeping, reason: &str) {
        let topic = self.topics.get_mut(&keeping.topic);
        let running = topic.and_then(|topic| topic.compaction.running.as_mut());
        if let Some(running) = running.filter(|running| running.id == keeping.id) {
            running.failed = Some(reason.to_owned());
        }
    }

    /// Ends, after all that was kept has been stored: the result takes the place of the former one, or, if
    /// something failed, is given up.
    pub fn handle_end_compaction(&mut self, id: TopicId, outcome: Result<Outcome, String>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let Some(running) = topic.compaction.running.take() else { return };
        let outcome = running.failed.map_or(outcome, Err);
        let last = &mut topic.compaction.last;
        last.took_ms = self.now_ms.saturating_sub(running.begun_ms);
        last.removed = outcome.as_ref().map_or(0, |outcome| outcome.removed);
        let gone = match outcome {
            Ok(Outcome { last_index, .. }) => {
                last.succeeded_ms = self.now_ms;
                topic.compaction.status = CompactionStatus::Success;
                topic.compaction.fresh_bytes = topic.compaction.fresh_bytes.saturating_sub(running.bytes);
                let before = std::mem::replace(&mut topic.compaction.kept, running.kept);
                let compaction = CompactionMeta { kept: running.id, horizon: running.horizon, last_index };
                self.edit_meta(id, |meta| (meta.compaction, meta.compacting) = (Some(compaction), None));
                before
            }
            Err(reason) => {
                last.failed_ms = self.now_ms;
                topic.compaction.status = CompactionStatus::Error(reason);
                self.edit_meta(id, |meta| meta.compacting = None);
                running.kept
            }
        };
        let mut segments = PerSegment::new();
        gone.per_segment(&mut segments);
        self.release(segments);
    }

    /// # Errors
    /// The topic or the kind of subscription has no compacted reading.
    pub(super) fn check_read_compacted(&self, id: TopicId, kind: Kind) -> Result<(), Refusal> {
        let persistent = self.topics.get(&id).is_some_and(|topic| topic.name.is_persistent());
        if !persistent {
            return Err(Refusal::new(RefusalKind::NotAllowed, "readCompacted is for persistent topics only"));
        }
        if !matches!(kind, Kind::Exclusive | Kind::Failover) {
            let message = "readCompacted is for failover and exclusive subscriptions only";
            return Err(Refusal::new(RefusalKind::NotAllowed, message));
        }
        Ok(())
    }

    /// The last message that a reader of what compaction kept will see, if that is all there is.
    pub(super) fn last_kept(&self, topic: &Topic) -> Option<(Position, Option<u32>)> {
        let compaction = topic.meta.compaction?;
        let all = topic.log.last_position().is_none_or(|last| last <= compaction.horizon);
        let last = topic.compaction.kept.last_position().filter(|_| all)?;
        Some((last, compaction.last_index))
    }
}
