//! A client process: it starts runs, signals them and waits for their ends, by the messages of the protocol. A question
//! is asked again, under the same id where it must count once, until it is answered.
//!
//! When a question is asked again is the client crate's, bound to its clock; here it is the same in kind: waits that
//! double. What a client was told to do it does not forget when it crashes: it is in its user's database.

use bytes::Bytes;
use everpulse_broker::semantics::Kind as Subscription;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Outcome, ReplyTo, Start};
use everpulse_protocol::reply::{ReplyBody, ReplyFrame};
use everpulse_protocol::{EventId, Payload, RequestId, RunId, WorkflowId, decode, topic};

use crate::broker::Layout;
use crate::dice::Dice;
use crate::link::News;
use crate::outbox::Outbox;
use crate::party::Ctx;
use crate::wire::{self, Heard, Timer};
use crate::workflows::{Kind, Word};

/// One run that a client is to start, signal and wait for.
#[derive(Debug, Clone)]
pub struct Job {
    pub kind: Kind,
    pub n: u64,
    pub workflow_id: WorkflowId,
    pub at_ms: u64,
    start: EventId,
    request: RequestId,
    /// Its start is stored.
    pub accepted: bool,
    pub run: Option<RunId>,
    pub signals: Vec<Sent>,
    pub outcome: Option<Outcome>,
    asked: u32,
}

/// A signal.
#[derive(Debug, Clone)]
pub struct Sent {
    pub id: EventId,
    request: RequestId,
    pub n: u64,
    pub answered: bool,
}

/// A signal for a workflow id that has no run.
#[derive(Debug, Clone)]
pub struct Blind {
    pub workflow_id: WorkflowId,
    pub at_ms: u64,
    pub sent: Sent,
}

#[derive(Debug, Clone, Default)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub blind: Vec<Blind>,
}

impl Sent {
    fn new(n: u64, dice: &mut Dice) -> Self {
        Self { id: EventId(dice.id()), request: RequestId(dice.id()), n, answered: false }
    }
}

impl Jobs {
    /// `runs` of them, begun within `span_ms` from `from_ms`.
    pub fn draw(client: usize, runs: usize, from_ms: u64, span_ms: u64, dice: &mut Dice) -> Self {
        let mut jobs = Self::default();
        let id = |text: String| WorkflowId::new(text).expect("a short text is an id");
        for number in 0..runs {
            let kind = *dice.pick(&crate::workflows::KINDS).expect("there are some");
            let n = dice.within(kind.args.0, kind.args.1);
            let signals = (0..(kind.signals)(n)).map(|_| Sent::new(dice.within(1, 50), dice)).collect();
            jobs.jobs.push(Job {
                kind,
                n,
                workflow_id: id(format!("{}-{client}-{number}", kind.name)),
                at_ms: from_ms + dice.below(span_ms),
                start: EventId(dice.id()),
                request: RequestId(dice.id()),
                accepted: false,
                run: None,
                signals,
                outcome: None,
                asked: 0,
            });
        }
        if dice.percent(40) {
            let sent = Sent::new(1, dice);
            let at_ms = from_ms + dice.below(span_ms);
            jobs.blind.push(Blind { workflow_id: id(format!("nobody-{client}")), at_ms, sent });
        }
        jobs
    }

    pub fn is_done(&self) -> bool {
        self.jobs.iter().all(|job| job.outcome.is_some()) && self.blind.iter().all(|blind| blind.sent.answered)
    }
}

impl Job {
    /// What the signals of this run add up to.
    pub fn sum(&self) -> u64 {
        self.signals.iter().map(|signal| signal.n).sum()
    }
}

/// What was sent: a start, or anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Start(usize),
    Other,
}

#[derive(Debug)]
pub struct Client {
    outbox: Outbox<Purpose>,
    pub jobs: Jobs,
    /// It asks for no results.
    pub quiet: bool,
}

