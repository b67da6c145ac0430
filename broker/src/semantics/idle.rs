//! Topics that nobody uses: which of them go, and when.

use serde_json::Value;

use super::broker::Broker;
use super::subscription::Subscription;
use super::topic::Topic;

/// A non-persistent topic without clients is forgotten after this, as in Apache Pulsar's default.
const UNSTORED_IDLE_MS: u64 = 60_000;

/// When a topic's policies, or its namespace's, let it be deleted unused; by default they do not.
struct Rule {
    idle_ms: u64,
    /// Also topics with subscriptions, if these have everything.
    caught_up: bool,
}

impl Rule {
    fn of(value: &Value) -> Option<Rule> {
        let deletes = value.get("deleteWhileInactive").and_then(Value::as_bool).unwrap_or(false);
        let seconds = value.get("maxInactiveDurationSeconds").and_then(Value::as_u64)?;
        let mode = value.get("inactiveTopicDeleteMode").and_then(Value::as_str).unwrap_or_default();
        let caught_up = mode == "delete_when_subscriptions_caught_up";
        deletes.then_some(Rule { idle_ms: seconds.saturating_mul(1000), caught_up })
    }
}

impl Topic {
    fn has_clients(&self) -> bool {
        let consumers = self.subscriptions.values().any(Subscription::has_consumers);
        consumers || !self.producers.is_empty() || !self.waiting.is_empty()
    }

    /// Whether it goes, if it has been unused until `now_ms`.
    fn is_over(&self, rule: Option<&Rule>, partitioned: bool, now_ms: u64) -> bool {
        let Some(since) = self.idle_since_ms else { return false };
        let idle_ms = now_ms.saturating_sub(since);
        let mut durable = self.subscriptions.values().filter(|subscription| subscription.durable);
        match rule {
            Some(rule) if rule.caught_up => {
                idle_ms >= rule.idle_ms && durable.all(|each| each.cursor().backlog(self.log.end()) == 0)
            }
            Some(rule) => idle_ms >= rule.idle_ms && durable.next().is_none(),
            None => !self.name.is_persistent() && !partitioned && idle_ms >= UNSTORED_IDLE_MS,
        }
    }
}

impl Broker {
    pub(super) fn delete_idle(&mut self, now_ms: u64) {
        let mut over = Vec::new();
        for topic in self.topics.values_mut() {
            if topic.has_clients() {
                topic.idle_since_ms = None;
                continue;
            }
            topic.idle_since_ms.get_or_insert(now_ms);
            let policy = self.catalog.policy(&topic.name, |policies| policies.inactive_topics.clone());
            let rule = policy.as_ref().and_then(Rule::of);
            let partitioned = self.catalog.partitioned.contains_key(topic.name.base());
            if topic.is_over(rule.as_ref(), partitioned, now_ms) {
                over.push(topic.name.clone());
            }
        }
        for name in over {
            // It exists and has no clients, so nothing speaks against it.
            let _ = self.handle_delete_topic(&name, false);
        }
    }
}
