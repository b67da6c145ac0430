//! The schemas that stand in an application, of which each was compatible with all before it.

use std::collections::BTreeMap;
use std::fmt;

use everpulse_protocol::Position;
use everpulse_protocol::schema::{Kind, Published};
use serde_json::Value;

use crate::compare::{Mismatch, has_all, reads};

/// What is published for each definition and stands.
///
/// A record stands if it follows the last one of its definition that does, like a frame of the chain; whoever wrote it had
/// compared it with all that stood. So of two workers that publish at once and contradict each other the first one is right,
/// both learn it by reading, and a release with other rules of comparison reads no other result.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    all: BTreeMap<(Kind, String, Option<u32>), Stood>,
}

/// What stands of one definition.
#[derive(Debug, Clone)]
struct Stood {
    /// With what it does not say, and others before it do. None once it was forgotten.
    newest: Option<Published>,
    /// All that was ever said, each once: what was written by any of these is read still.
    takes: Vec<String>,
    gives: Vec<String>,
    fails: Vec<String>,
    at: Position,
}

impl Standing {
    /// One more that was published, and where it stands.
    pub fn take(&mut self, published: Published, at: Position) {
        let key = published.key();
        let mut stood = Stood { newest: None, takes: Vec::new(), gives: Vec::new(), fails: Vec::new(), at };
        if published.forgotten {
            self.all.insert(key, stood);
            return;
        }
        let before = self.all.remove(&key);
        if published.follows != before.as_ref().map(|before| before.at) {
            self.all.extend(before.map(|before| (key, before)));
            return;
        }
        let mut newest = published;
        if let Some(Stood { newest: was, takes, gives, fails, at: _ }) = before {
            (stood.takes, stood.gives, stood.fails) = (takes, gives, fails);
            if let Some(was) = was {
                newest.takes = newest.takes.or(was.takes);
                newest.gives = newest.gives.or(was.gives);
                newest.fails = newest.fails.or(was.fails);
            }
        }
        for (all, said) in
            [(&mut stood.takes, &newest.takes), (&mut stood.gives, &newest.gives), (&mut stood.fails, &newest.fails)]
        {
            all.extend(said.iter().filter(|said| !all.contains(said)).cloned().collect::<Vec<_>>());
        }
        stood.newest = Some(newest);
        self.all.insert(key, stood);
    }

    /// What has to be said of it so that it stands; nothing if all of it stands already.
    ///
    /// # Errors
    /// What cannot be read any more of what stands, and what can be done.
    pub fn addition(&self, new: &Published) -> Result<Option<Published>, Refused> {
        let Some(stood) = self.all.get(&new.key()) else { return Ok(Some(new.clone())) };
        let refused = |what, differs| Refused { of: new.title(), what, differs: Box::new(differs) };
        let mut is_new = stood.newest.is_none();
        // What was said once is not compared again: the others were, with it.
        if let Some(is) = unsaid(&stood.takes, &new.takes) {
            is_new = true;
            let what = what_is_taken(new.kind);
            for was in stood.takes.iter().filter_map(|was| value(was)) {
                reads(&is, &was).map_err(|mismatch| refused(what, Differs::Before(mismatch)))?;
                // Of two releases that take turns, each may be asked by the other.
                let asked = if new.kind == Kind::Activity { reads } else { has_all };
                asked(&was, &is).map_err(|mismatch| refused(what, Differs::After(mismatch)))?;
            }
        }
        for (what, said, is) in [("its result", &stood.gives, &new.gives), ("its error", &stood.fails, &new.fails)] {
            let Some(is) = unsaid(said, is) else { continue };
            is_new = true;
            for was in said.iter().filter_map(|was| value(was)) {
                reads(&is, &was).map_err(|mismatch| refused(what, Differs::Before(mismatch)))?;
                reads(&was, &is).map_err(|mismatch| refused(what, Differs::After(mismatch)))?;
            }
        }
        Ok(is_new.then(|| Published { follows: Some(stood.at), ..new.clone() }))
    }

    /// All that stand, by kind, name and version: the newest of each.
    pub fn iter(&self) -> impl Iterator<Item = &Published> {
        self.all.values().filter_map(|stood| stood.newest.as_ref())
    }

    /// The one of that name; without a version the newest.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str, version: Option<u32>) -> Option<&Published> {
        let of_name = |published: &&Published| {
            published.kind == kind && published.name == name && (version.is_none() || published.version == version)
        };
        self.iter().filter(of_name).last()
    }
}

/// What nobody has said yet, if it can be read.
fn unsaid(said: &[String], new: &Option<String>) -> Option<Value> {
    value(new.as_ref().filter(|new| !said.contains(new))?)
}

/// What cannot be read is compared with nothing.
fn value(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn what_is_taken(kind: Kind) -> &'static str {
    match kind {
        Kind::Workflow | Kind::Activity => "its argument",
        Kind::Signal | Kind::Query | Kind::Update => "its field",
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
