//! The document: three tables with links from commands to features, and the tests of each row.

use std::fmt::Write as _;

use super::Claims;
use super::claims::Suite;
use super::rows::{Row, Rows, Status};

pub(super) fn render(rows: &Rows, claims: &Claims<'_>) -> String {
    let mut text = String::from(HEAD);
    text.push_str("\n## Features\n");
    let mut group = "";
    for row in &rows.features {
        if row.group != group {
            group = &row.group;
            let _ = write!(text, "\n### {group}\n\n{FEATURES}");
        }
        let _ = writeln!(text, "| {} | {} | {} |", name(row, claims), words(row), counts(row, claims));
    }
    let _ = write!(text, "\n## Commands of the binary protocol\n\n{COMMANDS}");
    for command in &rows.commands {
        let shown_by: Vec<String> = command.shown_by.iter().map(|id| format!("[{id}](#{id})")).collect();
        let status = status(command.status, &command.words);
        let _ = writeln!(text, "| {} | {} | {status} | {} |", command.number, command.name, shown_by.join(", "));
    }
    let _ = write!(text, "\n## Admin REST API\n\n{REST}");
    for row in &rows.rest {
        let paths = if row.paths.is_empty() { String::new() } else { format!("`{}`", row.paths) };
        let _ = writeln!(text, "| {} | {paths} | {} | {} |", name(row, claims), words(row), counts(row, claims));
    }
    text.push_str("\n## The tests of each row\n");
    for row in rows.features.iter().chain(&rows.rest) {
        let Some(tests) = claims.get(row.id.as_str()) else { continue };
        let _ = writeln!(text, "\n### {}\n", row.id);
        for suite in Suite::ALL {
            let of_suite = tests.iter().filter(|test| test.suite == suite);
            let names: Vec<String> = of_suite.map(|test| test.words.replace('_', " ")).collect();
            if !names.is_empty() {
                let _ = writeln!(text, "- {suite}: {}", names.join("; "));
            }
        }
    }
    text
}

const HEAD: &str = "\
# What the broker covers

Written by `cargo xtask coverage --write` from the rows in `broker/coverage` and the names of the tests; do not edit. The
tests of the suites in other languages run unchanged on our broker and on Apache Pulsar (`cargo xtask clients`), the Rust tests
on ours. *Refused* means: answered with an error that says \"not supported\". The numbers are numbers of tests.
";
const FEATURES: &str = "| feature | what | python | node | java | tools | Rust |\n|---|---|---:|---:|---:|---:|---:|\n";
const COMMANDS: &str = "| number | command | status | shown by |\n|---:|---|---|---|\n";
const REST: &str =
    "| group | paths | what | python | node | java | tools | Rust |\n|---|---|---|---:|---:|---:|---:|---:|\n";

/// Linked to its tests, if there are any.
fn name(row: &Row, claims: &Claims<'_>) -> String {
    if claims.contains_key(row.id.as_str()) { format!("[{0}](#{0})", row.id) } else { row.id.clone() }
}

fn words(row: &Row) -> String {
    match row.status {
        Status::Supported => row.words.clone(),
        other => status(other, &row.words),
    }
}

fn status(status: Status, words: &str) -> String {
    let status = match status {
        Status::Supported => "supported",
        Status::Refused => "*refused*",
        Status::Unsupported => "**not supported**",
    };
    if words.is_empty() { status.to_owned() } else { format!("{status}: {words}") }
}

fn counts(row: &Row, claims: &Claims<'_>) -> String {
    let tests = claims.get(row.id.as_str());
    let count = |suite: Suite| tests.into_iter().flatten().filter(|test| test.suite == suite).count();
    let counts = Suite::ALL.map(|suite| match count(suite) {
        0 => String::new(),
        count => count.to_string(),
    });
    counts.join(" | ")
}
