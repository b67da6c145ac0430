//! Several branches as one part of a run, each of them a part of its own, and what came of them all.

use std::num::NonZeroUsize;

use everpulse::{Error, Gathered, Never, Stop, fan_out, scope};
use futures::future::LocalBoxFuture;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::step::gives;

/// A branch with its name.
pub type Branch<T> = (String, LocalBoxFuture<'static, Result<T, Error>>);

/// How a batch is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the suite calls such a part of a run.
    batch: &'static str,
    /// The same of a branch; none: the branches are no parts of their own.
    branch: Option<&'static str>,
    at_once: usize,
    enough: Option<usize>,
    tolerated: Option<usize>,
    percent: Option<u8>,
}

impl Plan {
    /// Branches one after the other.
    pub const PARALLEL: Self = Self {
        batch: "Parallel",
        branch: Some("ParallelBranch"),
        at_once: 1,
        enough: None,
        tolerated: None,
        percent: None,
    };
    /// Items one after the other.
    pub const MAP: Self = Self { batch: "Map", branch: Some("MapIteration"), ..Self::PARALLEL };

    pub fn flat(self) -> Self {
        Self { branch: None, ..self }
    }

    pub fn at_once(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    pub fn enough(self, enough: usize) -> Self {
        Self { enough: Some(enough), ..self }
    }

    pub fn tolerate(self, failures: usize) -> Self {
        Self { tolerated: Some(failures), ..self }
    }

    pub fn tolerate_percent(self, percent: u8) -> Self {
        Self { percent: Some(percent), ..self }
    }

    /// Runs the branches.
    ///
    /// # Errors
    /// When none may be under way.
    pub async fn run<T: Serialize + 'static>(
        self,
        name: &str,
        branches: Vec<Branch<T>>,
    ) -> Result<Gathered<T, Error>, Error> {
        self.written(name, branches, |batch| projected(batch, &ALL)).await
    }

    /// The same; `write` makes what history keeps of the whole.
    ///
    /// # Errors
    /// When none may be under way.
    pub async fn written<T: Serialize + 'static, W: Serialize>(
        self,
        name: &str,
        branches: Vec<Branch<T>>,
        write: fn(&Gathered<T, Error>) -> W,
    ) -> Result<Gathered<T, Error>, Error> {
        let at_once =
            NonZeroUsize::new(self.at_once).ok_or_else(|| Error::msg("no branch at once: it would never end"))?;
        let branches = branches.into_iter().map(move |(name, branch)| match self.branch {
            Some(kind) => Box::pin(scope(format!("{kind} {name}"), branch)),
            None => branch,
        });
        let mut fan = fan_out(branches).at_once(at_once);
        if let Some(enough) = self.enough {
            fan = fan.enough(enough);
        }
        if let Some(tolerated) = self.tolerated {
            fan = fan.tolerate(tolerated);
        }
        if let Some(percent) = self.percent {
            fan = fan.tolerate_percent(percent);
        }
        let batch =
            scope(
                format!("{} {name}", self.batch),
                async move { Ok::<_, Never>(Written { gathered: fan.await, write }) },
            );
        match batch.await {
            Ok(written) => Ok(written.gathered),
            Err(never) => match never {},
        }
    }
}

/// What came of a batch, and what is kept of it.
struct Written<T, W> {
    gathered: Gathered<T, Error>,
    write: fn(&Gathered<T, Error>) -> W,
}

impl<T, W: Serialize> Serialize for Written<T, W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.write)(&self.gathered).serialize(serializer)
    }
}

/// Everything that a case asks of a batch.
pub const ALL: [&str; 5] = ["completionReason", "status", "successCount", "failureCount", "totalCount"];

/// Some of it, in the suite's words.
pub fn projected<T>(batch: &Gathered<T, Error>, fields: &[&str]) -> Value {
    let (done, failed) = (batch.values().count(), batch.errors().count());
    let field = |name: &str| match name {
        "completionReason" => json!(match batch.stop {
            Stop::Enough => "MIN_SUCCESSFUL_REACHED",
            Stop::TooManyFailures => "FAILURE_TOLERANCE_EXCEEDED",
            _ => "ALL_COMPLETED",
        }),
        "status" => json!(if failed > 0 { "FAILED" } else { "SUCCEEDED" }),
        "successCount" => json!(done),
        "failureCount" | "errorCount" => json!(failed),
        "hasFailure" => json!(failed > 0),
        "totalCount" => json!(done + failed),
        _ => Value::Null,
    };
    fields.iter().map(|name| ((*name).to_owned(), field(name))).collect()
}

/// A branch that has its value at once.
pub fn at_hand(value: Value) -> Branch<Value> {
    (String::new(), Box::pin(async { Ok(value) }))
}

/// Branches that have their values at once.
pub fn all_at_hand(values: &[&str]) -> Vec<Branch<Value>> {
    values.iter().map(|value| at_hand(json!(value))).collect()
}

/// A branch that is one step.
pub fn stepping(value: &'static str) -> Branch<Value> {
    (String::new(), Box::pin(gives("step", json!(value))))
}

/// A branch that fails.
pub fn failing() -> Branch<Value> {
    (String::new(), Box::pin(async { Err(Error::msg("this branch fails")) }))
}

/// Branches by a pattern: `+` has its value at once, `-` fails.
pub fn by_pattern(pattern: &str) -> Vec<Branch<Value>> {
    pattern.chars().map(|sign| if sign == '-' { failing() } else { at_hand(json!("ok")) }).collect()
}
