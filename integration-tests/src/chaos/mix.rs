//! What is started: kinds of runs, their weights, and what a sequential model says of each.
//!
//! A run is told by its number alone: the seed and the number give its kind and its parameters, so that nothing has to
//! be kept of runs that have ended.

use super::dice::Dice;

/// A kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One activity.
    Hello,
    /// Activities that take their time, one after another.
    Toil,
    /// Ten activities, one after another.
    Sequence,
    /// Activities at once.
    FanOut,
    /// Local steps.
    Paces,
    /// A sleep.
    Nap,
    /// An activity that fails some times.
    Retried,
    /// An activity that fails for good.
    Declined,
    /// An activity that always fails: a dead letter.
    Exhausted,
    /// An activity that waits for an operator to redrive it.
    Permitted,
    /// Signals, in order.
    Words,
    /// Started several times at once: one run.
    Twins,
    /// Started again when it has ended, and refused.
    Refused,
    /// Started again when it has ended, and run again.
    Again,
    Cancelled,
    Terminated,
    TimedOut,
    /// Started for later.
    Later,
    /// An activity loses against a timer.
    Race,
}

/// Kinds and their weights.
pub const MIX: [(Kind, u64); 19] = [
    (Kind::Hello, 640),
    (Kind::Toil, 60),
    (Kind::Sequence, 50),
    (Kind::FanOut, 30),
    (Kind::Paces, 50),
    (Kind::Nap, 30),
    (Kind::Retried, 30),
    (Kind::Declined, 10),
    (Kind::Exhausted, 4),
    (Kind::Permitted, 2),
    (Kind::Words, 25),
    (Kind::Twins, 20),
    (Kind::Refused, 10),
    (Kind::Again, 8),
    (Kind::Cancelled, 5),
    (Kind::Terminated, 6),
    (Kind::TimedOut, 5),
    (Kind::Later, 10),
    (Kind::Race, 5),
];

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Toil => "toil",
            Self::Sequence => "sequence",
            Self::FanOut => "fan-out",
            Self::Paces => "paces",
            Self::Nap => "nap",
            Self::Retried => "retried",
            Self::Declined => "declined",
            Self::Exhausted => "exhausted",
            Self::Permitted => "permitted",
            Self::Words => "words",
            Self::Twins => "twins",
            Self::Refused => "refused",
            Self::Again => "again",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
            Self::TimedOut => "timed-out",
            Self::Later => "later",
            Self::Race => "race",
        }
    }
}

/// Streams of chance below this are the faults'.
const FIRST_STREAM: u64 = 1_000;

/// One run that is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Play {
    pub number: u32,
    pub kind: Kind,
    /// How many activities, steps, words or starts; which attempt is good.
    pub many: u64,
    /// How long something takes, in milliseconds.
    pub ms: u64,
}

impl Play {
    /// The run of this number.
    #[must_use]
    pub fn of(seed: u64, number: u32) -> Self {
        let mut dice = Dice::new(seed, FIRST_STREAM + u64::from(number));
        let kind = dice.weighted(&MIX).unwrap_or(Kind::Hello);
        let (many, ms) = match kind {
            Kind::Toil => (dice.within(1, 3), dice.within(50, 1_500)),
            Kind::FanOut => (dice.within(10, 40), 0),
            Kind::Paces => (dice.within(2, 10), 0),
            Kind::Nap => (0, dice.within(10, 15_000)),
            Kind::Retried => (dice.within(2, 4), 0),
            Kind::Words => (dice.within(2, 6), 0),
            Kind::Twins => (dice.within(2, 4), 0),
            Kind::TimedOut => (0, dice.within(100, 3_000)),
            Kind::Later => (0, dice.within(200, 5_000)),
            _ => (0, 0),
        };
        Self { number, kind, many, ms }
    }

    /// Its workflow id.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{:07}", self.kind.name(), self.number)
    }

    /// The number in a workflow id.
    #[must_use]
    pub fn number_in(id: &str) -> Option<u32> {
        id.rsplit_once('-')?.1.parse().ok()
    }

    /// How many runs its id has in the end.
    #[must_use]
    pub fn runs(&self) -> usize {
        if self.kind == Kind::Again { 2 } else { 1 }
    }

    /// How its runs end.
    #[must_use]
    pub fn status(&self) -> everpulse_checker::Status {
        match self.kind {
            Kind::Cancelled => everpulse_checker::Status::Cancelled,
            Kind::Terminated => everpulse_checker::Status::Terminated,
            Kind::TimedOut => everpulse_checker::Status::TimedOut,
            _ => everpulse_checker::Status::Completed,
        }
    }

    /// How many commands each of its runs gives in all.
    #[must_use]
    pub fn commands(&self) -> usize {
        let many = usize::try_from(self.many).unwrap_or(usize::MAX);
        match self.kind {
            Kind::Toil | Kind::FanOut | Kind::Paces => many,
            Kind::Sequence => 10,
            Kind::Words => 0,
            Kind::Race => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_all_of_a_run() {
        for number in 0..2_000 {
            let play = Play::of(7, number);
            assert_eq!(Play::number_in(&play.id()), Some(number));
            assert_eq!(play, Play::of(7, number));
        }
    }

    #[test]
    fn every_kind_is_drawn() {
        let kinds: std::collections::BTreeSet<Kind> = (0..5_000).map(|number| Play::of(1, number).kind).collect();
        assert_eq!(kinds.len(), MIX.len());
    }
}
