//! What is heard of an update, and what history has of it.

use std::time::Duration;

use everpulse_protocol::event::{EventBody, Outcome};
use everpulse_protocol::history::{CommandKind, Record, RecordBody};
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{FailureKind, RunId, WorkflowId};
use everpulse_sdk::{Definition, Failure};

use crate::core::{Core, Deadline, Meant, Question};
use crate::error::{Error, ErrorKind, UpdateError};
use crate::requests::{Heard, Ticket};
use crate::run::Run;

/// A question for what became of an update.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub of: Meant,
    pub id: &'a str,
    pub name: Option<&'a str>,
    /// That it was taken is not enough.
    pub answer: bool,
}

impl Asking<'_> {
    pub(super) async fn ask<D: Definition>(
        self,
        run: &Run<D>,
        ticket: &Ticket,
        deadline: Deadline,
        listen_first: Duration,
    ) -> Result<Fate, Error> {
        let Self { of, id, name, answer } = self;
        let (core, workflow_id) = (run.core(), run.workflow_id()?);
        let body = EventBody::AskUpdate { id: id.to_owned(), name: name.map(str::to_owned) };
        let sealed = core.sealed(workflow_id, body).await?;
        let question = Question {
            what: &|| format!("waiting for the answer to update `{id}` of {workflow_id}"),
            event: &|| core.event(workflow_id, of, Some(ticket.reply_to()), &sealed),
            deadline,
            listen_first,
        };
        let take = |heard: &Heard| match heard_of(workflow_id, heard)? {
            Fate::Taken(_) if answer => None,
            fate => Some(fate),
        };
        core.ask(ticket, question, take, None).await
    }
}

/// What is heard of an update, once it is something.
pub(super) enum Fate {
    Taken(RunId),
    Answered(RunId, Outcome),
    Refused(everpulse_protocol::Failure),
    /// The run has ended. Whether it had taken it, and what it answered, stands in history.
    Ended(RunId),
    /// It was taken by this run, which has ended, or by another one before it; none: by which, is not known any more.
    TakenBefore(Option<RunId>),
    /// The run has ended without an answer.
    Unanswered(RunId),
    /// The run has not taken it.
    Unknown,
    /// There is no run.
    NotFound,
    /// What was sent is too old to be taken, or to be known to have been.
    Expired(String),
    Other(Error),
}

pub(super) fn heard_of(workflow_id: &WorkflowId, heard: &Heard) -> Option<Fate> {
    Some(match heard.answer.as_deref()? {
        ReplyBody::Update { run_id, state } => match (run_id, state) {
            (Some(run_id), UpdateState::Accepted) => Fate::Taken(*run_id),
            (Some(run_id), UpdateState::Answered(outcome)) => Fate::Answered(*run_id, outcome.clone()),
            (Some(_), UpdateState::Refused(failure)) => Fate::Refused(failure.clone()),
            (None, UpdateState::Refused(_)) => Fate::NotFound,
            (Some(run_id), UpdateState::Unanswered) => Fate::Unanswered(*run_id),
            (_, UpdateState::Unknown) => Fate::Unknown,
            (run_id, UpdateState::TakenBefore) => Fate::TakenBefore(*run_id),
            // It will be sent again.
            (_, UpdateState::NotYet(_)) | (None, _) => return None,
        },
        ReplyBody::AlreadyClosed { run_id } => Fate::Ended(*run_id),
        ReplyBody::NotFound => Fate::NotFound,
        ReplyBody::Expired { message } => Fate::Expired(format!("{workflow_id}: {message}")),
        ReplyBody::Invalid { message } => {
            Fate::Other(Error::new(ErrorKind::Invalid, format!("{workflow_id}: {message}")))
        }
        _ => return None,
    })
}

pub(super) fn refused<E: everpulse_sdk::definition::AuthorError>(
    workflow_id: &WorkflowId,
    id: &str,
    failure: everpulse_protocol::Failure,
) -> UpdateError<E> {
    let kind = match failure.kind {
        FailureKind::Failed if failure.value.is_some() => {
            return UpdateError::Refused(Failure::from_recorded(failure));
        }
        FailureKind::NotFound => ErrorKind::Unhandled,
        FailureKind::Taken => ErrorKind::Taken,
        FailureKind::Undecodable => ErrorKind::Invalid,
        FailureKind::Cancelled => ErrorKind::Refused,
        _ => ErrorKind::HandlerFailed,
    };
    Error::new(kind, format!("update `{id}` of {workflow_id} was not taken: {failure}")).into()
}

/// What a run that has ended had answered, from history; none if it had not taken such an update.
pub(super) async fn answer_of_ended(
    core: &Core,
    workflow_id: &WorkflowId,
    run_id: RunId,
    (id, name): (&str, Option<&str>),
    verb: &str,
) -> Result<Option<Outcome>, Error> {
    let records = core.histories.records(workflow_id, Meant { run_id: Some(run_id), exact: true }).await?;
    let records = records.ok_or_else(|| {
        let message =
            format!("cannot {verb} {workflow_id}: its run {run_id} has ended, longer ago than history is kept");
        Error::new(ErrorKind::Expired, message)
    })?;
    let taken_as = records.iter().find_map(|record: &Record| match record.body() {
        Ok(RecordBody::UpdateAccepted { id: of, name, .. }) if of == id => Some(name),
        _ => None,
    });
    let Some(taken_as) = taken_as else { return Ok(None) };
    if let Some(name) = name.filter(|name| *name != taken_as) {
        let message = format!(
            "{workflow_id} has taken no update `{id}` of the name `{name}`: that is the id of an update `{taken_as}`"
        );
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let mut marks = records.iter().flat_map(|record| &record.commands);
    let answer = marks.find(|mark| mark.kind == CommandKind::Answer && mark.name == id);
    let answer = answer.and_then(|mark| mark.answer.as_deref().cloned());
    answer.map(Some).ok_or_else(|| unanswered(workflow_id, run_id, id))
}

pub(super) fn unanswered(workflow_id: &WorkflowId, run_id: RunId, id: &str) -> Error {
    let message = format!("{workflow_id}: its run {run_id} has ended and had not answered update `{id}`");
    Error::new(ErrorKind::AlreadyClosed, message)
}

pub(super) fn not_taken(workflow_id: &WorkflowId, id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{workflow_id} has not taken an update `{id}`"))
}

pub(super) fn taken_before(workflow_id: &WorkflowId, id: &str) -> Error {
    let message = format!(
        "update `{id}` was taken by an earlier run of {workflow_id}, which has ended: what it answered stands in that one's \
         history"
    );
    Error::new(ErrorKind::AlreadyClosed, message)
}

pub(super) fn too_long_ago(workflow_id: &WorkflowId, id: &str) -> Error {
    let message =
        format!("update `{id}` was taken by an earlier run of {workflow_id}, longer ago than history is kept");
    Error::new(ErrorKind::Expired, message)
}
