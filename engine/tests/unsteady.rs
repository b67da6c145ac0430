//! Code that does not do the same twice is found when it does it, if that is asked for, and before anything of it leaves.

mod world;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, UNIX_EPOCH};

use everpulse_protocol::history::{Parked, ParkedKind, RecordBody};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{signal, sleep_until, workflow};
use world::workflows::{Word, double, number, slow};
use world::{World, payload};

/// What a helper of a workflow must not do, and a macro cannot see.
fn moves() -> bool {
    thread_local! {
        static LAST: Cell<bool> = const { Cell::new(false) };
    }
    LAST.replace(!LAST.get())
}

fn shuffled() -> Vec<bool> {
    let odd = |n: u32| (n, n % 2 == 1);
    // So many that two orders are hardly ever the same.
    (0..64).map(odd).collect::<HashMap<_, _>>().into_values().collect()
}

#[workflow(crate = everpulse_sdk)]
async fn chooses_by_chance(n: u64) -> u64 {
    let word = signal::<Word>().recv().await;
    let n = n + word.text.len() as u64;
    if moves() { double(n).await.unwrap_or(0) } else { slow(n).await.unwrap_or(0) }
}

#[workflow(crate = everpulse_sdk)]
async fn iterates_a_map(n: u64) -> u64 {
    let _ = signal::<Word>().recv().await;
    for odd in shuffled() {
        if odd {
            double(n).start().detach();
        } else {
            slow(n).start().detach();
        }
    }
    n
}

#[workflow(crate = everpulse_sdk)]
async fn reads_a_clock(n: u64) -> u64 {
    let _ = signal::<Word>().recv().await;
    sleep_until(UNIX_EPOCH + Duration::from_secs(if moves() { n } else { n + 1 })).await;
    n
}

#[workflow(crate = everpulse_sdk)]
async fn ends_sometimes(n: u64) -> u64 {
    let _ = signal::<Word>().recv().await;
    if moves() {
        let _ = signal::<Word>().recv().await;
    }
    n
}

#[workflow(crate = everpulse_sdk)]
async fn begins_by_chance(n: u64) -> u64 {
    if moves() { double(n).await.unwrap_or(0) } else { slow(n).await.unwrap_or(0) }
}

fn world(check: bool) -> World {
    let mut registry = Registry::new();
    registry.workflow_fn(chooses_by_chance).expect("new");
    registry.workflow_fn(iterates_a_map).expect("new");
    registry.workflow_fn(reads_a_clock).expect("new");
    registry.workflow_fn(ends_sometimes).expect("new");
    registry.workflow_fn(begins_by_chance).expect("new");
    let mut world = World::new(registry);
    world.options.check_determinism = check;
    world
}

fn parked(world: &World) -> Option<Parked> {
    world.records().into_iter().find_map(|record| match record.body() {
        Ok(RecordBody::Parked { reason }) => Some(reason),
        _ => None,
    })
}

/// Starts the workflow, sends a word, and gives why it is parked.
fn play(world: &mut World, workflow: &str) -> Option<Parked> {
    let owner = world.owner();
    let start = world.start("a", workflow, number(40));
    world.say(owner, vec![start]);
    let word = world.event(
        "a",
        None,
        &everpulse_protocol::event::EventBody::Signal {
            headers: None,
            name: "Word".to_owned(),
            value: payload(&Word { text: "go".to_owned() }),
        },
    );
    world.say(owner, vec![word]);
    parked(world)
}

#[test]
fn what_differs_is_named_and_nothing_of_it_leaves() {
    let cases: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("chooses_by_chance", &["recorded: schedule activity", "replayed: schedule activity"][..]),
        ("iterates_a_map", &["the same commands in another order", "such as a `HashMap`"]),
        ("reads_a_clock", &["timer 0", "first: due", "again: due"]),
        ("ends_sometimes", &["it waits", "it is completed"]),
        ("begins_by_chance", &["`double`", "`slow`"]),
    ]);
    for (workflow, words) in cases {
        let mut world = world(true);
        let parked = play(&mut world, workflow).unwrap_or_else(|| panic!("{workflow} is found"));
        assert_eq!(parked.kind, ParkedKind::Diverged);
        assert!(parked.message.starts_with("workflow a is not deterministic"), "{workflow}: {}", parked.message);
        let said = |word: &&str| parked.message.contains(*word);
        // Which of the two comes first is by chance.
        assert!(words.iter().all(said), "{workflow}: {}", parked.message);
        assert!(world.queue.is_empty(), "{workflow}: no task was sent");
        assert!(world.result("a").is_none(), "{workflow}: it did not end");
    }
}

#[test]
fn nobody_looks_unless_that_is_asked_for() {
    for workflow in ["chooses_by_chance", "iterates_a_map", "reads_a_clock", "begins_by_chance"] {
        assert_eq!(play(&mut world(false), workflow), None, "{workflow}");
    }
}

#[test]
fn a_run_that_does_not_do_the_same_twice_is_tried_once_by_each_process() {
    let mut world = world(true);
    assert!(play(&mut world, "chooses_by_chance").is_some());
    let look = |world: &mut World, owner: usize| {
        for _ in 0..5 {
            world.now = world.now.after(Duration::from_secs(60));
            let wake = *world.timers.last().expect("a parked run has one");
            let event = world.wake(wake);
            world.say(owner, vec![event]);
            let now = world.now;
            world.run_until(now);
        }
        world.records().len()
    };
    let records = world.records().len();
    assert_eq!(look(&mut world, 0), records, "a replay without the twin proves nothing");
    world.crash(0);
    let next = world.owner();
    assert_eq!(look(&mut world, next), records + 2, "it goes on, and is parked again");
    assert_eq!(world.owners[next].shard.status().revivals, (1, 1));
    // Who knows better says so.
    let resume = world.event("a", None, &everpulse_protocol::event::EventBody::Resume);
    world.say(next, vec![resume]);
    assert_eq!(world.records().len(), records + 4);
    assert!(world.queue.is_empty(), "nothing of it leaves");
}
