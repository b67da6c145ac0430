//! What has to hold of a world, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::event::{Event, EventBody, Report, Start};
use everpulse_protocol::family::{ParentClose, child_run};
use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{EventId, RunId, Timestamp};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, TurnState, Unreceived};

use super::{World, repeats};

/// A record that stands, and how many entries the log had before its frame.
struct Standing {
    record: Record,
    behind: usize,
}

/// How often what may happen again did: tasks in queues, and local work.
#[derive(Debug, Default, Clone, Copy)]
pub struct Repeats {
    pub tasks: usize,
    pub local: usize,
}

/// One chain, no forks, dense runs that replay to what they recorded, nothing early, nothing settled twice,
/// nothing sent before its cause stood.
pub fn judge(world: &World) -> Repeats {
    let standing = standing(world);
    let mut runs: BTreeMap<RunId, Vec<&Record>> = BTreeMap::new();
    let mut asked: BTreeMap<(RunId, u32), (CommandMark, usize)> = BTreeMap::new();
    let mut last = Timestamp(0);
    for Standing { record, behind } in &standing {
        assert!(record.at >= last, "recorded time goes on");
        last = record.at;
        let run = runs.entry(record.run_id).or_default();
        assert_eq!(record.seq as usize, run.len(), "records of a run are dense");
        assert!(run.last().is_none_or(|record| record.close.is_none()), "nothing follows a run's end");
        run.push(record);
        for mark in record.commands.iter().filter(|mark| mark.kind.is_work()) {
            asked.insert((record.run_id, mark.no), (mark.clone(), *behind));
        }
    }
    for records in runs.values() {
        settled_once(records);
        let left = replays(&world.registry, records);
        goes_on(&runs, records, &left);
    }
    taken_once(&runs);
    succeeds(&standing);
    tagged(world);
    if world.shards == 1 {
        families(&runs);
    }
    let mut repeats = Repeats::default();
    let mut sent = BTreeSet::new();
    for (task, at) in world.queue.iter().zip(&world.queued_at) {
        let (_, behind) = asked.get(&(task.run_id, task.step)).expect("a task was asked for");
        assert!(behind < at, "task {} of {} was sent before its cause stood", task.step, task.workflow_id);
        let comes_again = !sent.insert((task.id, task.attempt, task.returned.is_some()));
        repeats.tasks += usize::from(comes_again && (task.attempt == 1 || task.returned.is_some()));
    }
    let mut done = BTreeSet::new();
    for (run, step, at) in &world.executed {
        let (_, behind) = asked.get(&(*run, *step)).expect("local work was asked for");
        assert!(behind < at, "local work {step} was started before its cause stood");
        repeats.local += usize::from(!done.insert((*run, *step)));
    }
    repeats
}

/// What the owner of a shard does on its own: nobody else would notice if it did not.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Local work.
    Step(u32),
    /// The application of an input that was taken in on trial.
    Apply(EventId),
}

/// Local work of the tests is over after so long, with what is added to that.
const SOON_MS: u64 = 75_000;

