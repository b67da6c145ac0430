//! The whole state, the order of what is being stored, and the way effects leave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::catalog::Catalog;
use super::change::Change;
use super::compaction::Keeping;
use super::consume::ConsumerRef;
use super::effect::{Effect, Refusal, RefusalKind, Source};
use super::entry::{Facts, Location, Position};
use super::limits::Ceilings;
use super::listing::Watchers;
use super::produce::{Producer, ProducerKey};
use super::subscription::{ConsumerKey, Delivery, Kept};
use super::topic::Topic;
use super::{Client, ConnectionId, TopicId};

/// The broker's state machine; see the [module](super).
#[derive(Debug, Default)]
pub struct Broker {
    pub(super) generation: u64,
    /// The time of the last input that said it.
    pub(super) now_ms: u64,
    /// When the present window of the rates began.
    pub(super) rolled_ms: u64,
    pub(super) clients: BTreeMap<ConnectionId, Client>,
    /// Connections that do not take what is delivered.
    pub(super) congested: BTreeSet<ConnectionId>,
    pub(super) catalog: Catalog,
    pub(super) ceilings: Ceilings,
    pub(super) index_limit: Option<usize>,
    pub(super) topics: BTreeMap<TopicId, Topic>,
    pub(super) names: BTreeMap<String, TopicId>,
    pub(super) next_topic: u64,
    pub(super) next_ledger: u64,
    pub(super) producers: BTreeMap<ProducerKey, Producer>,
    pub(super) next_serial: u64,
    pub(super) consumers: BTreeMap<ConsumerKey, ConsumerRef>,
    inflight: VecDeque<Inflight>,
    changes_inflight: usize,
    /// Changes that could not be stored; nothing else is accepted before they are.
    unsaved: VecDeque<Change>,
    effects: Vec<Effect>,
    scheduled: Vec<(TopicId, u32)>,
    pub(super) watchers: Watchers,
    timers: BTreeSet<(u64, TopicId, u32)>,
    deliveries: Vec<Delivery>,
    compacted_deliveries: Vec<(Position, Delivery)>,
}

/// What the storage has been given and has not answered, in order, with the answers that wait for it.
#[derive(Debug)]
pub(super) enum Inflight {
    Message(Box<StoringMessage>),
    /// Counts as a change: answers wait for it.
    Kept(Keeping),
    Change(Change),
    Answer(Effect),
}

#[derive(Debug)]
pub(super) struct StoringMessage {
    pub topic: TopicId,
    pub position: Position,
    pub facts: Facts,
    pub producer: ProducerKey,
    /// Which life of the producer; a receipt goes to no later one.
    pub serial: u64,
    pub sequence_id: u64,
    pub highest_sequence_id: u64,
    pub deduplicated: Option<Arc<str>>,
    pub bytes: usize,
}

impl Broker {
    /// How often a broker has been started on this directory.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Says what time it is; for what is only shown, as when a consumer acked last.
    pub fn handle_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Says who a connection is of; for what is only shown.
    pub fn handle_connected(&mut self, connection: ConnectionId, client: Client) {
        self.clients.insert(connection, client);
    }

