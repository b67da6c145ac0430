//! What happens by time alone: cursors are persisted, old messages expire, acknowledged ones are let go.

use super::TopicId;
use super::broker::Broker;
use super::log::{Log, PerSegment};
use super::meter::WINDOW_MS;
use super::policies::Retention;
use super::produce::subscription_change;
use super::subscription::Subscription;
use super::topic::{SINCE_START, Topic};

/// Producer names that were silent for this long are forgotten by deduplication, as in Apache Pulsar's default.
const PRODUCER_MEMORY_MS: u64 = 6 * 60 * 60 * 1000;

/// How long the subscription of a reader that was disconnected by its own seek waits for it.
const READER_MEMORY_TICKS: u32 = 60;

/// A cursor with so many holes is persisted every second tick at most, with twice as many every third, and so on: what
/// cursors add to the log stays about a hundred kilobytes per second and subscription. What is acknowledged in between
/// comes again after a crash; a clean end persists everything.
const HOLES_PER_TICK: usize = 1000;

impl Broker {
    /// To be called about once a second: what was not stored is tried again, cursors that moved are persisted,
    /// and messages beyond their time to live are skipped.
    pub fn handle_tick(&mut self, now_ms: u64) {
        self.handle_now(now_ms);
        self.expire(now_ms);
        self.compact_by_threshold();
        self.enforce_quotas(now_ms);
        self.delete_idle(now_ms);
        // While the disk refuses changes, cursors stay marked as moved instead of piling up behind them.
        if self.check_storage().is_ok() {
            self.save_cursors_that_are_due();
        }
        self.retry_unsaved();
        self.roll_meters(now_ms);
    }