/// What is under way, and nothing brings a worker to it soon: neither an input of its run, nor a wake-up that is on its way
/// or that is due soon. `relayed`: the timers that are not waiting any more.
pub fn uncovered(world: &World, relayed: &BTreeSet<usize>) -> Option<String> {
    let mut open: BTreeSet<(RunId, Work)> = BTreeSet::new();
    for Standing { record, .. } in standing(world) {
        let run = record.run_id;
        match record.body() {
            Ok(RecordBody::StepSettled { step, .. } | RecordBody::ActivitySettled { step, .. }) => {
                open.remove(&(run, Work::Step(step)));
            }
            Ok(RecordBody::AttemptFailed { step, .. } | RecordBody::AttemptLeft { step, .. }) => {
                open.remove(&(run, Work::Step(step)));
            }
            Ok(RecordBody::Received { event, attempt }) => {
                if let Ok(EventBody::StepSettled { step, .. } | EventBody::ActivitySettled { step, .. }) = event.body()
                {
                    open.remove(&(run, Work::Step(step)));
                }
                if attempt > 0 {
                    open.insert((run, Work::Apply(event.id)));
                }
                continue;
            }
            Ok(RecordBody::Parked { .. }) => open.retain(|(of, _)| *of != run),
            _ => {}
        }
        open.remove(&(run, Work::Apply(record.event)));
        for mark in &record.commands {
            if mark.kind == CommandKind::Cancel {
                open.remove(&(run, Work::Step(mark.no)));
            } else if mark.kind == CommandKind::Step || mark.eager {
                open.insert((run, Work::Step(mark.no)));
            }
        }
        if record.close.is_some() {
            open.retain(|(of, _)| *of != run);
        }
    }
    let soon = Timestamp(world.now.0 + SOON_MS);
    let mut waiting = world.timers.iter().enumerate().filter(|(place, _)| !relayed.contains(place));
    if waiting.any(|(_, wake)| wake.due <= soon) {
        return None;
    }
    let held: Vec<&Event> = world.inbox.iter().flatten().flat_map(|frame| &frame.events).collect();
    let brings = |run: RunId| {
        held.iter().any(|event| {
            event.run_id == Some(run) || event.id.0 == run.0 || matches!(event.body(), Ok(EventBody::Wake { .. }))
        })
    };
    let left = open.into_iter().find(|(run, _)| !brings(*run));
    left.map(|(run, work)| format!("{work:?} of {run} is under way, and nothing brings anybody to it soon"))
}

fn standing(world: &World) -> Vec<Standing> {
    let (mut chain, mut standing) = (Chain::new(), Vec::new());
    for (behind, (position, payload)) in world.log.iter().enumerate() {
        match chain.offer(*position, payload) {
            Offered::Stands(frame) => {
                let records = frame.records.into_iter().filter(|record| !repeats(record));
                standing.extend(records.map(|record| Standing { record, behind }));
            }
            Offered::Void(_) => {}
            other => panic!("a fork or a hole: {other:?}"),
        }
    }
    standing
}

/// Each step is settled once, after it was asked for; timers are not early; inputs count once.
fn settled_once(records: &[&Record]) {
    let mut open: BTreeMap<u32, CommandMark> = BTreeMap::new();
    let mut inputs: BTreeSet<EventId> = BTreeSet::new();
    let mut received: BTreeSet<EventId> = BTreeSet::new();
    let mut kept: BTreeSet<u32> = BTreeSet::new();
    let mut ended: BTreeSet<(u32, u32)> = BTreeSet::new();
    for record in records {
        match record.body().expect("known kinds") {
            RecordBody::TimerFired { step } => {
                let timer = open.remove(&step).unwrap_or_else(|| panic!("timer {step} was not set: {records:#?}"));
                assert!(timer.due.expect("timers have one") <= record.at, "timer {step} is early");
            }
            RecordBody::ActivitySettled { step, .. }
            | RecordBody::StepSettled { step, .. }
            | RecordBody::ChildClosed { step, .. }
            | RecordBody::Delivered { step, .. } => {
                let wanted = open.remove(&step).is_some();
                assert!(wanted || received.contains(&record.event), "step {step} is settled once");
            }
            RecordBody::PromiseSettled { step, .. } => {
                assert!(inputs.insert(record.event), "an input counts once");
                let promise = open.remove(&step);
                assert!(promise.is_none_or(|mark| mark.kind == CommandKind::Promise), "{step} is no promise");
                assert!(kept.insert(step), "promise {step} is kept once");
            }
            RecordBody::AttemptReported { step, attempt, report } => {
                assert!(inputs.insert(record.event), "an input counts once");
                if !matches!(report, Report::Beat { .. }) {
                    assert!(ended.insert((step, attempt)), "attempt {attempt} of {step} ends once");
                }
                if report.outcome().is_some() {
                    let wanted = open.remove(&step).is_some();
                    assert!(wanted || received.contains(&record.event), "step {step} is settled once");
                }
            }
            RecordBody::AttemptOverdue { step, attempt, .. } => {
                assert!(open.contains_key(&step), "{step} is open");
                assert!(ended.insert((step, attempt)), "attempt {attempt} of {step} ends once");
            }
            RecordBody::Signalled { .. }
            | RecordBody::SignalledByTag { .. }
            | RecordBody::CancelRequested { .. }
            | RecordBody::UpdateAccepted { .. } => {
                assert!(inputs.insert(record.event), "an input counts once");
            }
            RecordBody::Received { event, .. } => {
                received.insert(event.id);
            }
            _ => {}
        }
        for mark in &record.commands {
            // A child tells how it ended, wanted or not.
            let is_child = open.get(&mark.no).is_some_and(|open| open.kind == CommandKind::Child);
            if mark.kind == CommandKind::Cancel && !is_child {
                open.remove(&mark.no);
            } else if mark.kind.is_work() {
                open.insert(mark.no, mark.clone());
            }
        }
    }
}

