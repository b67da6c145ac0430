//! What has to hold when everything is settled, decided from all that was ever on the broker's disk, the clients'
//! knowledge and the ledger of effects. What has to hold at every moment is the [`Witness`]'s.
//!
//! The chain, the runs and the effects are judged by `everpulse-checker`, which shares no code with the engine: once all
//! of history, as if nothing had been trimmed, and once what is left of it. Here are the questions that need the whole
//! world: was each accepted start kept, are the results those of the sequential model, was each effect behind its frame,
//! is every dead letter accounted for, and does each run's code come to the same commands again.

mod kept;
mod standing;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use everpulse_checker::{Command, MarkKind, Report, Rules, Status, check_partitions};
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, Outcome};
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::{EventId, FailureKind, RunId, decode, topic};

pub use self::standing::{Placed, Standing, parked, standing_still};
pub use self::witness::Witness;
use crate::client::{Job, Told};
use crate::ledger::Effect;
use crate::party::Place;
use crate::wire;
use crate::workflows::{self, BUSY_MS, LIMITS, QUEUE};
use crate::world::World;

/// The rules that were broken, in words.
pub fn judge(world: &mut World) -> Vec<String> {
    workflows::mend(true);
    let histories = histories(world);
    let rules = Rules { ordered_workflows: vec!["chain".to_owned()], at_rest: true };
    let mut report = check_partitions(&histories.iter().map(|entries| raw(entries)).collect::<Vec<_>>(), &rules);
    let mut faults = Vec::new();
    let names: BTreeMap<String, String> =
        report.runs.iter().map(|run| (run.run_id.to_string(), run.workflow_id.clone())).collect();
    report.judge_effects(&world.ledger.lines(&names));
    faults.extend(report.violations.iter().map(ToString::to_string));
    let mut standing = Standing::of(histories.iter().map(Vec::as_slice));
    what_is_left(world, &histories, &rules, &mut faults);
    starts_and_results(world, &report, &mut faults);
    forgotten(world, &standing, &mut faults);
    updates(world, &standing, &mut faults);
    effects_behind_frames(world, &standing, &mut faults);
    dead_letters(world, &standing, &mut faults);
    world.counts.resumed = kept::what_was_told(&world.ledger, &standing, &mut faults);
    standing.replays(world.registry(), &mut faults);
    count(world, &report, &standing);
    if world.shape.calm {
        calm(world, &report, &mut faults);
    }
    faults
}

/// All that was ever stored of each shard's history.
pub fn histories(world: &World) -> Vec<Vec<Placed>> {
    let of_shard = |shard| {
        let stored = world.server.stored_in(&wire::history(shard));
        stored.map(|(place, position, payload)| (place, position, payload.clone())).collect()
    };
    (0..world.layout().shards).map(of_shard).collect()
}

fn raw(entries: &[Placed]) -> Vec<(everpulse_checker::Position, Vec<u8>)> {
    let entry = |(_, at, payload): &Placed| {
        (everpulse_checker::Position { ledger: at.ledger, entry: at.entry }, payload.to_vec())
    };
    entries.iter().map(entry).collect()
}

/// What was not trimmed is a history of its own: nothing that is needed is gone.
fn what_is_left(world: &World, histories: &[Vec<Placed>], rules: &Rules, faults: &mut Vec<String>) {
    if world.server.trimmed == 0 {
        return;
    }
    let left = (0..world.layout().shards).zip(histories).map(|(shard, entries)| {
        let first = world.server.first_position(&wire::history(shard));
        let from = entries.partition_point(|(_, position, _)| first.is_none_or(|first| *position < first));
        raw(&entries[from..])
    });
    let report = check_partitions(&left.collect::<Vec<_>>(), rules);
    faults.extend(report.violations.iter().map(|violation| format!("of what is left: {violation}")));
}

/// No accepted start is lost, and each has a run that has ended, as its client was told and the model says.
fn starts_and_results(world: &World, report: &Report, faults: &mut Vec<String>) {
    let memory_ms = world.shape.options.id_memory_ms;
    for job in world.jobs().into_iter().flat_map(|jobs| &jobs.jobs) {
        let id = job.workflow_id.as_str();
        let runs: Vec<_> = report.runs_of(id).collect();
        if job.accepted && runs.is_empty() {
            faults.push(format!("the start of {id} was accepted and is lost"));
        }
        for pair in runs.windows(2) {
            // An id can be used again when it is forgotten.
            let goes_on = pair[0].continued_as == Some(pair[1].run_id);
            if !goes_on && pair[0].closed_at_ms.is_none_or(|closed| closed + memory_ms / 2 > pair[1].started_at_ms) {
                faults.push(format!("{id} has {} runs", runs.len()));
            }
        }
        for told in &job.told {
            if !runs.iter().any(|run| run.run_id.to_string() == told.to_string()) {
                faults.push(format!("the client of {id} was told of run {told}, which is not in history"));
            }
        }
        for run in &runs {
            if !may_end_so(job, run.status) {
                faults.push(format!("{id} is {:?} at the end, and waits for {:?}", run.status, run.pending()));
            }
        }
        match &job.outcome {
            None if job.forgotten_ms.is_some() => {}
            None => faults.push(format!("the client of {id} never heard of its end")),
            Some(outcome) if !job.allows(outcome) => {
                faults.push(format!("{id} of {} came to {outcome:?}, not to what the model says", job.n));
            }
            Some(_) => {}
        }
    }
}

