//! How many consumers, subscriptions and topics there may be, and of which kinds: by policy, and by what the broker can hold.
//!
//! Owns the checks at the door; what is there already when a policy is set stays.

use super::broker::Broker;
use super::consume::Subscribe;
use super::effect::{Refusal, RefusalKind};
use super::name::TopicName;
use super::produce::ProducerKey;
use super::subscription::ConsumerKey;
use super::topic::Topic;
use super::{ConnectionId, TopicId};

/// What a broker holds at most, whatever policies allow: all of it costs memory as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ceilings {
    /// In all namespaces, partitions singly.
    pub topics: usize,
    /// Durable ones and those of readers.
    pub subscriptions_per_topic: usize,
    pub producers_per_connection: usize,
    pub consumers_per_connection: usize,
}

impl Default for Ceilings {
    fn default() -> Ceilings {
        Ceilings {
            topics: 250_000,
            subscriptions_per_topic: 10_000,
            producers_per_connection: 10_000,
            consumers_per_connection: 10_000,
        }
    }
}

/// Zero and none are without limit.
fn is_reached(limit: Option<u32>, count: usize) -> bool {
    limit.is_some_and(|limit| limit > 0 && count >= limit as usize)
}

impl Broker {
    /// Holds from now on; what is there already stays.
    pub fn set_ceilings(&mut self, ceilings: Ceilings) {
        self.ceilings = ceilings;
    }

    /// Whether a connection may have one more producer.
    pub(super) fn check_new_producer(&self, connection: ConnectionId) -> Result<(), Refusal> {
        let max = self.ceilings.producers_per_connection;
        if self.producers.range(ProducerKey::all_of(connection)).count() < max {
            return Ok(());
        }
        let message = format!("The connection has reached its limit of {max} producers: use another one");
        Err(Refusal::new(RefusalKind::ProducerBusy, message))
    }

    /// Whether a connection may have one more consumer.
    pub(super) fn check_new_consumer(&self, connection: ConnectionId) -> Result<(), Refusal> {
        let max = self.ceilings.consumers_per_connection;
        if self.consumers.range(ConsumerKey::all_of(connection)).count() < max {
            return Ok(());
        }
        let message = format!("The connection has reached its limit of {max} consumers: use another one");
        Err(Refusal::new(RefusalKind::ConsumerBusy, message))
    }

    /// Whether there may be one more subscription, if there is none of this name.
    pub(super) fn check_subscription_ceiling(&self, topic: &Topic, name: &str) -> Result<(), Refusal> {
        let max = self.ceilings.subscriptions_per_topic;
        if topic.subscriptions.len() < max || topic.subscription_id(name).is_some() {
            return Ok(());
        }
        let message = format!("Topic {} has reached its limit of {max} subscriptions", topic.name);
        Err(Refusal::new(RefusalKind::NotAllowed, message))
    }

    /// Whether a consumer may join by the policies of its topic.
    pub(super) fn check_joining(&self, topic: TopicId, request: &Subscribe) -> Result<(), Refusal> {
        let Some(topic) = self.topics.get(&topic) else { return Ok(()) };
        let catalog = &self.catalog;
        let refuse = |kind, message: String| Err(Refusal::new(kind, message));
        let kinds = catalog.policy(&topic.name, |policies| policies.subscription_types.clone());
        let kind = request.kind.name();
        if kinds.is_some_and(|kinds| !kinds.is_empty() && !kinds.iter().any(|allowed| allowed == kind)) {
            return refuse(RefusalKind::NotAllowed, format!("Topic[{}] doesn't support {kind} sub type!", topic.name));
        }
        let consumers = topic.subscriptions.values().map(|subscription| subscription.consumers().count()).sum();
        if is_reached(catalog.policy(&topic.name, |policies| policies.max_consumers_per_topic), consumers) {
            return refuse(RefusalKind::ConsumerBusy, "Topic reached max consumers limit".into());
        }
        self.check_subscription_ceiling(topic, &request.subscription)?;
        let existing = topic.subscription_id(&request.subscription).and_then(|id| topic.subscriptions.get(&id));
        let Some(existing) = existing else {
            return if request.durable { self.check_new_subscription(&topic.name, false) } else { Ok(()) };
        };
        let limit = catalog.policy(&topic.name, |policies| policies.max_consumers_per_subscription);
        if is_reached(limit, existing.consumers().count()) {
            return refuse(RefusalKind::ConsumerBusy, "Subscription reached max consumers limit".into());
        }
        Ok(())
    }

    /// Whether a topic may have one more durable subscription, of a client or of the admin.
    pub(super) fn check_new_subscription(&self, topic: &TopicName, by_admin: bool) -> Result<(), Refusal> {
        let Ok(state) = self.topic(topic) else { return Ok(()) };
        let creation = self.catalog.policy(topic, |policies| policies.auto_subscription_creation);
        if !by_admin && creation.is_some_and(|creation| !creation.allow) {
            let message = format!("Subscription does not exist, and clients may not create subscriptions of {topic}");
            return Err(Refusal::new(RefusalKind::SubscriptionNotFound, message));
        }
        let limit = self.catalog.policy(topic, |policies| policies.max_subscriptions_per_topic);
        let count = state.subscriptions.values().filter(|subscription| subscription.durable).count();
        if is_reached(limit, count) {
            let message = format!("Exceed the maximum number of subscriptions of the topic: {topic}");
            return Err(Refusal::new(RefusalKind::NotAllowed, message));
        }
        Ok(())
    }

    /// Whether a namespace, and the broker, may have so many more topics.
    pub(super) fn check_new_topics(&self, topic: &TopicName, more: usize) -> Result<(), Refusal> {
        if more == 0 {
            return Ok(());
        }
        let max = self.ceilings.topics;
        if self.topics.len().saturating_add(more) > max {
            let message =
                format!("The broker has reached its limit of {max} topics: delete some, or start it with more");
            return Err(Refusal::new(RefusalKind::Busy, message));
        }
        let Ok(policies) = self.catalog.namespace(topic.namespace()) else { return Ok(()) };
        let Some(limit) = policies.max_topics_per_namespace.filter(|limit| *limit > 0) else { return Ok(()) };
        let count = self.ids_of(topic.namespace()).count();
        if count + more > limit as usize {
            let message = format!("Exceed maximum number of topics in namespace {}", topic.namespace());
            return Err(Refusal::new(RefusalKind::Busy, message));
        }
        Ok(())
    }
}
