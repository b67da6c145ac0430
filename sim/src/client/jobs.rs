//! What clients are told to do: runs to start, signal, stop and wait for. They do not forget it when they crash: it is in
//! their users' database.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::event::Outcome;
use everpulse_protocol::priority::Priority;
use everpulse_protocol::{EventId, FailureKind, RequestId, RunId, WorkflowId};

use crate::dice::Dice;
use crate::lanes;
use crate::shape::Shape;
use crate::workflows::{Kind, POISON, To};

/// One run that a client is to start, signal and wait for.
#[derive(Debug, Clone)]
pub struct Job {
    pub kind: Kind,
    pub n: u64,
    pub workflow_id: WorkflowId,
    pub at_ms: u64,
    pub start: Asked,
    /// For its end.
    pub result: RequestId,
    /// Its run is to begin so much later than it is first asked for.
    pub later_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    /// Each of its signals is sent with a start: the first begins the run.
    pub by_signals: bool,
    /// It carries the tag of all that do.
    pub tagged: bool,
    /// That of its tasks and children.
    pub priority: Priority,
    /// Its start is stored.
    pub accepted: bool,
    pub run: Option<RunId>,
    /// All runs that it was told of.
    pub told: BTreeSet<RunId>,
    pub signals: Vec<Signal>,
    /// Of its updates, by their ids, and by the events that requested them.
    pub told_of: Vec<(String, EventId, Told)>,
    pub stop: Option<Stop>,
    /// What was asked of its run.
    pub looks: Vec<Look>,
    /// How far it was, by each way to ask for that.
    pub shown: BTreeMap<Shown, u64>,
    /// When it was answered that there is no such run, though it had been seen when that was asked.
    pub unseen_ms: Vec<u64>,
    pub outcome: Option<Outcome>,
    /// When it was told that the end is too long ago to be known.
    pub forgotten_ms: Option<u64>,
    /// Something was refused for its age, and whether it had taken effect is not known.
    pub unsure: bool,
    pub asked: u32,
}

/// Something that counts once, however often it is sent.
#[derive(Debug, Clone)]
pub struct Asked {
    pub id: EventId,
    pub request: RequestId,
    /// When it was first sent: it keeps that time.
    pub issued_ms: Option<u64>,
    pub answered: bool,
    /// When it was answered that there is no such run.
    pub lost_ms: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Signal {
    pub n: u64,
    pub asked: Asked,
    /// Of an update: its id, whichever request bears it.
    pub update: EventId,
    /// Of an update: how often it was refused.
    pub refusals: u32,
}

impl Signal {
    fn new(n: u64, dice: &mut Dice) -> Self {
        let asked = Asked::new(dice);
        Self { n, update: asked.id, asked, refusals: 0 }
    }
}

/// What was told of a request for an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Refused,
    Taken,
    Answered(Outcome),
}

/// How one can see how far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// By the records of its history.
    Described,
    /// By its own answer.
    Answered,
    /// By what it published.
    Published,
}

/// A look at a run.
#[derive(Debug, Clone)]
pub struct Look {
    pub request: RequestId,
    pub by: Shown,
    /// It was known to be so far when this was asked.
    pub at_least: u64,
}

/// A run is cancelled or terminated.
#[derive(Debug, Clone)]
pub struct Stop {
    pub after_ms: u64,
    pub terminate: bool,
    pub asked: Asked,
}

/// A signal for a workflow id that has no run.
#[derive(Debug, Clone)]
pub struct Blind {
    pub workflow_id: WorkflowId,
    pub at_ms: u64,
    pub n: u64,
    pub asked: Asked,
}

/// A signal to all runs with a tag, which none of them receives: what it comes to is seen in history.
#[derive(Debug, Clone)]
pub struct Cry {
    pub at_ms: u64,
    /// Three or more of a shard's runs may be too many for one frame.
    pub bytes: usize,
    pub id: EventId,
    /// By shard, once it was sent.
    pub asked: Vec<Asked>,
}

impl Cry {
    pub fn is_answered(&self) -> bool {
        !self.asked.is_empty() && self.asked.iter().all(|asked| asked.answered)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub blind: Vec<Blind>,
    pub cries: Vec<Cry>,
}

impl Asked {
    pub fn new(dice: &mut Dice) -> Self {
        Self { id: EventId(dice.id()), request: RequestId(dice.id()), issued_ms: None, answered: false, lost_ms: None }
    }

