//! Consumers: of subscriptions, of a topic's end, and readers, which are consumers that go when they have read enough.

use std::collections::BTreeMap;

use bytes::Bytes;
use everpulse_broker::semantics::selector::KeyPolicy;
use everpulse_broker::semantics::{Kind, Start, Subscribe};
use everpulse_protocol::Position;

use super::{AGAIN_MS, Consumer, Link, News, READER_PERMITS, Request, Role, SILENCE_MS, START, State};
use crate::party::Ctx;
use crate::wire::{Act, Again, Timer, Up, theirs};

impl<T: Clone> Link<T> {
    /// A durable subscription, or one that hears only what comes from now on. Gives the number of its consumer.
    pub fn subscribe(
        &mut self,
        topic: &str,
        subscription: &str,
        kind: Kind,
        durable: bool,
        permits: u32,
        ctx: &mut Ctx<'_>,
    ) -> u64 {
        self.consume(topic, subscription, kind, permits, Role::Deliver { durable, all: durable }, ctx)
    }

    /// All of a topic, for ever, and again from its beginning when the connection was lost.
    pub fn follow(&mut self, topic: &str, permits: u32, ctx: &mut Ctx<'_>) -> u64 {
        let name = format!("{}-f{}", self.name, self.next);
        self.consume(topic, &name, Kind::Exclusive, permits, Role::Deliver { durable: false, all: true }, ctx)
    }

    /// Asks where a topic ends.
    pub fn ask_tail(&mut self, topic: &str, tag: T, ctx: &mut Ctx<'_>) {
        let id = match self.tails.get(topic) {
            Some(id) => *id,
            None => {
                let name = format!("{}-tail", self.name);
                let role = Role::Tail { waiting: Vec::new(), asked: Vec::new() };
                let id = self.consume(topic, &name, Kind::Exclusive, 0, role, ctx);
                self.tails.insert(topic.to_owned(), id);
                id
            }
        };
        if let Some(Consumer { role: Role::Tail { waiting, .. }, .. }) = self.consumers.get_mut(&id) {
            waiting.push(tag);
        }
        self.ask_last(id, ctx);
    }

    /// Reads a topic behind a position up to another, or to where it ends now if that is earlier.
    pub fn read(&mut self, topic: &str, after: Option<Position>, to: Option<Position>, tag: T, ctx: &mut Ctx<'_>) {
        let name = format!("{}-r{}", self.name, self.next);
        let role = Role::Read { tag, seen: after, to, end: None, entries: Vec::new() };
        self.consume(topic, &name, Kind::Exclusive, READER_PERMITS, role, ctx);
    }

    pub(super) fn consume(
        &mut self,
        topic: &str,
        subscription: &str,
        kind: Kind,
        permits: u32,
        role: Role<T>,
        ctx: &mut Ctx<'_>,
    ) -> u64 {
        let id = self.fresh();
        let (topic, subscription) = (topic.to_owned(), subscription.to_owned());
        let consumer =
            Consumer { topic, subscription, kind, permits, state: State::Gone, acks: Vec::new(), paused: false, role };
        self.consumers.insert(id, consumer);
        self.open(id, ctx);
        id
    }

