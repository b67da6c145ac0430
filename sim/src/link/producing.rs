//! Producers, one for each topic: what they have sent, and what is sent again when they are gone.

use std::collections::BTreeMap;

use everpulse_broker::semantics::{CreateProducer, Facts, Publish, hash};

use super::{AGAIN_MS, Link, News, OVERDUE_MS, Parcel, Publisher, Request, State};
use crate::party::Ctx;
use crate::wire::{Act, Again, Timer, Up};

impl<T: Clone> Link<T> {
    pub fn publish(&mut self, topic: &str, parcel: Parcel<T>, ctx: &mut Ctx<'_>) {
        if !self.publishers.contains_key(topic) {
            let (producer_id, name) = (self.fresh(), format!("{}-p{}", self.name, self.next));
            let publisher = Publisher {
                producer_id,
                name,
                epoch: 0,
                serial: 1,
                state: State::Gone,
                next: 0,
                next_sequence: 0,
                waiting: BTreeMap::new(),
                sent: BTreeMap::new(),
            };
            self.publishers.insert(topic.to_owned(), publisher);
        }
        let publisher = self.publishers.get_mut(topic).expect("it was just made");
        let number = publisher.next;
        publisher.next += 1;
        if parcel.once {
            ctx.remind(OVERDUE_MS, Timer::Overdue { topic: topic.to_owned(), number, serial: 0 });
        }
        publisher.waiting.insert(number, parcel);
        self.pump(topic, ctx);
    }

    /// Sends what waits, as far as there is a producer.
    pub(super) fn pump(&mut self, topic: &str, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return self.connect(ctx) };
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        match publisher.state {
            State::Asked => {}
            State::Gone => {
                publisher.state = State::Asked;
                self.next += 1;
                let request_id = self.next;
                let request = CreateProducer {
                    topic: topic.to_owned(),
                    producer_id: publisher.producer_id,
                    request_id,
                    name: Some(publisher.name.clone()),
                    epoch: publisher.epoch,
                    ..CreateProducer::default()
                };
                self.requests.insert(request_id, Request::Producer(topic.to_owned()));
                ctx.acts.push(Act::Send(connection, Up::CreateProducer(Box::new(request))));
            }
            State::Ready => {
                while let Some((number, parcel)) = publisher.waiting.pop_first() {
                    let sequence_id = publisher.next_sequence;
                    publisher.next_sequence += 1;
                    ctx.acts.push(Act::Send(connection, send(publisher.producer_id, sequence_id, &parcel, ctx.now.0)));
                    let timer = Timer::Overdue { topic: topic.to_owned(), number, serial: publisher.serial };
                    ctx.remind(OVERDUE_MS, timer);
                    publisher.sent.insert(sequence_id, (number, parcel));
                }
            }
        }
    }

    /// Another producer under a fresh name: what was sent is sent again, or given up.
    pub(super) fn renew(&mut self, topic: &str, ctx: &mut Ctx<'_>) {
        self.next += 1;
        let (next, name) = (self.next, format!("{}-p{}", self.name, self.next));
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        if let (Some(connection), State::Ready | State::Asked) = (self.connection, publisher.state) {
            let close = Up::CloseProducer { producer_id: publisher.producer_id, request_id: 0 };
            ctx.acts.push(Act::Send(connection, close));
        }
        (publisher.producer_id, publisher.name, publisher.epoch) = (next, name, 0);
        publisher.serial += 1;
        publisher.state = State::Gone;
        publisher.next_sequence = 0;
        for (_, (number, parcel)) in std::mem::take(&mut publisher.sent) {
            if parcel.once {
                self.news.extend(parcel.tags.into_iter().map(|tag| News::Published { tag, receipt: Err(()) }));
            } else {
                publisher.waiting.insert(number, parcel);
            }
        }
        if !publisher.waiting.is_empty() {
            ctx.remind(AGAIN_MS, Timer::Again(Again::Producer(topic.to_owned())));
        }
    }

    pub(super) fn overdue(&mut self, topic: &str, number: u64, serial: u64, ctx: &mut Ctx<'_>) {
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        if serial == 0
            && let Some(parcel) = publisher.waiting.remove(&number)
        {
            self.news.extend(parcel.tags.into_iter().map(|tag| News::Published { tag, receipt: Err(()) }));
        } else if publisher.serial == serial && publisher.sent.values().any(|(sent, _)| *sent == number) {
            self.renew(topic, ctx);
        }
    }

    pub(super) fn produces(&mut self, topic: &str, ctx: &mut Ctx<'_>) {
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        let Some(connection) = self.connection else { return };
        publisher.state = State::Ready;
        for (sequence_id, (number, parcel)) in &publisher.sent {
            ctx.acts.push(Act::Send(connection, send(publisher.producer_id, *sequence_id, parcel, ctx.now.0)));
            let timer = Timer::Overdue { topic: topic.to_owned(), number: *number, serial: publisher.serial };
            ctx.acts.push(Act::Remind { after_ms: OVERDUE_MS, timer });
        }
        self.pump(topic, ctx);
    }
}

fn send<T>(producer_id: u64, sequence_id: u64, parcel: &Parcel<T>, now_ms: u64) -> Up {
    let facts = Facts {
        hash: parcel.key.as_ref().map_or(0, |key| hash::sticky_hash(key.as_bytes())),
        batch: 0,
        publish_time_ms: now_ms,
        deliver_at_ms: parcel.deliver_at.unwrap_or(0),
    };
    Up::Publish(Box::new(Publish {
        producer_id,
        sequence_id,
        highest_sequence_id: sequence_id,
        facts,
        partial_chunk: false,
        encrypted: false,
        payload: parcel.payload.clone(),
    }))
}
