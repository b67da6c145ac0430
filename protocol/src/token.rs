//! Completion tokens: texts that say what waits to be completed from outside, and where.
//!
//! A token goes by mail, through web hooks and over people's desks, so it is one word of letters, digits, `-` and `_`,
//! and a damaged one is told from an unknown one by its check. It is an address, not a secret: whoever can reach the
//! broker and knows the ids of a run can make it.
//!
//! ```text
//! ept1_ base64url( kind | attempt, if kind is 1 | run id, 16 | step, 4 | workflow id | check, 4 )
//! ```
//! Numbers are big endian; kind 0 is a promise, 1 an attempt at an activity; the check is the beginning of the SHA-256
//! of all before it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{RunId, WorkflowId};

/// What every token of this form begins with.
const PREFIX: &str = "ept1_";
const PROMISE: u8 = 0;
const ATTEMPT: u8 = 1;
const CHECK_BYTES: usize = 4;

/// What waits to be completed, and in which run. As a text it is what is given away.
///
/// ```
/// use everpulse_protocol::token::{InvalidToken, Token};
/// # use everpulse_protocol::{RunId, WorkflowId};
/// # let token = Token {
/// #     workflow_id: WorkflowId::new("order-42")?,
/// #     run_id: RunId("0190c0de-0000-7000-8000-000000000001".parse().expect("a UUID")),
/// #     step: 3,
/// #     attempt: None,
/// # };
/// let text = token.to_string();
/// assert_eq!(text, "ept1_AAGQwN4AAHAAgAAAAAAAAAEAAAADb3JkZXItNDIVzOmq");
/// assert_eq!(text.parse::<Token>(), Ok(token));
/// assert_eq!("order-42".parse::<Token>(), Err(InvalidToken::Prefix));
/// # Ok::<_, everpulse_protocol::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The number of the command that waits.
    pub step: u32,
    /// Of an activity: the attempt that is to be completed. None: it is a promise.
    pub attempt: Option<u32>,
}

/// Why a text is no [`Token`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    #[error("this is no completion token: one begins with `{PREFIX}`")]
    Prefix,
    #[error("the completion token has a character at byte {at} that none has; was it copied whole, and nothing else?")]
    Character { at: usize },
    #[error("the completion token is damaged: its check is not right; was it copied whole?")]
    Damaged,
    #[error("the completion token is of a kind that this release does not know ({kind}); use the release that made it")]
    Kind { kind: u8 },
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(32 + self.workflow_id.as_str().len());
        match self.attempt {
            None => bytes.push(PROMISE),
            Some(attempt) => {
                bytes.push(ATTEMPT);
                bytes.extend_from_slice(&attempt.to_be_bytes());
            }
        }
        bytes.extend_from_slice(self.run_id.0.as_bytes());
        bytes.extend_from_slice(&self.step.to_be_bytes());
        bytes.extend_from_slice(self.workflow_id.as_str().as_bytes());
        bytes.extend_from_slice(&check(&bytes));
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    /// Reads a token; white space around it is passed over.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _) => InvalidToken::Character { at: at + PREFIX.len() },
            _ => InvalidToken::Damaged,
        })?;
        let content = bytes.len().checked_sub(CHECK_BYTES).ok_or(InvalidToken::Damaged)?;
        let (mut rest, found) = bytes.split_at(content);
        if found != check(rest) {
            return Err(InvalidToken::Damaged);
        }
        let attempt = match u8::from_be_bytes(take(&mut rest)?) {
            PROMISE => None,
            ATTEMPT => Some(u32::from_be_bytes(take(&mut rest)?)),
            kind => return Err(InvalidToken::Kind { kind }),
        };
        let run_id = RunId(Uuid::from_bytes(take(&mut rest)?));
        let step = u32::from_be_bytes(take(&mut rest)?);
        let workflow_id = str::from_utf8(rest).ok().and_then(|text| WorkflowId::new(text).ok());
        Ok(Self { workflow_id: workflow_id.ok_or(InvalidToken::Damaged)?, run_id, step, attempt })
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::digest(bytes);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], InvalidToken> {
    let (head, tail) = rest.split_first_chunk().ok_or(InvalidToken::Damaged)?;
    *rest = tail;
    Ok(*head)
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(attempt: Option<u32>) -> Token {
        let workflow_id = WorkflowId::new("Bestellung №7/ä").expect("a good id");
        Token { workflow_id, run_id: RunId(Uuid::from_u128(0x0190_c0de << 96 | 1)), step: 7, attempt }
    }

    #[test]
    fn a_token_is_one_word_and_comes_back_as_it_was() {
        for token in [token(None), token(Some(1)), token(Some(u32::MAX))] {
            let text = token.to_string();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(text.parse(), Ok(token.clone()));
            assert_eq!(format!(" {text}\n").parse(), Ok(token));
        }
    }

    #[test]
    fn a_token_that_lost_or_changed_a_character_is_damaged() {
        let text = token(Some(3)).to_string();
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(changed.parse::<Token>(), Err(InvalidToken::Damaged), "{changed}");
            assert!(text[..at].parse::<Token>().is_err(), "{}", &text[..at]);
        }
    }

    #[test]
    fn what_is_no_token_is_told_what_is_wrong() {
        let words = |text: &str| text.parse::<Token>().expect_err("is none").to_string();
        assert_eq!(words(""), "this is no completion token: one begins with `ept1_`");
        assert!(words("ept1_AB.CD").starts_with("the completion token has a character at byte 7 that none has"));
        let mut later = vec![9, 1, 2];
        later.extend_from_slice(&check(&later));
        let later = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(later));
        assert_eq!(later.parse::<Token>(), Err(InvalidToken::Kind { kind: 9 }));
    }
}
