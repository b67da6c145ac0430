//! Power failures in simulation: a broker on a disk that keeps what was synced and any part of the rest.
//!
//! The promises of durable mode, checked by the model that also judges killed processes: what has a receipt is there,
//! in order, once; acks are known up to some point. Also while the disk is full, while a sync fails, and if the power
//! fails again during recovery. `EVERPULSE_SEEDS` is how many histories, `EVERPULSE_SEED` the first one.

#[path = "../../tests/support/dice.rs"]
mod dice;
#[path = "../../tests/kill/model.rs"]
mod model;

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use self::dice::Dice;
use self::model::{Id, Position, Topic};
use super::simulated::{Chance, MemoryFiles};
use super::*;
use crate::semantics::{
    Broker, ConnectionId, ConsumerKey, CreateProducer, Effect, Facts, Kind, Location, Publish, Source, Subscribe,
};
use crate::storage::record::Message;
use crate::storage::writer::Item;

const DIR: &str = "/broker";
const TOPICS: [&str; 2] = ["a", "b"];
const CONNECTION: ConnectionId = ConnectionId(1);

/// A broker, its log and its disk, all by hand.
struct World {
    files: MemoryFiles,
    broker: Broker,
    storage: Storage,
    by_hand: ByHand,
    completions: Arc<Mutex<Vec<Completion>>>,
    now_ms: u64,
    snapshot_wanted: bool,
    /// Segments that were not read, since they had an index.
    indexed: usize,
    /// Everything that clients were told since it was last taken.
    told: Vec<Told>,
}

enum Told {
    Receipt { topic: usize, id: Id, position: Position },
    Failed { topic: usize },
    Delivered { topic: usize, id: Id, position: Position },
}

fn options(files: &MemoryFiles, dice: &mut Dice) -> Options {
    let segment_bytes = [2048, 8192, 60_000][dice.below(3) as usize];
    // No cache: what is read comes from the disk.
    Options { segment_bytes, cache_bytes: 0, files: Arc::new(files.clone()), ..Options::default() }
}

impl World {
    fn open(files: &MemoryFiles, dice: &mut Dice) -> Result<World, Error> {
        let bare = files.copied();
        let (broker, recovered) = recover(files, Path::new(DIR))?;
        let indexed = recovered.segments.len().saturating_sub(recovered.segments_read);
        if indexed > 0 {
            // What indexes say is what the segments say.
            tests::forget_indexes(&bare, Path::new(DIR));
            let (read, _) = recover(&bare, Path::new(DIR))?;
            assert_eq!(tests::describe(&broker), tests::describe(&read));
        }
        let completions: Arc<Mutex<Vec<Completion>>> = Arc::default();
        let sink = completions.clone();
        let needed = broker.entries_per_segment();
        let started = Storage::by_hand(Path::new(DIR), options(files, dice), &recovered, needed, move |completion| {
            sink.lock().expect("no panic").push(completion);
        });
        let (storage, by_hand) = started.map_err(Error::io("open", DIR))?;
        let files = files.clone();
        let (told, snapshot_wanted) = (Vec::new(), true);
        Ok(World { files, broker, storage, by_hand, completions, now_ms: 1_000_000, snapshot_wanted, indexed, told })
    }

