//! What was found: violations as they come, in memory and in a file at once, so that nothing of them is lost with the
//! process.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::now_ms;

/// Violations. One is enough to fail.
#[derive(Debug)]
pub struct Found {
    file: PathBuf,
    all: Mutex<Vec<String>>,
}

impl Found {
    /// None yet; those that come are written to `violations.txt` of a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { file: folder.join("violations.txt"), all: Mutex::default() }
    }

    /// Takes a violation in.
    pub fn add(&self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("VIOLATION: {what}");
        let line = format!("{} {what}\n", now_ms());
        let file = OpenOptions::new().create(true).append(true).open(&self.file);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("cannot write {}: {error}", self.file.display());
        }
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// All of them, in the order in which they were found.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
