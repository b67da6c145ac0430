//! Whatever happens in whatever order: nothing is lost, nothing acknowledged comes again, and keys keep their
//! consumer and their order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        key: u32,
        delay_ms: u64,
    },
    Join,
    Leave(usize),
    Flow(usize, u32),
    Ack(usize),
    AckUpTo(usize),
    Again(usize),
    AllAgain(usize),
    Wait(u64),
    /// The log lets go of what is acknowledged, of the newest too or only of what was there the last time.
    Trim(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u32..6, prop_oneof![4 => Just(0), 1 => 1u64..500]).prop_map(|(key, delay_ms)| Step::Publish { key, delay_ms }),
        2 => Just(Step::Join),
        1 => any::<usize>().prop_map(Step::Leave),
        3 => (any::<usize>(), 1u32..8).prop_map(|(consumer, permits)| Step::Flow(consumer, permits)),
        5 => any::<usize>().prop_map(Step::Ack),
        1 => any::<usize>().prop_map(Step::AckUpTo),
        2 => any::<usize>().prop_map(Step::Again),
        1 => any::<usize>().prop_map(Step::AllAgain),
        1 => (1u64..300).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Trim),
    ]
}

/// What the consumers know of it all.
struct Model {
    world: World,
    kind: Kind,
    durable: bool,
    keys: selector::KeyPolicy,
    /// Key of each entry, and when it may go.
    sent: Vec<(u32, u64)>,
    /// Or let go of by the log before, which waits for durable subscriptions only.
    acked: BTreeSet<u64>,
    /// Where each entry is that was delivered and neither acknowledged nor given back. Where one consumer gets
    /// everything: what was delivered at all, since everything comes again whenever another one does.
    held: BTreeMap<u64, u64>,
    consumers: Vec<ConsumerKey>,
    next_consumer: u64,
}

fn pick<T: Clone>(all: &[T], index: usize) -> Option<T> {
    (!all.is_empty()).then(|| all[index % all.len()].clone())
}

impl Model {
    fn new(kind: Kind, durable: bool, out_of_order: bool) -> Model {
        let keys = selector::KeyPolicy { sticky: false, out_of_order };
        let (acked, held, consumers) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Model { world: world(), kind, durable, keys, sent: Vec::new(), acked, held, consumers, next_consumer: 1 }
    }

    fn is_single(&self) -> bool {
        matches!(self.kind, Kind::Exclusive | Kind::Failover)
    }

    fn join(&mut self, permits: u32) {
        if self.kind == Kind::Exclusive && !self.consumers.is_empty() {
            return;
        }
        let key = ConsumerKey { connection: CLIENT, consumer_id: self.next_consumer };
        self.next_consumer += 1;
        self.broker_subscribe(key);
        self.world.broker.handle_flow(key, permits);
        self.consumers.push(key);
    }

    fn broker_subscribe(&mut self, key: ConsumerKey) {
        let out = self.world.subscribe_as(key.connection, key.consumer_id, |request| {
            (request.kind, request.durable, request.keys) = (self.kind, self.durable, self.keys);
        });
        assert!(out.iter().any(|effect| matches!(effect, Effect::Success { .. })), "{out:?}");
        self.world.out.extend(out);
    }

