//! When an inbox message may be acknowledged, and what stands in for it.
//!
//! A message is held until its frame stands and all commands up to the last frame of its runs are confirmed, until what
//! these runs have taken in is applied, where it can be, and until no local work of theirs is open that no wake-up covers.
//! After [`HOLD_MS_MAX`] the hold asks for cover: a confirmed wake-up behind the deadline of the work takes its place.
//!
//! ```text
//!   input ─► local work ─► 2 s ─► a wake-up is named ─► it is confirmed ─► ack
//!   no input: a timer, or the end of work whose input is acked ─► local work: its own frame names the wake-up
//! ```
//!
//! The invariant: *whatever is open locally, taken in and not applied, or not confirmed is covered by an input that is not
//! acked, or by a wake-up that comes soon after it has to be over*. Until a wake-up is confirmed, the one before it, which is
//! not acked until then, covers what it is to cover.

use std::collections::BTreeMap;

use everpulse_protocol::{RunId, Timestamp};

use crate::Map;
use crate::book::Book;
use crate::effect::DeliveryToken;
use crate::mutation::{self, Mutation};

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
    /// No hold waits for its run, or one did for long enough: a wake-up has to cover it.
    pub wants_cover: bool,
}

/// A message that is not acknowledged.
#[derive(Debug)]
pub(crate) struct Hold {
    pub token: DeliveryToken,
    /// The commands of the frames up to this one have to be confirmed.
    pub frame: u64,
    /// Runs that have to apply what they took in, and whose local work has to come to its end, or under cover.
    pub runs: Vec<RunId>,
    pub since: Timestamp,
}

/// The open local work of a shard.
pub(crate) type Locals = BTreeMap<(RunId, u32), Local>;

/// The open local work of one run.
pub(crate) fn of_run(locals: &Locals, run: RunId) -> impl Iterator<Item = (u32, &Local)> {
    locals.range((run, 0)..=(run, u32::MAX)).map(|((_, no), local)| (*no, local))
}

/// What holds are judged by.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub book: &'a Book,
    pub locals: &'a Locals,
    /// Frames below it stand. Of one that is on its way nothing is sent, and none of its local work is known yet, whatever
    /// the book says of its runs.
    pub standing: u64,
    /// Of these, the commands of the frames below this are confirmed.
    pub sent_below: u64,
    /// A confirmed wake-up stands that covers all that asked for it.
    pub covered: bool,
    pub now: Timestamp,
}

impl Known<'_> {
    /// The last frame of a run, if it is at rest, or under cover: `long`, what it took in may be applied under cover, too.
    fn rests(&self, run: RunId, long: bool) -> Option<u64> {
        let frame = last_frame(self.book, run);
        let ready = self.book.ready.contains(&run) && !mutation::is(Mutation::TrialsUnheld);
        let applies = frame >= self.standing || ready && !(self.covered && long);
        let works = of_run(self.locals, run).any(|(_, local)| !(self.covered && local.wants_cover));
        (!applies && !works).then_some(frame)
    }
}

fn last_frame(book: &Book, run: RunId) -> u64 {
    match (book.runs.get(&run), book.closed.get(&run)) {
        (Some(run), _) => run.last_frame,
        (None, Some(closed)) => closed.frame,
        // It lies on the shelf, where it only waits: its commands are confirmed.
        (None, None) => 0,
    }
}

impl Hold {
    /// Whether it has lasted so long that wake-ups take its place.
    pub fn is_long(&self, now: Timestamp) -> bool {
        self.since.0 + HOLD_MS_MAX <= now.0
    }

    /// Whether the message can be acknowledged now. Runs that are at rest are waited for no more.
    fn is_over(&mut self, known: &Known<'_>, waiting: &mut Map<RunId, usize>) -> bool {
        if known.sent_below <= self.frame {
            return false;
        }
        // One after the other: a hold may wait for a thousand runs, and is looked at with each confirmation.
        while let Some(run) = self.runs.last().copied() {
            let Some(frame) = known.rests(run, self.is_long(known.now)) else { return false };
            // What local work led to has its own commands, which have to be confirmed as well.
            self.frame = self.frame.max(frame);
            self.runs.pop();
            less(waiting, run);
        }
        known.sent_below > self.frame
    }
}

/// The messages that are not acknowledged, although all of them is in rounds that took effect.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    holds: Vec<Hold>,
    /// How many of them wait for a run.
    waiting: Map<RunId, usize>,
    /// None of them waits for a frame below this.
    first: u64,
}

