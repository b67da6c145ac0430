//! `cargo xtask coverage`: what the broker covers of Pulsar's protocol and admin API, and the tests that show it, as one
//! document. The rows stand in `broker/coverage/*.toml`; tests claim them by their names (`client-suites/README.md`). This
//! module joins the two and fails on a row without a test or a claim without a row. It runs no test.

mod claims;
mod document;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, bail};

use crate::root;
use claims::Test;
use rows::{Rows, Status};

/// What to do with the document.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Options {
    /// Write it instead of comparing it.
    #[arg(long)]
    pub write: bool,
}

const DOCUMENT: &str = "docs/broker-coverage.md";

/// Checks the rows and the claims, and compares or writes the document.
///
/// # Errors
/// When a claim names no row, a supported row has no test, or the document is stale; everything wrong is listed.
pub fn run(options: Options) -> anyhow::Result<()> {
    let rows = Rows::read(&root().join("broker/coverage"))?;
    let tests = claims::find(&root())?;
    let claims = by_row(&tests);
    let wrong = wrong(&rows, &tests, &claims);
    if !wrong.is_empty() {
        bail!("the coverage table does not hold:\n  {}", wrong.join("\n  "));
    }
    let text = document::render(&rows, &claims);
    let file = root().join(DOCUMENT);
    if options.write {
        fs::write(&file, text).with_context(|| format!("cannot write {DOCUMENT}"))?;
    } else if fs::read_to_string(&file).unwrap_or_default() != text {
        bail!("{DOCUMENT} is stale: cargo xtask coverage --write");
    }
    Ok(())
}

/// The tests of each row, in the order of suites and names.
type Claims<'a> = BTreeMap<&'a str, BTreeSet<&'a Test>>;

fn by_row(tests: &[Test]) -> Claims<'_> {
    let mut claims = Claims::new();
    for test in tests {
        for row in &test.rows {
            claims.entry(row.as_str()).or_default().insert(test);
        }
    }
    claims
}

fn wrong(rows: &Rows, tests: &[Test], claims: &Claims<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for test in tests.iter().filter(|test| test.rows.is_empty()) {
        wrong.push(format!("{test} claims no row: its name should begin with a row's id and two underscores"));
    }
    for (row, tests) in claims {
        if !rows.is_known(row) {
            wrong.extend(tests.iter().map(|test| format!("{test} claims `{row}`, and there is no such row")));
        }
    }
    for row in rows.features.iter().chain(&rows.rest) {
        let shown = claims.contains_key(row.id.as_str());
        match row.status {
            Status::Supported | Status::Refused if !shown => {
                wrong.push(format!("`{}` is said to be {}, and no test claims it", row.id, row.status));
            }
            Status::Unsupported if shown => {
                wrong.push(format!("`{}` is said to be unsupported, and has tests", row.id))
            }
            _ => {}
        }
    }
    for command in &rows.commands {
        for id in command.shown_by.iter().filter(|id| !rows.is_known(id)) {
            wrong.push(format!("command {} is shown by `{id}`, and there is no such row", command.name));
        }
        if command.status != Status::Unsupported && command.shown_by.is_empty() {
            wrong.push(format!("command {} is said to be {}, and nothing shows it", command.name, command.status));
        }
    }
    wrong
}