    /// Gives the log what follows from what happened; it writes in [`World::step`].
    fn settle(&mut self) {
        let mut effects = Vec::new();
        loop {
            self.broker.poll_effects(self.now_ms, &mut effects);
            if effects.is_empty() {
                break;
            }
            let mut items = Vec::new();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append { topic, position, facts, origin, payload } => {
                        items.push(Item::Message(Message { topic, position, facts, origin, payload }));
                    }
                    Effect::Log(change) => items.push(Item::Change(serde_json::to_vec(&change).expect("plain data"))),
                    Effect::Released { segment, entries } => self.storage.release(segment, entries),
                    Effect::Receipt { producer_id, sequence_id, position, .. } => {
                        let position = position.expect("no deduplication");
                        let (topic, id) = sender(producer_id, sequence_id);
                        let position = (position.ledger, position.entry);
                        self.told.push(Told::Receipt { topic, id, position });
                    }
                    Effect::SendError { producer_id, sequence_id, .. } => {
                        self.told.push(Told::Failed { topic: sender(producer_id, sequence_id).0 });
                    }
                    Effect::Deliver { consumer, position, source: Source::Stored(at), .. } => {
                        let Some(payload) = self.read(at) else { continue };
                        let (topic, position) = (consumer.consumer_id as usize, (position.ledger, position.entry));
                        self.told.push(Told::Delivered { topic, id: Id::of(&payload), position });
                    }
                    _ => {}
                }
            }
            self.storage.submit(&mut items);
        }
        if std::mem::take(&mut self.snapshot_wanted) {
            self.storage.store_snapshot(&self.broker.snapshot());
        }
    }

    /// After a power failure nothing can be read, and nobody would hear of it.
    fn read(&self, at: Location) -> Option<Bytes> {
        let payload = self.storage.reader().read(at);
        if self.files.has_failed() { None } else { Some(payload.expect("what is delivered can be read")) }
    }

    fn step(&mut self) {
        self.settle();
        self.by_hand.step();
        for completion in std::mem::take(&mut *self.completions.lock().expect("no panic")) {
            match &completion {
                Completion::Stored { locations, .. } => {
                    locations.iter().for_each(|location| self.broker.handle_appended(self.now_ms, *location));
                }
                Completion::Failed { count, reason, .. } => {
                    (0..*count).for_each(|_| self.broker.handle_append_failed(reason));
                }
                _ => {}
            }
            self.snapshot_wanted |= self.storage.handle_completion(&completion);
        }
        self.settle();
    }

    fn tick(&mut self) {
        self.now_ms += 1000;
        self.broker.handle_tick(self.now_ms);
        self.broker.handle_retention(self.now_ms, self.storage.open_segment());
        self.settle();
        self.snapshot_wanted |= self.storage.wants_snapshot();
        self.settle();
    }

    fn subscribe(&mut self, topic: usize) {
        let consumer_id = topic as u64;
        let subscribe = Subscribe {
            topic: TOPICS[topic].into(),
            subscription: "all".into(),
            kind: Kind::Shared,
            consumer_id,
            request_id: 1,
            name: None,
            priority: 0,
            durable: true,
            start: None,
            earliest: true,
            create_topic: true,
            metadata: Default::default(),
            properties: Default::default(),
            epoch: None,
            read_compacted: false,
            schema: None,
            keys: Default::default(),
            ranges: Vec::new(),
        };
        self.broker.handle_subscribe(CONNECTION, subscribe);
        self.broker.handle_flow(ConsumerKey { connection: CONNECTION, consumer_id }, 1_000_000);
    }

    fn produce(&mut self, producer_id: u64) {
        let topic = TOPICS[sender(producer_id, 0).0].into();
        let create = CreateProducer { topic, producer_id, request_id: 2, ..CreateProducer::default() };
        self.broker.handle_create_producer(CONNECTION, create);
    }

    fn publish(&mut self, producer_id: u64, n: u64, filler: usize) {
        let (_, id) = sender(producer_id, n);
        let payload = Bytes::from(id.payload(filler));
        let (sequence_id, highest_sequence_id, facts) = (n, 0, Facts::default());
        let publish = Publish {
            producer_id,
            sequence_id,
            highest_sequence_id,
            facts,
            partial_chunk: false,
            encrypted: false,
            payload,
        };
        self.broker.handle_publish(CONNECTION, publish);
    }
}

/// A producer id says topic and life.
fn producer_id(topic: usize, life: u32) -> u64 {
    u64::from(life) * TOPICS.len() as u64 + topic as u64
}

fn sender(producer_id: u64, n: u64) -> (usize, Id) {
    let topics = TOPICS.len() as u64;
    ((producer_id % topics) as usize, Id { producer: 0, life: (producer_id / topics) as u32, n })
}

