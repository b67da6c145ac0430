//! What can be set on a worker, and what holds when nothing is set. Where an activity says otherwise, it wins.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | [`concurrency`](Options::concurrency) | 64 per queue | attempts of one queue that run at a time in this process |
//! | [`queue_concurrency`](Options::queue_concurrency) | none | the same, for queues by name |
//! | [`rates`](Options::rates) | none | attempts of a queue, by name, that this process begins in a second |
//! | [`concurrency_across_workers`](Options::concurrency_across_workers) | none | attempts of a queue, by name, that run at a time in all workers together |
//! | [`rates_across_workers`](Options::rates_across_workers) | none | attempts of a queue, by name, that all workers together begin in a second |
//! | [`queues`](Options::queues) | those of the registered activities | the queues that are served |
//! | [`prefetch`](Options::prefetch) | a quarter of the concurrency, 1 to 64 | frames that wait in this process for a free slot |
//! | [`give_back`](Options::give_back) | 2 s | a frame that found no slot for so long goes back to other workers |
//! | [`drain`](Options::drain) | 30 s | how long a shutdown waits for running attempts |
//! | [`cancel_grace`](Options::cancel_grace) | 10 s | how long a cancelled attempt may go on |
//! | [`payload_bytes_max`](Options::payload_bytes_max) | 2 MiB | the greatest result of an activity; up to 4 MiB without a store for large values, which says its own |
//! | [`eager`](Options::eager) | off | activities served here start at once, without their queue, while slots are free |
//! | [`schedules`](Options::schedules) | on | a worker that serves workflows keeps schedules, too |
//! | [`engine_threads`](Options::engine_threads) | one per core, at most 4 | threads that poll workflows |
//! | [`runs_at_hand_per_shard`](Options::runs_at_hand_per_shard) | 1,000 | open runs in memory though they only wait; the others are bytes in the cache |
//! | [`cache_dir`](Options::cache_dir) | `cache` in the directory of an embedded broker; else none | where runs that wait lie, and what makes a restart short |
//! | [`live_runs_per_shard`](Options::live_runs_per_shard) | 128 | futures kept alive; other open runs are replayed |
//! | [`retention`](Options::retention) | 24 h | how long ends of runs can be asked for, and history can be read back |
//! | [`id_memory`](Options::id_memory) | the retention, at least 1 h | how long ids of inputs and closed runs are known |
//! | [`build`](Options::build) | `EVERPULSE_BUILD`, else the git revision | what runs record of the code that began them |
//! | [`history_warning`](Options::history_warning) | 10,240 events, 10 MiB | a run with a longer history is logged, once |
//! | [`history_limit`](Options::history_limit) | 51,200 events, 50 MiB | a run with a longer history fails |
//! | [`check_determinism`](Options::check_determinism) | off | each run is replayed after every event |
//! | [`schemas`](Options::schemas) | on | what is taken and given is published, and compared with what was |
//! | [`inbox_prefetch`](Options::inbox_prefetch) | 64 | inbox frames per partition that wait in this process |
//! | time-out of an activity (start to close) | 60 s | `#[activity(timeout = ..)]`, `.timeout(..)` |
//! | retries of an activity | 200 ms, doubling up to 60 s, for ever | `#[activity(retry(..))]`, `.retry(..)` |
//! | attempts of a step | 1 | `.retry(..)` |
//! | time-out of a step | 10 s | `.timeout(..)` |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use everpulse_protocol::size::HistorySize;

use crate::permits::Rule;

