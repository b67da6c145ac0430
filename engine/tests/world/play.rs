//! A play: an inbox, activity workers, a relay and one owner after the other, until nothing is left to do.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use everpulse_engine::{Eager, Effect, NoEager};
use everpulse_protocol::EventId;
use everpulse_protocol::event::{Event, EventBody, Outcome, Report};
use everpulse_protocol::task::Task;
use everpulse_sdk::definition::Registry;

use super::judge::{Repeats, judge, uncovered};
use super::workflows::{MENDED, Put, Word, number, registry};
use super::{World, done, outcome_of, payload};

/// What a person or another process does when all is quiet.
pub type Act = fn(&mut Play);

pub struct Scenario {
    pub name: &'static str,
    pub eager: bool,
    pub acts: &'static [Act],
    /// What the runs come to.
    pub results: fn() -> Vec<(&'static str, Outcome)>,
}

/// What becomes of an owner's effect, and of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It dies before the effect.
    Before,
    /// It dies after the effect, of which it never hears.
    After,
    /// It is stopped before the effect, and goes on when others are done with its runs.
    Stopped,
}

/// Takes every activity that it is offered.
pub struct Always;

impl Eager for Always {
    fn reserve(&self, _: &Task) -> bool {
        true
    }
    fn release(&self, _: EventId) {}
    fn serves(&self, _: &Task) -> bool {
        true
    }
}

pub struct Play {
    pub world: World,
    pub owner: usize,
    eager: bool,
    /// Inbox frames below this were given to the owner.
    told: usize,
    pub answered: BTreeSet<usize>,
    pub relayed: BTreeSet<usize>,
    stopped: Vec<usize>,
    /// What the next owners have for code, one after the other; the last one stays.
    pub codes: VecDeque<Arc<Registry>>,
    /// Effects carried out so far, by all owners.
    pub effects: usize,
}

/// No scenario needs more turns.
const TURNS_MAX: usize = 20_000;

impl Play {
    pub fn new(eager: bool) -> Self {
        MENDED.set(false);
        let mut play = Self {
            world: World::new(registry()),
            owner: 0,
            eager,
            told: 0,
            answered: BTreeSet::new(),
            relayed: BTreeSet::new(),
            stopped: Vec::new(),
            codes: VecDeque::new(),
            effects: 0,
        };
        // What each owner does is done twice, from the run's beginning, and compared.
        play.world.options.check_determinism = true;
        play.succeed();
        play
    }

    /// Plays on in a world in which much has happened: one more owner comes.
    pub fn adopt(world: World) -> Self {
        let told = world.inbox.len();
        let mut play = Self {
            world,
            owner: 0,
            eager: false,
            told,
            answered: BTreeSet::new(),
            relayed: BTreeSet::new(),
            stopped: Vec::new(),
            codes: VecDeque::new(),
            effects: 0,
        };
        play.succeed();
        play
    }

    /// Another owner comes, and gets what is not acknowledged.
    fn succeed(&mut self) {
        if let Some(code) = self.codes.pop_front() {
            self.world.registry = code;
        }
        let eager: Rc<dyn Eager> = if self.eager { Rc::new(Always) } else { Rc::new(NoEager) };
        self.owner = self.world.owner_with(self.world.registry.clone(), eager);
        for frame in 0..self.told {
            self.world.deliver(self.owner, frame, true);
        }
    }

    pub fn say(&mut self, events: Vec<Event>) {
        self.world.publish(events);
    }

    pub fn start(&mut self, id: &str, workflow: &str, n: u64) {
        let event = self.world.start(id, workflow, number(n));
        self.say(vec![event]);
    }

    pub fn signal(&mut self, id: &str, text: &str) {
        let body = EventBody::Signal {
            headers: None,
            name: "Word".to_owned(),
            value: payload(&Word { text: text.to_owned() }),
        };
        let event = self.world.event(id, None, &body);
        self.say(vec![event]);
    }

    /// Requests an update of the newest run of an id, under the id that such a number has.
    pub fn put(&mut self, id: &str, n: u64) {
        let (update, args) = (format!("put-{n}"), payload(&Put { n }));
        let body = EventBody::Update { id: update, name: "Put".to_owned(), args, patient: true, headers: None };
        let event = self.world.event(id, None, &body);
        self.say(vec![event]);
    }

    /// Completes a promise of the newest run of an id.
    pub fn complete(&mut self, id: &str, step: u32, value: u64) {
        let run = self.world.records().iter().rev().find(|record| record.workflow_id.as_str() == id).map(|r| r.run_id);
        let body = EventBody::PromiseSettled { step, outcome: done(&value) };
        let event = self.world.event(id, run, &body);
        self.say(vec![event]);
    }

    /// Tells of an attempt at the first activity of the newest run of an id.
    pub fn report(&mut self, id: &str, attempt: u32, report: Report) {
        let run = self.world.records().iter().rev().find(|record| record.workflow_id.as_str() == id).map(|r| r.run_id);
        let body = EventBody::AttemptReported { step: 0, attempt, report };
        let event = self.world.event(id, run, &body);
        self.say(vec![event]);
    }

    pub fn resume(&mut self, id: &str) {
        let event = self.world.event(id, None, &EventBody::Resume);
        self.say(vec![event]);
    }