    /// When it was issued: now, if it never was before.
    pub fn issue(&mut self, now_ms: u64) -> u64 {
        *self.issued_ms.get_or_insert(now_ms)
    }
}

impl Jobs {
    /// `runs` of them, begun within `span_ms` from `from_ms`. Where it is calm none of them takes workers down, and where it
    /// is quiet none has a timer.
    pub fn draw(client: usize, runs: usize, from_ms: u64, span_ms: u64, shape: &Shape, dice: &mut Dice) -> Self {
        let mut jobs = Self::default();
        let id = |text: String| WorkflowId::new(text).expect("a short text is an id");
        for number in 0..runs {
            let kind = *dice.pick(&shape.kinds).expect("there are some");
            // One that takes workers down is enough.
            let kind = if kind.name == POISON && (number > 0 || shape.calm) { shape.kinds[0] } else { kind };
            let n = dice.within(kind.args.0, kind.args.1);
            let signals = (0..(kind.signals)(n)).map(|_| Signal::new(dice.within(1, 50), dice)).collect();
            let stop = dice.percent(12).then(|| Stop {
                after_ms: dice.within(0, 3_000),
                terminate: dice.percent(50),
                asked: Asked::new(dice),
            });
            let later_ms = dice.percent(10).then(|| dice.within(200, 4_000)).filter(|_| !shape.quiet);
            let timeout_ms = dice.percent(10).then(|| dice.within(300, 20_000)).filter(|_| !shape.quiet);
            let by_signals = kind.to == To::Signals && (kind.signals)(n) > 0 && dice.percent(30);
            jobs.jobs.push(Job {
                kind,
                n,
                workflow_id: id(format!("{}-{client}-{number}", kind.name)),
                at_ms: from_ms + dice.below(span_ms),
                start: Asked::new(dice),
                result: RequestId(dice.id()),
                later_ms,
                timeout_ms,
                by_signals,
                tagged: dice.percent(60),
                priority: if shape.lanes { lanes::draw(dice) } else { Priority::default() },
                accepted: false,
                run: None,
                told: BTreeSet::new(),
                signals,
                told_of: Vec::new(),
                stop,
                looks: Vec::new(),
                shown: BTreeMap::new(),
                unseen_ms: Vec::new(),
                outcome: None,
                forgotten_ms: None,
                unsure: false,
                asked: 0,
            });
        }
        if dice.percent(40) {
            let at_ms = from_ms + dice.below(span_ms);
            let workflow_id = id(format!("nobody-{client}"));
            jobs.blind.push(Blind { workflow_id, at_ms, n: 1, asked: Asked::new(dice) });
        }
        if dice.percent(40) {
            let (at_ms, bytes) = (from_ms + dice.below(span_ms), dice.within(10, 40_000));
            let bytes = usize::try_from(bytes).unwrap_or_default();
            jobs.cries.push(Cry { at_ms, bytes, id: EventId(dice.id()), asked: Vec::new() });
        }
        jobs
    }

    pub fn is_done(&self) -> bool {
        self.jobs.iter().all(Job::is_done)
            && self.blind.iter().all(|blind| blind.asked.answered)
            && self.cries.iter().all(Cry::is_answered)
    }
}

impl Job {
    /// Whether its end is known, or can be no more.
    pub fn is_done(&self) -> bool {
        self.outcome.is_some() || self.forgotten_ms.is_some()
    }

    /// What the signals of this run add up to.
    pub fn sum(&self) -> u64 {
        self.signals.iter().map(|signal| signal.n).sum()
    }

    /// Whether the sequential model could have come to this, too.
    pub fn allows(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Failed(failure) => match failure.kind {
                FailureKind::Cancelled => self.stop.as_ref().is_some_and(|stop| !stop.terminate),
                FailureKind::Terminated => self.stop.as_ref().is_some_and(|stop| stop.terminate),
                FailureKind::TimedOut => self.timeout_ms.is_some(),
                _ => false,
            },
            // A signal that may have counted was sent once more under another id; and code that is cancelled may go on
            // without what it waited for.
            Outcome::Done(_) => {
                let is_cancelled =
                    self.stop.as_ref().is_some_and(|stop| !stop.terminate && stop.asked.issued_ms.is_some());
                self.unsure || is_cancelled || self.kind.allows(self.n, self.sum(), outcome)
            }
        }
    }
}
