//! The one error of this crate: what kind it is (what a caller does next), and a message that says what was
//! attempted, where, and what to do. No type of the `pulsar` crate shows.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use pulsar::proto::ServerError as Code;

/// What a caller does next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An address, a name or an option is wrong: correct it.
    Invalid,
    /// Nobody answers, or not in time: try again later. Nothing was done.
    Unreachable,
    /// The token or the certificate is missing, wrong, or not allowed to do this.
    Unauthorized,
    /// The broker answers and refuses, or its policies contradict ours: a person has to look.
    Refused,
    /// There is no such topic, namespace or tenant.
    NotFound,
    /// A message is larger than the limit; it was not sent.
    TooLarge,
    /// A message was sent and no receipt came: it may or may not be stored.
    OutcomeUnknown,
    /// The transport, or this part of it, was closed.
    Closed,
    /// The embedded broker could not do its work; the message is its own.
    Broker,
}

/// What went wrong. Cheap to clone: many senders share the outcome of one frame.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// What a caller does next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error(Arc::new(Inner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// What the `pulsar` crate says, with what was attempted in front.
    pub(crate) fn from_pulsar(attempt: impl fmt::Display, error: &pulsar::Error) -> Self {
        let kind = kind_of(error);
        let hint = match kind {
            ErrorKind::Unauthorized => {
                "; is the token or the certificate right (EVERPULSE_TOKEN, EVERPULSE_TOKEN_FILE, EVERPULSE_TLS_CERT), and may \
                 its role use this namespace?"
            }
            ErrorKind::NotFound => "; was the application set up?",
            ErrorKind::Unreachable => "; is the broker running, and is the address right?",
            _ => "",
        };
        Error::new(kind, format!("{attempt}: {error}{hint}"))
    }

    /// Whether trying the same again later can help.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unreachable | ErrorKind::OutcomeUnknown)
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
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

fn kind_of(error: &pulsar::Error) -> ErrorKind {
    server_error(error).map_or(ErrorKind::Unreachable, kind_of_code)
}

/// What the broker's own error code asks for. What is not known to last passes: a broker that starts, moves a topic or has
/// lost its bookies says so in many ways.
pub(crate) fn kind_of_code(code: Code) -> ErrorKind {
    match code {
        Code::AuthenticationError | Code::AuthorizationError => ErrorKind::Unauthorized,
        Code::TopicNotFound | Code::SubscriptionNotFound => ErrorKind::NotFound,
        Code::NotAllowedError
        | Code::TopicTerminatedError
        | Code::IncompatibleSchema
        | Code::InvalidTopicName
        | Code::ProducerFenced
        | Code::UnsupportedVersionError => ErrorKind::Refused,
        _ => ErrorKind::Unreachable,
    }
}

fn server_error(error: &pulsar::Error) -> Option<Code> {
    use pulsar::error::{ConnectionError, ConsumerError, Error, ProducerError, ServiceDiscoveryError};
    let connection = match error {
        Error::ServiceDiscovery(ServiceDiscoveryError::Query(code, _)) => return *code,
        Error::Connection(error)
        | Error::Consumer(ConsumerError::Connection(error))
        | Error::Producer(ProducerError::Connection(error))
        | Error::ServiceDiscovery(ServiceDiscoveryError::Connection(error)) => error,
        _ => return None,
    };
    match connection {
        ConnectionError::PulsarError(code, _) => *code,
        _ => None,
    }
}