    /// Plays to the end, with owners that fail at the given effects.
    pub fn run(&mut self, acts: &[Act], failures: &[(usize, How)]) {
        let mut acts = acts.iter();
        let mut failures = failures.iter().copied().peekable();
        for _ in 0..TURNS_MAX {
            if self.told < self.world.inbox.len() {
                self.told += 1;
                self.world.deliver(self.owner, self.told - 1, false);
            } else if self.effect(&mut failures) || self.work() {
            } else if let Some(act) = acts.next() {
                act(self);
            } else if self.time() {
            } else if let Some(zombie) = self.stopped.pop() {
                self.world.owners[zombie].alive = true;
                self.world.settle(zombie);
            } else {
                return;
            }
        }
        let (shard, trace) = (&self.world.owners[self.owner].shard, &self.world.trace);
        let mut runs: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
        for record in self.world.records() {
            let run = runs.entry(record.workflow_id.to_string()).or_default();
            run.push(format!("{:?} {} {}", record.body.kind(), record.commands.len(), record.close.is_some()));
        }
        panic!("it does not come to an end: {runs:#?} {shard:?}\n{:?}", &trace[..trace.len().min(60)]);
    }

    /// Plays until nothing is left to do now.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.told < self.world.inbox.len() {
                self.told += 1;
                self.world.deliver(self.owner, self.told - 1, false);
            } else if !self.effect(&mut std::iter::empty().peekable()) && !self.work() {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.world.owners[self.owner].shard);
    }

    fn effect(&mut self, failures: &mut std::iter::Peekable<impl Iterator<Item = (usize, How)>>) -> bool {
        self.world.collect(self.owner);
        let Some(effect) = self.world.owners[self.owner].waiting.pop_front() else { return false };
        let how = failures.next_if(|(at, _)| *at <= self.effects).map(|(_, how)| how);
        self.effects += 1;
        let is_ack = matches!(effect, Effect::Ack { .. });
        match how {
            None => {
                if let Some(answer) = self.world.happen(self.owner, effect) {
                    self.world.answer(self.owner, answer);
                }
            }
            Some(How::Stopped) => {
                self.world.owners[self.owner].waiting.push_front(effect);
                self.world.owners[self.owner].alive = false;
                self.stopped.push(self.owner);
                self.succeed();
            }
            Some(how) => {
                if how == How::After {
                    let _ = self.world.happen(self.owner, effect);
                }
                self.world.crash(self.owner);
                self.succeed();
            }
        }
        // Whoever does anything may be gone now.
        if is_ack && let Some(left) = uncovered(&self.world, &self.relayed) {
            panic!("{left}: {:?}", self.world.trace);
        }
        true
    }

    /// Activity workers answer each task as often as it is in the queue.
    fn work(&mut self) -> bool {
        for place in 0..self.world.queue.len() {
            let task = self.world.queue[place].clone();
            if task.activity == "slow" && !self.world.cancelled.contains(&task.id) || !self.answered.insert(place) {
                continue;
            }
            let event = match &task.returned {
                Some(failure) => self.world.judged(&task, failure.clone()),
                None if task.activity == "signs" => self.world.left(&task),
                None => self.world.settled(&task, outcome_of(&task)),
            };
            self.say(vec![event]);
            return true;
        }
        false
    }

    /// Nothing is left to do now: to the next deadline or wake-up.
    fn time(&mut self) -> bool {
        let world = &mut self.world;
        let waiting = world.timers.iter().enumerate().filter(|(place, _)| !self.relayed.contains(place));
        let wake = waiting.map(|(_, wake)| wake.due).min();
        let deadlines = (0..world.owners.len()).filter_map(|owner| world.deadline(owner));
        let Some(next) = deadlines.chain(wake).min() else { return false };
        world.now = world.now.max(next);
        self.relay();
        for owner in 0..self.world.owners.len() {
            if self.world.deadline(owner).is_some_and(|deadline| deadline <= self.world.now) {
                let now = self.world.clock(owner);
                self.world.owners[owner].shard.handle_tick(now);
                if owner != self.owner {
                    self.world.settle(owner);
                }
            }
        }
        true
    }

    fn relay(&mut self) {
        for place in 0..self.world.timers.len() {
            if self.world.timers[place].due <= self.world.now && self.relayed.insert(place) {
                let event = self.world.wake(self.world.timers[place]);
                self.say(vec![event]);
            }
        }
    }

    /// The runs came to what was to be expected, nothing is left, and history is in order.
    pub fn check(&self, results: Vec<(&str, Outcome)>) -> Repeats {
        for (id, outcome) in results {
            assert_eq!(self.world.result(id), Some(outcome), "{id}");
        }
        assert_eq!(self.world.unacked(), 0, "all is acknowledged");
        for owner in self.world.owners.iter().filter(|owner| owner.alive) {
            let status = owner.shard.status();
            assert!(status.idle, "{status:?}");
            assert_eq!(owner.shard.poll_deadline(), None, "nothing is awaited");
        }
        // A zombie's book may be old; its owner's is not.
        assert_eq!(self.world.owners[self.owner].shard.status().open_runs, 0);
        judge(&self.world)
    }
}
