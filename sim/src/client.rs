//! A client process: it starts runs, signals and stops them and waits for their ends, by the messages of the protocol. A
//! question is asked again, under the same id and with the time of its issue where it must count once, until it is
//! answered.
//!
//! When a question is asked again is the client crate's, bound to its clock; here it is the same in kind: waits that
//! double.

mod jobs;

use bytes::Bytes;
use everpulse_broker::semantics::Kind as Subscription;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Outcome, ReplyTo, Report, Start};
use everpulse_protocol::reply::{Reply, ReplyBody, ReplyFrame, UpdateState};
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, Timestamp, WorkflowId, decode, shard, topic};

pub use self::jobs::{Asked, Job, Jobs, Look, Shown, Signal, Told};
use crate::broker::Layout;
use crate::link::News;
use crate::outbox::Outbox;
use crate::party::Ctx;
use crate::wire::{self, Heard, Timer};
use crate::workflows::{EDITED, Heard as HeardWords, Kind, Sell, TAKEN, To, Word};

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
    shards: u32,
    /// It asks for no results.
    pub quiet: bool,
}

/// Of many runs.
const TAG: &str = "loud";
const WAIT_MS_MIN: u64 = 250;
const WAIT_MS_MAX: u64 = 5_000;

impl Client {
    pub fn start(name: String, layout: Layout, jobs: Jobs, ctx: &mut Ctx<'_>) -> Self {
        let shards = layout.shards;
        let mut outbox: Outbox<Purpose> = Outbox::new(name, layout);
        let replies = wire::unstored(&topic::replies(outbox.link.name()));
        outbox.link.subscribe(&replies, "client", Subscription::Exclusive, false, 1_000, ctx);
        let mut client = Self { outbox, jobs, shards, quiet: false };
        let (jobs, blind) = (client.jobs.jobs.len(), client.jobs.blind.len());
        for at in 0..jobs + blind + client.jobs.cries.len() {
            let (begin, job) = match client.jobs.jobs.get_mut(at) {
                Some(job) => (job.at_ms, Some(job)),
                None if at < jobs + blind => (client.jobs.blind[at - jobs].at_ms, None),
                None => (client.jobs.cries[at - jobs - blind].at_ms, None),
            };
            if let Some(job) = job {
                job.asked = 0;
                if job.run.is_none() && job.accepted && !job.by_signals && ctx.dice.percent(50) {
                    // Whoever starts again under the same workflow id is attached.
                    job.start = Asked::new(ctx.dice);
                    ctx.counts.starts_again += 1;
                }
            }
            ctx.remind(begin.saturating_sub(ctx.place.world_ms), Timer::Ask(at));
        }
        client
    }

