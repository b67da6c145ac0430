//! The schemas that stand in an application, of which each was compatible with the one before it.

use std::collections::BTreeMap;
use std::fmt;

use everpulse_protocol::schema::{Kind, Published};
use serde_json::Value;

use crate::compare::{Mismatch, has_all, reads};

/// What is published for each definition and stands.
///
/// What was published later stands if it is compatible with what stands before it; else it is void, for every reader alike. So
/// of two workers that publish at once and contradict each other, the first one is right, and both learn it by reading.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    all: BTreeMap<(Kind, String, Option<u32>), Published>,
}

impl Standing {
    /// One more that was published.
    pub fn take(&mut self, published: Published) {
        let key = published.key();
        if published.forgotten {
            self.all.remove(&key);
            return;
        }
        if let Ok(merged) = self.check(&published) {
            self.all.insert(key, merged);
        }
    }

    /// Whether it may be published after those that stand; with what it does not say, and they do.
    ///
    /// # Errors
    /// What differs, and what can be done.
    pub fn check(&self, new: &Published) -> Result<Published, Refused> {
        let Some(old) = self.all.get(&new.key()) else { return Ok(new.clone()) };
        let refused = |what, differs| Refused { of: new.title(), what, differs: Box::new(differs) };
        if let (Some(was), Some(is)) = (value(old.takes.as_deref()), value(new.takes.as_deref())) {
            let what = what_is_taken(new.kind);
            reads(&is, &was).map_err(|mismatch| refused(what, Differs::Before(mismatch)))?;
            has_all(&was, &is).map_err(|mismatch| refused(what, Differs::After(mismatch)))?;
        }
        for (what, was, is) in [("its result", &old.gives, &new.gives), ("its error", &old.fails, &new.fails)] {
            if let (Some(was), Some(is)) = (value(was.as_deref()), value(is.as_deref())) {
                reads(&is, &was).map_err(|mismatch| refused(what, Differs::Before(mismatch)))?;
                reads(&was, &is).map_err(|mismatch| refused(what, Differs::After(mismatch)))?;
            }
        }
        let mut merged = new.clone();
        merged.takes = merged.takes.or_else(|| old.takes.clone());
        merged.gives = merged.gives.or_else(|| old.gives.clone());
        merged.fails = merged.fails.or_else(|| old.fails.clone());
        Ok(merged)
    }

    /// Whether what stands says all that this says.
    #[must_use]
    pub fn says(&self, new: &Published) -> bool {
        self.all.get(&new.key()).is_some_and(|old| {
            let same = |old: &Option<String>, new: &Option<String>| new.is_none() || old == new;
            same(&old.takes, &new.takes) && same(&old.gives, &new.gives) && same(&old.fails, &new.fails)
        })
    }

    /// All that stand, by kind, name and version.
    pub fn iter(&self) -> impl Iterator<Item = &Published> {
        self.all.values()
    }

    /// The one of that name; without a version the newest.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str, version: Option<u32>) -> Option<&Published> {
        let of_name = |published: &&Published| {
            published.kind == kind && published.name == name && (version.is_none() || published.version == version)
        };
        self.all.values().rfind(of_name)
    }
}

/// What cannot be read is compared with nothing.
fn value(text: Option<&str>) -> Option<Value> {
    serde_json::from_str(text?).ok()
}

fn what_is_taken(kind: Kind) -> &'static str {
    match kind {
        Kind::Workflow | Kind::Activity => "its argument",
        Kind::Signal | Kind::Query => "its field",
    }
}

/// A schema that does not stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    of: String,
    what: &'static str,
    differs: Box<Differs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Differs {
    /// What was written before cannot be read by this code.
    Before(Mismatch),
    /// What this code writes cannot be read by code of before.
    After(Mismatch),
}

impl Refused {
    /// Where they differ.
    #[must_use]
    pub fn mismatch(&self) -> &Mismatch {
        match &*self.differs {
            Differs::Before(mismatch) | Differs::After(mismatch) => mismatch,
        }
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, what, differs } = self;
        let Mismatch { path, written, read, is_absent } = self.mismatch();
        write!(f, "{of} is not compatible with what was published: {what}")?;
        if !path.is_empty() {
            write!(f, " `{path}`")?;
        }
        match &**differs {
            Differs::Before(_) => {
                write!(f, " was {written} and is {read}, and values from before are read still")?;
                f.write_str(match is_absent {
                    true => "; make it an `Option` or give it `#[serde(default)]`",
                    false => "; let both be read",
                })?;
            }
            Differs::After(_) => {
                write!(f, " was {read} and is {written}, and code from before reads it still")?;
                f.write_str(match is_absent {
                    true => "; keep the field",
                    false => "; keep what it was",
                })?;
            }
        }
        f.write_str(match of.starts_with("workflow") {
            true => ", or give the workflow a new version",
            false => ", or give it another name",
        })?;
        f.write_str(
            " (if nothing from before is left, `everpulse schema forget` lets anything be published in its place)",
        )
    }
}
