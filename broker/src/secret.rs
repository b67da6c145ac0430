//! What only the other side may see. A secret says nothing of itself where things are logged, printed or compared aloud.

use std::fmt;

/// A token. `Debug` shows that there is one.
///
/// ```
/// let token = everpulse_broker::Secret::from("canary");
/// assert_eq!(format!("{token:?}"), "***");
/// assert_eq!(token.expose(), "canary");
/// ```
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for where it is checked.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
