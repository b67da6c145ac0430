//! Several shards, each a world of its own: what runs of one tell those of another crosses from one inbox to the other.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::Record;
use everpulse_protocol::{EventId, Payload, RunId, WorkflowId, shard};
use everpulse_sdk::definition::Registry;
use uuid::Uuid;

use super::judge::{families, judge};
use super::play::How;
use super::workflows::{MENDED, Word, number};
use super::{World, outcome_of, payload};

/// No play needs more turns.
const TURNS_MAX: usize = 50_000;

pub struct Across {
    pub worlds: Vec<World>,
    /// The owner that each shard has now.
    owners: Vec<usize>,
    told: Vec<usize>,
    answered: BTreeSet<(usize, usize)>,
    relayed: BTreeSet<(usize, usize)>,
    stopped: Vec<(usize, usize)>,
    /// What crosses comes twice.
    pub doubles: bool,
    /// What crosses comes in the reverse order.
    pub reverses: bool,
    /// Effects carried out so far, by all owners.
    pub effects: usize,
    next_id: u128,
}

impl Across {
    pub fn new(registry: &Registry, shards: u32) -> Self {
        MENDED.set(false);
        let world = |shard| World { shard, shards, ..World::new(registry.clone()) };
        let mut across = Self {
            worlds: (0..shards).map(world).collect(),
            owners: vec![0; shards as usize],
            told: vec![0; shards as usize],
            answered: BTreeSet::new(),
            relayed: BTreeSet::new(),
            stopped: Vec::new(),
            doubles: false,
            reverses: false,
            effects: 0,
            next_id: 1 << 80,
        };
        for at in 0..across.worlds.len() {
            across.worlds[at].options.check_determinism = true;
            across.succeed(at);
        }
        across
    }

    fn succeed(&mut self, at: usize) {
        let world = &mut self.worlds[at];
        self.owners[at] = world.owner();
        for frame in 0..self.told[at] {
            world.deliver(self.owners[at], frame, true);
        }
    }

    fn place(&self, id: &WorkflowId) -> usize {
        shard::of(id, self.worlds.len() as u32) as usize
    }

    pub fn start(&mut self, id: &str, workflow: &str, n: u64) {
        self.start_with(id, workflow, number(n));
    }

    pub fn start_with(&mut self, id: &str, workflow: &str, args: Payload) {
        let at = self.place(&WorkflowId::new(id).expect("a good id"));
        let start = self.worlds[at].start(id, workflow, args);
        self.say(at, start);
    }

    pub fn signal(&mut self, id: &str, text: &str) {
        let body = EventBody::Signal {
            headers: None,
            name: "Word".to_owned(),
            value: payload(&Word { text: text.to_owned() }),
        };
        self.ask(id, &body);
    }

    pub fn ask(&mut self, id: &str, body: &EventBody) {
        let at = self.place(&WorkflowId::new(id).expect("a good id"));
        let event = self.worlds[at].event(id, None, body);
        self.say(at, event);
    }

    fn say(&mut self, at: usize, mut event: Event) {
        // The worlds draw the same numbers.
        self.next_id += 1;
        event.id = EventId(Uuid::from_u128(self.next_id));
        self.worlds[at].publish(vec![event]);
    }

    /// What was sent to other shards arrives there.
    fn cross(&mut self) {
        let mut crossing: Vec<Event> = self.worlds.iter_mut().flat_map(|world| world.outside.drain(..)).collect();
        if self.reverses {
            crossing.reverse();
        }
        for event in crossing {
            let at = self.place(&event.workflow_id);
            for _ in 0..=usize::from(self.doubles) {
                self.worlds[at].publish(vec![event.clone()]);
            }
        }
    }

    /// Plays to the end, with owners that fail at the given effects. `acts`: what clients do when all is quiet.
    pub fn run(&mut self, acts: &[fn(&mut Self)], failures: &[(usize, How)]) {
        let mut acts = acts.iter();
        let mut failures = failures.iter().copied().peekable();
        for _ in 0..TURNS_MAX {
            let undelivered = (0..self.worlds.len()).find(|at| self.told[*at] < self.worlds[*at].inbox.len());
            if let Some(at) = undelivered {
                self.told[at] += 1;
                self.worlds[at].deliver(self.owners[at], self.told[at] - 1, false);
            } else if (0..self.worlds.len()).any(|at| self.effect(at, &mut failures)) || self.work() {
            } else if self.worlds.iter().any(|world| !world.outside.is_empty()) {
                self.cross();
            } else if let Some(act) = acts.next() {
                act(self);
            } else if self.time() {
            } else if let Some((at, zombie)) = self.stopped.pop() {
                self.worlds[at].owners[zombie].alive = true;
                self.worlds[at].settle(zombie);
            } else {
                return;
            }
        }
        let shown: Vec<_> = self.worlds.iter().zip(&self.owners).map(|(world, at)| &world.owners[*at].shard).collect();
        let trace = &self.worlds[0].trace;
        panic!("it does not come to an end: {shown:?} {:?}", &trace[trace.len().saturating_sub(60)..]);
    }