    pub(super) fn open(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return self.connect(ctx) };
        let request_id = self.fresh();
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.state == State::Gone) else {
            return;
        };
        consumer.state = State::Asked;
        let (durable, start, earliest) = match &consumer.role {
            Role::Deliver { durable: false, all: true } => (false, Some(Start::Earliest), true),
            Role::Deliver { durable, .. } => (*durable, None, *durable),
            Role::Tail { .. } => (false, Some(Start::Latest), false),
            Role::Read { seen: Some(seen), .. } => (false, Some(Start::After(theirs(*seen))), false),
            Role::Read { seen: None, .. } => (false, Some(Start::Earliest), true),
        };
        let request = Subscribe {
            topic: consumer.topic.clone(),
            // A name of a reader may be taken still by what it was before.
            subscription: if durable {
                consumer.subscription.clone()
            } else {
                format!("{}-{request_id}", consumer.subscription)
            },
            kind: consumer.kind,
            consumer_id: id,
            request_id,
            name: Some(format!("{}-c{id}", self.name)),
            priority: 0,
            durable,
            start,
            earliest,
            create_topic: true,
            metadata: BTreeMap::new(),
            properties: BTreeMap::new(),
            epoch: None,
            read_compacted: false,
            schema: None,
            keys: KeyPolicy::default(),
            ranges: Vec::new(),
        };
        self.requests.insert(request_id, Request::Consumer(id));
        ctx.acts.push(Act::Send(connection, Up::Subscribe(Box::new(request))));
    }

    pub(super) fn ask_last(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return };
        let request_id = self.fresh();
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.state == State::Ready) else {
            return;
        };
        if let Role::Tail { waiting, asked } = &mut consumer.role {
            if waiting.is_empty() || !asked.is_empty() {
                return;
            }
            std::mem::swap(waiting, asked);
        }
        self.requests.insert(request_id, Request::Last(id));
        ctx.acts.push(Act::Send(connection, Up::Last { consumer_id: id, request_id }));
    }

    /// Acks a message of a consumer, now or when it is there again.
    pub fn ack(&mut self, consumer: u64, position: Position, ctx: &mut Ctx<'_>) {
        let Some(state) = self.consumers.get_mut(&consumer) else { return };
        match (self.connection, state.state) {
            (Some(connection), State::Ready) => {
                let topic = state.topic.clone();
                ctx.acts.push(Act::Send(connection, Up::Ack { consumer_id: consumer, topic, position }));
            }
            _ => state.acks.push(position),
        }
    }

    /// Asks for no more messages than are on their way.
    pub fn pause(&mut self, consumer: u64) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.paused = true;
        }
    }

    /// Leaves a subscription.
    pub fn close(&mut self, consumer: u64, ctx: &mut Ctx<'_>) {
        if self.consumers.remove(&consumer).is_some()
            && let Some(connection) = self.connection
        {
            ctx.acts.push(Act::Send(connection, Up::CloseConsumer { consumer_id: consumer, request_id: 0 }));
        }
    }

    /// Builds the subscription of a consumer again, of which its user hears nothing.
    pub fn resubscribe(&mut self, consumer: u64, ctx: &mut Ctx<'_>) {
        let (Some(connection), Some(state)) = (self.connection, self.consumers.get_mut(&consumer)) else { return };
        if state.state == State::Ready {
            state.state = State::Gone;
            ctx.acts.push(Act::Send(connection, Up::CloseConsumer { consumer_id: consumer, request_id: 0 }));
            self.open(consumer, ctx);
        }
    }

    pub(super) fn opened(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return };
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.state = State::Ready;
        if consumer.permits > 0 && !consumer.paused {
            ctx.acts.push(Act::Send(connection, Up::Flow { consumer_id: id, permits: consumer.permits }));
        }
        for position in std::mem::take(&mut consumer.acks) {
            let topic = consumer.topic.clone();
            ctx.acts.push(Act::Send(connection, Up::Ack { consumer_id: id, topic, position }));
        }
        if !matches!(consumer.role, Role::Deliver { .. }) {
            self.ask_last(id, ctx);
        }
    }

    pub(super) fn lost(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.state = State::Gone;
        if let Role::Tail { waiting, asked } = &mut consumer.role {
            waiting.append(asked);
        }
        ctx.remind(AGAIN_MS, Timer::Again(Again::Consumer(id)));
    }

    pub(super) fn delivered(&mut self, id: u64, position: Position, payload: Bytes, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return };
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        match &mut consumer.role {
            Role::Deliver { .. } => {
                if !consumer.paused {
                    ctx.acts.push(Act::Send(connection, Up::Flow { consumer_id: id, permits: 1 }));
                }
                self.news.push_back(News::Delivered { consumer: id, position, payload });
            }
            Role::Tail { .. } => {}
            Role::Read { seen, entries, .. } => {
                if seen.is_none_or(|seen| position > seen) {
                    *seen = Some(position);
                    entries.push((position, payload));
                    if (entries.len() as u32).is_multiple_of(READER_PERMITS / 2) {
                        let permits = READER_PERMITS / 2;
                        ctx.acts.push(Act::Send(connection, Up::Flow { consumer_id: id, permits }));
                    }
                }
                self.finish_read(id, ctx);
            }
        }
    }

    pub(super) fn last(&mut self, id: u64, position: Option<Position>, ctx: &mut Ctx<'_>) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        match &mut consumer.role {
            Role::Deliver { .. } => {}
            Role::Tail { asked, .. } => {
                let asked = std::mem::take(asked);
                self.news.extend(asked.into_iter().map(|tag| News::Tail { tag, position }));
                self.ask_last(id, ctx);
            }
            Role::Read { to, end, seen, .. } => {
                *end = match (position, *to) {
                    (Some(last), Some(to)) => Some(last.min(to)),
                    (Some(last), None) => Some(last),
                    // Nothing is there: what was seen is all.
                    (None, _) => Some(seen.unwrap_or(START)),
                };
                ctx.remind(SILENCE_MS, Timer::Silent(id));
                self.finish_read(id, ctx);
            }
        }
    }

    pub(super) fn finish_read(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(Consumer { role: Role::Read { tag, seen, end: Some(end), entries, .. }, .. }) =
            self.consumers.get_mut(&id)
        else {
            return;
        };
        if seen.unwrap_or(START) >= *end {
            let news = News::Read { tag: tag.clone(), entries: std::mem::take(entries) };
            self.news.push_back(news);
            self.close(id, ctx);
        }
    }
}
