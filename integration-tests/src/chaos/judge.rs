//! What has to hold: in each calm for what is left of history, and at the end for all that was ever written.
//!
//! | question | asked of |
//! |---|---|
//! | do the chain and the runs obey the rules; does what is carried say what stood; is anything trimmed that is needed | the checker: in each calm over what the broker still has, at the end over the archive, which has what was trimmed too |
//! | has each id that was started its run or runs, ended as the model says, with as many commands | the archive |
//! | was each effect asked for by something that stands, and was everything done that history says was done | the checker, with the ledger |
//! | was an attempt executed twice only where a fault explains it | the ledger, beside the list of faults |
//! | has each exhausted activity its dead letter, and nothing else one | the dead letters, beside the model |
//! | had a stopped worker really lost its shards | the frames of the archive, by writer and time |
//!
//! Results, the order of signals and what a caller hears are compared where they are heard, in `player`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result};
use everpulse::Client;
use everpulse_checker::{Archive, Kind, Report, Rules, Status};
use everpulse_protocol::dead_letter::Letter;
use everpulse_protocol::decode;
use everpulse_protocol::history::Frame;
use serde_json::{Value, json};

use super::figures::{Fault, Figures};
use super::found::Found;
use super::mix::{self, Play};
use super::releases::Releases;
use crate::ledger::{self, Entry};

/// So long after a fault its consequences may come: a broker waits a minute for a silent client, an activity for its
/// time-out.
const AFTERMATH_MS: u64 = 90_000;
/// How many of a kind of violation are told one by one.
const TOLD: usize = 20;

/// The workflows whose activities must settle in the order in which they were scheduled.
#[must_use]
pub fn rules() -> Rules {
    Rules { ordered_workflows: vec!["sequence".to_owned(), "toils".to_owned()], ..Rules::default() }
}

/// Judges everything that was ever written. `started` has, for each number, whether a caller was told that the run was
/// stored; the others may or may not be there.
///
/// # Errors
/// When the archive or the ledger cannot be read.
pub fn everything(
    archive: &Archive,
    ledger: &Path,
    seed: u64,
    started: &[bool],
    figures: &Figures,
    found: &Found,
) -> Result<Value> {
    let (faults, earlier) = (&figures.faults(), &figures.earlier());
    let entries = ledger::read(ledger).context("reading the ledger")?;
    let lines = by_shard(archive, &entries)?;
    let mut seen: Vec<u8> = vec![0; started.len()];
    let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut zombies = Zombies::of(faults);
    let mut releases = Releases::of(earlier);
    for shard in 0..archive.shards() {
        let mut report = archive.check(shard, &rules())?;
        report.judge_effects(&lines[shard as usize]);
        for violation in &report.violations {
            let told = kinds.entry(violation.kind).or_default();
            *told += 1;
            if *told <= TOLD {
                found.add(format!("the checker, at the end: {violation}"));
            }
        }
        judge_runs(&report, seed, started, &mut seen, found);
        zombies.look(archive, shard, &report)?;
        releases.look(archive, shard, &report)?;
        let mut add = |name, count: usize| *sums.entry(name).or_default() += count;
        let counts = report.counts();
        for (name, count) in [
            ("runs", counts.runs),
            ("completed", counts.completed),
            ("cancelled", counts.cancelled),
            ("terminated", counts.terminated),
            ("timed out", counts.timed_out),
            ("failed", counts.failed),
            ("open", counts.open),
        ] {
            add(name, count);
        }
        for of in &report.shards {
            add("frames", of.entries);
            add("void frames", of.void.len());
            add("records", of.records);
        }
        if let Some(effects) = &report.effects {
            add("executions", effects.lines);
            add("keys executed", effects.keys);
        }
    }
    for (number, (stored, seen)) in started.iter().zip(&seen).enumerate() {
        let play = Play::of(seed, u32::try_from(number).unwrap_or(u32::MAX));
        let seen = usize::from(*seen);
        if (*stored && seen != play.runs()) || seen > play.runs() {
            found.add(format!("{} has {seen} runs in history, and {} were started", play.id(), play.runs()));
        }
    }
    let repeats = judge_repeats(&entries, faults, found);
    Ok(json!({
        "counts": sums,
        "violations_by_kind": kinds.iter().map(|(kind, count)| (format!("{kind:?}"), count)).collect::<BTreeMap<_, _>>(),
        "repeats": repeats,
        "zombies": zombies.to_json(),
        "releases": releases.to_json(),
        "archive_bytes": archive.bytes(),
    }))
}