const WAIT_MS_MIN: u64 = 250;
const WAIT_MS_MAX: u64 = 5_000;

impl Client {
    pub fn start(name: String, layout: Layout, jobs: Jobs, ctx: &mut Ctx<'_>) -> Self {
        let mut outbox: Outbox<Purpose> = Outbox::new(name, layout);
        let replies = wire::unstored(&topic::replies(outbox.link.name()));
        outbox.link.subscribe(&replies, "client", Subscription::Exclusive, false, 1_000, ctx);
        let mut client = Self { outbox, jobs, quiet: false };
        for at in 0..client.jobs.jobs.len() + client.jobs.blind.len() {
            let (begin, job) = match client.jobs.jobs.get_mut(at) {
                Some(job) => (job.at_ms, Some(job)),
                None => (client.jobs.blind[at - client.jobs.jobs.len()].at_ms, None),
            };
            if let Some(job) = job {
                job.asked = 0;
                if job.run.is_none() && job.accepted && ctx.dice.percent(50) {
                    // Whoever starts again under the same workflow id is attached.
                    job.start = EventId(ctx.dice.id());
                    ctx.counts.starts_again += 1;
                }
            }
            ctx.remind(begin.saturating_sub(ctx.place.world_ms), Timer::Ask(at));
        }
        client
    }

    /// Lets runs go on that are parked: their code was mended; later also those that were parked for no fault of theirs.
    pub fn resume(&mut self, only_mended: bool, ctx: &mut Ctx<'_>) {
        let panics = |job: &&Job| !only_mended || job.kind.name == "fussy";
        let open = self.jobs.jobs.iter().filter(|job| job.outcome.is_none() && job.run.is_some()).filter(panics);
        let ids: Vec<WorkflowId> = open.map(|job| job.workflow_id.clone()).collect();
        for workflow_id in ids {
            let id = EventId(ctx.dice.id());
            let event = Event {
                id,
                workflow_id,
                run_id: None,
                sent_at: ctx.now,
                reply_to: None,
                body: Body::of(&EventBody::Resume),
            };
            self.outbox.event(event, Purpose::Other, ctx);
        }
    }

    pub fn handle(&mut self, heard: Heard, ctx: &mut Ctx<'_>) {
        if let Some(Heard::Timer(Timer::Ask(at))) = self.outbox.handle(heard, ctx) {
            self.ask(at, ctx);
        }
        while let Some(news) = self.outbox.news(ctx) {
            match news {
                News::Published { tag: Purpose::Start(at), receipt: Ok(_) } => self.jobs.jobs[at].accepted = true,
                News::Delivered { payload, .. } => self.hear(&payload, ctx),
                _ => {}
            }
        }
    }

    fn ask(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let Some(job) = self.jobs.jobs.get_mut(at) else { return self.ask_blind(at, ctx) };
        if job.outcome.is_some() {
            return;
        }
        job.asked += 1;
        ctx.counts.asked_again += u64::from(job.asked > 1);
        let wait = (WAIT_MS_MIN << job.asked.min(8)).min(WAIT_MS_MAX);
        let wait = ctx.dice.within(wait * 3 / 4, wait * 5 / 4);
        let mut events = Vec::new();
        let reply = |request| Some(ReplyTo { client: String::new(), request });
        let event = |id, workflow_id: &WorkflowId, run_id, request, body: &EventBody| Event {
            id,
            workflow_id: workflow_id.clone(),
            run_id,
            sent_at: ctx.now,
            reply_to: reply(request),
            body: Body::of(body),
        };
        match job.run {
            None => {
                let start = Start {
                    workflow: job.kind.name.to_owned(),
                    version: None,
                    args: Kind::arguments(job.n),
                    policy: IdPolicy::Attach,
                    tags: Vec::new(),
                    start_at: None,
                    timeout_ms: None,
                };
                let body = EventBody::Start(start);
                events.push((event(job.start, &job.workflow_id, None, job.request, &body), Purpose::Start(at)));
            }
            Some(run) => {
                for signal in job.signals.iter().filter(|signal| !signal.answered) {
                    let body = word(signal.n);
                    let event = event(signal.id, &job.workflow_id, Some(run), signal.request, &body);
                    events.push((event, Purpose::Other));
                }
                if job.asked > 2 && !self.quiet {
                    let id = EventId(ctx.dice.id());
                    let body = EventBody::AskResult;
                    events.push((event(id, &job.workflow_id, Some(run), job.request, &body), Purpose::Other));
                }
            }
        }
        let client = self.outbox.link.name().to_owned();
        for (mut event, purpose) in events {
            if let Some(reply_to) = &mut event.reply_to {
                reply_to.client.clone_from(&client);
            }
            self.outbox.event(event, purpose, ctx);
        }
        ctx.remind(wait, Timer::Ask(at));
    }

