//! What is wrong with a specification, said so that it can be mended.

use std::fmt;

/// A specification of times that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSpec {
    #[error("a schedule has no times: give it a cron or an interval")]
    Empty,
    #[error("{0}")]
    Field(FieldError),
    #[error(
        "cron `{cron}` has {count} fields: it takes 5 (minute, hour, day of the month, month, day of the week), 6 (with the \
             second before them), or 7 (with the year after them)"
    )]
    FieldCount { cron: String, count: usize },
    #[error("cron `{cron}`: `{word}` is not known; there are @hourly, @daily, @weekly, @monthly and @yearly")]
    Nickname { cron: String, word: String },
    #[error("cron `{cron}` cannot be read: {reason}")]
    Cron { cron: String, reason: String },
    #[error("cron `{cron}` never comes: no day has such a date")]
    Never { cron: String },
    #[error("time zone `{name}` is not known{}", suggestion(.nearest))]
    Zone {
        name: String,
        /// A name that differs little, if there is one.
        nearest: Option<String>,
    },
    #[error("an interval of {every_ms} ms is too short: a second is the shortest")]
    Interval { every_ms: u64 },
    #[error("an interval's offset ({offset_ms} ms) is not shorter than the interval ({every_ms} ms)")]
    Offset { every_ms: u64, offset_ms: u64 },
    #[error("it ends ({until}) before it begins ({from})")]
    Bounds { from: String, until: String },
    #[error("it excludes all of its times")]
    Excluded,
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => ": names are those of the IANA database, such as `Europe/Vienna` or `UTC`".to_owned(),
    }
}

/// A field of a cron that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub cron: String,
    /// Where the field begins, in bytes.
    pub at: usize,
    pub text: String,
    /// What the field is, such as `hour`.
    pub field: &'static str,
    /// What it takes.
    pub takes: &'static str,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cron, at, text, field, takes } = self;
        writeln!(f, "cron `{cron}`: `{text}` is no {field}, which takes {takes}")?;
        writeln!(f, "    {cron}")?;
        let indent = cron.get(..*at).map_or(0, |before| before.chars().count());
        write!(f, "    {:indent$}{}", "", "^".repeat(text.chars().count().max(1)))
    }
}
