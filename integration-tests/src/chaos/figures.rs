//! What happened, in numbers: runs by kind and minute, faults by kind, latencies, memory, disk. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::mix::Kind;
use super::now_ms;

/// A fault that was done: what, to whom, and from when to when.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    pub kind: &'static str,
    /// For a person: which worker, which topic.
    pub target: String,
    /// The writer of a worker that was stopped.
    pub writer: Option<String>,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// Faults that are a SIGKILL of a worker or of the broker.
const KILLS: [&str; 3] = ["worker killed", "extra worker killed", "broker killed"];

/// All numbers.
#[derive(Debug)]
pub struct Figures {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    done: BTreeMap<Kind, u64>,
    /// By minute since the beginning.
    per_minute: Vec<u64>,
    /// Runs of `hello`, from the caller's first try to its result.
    hello_ms: Vec<u32>,
    faults: Vec<Fault>,
    calm: bool,
    done_in_storm: u64,
    storm: Duration,
    phase_began: Option<Instant>,
    settled_ms: Vec<u64>,
    peaks_kb: BTreeMap<&'static str, u64>,
    disk_max: u64,
    /// Workers that came to serve.
    started: u64,
    /// Of them those of the earlier release, as history names them.
    earlier: BTreeSet<String>,
    samples: BTreeMap<&'static str, Vec<u64>>,
}

impl Default for Figures {
    fn default() -> Self {
        Self { began: Instant::now(), inner: Mutex::default() }
    }
}

impl Figures {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A run was played to its end, and how long that took where it is known.
    pub fn done(&self, kind: Kind, took: Option<Duration>) {
        let minute = usize::try_from(self.began.elapsed().as_secs() / 60).unwrap_or(usize::MAX);
        let mut inner = self.inner();
        *inner.done.entry(kind).or_default() += 1;
        if inner.per_minute.len() <= minute {
            inner.per_minute.resize(minute + 1, 0);
        }
        inner.per_minute[minute] += 1;
        if !inner.calm {
            inner.done_in_storm += 1;
        }
        if kind == Kind::Hello
            && let Some(took) = took
        {
            inner.hello_ms.push(u32::try_from(took.as_millis()).unwrap_or(u32::MAX));
        }
    }

    /// How many were played to their end.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.inner().done.values().sum()
    }

    /// Faults begin, or have ended.
    pub fn phase(&self, calm: bool) {
        let mut inner = self.inner();
        let now = Instant::now();
        if let Some(before) = inner.phase_began.replace(now)
            && !inner.calm
        {
            inner.storm += now - before;
        }
        inner.calm = calm;
    }

    /// How long it took until all that was started had ended, from the last fault on.
    pub fn settled(&self, took: Duration) {
        self.inner().settled_ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// A fault that is over.
    pub fn fault(&self, kind: &'static str, target: impl Into<String>, writer: Option<String>, from_ms: u64) {
        let fault = Fault { kind, target: target.into(), writer, from_ms, to_ms: now_ms() };
        eprintln!(
            "{:>7.1} s  {} {} for {} ms",
            self.began.elapsed().as_secs_f64(),
            fault.kind,
            fault.target,
            fault.to_ms - fault.from_ms
        );
        self.inner().faults.push(fault);
    }

    /// All of them, in the order of their ends.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.inner().faults.clone()
    }

    /// Resident memory that was seen; the greatest counts.
    pub fn memory(&self, of: &'static str, kb: u64) {
        let mut inner = self.inner();
        let peak = inner.peaks_kb.entry(of).or_default();
        *peak = kb.max(*peak);
    }

    /// A worker came to serve.
    pub fn started(&self, writer: &str, of_earlier_release: bool) {
        let mut inner = self.inner();
        inner.started += 1;
        if of_earlier_release {
            inner.earlier.insert(writer.to_owned());
        }
    }

    /// The writers of the earlier release.
    #[must_use]
    pub fn earlier(&self) -> BTreeSet<String> {
        self.inner().earlier.clone()
    }

    /// What the broker took on its disk; the greatest counts.
    pub fn disk(&self, bytes: u64) {
        let mut inner = self.inner();
        inner.disk_max = bytes.max(inner.disk_max);
    }

    /// Something else that is told with its least, middle and greatest value.
    pub fn sample(&self, of: &'static str, value: u64) {
        self.inner().samples.entry(of).or_default().push(value);
    }

    /// All numbers as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let inner = self.inner();
        let mut by_fault: BTreeMap<&str, u64> = BTreeMap::new();
        for fault in &inner.faults {
            *by_fault.entry(fault.kind).or_default() += 1;
        }
        let kills = inner.faults.iter().filter(|fault| KILLS.contains(&fault.kind)).count();
        // The last minute is not a whole one.
        let whole = inner.per_minute.len().saturating_sub(1).max(1).min(inner.per_minute.len());
        let minutes: Vec<u64> = inner.per_minute[..whole].to_vec();
        let storm = inner.storm.as_secs_f64();
        let hello: Vec<u64> = inner.hello_ms.iter().map(|ms| u64::from(*ms)).collect();
        let samples: BTreeMap<&str, Value> = inner.samples.iter().map(|(of, values)| (*of, spread(values))).collect();
        json!({
            "seconds": self.began.elapsed().as_secs(),
            "runs": inner.done.values().sum::<u64>(),
            "runs_by_kind": inner.done.iter().map(|(kind, count)| (kind.name(), count)).collect::<BTreeMap<_, _>>(),
            "runs_per_minute": spread(&minutes),
            "minutes": inner.per_minute,
            "storm_seconds": storm.round(),
            "runs_per_second_in_storms": (inner.done_in_storm as f64 / storm.max(1.0) * 10.0).round() / 10.0,
            "hello_ms": { "p50": percentile(&hello, 50), "p90": percentile(&hello, 90), "p99": percentile(&hello, 99), "max": hello.iter().max() },
            "kills": kills,
            "faults": by_fault,
            "settled_ms": spread(&inner.settled_ms),
            "peak_kb": inner.peaks_kb,
            "disk_max": inner.disk_max,
            "workers_started": inner.started,
            "workers_started_of_the_earlier_release": inner.earlier.len(),
            "samples": samples,
        })
    }
}

fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?)).copied()
}

fn spread(values: &[u64]) -> Value {
    json!({ "min": values.iter().min(), "median": percentile(values, 50), "max": values.iter().max() })
}

/// The greatest resident memory of a process so far, in kilobytes.
#[must_use]
pub fn peak_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
