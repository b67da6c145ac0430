//! The lanes of the only queue: which priorities tasks have here, and how far a process knows which lanes are in use.
//!
//! As in `everpulse-worker`: what is sent into a lane is sent after its name is confirmed in `lanes`, which every worker reads. That
//! the topics of all lanes are there before is the set-up's here.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::priority::{Lane, Priority};
use everpulse_protocol::task::Task;

use crate::dice::Dice;
use crate::workflows::QUEUE;

/// What a run says of its urgency, where any does.
pub fn draw(dice: &mut Dice) -> Priority {
    all_priorities().into_iter().nth(dice.below(4) as usize).unwrap_or_default()
}

fn all_priorities() -> [Priority; 4] {
    let keyed = |level, key: &str| Priority { level, key: Some(key.to_owned()), weight: None };
    let urgent = Priority { level: Some(1), ..Priority::default() };
    [Priority::default(), urgent, keyed(None, "acme"), keyed(Some(5), "globex")]
}

/// All lanes in which there may be anything.
pub fn all() -> Vec<Lane> {
    all_priorities().iter().map(|priority| priority.lane(QUEUE)).collect()
}

/// A part of the queue, as a short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub level: u8,
    bucket: Option<u8>,
}

impl Part {
    pub fn of(lane: &Lane) -> Self {
        Self { level: lane.level, bucket: lane.bucket }
    }

    pub fn lane(self) -> Lane {
        Lane { queue: QUEUE.to_owned(), level: self.level, bucket: self.bucket }
    }
}

/// Which lanes are in use, as far as a process knows, and its tasks for others.
#[derive(Debug)]
pub struct Directory<T> {
    known: BTreeSet<Part>,
    /// Tasks of lanes of which it says so now.
    waiting: BTreeMap<Part, Vec<(Box<Task>, T)>>,
}

impl<T> Directory<T> {
    /// The queue itself is in use.
    pub fn new() -> Self {
        Self { known: BTreeSet::from([Part::of(&Lane::of_queue(QUEUE))]), waiting: BTreeMap::new() }
    }

    /// Lets a task pass whose lane is in use. If it is the first of another one, that is to be said.
    pub fn pass(&mut self, task: Box<Task>, tag: T) -> Passage<T> {
        let part = Part::of(&task.lane());
        if self.known.contains(&part) {
            return Passage::Free(task, tag);
        }
        let waiting = self.waiting.entry(part).or_default();
        waiting.push((task, tag));
        if waiting.len() == 1 { Passage::Say(part) } else { Passage::Waits }
    }

    /// It is confirmed, or read, that a lane is in use. Gives the tasks that waited for that.
    pub fn is_in_use(&mut self, part: Part) -> Vec<(Box<Task>, T)> {
        self.known.insert(part);
        self.waiting.remove(&part).unwrap_or_default()
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What becomes of a task that is to be sent.
pub enum Passage<T> {
    Free(Box<Task>, T),
    /// That its lane is in use is to be said first.
    Say(Part),
    Waits,
}
