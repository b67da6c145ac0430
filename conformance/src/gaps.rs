//! The cases that cannot be had here and why, and those that pass because their handler does what the suite has an option for.

/// Why a case does not apply; none if it does.
#[must_use]
pub fn reason(case: &str) -> Option<&'static str> {
    of(GAPS, case)
}

/// What a handler does itself to meet a case, where the suite asks the engine for it; none if the engine does.
#[must_use]
pub fn composed(case: &str) -> Option<&'static str> {
    of(COMPOSED, case)
}

fn of(table: &[(&str, &'static str)], case: &str) -> Option<&'static str> {
    table.iter().find(|(id, _)| *id == case).map(|(_, text)| *text)
}

/// Cases that do not apply.
pub const GAPS: &[(&str, &str)] = &[
    (
        "1-17",
        "A step that is begun at most once, also across a crash: steps and activities are run at least once here, with the \
         same idempotency key, and a lost attempt is run again.",
    ),
    ("1-18", "As 1-17: an attempt that was lost with its process is not taken for failed, but run again."),
    (
        "3-11",
        "It counts how often a part of the code runs: a second time, as its value is too large to be recorded. A run whose \
         future is in memory goes on from where it stands, and replays are silent, so the code is heard once.",
    ),
    (
        "3-12",
        "It wants the end of a process that crashed to stand in the run's history. Workers leave no trace there; what they \
         began is taken up by others.",
    ),
    (
        "10-1",
        "Hooks at the begin and end of an invocation. Interceptors hear of the begin and end of a run, which of a run that \
         never waits is the same moment; it could be played by that, and is not.",
    ),
    ("10-2", "Hooks at the begin and end of each operation. Interceptors hear of no steps and no other commands."),
    (
        "10-3",
        "Hooks around the attempts at a step. Interceptors stand around the attempts at an activity, with their number; it could \
         be played by that, and is not.",
    ),
    (
        "10-4",
        "As 10-2: of its hooks, which all fail, those of operations are not there. An interceptor that fails is caught.",
    ),
    (
        "10-5",
        "As 10-1, of two plug-ins. A worker has any number of interceptors; it could be played by that, and is not.",
    ),
    (
        "10-6",
        "A hook that hears of the second invocation of a run. Nobody hears here that a run goes on or is replayed.",
    ),
    ("10-7", "As 10-1, of a run that fails; it could be played by that, and is not."),
];

const WRITES: &str = "There is no serializer of a part of a run. The value's own `Serialize` writes what is noted, \
                      nothing reads it: a replay makes the value again.";

/// Cases that are met by their handlers.
pub const COMPOSED: &[(&str, &str)] = &[
    (
        "1-13",
        "The usual retries of an activity, which are others than the suite's: 200 ms at first, doubled each time up to a minute, \
         for ever and without jitter.",
    ),
    ("3-14", WRITES),
    (
        "3-17",
        "A part's code does not run again while its run is in memory, and lines of a replay are suppressed; its result is not \
         read from history.",
    ),
    (
        "5-8",
        "There are no tenants. The handler gives the child a tag `tenant:..`, which the comparison reads; nothing is kept apart by it.",
    ),
    ("8-15", WRITES),
    ("8-19", "The handler looks at the number and fails: `fan_out` takes none that is zero."),
    ("9-14", WRITES),
    ("9-16", "Values of more than 4 KiB are not noted, of items and of the whole; the case accepts anything there."),
    ("9-19", WRITES),
    ("9-20", WRITES),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_in_one_table_and_once() {
        let ids: Vec<&str> = GAPS.iter().chain(COMPOSED).map(|(id, _)| *id).collect();
        assert!(ids.iter().all(|id| ids.iter().filter(|other| other == &id).count() == 1), "{ids:?}");
    }
}
