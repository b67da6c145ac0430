//! Attempts that a run's owner keeps: those that were left to be completed from outside, and those of which their worker tells.
//!
//! | rule | how it is seen |
//! |---|---|
//! | no attempt is given up that may still be told of | an attempt is overdue if it was left, and when its time is over, or so long after it was last told of as its heartbeat time-out says; one that a worker goes on with is given as long again, and 5 s at least |

use std::collections::HashMap;

/// The attempt at each step that is kept.
#[derive(Default)]
pub struct Kept(HashMap<u32, Attempt>);

struct Attempt {
    number: u32,
    until: u64,
    /// Nothing may be heard of it for so long.
    silence: Option<u64>,
    heard: u64,
}

/// So much longer than its heartbeat time-out a worker is waited for, at least.
const GONE_MS_MIN: u64 = 5_000;

impl Kept {
    /// An attempt is kept. `silence`: its heartbeat time-out, and whether its worker goes on with it.
    pub fn left(&mut self, (step, number): (u32, u32), until: u64, silence: Option<(u64, bool)>, at: u64) {
        let silence = silence.map(|(silence, running)| match running {
            true => silence.saturating_add(silence.max(GONE_MS_MIN)),
            false => silence,
        });
        self.0.insert(step, Attempt { number, until, silence, heard: at });
    }

    /// It was told of one; that of another is not known any more.
    pub fn told(&mut self, step: u32, number: u32, at: u64) {
        match self.0.get_mut(&step) {
            Some(attempt) if attempt.number == number => attempt.heard = at,
            _ => drop(self.0.remove(&step)),
        }
    }

    /// One failed: it is kept no more.
    pub fn failed(&mut self, step: u32, number: u32) {
        self.0.retain(|of, attempt| *of != step || attempt.number > number);
    }

    /// One is given up. Says what is wrong with that; of a run that is known `in_part` it may have been left before.
    pub fn overdue(&mut self, step: u32, number: u32, at: u64, in_part: bool) -> Option<String> {
        let what = format!("attempt {number} at step {step} is overdue");
        let Some(attempt) = self.0.remove(&step).filter(|attempt| attempt.number == number) else {
            return (!in_part).then(|| format!("{what}, and was never left"));
        };
        let silent = attempt.silence.map_or(u64::MAX, |silence| attempt.heard.saturating_add(silence));
        let due = attempt.until.min(silent);
        (at < due).then(|| format!("{what} at {at}, and its owner has to wait for it until {due}"))
    }
}
