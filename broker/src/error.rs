//! The one error of this crate's API: what failed, for whom it matters, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use crate::storage;

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another program listens on the port: choose another one, or 0 for a free one.
    PortInUse,
    /// The directory or the port may not be used by this user.
    Permission,
    /// Free some space.
    DiskFull,
    /// A file of the directory is damaged.
    Corrupted,
    /// The directory was written by a newer version: run that one.
    NewerVersion,
    /// Another broker serves the directory.
    InUse,
    /// The options contradict each other.
    Invalid,
    /// Anything else the operating system said.
    Io,
}

/// Opening or running a broker failed.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    pub(crate) fn io(action: &str, path: &Path, error: io::Error) -> Error {
        let (kind, advice) = classify(&error);
        let message = format!("could not {action} {}: {error}{advice}", path.display());
        Error { kind, message, source: Some(Box::new(error)) }
    }

    pub(crate) fn bind(address: std::net::SocketAddr, error: io::Error) -> Error {
        let (kind, advice) = match error.kind() {
            io::ErrorKind::AddrInUse => {
                (ErrorKind::PortInUse, "; another program listens there: choose another port, or 0 for a free one")
            }
            io::ErrorKind::PermissionDenied => {
                (ErrorKind::Permission, "; ports below 1024 need privileges: choose a higher one")
            }
            _ => (ErrorKind::Io, ""),
        };
        let message = format!("could not listen on {address}: {error}{advice}");
        Error { kind, message, source: Some(Box::new(error)) }
    }
}

fn classify(error: &io::Error) -> (ErrorKind, &'static str) {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Permission, "; choose a directory that this user may write")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::DiskFull, "; free some space and try again")
        }
        _ => (ErrorKind::Io, ""),
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Error {
        let (kind, advice) = match &error {
            storage::Error::Io { source, .. } => classify(source),
            storage::Error::Corrupted { .. } => (ErrorKind::Corrupted, ""),
            storage::Error::NewerFormat { .. } => (ErrorKind::NewerVersion, ""),
            storage::Error::Locked { .. } => (ErrorKind::InUse, ""),
        };
        Error { kind, message: format!("{error}{advice}"), source: Some(Box::new(error)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.kind).field("message", &self.message).finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
