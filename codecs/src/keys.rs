//! Keys by name: the newest seals, all open.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

/// A key of 256 bits. What it is shows nowhere: not in `Debug`, not in errors.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// Something is no key, or no name of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKey(&'static str);

/// A text is no list of keys: which line says so, from 1, and what is wrong with it. What the line was is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    #[error("line {line}: {error}")]
    Key { line: usize, error: InvalidKey },
    #[error("line {line}: a line has a name and a key, with a space between them")]
    Line { line: usize },
    #[error("line {line}: a name of a key is made of letters, digits, `-`, `_` and `.`, at most 64")]
    Name { line: usize },
    #[error("line {line}: there is a key of this name already; a name stands for one key, for ever")]
    Twice { line: usize },
    #[error("there is no key in it")]
    Empty,
}

impl Key {
    /// Reads 32 bytes that are written in Base64, as `openssl rand -base64 32` gives them.
    ///
    /// # Errors
    /// When it is no Base64, or of other bytes than 32. What it was is not said.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes =
            STANDARD.decode(text.trim()).map_err(|_| InvalidKey("a key is written in Base64, and this is none"))?;
        let key =
            bytes.try_into().map_err(|_| InvalidKey("a key has 32 bytes: make one with `openssl rand -base64 32`"))?;
        Ok(Self(key))
    }

    /// A new one, from the operating system's randomness; for tests and tools.
    ///
    /// # Errors
    /// When the operating system has none.
    pub fn generate() -> Result<Self, InvalidKey> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| InvalidKey("the operating system has no randomness to give"))?;
        Ok(Self(key))
    }

    /// What keys for single values are derived from.
    pub(crate) fn root(&self, salt: &[u8]) -> Prk {
        Salt::new(HKDF_SHA256, salt).extract(&self.0)
    }
}

impl From<[u8; 32]> for Key {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Keys by name: the first seals, all of them open.
///
/// To change the key: give every worker and client the new one beside the old (`Keys::new("k1", ..).also("k2", ..)`), so that
/// all can open it; then let the new one seal (`Keys::new("k2", ..).also("k1", ..)`). The old one can go when nothing is kept
/// that it sealed: runs that were open then have ended, and the retention of their history is over.
///
/// A name is no secret: it stands beside what was sealed.
///
/// # Determinism
/// Sealing draws random bytes from the operating system, and nothing of a run depends on them: what a replayed run asks for
/// is compared by number, kind and name, and the code of a run sees values only when they are open.
#[derive(Clone)]
pub struct Keys {
    newest: String,
    keys: BTreeMap<String, Key>,
}

impl Keys {
    /// Seals with this key.
    ///
    /// # Panics
    /// When the name is none: letters, digits, `-`, `_` and `.`, at most 64.
    #[must_use]
    pub fn new(name: impl Into<String>, key: impl Into<Key>) -> Self {
        let name = checked(name.into());
        Self { keys: BTreeMap::from([(name.clone(), key.into())]), newest: name }
    }

    /// Opens what was sealed with this key as well.
    ///
    /// # Panics
    /// When the name is none, or there is a key of this name already.
    #[must_use]
    pub fn also(mut self, name: impl Into<String>, key: impl Into<Key>) -> Self {
        let name = checked(name.into());
        let before = self.keys.insert(name.clone(), key.into());
        assert!(before.is_none(), "there are two keys of the name `{name}`: a name stands for one key, for ever");
        self
    }

    pub(crate) fn newest(&self) -> (&str, &Key) {
        (&self.newest, &self.keys[&self.newest])
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Key> {
        self.keys.get(name)
    }
}

/// Reads a line for each key: its name, a space, and the key in Base64. The first one seals. Empty lines and those that
/// begin with `#` are passed over.
impl FromStr for Keys {
    type Err = InvalidKeys;

    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let mut keys: Option<Self> = None;
        for (line, words) in (1..).zip(text.lines().map(str::trim)) {
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let (name, key) = words.split_once(char::is_whitespace).ok_or(InvalidKeys::Line { line })?;
            let key = Key::from_base64(key).map_err(|error| InvalidKeys::Key { line, error })?;
            if !is_name(name) {
                return Err(InvalidKeys::Name { line });
            }
            keys = Some(match keys {
                Some(keys) if keys.keys.contains_key(name) => return Err(InvalidKeys::Twice { line }),
                Some(keys) => keys.also(name, key),
                None => Self::new(name, key),
            });
        }
        keys.ok_or(InvalidKeys::Empty)
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

fn checked(name: String) -> String {
    assert!(is_name(&name), "{name:?} cannot be a key's name: use letters, digits, `-`, `_` and `.`, at most 64");
    name
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} seals of {:?})", self.newest, self.keys.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_shows() {
        let key = Key::from([0xab; 32]);
        let keys = Keys::new("k2", key.clone()).also("k1", [0xcd; 32]);
        let codec = crate::Codec::json().encrypt(keys.clone());
        let shown = format!("{key:?} {keys:?} {codec:?} {:?}", everpulse_protocol::Coding::from(codec.clone()));
        assert_eq!(shown.matches("k1").count(), 2, "names show: {shown}");
        for secret in ["171", "205", "ab, ", "abab", "cdcd"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn a_key_is_read_from_base64_and_an_error_does_not_say_what_it_was() {
        let text = STANDARD.encode([7; 32]);
        assert_eq!(Key::from_base64(&format!(" {text}\n")).unwrap().0, [7; 32]);
        let error = Key::from_base64(&text[4..]).unwrap_err();
        assert!(error.to_string().contains("a key has 32 bytes"), "{error}");
        assert!(Key::from_base64("c2VjcmV0!").unwrap_err().to_string().contains("this is none"));
        assert_ne!(Key::generate().unwrap().0, Key::generate().unwrap().0);
    }

    #[test]
    fn keys_are_read_line_by_line_and_the_first_one_seals() {
        let (first, second) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let keys: Keys = format!("# of November\n\nnew  {first}\r\n old\t{second}\n").parse().unwrap();
        assert_eq!((keys.newest().0, keys.newest().1.0), ("new", [1; 32]));
        assert_eq!(keys.get("old").unwrap().0, [2; 32]);
        let error = |text: &str| text.parse::<Keys>().unwrap_err().to_string();
        assert!(error("# none\n").contains("no key"));
        assert!(error(&format!("\n{first}")).starts_with("line 2: a line has a name and a key"));
        assert!(error(&format!("a+b {first}")).starts_with("line 1: a name"));
        assert!(error(&format!("a {first}\na {second}")).starts_with("line 2: there is a key of this name"));
        let secret = error("a c2VjcmV0");
        assert!(secret.contains("a key has 32 bytes") && !secret.contains("c2V"), "{secret}");
    }

    #[test]
    #[should_panic(expected = "two keys of the name `k1`")]
    fn a_name_stands_for_one_key() {
        let _ = Keys::new("k1", [1; 32]).also("k1", [2; 32]);
    }

    #[test]
    #[should_panic(expected = "cannot be a key's name")]
    fn a_name_that_would_be_read_as_more_is_refused() {
        let _ = Keys::new("k1+lz4", [1; 32]);
    }
}