/// What parents know of their children is what these did, and none goes on against what was agreed.
///
/// All is quiet: what was to be told was told.
pub fn families(runs: &BTreeMap<RunId, Vec<&Record>>) {
    for (run, records) in runs {
        let ended = records.last().is_some_and(|last| last.close.is_some());
        let mut children: BTreeMap<u32, Option<ParentClose>> = BTreeMap::new();
        let (mut unwanted, mut told) = (BTreeSet::new(), BTreeSet::new());
        for record in records {
            for mark in &record.commands {
                match mark.kind {
                    CommandKind::Child => {
                        let target = mark.target.as_ref().expect("children have one");
                        assert_eq!(target.run_id, Some(child_run(*run, mark.no)));
                        children.insert(mark.no, target.on_close);
                    }
                    CommandKind::Detach => {
                        children.insert(mark.no, Some(ParentClose::Abandon));
                    }
                    CommandKind::Cancel if children.contains_key(&mark.no) => {
                        if record.commands.iter().any(|other| other.no == mark.no && other.kind == CommandKind::Child) {
                            children.remove(&mark.no);
                        } else {
                            unwanted.insert(mark.no);
                        }
                    }
                    _ => {}
                }
            }
            if let RecordBody::ChildClosed { step, close, never_began } = record.body().expect("known kinds") {
                assert!(children.contains_key(&step), "child {step} was asked for");
                assert!(told.insert(step), "child {step} ends once for its parent");
                let child = runs.get(&child_run(*run, step)).expect("it has a history");
                assert!(child.iter().all(|record| record.seq == 0 || !is_continued(record)), "it is the first");
                let child = to_the_last(runs, child);
                let last = child.last().expect("a record");
                assert_eq!(last.close.as_ref(), Some(&*close), "child {step} ended as its parent knows");
                let nothing = matches!(last.body(), Ok(RecordBody::NeverBegan { .. }));
                assert_eq!(nothing, never_began);
            }
        }
        // What the record that ends the run asks for, and would take back, is not begun.
        if let Some(last) = records.last().filter(|_| ended) {
            for mark in last.commands.iter().filter(|mark| mark.kind == CommandKind::Child) {
                if children.get(&mark.no).is_some_and(|on_close| *on_close != Some(ParentClose::Abandon)) {
                    children.remove(&mark.no);
                    assert!(!runs.contains_key(&child_run(*run, mark.no)), "it was not to be begun");
                }
            }
        }
        for (step, on_close) in children {
            let child =
                runs.get(&child_run(*run, step)).unwrap_or_else(|| panic!("child {step} of {run} has no history"));
            let child = to_the_last(runs, child);
            let last = child.last().expect("a record");
            let asked = child.iter().any(|record| {
                matches!(record.body(), Ok(RecordBody::CancelRequested { .. } | RecordBody::NeverBegan { .. }))
            });
            assert!(
                asked || last.close.is_some() || !unwanted.contains(&step),
                "child {step} was not told that it is unwanted"
            );
            if ended {
                match on_close.unwrap_or_default() {
                    ParentClose::Terminate => assert!(last.close.is_some(), "child {step} goes on"),
                    ParentClose::RequestCancel => {
                        assert!(asked || last.close.is_some(), "child {step} was not asked to cancel");
                    }
                    ParentClose::Abandon => {}
                }
            } else {
                assert!(told.contains(&step) || last.close.is_none(), "nobody told {run} that child {step} ended");
            }
        }
    }
}