impl Holds {
    pub fn push(&mut self, hold: Hold) {
        for run in &hold.runs {
            *self.waiting.entry(*run).or_default() += 1;
        }
        self.first = if self.holds.is_empty() { hold.frame } else { self.first.min(hold.frame) };
        self.holds.push(hold);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Hold> {
        self.holds.iter()
    }

    /// Whether a message is held for what a run does.
    pub fn wait_for(&self, run: RunId) -> bool {
        self.waiting.contains_key(&run)
    }

    /// Whether they wait for runs, and not only for commands.
    pub fn wait_for_runs(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether one of them may be over: a thousand commands of one frame are confirmed one by one, and only the last of
    /// them can end a hold.
    pub fn may_end(&self, sent_below: u64) -> bool {
        !self.holds.is_empty() && sent_below > self.first
    }

    /// Ends holds that are over; gives their messages.
    pub fn settle(&mut self, known: &Known<'_>) -> Vec<DeliveryToken> {
        let waiting = &mut self.waiting;
        let over = self.holds.extract_if(.., |hold| hold.is_over(known, waiting)).map(|hold| hold.token).collect();
        self.first = self.holds.iter().map(|hold| hold.frame).min().unwrap_or_default();
        over
    }
}

/// One hold less waits for a run.
fn less(waiting: &mut Map<RunId, usize>, run: RunId) {
    if let Some(count) = waiting.get_mut(&run) {
        *count -= 1;
        if *count == 0 {
            waiting.remove(&run);
        }
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::WorkflowId;

    use super::*;
    use crate::run::Run;

    const LONG_AGO: Timestamp = Timestamp(0);
    const SOON: Timestamp = Timestamp(HOLD_MS_MAX - 1);
    const LATE: Timestamp = Timestamp(HOLD_MS_MAX);

    fn run(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    /// A book in which a run has its last record in a frame.
    fn book(frame: u64) -> Book {
        let mut book = Book::default();
        let state = Run::new(WorkflowId::new("a").expect("a good id"), run(1));
        book.runs.insert(run(1), Box::new(Run { last_frame: frame, ..state }));
        book
    }

    /// A message of frame 4 that waits for the run.
    fn holds() -> Holds {
        let mut holds = Holds::default();
        holds.push(Hold { token: DeliveryToken(1), frame: 4, runs: vec![run(1)], since: LONG_AGO });
        holds
    }

    fn known<'a>(book: &'a Book, locals: &'a Locals) -> Known<'a> {
        Known { book, locals, standing: 9, sent_below: 9, covered: false, now: SOON }
    }

    fn local(wants_cover: bool) -> Locals {
        Locals::from([((run(1), 0), Local { deadline: Timestamp(10), wants_cover })])
    }

    #[test]
    fn an_input_is_held_until_the_commands_of_its_frame_are_confirmed() {
        let mut unsent = Unsent::default();
        unsent.add(4);
        unsent.add(4);
        let (book, locals, mut holds) = (book(4), Locals::new(), holds());
        for _ in 0..2 {
            assert!(!holds.may_end(unsent.below(5)));
            let sent_below = unsent.below(5);
            assert!(holds.settle(&Known { sent_below, standing: 5, ..known(&book, &locals) }).is_empty());
            unsent.confirm(4);
        }
        let sent_below = unsent.below(5);
        assert!(holds.may_end(sent_below));
        assert_eq!(holds.settle(&Known { sent_below, standing: 5, ..known(&book, &locals) }), [DeliveryToken(1)]);
        assert!(holds.is_empty() && !holds.wait_for_runs());
    }

    #[test]
    fn open_local_work_holds_the_input_until_a_wake_up_covers_it() {
        let (book, mut holds) = (book(4), holds());
        let (held, asked) = (local(false), local(true));
        assert!(holds.settle(&Known { covered: true, ..known(&book, &held) }).is_empty(), "nobody asked for cover");
        assert!(holds.settle(&known(&book, &asked)).is_empty(), "the wake-up is not confirmed");
        assert!(holds.wait_for(run(1)));
        assert_eq!(holds.settle(&Known { covered: true, ..known(&book, &asked) }).len(), 1);
        assert!(!holds.wait_for(run(1)));
    }

    #[test]
    fn what_a_run_has_taken_in_is_applied_before_its_input_is_let_go() {
        let (mut book, locals, mut holds) = (book(4), Locals::new(), holds());
        book.ready.insert(run(1));
        assert!(holds.settle(&known(&book, &locals)).is_empty());
        assert!(holds.settle(&Known { covered: true, ..known(&book, &locals) }).is_empty(), "it has not lasted long");
        book.ready.clear();
        assert_eq!(holds.settle(&known(&book, &locals)).len(), 1);
    }

    #[test]
    fn an_input_is_not_held_for_very_long_for_what_others_have_to_apply_first() {
        let (mut book, locals, mut holds) = (book(4), Locals::new(), holds());
        book.ready.insert(run(1));
        assert!(holds.settle(&Known { now: LATE, ..known(&book, &locals) }).is_empty(), "nothing covers it");
        assert_eq!(holds.settle(&Known { covered: true, now: LATE, ..known(&book, &locals) }).len(), 1);
    }

    #[test]
    fn what_local_work_led_to_has_to_stand_and_to_be_confirmed_too() {
        let (book, locals, mut holds) = (book(7), Locals::new(), holds());
        let on_its_way = Known { standing: 7, sent_below: 7, ..known(&book, &locals) };
        assert!(holds.settle(&on_its_way).is_empty());
        assert!(holds.wait_for(run(1)), "what it does when it stands is not known");
        assert!(holds.settle(&Known { sent_below: 7, ..known(&book, &locals) }).is_empty());
        assert_eq!(holds.settle(&Known { sent_below: 8, ..known(&book, &locals) }).len(), 1);
    }
}
