//! The outside world of test activities: a file to which every execution adds a line, whatever becomes of the
//! process afterwards.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// One execution of an activity or a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The idempotency key.
    pub key: String,
    pub workflow_id: String,
    pub step: String,
    pub attempt: u32,
    pub at_ms: u64,
}

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Names the file for this process.
pub fn keep_in(path: &Path) {
    // The first caller names it; all tests of a process that write share one.
    let _ = FILE.set(path.to_owned());
}

/// Adds a line, if this process keeps a ledger. One write of a short line is not torn by others.
///
/// # Errors
/// When the file cannot be written.
pub fn note(key: &str, workflow_id: &str, step: &str, attempt: u32) -> Result<()> {
    let Some(path) = FILE.get() else { return Ok(()) };
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let entry =
        Entry { key: key.to_owned(), workflow_id: workflow_id.to_owned(), step: step.to_owned(), attempt, at_ms };
    let mut line = serde_json::to_vec(&entry)?;
    line.push(b'\n');
    let mut file =
        OpenOptions::new().create(true).append(true).open(path).with_context(|| path.display().to_string())?;
    file.write_all(&line)?;
    Ok(())
}

/// All lines of a ledger; none if it was never written. Others may write meanwhile: a line that crosses a page of the file
/// is seen from its beginning on, a page at a time, so one that has no end yet is not there yet.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let ended = text.rfind('\n').map_or("", |end| &text[..end]);
    ended.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_its_end_is_not_there_yet() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.jsonl");
        assert_eq!(read(&path).expect("no ledger yet"), Vec::new());
        let line = r#"{"key":"a/1/0","workflow_id":"a","step":"pay","attempt":1,"at_ms":5}"#;
        std::fs::write(&path, format!("{line}\n{}", &line[..20])).expect("written");
        let entries = read(&path).expect("what is whole is read");
        assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["a/1/0"]);
        std::fs::write(&path, format!("{}\n{line}\n", &line[..20])).expect("written");
        read(&path).expect_err("a torn line among others is none");
    }
}