/// An open run.
struct Carrier {
    /// With the frames since which its series carries them.
    tags: BTreeMap<String, u64>,
    first: RunId,
}

/// Where a signal has come to all with its tag, those that were open before it came and are open still have it, and nobody
/// gets it behind that.
fn tagged(world: &World) {
    let mut open: BTreeMap<RunId, Carrier> = BTreeMap::new();
    let mut ended: BTreeMap<RunId, Carrier> = BTreeMap::new();
    let (mut copies, mut over): (BTreeSet<EventId>, Vec<EventId>) = Default::default();
    for frame in world.chain().0 {
        for record in &frame.records {
            match record.body() {
                Ok(RecordBody::Carried { .. } | RecordBody::Remembered { .. }) => continue,
                Ok(RecordBody::TagReached { event, tag, since, all: true, .. }) => {
                    let meant = |run: &&Carrier| run.tags.get(&tag).is_some_and(|begun| *begun < since);
                    for run in open.values().filter(meant) {
                        assert!(copies.contains(&event.for_run(run.first)), "{} has no {event} for {tag}", run.first);
                    }
                    over.push(event);
                    continue;
                }
                Ok(RecordBody::TagReached { event, .. }) => {
                    assert!(!over.contains(&event), "it goes on behind its end");
                    continue;
                }
                Ok(_) => {}
                Err(_) => continue,
            }
            if record.seq == 0 {
                open.insert(record.run_id, carrier(record, frame.number, &ended));
            }
            let copy = match record.body() {
                Ok(RecordBody::SignalledByTag { .. }) => Some(record.event),
                Ok(RecordBody::Received { event, .. }) if event.body.is_of_kind("signal_tagged") => Some(event.id),
                _ => None,
            };
            let first = open.get(&record.run_id).map(|run| run.first);
            if let Some((copy, first)) = copy.zip(first).filter(|(copy, _)| copies.insert(*copy)) {
                assert!(!over.iter().any(|event| event.for_run(first) == copy), "{first} gets {copy} when all have it");
            }
            if record.close.is_some() {
                ended.extend(open.remove_entry(&record.run_id));
            }
        }
    }
}

fn carrier(record: &Record, number: u64, ended: &BTreeMap<RunId, Carrier>) -> Carrier {
    let received;
    let (start, continues) = match record.body().expect("known kinds") {
        RecordBody::Received { event, .. } => {
            received = event.body().expect("known kinds");
            let continues = match &received {
                EventBody::ContinueAsNew { continues, .. } => Some(continues.clone()),
                _ => None,
            };
            (received.as_start().cloned(), continues)
        }
        body => {
            let begun = body.begun();
            (begun.map(|begun| begun.start.clone()), begun.and_then(|begun| begun.continues.cloned()))
        }
    };
    let before = continues.as_ref().and_then(|continues| ended.get(&continues.previous));
    let since = |tag: &String| before.and_then(|before| before.tags.get(tag)).copied().unwrap_or(number);
    let tags = start.iter().flat_map(|start: &Start| &start.tags).map(|tag| (tag.clone(), since(tag))).collect();
    Carrier { tags, first: continues.map_or(record.run_id, |continues| continues.first) }
}

/// The records of a run, or of the last one of those that go on for it.
fn to_the_last<'a>(runs: &'a BTreeMap<RunId, Vec<&'a Record>>, records: &'a Vec<&'a Record>) -> &'a Vec<&'a Record> {
    let mut last = records;
    while let Some(next) = last.last().and_then(|record| record.continued_as()) {
        last = runs.get(&next).expect("it went on");
    }
    last
}

