//! Backlog quotas: how much may wait for the slowest durable subscription, and what happens beyond.

use serde_json::Value;

use super::TopicId;
use super::broker::Broker;
use super::effect::{Effect, Refusal, RefusalKind};
use super::log::Log;
use super::policies::Policies;
use super::topic::Topic;

/// What a namespace wants done about a backlog that is too large, by the names that Apache Pulsar has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// Producers are disconnected, and refused in a way that makes them wait.
    Hold,
    /// Producers are disconnected, and refused in a way that fails what they send.
    Fail,
    /// The oldest messages are skipped.
    Evict,
}

/// One quota of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quota {
    /// At most so many bytes wait; none is without limit.
    bytes: Option<u64>,
    /// None waits longer.
    age_ms: Option<u64>,
    reaction: Reaction,
}

impl Quota {
    /// As the admin was given it; `None` if it limits nothing.
    fn of(value: &Value) -> Option<Quota> {
        let number = |name: &str| value.get(name).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok());
        let reaction = match value.get("policy").and_then(Value::as_str) {
            Some("producer_exception") => Reaction::Fail,
            Some("consumer_backlog_eviction") => Reaction::Evict,
            _ => Reaction::Hold,
        };
        let age_ms = number("limitTime").map(|seconds| seconds.saturating_mul(1000));
        Some(Quota { bytes: number("limitSize").or_else(|| number("limit")), age_ms, reaction })
    }

    /// Below which offset nothing would wait if the quota were kept.
    fn allowed_from(&self, log: &Log, waiting_from: u64, now_ms: u64) -> u64 {
        let by_age = self.age_ms.map_or(0, |age| log.published_since(now_ms.saturating_sub(age)));
        let by_size = self.bytes.map_or(0, |bytes| {
            let exceeded = log.bytes_between(waiting_from, log.end()) > bytes;
            // A tenth is made free, so that the quota is not reached again by the next message.
            let wanted = if exceeded { bytes - bytes / 10 } else { bytes };
            log.within_bytes(waiting_from, wanted)
        });
        by_age.max(by_size)
    }
}

impl Topic {
    /// The first offset that a durable subscription still waits for.
    fn waiting_from(&self) -> Option<u64> {
        let durable = self.subscriptions.values().filter(|subscription| subscription.durable);
        durable.map(|subscription| subscription.cursor().next().max(self.log.base())).min()
    }

    /// The quota that is exceeded, if one is, and what may wait.
    fn exceeded(&self, policies: &Policies, now_ms: u64) -> Option<(Reaction, u64)> {
        let from = self.waiting_from()?;
        let quotas = policies.backlog_quotas.values().filter_map(Quota::of);
        let exceeded = quotas.filter_map(|quota| {
            let allowed = quota.allowed_from(&self.log, from, now_ms);
            (allowed > from).then_some((quota.reaction, allowed))
        });
        exceeded.max_by_key(|(_, allowed)| *allowed)
    }
}

impl Broker {
    /// Whether a producer may come to a topic in view of its backlog.
    ///
    /// # Errors
    /// It may not until the backlog is smaller.
    pub(super) fn check_backlog(&self, topic: &Topic) -> Result<(), Refusal> {
        if topic.index_is_full {
            let message = format!(
                "{} keeps so many messages that finding them takes the memory that the broker may use for that ({} MB): \
                 its consumers must catch up, or the broker be started with more",
                topic.name,
                self.index_limit.unwrap_or_default() / (1024 * 1024)
            );
            return Err(Refusal::new(RefusalKind::BacklogHold, message));
        }
        let Some(policies) = self.catalog.namespaces.get(topic.name.namespace()) else { return Ok(()) };
        if policies.backlog_quotas.is_empty() {
            return Ok(());
        }
        let kind = match topic.exceeded(policies, self.now_ms) {
            Some((Reaction::Hold, _)) => RefusalKind::BacklogHold,
            Some((Reaction::Fail, _)) => RefusalKind::BacklogFull,
            Some((Reaction::Evict, _)) | None => return Ok(()),
        };
        let message = format!("The backlog of {} exceeds its quota: its consumers must catch up", topic.name);
        Err(Refusal::new(kind, message))
    }

    /// How many bytes the indexes of all topics may take: beyond that, topics that have more than their share get no more
    /// messages.
    pub fn set_index_limit(&mut self, bytes: usize) {
        self.index_limit = Some(bytes);
    }

    /// What the indexes of all topics take.
    pub fn index_bytes(&self) -> usize {
        self.topics.values().map(|topic| topic.log.memory()).sum()
    }

    fn weigh_indexes(&mut self) {
        let limit = self.index_limit.unwrap_or(usize::MAX);
        let over = self.index_bytes() > limit;
        // When all together have too much, somebody has more than the average.
        let share = limit / self.topics.len().max(1);
        for topic in self.topics.values_mut() {
            topic.index_is_full = over && topic.log.memory() >= share;
        }
    }

    /// Does what the namespaces want about backlogs that are too large, and what the broker itself can bear.
    pub(super) fn enforce_quotas(&mut self, now_ms: u64) {
        self.weigh_indexes();
        let (mut ended, mut moved) = (Vec::new(), Vec::new());
        for topic in self.topics.values_mut() {
            if topic.index_is_full {
                ended.extend(topic.producers.iter().copied());
                continue;
            }
            let policies = self.catalog.namespaces.get(topic.name.namespace());
            let Some(policies) = policies.filter(|policies| !policies.backlog_quotas.is_empty()) else { continue };
            match topic.exceeded(policies, now_ms) {
                Some((Reaction::Evict, allowed)) => {
                    for (id, subscription) in &mut topic.subscriptions {
                        if subscription.durable && subscription.handle_ack_below(allowed, &topic.log) {
                            moved.push((topic.id, *id));
                        }
                    }
                }
                Some(_) => ended.extend(topic.producers.iter().copied()),
                None => {}
            }
        }
        for key in ended {
            self.remove_producer(key);
            self.emit(Effect::ProducerClosed { connection: key.connection, producer_id: key.producer_id });
        }
        let moved: Vec<(TopicId, u32)> = moved;
        for (topic, subscription) in moved {
            self.schedule(topic, subscription);
        }
    }
}