/// The ledger's lines as the checker reads them, apart by shard.
fn by_shard(archive: &Archive, entries: &[Entry]) -> Result<Vec<String>> {
    let mut lines = vec![String::new(); archive.shards() as usize];
    for entry in entries {
        let shard = archive.shard_of(&entry.workflow_id) as usize;
        let of = lines.get_mut(shard).context("a shard of the archive")?;
        of.push_str(&serde_json::to_string(entry)?);
        of.push('\n');
    }
    Ok(lines)
}

fn judge_runs(report: &Report, seed: u64, started: &[bool], seen: &mut [u8], found: &Found) {
    for run in &report.runs {
        let number = Play::number_in(&run.workflow_id).and_then(|number| usize::try_from(number).ok());
        let Some(number) = number.filter(|number| *number < started.len()) else {
            found.add(format!("nobody started {}, of which there is a run", run.workflow_id));
            continue;
        };
        seen[number] = seen[number].saturating_add(1);
        let play = Play::of(seed, u32::try_from(number).unwrap_or(u32::MAX));
        let wrong = if run.status != play.status() {
            Some(format!("it is {:?}, and waits for {:?}", run.status, run.pending()))
        } else if run.status == Status::Completed && run.commands.len() != play.commands() {
            Some(format!("it has {} commands", run.commands.len()))
        } else if run.workflow_id != play.id() {
            Some(format!("the model calls it {}", play.id()))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let model = format!("the model says {:?} with {} commands", play.status(), play.commands());
            found.add(format!("run {}/{} in history: {wrong}; {model}", run.workflow_id, run.run_id));
        }
    }
}

/// An attempt that was executed more than once has a fault at its side: between its first and its last execution, or
/// shortly before.
fn judge_repeats(entries: &[Entry], faults: &[Fault], found: &Found) -> Value {
    let mut executions: HashMap<(&str, &str, u32), Vec<u64>> = HashMap::new();
    for entry in entries {
        executions.entry((&entry.key, &entry.step, entry.attempt)).or_default().push(entry.at_ms);
    }
    let (mut repeated, mut most, mut unexplained) = (0_u64, 1, 0_usize);
    for ((key, step, attempt), times) in executions.iter().filter(|(_, times)| times.len() > 1) {
        repeated += 1;
        most = most.max(times.len());
        let (first, last) = (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0));
        let explains = |fault: &&Fault| fault.from_ms <= last && fault.to_ms.saturating_add(AFTERMATH_MS) >= first;
        if !faults.iter().any(|fault| explains(&fault)) {
            unexplained += 1;
            if unexplained <= TOLD {
                found.add(format!(
                    "attempt {attempt} of {key} ({step}) was executed {} times, and there was no fault",
                    times.len()
                ));
            }
        }
    }
    json!({
        "attempts": executions.len(),
        "executed_again": repeated,
        "most_executions_of_one": most,
        "without_a_fault": unexplained,
    })
}

/// Stopped workers, and whether others wrote in their shards meanwhile.
struct Zombies<'a> {
    stops: Vec<(&'a Fault, &'a str)>,
    /// Those that were the last to write in a shard when they were stopped, by their place in the list.
    owners: BTreeSet<usize>,
    /// Of those: another wrote there before they went on.
    taken_over: BTreeSet<usize>,
    /// Of those: their frames are among the void ones.
    with_void_frames: BTreeSet<usize>,
}