fn is_continued(record: &Record) -> bool {
    let continues = |event: &Event| matches!(event.body(), Ok(EventBody::ContinueAsNew { .. }));
    matches!(record.body(), Ok(RecordBody::Received { event, .. }) if continues(&event))
}

/// A run that ends so that another one can go on has that one in the same frame, and no other has one.
fn succeeds(standing: &[Standing]) {
    let ends = standing.iter().filter_map(|Standing { record, behind }| {
        Some((record.continued_as()?, (record.run_id, record.workflow_id.clone(), *behind)))
    });
    let mut ends: BTreeMap<RunId, _> = ends.collect();
    for Standing { record, behind } in standing.iter().filter(|Standing { record, .. }| record.seq == 0) {
        if is_continued(record) {
            let before = ends.remove(&record.run_id).expect("one run goes on as this one");
            assert_eq!((before.1, before.2), (record.workflow_id.clone(), *behind), "in one frame, of one id");
        }
    }
    assert!(ends.is_empty(), "{ends:?} did not go on");
}

/// What a run was sent and did not receive is what the next one has in the first place, in the same order.
fn goes_on(runs: &BTreeMap<RunId, Vec<&Record>>, records: &[&Record], (unreceived, updates): &Unheard) {
    let Some(next) = records.last().and_then(|last| last.continued_as()) else { return };
    let mut came: BTreeMap<String, u64> = BTreeMap::new();
    let (mut left, mut updates_came) = (Vec::new(), 0);
    for record in records {
        match record.body().expect("known kinds") {
            RecordBody::Signalled { name, .. } | RecordBody::SignalledByTag { name, .. } => {
                let number = came.entry(name.clone()).or_default();
                if unreceived.iter().any(|of| of.name == name && of.numbers.contains(number)) {
                    left.push(record.event);
                }
                *number += 1;
            }
            RecordBody::UpdateAccepted { .. } => {
                if updates.contains(&updates_came) {
                    left.push(record.event);
                }
                updates_came += 1;
            }
            _ => {}
        }
    }
    let received = records.iter().filter_map(|record| match record.body() {
        Ok(RecordBody::Received { event, .. }) if record.event == event.id => Some(event),
        _ => None,
    });
    for event in received {
        // What is applied bears its id, in another record.
        let is_applied = records
            .iter()
            .filter(|record| record.event == event.id)
            .any(|record| !matches!(record.body(), Ok(RecordBody::Received { .. })));
        let counts = matches!(
            event.body(),
            Ok(EventBody::Signal { .. }
                | EventBody::SignalTagged { .. }
                | EventBody::Demanded { .. }
                | EventBody::UpdateAccepted { .. })
        );
        if counts && !is_applied && !left.contains(&event.id) {
            left.push(event.id);
        }
    }
    let begins = runs.get(&next).expect("it went on").iter().map_while(|record| match record.body() {
        Ok(RecordBody::Received { event, .. }) => Some(event.id),
        _ => None,
    });
    // The signal that came with its start has no record of its own where the first turn ended the run.
    let run_id = records.last().expect("it ends").run_id;
    let of_start = EventId::derived(run_id, 0, "signal of start");
    let along: Vec<EventId> = begins.skip(1).filter(|id| *id != of_start).take(left.len()).collect();
    assert_eq!(along, left, "all that was not received goes along");
}

/// What a run says that it was sent and did not receive: signals, and updates by their numbers.
type Unheard = (Vec<Unreceived>, Vec<u32>);

