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
        "10-4",
        "Its hooks all fail, and nothing may come of that. An interceptor that panics when it is told of a run is caught; what \
         stands around an attempt is a part of it, and its panic fails the attempt.",
    ),
    (
        "10-6",
        "A hook that hears of the second invocation of a run. Nobody is told here that a run goes on behind a wait.",
    ),
];

const WRITES: &str = "There is no serializer of a part of a run. The value's own `Serialize` writes what is noted, \
                      nothing reads it: a replay makes the value again.";

const RUNS: &str = "There are no hooks of invocations. Interceptors are told when a run begins and ends, and a run that never waits \
                    has one invocation.";

/// Cases that are met by their handlers.
pub const COMPOSED: &[(&str, &str)] = &[
    (
        "1-13",
        "The usual retries of an activity, which are others than the suite's: 200 ms at first, doubled each time up to a minute, \
         for ever and without jitter.",
    ),
    (
        "3-11",
        "Lines of a replay are suppressed. The handler says this one past `tracing`, and the worker is killed while the run waits: \
         the next one replays it, and makes the large value again.",
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
    ("10-1", RUNS),
    (
        "10-2",
        "There are no hooks of operations. The interceptor says that one begins before its first attempt, and that it ended behind \
         the one that came to a value.",
    ),
    ("10-5", RUNS),
    ("10-7", RUNS),
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
