//! What a shard does with a run that goes on as another one, rule by rule; and with one whose history becomes too long.

mod world;

use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::Options;
use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::history::{CloseStatus, ParkedKind, Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::view::RunStatus;
use everpulse_protocol::{EventId, FailureKind, RunId, Timestamp};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{continue_as_new, info, publish, signal, sleep, workflow};
use world::judge::judge;
use world::workflows::{Word, number, registry};
use world::{World, done, payload};

#[derive(serde::Serialize)]
struct PassesOn {
    n: u64,
    said: &'static str,
}

fn begin(world: &mut World, id: &str, workflow: &str, n: u64) -> (usize, RunId) {
    let owner = world.owner();
    let start = world.start(id, workflow, number(n));
    let run = RunId(start.id.0);
    world.say(owner, vec![start]);
    (owner, run)
}

fn word(world: &mut World, run: Option<RunId>, text: &str) -> Event {
    let body =
        EventBody::Signal { name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }), headers: None };
    world.event("a", run, &body)
}

fn wait(world: &mut World, ms: u64) {
    let until = Timestamp(world.now.0 + ms);
    world.run_until(until);
}

/// The records of each run of `a`, in the order of their beginnings.
fn series(world: &World) -> Vec<Vec<Record>> {
    let mut series: Vec<Vec<Record>> = Vec::new();
    for record in world.records().into_iter().filter(|record| record.workflow_id.as_str() == "a") {
        match series.iter_mut().find(|run| run[0].run_id == record.run_id) {
            Some(run) => run.push(record),
            None => series.push(vec![record]),
        }
    }
    series
}

/// What the owner answers to a question about a run, or the newest of `a`.
fn ask(world: &mut World, owner: usize, run: Option<RunId>, exact: bool, body: &EventBody) -> ReplyBody {
    let event = Event { exact, ..world.event("a", run, body) };
    world.replies.clear();
    world.say(owner, vec![event]);
    world.replies.pop().expect("an answer").1
}

#[test]
fn the_frame_that_ends_a_run_has_the_next_one_and_what_it_was_sent() {
    let mut world = World::new(registry());
    let (owner, first) = begin(&mut world, "a", "circles", 0);
    wait(&mut world, 800);
    let runs = series(&world);
    let last = runs[0].last().expect("a record");
    let frame = |record: &Record| {
        let frames = world.chain().0;
        frames.into_iter().find(|frame| frame.records.contains(record)).expect("it stands").number
    };
    assert_eq!(frame(last), frame(&runs[1][0]), "there is no between");
    assert_eq!(last.continued_as(), Some(runs[1][0].run_id));
    let Ok(RecordBody::Continued { continues, version, .. }) = runs[1][1].body() else { panic!("{:?}", runs[1][1]) };
    assert_eq!((continues.first, continues.previous, continues.number, version), (first, first, 1, 1));
    // It is named by the first run, which has ended.
    let event = word(&mut world, Some(first), "stop");
    world.say(owner, vec![event]);
    assert_eq!(world.result("a"), Some(done(&4)));
    judge(&world);
}