    fn effect(&mut self, at: usize, failures: &mut std::iter::Peekable<impl Iterator<Item = (usize, How)>>) -> bool {
        let owner = self.owners[at];
        let world = &mut self.worlds[at];
        world.collect(owner);
        let Some(effect) = world.owners[owner].waiting.pop_front() else { return false };
        let how = failures.next_if(|(point, _)| *point <= self.effects).map(|(_, how)| how);
        self.effects += 1;
        match how {
            None => {
                if let Some(answer) = world.happen(owner, effect) {
                    world.answer(owner, answer);
                }
                return true;
            }
            Some(How::Stopped) => {
                world.owners[owner].waiting.push_front(effect);
                world.owners[owner].alive = false;
                self.stopped.push((at, owner));
            }
            Some(how) => {
                if how == How::After {
                    let _ = world.happen(owner, effect);
                }
                world.crash(owner);
            }
        }
        self.succeed(at);
        true
    }

    fn work(&mut self) -> bool {
        for at in 0..self.worlds.len() {
            for place in 0..self.worlds[at].queue.len() {
                if self.answered.insert((at, place)) {
                    let task = self.worlds[at].queue[place].clone();
                    let event = self.worlds[at].settled(&task, outcome_of(&task));
                    self.worlds[at].publish(vec![event]);
                    return true;
                }
            }
        }
        false
    }

    /// Nothing is left to do now: to the next deadline or wake-up of any shard.
    fn time(&mut self) -> bool {
        let waits = |at: usize, world: &World| {
            let timers = world.timers.iter().enumerate().filter(|(place, _)| !self.relayed.contains(&(at, *place)));
            let deadlines = (0..world.owners.len()).filter_map(|owner| world.deadline(owner));
            timers.map(|(_, wake)| wake.due).chain(deadlines).min()
        };
        let next = self.worlds.iter().enumerate().filter_map(|(at, world)| waits(at, world)).min();
        let Some(next) = next else { return false };
        for at in 0..self.worlds.len() {
            self.worlds[at].now = self.worlds[at].now.max(next);
            for place in 0..self.worlds[at].timers.len() {
                if self.worlds[at].timers[place].due <= next && self.relayed.insert((at, place)) {
                    let wake = self.worlds[at].timers[place];
                    let event = self.worlds[at].wake(wake);
                    self.say(at, event);
                }
            }
            for owner in 0..self.worlds[at].owners.len() {
                if self.worlds[at].deadline(owner).is_some_and(|deadline| deadline <= next) {
                    self.worlds[at].tick(owner);
                    if owner != self.owners[at] {
                        self.worlds[at].settle(owner);
                    }
                }
            }
        }
        true
    }

    /// Each history is in order, and so is what they say of each other.
    pub fn check(&self) -> BTreeMap<RunId, Vec<Record>> {
        let mut runs: BTreeMap<RunId, Vec<Record>> = BTreeMap::new();
        for (at, world) in self.worlds.iter().enumerate() {
            judge(world);
            assert_eq!(world.unacked(), 0, "all is acknowledged");
            let status = world.owners[self.owners[at]].shard.status();
            assert!(status.idle, "{status:?}");
            for record in world.records() {
                runs.entry(record.run_id).or_default().push(record);
            }
        }
        families(&runs.iter().map(|(run, records)| (*run, records.iter().collect())).collect());
        runs
    }

    /// How a run ended, in a word or by its value.
    pub fn end(&self, id: &str) -> String {
        let world = &self.worlds[self.place(&WorkflowId::new(id).expect("a good id"))];
        let records = world.records();
        let ends = records.iter().filter(|record| record.workflow_id.as_str() == id);
        let ends: Vec<_> = ends.filter_map(|record| record.close.as_ref()).collect();
        match ends.as_slice() {
            [] => "open".to_owned(),
            ends => ends.iter().map(|close| super::shown(close)).collect::<Vec<_>>().join(", "),
        }
    }
}
