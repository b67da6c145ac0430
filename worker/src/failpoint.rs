//! Places where a test may end or stop the process, so that every order of crash and protocol step can be tried.
//!
//! Without the feature `failpoints` this is nothing. With it, `EVERPULSE_FAILPOINT=NAME[:N]` makes the process
//! write the name to the file `EVERPULSE_FAILPOINT_FILE` and end itself with SIGKILL when the place is reached
//! for the N-th time (the first by default). If the file exists already, the place was hit in an earlier life and
//! nothing happens. With `EVERPULSE_FAILPOINT_SIGNAL=stop` it is SIGSTOP, after which somebody may let it go on from there.

/// The places, in the order of a run's way through the worker.
pub const NAMES: [&str; 16] = [
    "inbox-received",
    "append-before",
    "append-sent",
    "append-receipt",
    "blob-put",
    "command-sent",
    "ack-before",
    "ack-sent",
    "step-before",
    "step-done",
    "task-received",
    "heartbeat-kept",
    "heartbeat-told",
    "activity-done",
    "settle-confirmed",
    "task-acked",
];

/// Passes a place.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn hit(_: &'static str) {}

/// Passes a place, or ends the process there.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &'static str) {
    armed::hit(name);
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    struct Armed {
        name: String,
        at: u64,
        file: PathBuf,
        signal: Signal,
        hits: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    fn arm() -> Option<Armed> {
        let text = std::env::var("EVERPULSE_FAILPOINT").ok()?;
        let file = PathBuf::from(std::env::var_os("EVERPULSE_FAILPOINT_FILE")?);
        if file.exists() {
            return None;
        }
        let (name, at) = match text.split_once(':') {
            Some((name, at)) => (name.to_owned(), at.parse().ok()?),
            None => (text, 1),
        };
        let stop = std::env::var("EVERPULSE_FAILPOINT_SIGNAL").is_ok_and(|signal| signal == "stop");
        let signal = if stop { Signal::SIGSTOP } else { Signal::SIGKILL };
        Some(Armed { name, at, file, signal, hits: AtomicU64::new(0) })
    }

    pub(super) fn hit(name: &str) {
        let Some(armed) = ARMED.get_or_init(arm).as_ref() else { return };
        if armed.name != name || armed.hits.fetch_add(1, Ordering::SeqCst) + 1 != armed.at {
            return;
        }
        if let Ok(mut file) = std::fs::File::create(&armed.file) {
            // The test asserts that the file is there; if it cannot be written the test fails, as it must. It is not
            // synced: it outlives a killed process without, and other threads must not get far meanwhile.
            let _ = writeln!(file, "{name}");
        }
        // To this thread, and not to the process: the kernel would give that one to the main thread, and until it runs
        // this one would go past the place.
        let _ = raise(armed.signal);
    }
}
