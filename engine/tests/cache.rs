//! Runs that wait lie on a shelf, and a shard begins its next life with what it saved: nothing that can be seen depends
//! on either.

mod world;

use std::cell::RefCell;
use std::rc::Rc;

use everpulse_engine::Options;
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::{Position, Timestamp};
use world::judge::judge;
use world::shelf::Disk;
use world::workflows::{MENDED, Word, number, registry};
use world::{World, done, payload};

const RUNS: u64 = 40;

fn world() -> World {
    MENDED.set(false);
    let mut world = World::new(registry());
    world.options = Options { runs_at_hand_max: 4, save_bytes_min: 1, ..world.options.clone() };
    world
}

fn word(world: &mut World, id: &str, text: &str) -> Event {
    let body =
        EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }) };
    world.event(id, None, &body)
}

/// Half of them wait for a signal, half sleep.
fn park(world: &mut World, owner: usize) {
    for n in 0..RUNS {
        let (workflow, n) = if n.is_multiple_of(2) { ("listens", 1) } else { ("naps", 50_000 + n) };
        let id = format!("{workflow}-{}", world.archive.len());
        let start = world.start(&id, workflow, number(n));
        world.say(owner, vec![start]);
    }
    assert_eq!(world.owners[owner].shard.status().open_runs as u64, RUNS);
}

fn wake_all(world: &mut World, owner: usize) {
    for n in (0..RUNS).step_by(2) {
        let event = word(world, &format!("listens-{n}"), "a");
        world.say(owner, vec![event]);
        assert_eq!(world.result(&format!("listens-{n}")), Some(done(&"a")));
    }
    world.run_until(Timestamp(200_000));
    for n in (1..RUNS).step_by(2) {
        assert_eq!(world.result(&format!("naps-{n}")), Some(done(&(50_000 + n))));
    }
    judge(world);
}

/// The process leaves in good order, and another one comes to the same disk.
fn restart(world: &mut World, owner: usize) -> usize {
    world.owners[owner].shard.handle_leave();
    succeed(world, owner)
}

/// The process is killed, and another one comes to the same disk.
fn succeed(world: &mut World, owner: usize) -> usize {
    let again = world.crash(owner);
    let next = world.owner();
    for frame in again {
        world.deliver(next, frame, true);
    }
    let wake = world.timers.last().copied().expect("a shard with open runs has a wake-up");
    let event = world.wake(wake);
    world.reads.clear();
    world.say(next, vec![event]);
    next
}

#[test]
fn runs_that_wait_are_not_in_memory_and_wake_from_the_shelf() {
    let mut world = world();
    let owner = world.owner();
    park(&mut world, owner);
    wake_all(&mut world, owner);
}

#[test]
fn a_restart_reads_only_what_was_appended_since_the_cache_was_written() {
    let mut world = world();
    let disk = world.with_disk();
    let owner = world.owner();
    park(&mut world, owner);
    let tail = world.log.last().expect("appended").0;
    let owner = restart(&mut world, owner);
    assert_eq!(disk.borrow().resumed, 1);
    assert!(world.reads.iter().all(|after| *after >= Some(tail)), "{:?}", world.reads);
    assert_eq!(world.owners[owner].shard.status().open_runs as u64, RUNS);
    // Killed, without a word: some frames have to be read.
    let event = word(&mut world, "listens-4", "b");
    world.say(owner, vec![event]);
    let owner = succeed(&mut world, owner);
    assert_eq!(disk.borrow().resumed, 2);
    let event = word(&mut world, "listens-4", "b");
    world.say(owner, vec![event]);
    assert_eq!(world.result("listens-4"), Some(done(&"b")));
    assert_eq!(world.owners[owner].shard.status().open_runs as u64, RUNS - 1);
}

/// What is done to the disk, or to history, between the two lives.
fn after(fault: impl Fn(&mut World, &Rc<RefCell<Disk>>)) -> usize {
    let mut world = world();
    let disk = world.with_disk();
    let owner = world.owner();
    park(&mut world, owner);
    world.owners[owner].shard.handle_leave();
    fault(&mut world, &disk);
    let owner = succeed(&mut world, owner);
    wake_all(&mut world, owner);
    disk.borrow().resumed
}

