//! A run that ends so that another one can go on for it: the frame that ends it has the first records of that one.
//!
//! ```text
//!   one frame:  .. the run's last record │ received: continue_as_new │ received: what came and was not received ..
//!               └── of the run that ends ┘ └────────────── of the run that goes on for it ──────────────────────┘
//!   a later one:                            continued, signalled, signalled ..
//! ```
//! The next run is taken in before it is begun, as all that may take a worker down without having come by a message: so a
//! crash in its first turn counts. What goes along is taken in behind its start, under the ids by which the shard knows it, so
//! that it is applied before all that comes now, and none of it twice.

use everpulse_protocol::codec::Body;
use everpulse_protocol::continuation::Continues;
use everpulse_protocol::event::{Event, EventBody, ReplyTo, Start};
use everpulse_protocol::family::{Parent, Target};
use everpulse_protocol::history::{Parked, ParkedKind, RecordBody};
use everpulse_protocol::{EventId, RunId, Timestamp, WorkflowId};
use everpulse_sdk::definition::{Registry, WorkflowEntry};
use everpulse_sdk::replay::{Command, Next, Unreceived};

use super::Applier;
use crate::mutation::{self, Mutation};
use crate::replay;
use crate::run::{Run, Watcher};

/// The record that led to it, the arguments of the next run and all that goes along have to fit one frame: it may be as large as a
/// message, and have a little from before.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// About what an input that goes along takes beside its body.
const ALONG_BYTES: usize = 256;

/// Who wants a run to begin.
#[derive(Debug)]
pub(super) enum Origin {
    Client,
    Parent(Parent),
    /// The run that it goes on for, and who waits for all of them.
    Continues(Continues, Option<Parent>),
}

impl Origin {
    /// What the first record of the run says of it.
    pub fn begins(self, start: Start, version: u32, reply_to: Option<ReplyTo>, build: Option<String>) -> RecordBody {
        match self {
            Self::Client => RecordBody::Started { start, version, reply_to, build },
            Self::Parent(parent) => RecordBody::Spawned { start, version, parent, build },
            Self::Continues(continues, parent) => RecordBody::Continued { start, version, continues, parent, build },
        }
    }

    pub fn continues(&self) -> Option<&Continues> {
        match self {
            Self::Continues(continues, _) => Some(continues),
            Self::Client | Self::Parent(_) => None,
        }
    }
}

/// The code for a run that begins.
///
/// # Errors
/// The run has to be parked: this worker has none of that name or version, or only one that is older than that of the run
/// before, which wrote the arguments.
pub(super) fn entry<'a>(
    registry: &'a Registry,
    workflow_id: &WorkflowId,
    start: &Start,
    continues: Option<&Continues>,
) -> Result<&'a WorkflowEntry, Parked> {
    let entry = replay::entry(registry, workflow_id, &start.workflow, start.version)?;
    match continues {
        Some(continues) if start.version.is_none() && entry.version < continues.version => {
            let message = format!(
                "workflow {workflow_id}: version {} of `{}` goes on for version {}, and is older; deploy a worker that \
                 registers version {} or a newer one",
                entry.version, start.workflow, continues.version, continues.version
            );
            Err(Parked::new(ParkedKind::NoCode, message))
        }
        _ => Ok(entry),
    }
}

/// What a run was sent and has not received when it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    pub unreceived: &'a [Unreceived],
    /// By their numbers.
    pub updates: &'a [u32],
}

/// Who waits on when a run ends, as another one goes on for it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// For the end.
    pub ends: Vec<ReplyTo>,
    /// For the answers to updates.
    pub answers: Vec<Watcher>,
}

/// The start of the run that goes on, and all that goes along.
#[derive(Debug)]
pub(super) struct Succession {
    pub next: RunId,
    inputs: Vec<Event>,
}