    /// Lets runs go on that are parked: their code was mended; later also those that were parked for no fault of theirs, and other
    /// people's.
    pub fn resume(&mut self, only_mended: bool, others: Vec<WorkflowId>, ctx: &mut Ctx<'_>) {
        let was_mended = |job: &&Job| !only_mended || job.kind.is_mended;
        let open = self.jobs.jobs.iter().filter(|job| !job.is_done() && job.run.is_some()).filter(was_mended);
        let mut ids: Vec<WorkflowId> = open.map(|job| job.workflow_id.clone()).collect();
        let others: Vec<WorkflowId> = others.into_iter().filter(|other| !ids.contains(other)).collect();
        ids.extend(others);
        for workflow_id in ids {
            let id = EventId(ctx.dice.id());
            let event = Event {
                id,
                workflow_id,
                run_id: None,
                exact: false,
                sent_at: ctx.now,
                reply_to: None,
                again: false,
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
        if job.is_done() {
            return;
        }
        job.asked += 1;
        ctx.counts.asked_again += u64::from(job.asked > 1);
        let wait = (WAIT_MS_MIN << job.asked.min(8)).min(WAIT_MS_MAX);
        let wait = ctx.dice.within(wait * 3 / 4, wait * 5 / 4);
        let client = self.outbox.link.name().to_owned();
        let id = job.workflow_id.clone();
        let asking = |asked: &mut Asked, run_id, body: &EventBody| Event {
            id: asked.id,
            workflow_id: id.clone(),
            run_id,
            exact: false,
            again: asked.issued_ms.is_some(),
            sent_at: Timestamp(asked.issue(ctx.now.0)),
            reply_to: Some(ReplyTo { client: client.clone(), request: asked.request }),
            body: Body::of(body),
        };
        let mut events = Vec::new();
        match job.run {
            None => {
                let start = Start {
                    workflow: job.kind.name.to_owned(),
                    version: None,
                    args: Kind::arguments(job.n),
                    policy: IdPolicy::Attach,
                    tags: job.tagged.then(|| TAG.to_owned()).into_iter().collect(),
                    start_at: job.later_ms.map(|later| Timestamp(job.at_ms + later)),
                    timeout_ms: job.timeout_ms,
                    headers: Kind::headers(&id),
                    priority: job.priority.clone(),
                };
                if job.by_signals {
                    for signal in job.signals.iter_mut().filter(|signal| !signal.asked.answered) {
                        let body = with_start(start.clone(), signal.n);
                        events.push((asking(&mut signal.asked, None, &body), Purpose::Start(at)));
                    }
                } else {
                    events.push((asking(&mut job.start, None, &EventBody::Start(start)), Purpose::Start(at)));
                }
            }
            Some(run) => {
                for (step, signal) in (0..).zip(&mut job.signals).filter(|(_, signal)| !signal.asked.answered) {
                    // That one began the run.
                    if signal.asked.id.0 == run.0 {
                        signal.asked.answered = true;
                        continue;
                    }
                    // Its token comes from the attempt itself.
                    if job.kind.to == To::Attempt && !ctx.ledger.was_executed(run, step) {
                        continue;
                    }
                    let body = match job.kind.to {
                        To::Signals => word(signal.n),
                        To::Promises => kept(step, signal.n),
                        To::Attempt => signed(signal.n),
                        To::Updates => {
                            if signal.asked.issued_ms.is_some() && ctx.dice.percent(15) {
                                // Another request under the same id. What was sent before is still on its way.
                                signal.asked = Asked::new(ctx.dice);
                                ctx.counts.updates_again += 1;
                            }
                            if signal.asked.issued_ms.is_some() && ctx.dice.percent(20) {
                                let mut question = Asked { request: signal.asked.request, ..Asked::new(ctx.dice) };
                                let name = ctx.dice.percent(50).then(|| "Sell".to_owned());
                                let body = EventBody::AskUpdate { id: signal.update.to_string(), name };
                                events.push((asking(&mut question, Some(run), &body), Purpose::Other));
                            }
                            sell(signal, ctx.dice.percent(80))
                        }
                    };
                    events.push((asking(&mut signal.asked, Some(run), &body), Purpose::Other));
                }
                if let Some(stop) = job.stop.as_mut().filter(|stop| !stop.asked.answered)
                    && job.at_ms + stop.after_ms <= ctx.place.world_ms
                {
                    let reason = "it is not wanted".to_owned();
                    let body = match stop.terminate {
                        true => EventBody::Terminate { reason },
                        false => EventBody::Cancel { reason },
                    };
                    ctx.counts.stops += u64::from(stop.asked.issued_ms.is_none());
                    events.push((asking(&mut stop.asked, Some(run), &body), Purpose::Other));
                }
                if !self.quiet && !job.kind.goes_on() && ctx.dice.percent(25) {
                    let by =
                        if job.kind.name == EDITED { *ctx.dice.pick(&LOOKS).expect("some") } else { Shown::Described };
                    let mut question = Asked::new(ctx.dice);
                    let at_least = job.shown.get(&by).copied().unwrap_or_default();
                    job.looks.push(Look { request: question.request, by, at_least });
                    events.push((asking(&mut question, Some(run), &look(by)), Purpose::Other));
                }
                if job.asked > 2 && !self.quiet {
                    let mut question = Asked { request: job.result, ..Asked::new(ctx.dice) };
                    events.push((asking(&mut question, Some(run), &EventBody::AskResult), Purpose::Other));
                }
            }
        }
        for (event, purpose) in events {
            self.outbox.event(event, purpose, ctx);
        }
        ctx.remind(wait, Timer::Ask(at));
    }

    fn ask_blind(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let client = self.outbox.link.name().to_owned();
        let at_blind = at - self.jobs.jobs.len();
        if at_blind >= self.jobs.blind.len() {
            return self.cry(at, ctx);
        }
        let Some(blind) = self.jobs.blind.get_mut(at_blind).filter(|blind| !blind.asked.answered) else { return };
        let event = Event {
            id: blind.asked.id,
            workflow_id: blind.workflow_id.clone(),
            run_id: None,
            exact: false,
            again: blind.asked.issued_ms.is_some(),
            sent_at: Timestamp(blind.asked.issue(ctx.now.0)),
            reply_to: Some(ReplyTo { client, request: blind.asked.request }),
            body: Body::of(&word(blind.n)),
        };
        self.outbox.event(event, Purpose::Other, ctx);
        ctx.remind(WAIT_MS_MAX * 2, Timer::Ask(at));
    }

    fn cry(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let client = self.outbox.link.name().to_owned();
        let Some(cry) = self.jobs.cries.get_mut(at - self.jobs.jobs.len() - self.jobs.blind.len()) else { return };
        let name = "Noise".to_owned();
        let value = Payload::encode(&"!".repeat(cry.bytes)).expect("texts can be written");
        let body = Body::of(&EventBody::SignalTagged { tag: TAG.to_owned(), name, value, headers: None });
        for shard in 0..self.shards {
            if cry.asked.len() <= shard as usize {
                let id = EventId::for_shard(cry.id, shard);
                cry.asked.push(Asked { id, ..Asked::new(ctx.dice) });
            }
            let asked = &mut cry.asked[shard as usize];
            if asked.answered {
                continue;
            }
            let event = Event {
                id: asked.id,
                workflow_id: shard::placeholder_id(shard),
                run_id: None,
                exact: false,
                again: asked.issued_ms.is_some(),
                sent_at: Timestamp(asked.issue(ctx.now.0)),
                reply_to: Some(ReplyTo { client: client.clone(), request: asked.request }),
                body: body.clone(),
            };
            self.outbox.event_to_shard(shard, event, Purpose::Other, ctx);
        }
        if !cry.is_answered() {
            ctx.remind(WAIT_MS_MAX, Timer::Ask(at));
        }
    }

    fn hear(&mut self, payload: &Bytes, ctx: &mut Ctx<'_>) {
        let Ok(frame) = decode::<ReplyFrame>(payload) else { return };
        for reply in &frame.replies {
            for (at, job) in self.jobs.jobs.iter_mut().enumerate() {
                if reply.request == job.start.request || reply.request == job.result {
                    hear_of_run(job, at, reply, ctx);
                }
                if hear_of_look(job, reply, ctx) {
                    continue;
                }
                if job.kind.to == To::Updates && hear_of_update(job, reply, ctx) {
                    continue;
                }
                if job.by_signals && hear_of_beginning(job, at, reply, ctx) {
                    continue;
                }
                let signals = job.signals.iter_mut().map(|signal| &mut signal.asked);
                let asked = signals.chain(job.stop.as_mut().map(|stop| &mut stop.asked));
                for asked in asked.filter(|asked| asked.request == reply.request) {
                    if matches!(job.kind.to, To::Promises | To::Attempt) && reply.body == ReplyBody::NotFound {
                        // A run that is to start later has no promises yet; nobody else would know their tokens.
                        continue;
                    }
                    // Of an activity a later attempt may have settled the step itself.
                    if reply.body == ReplyBody::AlreadyCompleted && !job.unsure && job.kind.to == To::Promises {
                        ctx.violations.push(format!("a promise of {} is completed by somebody else", job.workflow_id));
                    }
                    job.unsure |= hear_of_input(asked, reply, ctx);
                }
            }
            for asked in self.jobs.cries.iter_mut().flat_map(|cry| &mut cry.asked) {
                if asked.request == reply.request {
                    let answered = matches!(reply.body, ReplyBody::Reached { .. } | ReplyBody::Accepted);
                    asked.answered |= answered || matches!(reply.body, ReplyBody::Expired { .. });
                }
            }
            for blind in self.jobs.blind.iter_mut().filter(|blind| blind.asked.request == reply.request) {
                if matches!(reply.body, ReplyBody::NotFound | ReplyBody::Expired { .. }) {
                    blind.asked.answered = true;
                    ctx.counts.not_found += 1;
                }
            }
        }
    }
}

/// What a start or a question for the end is answered.
fn hear_of_run(job: &mut Job, at: usize, reply: &Reply, ctx: &mut Ctx<'_>) {
    match &reply.body {
        ReplyBody::Started { run_id, .. } | ReplyBody::Open { run_id } => {
            job.told.insert(*run_id);
            if job.run.is_none() {
                job.run = Some(*run_id);
                job.asked = 0;
                ctx.remind(0, Timer::Ask(at));
            }
        }
        ReplyBody::Closed { run_id, close } => {
            job.told.insert(*run_id);
            // One that goes on for the run that was started; else of another run of its name, whose start came again when the
            // first was long forgotten.
            if job.run.is_some_and(|run| run != *run_id) && !job.kind.goes_on() {
                return;
            }
            job.run.get_or_insert(*run_id);
            if job.outcome.as_ref().is_some_and(|outcome| *outcome != close.outcome) {
                ctx.violations.push(format!("{} has two ends", job.workflow_id));
            }
            job.outcome = Some(close.outcome.clone());
        }
        // Whether it had begun is not known: it is asked for anew, and attached if it had.
        ReplyBody::Expired { .. } if reply.request == job.start.request => {
            if job.run.is_none() {
                job.start = Asked::new(ctx.dice);
                job.unsure = true;
                ctx.counts.refused += 1;
            }
        }
        ReplyBody::Expired { .. } | ReplyBody::NotFound if job.outcome.is_none() => {
            job.forgotten_ms = Some(ctx.place.world_ms);
            ctx.counts.forgotten += 1;
        }
        ReplyBody::Expired { .. } | ReplyBody::NotFound => {}
        other => ctx.violations.push(format!("{} is answered {other:?}", job.workflow_id)),
    }
}

/// What a signal that came with a start is answered. True if that is all that it says.
fn hear_of_beginning(job: &mut Job, at: usize, reply: &Reply, ctx: &mut Ctx<'_>) -> bool {
    let Some(signal) = job.signals.iter_mut().find(|signal| signal.asked.request == reply.request) else {
        return false;
    };
    match &reply.body {
        ReplyBody::Started { .. } | ReplyBody::Closed { .. } => {
            signal.asked.answered = true;
            hear_of_run(job, at, reply, ctx);
        }
        // The run has ended without it; a second one is not wanted.
        ReplyBody::Taken { run_id, open: false } => {
            signal.asked.answered = true;
            job.told.insert(*run_id);
            if job.run.is_none() {
                (job.run, job.asked) = (Some(*run_id), 0);
                ctx.remind(0, Timer::Ask(at));
            }
        }
        // Whether it had begun is not known: if it is forgotten, another one begins, and gets them all.
        ReplyBody::Expired { .. } if job.run.is_none() => {
            job.signals.iter_mut().for_each(|signal| signal.asked = Asked::new(ctx.dice));
            job.unsure = true;
            ctx.counts.refused += 1;
        }
        _ => return false,
    }
    true
}

/// What is seen of a run, which is never less than what was seen when it was asked for. True if that is all that it says.
fn hear_of_look(job: &mut Job, reply: &Reply, ctx: &mut Ctx<'_>) -> bool {
    let Some(Look { by, at_least, .. }) = job.looks.iter().find(|look| look.request == reply.request).cloned() else {
        return false;
    };
    let number = |value: &Payload| value.decode::<u64>().ok();
    let seen = match (&reply.body, by) {
        (ReplyBody::Description(view), Shown::Described) => {
            let is_open = view.closed_at.is_none() && Some(view.run_id) == job.run;
            is_open.then(|| u64::from(view.records))
        }
        (ReplyBody::Answered { outcome: Outcome::Done(value) }, Shown::Answered) => number(value),
        (ReplyBody::Published { value }, Shown::Published) => value.as_ref().and_then(number),
        _ => None,
    };
    if at_least > 0 && reply.body == ReplyBody::NotFound {
        job.unseen_ms.push(ctx.place.world_ms);
    }
    let Some(seen) = seen else { return true };
    ctx.counts.looks += 1;
    if seen < at_least {
        let id = &job.workflow_id;
        ctx.violations.push(format!("{id} shows {seen} ({by:?}) after it showed {at_least}"));
    }
    let shown = job.shown.entry(by).or_default();
    *shown = (*shown).max(seen);
    true
}

/// What an update is answered. True if that is all that it says.
fn hear_of_update(job: &mut Job, reply: &Reply, ctx: &mut Ctx<'_>) -> bool {
    let Some(signal) = job.signals.iter_mut().find(|signal| signal.asked.request == reply.request) else {
        return false;
    };
    let ReplyBody::Update { state, .. } = &reply.body else { return false };
    let (id, event) = (signal.update.to_string(), signal.asked.id);
    match state {
        UpdateState::NotYet(_) => ctx.counts.updates_not_yet += 1,
        UpdateState::Refused(_) => {
            job.told_of.push((id, event, Told::Refused));
            ctx.counts.updates_refused += 1;
            signal.asked = Asked::new(ctx.dice);
            signal.refusals += 1;
        }
        UpdateState::Accepted => job.told_of.push((id, event, Told::Taken)),
        UpdateState::Answered(outcome) => {
            job.told_of.push((id, event, Told::Answered(outcome.clone())));
            ctx.counts.updates += u64::from(!signal.asked.answered);
            signal.asked.answered = true;
        }
        UpdateState::Unanswered => signal.asked.answered = true,
        // Its run has ended, and what it answered is not asked for here.
        UpdateState::TakenBefore => {
            job.told_of.push((id, event, Told::Taken));
            signal.asked.answered = true;
        }
        // It may be on its way.
        UpdateState::Unknown => {}
    }
    true
}

/// What a signal or a request to stop is answered. True if nobody knows whether it has counted.
fn hear_of_input(asked: &mut Asked, reply: &Reply, ctx: &mut Ctx<'_>) -> bool {
    match &reply.body {
        ReplyBody::Accepted | ReplyBody::AlreadyCompleted | ReplyBody::AlreadyClosed { .. } => asked.answered = true,
        // Its run has ended so long ago that nobody knows it; whether it had is judged at the end.
        ReplyBody::NotFound => {
            asked.answered = true;
            asked.lost_ms = Some(ctx.place.world_ms);
        }
        // It came too late for what was to be completed.
        ReplyBody::Expired { message } if message.starts_with("nobody waits") => asked.answered = true,
        ReplyBody::Expired { .. } if !asked.answered => {
            *asked = Asked::new(ctx.dice);
            ctx.counts.refused += 1;
            return true;
        }
        _ => {}
    }
    false
}

/// The promises of a run have its first numbers.
fn kept(step: u32, n: u64) -> EventBody {
    let value = Payload::encode(&n).expect("numbers can be written");
    EventBody::PromiseSettled { step, outcome: Outcome::Done(value) }
}

/// All ways to see how far a run is.
const LOOKS: [Shown; 3] = [Shown::Described, Shown::Answered, Shown::Published];

fn look(by: Shown) -> EventBody {
    match by {
        Shown::Described => EventBody::Describe,
        Shown::Answered => {
            let args = Payload::encode(&HeardWords {}).expect("nothing can be written");
            EventBody::Query { name: "Heard".to_owned(), args }
        }
        Shown::Published => EventBody::AskPublished { name: TAKEN.to_owned() },
    }
}

/// What was refused twice is forced.
fn sell(signal: &Signal, patient: bool) -> EventBody {
    let sell = Sell { n: signal.n, force: signal.refusals > 1 };
    let args = Payload::encode(&sell).expect("numbers can be written");
    EventBody::Update { id: signal.update.to_string(), name: "Sell".to_owned(), args, patient, headers: None }
}

fn signed(n: u64) -> EventBody {
    let value = Payload::encode(&n).expect("numbers can be written");
    // Some say that it is not to be had now: then the next attempt is the activity's own.
    let report = match n % 3 {
        0 => Report::Failed { failure: Failure::new(FailureKind::Failed, "not today"), retryable: true },
        _ => Report::Done(value),
    };
    EventBody::AttemptReported { step: 0, attempt: 1, report }
}

/// A signal that begins a run, if none is open.
fn with_start(start: Start, n: u64) -> EventBody {
    let value = Payload::encode(&Word { n }).expect("numbers can be written");
    EventBody::SignalWithStart { start, name: "Word".to_owned(), value }
}

fn word(n: u64) -> EventBody {
    let value = Payload::encode(&Word { n }).expect("numbers can be written");
    EventBody::Signal { headers: None, name: "Word".to_owned(), value }
}
