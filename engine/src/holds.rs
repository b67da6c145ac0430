//! When an inbox message may be acknowledged.
//!
//! A message is held until its frame stands and all commands up to the last frame of its runs are confirmed,
//! and until no local work of these runs is open that no wake-up covers. After [`HOLD_MS_MAX`] the hold asks
//! for cover: a confirmed wake-up behind the deadline of the work takes its place.

use std::collections::BTreeMap;

use everpulse_protocol::{RunId, Timestamp};

use crate::effect::DeliveryToken;

/// Inputs are not held longer than this for local work.
pub(crate) const HOLD_MS_MAX: u64 = 2_000;

/// Frames whose commands are not all confirmed, with how many are missing.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    frames: BTreeMap<u64, usize>,
}

impl Unsent {
    pub fn add(&mut self, frame: u64) {
        *self.frames.entry(frame).or_default() += 1;
    }

    pub fn confirm(&mut self, frame: u64) {
        if let Some(missing) = self.frames.get_mut(&frame) {
            *missing -= 1;
            if *missing == 0 {
                self.frames.remove(&frame);
            }
        }
    }

    /// The first frame with an unconfirmed command, or else the next frame's number.
    pub fn below(&self, next: u64) -> u64 {
        self.frames.keys().next().copied().unwrap_or(next)
    }
}

/// Local work that is open in history.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// When it is over one way or another, wherever it runs.
    pub deadline: Timestamp,
    /// A hold on its run has ended: a wake-up has to cover it.
    pub wants_cover: bool,
}

/// A message that is not acknowledged.
#[derive(Debug)]
pub(crate) struct Hold {
    pub token: DeliveryToken,
    /// The commands of the frames up to this one have to be confirmed.
    pub frame: u64,
    /// Runs with local work that has to come to its end, or under cover.
    pub runs: Vec<RunId>,
    pub since: Timestamp,
}

/// The open local work of a shard.
pub(crate) type Locals = BTreeMap<(RunId, u32), Local>;

/// The open local work of one run.
pub(crate) fn of_run(locals: &Locals, run: RunId) -> impl Iterator<Item = (u32, &Local)> {
    locals.range((run, 0)..=(run, u32::MAX)).map(|((_, no), local)| (*no, local))
}

impl Hold {
    /// Whether the message can be acknowledged now.
    ///
    /// `covered`: a confirmed wake-up stands that covers all local work that asked for it.
    pub fn is_over(
        &mut self,
        sent_below: u64,
        locals: &Locals,
        covered: bool,
        last_frame: impl Fn(RunId) -> u64,
    ) -> bool {
        if sent_below <= self.frame {
            return false;
        }
        let mut frame = self.frame;
        self.runs.retain(|run| {
            let open = of_run(locals, *run).any(|(_, local)| !(covered && local.wants_cover));
            if !open {
                // What the local work led to has its own commands, which have to be confirmed as well.
                frame = frame.max(last_frame(*run));
            }
            open
        });
        self.frame = frame;
        self.runs.is_empty() && sent_below > self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    fn hold(frame: u64, runs: Vec<RunId>) -> Hold {
        Hold { token: DeliveryToken(1), frame, runs, since: Timestamp(0) }
    }

    fn local(wants_cover: bool) -> Local {
        Local { deadline: Timestamp(10), wants_cover }
    }

    #[test]
    fn an_input_is_held_until_the_commands_of_its_frame_are_confirmed() {
        let mut unsent = Unsent::default();
        unsent.add(4);
        unsent.add(4);
        let mut hold = hold(4, vec![run(1)]);
        assert!(!hold.is_over(unsent.below(5), &Locals::new(), false, |_| 4));
        unsent.confirm(4);
        assert!(!hold.is_over(unsent.below(5), &Locals::new(), false, |_| 4));
        unsent.confirm(4);
        assert!(hold.is_over(unsent.below(5), &Locals::new(), false, |_| 4));
    }

    #[test]
    fn open_local_work_holds_the_input_until_a_wake_up_covers_it() {
        let mut locals = Locals::from([((run(1), 0), local(false))]);
        let mut hold = hold(4, vec![run(1)]);
        assert!(!hold.is_over(9, &locals, true, |_| 4), "nobody asked for cover");
        locals.insert((run(1), 0), local(true));
        assert!(!hold.is_over(9, &locals, false, |_| 4), "the wake-up is not confirmed");
        assert!(hold.is_over(9, &locals, true, |_| 4));
    }

    #[test]
    fn what_local_work_led_to_has_to_be_confirmed_too() {
        let mut hold = hold(4, vec![run(1)]);
        assert!(!hold.is_over(7, &Locals::new(), false, |_| 7), "the run's last frame is not confirmed");
        assert!(hold.is_over(8, &Locals::new(), false, |_| 7));
    }
}
