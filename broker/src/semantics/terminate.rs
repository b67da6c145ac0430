//! The end of a topic that takes no more messages, and what the user notes about topics.

use std::collections::BTreeMap;

use super::TopicId;
use super::broker::Broker;
use super::change::Change;
use super::effect::{Effect, Refusal, RefusalKind};
use super::entry::Position;
use super::name::TopicName;
use super::subscription::ConsumerKey;

impl Broker {
    /// Ends a topic: producers are disconnected and refused from now on, consumers are told when they have
    /// acknowledged everything. Gives its last message, if it ever had one; ending it again changes nothing.
    ///
    /// # Errors
    /// No such topic, or not a persistent one.
    pub fn handle_terminate(&mut self, name: &TopicName) -> Result<Option<Position>, Refusal> {
        let topic = self.topic(name)?;
        if !name.is_persistent() {
            return Err(Refusal::new(RefusalKind::NotAllowed, "Termination of a non-persistent topic is not allowed"));
        }
        // Messages that are being stored are still taken.
        let last = topic.next.and_then(|next| Some(Position { entry: next.entry.checked_sub(1)?, ..next }));
        let (id, last, producers) = (topic.id, last.or(topic.last), topic.clients_that_write());
        for key in producers {
            self.remove_producer(key);
            self.emit(Effect::ProducerClosed { connection: key.connection, producer_id: key.producer_id });
        }
        self.edit_meta(id, |meta| meta.terminated = true);
        self.schedule_all(id);
        Ok(last)
    }

    /// Whether the topic takes no more messages.
    ///
    /// # Errors
    /// No such topic.
    pub fn is_terminated(&self, name: &TopicName) -> Result<bool, Refusal> {
        self.topic(name).map(|topic| topic.meta.terminated)
    }

    /// Tells the consumers of a terminated topic once that nothing more comes. A consumer without permits may
    /// not know yet that it is one.
    pub(super) fn announce_end(&mut self, id: TopicId, subscription: u32) {
        let Some(topic) = self.topics.get(&id).filter(|topic| topic.meta.terminated) else { return };
        let Some(state) = topic.subscriptions.get(&subscription) else { return };
        // What is still being stored will come.
        let all = topic.next.is_none_or(|next| topic.last.is_some_and(|last| last.next() >= next));
        if !all || state.cursor().backlog(topic.log.end()) > 0 {
            return;
        }
        let ready = state.consumers().filter(|(_, consumer)| consumer.permits > 0).map(|(_, consumer)| consumer.key);
        let ready: Vec<ConsumerKey> = ready.collect();
        for consumer in ready {
            let known = self.consumers.get_mut(&consumer);
            if known.is_some_and(|known| !std::mem::replace(&mut known.told_end, true)) {
                self.emit(Effect::EndOfTopic { consumer });
            }
        }
    }

    /// What the user notes about a topic; of a partitioned one, about all of it.
    ///
    /// # Errors
    /// No such topic.
    pub fn topic_properties(&self, name: &TopicName) -> Result<BTreeMap<String, String>, Refusal> {
        if self.catalog.partitioned.contains_key(name.as_str()) {
            return Ok(self.catalog.partitioned_properties.get(name.as_str()).cloned().unwrap_or_default());
        }
        self.topic(name).map(|topic| topic.meta.properties.clone())
    }

    /// # Errors
    /// No such topic.
    pub fn handle_edit_topic_properties(
        &mut self,
        name: &TopicName,
        edit: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), Refusal> {
        let mut properties = self.topic_properties(name)?;
        edit(&mut properties);
        if self.catalog.partitioned.contains_key(name.as_str()) {
            let topic = name.to_string();
            self.catalog.partitioned_properties.insert(topic.clone(), properties.clone());
            self.log(Change::PartitionedProperties { topic, properties });
            return Ok(());
        }
        let id = self.topic(name)?.id;
        self.edit_meta(id, |meta| meta.properties = properties);
        Ok(())
    }
}