impl Applier<'_> {
    /// Why a run that wants to go on as another one cannot.
    pub(super) fn refuses_to_continue(
        &self,
        (workflow_id, run_id): (&WorkflowId, RunId),
        event: EventId,
        body: &RecordBody,
        (next, left): (&Next, Left<'_>),
    ) -> Option<Parked> {
        let along = along(self.book.runs.get(&run_id).map(|run| &**run), workflow_id, event, (body, self.at), left);
        let along = self.signal_of_start(run_id).into_iter().chain(along).map(|event| event.body.0.len() + ALONG_BYTES);
        let (count, along) = along.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        let tags: usize = next.tags.iter().flatten().map(String::len).sum();
        let (led, args) = (Body::of(body).0.len(), next.args.len() + tags);
        let bytes = led + args + along;
        (bytes > BYTES_MAX).then(|| {
            let message = format!(
                "workflow {workflow_id} continues as new with {args} bytes of arguments and tags and {count} signals and updates \
                 that were not received, of {along} bytes, behind a record of {led}: that is {bytes} bytes, the limit is {BYTES_MAX}; receive \
                 them before, and pass a reference to large data",
            );
            Parked::new(ParkedKind::Panicked, message)
        })
    }

    /// What becomes of a run that this record ends so that another one goes on. To be asked while the book has it as open.
    pub(super) fn succession(
        &self,
        (workflow_id, run_id): (&WorkflowId, RunId),
        event: EventId,
        body: &RecordBody,
        (target, next): (Target, Next),
        left: Left<'_>,
    ) -> Option<Succession> {
        let run = self.book.runs.get(&run_id).map(|run| &**run);
        // A run may go on with its very first turn.
        let begun_before =
            run.and_then(|run| run.records.iter().find_map(|record| record.body().ok().filter(is_begin)));
        let begun_before = begun_before.as_ref().or(Some(body)).and_then(RecordBody::begun);
        let begun = begun_before?;
        let Next { workflow, version, args, tags, timeout_ms, priority } = next;
        // Versions of another workflow are counted for themselves.
        let at_least = if workflow == begun.start.workflow { begun.version } else { 0 };
        let start = Start {
            workflow,
            version,
            args,
            tags: tags.unwrap_or_else(|| begun.start.tags.clone()),
            timeout_ms: timeout_ms.or(begun.start.timeout_ms),
            policy: begun.start.policy,
            start_at: None,
            headers: begun.start.headers.clone(),
            priority: priority.or(&begun.start.priority),
        };
        let continues = Continues {
            first: begun.continues.map_or(run_id, |before| before.first),
            previous: run_id,
            number: begun.continues.map_or(0, |before| before.number) + 1,
            version: at_least,
        };
        let next = target.run_id?;
        let start = EventBody::ContinueAsNew { start, continues, parent: begun.parent.cloned() };
        let mut inputs = vec![Event {
            id: EventId(next.0),
            workflow_id: workflow_id.clone(),
            run_id: Some(next),
            exact: false,
            sent_at: self.at,
            reply_to: None,
            again: false,
            body: Body::of(&start),
        }];
        if !mutation::is(Mutation::LeavesSignals) {
            inputs.extend(self.signal_of_start(run_id));
            inputs.extend(along(run, workflow_id, event, (body, self.at), left));
        }
        Some(Succession { next, inputs })
    }

    /// The signal that came with the start that is being applied: the run has not received it, and it comes before all others.
    fn signal_of_start(&self, run_id: RunId) -> Option<Event> {
        let signal = self.round.with_start.as_ref().filter(|signal| signal.run_id == Some(run_id))?;
        Some(Event { run_id: None, ..signal.clone() })
    }

    /// Takes in the run that goes on, with the run's end in the same frame. Those who wait for the end wait on, and those who wait
    /// for an answer, if the question goes along.
    pub(super) fn succeed(&mut self, run_id: RunId, Succession { next, inputs }: Succession, waiting: Waiting) {
        for event in inputs {
            self.receive(next, event, 0);
        }
        if let Some(run) = self.book.runs.get_mut(&next) {
            waiting.ends.into_iter().for_each(|reply_to| run.watch(reply_to));
        }
        self.leave_unanswered(run_id, waiting.answers);
    }
}

/// The parts of a command that ends its run so that another one goes on.
pub(super) fn as_continuing(command: &Command) -> Option<(&Next, Left<'_>)> {
    match command {
        Command::ContinueAsNew { next, unreceived, updates, .. } => Some((next, Left { unreceived, updates })),
        _ => None,
    }
}