/// What can be set on a worker; the table above has the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Attempts of one queue that run at a time in this process.
    pub concurrency: usize,
    /// The same for queues by name.
    pub queue_concurrency: BTreeMap<String, usize>,
    /// Attempts that this process begins in a second, for queues by name. What waits for its turn has a slot; eager
    /// activities of such a queue go through it.
    pub rates: BTreeMap<String, f64>,
    /// Attempts of a queue that run at a time in all workers together, for queues by name; an execution of a batch is one. Eager
    /// activities of such a queue go through it. Set it alike on all of them.
    pub concurrency_across_workers: BTreeMap<String, usize>,
    /// Attempts of a queue that all workers together begin in a second, for queues by name; each task of a batch is one. Eager
    /// activities of such a queue go through it. Set it alike on all of them.
    pub rates_across_workers: BTreeMap<String, f64>,
    /// The queues that are served; none: those that the registered activities name.
    pub queues: Option<Vec<String>>,
    /// Frames of a queue that wait in this process for a free slot; none: a quarter of the concurrency, 1 to 64.
    ///
    /// What waits here cannot run elsewhere, so a small number spreads tasks over workers.
    pub prefetch: Option<usize>,
    /// A frame that waited for a slot for so long is given back.
    pub give_back: Duration,
    /// How long a shutdown waits for running attempts. Those that still run then are dropped, and run elsewhere.
    pub drain: Duration,
    /// How long an attempt may go on after it was cancelled, before its future is dropped.
    pub cancel_grace: Duration,
    /// The greatest result of an activity, in bytes.
    pub payload_bytes_max: usize,
    /// Activities that this worker serves are started by the owner of their run at once, without their queue, while
    /// slots are free.
    pub eager: bool,
    /// Whether a worker that serves workflows keeps schedules, too. On.
    pub schedules: bool,
    /// Threads that poll workflows; a shard is always on the same one.
    pub engine_threads: usize,
    /// Futures that stay alive; the other open runs are replayed when something happens to them.
    pub live_runs_per_shard: usize,
    /// Open runs that are in memory although they only wait. The others are bytes in the cache, with about 100 bytes of
    /// memory each. Runs that are parked, or wait for the time of their start, are always in memory.
    pub runs_at_hand_per_shard: usize,
    /// A directory for runs that wait and for what a restart need not read from history. It may be deleted while no
    /// worker runs, and a disk that comes and goes with the process is as good. Each worker needs one of its own.
    ///
    /// Without one runs that wait take some hundred bytes of memory each, and all of history is read after a restart.
    pub cache_dir: Option<PathBuf>,
    /// Frames of the inbox, per partition, that wait in this process.
    pub inbox_prefetch: u32,
    /// History that is older goes, when all that is still needed of it (open runs above all) was carried forward: with
    /// it the ends of runs. Set it alike on all workers of an application; at least a second. The broker may keep what
    /// went for longer: the namespace's retention is its own.
    pub retention: Duration,
    /// How long after its end a workflow id stays taken, and an input is known when it comes again. Where nothing is
    /// set it is the retention, and at least an hour: a retention of minutes is for the disk, and no reason to take an
    /// input twice, or to refuse one that was ten minutes on its way. What is set counts as it is, but never less than
    /// the retention.
    ///
    /// A start, signal or cancellation that is on its way for longer than three quarters of it (with 20 minutes and
    /// more: five minutes less than all of it) is refused as expired, and put to the dead letters. So is one that was
    /// issued as far ahead of the workers' clocks. Set it alike on all workers.
    pub id_memory: Option<Duration>,
    /// What the runs that this worker begins record as its build; see [`Worker::build`](crate::Worker::build).
    pub build: Option<String>,
    /// When a run's history has become so long, that is logged, once: the run ought to continue as new. A replay takes as long
    /// as the history is, and so does whoever takes over.
    pub history_warning: HistorySize,
    /// When a run's history has become so long, the run fails, with both figures. It fails by the limit of the worker that has
    /// it then, and that is recorded: no replay depends on it.
    pub history_limit: HistorySize,
    /// Each run is replayed from its beginning after every event, and parked if that comes to something else; for tests.
    pub check_determinism: bool,
    /// What definitions take and give is published when the worker starts, and it does not start with a change that is not
    /// compatible with what was published before.
    pub schemas: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 64,
            queue_concurrency: BTreeMap::new(),
            rates: BTreeMap::new(),
            concurrency_across_workers: BTreeMap::new(),
            rates_across_workers: BTreeMap::new(),
            queues: None,
            prefetch: None,
            give_back: Duration::from_secs(2),
            drain: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(10),
            payload_bytes_max: 2 * 1024 * 1024,
            eager: false,
            schedules: true,
            engine_threads: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
            live_runs_per_shard: 128,
            runs_at_hand_per_shard: 1_000,
            cache_dir: None,
            inbox_prefetch: 64,
            retention: Duration::from_secs(24 * 3600),
            id_memory: None,
            build: None,
            history_warning: HistorySize { events: 10_240, bytes: 10 * 1024 * 1024 },
            history_limit: HistorySize { events: 51_200, bytes: 50 * 1024 * 1024 },
            check_determinism: false,
            schemas: true,
        }
    }
}

/// Where nothing is set, ids are remembered for at least so long.
const ID_MEMORY_MIN: Duration = Duration::from_secs(3_600);

impl Options {
    /// How long history is kept, and ids are remembered.
    #[must_use]
    pub fn memory(&self) -> (Duration, Duration) {
        let retention = self.retention.max(Duration::from_secs(1));
        (retention, self.id_memory.unwrap_or(ID_MEMORY_MIN).max(retention))
    }

    /// How many attempts of a queue run at a time: at least one.
    #[must_use]
    pub fn concurrency_of(&self, queue: &str) -> usize {
        self.queue_concurrency.get(queue).copied().unwrap_or(self.concurrency).max(1)
    }

    /// What is permitted to all workers of a queue together. What counts beginnings comes first.
    pub(crate) fn rules_of(&self, queue: &str) -> impl Iterator<Item = Rule> + use<> {
        let concurrency = self.concurrency_across_workers.get(queue).copied().map(Rule::Concurrency);
        let rate = self.rates_across_workers.get(queue).copied().map(Rule::Rate);
        rate.into_iter().chain(concurrency)
    }

    /// The queues that have a limit across workers.
    pub(crate) fn limited_queues(&self) -> BTreeSet<&String> {
        self.concurrency_across_workers.keys().chain(self.rates_across_workers.keys()).collect()
    }

    /// How many frames of a queue wait in this process: at least one.
    #[must_use]
    pub fn prefetch_of(&self, queue: &str) -> usize {
        self.prefetch.unwrap_or_else(|| (self.concurrency_of(queue) / 4).min(64)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_retention_does_not_shorten_the_memory_of_ids() {
        let of = |retention, id_memory: Option<u64>| {
            let (retention, id_memory) = (Duration::from_secs(retention), id_memory.map(Duration::from_secs));
            let (retention, memory) = Options { retention, id_memory, ..Options::default() }.memory();
            (retention.as_secs(), memory.as_secs())
        };
        assert_eq!(of(300, None), (300, 3_600));
        assert_eq!(of(86_400, None), (86_400, 86_400));
        assert_eq!(of(300, Some(600)), (300, 600), "who says so has less");
        assert_eq!(of(300, Some(60)), (300, 300), "but not less than the retention");
        assert_eq!(of(0, None), (1, 3_600));
    }
}
