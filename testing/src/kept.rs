//! Golden histories: files of recorded runs that are replayed through today's code.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use everpulse_engine::Replay;
use everpulse_protocol::golden::Golden;
use everpulse_protocol::history::ParkedKind;
use everpulse_sdk::definition::Registry;

/// Why a history was not replayed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayErrorKind {
    /// The file or the directory cannot be read.
    Unreadable,
    /// What is in the file is no golden history, or one of another format.
    Malformed,
    /// There is no workflow of that name and version in the registry.
    NoCode,
    /// Today's code does something else.
    Diverged,
}

/// A history that today's code does not come to: which file, which workflow, which step, what was recorded and what it is now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", file.display())]
pub struct ReplayError {
    file: PathBuf,
    kind: ReplayErrorKind,
    message: String,
}

impl ReplayError {
    fn new(file: &Path, kind: ReplayErrorKind, message: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), kind, message: message.to_string() }
    }

    /// What is to be done about it.
    #[must_use]
    pub fn kind(&self) -> ReplayErrorKind {
        self.kind
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// Replays the history in a file through the code in a registry. Activities do not run: what they came to is recorded.
///
/// Compared are the commands, by number, kind and name, and how the run ended; a workflow may come to another value.
///
/// # Errors
/// See [`ReplayErrorKind`].
pub fn replay(file: impl AsRef<Path>, registry: &Registry) -> Result<(), ReplayError> {
    let file = file.as_ref();
    let text = fs::read_to_string(file).map_err(|error| ReplayError::new(file, ReplayErrorKind::Unreadable, error))?;
    let golden = Golden::from_json(&text).map_err(|error| ReplayError::new(file, ReplayErrorKind::Malformed, error))?;
    let Golden { workflow, version, build, workflow_id, run_id, records } = golden;
    let recorded = build.map(|build| format!(", recorded by build {build}")).unwrap_or_default();
    let mut replay = Replay::new(workflow_id, run_id);
    for record in &records {
        replay.apply(record, registry).map_err(|parked| {
            let seq = record.seq;
            match parked.kind {
                ParkedKind::NoCode if registry.workflow(&workflow, Some(version)).is_none() => ReplayError::new(
                    file,
                    ReplayErrorKind::NoCode,
                    format!(
                        "there is no version {version} of workflow `{workflow}` here{recorded}: keep its code, and give it to \
                         the replay; or remove the file when no run of that version is open any more"
                    ),
                ),
                ParkedKind::UnknownKind | ParkedKind::Unopened => {
                    ReplayError::new(file, ReplayErrorKind::Malformed, format!("record {seq}: {}", parked.message))
                }
                ParkedKind::NoCode | ParkedKind::Diverged | ParkedKind::Panicked | ParkedKind::Stuck | ParkedKind::Poisonous => ReplayError::new(
                    file,
                    ReplayErrorKind::Diverged,
                    format!("workflow `{workflow}` version {version}{recorded}, at record {seq}:\n{}", parked.message),
                ),
            }
        })?;
    }
    Ok(())
}

/// Replays all histories (`*.json`) of a directory; gives how many there are. [`replay_dir!`](crate::replay_dir) calls it.
///
/// # Errors
/// All that failed, in the order of their names. A directory without histories is one error: it would prove nothing.
pub fn replay_all(dir: impl AsRef<Path>, registry: &Registry) -> Result<usize, Vec<ReplayError>> {
    let dir = dir.as_ref();
    let unreadable = |error: std::io::Error| vec![ReplayError::new(dir, ReplayErrorKind::Unreadable, error)];
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    if files.is_empty() {
        let message = "there are no histories (*.json) in it; export some: `client.run_named(id).export()`";
        return Err(vec![ReplayError::new(dir, ReplayErrorKind::Unreadable, message)]);
    }
    files.sort_unstable();
    let failed: Vec<ReplayError> = files.iter().filter_map(|file| replay(file, registry).err()).collect();
    if failed.is_empty() { Ok(files.len()) } else { Err(failed) }
}

/// For [`replay_dir!`](crate::replay_dir).
#[doc(hidden)]
#[track_caller]
pub fn replay_or_panic(dir: &str, registry: &Registry) -> usize {
    replay_all(dir, registry).unwrap_or_else(|failed| {
        let messages: Vec<String> = failed.iter().map(ToString::to_string).collect();
        panic!("{} of the histories in {dir} cannot be replayed\n\n{}", failed.len(), messages.join("\n\n"))
    })
}

/// Replays every history of a directory of this package through the workflows that are named, and fails with all that
/// differs. All versions of a workflow of which there are histories are named.
///
/// ```no_run
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::workflow(version = 2, crate = everpulse)] async fn checkout() {}
/// # #[everpulse::workflow(version = 1, name = "checkout", crate = everpulse)] async fn checkout_v1() {}
/// #[test]
/// fn recorded_runs_go_on_with_todays_code() {
///     everpulse_testing::replay_dir!("histories", checkout, checkout_v1);
/// }
/// ```
#[macro_export]
macro_rules! replay_dir {
    ($dir:expr, $($workflow:path),+ $(,)?) => {{
        let mut registry = $crate::Registry::new();
        $(registry.workflow_fn($workflow).expect("each workflow is named once");)+
        $crate::replay_or_panic(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", $dir), &registry)
    }};
}