    fn ack(&mut self, entry: u64) {
        let Some(consumer) = self.consumers.first().copied() else { return };
        self.acked.insert(entry);
        self.held.remove(&entry);
        self.world.ack(consumer, &[entry]);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish { key, delay_ms } => {
                // Delayed messages may be passed by later ones of their key.
                let delay_ms = if self.kind == Kind::Shared { delay_ms } else { 0 };
                let due = if delay_ms > 0 { self.world.now_ms + delay_ms } else { 0 };
                let hash = hash::sticky_hash(&key.to_be_bytes());
                let publish_time_ms = self.world.now_ms;
                self.world.send_as(Facts { hash, deliver_at_ms: due, publish_time_ms, ..Facts::default() }, "x");
                self.sent.push((key, due));
            }
            Step::Join if self.consumers.len() < 4 => self.join(3),
            Step::Join => {}
            Step::Leave(index) => {
                let Some(gone) = pick(&self.consumers, index) else { return };
                self.consumers.retain(|consumer| *consumer != gone);
                if !self.is_single() {
                    self.held.retain(|_, consumer| *consumer != gone.consumer_id);
                }
                self.world.broker.handle_close_consumer(gone, 9);
                if !self.durable && self.consumers.is_empty() {
                    // The subscription is gone, too; the next one begins at what the log has.
                    self.held.clear();
                    self.acked = (0..self.base()).collect();
                }
            }
            Step::Flow(index, permits) => {
                if let Some(consumer) = pick(&self.consumers, index) {
                    self.world.broker.handle_flow(consumer, permits);
                }
            }
            Step::Ack(index) => {
                let held: Vec<u64> = self.held.keys().copied().collect();
                if let Some(entry) = pick(&held, index) {
                    self.ack(entry);
                }
            }
            Step::AckUpTo(index) => {
                let held: Vec<u64> = self.held.keys().copied().collect();
                if self.is_single()
                    && let (Some(entry), Some(consumer)) = (pick(&held, index), self.consumers.first().copied())
                {
                    self.acked.extend(0..=entry);
                    self.held.retain(|other, _| *other > entry);
                    let id = self.world.id(entry);
                    self.world.broker.handle_ack(consumer, true, &[id]).expect("acked");
                }
            }
            Step::Again(index) => {
                let held: Vec<(u64, u64)> = self.held.iter().map(|(entry, at)| (*entry, *at)).collect();
                if let Some((entry, at)) = pick(&held, index).filter(|_| !self.is_single()) {
                    self.held.remove(&entry);
                    let id = self.world.id(entry);
                    let consumer = ConsumerKey { connection: CLIENT, consumer_id: at };
                    self.world.broker.handle_redeliver(consumer, &[id.position], None);
                }
            }
            Step::AllAgain(index) => {
                if let Some(consumer) = pick(&self.consumers, index) {
                    if !self.is_single() {
                        self.held.retain(|_, at| *at != consumer.consumer_id);
                    }
                    self.world.broker.handle_redeliver(consumer, &[], None);
                }
            }
            Step::Wait(ms) => {
                self.world.now_ms += ms;
                self.world.broker.handle_timeout(self.world.now_ms);
            }
            Step::Trim(newest) => {
                if newest {
                    self.world.begin_segment();
                }
                self.world.broker.handle_retention(self.world.now_ms, self.world.segment());
                if !newest {
                    self.world.begin_segment();
                }
                let base = self.base();
                let kept = (0..base).all(|entry| self.acked.contains(&entry));
                assert!(kept || !self.durable, "the log let go of what is not acknowledged");
                self.acked.extend(0..base);
                self.held = self.held.split_off(&base);
            }
        }
        self.look();
        self.recount();
    }

    /// The first entry that the log has.
    fn base(&self) -> u64 {
        let topic = self.world.broker.topic(&TopicName::parse("t").expect("valid"));
        topic.expect("exists").log.base()
    }

    /// What the stats say is what counting everything anew gives.
    fn recount(&self) {
        for topic in self.world.broker.topics.values() {
            let stats = self.world.broker.topic_stats(&topic.name).expect("exists");
            assert_eq!(stats.bytes, topic.log.iter().map(|(_, entry)| u64::from(entry.location.len)).sum::<u64>());
            for (subscription, stats) in topic.subscriptions.values().zip(&stats.subscriptions) {
                let left = topic.log.iter().filter(|(offset, _)| !subscription.cursor().is_acked(*offset));
                let left: Vec<u64> = left.map(|(_, entry)| u64::from(entry.location.len)).collect();
                assert_eq!((stats.backlog, stats.backlog_bytes), (left.len() as u64, left.iter().sum()));
                let (unacked, draining) = subscription.recounted();
                assert_eq!((stats.unacked, stats.keys.as_ref().map(|keys| keys.draining)), (unacked, draining));
                let consumers = stats.consumers.iter().map(|consumer| consumer.unacked);
                assert_eq!(consumers.sum::<u64>(), unacked);
                assert!(subscription.pending().all(|offset| offset >= topic.log.base()), "nobody can ack what is gone");
            }
        }
    }

    /// Takes what was delivered and checks it.
    fn look(&mut self) {
        for (consumer, entry, _) in self.world.delivered() {
            assert!(!self.acked.contains(&entry), "{entry} came after it was acknowledged");
            let (key, due) = self.sent[entry as usize];
            assert!(due <= self.world.now_ms, "{entry} came too early");
            let before = self.held.insert(entry, consumer);
            if self.is_single() {
                let missing = (0..entry).find(|other| !self.acked.contains(other) && !self.held.contains_key(other));
                assert_eq!(missing, None, "{entry} overtook another");
                continue;
            }
            assert_eq!(before, None, "{entry} is at two consumers");
            if self.kind == Kind::KeyShared && !self.keys.out_of_order {
                for (other, at) in &self.held {
                    assert!(self.sent[*other as usize].0 != key || *at == consumer, "key {key} is at two consumers");
                }
                for other in (0..entry).filter(|other| self.sent[*other as usize].0 == key) {
                    let known = self.acked.contains(&other) || self.held.contains_key(&other);
                    assert!(known, "{entry} overtook {other} of its key");
                }
            }
        }
    }

    fn finish(mut self) {
        let unacked: Vec<u64> = (0..self.sent.len() as u64).filter(|entry| !self.acked.contains(entry)).collect();
        let stats = |world: &World| backlog::stats(world);
        // After a restart, what was not acknowledged is there, and nothing else.
        if self.durable {
            self.world.broker.save_cursors();
            self.world.settle();
            assert_eq!(stats(&self.world).backlog, unacked.len() as u64);
            let mut again = restoring::restarted(&self.world, None);
            again.now_ms = self.world.now_ms + 1000;
            again.consumer(1, self.kind, 1_000_000);
            let mut entries = again.entries();
            entries.sort_unstable();
            assert_eq!(entries, unacked);
        }
        // And without one, everything is at a consumer once it is due and there are permits.
        self.join(0);
        for consumer in self.consumers.clone() {
            self.world.broker.handle_flow(consumer, 1_000_000);
        }
        self.apply(Step::Wait(1000));
        // A key that moved comes to its new consumer when the former one has acknowledged what it has.
        let mut left = unacked.clone();
        while !left.is_empty() {
            let held: Vec<u64> = self.held.keys().copied().collect();
            assert!(!held.is_empty(), "{left:?} are at nobody");
            for entry in held {
                self.ack(entry);
            }
            left.retain(|entry| !self.acked.contains(entry));
            self.look();
        }
        let stats = stats(&self.world);
        assert_eq!((stats.backlog, stats.unacked, stats.delayed), (0, 0, 0));
        assert_eq!(stats.keys.map_or(0, |keys| keys.draining.keys), 0);
        assert!(stats.consumers.iter().all(|consumer| consumer.unacked == 0));
    }
}

