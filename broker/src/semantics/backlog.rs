//! What the admin does to a subscription and what waits in it.

use super::TopicId;
use super::broker::Broker;
use super::change::Change;
use super::effect::{Effect, Refusal, RefusalKind};
use super::name::TopicName;
use super::seek::Start;
use super::subscription::{ConsumerKey, Kind, Subscription};

impl Broker {
    /// Moves a cursor for the admin.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_reset_cursor(&mut self, topic: &TopicName, name: &str, start: Start) -> Result<(), Refusal> {
        let (topic, id) = self.find_subscription(topic, name)?;
        self.seek(topic, id, start);
        Ok(())
    }

    fn find_subscription(&self, topic: &TopicName, name: &str) -> Result<(TopicId, u32), Refusal> {
        let state = self.topic(topic)?;
        let id = state.subscription_id(name).ok_or_else(|| {
            Refusal::new(RefusalKind::SubscriptionNotFound, format!("Subscription {name} of {topic} not found"))
        })?;
        Ok((state.id, id))
    }

    /// # Errors
    /// No such topic, or the subscription exists.
    pub fn handle_create_subscription(&mut self, topic: &TopicName, name: &str, start: Start) -> Result<(), Refusal> {
        let id = self.ensure_topic(topic.as_str(), true)?;
        self.check_storage()?;
        let Some(state) = self.topics.get_mut(&id) else { return Ok(()) };
        if state.subscription_id(name).is_some() {
            return Err(Refusal::new(RefusalKind::AlreadyExists, "Subscription already exists for topic"));
        }
        if !state.name.is_persistent() {
            return Err(Refusal::new(RefusalKind::NotAllowed, "A non-persistent topic has no durable subscriptions"));
        }
        let next = state.offset_of(start);
        state.add_subscription(Subscription::new(name, Kind::Shared, true, next));
        self.log_subscription(id, name);
        Ok(())
    }

    /// # Errors
    /// No such topic or subscription, or it has consumers and `force` was not asked for.
    pub fn handle_delete_subscription(&mut self, topic: &TopicName, name: &str, force: bool) -> Result<(), Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        let state = self.topics.get(&topic_id).and_then(|topic| topic.subscriptions.get(&id));
        let consumers: Vec<ConsumerKey> =
            state.map(|state| state.consumers().map(|consumer| consumer.key).collect()).unwrap_or_default();
        if !consumers.is_empty() && !force {
            return Err(Refusal::new(RefusalKind::Busy, "Subscription has active connected consumers"));
        }
        for consumer in consumers {
            self.remove_consumer(consumer);
            self.emit(Effect::ConsumerClosed { consumer });
        }
        self.delete_subscription(topic_id, id);
        Ok(())
    }

    pub(super) fn delete_subscription(&mut self, topic_id: TopicId, id: u32) {
        let Some(topic) = self.topics.get_mut(&topic_id) else { return };
        if let Some(subscription) = topic.subscriptions.remove(&id)
            && subscription.durable
        {
            self.log(Change::SubscriptionDeleted { topic: topic_id, name: subscription.name });
        }
    }
}