/// What a series has taken under one id it has taken once, unless it went along from one run to the next.
fn taken_once(runs: &BTreeMap<RunId, Vec<&Record>>) {
    let first = |run: &RunId, records: &[&Record]| {
        let continues = records.iter().find_map(|record| match record.body() {
            Ok(RecordBody::Received { event, .. }) => match event.body() {
                Ok(EventBody::ContinueAsNew { continues, .. }) => Some(continues.first),
                _ => None,
            },
            _ => None,
        });
        continues.unwrap_or(*run)
    };
    let mut taken: BTreeMap<(RunId, String), EventId> = BTreeMap::new();
    for (run, records) in runs {
        let (series, mut here) = (first(run, records), BTreeSet::new());
        for record in records {
            if let Ok(RecordBody::UpdateAccepted { id, .. }) = record.body() {
                assert!(here.insert(id.clone()), "update {id} is taken once by a run");
                let event = *taken.entry((series, id.clone())).or_insert(record.event);
                assert_eq!(event, record.event, "update {id} is taken once by a series");
            }
        }
    }
}

/// The records, through the code again: the same commands after each, and the same end.
fn replays(registry: &Registry, records: &[&Record]) -> Unheard {
    let (mut instance, mut size): (Option<Instance>, _) = (None, HistorySize::default());
    let mut left = Unheard::default();
    for record in records {
        let so_far = size;
        size = size.with(record);
        let body = record.body().expect("known kinds");
        let continues = body.begun().and_then(|begun| begun.continues.cloned());
        let input = match body {
            RecordBody::Started { start, version, build, .. }
            | RecordBody::Spawned { start, version, build, .. }
            | RecordBody::Continued { start, version, build, .. } => {
                let entry = registry.workflow(&start.workflow, Some(version)).expect("known code");
                let info = RunInfo {
                    workflow_id: record.workflow_id.clone(),
                    run_id: record.run_id,
                    workflow: start.workflow.clone(),
                    version,
                    started_at: record.at,
                    tags: start.tags.clone(),
                    build,
                    headers: start.headers.clone(),
                    continues,
                    priority: start.priority.clone(),
                };
                instance = Some(Instance::new(entry, info, start.args, registry.coding()));
                Input::Start
            }
            RecordBody::Signalled { name, value, .. } => Input::Signal { name, value },
            RecordBody::UpdateAccepted { id, name, args, .. } => Input::Update { id, name, args },
            RecordBody::SignalledByTag { tag, name, value, .. } => Input::SignalByTag { tag, name, value },
            RecordBody::ActivitySettled { step, outcome, .. }
            | RecordBody::StepSettled { step, outcome }
            | RecordBody::PromiseSettled { step, outcome }
            | RecordBody::Delivered { step, outcome } => Input::Settled { step, outcome },
            RecordBody::ChildBegan { step } => Input::ChildBegan { step },
            RecordBody::ChildClosed { step, close, never_began } => {
                Input::ChildClosed { step, outcome: close.outcome, began: !never_began }
            }
            RecordBody::AttemptReported { step, report, .. } => match report.outcome() {
                Some(outcome) => Input::Settled { step, outcome },
                None => continue,
            },
            RecordBody::TimerFired { step } => Input::TimerFired { step },
            RecordBody::CancelRequested { reason } => Input::CancelRequested { reason },
            _ => continue,
        };
        let Some(instance) = instance.as_mut() else { continue };
        instance.set_history(so_far.at_next());
        let turn = instance.replay(input, record.at, &record.commands);
        // A deprecated patch may be gone from the code.
        let plain = |marks: Vec<CommandMark>| -> Vec<(u32, CommandKind)> {
            let marks = marks.into_iter().filter(|mark| mark.kind != CommandKind::DeprecatedPatch);
            marks.map(|mark| (mark.no, mark.kind)).collect()
        };
        for command in &turn.commands {
            if let Command::ContinueAsNew { unreceived, updates, .. } = command {
                left = (unreceived.clone(), updates.clone());
            }
        }
        let marks = plain(turn.commands.iter().map(Command::mark).collect());
        let recorded = plain(record.commands.clone());
        assert_eq!(marks, recorded, "{} replays", record.workflow_id);
        if let TurnState::Closed(close) = turn.state {
            assert_eq!(record.close.as_ref(), Some(&close), "{} ends as it did", record.workflow_id);
        }
    }
    left
}
