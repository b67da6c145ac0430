//! Failures as authors see them: typed, made from and into what is recorded.
//!
//! What is recorded is [`everpulse_protocol::Failure`], which a reader without the author's type can show.

use std::any::Any;
use std::fmt;

use everpulse_protocol::payload::{Format, PayloadError};
use everpulse_protocol::{self as protocol, FailureKind, Payload};
use serde::{Deserialize, Serialize};

use crate::definition::AuthorError;

/// Why a call gave no result. `E` is the error type of the activity, step or workflow that was called.
///
/// An author's enum takes it in with `#[from] Failure<PaymentError>`; [`Error`](crate::Error) takes any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure<E> {
    /// The code returned this error, and it is final: of a workflow, or what `never` matches.
    Failed(E),
    /// All attempts failed.
    Exhausted {
        attempts: u32,
        /// How the last one failed.
        last: Box<Failure<E>>,
    },
    /// It took longer than it may.
    TimedOut,
    /// Somebody asked the run to cancel.
    Cancelled,
    /// Somebody ended the run at once.
    Terminated,
    /// The code panicked.
    Panicked { message: String },
    /// A value could not be read or written as the type that the code names.
    Undecodable { message: String },
    /// Nobody has code of that name, or there is no such run.
    NotFound { message: String },
    /// A child's workflow id belongs to another run, which is open or has ended not long ago.
    Taken { message: String },
    /// An interceptor of the worker did not let the activity begin.
    Refused { message: String },
    /// The run ended so that another one could go on for it. Only who looks at that run alone is told so: a client's handle and
    /// a parent hear how the last run ends.
    ContinuedAsNew { message: String },
    /// The run's history became longer than its worker puts up with; the message has the figures.
    HistoryExceeded { message: String },
    /// A kind of failure that this release does not know.
    Unknown { kind: String, message: String },
}

impl<E> Failure<E> {
    /// The author's error, if that is what it came to (also as the last of all attempts).
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Exhausted { last, .. } => last.error(),
            _ => None,
        }
    }

    /// The author's error, if that is what it came to (also as the last of all attempts).
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Exhausted { last, .. } => last.into_error(),
            _ => None,
        }
    }
}

impl<E: AuthorError> Failure<E> {
    /// Reads what was recorded.
    #[must_use]
    pub fn from_recorded(recorded: protocol::Failure) -> Self {
        let protocol::Failure { kind, message, value, attempts, last, .. } = recorded;
        match kind {
            FailureKind::Failed => Self::of_value(value.as_ref(), message),
            FailureKind::Exhausted => {
                let last = match last {
                    // A value is the author's error, whatever else is or is not said.
                    None | Some(FailureKind::Exhausted) => Self::of_value(value.as_ref(), message),
                    Some(kind) => {
                        let last = protocol::Failure { value, ..protocol::Failure::new(kind, message) };
                        Self::from_recorded(last)
                    }
                };
                Self::Exhausted { attempts: attempts.unwrap_or_default(), last: Box::new(last) }
            }
            FailureKind::TimedOut => Self::TimedOut,
            FailureKind::Cancelled => Self::Cancelled,
            FailureKind::Terminated => Self::Terminated,
            FailureKind::Panicked => Self::Panicked { message },
            FailureKind::Undecodable => Self::Undecodable { message },
            FailureKind::NotFound => Self::NotFound { message },
            FailureKind::Taken => Self::Taken { message },
            FailureKind::Refused => Self::Refused { message },
            FailureKind::ContinuedAsNew => Self::ContinuedAsNew { message },
            FailureKind::HistoryExceeded => Self::HistoryExceeded { message },
            FailureKind::Unknown(kind) => Self::Unknown { kind, message },
            kind => Self::Unknown { kind: format!("{kind:?}"), message },
        }
    }

    fn of_value(value: Option<&Payload>, message: String) -> Self {
        match value.map(Payload::decode::<E>) {
            Some(Ok(error)) => Self::Failed(error),
            Some(Err(error)) => Self::Undecodable { message: format!("{message} ({error})") },
            None => Self::Undecodable { message: format!("{message} (the error was recorded without its value)") },
        }
    }
}

