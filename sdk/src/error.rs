//! One error for those who want no enum.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::sources;

/// Any error, as what can be recorded of it: message, type and sources.
///
/// `?` makes it from every `std::error::Error`, a [`Failure`](crate::Failure) of a call among them. It is no
/// `std::error::Error` itself, as that would stand in the way of the former; a call that fails with
/// it gives `Failure<Error>`, which is one.
///
/// ```
/// fn parse(text: &str) -> Result<u32, everpulse_sdk::Error> {
///     Ok(text.trim().parse::<u32>()?)
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    message: String,
    #[serde(rename = "type", default)]
    type_name: String,
    #[serde(default)]
    chain: Vec<String>,
}

impl Error {
    /// An error that is only a message.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), type_name: String::new(), chain: Vec::new() }
    }

    /// The same error behind a message that says what was attempted.
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        self.chain.insert(0, std::mem::replace(&mut self.message, message.to_string()));
        self
    }

    /// The name of the type that it was made from; empty for a mere message.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The messages of the sources, outermost first.
    #[must_use]
    pub fn chain(&self) -> &[String] {
        &self.chain
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self { message: error.to_string(), type_name: std::any::type_name::<E>().to_owned(), chain: sources(&error) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        // `{:#}` shows the sources too, as is usual for errors of this sort.
        if f.alternate() {
            self.chain.iter().try_for_each(|source| write!(f, ": {source}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn it_is_made_from_any_error_and_from_the_failure_of_a_call() {
        fn call(error: Failure<Error>) -> Result<(), Error> {
            Err(error)?
        }
        let io = std::io::Error::other("disk full");
        let error = call(Failure::Failed(Error::from(io))).unwrap_err();
        assert_eq!(error.to_string(), "disk full");
    }

    #[test]
    fn sources_are_kept_and_shown_on_request() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot charge")]
        struct Outer(#[source] std::num::ParseIntError);
        let error = Error::from(Outer("x".parse::<u8>().unwrap_err())).context("order o-1");
        assert_eq!(error.to_string(), "order o-1");
        assert_eq!(format!("{error:#}"), "order o-1: cannot charge: invalid digit found in string");
        assert!(error.type_name().ends_with("Outer"));
    }
}