#[test]
fn whoever_names_a_run_that_went_on_reaches_the_last_one_unless_that_one_alone_is_meant() {
    let mut world = World::new(registry());
    let (owner, first) = begin(&mut world, "a", "circles", 0);
    let waits = Event { exact: true, ..world.event("a", Some(first), &EventBody::AskResult) };
    world.say(owner, vec![waits]);
    let waits = world.event("a", Some(first), &EventBody::AskResult);
    world.say(owner, vec![waits]);
    world.replies.clear();
    wait(&mut world, 1_500);
    let told: Vec<&ReplyBody> = world.replies.iter().map(|(_, reply)| reply).collect();
    let [ReplyBody::Closed { run_id, close }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((*run_id, close.status), (first, CloseStatus::ContinuedAsNew), "who means the first is told");

    let third = series(&world)[2][0].run_id;
    let ReplyBody::Description(view) = ask(&mut world, owner, Some(first), true, &EventBody::Describe) else {
        panic!()
    };
    assert_eq!((view.run_id, view.status), (first, RunStatus::ContinuedAsNew));
    assert_eq!(view.continued_as, Some(series(&world)[1][0].run_id));
    let ReplyBody::Description(view) = ask(&mut world, owner, Some(first), false, &EventBody::Describe) else {
        panic!()
    };
    assert_eq!((view.run_id, view.status, view.continues.map(|it| it.number)), (third, RunStatus::Open, Some(2)));
    let ended = ask(&mut world, owner, Some(first), true, &EventBody::AskResult);
    assert!(matches!(ended, ReplyBody::Closed { run_id, .. } if run_id == first));
    let open = ask(&mut world, owner, Some(first), false, &EventBody::AskResult);
    assert!(matches!(open, ReplyBody::Open { run_id } if run_id == third), "{open:?}");

    let exact = Event { exact: true, ..word(&mut world, Some(first), "stop") };
    world.replies.clear();
    world.say(owner, vec![exact]);
    assert!(matches!(world.replies[0].1, ReplyBody::AlreadyClosed { run_id } if run_id == first));
    world.replies.clear();
    let terminate = world.event("a", Some(first), &EventBody::Terminate { reason: "enough".to_owned() });
    world.say(owner, vec![terminate]);
    let closed =
        world.replies.iter().filter(|(_, reply)| matches!(reply, ReplyBody::Closed { run_id, .. } if *run_id == third));
    assert_eq!(closed.count(), 3, "all who waited hear of the last one: who started the first, and who asked");
}

#[test]
fn a_start_that_comes_again_begins_nothing_and_hears_of_the_last_one() {
    let mut world = World::new(registry());
    let (owner, first) = begin(&mut world, "a", "circles", 0);
    wait(&mut world, 800);
    world.replies.clear();
    world.replay(owner, 0, true);
    world.settle(owner);
    assert_eq!(world.replies.len(), 1, "{:?}", world.replies);
    assert!(matches!(world.replies[0].1, ReplyBody::Started { run_id, attached: false } if run_id == first));
    let terminate = world.event("a", None, &EventBody::Terminate { reason: String::new() });
    world.say(owner, vec![terminate]);
    assert!(world.replies.iter().any(|(_, reply)| matches!(reply, ReplyBody::Closed { .. })));
    assert_eq!(series(&world).len(), 2);
}

#[test]
fn a_signal_goes_along_once_however_often_it_comes() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "passes_on", payload(&PassesOn { n: 3, said: "" }));
    let words: Vec<Event> = ["x", "y"].iter().map(|text| word(&mut world, None, text)).collect();
    // Both before the first run has received one, and again when it is over.
    let mut events = vec![start];
    events.extend(words.clone());
    world.say(owner, events);
    world.say(owner, words.clone());
    world.say(owner, words);
    let last = word(&mut world, None, "z");
    world.say(owner, vec![last]);
    assert_eq!(world.result("a"), Some(done(&"xyz")));
    judge(&world);
}

#[test]
fn a_series_outlives_what_is_remembered_of_its_first_runs() {
    const RETENTION_MS: u64 = 1_000;
    let mut world = World::new(registry());
    world.options = Options {
        retention_ms: RETENTION_MS,
        id_memory_ms: RETENTION_MS,
        trim_bytes_min: 4_000,
        ..world.options.clone()
    };
    let (mut owner, first) = begin(&mut world, "a", "circles", 0);
    for round in 0..60 {
        wait(&mut world, 500);
        let name = format!("noise-{round}");
        let start = world.start(&name, "steps", number(2));
        world.say(owner, vec![start]);
        if round % 20 == 19 {
            let held = world.crash(owner);
            owner = world.owner();
            held.into_iter().for_each(|frame| world.deliver(owner, frame, true));
            world.settle(owner);
        }
    }
    assert!(world.start > 20, "history was trimmed");
    let gone = ask(&mut world, owner, Some(first), true, &EventBody::Describe);
    assert_eq!(gone, ReplyBody::NotFound, "nothing is known of the first run");
    world.replies.clear();
    let start = world.start("a", "circles", number(0));
    world.say(owner, vec![start]);
    let named = matches!(world.replies[0].1, ReplyBody::Started { run_id, attached: true } if run_id == first);
    assert!(
        named,
        "a start that finds the series is told the name that is good as long as it goes on: {:?}",
        world.replies
    );
    let stop = word(&mut world, Some(first), "stop");
    world.say(owner, vec![stop]);
    let runs = series(&world);
    let last = runs.last().and_then(|run| run.last()).and_then(|record| record.close.clone()).expect("it has ended");
    assert_eq!(last.outcome, done(&4), "but that the last one goes on for it");
    assert!(runs.len() > 30, "{}", runs.len());
    judge(&world);
}

/// Ends with the version of the code that came last.
#[workflow(name = "versions", version = 1, crate = everpulse_sdk)]
async fn versions_1(n: u64) -> u64 {
    signal::<Word>().recv().await;
    continue_as_new(versions_1(n)).await
}

#[workflow(name = "versions", version = 2, crate = everpulse_sdk)]
async fn versions_2(n: u64) -> u64 {
    if signal::<Word>().recv().await.text == "end" {
        return u64::from(info().version);
    }
    continue_as_new(versions_2(n)).await
}