fn may_end_so(job: &Job, status: Status) -> bool {
    match status {
        // Whether the next one is there is the checker's to see.
        Status::Completed | Status::ContinuedAsNew => true,
        Status::Cancelled => job.stop.as_ref().is_some_and(|stop| !stop.terminate),
        Status::Terminated => job.stop.as_ref().is_some_and(|stop| stop.terminate),
        Status::TimedOut => job.timeout_ms.is_some(),
        _ => false,
    }
}

/// What clients were told of updates is what stands.
fn updates(world: &World, standing: &Standing, faults: &mut Vec<String>) {
    let known = standing.updates();
    let requested = standing.requested();
    for job in world.jobs().into_iter().flat_map(|jobs| &jobs.jobs) {
        for (id, event, told) in &job.told_of {
            let stands = known.get(id);
            let is_so = match told {
                Told::Refused => !requested.contains(event),
                Told::Taken => stands.is_some(),
                Told::Answered(outcome) => stands.is_some_and(|answer| answer.as_ref() == Some(outcome)),
            };
            if !is_so {
                faults.push(format!("of update {id} of {} was told {told:?}, and {stands:?} stands", job.workflow_id));
            }
        }
    }
    let skew = world.shape.skew_ms_max().unsigned_abs();
    standing.taken_twice(world.shape.options.id_memory_ms, skew, faults);
}

/// What is said to be forgotten has ended long ago.
fn forgotten(world: &World, standing: &Standing, faults: &mut Vec<String>) {
    let options = &world.shape.options;
    let (ends, ids) = (options.retention_ms, options.id_memory_ms);
    let skew = world.shape.skew_ms_max().unsigned_abs();
    for job in world.jobs().into_iter().flat_map(|jobs| &jobs.jobs) {
        for at in &job.unseen_ms {
            let closed = job.told.iter().filter_map(|run| standing.closed_at(*run)).min();
            if closed.is_none_or(|closed| closed + ends.min(ids) > at + 2 * skew) {
                faults.push(format!("{} was seen, and is not known at {at} ms; it ended {closed:?}", job.workflow_id));
            }
        }
        let inputs = job.signals.iter().map(|signal| &signal.asked).chain(job.stop.as_ref().map(|stop| &stop.asked));
        let lost = inputs.filter_map(|asked| asked.lost_ms).map(|at| (at, ids));
        for (at, memory) in job.forgotten_ms.map(|at| (at, ends)).into_iter().chain(lost) {
            let closed = job.told.iter().filter_map(|run| standing.closed_at(*run)).min();
            if closed.is_none_or(|closed| closed + memory > at + 2 * skew) {
                let id = &job.workflow_id;
                faults.push(format!("run {:?} of {id} is called forgotten at {at} ms, and ended {closed:?}", job.run));
            }
        }
    }
}

/// What was done was asked for by a frame that stands, and that was stored before it was done.
fn effects_behind_frames(world: &World, standing: &Standing, faults: &mut Vec<String>) {
    for effect in &world.ledger.effects {
        let what = format!("step {} of {} {}", effect.step, effect.workflow_id, effect.run_id);
        let Some(place) = standing.asked(effect.run_id, effect.step) else {
            faults.push(format!("{what} was done, and no frame that stands asks for it"));
            continue;
        };
        if place >= effect.place.stored {
            let Place { party, world_ms, .. } = effect.place;
            faults.push(format!("{what} was done by {party} at {world_ms} ms, before its frame was stored"));
        }
    }
}