#[test]
fn whatever_becomes_of_the_disk_the_runs_go_on() {
    let torn = |_: &mut World, disk: &Rc<RefCell<Disk>>| {
        let mut disk = disk.borrow_mut();
        let saved = disk.saved.last_mut().expect("saved");
        saved.truncate(saved.len() / 2);
    };
    assert_eq!(after(torn), 0);
    assert_eq!(after(|_, disk| disk.borrow_mut().saved.clear()), 0);
    let changed = |_: &mut World, disk: &Rc<RefCell<Disk>>| disk.borrow_mut().saved.last_mut().expect("saved")[2] ^= 1;
    assert_eq!(after(changed), 0, "another version's");
    let lossy = after(|_, disk| disk.borrow_mut().lose(3));
    assert!(lossy >= 1, "that a run is lost is seen when it is needed: {lossy}");
    let old = |_: &mut World, disk: &Rc<RefCell<Disk>>| disk.borrow_mut().saved.truncate(1);
    assert_eq!(after(old), 1, "an old one is as good, with more frames to read");
}

#[test]
fn a_cache_of_another_partition_is_not_used() {
    let mut other = world();
    let foreign = other.with_disk();
    let owner = other.owner();
    park(&mut other, owner);
    // Its chain is longer, so none of our frames has a number that it does not know.
    for n in 0..100 {
        let start = other.start(&format!("more-{n}"), "listens", number(1));
        other.say(owner, vec![start]);
    }
    other.owners[owner].shard.handle_leave();
    let planted = after(|_, disk| {
        let mut foreign = foreign.borrow_mut();
        std::mem::swap(&mut *disk.borrow_mut(), &mut foreign);
    });
    assert_eq!(planted, 0);
}

#[test]
fn a_cache_behind_which_history_was_trimmed_is_not_used() {
    let mut world = world();
    world.options =
        Options { retention_ms: 1_000, id_memory_ms: 1_000, trim_bytes_min: 4_000, ..world.options.clone() };
    let disk = world.with_disk();
    let owner = world.owner();
    park(&mut world, owner);
    world.owners[owner].shard.handle_leave();
    world.disks.as_mut().expect("there are some").insert(0, (Rc::default(), usize::MAX));
    let other = succeed(&mut world, owner);
    for n in 0..60 {
        let start = world.start(&format!("noise-{n}"), "steps", number(2));
        world.say(other, vec![start]);
        let until = Timestamp(world.now.0 + 300);
        world.run_until(until);
    }
    let needed = world.owners[other].shard.status().first_needed;
    assert!(needed > RUNS && world.start > 0, "what the cache ends with is gone: {needed}");
    let before = disk.borrow().resumed;
    let owner = succeed(&mut world, other);
    assert_eq!((world.disks.as_ref().expect("there are some").len(), disk.borrow().resumed), (2, before));
    wake_all(&mut world, owner);
}

#[test]
fn positions_that_are_asked_for_are_behind_another_entry() {
    let mut world = world();
    let disk = world.with_disk();
    let owner = world.owner();
    let start = world.start("first", "listens", number(1));
    world.say(owner, vec![start]);
    assert_eq!(world.log[0].0, Position { ledger: 1, entry: 0 });
    for _ in 0..3 {
        // A frame that is the first of its ledger.
        world.ledger += 1;
        let event = word(&mut world, "nobody", "a");
        world.say(owner, vec![event]);
        world.owners[owner].shard.handle_leave();
    }
    assert!(disk.borrow().saved.is_empty());
}

#[test]
fn questions_alone_have_the_cache_written_again_since_each_lays_a_run_down_anew() {
    let mut world = world();
    let disk = world.with_disk();
    let owner = world.owner();
    park(&mut world, owner);
    world.owners[owner].shard.handle_leave();
    let (saves, frames) = (disk.borrow().saved.len(), world.log.len());
    for _ in 0..20 {
        for n in (0..RUNS).step_by(2) {
            let event = world.event(&format!("listens-{n}"), None, &EventBody::AskResult);
            world.say(owner, vec![event]);
        }
    }
    assert_eq!(world.log.len(), frames, "a question writes no history");
    assert!(disk.borrow().saved.len() > saves, "the shelf grows without end");
    wake_all(&mut world, owner);
}
