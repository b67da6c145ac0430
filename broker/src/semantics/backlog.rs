//! What the admin does to a subscription and what waits in it: make it, delete it, look at a message, skip some.
//!
//! Consumers stay connected while messages are skipped; what they have of these is acknowledged for them.
//! Only moving the cursor (`handle_reset_cursor`) disconnects them, as with Apache Pulsar.

use super::TopicId;
use std::collections::BTreeMap;

use super::broker::Broker;
use super::change::Change;
use super::cursor::Cursor;
use super::effect::{Effect, Refusal, RefusalKind};
use super::entry::{Entry, Position};
use super::log::Log;
use super::name::TopicName;
use super::seek::Start;
use super::subscription::{ConsumerKey, Kind, Subscription};

impl Broker {
    /// Makes a subscription that has no consumers yet.
    ///
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
        self.check_new_subscription(topic, true)?;
        self.check_subscription_ceiling(self.topic(topic)?, name)?;
        let Some(state) = self.topics.get_mut(&id) else { return Ok(()) };
        let target = state.target(start);
        let mut subscription = Subscription::new(name, Kind::Shared, true, target.offset);
        subscription.seek(target, &state.log);
        state.add_subscription(subscription);
        self.log_subscription(id, name);
        Ok(())
    }

    /// # Errors
    /// No such topic or subscription, or it has consumers and `force` was not asked for.
    pub fn handle_delete_subscription(&mut self, topic: &TopicName, name: &str, force: bool) -> Result<(), Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        let state = self.topics.get(&topic_id).and_then(|topic| topic.subscriptions.get(&id));
        let consumers: Vec<ConsumerKey> = state.map(|state| state.consumer_keys()).unwrap_or_default();
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

    fn find_subscription(&self, topic: &TopicName, name: &str) -> Result<(TopicId, u32), Refusal> {
        let state = self.topic(topic)?;
        let id = state.subscription_id(name).ok_or_else(|| {
            Refusal::new(RefusalKind::SubscriptionNotFound, format!("Subscription {name} of {topic} not found"))
        })?;
        Ok((state.id, id))
    }

    /// Moves the cursor; consumers are disconnected and come back by themselves.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_reset_cursor(&mut self, topic: &TopicName, name: &str, start: Start) -> Result<(), Refusal> {
        let (topic, id) = self.find_subscription(topic, name)?;
        self.seek(topic, id, start);
        Ok(())
    }

    /// Skips the next so many entries that are not acknowledged, or all if there are fewer. Says how many.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_skip(&mut self, topic: &TopicName, name: &str, entries: u64) -> Result<u64, Refusal> {
        self.skip_with(topic, name, |cursor, log| match cursor.nth_unacked(entries, log.end()) {
            Some(last) => last + 1,
            None if entries == 0 => 0,
            None => log.end(),
        })
    }

    /// Skips everything that is there. Says how many entries that were.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_clear_backlog(&mut self, topic: &TopicName, name: &str) -> Result<u64, Refusal> {
        self.skip_with(topic, name, |_, log| log.end())
    }

    /// Skips what was published longer ago than this. Says how many entries that were.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_expire(
        &mut self,
        topic: &TopicName,
        name: &str,
        older_than_ms: u64,
        now_ms: u64,
    ) -> Result<u64, Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        if let Some(topic) = self.topics.get_mut(&topic_id)
            && let Some(subscription) = topic.subscriptions.get_mut(&id)
        {
            subscription.last_expired_ms = now_ms;
        }
        let alive = now_ms.saturating_sub(older_than_ms);
        self.skip_with(topic, name, |_, log| log.published_since(alive))
    }

    /// Skips everything up to a position: with it, or (`excluded`) without. Says how many entries that were.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_expire_to(
        &mut self,
        topic: &TopicName,
        name: &str,
        position: Position,
        excluded: bool,
    ) -> Result<u64, Refusal> {
        self.skip_with(topic, name, |_, log| match log.find(position) {
            Some(offset) if !excluded => offset + 1,
            _ => log.ceiling(position),
        })
    }

    fn skip_with(
        &mut self,
        topic: &TopicName,
        name: &str,
        to: impl FnOnce(&Cursor, &Log) -> u64,
    ) -> Result<u64, Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        self.check_storage()?;
        let Some(topic) = self.topics.get_mut(&topic_id) else { return Ok(0) };
        let Some(subscription) = topic.subscriptions.get_mut(&id) else { return Ok(0) };
        let before = subscription.cursor().backlog(topic.log.end());
        let to = to(subscription.cursor(), &topic.log);
        if subscription.handle_ack_below(to, &topic.log) {
            subscription.last_mark_delete_ms = self.now_ms;
        }
        let skipped = before - subscription.cursor().backlog(topic.log.end());
        if subscription.durable {
            self.log_subscription(topic_id, name);
        }
        self.schedule(topic_id, id);
        Ok(skipped)
    }

    /// # Errors
    /// No such topic or subscription.
    pub fn subscription_properties(&self, topic: &TopicName, name: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        let subscription = self.topics.get(&topic_id).and_then(|topic| topic.subscriptions.get(&id));
        Ok(subscription.map(|subscription| subscription.properties.clone()).unwrap_or_default())
    }

    /// Replaces the user's properties of a subscription (PIP-105).
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn handle_set_subscription_properties(
        &mut self,
        topic: &TopicName,
        name: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        self.check_storage()?;
        let subscription = self.topics.get_mut(&topic_id).and_then(|topic| topic.subscriptions.get_mut(&id));
        if let Some(subscription) = subscription {
            subscription.properties = properties;
            self.log_subscription(topic_id, name);
        }
        Ok(())
    }

    /// The n-th entry, counted from one, of those that the subscription has not acknowledged.
    ///
    /// # Errors
    /// No such topic or subscription.
    pub fn peek(&self, topic: &TopicName, name: &str, n: u64) -> Result<Option<Peeked>, Refusal> {
        let (topic_id, id) = self.find_subscription(topic, name)?;
        let Some(topic) = self.topics.get(&topic_id) else { return Ok(None) };
        let Some(subscription) = topic.subscriptions.get(&id) else { return Ok(None) };
        let offset = subscription.cursor().nth_unacked(n, topic.log.end());
        Ok(offset.and_then(|offset| peeked(&topic.log, offset)))
    }

    /// The n-th entry of the topic, counted from one, from its beginning or from its end.
    ///
    /// # Errors
    /// No such topic.
    pub fn examine(&self, topic: &TopicName, from_end: bool, n: u64) -> Result<Option<Peeked>, Refusal> {
        let log = &self.topic(topic)?.log;
        let before = n.saturating_sub(1);
        let offset = if from_end { log.end().checked_sub(before + 1) } else { log.base().checked_add(before) };
        Ok(offset.and_then(|offset| peeked(log, offset)))
    }

    /// Exactly the entry at this position.
    ///
    /// # Errors
    /// No such topic.
    pub fn entry_at(&self, topic: &TopicName, position: Position) -> Result<Option<Peeked>, Refusal> {
        let log = &self.topic(topic)?.log;
        Ok(log.find(position).and_then(|offset| peeked(log, offset)))
    }

    /// The first entry that was published at this time or later.
    ///
    /// # Errors
    /// No such topic.
    pub fn entry_since(&self, topic: &TopicName, time_ms: u64) -> Result<Option<Peeked>, Refusal> {
        let log = &self.topic(topic)?.log;
        Ok(peeked(log, log.published_since(time_ms)))
    }
}

fn peeked(log: &Log, offset: u64) -> Option<Peeked> {
    Some(Peeked { position: log.position(offset)?, entry: log.get(offset)? })
}

/// A stored entry; its bytes are where its location says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked {
    pub position: Position,
    pub entry: Entry,
}