/// One history: some lives of a broker, each ended by the power. How many messages had a receipt, and how many segments
/// were recovered by their index.
fn history(seed: u64) -> (usize, usize) {
    let mut dice = Dice::new(seed);
    let mut chance: Chance = Box::new({
        let mut dice = dice.fork();
        move || dice.next()
    });
    let mut files = MemoryFiles::default();
    let mut topics: [Topic; 2] = Default::default();
    let (mut receipts, mut indexed) = (0, 0);
    for life in 1..=3 + dice.below(3) as u32 {
        let mut world = loop {
            if dice.one_in(3) {
                files.fail_after(dice.below(6));
            }
            let opened = World::open(&files, &mut dice);
            if files.has_failed() {
                files = files.after_power_failure(&mut chance);
                continue;
            }
            files.disarm();
            break opened.unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        };
        indexed += world.indexed;
        (0..TOPICS.len()).for_each(|topic| world.subscribe(topic));
        (0..TOPICS.len()).for_each(|topic| world.produce(producer_id(topic, life)));
        world.step();
        let mut delivered: [Vec<(Id, Position)>; 2] = Default::default();
        for told in world.told.drain(..) {
            if let Told::Delivered { topic, id, position } = told {
                delivered[topic].push((id, position));
            }
        }
        for (topic, delivered) in topics.iter_mut().zip(&delivered) {
            topic.handle_restart(delivered);
        }
        receipts += live(&mut world, life, &mut dice, &mut topics, delivered);
        if dice.one_in(3) {
            // Only the process ended. What the next one finds need not be on disk when the power fails then, and what a
            // failed sync has left in the cache never will be by itself.
            drop(world);
            files.after_kill();
        } else {
            files = files.after_power_failure(&mut chance);
        }
    }
    (receipts, indexed)
}

/// A broker at work until the power fails.
fn live(
    world: &mut World,
    life: u32,
    dice: &mut Dice,
    topics: &mut [Topic; 2],
    mut held: [Vec<(Id, Position)>; 2],
) -> usize {
    let mut receipts = 0;
    let mut next = [0; 2];
    world.files.fail_after(dice.below(150));
    while !world.files.has_failed() {
        let topic = dice.below(2) as usize;
        match dice.below(12) {
            0..4 => {
                for _ in 0..dice.below(12) {
                    let filler = if dice.one_in(10) { 6000 } else { 300 };
                    world.publish(producer_id(topic, life), next[topic], dice.below(filler) as usize);
                    next[topic] += 1;
                }
            }
            4..7 => {
                for _ in 0..dice.below(8).min(held[topic].len() as u64) {
                    let at = dice.below(held[topic].len() as u64) as usize;
                    let (id, (ledger, entry)) = held[topic].swap_remove(at);
                    topics[topic].handle_ack(id);
                    let consumer = ConsumerKey { connection: CONNECTION, consumer_id: topic as u64 };
                    let position = crate::semantics::Position { ledger, entry };
                    let message = crate::semantics::MessageId { position, ack_set: Vec::new() };
                    world.broker.handle_ack(consumer, false, &[message]).expect("a consumer");
                }
            }
            7 => world.tick(),
            8 if dice.one_in(4) => world.files.fail_syncs(1 + dice.below(3)),
            9 if dice.one_in(3) => {
                let room = dice.one_in(2).then(|| world.files.used() + dice.below(5000));
                world.files.set_capacity(room);
            }
            _ => world.step(),
        }
        for told in std::mem::take(&mut world.told) {
            match told {
                Told::Receipt { topic, id, position } => {
                    topics[topic].handle_receipt(id, Some(position));
                    receipts += 1;
                }
                Told::Delivered { topic, id, position } => {
                    topics[topic].handle_delivery(id, position);
                    held[topic].push((id, position));
                }
                // As a client does. It is refused while the disk refuses.
                Told::Failed { topic } => world.produce(producer_id(topic, life)),
            }
        }
    }
    receipts
}

#[test]
fn what_has_a_receipt_survives_power_failures() {
    let seeds: u64 = std::env::var("EVERPULSE_SEEDS").map_or(100, |text| text.parse().expect("a number"));
    let first = dice::seed();
    let (mut receipts, mut indexed) = (0, 0);
    for seed in first..first + seeds {
        let history = std::panic::catch_unwind(|| history(seed));
        let history = history.unwrap_or_else(|_| panic!("repeat it by EVERPULSE_SEED={seed} EVERPULSE_SEEDS=1"));
        (receipts, indexed) = (receipts + history.0, indexed + history.1);
    }
    assert!(receipts > 0, "nothing was ever stored");
    assert!(indexed > 0, "no index was ever used");
    eprintln!("{seeds} histories, {receipts} receipts, {indexed} segments not read");
}
