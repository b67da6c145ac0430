//! Completing from outside what a run waits for: promises, and attempts at activities that were left to be
//! completed later, by their tokens.

use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::Token;
use everpulse_protocol::event::{EventBody, Outcome, Report};
use everpulse_protocol::reply::ReplyBody;
use everpulse_sdk::definition::{AuthorError, Output};
use everpulse_sdk::{CompletionToken, failure};
use serde::Serialize;

use crate::client::Client;
use crate::core::{Core, Deadline, Meant, Question};
use crate::error::{Error, ErrorKind};
use crate::intercept::{Call, CallKind};
use crate::requests::Heard;

impl Client {
    /// Completes a promise, or an activity that was left to be completed later, with a value. The first completion counts, whether the run has come to wait for it or not.
    ///
    /// ```no_run
    /// use everpulse_client::{Client, ErrorKind};
    /// use everpulse_sdk::CompletionToken;
    /// # async fn example(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("pulsar://127.0.0.1:6650").await?;
    /// let token: CompletionToken<bool> = text.parse()?;
    /// match client.complete(&token, true).await {
    ///     Ok(()) => println!("thank you"),
    ///     Err(error) if error.kind() == ErrorKind::AlreadyCompleted => println!("somebody was faster"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyCompleted`] for the second of two, also when it is the same caller, who was not told of the
    /// first; [`ErrorKind::Expired`] when the run went on without it, [`ErrorKind::AlreadyClosed`] when it has ended,
    /// [`ErrorKind::NotFound`] when there is no such run, promise or activity; [`ErrorKind::Timeout`] (stored; it takes effect when
    /// a worker comes), [`ErrorKind::Unreachable`].
    ///
    /// # Cancel safety
    /// When it is dropped the completion may or may not be stored.
    pub async fn complete<T: Output, E>(&self, token: &CompletionToken<T, E>, value: T) -> Result<(), Error> {
        let value = self.core().encode(&value).map_err(|error| Error::payload("the completion", &error))?;
        let parts = token.parts();
        let body = match parts.attempt {
            None => EventBody::PromiseSettled { step: parts.step, outcome: Outcome::Done(value) },
            Some(attempt) => EventBody::AttemptReported { step: parts.step, attempt, report: Report::Done(value) },
        };
        tell(self.core(), parts, body).await
    }

    /// Says that a promise will not be kept. The run gets the error as [`Failure::Failed`](everpulse_sdk::Failure::Failed).
    /// An activity that was left to be completed later is tried again, as its retry policy says.
    ///
    /// ```no_run
    /// # use everpulse_client::Client;
    /// # use everpulse_sdk as everpulse;
    /// use everpulse::{CompletionToken, Error};
    /// # async fn example(client: Client, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let token: CompletionToken<bool> = text.parse()?;
    /// client.fail(&token, Error::msg("the boss is on holiday")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    ///
    /// # Cancel safety
    /// As [`complete`](Self::complete).
    pub async fn fail<T, E: AuthorError>(&self, token: &CompletionToken<T, E>, error: E) -> Result<(), Error> {
        let failure = failure::recorded_alone(&error, self.core().coding.format());
        let parts = token.parts();
        let body = match parts.attempt {
            None => EventBody::PromiseSettled { step: parts.step, outcome: Outcome::Failed(failure) },
            Some(attempt) => {
                let report = Report::Failed { failure, retryable: true };
                EventBody::AttemptReported { step: parts.step, attempt, report }
            }
        };
        tell(self.core(), parts, body).await
    }

    /// An attempt at an activity that was left to be completed later, by its token.
    ///
    /// ```no_run
    /// # use everpulse_client::Client;
    /// # use everpulse_sdk as everpulse;
    /// use everpulse::{CompletionToken, Error};
    /// # async fn example(client: Client, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let token: CompletionToken<String> = text.parse()?;
    /// client.activity(&token).heartbeat("it is with the notary").await?;
    /// client.activity(&token).complete("signed".to_owned()).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn activity<'a, T, E>(&'a self, token: &'a CompletionToken<T, E>) -> Attempt<'a, T, E> {
        Attempt { client: self, token }
    }
}