    /// A connection does not take what is delivered to it, so it gets nothing more; or it takes it again.
    pub fn handle_congestion(&mut self, connection: ConnectionId, congested: bool) {
        if congested {
            self.congested.insert(connection);
        } else {
            self.congested.remove(&connection);
        }
        let consumers: Vec<ConsumerRef> =
            self.consumers.range(ConsumerKey::all_of(connection)).map(|(_, consumer)| *consumer).collect();
        for at in consumers {
            let topic = self.topics.get_mut(&at.topic);
            if let Some(state) = topic.and_then(|topic| topic.subscriptions.get_mut(&at.subscription)) {
                state.handle_congestion(at.slot, congested);
            }
            self.schedule(at.topic, at.subscription);
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn log(&mut self, change: Change) {
        self.changes_inflight += 1;
        self.inflight.push_back(Inflight::Change(change.clone()));
        self.emit(Effect::Log(change));
    }

    pub(super) fn store(&mut self, message: StoringMessage, effect: Effect) {
        self.inflight.push_back(Inflight::Message(Box::new(message)));
        self.emit(effect);
    }

    pub(super) fn store_kept(&mut self, keeping: Keeping, effect: Effect) {
        self.changes_inflight += 1;
        self.inflight.push_back(Inflight::Kept(keeping));
        self.emit(effect);
    }

    /// Answers once all changes so far are stored.
    pub(super) fn answer(&mut self, effect: Effect) {
        if self.changes_inflight == 0 { self.emit(effect) } else { self.inflight.push_back(Inflight::Answer(effect)) }
    }

    /// Answers once all messages so far are stored, too.
    pub(super) fn answer_last(&mut self, effect: Effect) {
        if self.inflight.is_empty() { self.emit(effect) } else { self.inflight.push_back(Inflight::Answer(effect)) }
    }

    /// Gives [`Effect::Synced`] when all changes so far are stored.
    pub fn handle_sync(&mut self, token: u64) {
        self.answer(Effect::Synced { token, outcome: Ok(()) });
    }

    /// # Errors
    /// The storage cannot write at present.
    pub fn check_storage(&self) -> Result<(), Refusal> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalKind::Storage,
            "the broker could not write to its disk and is trying again; free some space or check the disk",
        ))
    }

    /// The storage has what was the oldest unanswered `Append` or `Log`.
    pub fn handle_appended(&mut self, now_ms: u64, location: Location) {
        match self.inflight.pop_front() {
            Some(Inflight::Message(message)) => self.message_stored(now_ms, *message, location),
            Some(Inflight::Kept(keeping)) => {
                self.changes_inflight -= 1;
                self.kept_stored(&keeping, location);
            }
            Some(Inflight::Change(_)) => self.changes_inflight -= 1,
            Some(Inflight::Answer(effect)) => self.emit(effect),
            None => {}
        }
        while matches!(self.inflight.front(), Some(Inflight::Answer(_))) {
            if let Some(Inflight::Answer(effect)) = self.inflight.pop_front() {
                self.emit(effect);
            }
        }
    }

    /// The storage could not write what was the oldest unanswered `Append` or `Log`. It must fail all that it
    /// had been given until then, so that no later message overtakes a failed one.
    pub fn handle_append_failed(&mut self, reason: &str) {
        let refusal = Refusal::new(RefusalKind::Storage, format!("the broker could not store this: {reason}"));
        match self.inflight.pop_front() {
            Some(Inflight::Message(message)) => self.message_failed(*message, &refusal),
            Some(Inflight::Kept(keeping)) => {
                self.changes_inflight -= 1;
                self.kept_failed(&keeping, reason);
            }
            Some(Inflight::Change(change)) => {
                self.changes_inflight -= 1;
                self.unsaved.push_back(change);
            }
            Some(Inflight::Answer(effect)) => self.effects.extend(effect.refused(&refusal)),
            None => {}
        }
        while matches!(self.inflight.front(), Some(Inflight::Answer(_))) {
            if let Some(Inflight::Answer(effect)) = self.inflight.pop_front() {
                self.effects.extend(effect.refused(&refusal));
            }
        }
    }

    /// Tries again to store what could not be stored.
    pub(super) fn retry_unsaved(&mut self) {
        for change in std::mem::take(&mut self.unsaved) {
            match change {
                // As it is now: acks have come meanwhile, and a snapshot may know them. The old cursor behind it would
                // make them forgotten.
                Change::Subscription { topic, state } => self.log_subscription(topic, &state.name),
                change => self.log(change),
            }
        }
    }

    /// All that was given to the storage has been answered.
    pub fn is_settled(&self) -> bool {
        self.inflight.is_empty()
    }

    pub(super) fn schedule(&mut self, topic: TopicId, subscription: u32) {
        let Some(state) = self.topics.get_mut(&topic).and_then(|topic| topic.subscriptions.get_mut(&subscription))
        else {
            return;
        };
        if !std::mem::replace(&mut state.scheduled, true) {
            self.scheduled.push((topic, subscription));
        }
    }

    pub(super) fn schedule_all(&mut self, topic: TopicId) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        for (id, subscription) in &mut state.subscriptions {
            if !std::mem::replace(&mut subscription.scheduled, true) {
                self.scheduled.push((topic, *id));
            }
        }
    }

    /// When [`Broker::handle_timeout`] should be called next, because a delayed message is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.first().map(|(due, _, _)| *due)
    }

    /// Delayed messages that are due can go.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some(&(due, topic, subscription)) = self.timers.first() {
            if due > now_ms {
                return;
            }
            self.timers.pop_first();
            let state = self.topics.get_mut(&topic).and_then(|topic| topic.subscriptions.get_mut(&subscription));
            if let Some(state) = state {
                state.timer = None;
            }
            self.schedule(topic, subscription);
        }
    }

    /// Takes all effects of the inputs so far, after handing out what can be delivered. `out` must be empty;
    /// its allocation is reused.
    pub fn poll_effects(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let mut again = Vec::new();
        while let Some((topic_id, subscription)) = self.scheduled.pop() {
            let Some(topic) = self.topics.get_mut(&topic_id) else { continue };
            let Some(state) = topic.subscriptions.get_mut(&subscription) else { continue };
            state.scheduled = false;
            if state.compacted.wanted {
                let compaction = topic.meta.compaction;
                let kept = compaction.map(|meta| Kept { log: &topic.compaction.kept, horizon: meta.horizon });
                state.dispatch_compacted(kept, &topic.log, now_ms, &mut self.compacted_deliveries);
            } else {
                let more = state.dispatch(&topic.log, now_ms, &mut self.deliveries);
                if more {
                    again.push((topic_id, subscription));
                }
            }
            let due = state.next_due_ms();
            if due != state.timer {
                if let Some(before) = state.timer {
                    self.timers.remove(&(before, topic_id, subscription));
                }
                if let Some(due) = due {
                    self.timers.insert((due, topic_id, subscription));
                }
                state.timer = due;
            }
            let partition = topic.partition();
            let offset_deliveries =
                self.deliveries.drain(..).filter_map(|delivery| Some((topic.log.position(delivery.offset)?, delivery)));
            for (position, delivery) in self.compacted_deliveries.drain(..).chain(offset_deliveries) {
                let location = delivery.entry.location;
                self.effects.push(Effect::Deliver {
                    consumer: delivery.consumer,
                    position,
                    partition,
                    redelivery_count: delivery.redelivery_count,
                    permits: delivery.messages,
                    ack_set: delivery.ack_set,
                    epoch: delivery.epoch,
                    source: Source::Stored(location),
                });
            }
            self.announce_end(topic_id, subscription);
        }
        self.tell_watchers();
        for (topic, subscription) in again {
            self.schedule(topic, subscription);
        }
        std::mem::swap(out, &mut self.effects);
    }

    /// A client is gone, with all its producers and consumers.
    pub fn handle_disconnected(&mut self, connection: ConnectionId) {
        self.clients.remove(&connection);
        self.congested.remove(&connection);
        self.unwatch_all(connection);
        let producers = ProducerKey::all_of(connection);
        let producers: Vec<ProducerKey> = self.producers.range(producers).map(|(key, _)| *key).collect();
        for key in producers {
            self.remove_producer(key);
        }
        let all = ConsumerKey::all_of(connection);
        let consumers: Vec<ConsumerKey> = self.consumers.range(all).map(|(key, _)| *key).collect();
        for key in consumers {
            self.remove_consumer(key);
        }
    }
}
