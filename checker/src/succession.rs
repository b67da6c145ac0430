//! Runs that end so that another one can go on for them.
//!
//! | rule | how it is seen |
//! |---|---|
//! | a run that ends so has one successor, and there is no between | the frame that ends it has the first record of the run that it names, and of no other that names it |
//! | whoever goes on knows for whom | workflow id, first run, the one before, and how many there were |
//! | what goes along was sent to the run before | what the next run receives with its beginning stands among the inputs of that one |
//!
//! Whether all that was not received goes along cannot be told without the run's code: the simulation and the tests of the
//! engine replay it.

use std::collections::{HashMap, HashSet};

use crate::format::{Before, Body, Id, Record};
use crate::report::{Kind, Place, Violation};
use crate::run::{Run, Status};

/// What ends and begins in one frame.
#[derive(Default)]
pub struct Succession {
    /// Runs that are to begin in this frame: for whom, and what is known of that one.
    awaited: HashMap<Id, Ended>,
    /// Those that did, and for whom.
    begun: HashMap<Id, Id>,
    /// All events that ever went along.
    handed_on: HashSet<Id>,
}

struct Ended {
    run_id: Id,
    workflow_id: String,
    continues: Option<Before>,
    partial: bool,
}

impl Succession {
    /// A run has taken in another record.
    pub fn ends(&mut self, run: &Run) {
        if let (Status::ContinuedAsNew, Some(next)) = (run.status, run.continued_as)
            && !self.begun.contains_key(&next)
        {
            let Run { run_id, workflow_id, continues, partial, .. } = run;
            let (workflow_id, partial) = (workflow_id.clone(), *partial);
            self.awaited.insert(next, Ended { run_id: *run_id, workflow_id, continues: *continues, partial });
        }
    }

    /// A run begins with this record. What is wrong with that, if it goes on for another one.
    pub fn begins(&mut self, record: &Record) -> Option<String> {
        let before = match &record.body {
            Body::Received { body, .. } => match &**body {
                Body::Continued { before, .. } => Some(*before),
                _ => None,
            },
            Body::Continued { before, .. } => Some(*before),
            _ => None,
        };
        let awaited = self.awaited.remove(&record.run_id);
        let (ended, before) = match (awaited, before) {
            (None, None) => return None,
            (Some(ended), Some(before)) => (ended, before),
            (Some(ended), None) => {
                return Some(format!("run {} ended so that it goes on, and it begins otherwise", ended.run_id));
            }
            // Its beginning was trimmed, and the end of the one before with it.
            (None, Some(_)) if record.seq > 0 => return None,
            (None, Some(before)) => {
                return Some(format!("it goes on for run {}, which does not end in this frame", before.previous));
            }
        };
        self.begun.insert(record.run_id, ended.run_id);
        if before.previous != ended.run_id || ended.workflow_id != record.workflow_id {
            return Some(format!("it goes on for run {} of {:?}, and says otherwise", ended.run_id, ended.workflow_id));
        }
        // Of a run whose beginning was trimmed it is not known which it was.
        if ended.partial && ended.continues.is_none() {
            return None;
        }
        let first = ended.continues.map_or(ended.run_id, |continues| continues.first);
        let number = ended.continues.map_or(0, |continues| continues.number).saturating_add(1);
        ((before.first, before.number) != (first, number)).then(|| {
            format!(
                "it is number {number} of those since {first}, and says number {} since {}",
                before.number, before.first
            )
        })
    }

    /// The run for which this one goes on, if it has begun in this frame and takes in an input that is not its start.
    pub fn before(&self, run: Id, event: Id) -> Option<Id> {
        self.begun.get(&run).filter(|_| event != run).copied()
    }

    pub fn hand_on(&mut self, event: Id) {
        self.handed_on.insert(event);
    }

    pub fn has_handed_on(&self, event: Id) -> bool {
        self.handed_on.contains(&event)
    }

    /// The frame ends: who was to begin and did not.
    pub fn end(&mut self, place: Place) -> Vec<Violation> {
        self.begun.clear();
        let missing = self.awaited.drain().map(|(next, ended)| {
            let message = format!("the run ends so that {next} goes on, which does not begin in this frame");
            place.fault(Kind::Succession, message).of(ended.workflow_id, ended.run_id)
        });
        missing.collect()
    }
}
