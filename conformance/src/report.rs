//! What came of the cases: a file for each arm, and one document of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// What came of all cases on one arm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub arm: String,
    pub cases: Vec<Row>,
}

/// What came of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub family: String,
    /// Why it cannot be had here.
    pub gap: Option<String>,
    /// What its handler does itself, where the suite asks the engine for it.
    pub composed: Option<String>,
    /// What differs from what is expected. Nothing: it passes.
    pub differences: Vec<String>,
}

impl Row {
    #[must_use]
    pub fn passes(&self) -> bool {
        self.gap.is_none() && self.differences.is_empty()
    }
}

impl Report {
    /// How many cases apply, and how many of them pass.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let apply = self.cases.iter().filter(|row| row.gap.is_none()).count();
        (apply, self.cases.iter().filter(|row| row.passes()).count())
    }
}

/// The arms, as they are named and shown.
const ARMS: [(&str, &str); 2] = [("embedded", "embedded"), ("pulsar", "Apache Pulsar")];

/// The document of what came of the cases. Of an arm that is not among the reports it says what it said before.
///
/// # Errors
/// When an arm is in neither.
pub fn document(reports: &[Report], before: &str) -> Result<String> {
    let first = reports.first().context("there is no report")?;
    let said = cells(before);
    let mut rows = String::new();
    let mut passed = [0; ARMS.len()];
    for row in &first.cases {
        let mut shown = Vec::new();
        for (index, (arm, _)) in ARMS.iter().enumerate() {
            let now = reports.iter().find(|report| report.arm == *arm);
            let now = now.and_then(|report| report.cases.iter().find(|case| case.id == row.id));
            let cell = match now {
                Some(case) if case.gap.is_some() => "".to_owned(),
                Some(case) if case.passes() => "passes".to_owned(),
                Some(_) => "**fails**".to_owned(),
                None => match said.get(&row.id) {
                    Some(cells) => cells.get(index).cloned().unwrap_or_default(),
                    None => bail!("case {} was never run on the arm {arm}; run both", row.id),
                },
            };
            passed[index] += usize::from(cell == "passes");
            shown.push(cell);
        }
        let applies = if row.gap.is_none() { "yes" } else { "no" };
        let why = match (&row.gap, &row.composed) {
            (Some(gap), _) => gap.clone(),
            (None, Some(composed)) => format!("Met by its handler. {composed}"),
            (None, None) => String::new(),
        };
        let _ = writeln!(rows, "| {} | {} | {applies} | {} | {why} |", row.id, row.family, shown.join(" | "));
    }
    let (apply, _) = first.counts();
    let composed = first.cases.iter().filter(|row| row.gap.is_none() && row.composed.is_some()).count();
    let count = |index: usize| format!("{} on {}", passed[index], ARMS[index].1);
    Ok(format!(
        "# The public suite of durable executions\n\n\
         `aws-durable-execution-conformance-tests` {VERSION} has {} cases. {apply} of them apply here; {}, {} pass. Each is a \
         workflow of ours\nin `conformance/src/handlers`; what is compared is derived from the run's exported history, by \
         the rules of\n`conformance/src/history.rs` ([why so](decisions/scopes-are-notes.md)). {composed} of those that apply are met by \
         their handlers: the suite asks the engine\nfor something there that it does not have, and the row says what the handler does \
         in its place. `cargo xtask conformance` installs\nand plays the suite, and `--write` writes this, also when a case fails.\n\n\
         | case | family | applies | {} | {} | if not, why; or by what it is met |\n|---|---|---|---|---|---|\n{rows}",
        first.cases.len(),
        count(0),
        count(1),
        ARMS[0].1,
        ARMS[1].1,
    ))
}

/// The suite's version.
pub const VERSION: &str = "1.0.0";

/// What a document says of each case on each arm.
fn cells(document: &str) -> BTreeMap<String, Vec<String>> {
    let rows = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| case"));
    rows.filter_map(|line| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        Some((cells.get(1)?.clone(), cells.get(4..4 + ARMS.len())?.to_vec()))
    })
    .collect()
}

/// Reads a report.
///
/// # Errors
/// When there is none.
pub fn read(file: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(arm: &str, differences: &[&str]) -> Report {
        let differences = differences.iter().map(|text| (*text).to_owned()).collect();
        let row = |id: &str, gap: Option<&str>, differences| Row {
            id: id.to_owned(),
            family: "step".to_owned(),
            gap: gap.map(str::to_owned),
            composed: (id == "1-3").then(|| "by hand".to_owned()),
            differences,
        };
        Report {
            arm: arm.to_owned(),
            cases: vec![
                row("1-1", None, differences),
                row("1-2", Some("why"), Vec::new()),
                row("1-3", None, Vec::new()),
            ],
        }
    }

    #[test]
    fn an_arm_that_was_not_run_is_said_as_before() {
        let both = document(&[report("embedded", &[]), report("pulsar", &["x"])], "").expect("both arms");
        assert!(both.contains("| 1-1 | step | yes | passes | **fails** |  |"), "{both}");
        assert!(both.contains("| 1-2 | step | no |  |  | why |"), "{both}");
        assert!(both.contains("| 1-3 | step | yes | passes | passes | Met by its handler. by hand |"), "{both}");
        assert!(both.contains("2 of them apply here; 2 on embedded, 1 on Apache Pulsar pass"), "{both}");
        assert!(both.contains("1 of those that apply are met by their handlers"), "{both}");
        let one = document(&[report("embedded", &["y"])], &both).expect("the other arm was run before");
        assert!(one.contains("| 1-1 | step | yes | **fails** | **fails** |  |"), "{one}");
        assert!(document(&[report("embedded", &[])], "").is_err());
    }
}