fn run(kind: Kind, durable: bool, out_of_order: bool, steps: Vec<Step>) {
    let mut model = Model::new(kind, durable, out_of_order);
    // So that the subscription is there from the first message on.
    model.join(3);
    for step in steps {
        model.apply(step);
    }
    model.finish();
}

fn durable() -> impl Strategy<Value = bool> {
    prop_oneof![2 => Just(true), 1 => Just(false)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(180))]

    #[test]
    fn shared(durable in durable(), steps in proptest::collection::vec(step(), 0..120)) {
        run(Kind::Shared, durable, false, steps);
    }

    #[test]
    fn key_shared_in_order(durable in durable(), steps in proptest::collection::vec(step(), 0..120)) {
        run(Kind::KeyShared, durable, false, steps);
    }

    #[test]
    fn key_shared_out_of_order(durable in durable(), steps in proptest::collection::vec(step(), 0..120)) {
        run(Kind::KeyShared, durable, true, steps);
    }

    #[test]
    fn failover(durable in durable(), steps in proptest::collection::vec(step(), 0..120)) {
        run(Kind::Failover, durable, false, steps);
    }

    #[test]
    fn exclusive(durable in durable(), steps in proptest::collection::vec(step(), 0..120)) {
        run(Kind::Exclusive, durable, false, steps);
    }
}