#[test]
fn the_next_run_takes_the_newest_version_and_none_that_is_older() {
    let with = |one: bool, two: bool| {
        let mut registry = Registry::new();
        if one {
            registry.workflow_fn(versions_1).expect("new");
        }
        if two {
            registry.workflow_fn(versions_2).expect("new");
        }
        Arc::new(registry)
    };
    let mut world = World::new(Registry::new());
    world.registry = with(true, false);
    let (old, _) = begin(&mut world, "a", "versions", 0);
    // A worker with both comes.
    world.crash(old);
    world.registry = with(true, true);
    let both = world.owner();
    let on = word(&mut world, None, "on");
    world.say(both, vec![on]);
    let view = |world: &mut World, owner| match ask(world, owner, None, false, &EventBody::Describe) {
        ReplyBody::Description(view) => view,
        other => panic!("{other:?}"),
    };
    assert_eq!(view(&mut world, both).version, 2);
    // It is killed when it has ended a run of the new version, and before it began the next one.
    let on = word(&mut world, None, "on");
    let frame = world.publish(vec![on]);
    world.deliver(both, frame, false);
    world.settle_but(both, |effect| matches!(effect, everpulse_engine::Effect::Append { .. }));
    world.step(both);
    world.crash(both);
    world.registry = with(true, false);
    let older = world.owner();
    let waits = word(&mut world, None, "end");
    world.say(older, vec![waits]);
    let parked = view(&mut world, older).parked.expect("it waits for the code");
    assert_eq!(parked.kind, ParkedKind::NoCode);
    assert!(parked.message.contains("goes on for version 2, and is older"), "{}", parked.message);
    world.crash(older);
    world.registry = with(false, true);
    let newer = world.owner();
    let resume = world.event("a", None, &EventBody::Resume);
    world.say(newer, vec![resume]);
    assert_eq!(world.result("a"), Some(done(&2)));
}

/// Goes on as another workflow, whose versions are its own.
#[workflow(version = 5, crate = everpulse_sdk)]
async fn hands_on(n: u64) -> String {
    continue_as_new(world::workflows::listens(n)).await
}

#[test]
fn a_run_goes_on_as_another_workflow_whatever_its_version_and_hears_the_signal_of_its_start_first() {
    let mut code = registry();
    code.workflow_fn(hands_on).expect("new");
    let mut world = World::new(code);
    let owner = world.owner();
    let mut start = world.start_with("a", "first ");
    let Ok(EventBody::SignalWithStart { start: inner, name, value }) = start.body() else { panic!("{start:?}") };
    let inner = everpulse_protocol::event::Start {
        workflow: "hands_on".to_owned(),
        start_at: Some(Timestamp(world.now.0 + 1_000)),
        ..inner
    };
    start.body = everpulse_protocol::codec::Body::of(&EventBody::SignalWithStart { start: inner, name, value });
    world.say(owner, vec![start]);
    let second = word(&mut world, None, "second");
    world.say(owner, vec![second]);
    wait(&mut world, 1_500);
    assert_eq!(series(&world).len(), 2);
    assert_eq!(world.result("a"), Some(done(&"first second")));
    judge(&world);
}

/// Says how long its history is, by what it is told.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn measures(n: u64) -> u64 {
    for _ in 0..n {
        sleep(Duration::from_millis(10)).await;
        let info = info();
        publish(&(info.history_events, info.history_bytes));
    }
    info().history_events
}

/// Never receives what it is sent.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn hoards(n: u64) -> u64 {
    sleep(Duration::from_millis(n)).await;
    continue_as_new(hoards(n)).await
}

fn measured() -> World {
    let mut registry = Registry::new();
    registry.workflow_fn(measures).expect("new");
    registry.workflow_fn(hoards).expect("new");
    World::new(registry)
}

#[test]
fn a_run_is_told_the_same_of_its_history_by_whoever_has_it() {
    let mut world = measured();
    world.options.check_determinism = true;
    let (mut owner, _) = begin(&mut world, "a", "measures", 9);
    for _ in 0..3 {
        wait(&mut world, 30);
        world.crash(owner);
        owner = world.owner();
        let wake = world.timers.last().copied().expect("a wake-up");
        let wake = world.wake(wake);
        world.say(owner, vec![wake]);
        wait(&mut world, 1);
    }
    wait(&mut world, 1_000);
    assert_eq!(world.result("a"), Some(done(&10)));
    judge(&world);
}