/// What came for a run and has not reached its code: signals and updates that it did not receive, the request to cancel in spite of which
/// it goes on, and what was only taken in. `body`: what is applied now, under this id and at this time.
fn along(
    run: Option<&Run>,
    workflow_id: &WorkflowId,
    event: EventId,
    (body, at): (&RecordBody, Timestamp),
    Left { unreceived, updates }: Left<'_>,
) -> Vec<Event> {
    let mut along = Vec::new();
    let mut came: Vec<u64> = vec![0; unreceived.len()];
    let mut updates_came = 0_u32;
    let mut asked_to_cancel = false;
    let mut is_left = |name: &str| {
        let of_name = unreceived.iter().position(|unreceived| unreceived.name == name)?;
        let number = came[of_name];
        came[of_name] += 1;
        unreceived[of_name].numbers.binary_search(&number).ok()
    };
    let mut take = |id: EventId, sent_at, body: RecordBody| {
        let input = match body {
            RecordBody::Signalled { name, value, headers } if is_left(&name).is_some() => {
                EventBody::Signal { name, value, headers }
            }
            RecordBody::UpdateAccepted { id, name, args, headers } => {
                let no = updates_came;
                updates_came = no.saturating_add(1);
                if updates.binary_search(&no).is_err() || mutation::is(Mutation::LeavesUpdates) {
                    return;
                }
                EventBody::UpdateAccepted { id, name, args, headers }
            }
            RecordBody::SignalledByTag { tag, name, value, headers } if is_left(&name).is_some() => {
                EventBody::SignalTagged { tag, name, value, headers }
            }
            RecordBody::CancelRequested { reason } if !std::mem::replace(&mut asked_to_cancel, true) => {
                EventBody::Cancel { reason }
            }
            _ => return,
        };
        let workflow_id = workflow_id.clone();
        let body = Body::of(&input);
        along.push(Event { id, workflow_id, run_id: None, exact: false, sent_at, reply_to: None, again: false, body });
    };
    for record in run.into_iter().flat_map(|run| run.records.iter()) {
        if let Ok(body) = record.body() {
            take(record.event, record.at, body);
        }
    }
    take(event, at, body.clone());
    let received = run.into_iter().flat_map(|run| &run.received).map(|received| &received.event);
    along.extend(received.filter(|received| received.id != event && is_for_whoever_goes_on(received)).cloned());
    along
}

/// Whether an input that was taken in means the workflow id, and not something that this very run asked for.
fn is_for_whoever_goes_on(event: &Event) -> bool {
    match event.body() {
        Ok(
            EventBody::Signal { .. }
            | EventBody::SignalTagged { .. }
            | EventBody::Cancel { .. }
            | EventBody::Terminate { .. }
            | EventBody::Demanded { .. }
            | EventBody::UpdateAccepted { .. }
            // An older release took it in, and nobody has decided on it.
            | EventBody::Update { .. },
        ) => true,
        Ok(
            EventBody::Start(_)
            | EventBody::SignalWithStart { .. }
            | EventBody::Spawn { .. }
            | EventBody::ContinueAsNew { .. }
            | EventBody::ChildBegan { .. }
            | EventBody::ChildClosed { .. }
            | EventBody::Delivered { .. }
            | EventBody::ActivitySettled { .. }
            | EventBody::StepSettled { .. }
            | EventBody::PromiseSettled { .. }
            | EventBody::AttemptFailed { .. }
            | EventBody::AttemptLeft { .. }
            | EventBody::AttemptReported { .. }
            | EventBody::Resume
            | EventBody::Describe
            | EventBody::AskResult
            | EventBody::AskPublished { .. }
            | EventBody::Query { .. }
            | EventBody::Wake { .. }
            | EventBody::AskUpdate { .. },
        ) => false,
        // What may be an input is kept until somebody comes who can read it.
        Err(_) => true,
    }
}

fn is_begin(body: &RecordBody) -> bool {
    body.begun().is_some()
}