/// Each letter is of a signal for nobody, of an input that was too old, or of an activity that ran out of attempts; and
/// each of these has one.
fn dead_letters(world: &mut World, standing: &Standing, faults: &mut Vec<String>) {
    let blind: BTreeSet<EventId> =
        world.jobs().into_iter().flat_map(|jobs| &jobs.blind).map(|blind| blind.asked.id).collect();
    let skew = world.shape.skew_ms_max().unsigned_abs();
    let expires_ms = (world.shape.options.id_memory_ms * 3 / 4).saturating_sub(2 * skew);
    let had_a_run = |event: &Event, at: u64| {
        let is_old = event.sent_at.0 + expires_ms <= at;
        let is_over = event.run_id.is_some_and(|run| standing.closed_at(run).is_some());
        !is_old && !is_over && !blind.contains(&event.id)
    };
    let mut of_events: BTreeSet<EventId> = BTreeSet::new();
    let mut of_tasks: BTreeSet<(RunId, u32)> = BTreeSet::new();
    let topics = [topic::INBOX_DEAD.to_owned(), topic::activity_dead(QUEUE)];
    for (position, payload) in topics.iter().flat_map(|topic| world.server.entries(&wire::stored(topic))) {
        world.counts.letters += 1;
        match decode::<DeadLetter>(&payload) {
            Ok(DeadLetter { at, letter: Letter::Event(event), reason }) => {
                world.counts.expired += u64::from(event.sent_at.0 + expires_ms <= at.0);
                if had_a_run(&event, at.0) {
                    faults.push(format!("event {} for {} was put away: {reason}", event.id, event.workflow_id));
                }
                of_events.insert(event.id);
            }
            Ok(DeadLetter { letter: Letter::Task(task), .. }) => {
                if !["doomed", workflows::UPLOAD].contains(&task.activity.as_str()) {
                    faults.push(format!("a dead letter of {}, step {}", task.workflow_id, task.step));
                }
                of_tasks.insert((task.run_id, task.step));
            }
            Ok(DeadLetter { letter: Letter::Unreadable { topic, .. }, .. }) => {
                faults.push(format!("a message of {topic} was unreadable"));
            }
            Err(error) => faults.push(format!("the dead letter at {position} cannot be read: {error}")),
        }
    }
    faults.extend(blind.difference(&of_events).map(|id| format!("signal {id} was for nobody, and has no dead letter")));
    for (run, records) in &standing.runs {
        for (record, _) in records {
            let Ok(RecordBody::ActivitySettled { step, outcome, .. }) = record.body() else { continue };
            let failed = matches!(outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Exhausted);
            if failed && !of_tasks.contains(&(*run, step)) {
                faults.push(format!("step {step} of {} failed, and has no dead letter", record.workflow_id));
            }
        }
    }
}

/// Where nothing goes wrong nothing is done twice, and nothing before the time that its error said: clocks agree.
fn calm(world: &mut World, report: &Report, faults: &mut Vec<String>) {
    let mut seen = BTreeMap::new();
    for effect in &world.ledger.effects {
        let what = (effect.run_id, effect.step, effect.attempt);
        if let Some(first) = seen.insert(what, effect) {
            let id = &effect.workflow_id;
            faults.push(format!(
                "attempt {} of step {} of {id} was made twice, {first} and {effect}, and nothing had gone wrong",
                what.2, what.1
            ));
        }
    }
    let is_moody = |effect: &&Effect| effect.workflow_id.starts_with(LIMITS) && effect.step == 0;
    for second in world.ledger.effects.iter().filter(is_moody).filter(|effect| effect.attempt == 2) {
        let Some(first) = seen.get(&(second.run_id, 0, 1)) else { continue };
        world.counts.waited += 1;
        if second.place.world_ms < first.place.world_ms + BUSY_MS {
            let id = &second.workflow_id;
            faults.push(format!("the second attempt of {id} was made {second}, too soon after the first one, {first}"));
        }
    }
    for id in report.runs.iter().filter(|run| run.parked.is_some()).map(|run| &run.workflow_id) {
        faults.push(format!("{id} is parked"));
    }
}

fn count(world: &mut World, report: &Report, standing: &Standing) {
    let all_have_it_ms = world.mended_ms();
    let counts = &mut world.counts;
    counts.runs = report.runs.len() as u64;
    counts.events = report.shards.iter().map(|shard| shard.records as u64).sum();
    counts.void = report.shards.iter().map(|shard| shard.void.len() as u64).sum();
    counts.replayed = standing.runs.len() as u64;
    counts.parked = standing.parked;
    counts.diverged = standing.diverged;
    counts.continued = report.counts().continued_as_new as u64;
    counts.handed_on = standing.handed_on;
    let ended = |command: &&Command| command.kind == MarkKind::Termination && command.settled == Some(true);
    counts.ended_by_others = report.runs.iter().flat_map(|run| run.commands.iter().filter(ended)).count() as u64;
    counts.trials = standing.trials;
    counts.tagged = standing.tagged;
    (counts.edits, counts.unedited) = (standing.edits, standing.unedited(all_have_it_ms));
    counts.shared_shards = standing.writers.iter().filter(|writers| writers.len() > 1).count() as u64;
    counts.effects = world.ledger.effects.len() as u64;
    let mut seen = BTreeSet::new();
    for effect in world.ledger.effects.iter().filter(|effect| effect.local) {
        counts.local_effects += 1;
        counts.local_repeats += u64::from(!seen.insert((effect.run_id, effect.step, effect.attempt)));
    }
}
