//! An update that a test has requested: whether it was taken, and what it was answered.

use std::fmt;
use std::marker::PhantomData;

use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::history::{CommandKind, RecordBody};
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{self as protocol, FailureKind, RequestId, codec};
use everpulse_sdk::{Failure, Update};

use crate::drive::{self, Stage};
use crate::world::World;

/// So often it is sent again before nobody answers.
const TRIES: usize = 8;

/// An update that was requested of a run. It may be taken already, and is when this is asked anything.
pub struct Requested<U> {
    stage: Stage,
    event: Event,
    id: String,
    update: PhantomData<fn() -> U>,
}

impl<U> fmt::Debug for Requested<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requested").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What became of it so far.
enum Fate {
    Taken,
    Answered(Outcome),
    Refused(protocol::Failure),
    NotYet(protocol::Failure),
}

impl<U: Update> Requested<U> {
    pub(crate) fn new(stage: Stage, event: Event, id: String) -> Self {
        Self { stage, event, id, update: PhantomData }
    }

    /// Goes on until the run has taken it.
    ///
    /// # Errors
    /// The validator's error, or why nobody took it.
    ///
    /// # Panics
    /// When nobody says anything.
    #[track_caller]
    pub fn accepted(&self) -> Result<(), Failure<U::Error>> {
        self.wait(false).map(|_| ())
    }

    /// Goes on until it is answered, however long that takes in virtual time.
    ///
    /// # Errors
    /// The workflow's error, whether it refused the update or failed at it.
    ///
    /// # Panics
    /// When it stays unanswered and nothing more happens by itself.
    #[track_caller]
    pub fn result(&self) -> Result<U::Reply, Failure<U::Error>> {
        match self.wait(true)? {
            Some(Outcome::Done(value)) => value.decode().map_err(Failure::from),
            Some(Outcome::Failed(failure)) => Err(Failure::from_recorded(failure)),
            None => panic!(
                "update `{}` of {} was taken and is not answered, and nothing more happens by itself",
                U::NAME,
                self.event.workflow_id
            ),
        }
    }

    #[track_caller]
    fn wait(&self, for_answer: bool) -> Result<Option<Outcome>, Failure<U::Error>> {
        let mut last = None;
        for tried in 1..=TRIES {
            drive::run_until(&self.stage, None, |world| match self.fate(world) {
                Some(Fate::Taken) => !for_answer,
                fate => fate.is_some(),
            });
            let mut world = self.stage.borrow_mut();
            match self.fate(&world) {
                Some(Fate::Answered(outcome)) => return Ok(Some(outcome)),
                Some(Fate::Taken) if !for_answer || tried == TRIES => return Ok(None),
                Some(Fate::Refused(failure)) => return Err(Failure::from_recorded(failure)),
                Some(Fate::NotYet(failure)) => last = Some(failure),
                Some(Fate::Taken) | None => {}
            }
            // As a client does; the last time it wants to know for good.
            let mut event = self.event.clone();
            if tried + 1 >= TRIES
                && let Ok(EventBody::Update { id, name, args, headers, .. }) = event.body()
            {
                event.body = codec::Body::of(&EventBody::Update { id, name, args, patient: false, headers });
            }
            world.replies.remove(&RequestId(self.event.id.0));
            world.publish(event, true);
        }
        let why = last.unwrap_or_else(|| protocol::Failure::new(FailureKind::NotFound, "nobody answers"));
        Err(Failure::from_recorded(why))
    }

    fn fate(&self, world: &World) -> Option<Fate> {
        let told = world.runs.values().filter(|told| told.workflow_id == self.event.workflow_id);
        let mut taken = false;
        for record in told.flat_map(|told| &told.records) {
            let is_it = matches!(record.body(), Ok(RecordBody::UpdateAccepted { id, .. }) if id == self.id);
            taken |= is_it;
            let answers =
                |mark: &&protocol::history::CommandMark| mark.kind == CommandKind::Answer && mark.name == self.id;
            if let Some(answer) = record.commands.iter().find(answers).and_then(|mark| mark.answer.as_deref()) {
                return Some(Fate::Answered(answer.clone()));
            }
        }
        let failed = |kind, message: String| Some(Fate::Refused(protocol::Failure::new(kind, message)));
        match world.replies.get(&RequestId(self.event.id.0)).and_then(|replies| replies.last()) {
            Some(ReplyBody::Update { state: UpdateState::Refused(failure), .. }) => {
                Some(Fate::Refused(failure.clone()))
            }
            Some(ReplyBody::Update { state: UpdateState::NotYet(failure), .. }) => Some(Fate::NotYet(failure.clone())),
            Some(ReplyBody::Update { state: UpdateState::Unanswered, .. } | ReplyBody::AlreadyClosed { .. }) => {
                failed(FailureKind::NotFound, format!("{} has ended", self.event.workflow_id))
            }
            Some(ReplyBody::Update { state: UpdateState::TakenBefore, .. }) => {
                failed(FailureKind::NotFound, format!("an earlier run of {} has taken it", self.event.workflow_id))
            }
            Some(ReplyBody::Expired { message } | ReplyBody::Invalid { message }) => {
                failed(FailureKind::NotFound, message.clone())
            }
            _ => taken.then_some(Fate::Taken),
        }
    }
}
