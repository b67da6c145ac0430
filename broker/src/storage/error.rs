//! Why a directory cannot be used.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is damaged at byte {offset}: {reason}. What was confirmed before is intact. Restore the file from a \
         backup, or move the directory away to start empty"
    )]
    Corrupted { path: PathBuf, offset: u64, reason: String },
    #[error(
        "{path} was written in format {found}, this program knows up to {known}: run the newer version that wrote it"
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} is in use by another broker (see broker.json beside it for its address)")]
    Locked { path: PathBuf },
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
