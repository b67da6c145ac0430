//! What can go wrong for a caller: the kind says what to do next, the message what was attempted, on which id.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::payload::PayloadError;
use everpulse_protocol::{CodingError, InvalidId, RunId, WorkflowId, blob};
use everpulse_sdk::Failure;
use everpulse_transport as transport;

/// What a caller does next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An id, an argument, an option or an address is wrong: correct it. Nothing was sent.
    Invalid,
    /// A payload is larger than the broker takes. Nothing was sent.
    TooLarge,
    /// There is no such run or dead letter.
    NotFound,
    /// It is older than what is kept: the end of the run, or the memory that would say whether an input was taken before.
    /// Or it is too late: nobody waits any more for what was to be completed.
    Expired,
    /// A value is there that this client cannot open: it lacks a key ([`Error::missing_key`]) or a layer, or the value is
    /// damaged. Give the client the codec of its application.
    Undecodable,
    /// The workflow id is taken, and the start's policy says to refuse then; or the id of an update is that of one of another
    /// name.
    Taken,
    /// The run has ended before.
    AlreadyClosed,
    /// What was to be completed was completed before.
    AlreadyCompleted,
    /// The run's code does not know this question, or cannot answer it yet: correct the name, or deploy the code.
    Unhandled,
    /// The run's code was asked and failed at it, without harm to the run: its author has to look.
    HandlerFailed,
    /// The step that the dead letter belongs to has ended: a redrive could not change it any more.
    AlreadyFailed,
    /// No answer in time. What was sent is stored, and takes effect when a worker takes it.
    Timeout,
    /// The broker cannot be reached, so nothing is known to be stored; or a store of large values cannot, in which what is
    /// asked for lies: try again later, with the same id.
    Unreachable,
    /// The token is missing, wrong, or not allowed to do this.
    Unauthorized,
    /// The broker or its policies refuse: a person has to look.
    Refused,
    /// Stored data cannot be read: a person has to look.
    Corrupt,
    /// An interceptor of this client did not let the call through: it says why. Nothing was sent.
    Intercepted,
    /// The client was closed.
    Closed,
}

/// What went wrong. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// The key that is not here.
    key: Option<String>,
}

impl Error {
    /// What a caller does next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None, key: None }))
    }

    fn with_source(
        kind: ErrorKind,
        message: String,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, message, source: Some(source.into()), key: None }))
    }

    pub(crate) fn invalid_id(what: &str, error: &InvalidId) -> Self {
        Self::with_source(ErrorKind::Invalid, format!("cannot use this as {what}: {error}"), error.clone())
    }

    pub(crate) fn sealing(id: &WorkflowId, error: &CodingError) -> Self {
        let kind = match error {
            CodingError::Away { .. } => ErrorKind::Unreachable,
            CodingError::Refused { layer, .. } if layer == blob::LAYER => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        };
        Self::with_source(kind, format!("cannot write a value for {id}: {error}"), error.clone())
    }

    pub(crate) fn undecodable(id: &WorkflowId, error: &CodingError) -> Self {
        let kind = match error {
            CodingError::Away { .. } => ErrorKind::Unreachable,
            _ => ErrorKind::Undecodable,
        };
        Self(Arc::new(Inner {
            kind,
            message: format!("{id}: {error}"),
            source: Some(Box::new(error.clone())),
            key: error.missing_key().map(str::to_owned),
        }))
    }

    /// The name of the key that this client lacks, of an error of the kind [`Undecodable`](ErrorKind::Undecodable).
    #[must_use]
    pub fn missing_key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    pub(crate) fn payload(what: &str, error: &PayloadError) -> Self {
        let message = format!("cannot encode {what}: {error}; its Serialize implementation must succeed");
        Self::with_source(ErrorKind::Invalid, message, error.clone())
    }

    /// A send that failed for good, with what was to be sent.
    pub(crate) fn sending(what: &str, error: &transport::Error) -> Self {
        let hint = match error.kind() {
            transport::ErrorKind::TooLarge => "; put large values into a store and pass where they are",
            _ => "",
        };
        Self::with_source(kind_of(error), format!("cannot send {what}: {error}{hint}"), error.clone())
    }

    pub(crate) fn not_found(id: &WorkflowId) -> Self {
        Self::new(
            ErrorKind::NotFound,
            format!("there is no run of workflow id {id}; was it started here, under this id?"),
        )
    }

    pub(crate) fn already_closed(id: &WorkflowId, run: RunId, what: &str) -> Self {
        Self::new(ErrorKind::AlreadyClosed, format!("cannot {what} {id}: its run {run} has ended"))
    }

    pub(crate) fn timeout(what: &str, after: Duration) -> Self {
        let message = format!(
            "{what}: stored, and no worker answered within {after:?}; it takes effect when one does. Does a worker of \
             this application run?"
        );
        Self::new(ErrorKind::Timeout, message)
    }

    pub(crate) fn unreachable(what: &str, after: Duration) -> Self {
        let message = format!("{what}: the broker did not confirm it within {after:?}; is it running and reachable?");
        Self::new(ErrorKind::Unreachable, message)
    }
}