impl<E> From<PayloadError> for Failure<E> {
    fn from(error: PayloadError) -> Self {
        Self::Undecodable { message: error.to_string() }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error}"),
            Self::Exhausted { attempts, last } => write!(f, "all {attempts} attempts failed, the last with: {last}"),
            Self::TimedOut => f.write_str("it timed out"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Terminated => f.write_str("it was terminated"),
            Self::Panicked { message } => write!(f, "it panicked: {message}"),
            Self::Undecodable { message }
            | Self::NotFound { message }
            | Self::Taken { message }
            | Self::Refused { message }
            | Self::ContinuedAsNew { message }
            | Self::HistoryExceeded { message } => f.write_str(message),
            Self::Unknown { kind, message } => write!(f, "{message} ({kind})"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for Failure<E> {}

/// An author's error as it is recorded.
pub fn recorded<E: AuthorError>(error: &E, type_name: &str, chain: Vec<String>) -> protocol::Failure {
    recorded_as(crate::format::current(), error, type_name, chain)
}

pub(crate) fn recorded_as<E: AuthorError>(
    format: Format,
    error: &E,
    type_name: &str,
    chain: Vec<String>,
) -> protocol::Failure {
    let mut failure = protocol::Failure::new(FailureKind::Failed, error.to_string());
    type_name.clone_into(&mut failure.type_name);
    failure.chain = chain;
    // Without its value the failure still has a message; a reader that wants the value is told.
    failure.value = Payload::encode_as(format, error).ok();
    failure
}

/// An author's error as it is recorded by whoever has it as a value and knows no more of it than this trait.
#[must_use]
pub fn recorded_alone<E: AuthorError>(error: &E, format: Format) -> protocol::Failure {
    match (error as &dyn Any).downcast_ref::<crate::Error>() {
        Some(ours) => recorded_as(format, error, ours.type_name(), ours.chain().to_vec()),
        None => recorded_as(format, error, std::any::type_name::<E>(), Vec::new()),
    }
}

/// The `Display` of all sources of an error, outermost first.
pub(crate) fn sources(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |source| source.source()).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
    enum PaymentError {
        #[error("declined: {0}")]
        Declined(String),
    }

    fn declined() -> protocol::Failure {
        recorded(&PaymentError::Declined("no funds".into()), "PaymentError", Vec::new())
    }

    #[test]
    fn an_error_comes_back_as_it_was() {
        let failure = Failure::<PaymentError>::from_recorded(declined());
        assert_eq!(failure, Failure::Failed(PaymentError::Declined("no funds".into())));
        assert_eq!(failure.to_string(), "declined: no funds");
    }

    #[test]
    fn what_ran_out_says_how_the_last_attempt_failed() {
        let failure = Failure::<PaymentError>::from_recorded(declined().exhausted(3));
        let last = Box::new(Failure::Failed(PaymentError::Declined("no funds".into())));
        assert_eq!(failure, Failure::Exhausted { attempts: 3, last });

        let timed_out = protocol::Failure::new(FailureKind::TimedOut, "too slow").exhausted(5);
        let failure = Failure::<PaymentError>::from_recorded(timed_out);
        assert_eq!(failure, Failure::Exhausted { attempts: 5, last: Box::new(Failure::TimedOut) });
        assert_eq!(failure.error(), None);
    }

    #[test]
    fn an_error_of_another_shape_is_undecodable_and_still_says_what_it_was() {
        let failure = Failure::<u64>::from_recorded(declined());
        let Failure::Undecodable { message } = failure else { panic!("{failure:?}") };
        assert!(message.starts_with("declined: no funds ("), "{message}");
    }

    #[test]
    fn kinds_of_later_releases_keep_their_name() {
        let later = protocol::Failure::new(FailureKind::Unknown("frozen".into()), "too cold");
        assert_eq!(Failure::<String>::from_recorded(later).to_string(), "too cold (frozen)");
    }
}