    /// Takes rates anew when a window is over.
    fn roll_meters(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.rolled_ms);
        if elapsed_ms < WINDOW_MS {
            return;
        }
        // The first tick only begins a window: what came before it was restored, not received.
        let first = std::mem::replace(&mut self.rolled_ms, now_ms) == 0;
        if first {
            return;
        }
        for topic in self.topics.values_mut() {
            topic.received.roll(elapsed_ms);
            for subscription in topic.subscriptions.values_mut() {
                subscription.roll(elapsed_ms);
            }
        }
        for producer in self.producers.values_mut() {
            producer.sent.roll(elapsed_ms);
        }
    }

    /// Persists every cursor that moved.
    pub fn save_cursors(&mut self) {
        self.save_cursors_if(|_| true);
    }

    /// Persists the cursors that moved, those with many holes less often: a cursor is stored as a whole.
    fn save_cursors_that_are_due(&mut self) {
        self.save_cursors_if(|subscription| {
            subscription.ticks_unsaved += 1;
            subscription.ticks_unsaved > subscription.cursor().hole_count() / HOLES_PER_TICK
        });
    }

    fn save_cursors_if(&mut self, mut due: impl FnMut(&mut Subscription) -> bool) {
        let mut changes = Vec::new();
        for topic in self.topics.values_mut() {
            let moved = topic.subscriptions.iter_mut().filter(|(_, state)| state.durable && state.unsaved);
            let due: Vec<u32> = moved.filter_map(|(id, state)| due(state).then_some(*id)).collect();
            for id in due {
                if let Some(state) = topic.subscriptions.get_mut(&id) {
                    (state.unsaved, state.ticks_unsaved) = (false, 0);
                }
                changes.extend(subscription_change(topic, id));
            }
        }
        for change in changes {
            self.log(change);
        }
    }

    fn expire(&mut self, now_ms: u64) {
        let mut moved = Vec::new();
        for topic in self.topics.values_mut() {
            topic.deduplication.retain(|_, sequence| {
                if sequence.active_ms == SINCE_START {
                    sequence.active_ms = now_ms;
                }
                sequence.pushed > sequence.stored || now_ms.saturating_sub(sequence.active_ms) < PRODUCER_MEMORY_MS
            });
            topic.subscriptions.retain(|_, subscription| {
                subscription.idle_ticks = if subscription.has_consumers() { 0 } else { subscription.idle_ticks + 1 };
                subscription.durable || subscription.idle_ticks < READER_MEMORY_TICKS
            });
            let ttl = self.catalog.policy(&topic.name, |policies| policies.message_ttl_seconds);
            let Some(ttl) = ttl.filter(|ttl| *ttl > 0) else {
                continue;
            };
            let alive = topic.log.published_since(now_ms.saturating_sub((ttl as u64).saturating_mul(1000)));
            for (id, subscription) in &mut topic.subscriptions {
                if subscription.handle_ack_below(alive, &topic.log) {
                    subscription.last_expired_ms = now_ms;
                    moved.push((topic.id, *id));
                }
            }
        }
        for (topic, subscription) in moved {
            self.schedule(topic, subscription);
        }
    }

    /// Lets go of what all durable subscriptions have acknowledged and retention does not keep. Nothing in
    /// the open segment goes, so that a quiet topic keeps its last message, as an open ledger does.
    pub fn handle_retention(&mut self, now_ms: u64, open_segment: u32) {
        self.retain(now_ms, open_segment, |_| true);
    }

    /// The same after a restart, before anybody connects, for what subscriptions keep. What they let go before lies in its
    /// segment still, where other topics need that, and would be read again; and between it and what is kept there may be
    /// segments that are gone. Nobody sees such a topic.
    pub fn handle_restarted(&mut self, now_ms: u64, open_segment: u32) {
        self.retain(now_ms, open_segment, |topic| {
            topic.subscriptions.values().any(|subscription| subscription.durable)
        });
    }

    fn retain(&mut self, now_ms: u64, open_segment: u32, which: impl Fn(&Topic) -> bool) {
        let (mut gone, mut moved) = (PerSegment::new(), Vec::new());
        for topic in self.topics.values_mut().filter(|topic| which(topic)) {
            let end = topic.log.end();
            let durable = topic.subscriptions.values().filter(|subscription| subscription.durable);
            let acked = durable.map(|subscription| subscription.cursor().next()).min().unwrap_or(end).min(end);
            let threshold = self.catalog.policy(&topic.name, |policies| policies.compaction_threshold);
            let acked = if topic.holds_for_compaction(threshold) { acked.min(topic.uncompacted_from()) } else { acked };
            let retention = self.catalog.policy(&topic.name, |policies| policies.retention);
            let to = trim_point(&topic.log, acked, retention, now_ms, open_segment);
            if to > topic.log.base() {
                // Subscriptions that are not durable may be behind. Their consumers can acknowledge nothing of it later,
                // and it must not count against them for ever; what it kept back may go now.
                for (id, subscription) in &mut topic.subscriptions {
                    if subscription.handle_ack_below(to, &topic.log) {
                        moved.push((topic.id, *id));
                    }
                }
                for (segment, entries) in topic.log.trim_to(to) {
                    *gone.entry(segment).or_insert(0) += entries;
                }
            }
        }
        self.release(gone);
        for (topic, subscription) in moved {
            self.schedule(topic, subscription);
        }
    }

    /// How many entries are still needed in each segment.
    pub fn entries_per_segment(&self) -> PerSegment {
        let mut segments = PerSegment::new();
        for topic in self.topics.values() {
            topic.log.per_segment(&mut segments);
            topic.compaction.per_segment(&mut segments);
        }
        segments
    }

    pub(super) fn topic_ids(&self) -> Vec<TopicId> {
        self.topics.keys().copied().collect()
    }
}

/// The first offset that must stay. Retention keeps an acknowledged message while it is within the time and
/// within the size; -1 means without limit.
fn trim_point(log: &Log, acked: u64, retention: Option<Retention>, now_ms: u64, open_segment: u32) -> u64 {
    let retention = retention.unwrap_or(Retention { minutes: 0, size_mb: 0 });
    let size_max = u64::try_from(retention.size_mb).ok().map(|mb| mb.saturating_mul(1024 * 1024));
    let kept_since =
        u64::try_from(retention.minutes).ok().map(|minutes| now_ms.saturating_sub(minutes.saturating_mul(60_000)));
    let mut bytes = log.bytes();
    let mut to = log.base();
    for (offset, entry) in log.iter() {
        if offset >= acked || entry.location.segment >= open_segment {
            break;
        }
        let too_old = kept_since.is_some_and(|since| entry.facts.publish_time_ms < since);
        let too_much = size_max.is_some_and(|max| bytes > max);
        if !too_old && !too_much {
            break;
        }
        bytes -= u64::from(entry.location.len);
        to = offset + 1;
    }
    to
}