fn kind_of(error: &transport::Error) -> ErrorKind {
    use transport::ErrorKind as Kind;
    match error.kind() {
        Kind::Invalid => ErrorKind::Invalid,
        Kind::TooLarge => ErrorKind::TooLarge,
        Kind::Unauthorized => ErrorKind::Unauthorized,
        Kind::Refused | Kind::NotFound | Kind::Broker => ErrorKind::Refused,
        Kind::Closed => ErrorKind::Closed,
        _ => ErrorKind::Unreachable,
    }
}

impl From<transport::Error> for Error {
    fn from(error: transport::Error) -> Self {
        Self::with_source(kind_of(&error), error.to_string(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("message", &self.0.message).finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message has the words of what is beneath it already; whoever prints the whole chain wants them once.
        self.0.source.as_deref()?.source()
    }
}

/// Why a run has no result for the caller.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ResultError<E> {
    /// The run ended so: this is its outcome.
    Failed(Failure<E>),
    /// There is no such run.
    NotFound(Error),
    /// The run has not ended in time, or no worker answered in time. It goes on; ask again.
    Timeout(Error),
    /// The broker could not be reached in the time that was given. The run goes on; ask again.
    Unreachable(Error),
    /// There is a result, and this client cannot open it: see [`Error::missing_key`].
    Undecodable(Error),
    /// The question could not be asked, or not answered; [`Error::kind`] says more.
    Other(Error),
}

impl<E> ResultError<E> {
    /// How the run failed, if it was the run that failed.
    pub fn failure(&self) -> Option<&Failure<E>> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// How the run failed, if it was the run that failed.
    ///
    /// # Errors
    /// The client's own error if it was not.
    pub fn into_failure(self) -> Result<Failure<E>, Error> {
        match self {
            Self::Failed(failure) => Ok(failure),
            Self::NotFound(error)
            | Self::Timeout(error)
            | Self::Unreachable(error)
            | Self::Undecodable(error)
            | Self::Other(error) => Err(error),
        }
    }
}

impl<E> From<Error> for ResultError<E> {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound(error),
            ErrorKind::Undecodable => Self::Undecodable(error),
            ErrorKind::Timeout => Self::Timeout(error),
            ErrorKind::Unreachable => Self::Unreachable(error),
            _ => Self::Other(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for ResultError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => fmt::Display::fmt(failure, f),
            Self::NotFound(error)
            | Self::Timeout(error)
            | Self::Unreachable(error)
            | Self::Undecodable(error)
            | Self::Other(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for ResultError<E> {}

/// Why an update has no reply for the caller.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// The workflow's validator refused it: nothing has happened, and nothing will.
    Refused(Failure<E>),
    /// It was taken, and this is the workflow's answer.
    Failed(Failure<E>),
    /// It could not be requested, or not answered; [`Error::kind`] says more.
    Other(Error),
}

impl<E> UpdateError<E> {
    /// The workflow's own error, whether it refused the update or failed at it.
    pub fn failure(&self) -> Option<&Failure<E>> {
        match self {
            Self::Refused(failure) | Self::Failed(failure) => Some(failure),
            Self::Other(_) => None,
        }
    }

    /// What a caller does next, if it was not the workflow that said no.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Other(error) => Some(error.kind()),
            Self::Refused(_) | Self::Failed(_) => None,
        }
    }
}

impl<E> From<Error> for UpdateError<E> {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl<E: fmt::Display> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => write!(f, "refused: {failure}"),
            Self::Failed(failure) => fmt::Display::fmt(failure, f),
            Self::Other(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for UpdateError<E> {}
