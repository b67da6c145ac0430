//! How many consumers, subscriptions and topics there may be, and of which kinds, by policy.
//!
//! Owns the checks at the door; what is there already when a policy is set stays.

use super::TopicId;
use super::broker::Broker;
use super::consume::Subscribe;
use super::effect::{Refusal, RefusalKind};
use super::name::TopicName;

/// Zero and none are without limit.
fn is_reached(limit: Option<u32>, count: usize) -> bool {
    limit.is_some_and(|limit| limit > 0 && count >= limit as usize)
}

impl Broker {
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

    /// Whether a namespace may have so many more topics.
    pub(super) fn check_new_topics(&self, topic: &TopicName, more: usize) -> Result<(), Refusal> {
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
