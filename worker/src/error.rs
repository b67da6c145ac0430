//! What can go wrong between a worker and its broker.

use std::fmt;

/// Why a worker could not start.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The broker does not answer: start it, or correct the address.
    Unreachable,
    /// The broker refuses the token.
    Unauthorized,
    /// The namespace, its policies or its layout contradict what this worker needs; the message names it.
    Refused,
    /// An address, a name or a set of definitions is not valid.
    Invalid,
    /// The machine does not give what is needed: threads, files, disk.
    System,
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn thread(error: std::io::Error) -> Self {
        Self {
            kind: ErrorKind::System,
            message: format!("an engine thread could not be started: {error}"),
            source: Some(Box::new(error)),
        }
    }

    pub(crate) fn cache(what: String, error: std::io::Error) -> Self {
        Self { kind: ErrorKind::System, message: format!("{what}: {error}"), source: Some(Box::new(error)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message has the words of what is beneath it already; whoever prints the whole chain wants them once.
        self.source.as_deref()?.source()
    }
}

impl From<everpulse_transport::Error> for Error {
    fn from(error: everpulse_transport::Error) -> Self {
        use everpulse_transport::ErrorKind as From;
        let kind = match error.kind() {
            From::Unreachable | From::Closed | From::OutcomeUnknown => ErrorKind::Unreachable,
            From::Unauthorized => ErrorKind::Unauthorized,
            From::Refused => ErrorKind::Refused,
            From::Invalid | From::TooLarge => ErrorKind::Invalid,
            _ => ErrorKind::System,
        };
        Self { kind, message: error.to_string(), source: Some(Box::new(error)) }
    }
}
