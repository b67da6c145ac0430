//! Drives a world: its turns, the author's code between them, and the passing of time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use everpulse_protocol::Timestamp;

use crate::storm::Fault;
use crate::world::{Acted, World};

/// So many turns in one wait: what takes more does not end.
const TURNS_MAX: usize = 2_000_000;

/// A world that its environment and its runs share.
pub(crate) type Stage = Rc<RefCell<World>>;

/// Does one thing that can be done now; false if there is none.
pub(crate) fn turn(stage: &Stage) -> bool {
    let acted = stage.borrow_mut().act();
    match acted {
        Acted::Nothing => false,
        Acted::Something => true,
        Acted::Work(job) => {
            // The author's code may use the environment itself.
            let worked = job.run();
            stage.borrow_mut().worked(worked);
            true
        }
    }
}

/// Does all that can be done without time passing.
#[track_caller]
pub(crate) fn settle(stage: &Stage) {
    for _ in 0..TURNS_MAX {
        if !turn(stage) {
            return;
        }
    }
    panic!("it does not come to rest: something is done over and over again while no time passes");
}

/// A little is done, as much as chance will have it: what comes next comes in the middle of that.
pub(crate) fn settle_a_little(stage: &Stage) {
    let turns = stage.borrow_mut().storm.as_mut().map(|storm| storm.dice.below(40));
    match turns {
        None => settle(stage),
        Some(turns) => {
            for _ in 0..turns {
                turn(stage);
            }
        }
    }
}

/// Lets so much time pass, with all that happens meanwhile.
#[track_caller]
pub(crate) fn advance(stage: &Stage, duration: Duration) {
    let until = stage.borrow().now.after(duration);
    run_until(stage, Some(until), |_| false);
    settle(stage);
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// What was waited for is so.
    Reached,
    /// The time has come.
    Time,
    /// Nothing happens any more by itself.
    Standstill,
}

/// Goes on until something is so, the time has come, or nothing happens any more.
#[track_caller]
pub(crate) fn run_until(stage: &Stage, until: Option<Timestamp>, reached: impl Fn(&World) -> bool) -> Ended {
    for _ in 0..TURNS_MAX {
        if reached(&stage.borrow()) {
            return Ended::Reached;
        }
        let mut world = stage.borrow_mut();
        let late = world.storm.as_mut().and_then(|storm| {
            let ms = storm.dice.below(400) as u64;
            storm.strikes(Fault::Late, || format!("by {ms} ms")).then_some(ms)
        });
        if let Some(ms) = late {
            let later = Timestamp(world.now.0 + ms);
            world.now = until.map_or(later, |until| later.min(until));
        }
        drop(world);
        if turn(stage) {
            continue;
        }
        let mut world = stage.borrow_mut();
        match (world.next_time(), until) {
            (Some(next), Some(until)) if next > until => {
                world.now = until;
                return Ended::Time;
            }
            (None, Some(until)) => {
                world.now = until;
                return Ended::Time;
            }
            (Some(next), _) => world.now = next,
            (None, None) => return Ended::Standstill,
        }
    }
    panic!(
        "it does not come to an end: {TURNS_MAX} turns, and the clock of the test is at +{:?}. Does the workflow go round in \
         circles, or is an activity retried for ever?",
        stage.borrow().now.since(stage.borrow().begin)
    );
}
