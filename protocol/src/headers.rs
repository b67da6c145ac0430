//! Headers: names and texts that travel with a run beside its arguments, for those who look at it from outside: the id of a
//! trace, a tenant, a token.
//!
//! They are stored with the start as one payload, sealed as every value of users is, and are passed on as they are: to the
//! tasks of the run, and to its children.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Payload;
use crate::payload::{Format, PayloadError};

/// So many bytes the names and texts of one start or signal may have: every task carries them along.
pub const HEADERS_BYTES_MAX: usize = 4 * 1024;

/// Names and texts. Names are told apart by case; by convention they are small letters.
///
/// ```
/// use everpulse_protocol::Headers;
///
/// let mut headers = Headers::new();
/// headers.insert("tenant", "acme");
/// assert_eq!(headers.get("tenant"), Some("acme"));
/// ```
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

/// Headers are larger than what may travel along.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the headers have {bytes} bytes, the limit is {HEADERS_BYTES_MAX}, as every task carries them along; pass an id instead"
)]
pub struct TooLarge {
    pub bytes: usize,
}

impl Headers {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Gives a name another text, or its first one.
    pub fn insert(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.0.insert(name.into(), text.into());
    }

    /// Takes a name away, with its text.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// # Errors
    /// When they are larger than [`HEADERS_BYTES_MAX`].
    pub fn check(&self) -> Result<(), TooLarge> {
        let bytes = self.iter().map(|(name, text)| name.len() + text.len()).sum();
        if bytes > HEADERS_BYTES_MAX { Err(TooLarge { bytes }) } else { Ok(()) }
    }

    /// As they are stored: nothing, if there are none.
    ///
    /// # Errors
    /// Never with the formats that there are.
    pub fn to_payload(&self, format: Format) -> Result<Option<Payload>, PayloadError> {
        (!self.is_empty()).then(|| Payload::encode_as(format, self)).transpose()
    }

    /// What was stored, once it is opened.
    ///
    /// # Errors
    /// When it is sealed, or no headers.
    pub fn of_payload(stored: Option<&Payload>) -> Result<Self, PayloadError> {
        stored.map_or(Ok(Self::new()), Payload::decode)
    }
}

impl<N: Into<String>, T: Into<String>> FromIterator<(N, T)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, text)| (name.into(), text.into())).collect())
    }
}

// A token may be among them: Debug tells the names alone.
impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_none_are_stored_as_nothing() {
        let headers: Headers = [("tenant", "acme"), ("traceparent", "00-1-2-01")].into_iter().collect();
        for format in [Format::MessagePack, Format::Json] {
            let stored = headers.to_payload(format).expect("texts can be written");
            assert_eq!(Headers::of_payload(stored.as_ref()), Ok(headers.clone()));
        }
        assert_eq!(Headers::new().to_payload(Format::Json), Ok(None));
        assert_eq!(Headers::of_payload(None), Ok(Headers::new()));
    }

    #[test]
    fn what_is_too_large_is_refused_and_no_text_is_shown() {
        let of = |bytes: usize| [("n", "x".repeat(bytes))].into_iter().collect::<Headers>();
        assert_eq!(of(HEADERS_BYTES_MAX - 1).check(), Ok(()));
        assert_eq!(of(HEADERS_BYTES_MAX).check(), Err(TooLarge { bytes: HEADERS_BYTES_MAX + 1 }));
        let secret: Headers = [("authorization", "hunter2")].into_iter().collect();
        assert_eq!(format!("{secret:?}"), r#"{"authorization"}"#);
    }
}