/// An attempt at an activity that was left to be completed later.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a, T, E> {
    client: &'a Client,
    token: &'a CompletionToken<T, E>,
}

impl<T: Output, E: AuthorError> Attempt<'_, T, E> {
    /// Gives the activity its result. The first end of the attempt counts, also one that comes before it was left.
    ///
    /// # Errors
    /// As [`Client::complete`]; [`ErrorKind::Expired`] also when the attempt was over before.
    ///
    /// # Cancel safety
    /// As [`Client::complete`].
    pub async fn complete(&self, value: T) -> Result<(), Error> {
        self.client.complete(self.token, value).await
    }

    /// Says that the attempt failed. There is another one, as the activity's retry policy says.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    ///
    /// # Cancel safety
    /// As [`Client::complete`].
    pub async fn fail(&self, error: E) -> Result<(), Error> {
        self.client.fail(self.token, error).await
    }

    /// Says that the attempt failed, and that no other could go better: the workflow gets the error at once.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    ///
    /// # Cancel safety
    /// As [`Client::complete`].
    pub async fn fail_for_good(&self, error: E) -> Result<(), Error> {
        let failure = failure::recorded_alone(&error, self.client.core().coding.format());
        self.report(Report::Failed { failure, retryable: false }).await
    }

    /// Says that the attempt goes on, and how far it has come. Each one is an entry in the run's history: some in an hour,
    /// not some in a second.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    ///
    /// # Cancel safety
    /// As [`Client::complete`].
    pub async fn heartbeat<D: Serialize>(&self, details: D) -> Result<(), Error> {
        let details = self.client.core().encode(&details).map_err(|error| Error::payload("the heartbeat", &error))?;
        self.report(Report::Beat { details: Some(details) }).await
    }

    async fn report(&self, report: Report) -> Result<(), Error> {
        let Token { workflow_id, step, attempt, .. } = self.token.parts();
        let Some(attempt) = *attempt else {
            let message = format!("cannot report on number {step} of {workflow_id}: its token is that of a promise");
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let body = EventBody::AttemptReported { step: *step, attempt, report };
        tell(self.client.core(), self.token.parts(), body).await
    }
}

async fn tell(core: &Arc<Core>, token: &Token, body: EventBody) -> Result<(), Error> {
    let call = Call::new(CallKind::Complete).of(token.workflow_id.as_str());
    core.interceptors.around(call, |_| told(core, token, body)).await
}

async fn told(core: &Arc<Core>, token: &Token, body: EventBody) -> Result<(), Error> {
    let id = &token.workflow_id;
    let body = core.sealed(id, body).await?;
    let ticket = core.requests.open();
    // One id, however often it is sent: it counts once.
    let event = core.event(id, Meant { run_id: Some(token.run_id), exact: false }, Some(ticket.reply_to()), &body);
    let what = || format!("complete number {} of {id}", token.step);
    let question = Question {
        what: &what,
        event: &|| event.clone(),
        deadline: Deadline::after(core.limit),
        listen_first: Duration::ZERO,
    };
    let take = |heard: &Heard| answer(token, heard.answer.as_deref()?);
    core.ask(&ticket, question, take, None).await?
}

/// What an owner's answer means; none for what is no answer to this.
fn answer(token: &Token, answer: &ReplyBody) -> Option<Result<(), Error>> {
    let Token { workflow_id, run_id, step, .. } = token;
    let (kind, message) = match answer {
        ReplyBody::Accepted => return Some(Ok(())),
        ReplyBody::AlreadyCompleted => (ErrorKind::AlreadyCompleted, "it was completed before".to_owned()),
        ReplyBody::AlreadyClosed { .. } => (ErrorKind::AlreadyClosed, "the run has ended".to_owned()),
        ReplyBody::NotFound => (
            ErrorKind::NotFound,
            "there is no such run, promise or activity; is the token of this application?".to_owned(),
        ),
        ReplyBody::Expired { message } => (ErrorKind::Expired, message.clone()),
        ReplyBody::Invalid { message } => (ErrorKind::Invalid, message.clone()),
        _ => return None,
    };
    let message = format!("cannot complete number {step} of {workflow_id}, run {run_id}: {message}");
    Some(Err(Error::new(kind, message)))
}