#[test]
fn a_history_that_becomes_too_long_ends_its_run_by_a_record_that_names_the_figures() {
    let mut world = measured();
    world.options.history_limit = HistorySize { events: 7, bytes: u64::MAX };
    let (owner, _) = begin(&mut world, "a", "measures", 9);
    let waits = world.event("a", None, &EventBody::AskResult);
    world.say(owner, vec![waits]);
    wait(&mut world, 1_000);
    let runs = series(&world);
    let last = runs[0].last().expect("a record");
    let Ok(RecordBody::HistoryExceeded { size, limit }) = last.body() else { panic!("{last:?}") };
    assert_eq!((size.events, limit.events, last.seq), (7, 7, 7));
    let close = last.close.as_ref().expect("it ends");
    let Outcome::Failed(failure) = &close.outcome else { panic!("{close:?}") };
    assert_eq!((close.status, &failure.kind), (CloseStatus::Failed, &FailureKind::HistoryExceeded));
    assert!(failure.message.contains("has 7 events of ") && failure.message.contains("continue_as_new"), "{failure}");
    assert!(world.replies.iter().any(|(_, reply)| matches!(reply, ReplyBody::Closed { .. })), "who waits is told");
    assert_eq!(world.owners[owner].shard.status().open_runs, 0);
    // A worker that puts up with more goes by what is recorded.
    world.crash(owner);
    world.options.history_limit = HistorySize { events: u64::MAX, bytes: u64::MAX };
    let other = world.owner();
    let ReplyBody::Closed { close: again, .. } = ask(&mut world, other, None, false, &EventBody::AskResult) else {
        panic!("it has ended")
    };
    assert_eq!(*again, *close);
    judge(&world);
}

#[test]
fn bytes_count_as_events_do_and_so_does_what_a_parked_run_is_sent() {
    let mut world = World::new(registry());
    world.options.history_limit = HistorySize { events: u64::MAX, bytes: 4_000 };
    let (owner, _) = begin(&mut world, "a", "fussy", 0);
    for _ in 0..3 {
        let event = word(&mut world, None, &"x".repeat(1_000));
        world.say(owner, vec![event]);
    }
    let runs = series(&world);
    assert!(runs[0].iter().any(|record| matches!(record.body(), Ok(RecordBody::Parked { .. }))), "it did not like it");
    assert!(matches!(runs[0].last().expect("a record").body(), Ok(RecordBody::HistoryExceeded { .. })));
}

#[test]
fn a_run_that_is_too_long_with_what_goes_along_ends_when_it_has_all_of_it() {
    let mut ended = 0;
    for bytes in (8_500..11_500).step_by(100) {
        let mut world = measured();
        world.options.history_limit = HistorySize { events: u64::MAX, bytes };
        let (owner, _) = begin(&mut world, "a", "hoards", 1_000);
        for _ in 0..8 {
            let event = word(&mut world, None, &"x".repeat(1_000));
            world.say(owner, vec![event]);
        }
        wait(&mut world, 1_500);
        judge(&world);
        let runs = series(&world);
        for run in &runs {
            assert!(run.iter().map(|record| record.seq).eq((0..).take(run.len())), "{bytes}: {run:?}");
        }
        let Some(next) = runs.get(1) else { continue };
        assert!(next.len() > 8, "{bytes}: {next:?}");
        ended +=
            usize::from(next.last().is_some_and(|last| matches!(last.body(), Ok(RecordBody::HistoryExceeded { .. }))));
    }
    assert!(ended > 0, "some limits are between what one run takes and what the next one does");
}

#[test]
fn what_does_not_fit_the_frame_parks_the_run_before_it_goes_on() {
    let mut world = measured();
    let (owner, _) = begin(&mut world, "a", "hoards", 1_000);
    for _ in 0..6 {
        let event = word(&mut world, None, &"x".repeat(800 * 1024));
        world.say(owner, vec![event]);
    }
    wait(&mut world, 1_500);
    let runs = series(&world);
    assert_eq!(runs.len(), 1);
    let Ok(RecordBody::Parked { reason }) = runs[0].last().expect("a record").body() else { panic!("it goes on") };
    assert!(reason.message.contains("and 6 signals and updates that were not received"), "{}", reason.message);
}

#[test]
fn nobody_begins_the_next_run_by_a_message() {
    let mut world = World::new(registry());
    let (owner, _) = begin(&mut world, "a", "circles", 0);
    wait(&mut world, 800);
    let Ok(RecordBody::Received { event, .. }) = series(&world)[1][0].body() else { panic!("it was taken in") };
    let forged = Event { id: EventId(uuid::Uuid::from_u128(5)), ..event };
    world.say(owner, vec![forged]);
    assert_eq!((world.buried, series(&world).len()), (1, 2));
}