    fn ask_blind(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let Some(blind) = self.jobs.blind.get(at - self.jobs.jobs.len()).filter(|blind| !blind.sent.answered) else {
            return;
        };
        let reply_to = ReplyTo { client: self.outbox.link.name().to_owned(), request: blind.sent.request };
        let event = Event {
            id: blind.sent.id,
            workflow_id: blind.workflow_id.clone(),
            run_id: None,
            sent_at: ctx.now,
            reply_to: Some(reply_to),
            body: Body::of(&word(blind.sent.n)),
        };
        self.outbox.event(event, Purpose::Other, ctx);
        ctx.remind(WAIT_MS_MAX * 2, Timer::Ask(at));
    }

    fn hear(&mut self, payload: &Bytes, ctx: &mut Ctx<'_>) {
        let Ok(frame) = decode::<ReplyFrame>(payload) else { return };
        for reply in frame.replies {
            for (at, job) in self.jobs.jobs.iter_mut().enumerate() {
                if let Some(signal) = job.signals.iter_mut().find(|signal| signal.request == reply.request) {
                    match &reply.body {
                        ReplyBody::Accepted | ReplyBody::AlreadyClosed { .. } => signal.answered = true,
                        ReplyBody::NotFound => ctx.violations.push(format!(
                            "a signal for run {:?} of {} is answered `not found`",
                            job.run, job.workflow_id
                        )),
                        _ => {}
                    }
                }
                if job.request != reply.request {
                    continue;
                }
                match &reply.body {
                    ReplyBody::Started { run_id, .. } | ReplyBody::Open { run_id } => {
                        if job.run.is_some_and(|run| run != *run_id) {
                            let both = format!("{:?} and {run_id}", job.run);
                            ctx.violations.push(format!("{} has two runs: {both}", job.workflow_id));
                        }
                        if job.run.replace(*run_id).is_none() {
                            job.asked = 0;
                            ctx.acts.push(wire::Act::Remind { after_ms: 0, timer: Timer::Ask(at) });
                        }
                    }
                    ReplyBody::Closed { run_id, close } => {
                        job.run = Some(*run_id);
                        if job.outcome.as_ref().is_some_and(|outcome| *outcome != close.outcome) {
                            ctx.violations.push(format!("{} has two ends", job.workflow_id));
                        }
                        job.outcome = Some(close.outcome.clone());
                    }
                    other => {
                        ctx.violations.push(format!("{} is answered {other:?}", job.workflow_id));
                    }
                }
            }
            for blind in &mut self.jobs.blind {
                if blind.sent.request == reply.request && reply.body == ReplyBody::NotFound {
                    blind.sent.answered = true;
                    ctx.counts.not_found += 1;
                }
            }
        }
    }
}

fn word(n: u64) -> EventBody {
    let value = Payload::encode(&Word { n }).expect("numbers can be written");
    EventBody::Signal { name: "Word".to_owned(), value }
}