impl<'a> Zombies<'a> {
    fn of(faults: &'a [Fault]) -> Self {
        let stops = faults.iter().filter_map(|fault| Some((fault, fault.writer.as_deref()?))).collect();
        Self { stops, owners: BTreeSet::new(), taken_over: BTreeSet::new(), with_void_frames: BTreeSet::new() }
    }

    fn look(&mut self, archive: &Archive, shard: u32, report: &Report) -> Result<()> {
        let void: BTreeSet<_> = report.shards.iter().flat_map(|of| &of.void).map(|void| void.position).collect();
        let mut writes: Vec<(u64, String)> = Vec::new();
        for (position, bytes) in archive.entries(shard)? {
            let Ok(frame) = decode::<Frame>(&bytes) else { continue };
            let writer = frame.writer.to_string();
            if void.contains(&position) {
                let mine = |(_, (fault, of)): &(usize, &(&Fault, &str))| **of == *writer && fault.from_ms <= frame.at.0;
                self.with_void_frames.extend(self.stops.iter().enumerate().filter(mine).map(|(at, _)| at));
            } else {
                writes.push((frame.at.0, writer));
            }
        }
        for (at, (fault, writer)) in self.stops.iter().enumerate() {
            // Recorded time never goes back.
            let before = writes.partition_point(|(written, _)| *written < fault.from_ms);
            let owned = before.checked_sub(1).is_some_and(|last| writes[last].1 == **writer);
            if !owned {
                continue;
            }
            self.owners.insert(at);
            let meanwhile = writes[before..].iter().take_while(|(written, _)| *written < fault.to_ms);
            if meanwhile.into_iter().any(|(_, other)| other != writer) {
                self.taken_over.insert(at);
            }
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let void = self.with_void_frames.intersection(&self.taken_over).count();
        json!({
            "stopped": self.stops.len(),
            "owned_shards": self.owners.len(),
            "taken_over": self.taken_over.len(),
            "and_wrote_void_frames_afterwards": void,
        })
    }
}

/// Compares the dead letters with the model: one at least for each exhausted activity, and none for anything else.
///
/// # Errors
/// When they cannot be listed.
pub async fn dead_letters(client: &Client, seed: u64, started: &[bool], found: &Found) -> Result<Value> {
    let letters = client.dead_letters("default")?.list().await.context("listing the dead letters")?;
    let mut letters_of: BTreeMap<u32, usize> = BTreeMap::new();
    for listed in &letters {
        let Letter::Task(task) = &listed.letter.letter else {
            found.add(format!("a dead letter of the queue that is no task: {:?}", listed.letter.reason));
            continue;
        };
        match Play::number_in(task.workflow_id.as_str()) {
            Some(number) if Play::of(seed, number).kind == mix::Kind::Exhausted => {
                *letters_of.entry(number).or_default() += 1;
            }
            _ => found.add(format!(
                "a dead letter that should not be there: {} ({})",
                task.workflow_id, listed.letter.reason
            )),
        }
    }
    let mut expected = 0;
    for (number, _) in (0_u32..).zip(started).filter(|(_, stored)| **stored) {
        let play = Play::of(seed, number);
        if play.kind == mix::Kind::Exhausted {
            expected += 1;
            if !letters_of.contains_key(&number) {
                found.add(format!("{} was exhausted, and has no dead letter", play.id()));
            }
        }
    }
    let inbox = client.inbox_dead_letters().list().await.context("listing the dead letters of the inbox")?;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for listed in &inbox {
        *reasons.entry(listed.letter.reason.clone()).or_default() += 1;
        if let Letter::Unreadable { topic, .. } = &listed.letter.letter {
            found.add(format!("a message of {topic} could not be read: {}", listed.letter.reason));
        }
    }
    Ok(json!({
        "exhausted": expected,
        "letters": letters.len(),
        "twice": letters_of.values().filter(|letters| **letters > 1).count(),
        "inbox": inbox.len(),
        "inbox_reasons": reasons,
    }))
}
