//! Writing, crashing, and reading back.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::record::Message;
use super::writer::Item;
use super::*;
use crate::semantics::{Broker, Change, Facts, Location, Position, TopicId, TopicName};

const TOPIC: TopicId = TopicId(1);
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Log {
    pub storage: Storage,
    completions: Receiver<Completion>,
    pub broker: Broker,
}

pub fn open(dir: &Path, options: &Options) -> Log {
    let (broker, recovered) = recover(&Disk, dir).expect("recovers");
    let (sender, completions) = mpsc::channel();
    let needed = broker.entries_per_segment();
    let storage = Storage::start(dir, options.clone(), &recovered, needed, move |completion| {
        let _ = sender.send(completion);
    });
    Log { storage: storage.expect("starts"), completions, broker }
}

pub fn small() -> Options {
    Options { segment_bytes: 4096, ..Options::default() }
}

pub fn topic() -> Item {
    let change = Change::Topic { id: TOPIC, name: "persistent://public/default/t".into() };
    Item::Change(serde_json::to_vec(&change).expect("plain data"))
}

pub fn message(entry: u64) -> Item {
    let payload = Bytes::from(format!("payload {entry} {}", "x".repeat(entry as usize % 300)));
    let position = Position { ledger: 1, entry };
    Item::Message(Message { topic: TOPIC, position, facts: Facts::default(), origin: None, payload })
}

impl Log {
    /// Waits for answers to so many items: where they are, or that they failed.
    pub fn answers(&mut self, count: usize) -> Vec<Option<Location>> {
        let mut answers = Vec::new();
        while answers.len() < count {
            let completion = self.completions.recv_timeout(PATIENCE).expect("an answer");
            self.storage.handle_completion(&completion);
            match completion {
                Completion::Stored { locations, .. } => answers.extend(locations.into_iter().map(Some)),
                Completion::Failed { count, .. } => answers.extend(std::iter::repeat_n(None, count)),
                _ => {}
            }
        }
        assert_eq!(answers.len(), count);
        answers
    }

    /// One write each, so that each is synced before the next.
    pub fn write_one_by_one(&mut self, items: impl Iterator<Item = Item>) -> Vec<Location> {
        let stored = items.map(|item| {
            self.storage.submit(&mut vec![item]);
            self.answers(1)[0].expect("stored")
        });
        stored.collect()
    }

    pub fn entries(&self) -> u64 {
        let name = TopicName::parse("t").expect("valid");
        self.broker.topic_stats(&name).map_or(0, |stats| stats.entries)
    }
}

/// A log with one message per write, as if it had not been closed: what reads it reads the segments. Where the messages
/// are.
fn written(dir: &Path, options: &Options, count: u64) -> Vec<Location> {
    let locations = closed(dir, options, count);
    forget_indexes(&Disk, dir);
    locations
}

/// The same, closed cleanly, with an index of each segment.
pub fn closed(dir: &Path, options: &Options, count: u64) -> Vec<Location> {
    let mut log = open(dir, options);
    let locations = log.write_one_by_one(std::iter::once(topic()).chain((0..count).map(message)));
    log.storage.stop();
    locations[1..].to_vec()
}

pub fn forget_indexes(files: &dyn Files, dir: &Path) {
    for segment in index::list(files, dir).expect("listed") {
        files.remove(&index::path(dir, segment)).expect("removed");
    }
}

/// Everything that a broker says of what is stored.
pub fn describe(broker: &Broker) -> String {
    let mut all = serde_json::to_string(&broker.snapshot()).expect("plain data");
    for topic in broker.topics_of("public/default") {
        let stats = broker.topic_stats(&topic).expect("exists");
        all.push_str(&format!("\n{topic} {stats:?}\n"));
        for n in 1..=stats.entries {
            all.push_str(&format!("{:?}\n", broker.examine(&topic, false, n).expect("exists")));
        }
    }
    all.push_str(&format!("{:?}", broker.entries_per_segment()));
    all
}

#[test]
fn what_was_written_comes_back_across_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = written(dir.path(), &small(), 100);
    assert!(locations.last().expect("some").segment > 3, "several segments");
    let log = open(dir.path(), &small());
    assert_eq!(log.entries(), 100);
    for (entry, location) in locations.iter().enumerate() {
        let payload = log.storage.reader().read(*location).expect("readable");
        assert!(payload.starts_with(format!("payload {entry} ").as_bytes()));
    }
}

#[test]
fn many_items_share_a_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), &Options::default());
    log.storage.submit(&mut std::iter::once(topic()).chain((0..5000).map(message)).collect());
    assert!(log.answers(5001).iter().all(Option::is_some));
    drop(log);
    assert_eq!(open(dir.path(), &Options::default()).entries(), 5000);
}

#[test]
fn a_torn_last_write_is_cut_at_any_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = written(dir.path(), &Options::default(), 3);
    let last = locations[2];
    let path = segment::path(dir.path(), last.segment);
    let whole = std::fs::read(&path).expect("readable");
    for cut in last.offset..last.offset + last.len {
        // Zeros behind the cut: the space was reserved.
        let mut torn = whole[..cut as usize].to_vec();
        torn.resize(whole.len() + 1000, 0);
        std::fs::write(&path, &torn).expect("written");
        let (broker, recovered) = recover(&Disk, dir.path()).expect("a torn write is no damage");
        let stats = broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
        assert_eq!(stats.entries, 2);
        assert_eq!(recovered.torn_bytes > 0, cut > last.offset);
        assert_eq!(std::fs::metadata(&path).expect("there").len(), u64::from(last.offset), "it is cut");
    }
}

#[test]
fn damage_in_the_middle_names_file_and_offset() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = written(dir.path(), &small(), 60);
    for location in [locations[1], locations[20], locations[40]] {
        let path = segment::path(dir.path(), location.segment);
        let whole = std::fs::read(&path).expect("readable");
        let mut damaged = whole.clone();
        damaged[location.offset as usize + 30] ^= 0x10;
        std::fs::write(&path, &damaged).expect("written");
        match recover(&Disk, dir.path()) {
            Err(Error::Corrupted { path: named, offset, .. }) => {
                assert_eq!((named, offset), (path.clone(), u64::from(location.offset)));
            }
            other => panic!("not noticed: {other:?}"),
        }
        std::fs::write(&path, &whole).expect("written");
    }
    assert_eq!(open(dir.path(), &small()).entries(), 60);
}

#[test]
fn a_zeroed_block_in_the_middle_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = written(dir.path(), &Options::default(), 20);
    let path = segment::path(dir.path(), locations[5].segment);
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
    file.write_all_at(&vec![0; locations[5].len as usize], u64::from(locations[5].offset)).expect("written");
    assert!(matches!(recover(&Disk, dir.path()), Err(Error::Corrupted { .. })));
}

#[test]
fn a_damaged_message_is_not_delivered() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = written(dir.path(), &Options::default(), 2);
    let log = open(dir.path(), &Options::default());
    let file = std::fs::OpenOptions::new().write(true).open(segment::path(dir.path(), 1)).expect("opens");
    file.write_all_at(b"?", u64::from(locations[0].offset) + u64::from(locations[0].len) - 1).expect("written");
    let error = log.storage.reader().read(locations[0]).expect_err("damaged");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    log.storage.reader().read(locations[1]).expect("the other is fine");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), &Options::default(), 1);
    let path = segment::path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[8..12].copy_from_slice(&2u32.to_be_bytes());
    std::fs::write(&path, &bytes).expect("written");
    assert!(matches!(recover(&Disk, dir.path()), Err(Error::NewerFormat { found: 2, known: 1, .. })));
}

#[test]
fn a_newer_or_damaged_snapshot_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("snapshot.json");
    std::fs::write(&path, "{\"format\":2,\"anything\":1}\n{}\n").expect("written");
    assert!(matches!(recover(&Disk, dir.path()), Err(Error::NewerFormat { found: 2, .. })));
    std::fs::write(&path, "{\"format\":1,\"log\":{\"segment\":1,\"offset\":0},\"crc32c\":1}\n{}\n").expect("written");
    assert!(matches!(recover(&Disk, dir.path()), Err(Error::Corrupted { .. })));
}

#[test]
fn released_segments_are_deleted_once_a_snapshot_covers_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), &small());
    let locations = log.write_one_by_one(std::iter::once(topic()).chain((0..60).map(message)));
    let last = locations.last().expect("some").segment;
    for location in &locations[1..] {
        log.storage.release(location.segment, 1);
    }
    assert_eq!(segment::list(&Disk, dir.path()).expect("listed").len() as u32, last, "no snapshot yet");
    let (broker, _) = recover_copy(dir.path());
    log.storage.store_snapshot(&broker.snapshot());
    loop {
        let completion = log.completions.recv_timeout(PATIENCE).expect("an answer");
        log.storage.handle_completion(&completion);
        if matches!(completion, Completion::SnapshotStored) {
            break;
        }
    }
    log.storage.stop();
    assert_eq!(segment::list(&Disk, dir.path()).expect("listed"), [last]);
    recover(&Disk, dir.path()).expect("what is left is whole");
}

/// Recovers a copy, since recovering cuts what is still being written.
fn recover_copy(dir: &Path) -> (Broker, recover::Recovered) {
    recover(&Disk, copied(dir).path()).expect("recovers")
}

pub fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    copy
}

#[test]
fn a_full_disk_fails_what_comes_loses_nothing_and_ends() {
    for mode in [Mode::Durable, Mode::Relaxed] {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { mode, ..Options::default() };
        let mut log = open(dir.path(), &options);
        log.write_one_by_one(std::iter::once(topic()).chain((0..10).map(message)));
        options.disk.set(0);
        // Within what is reserved there is still room; then there is none.
        let mut failed = Vec::new();
        let mut stored = 10;
        for entry in 10..6000 {
            log.storage.submit(&mut vec![message(entry)]);
            match log.answers(1)[0] {
                Some(_) => {
                    assert!(failed.is_empty(), "stored after a failure");
                    stored += 1;
                }
                None => failed.push(entry),
            }
            if failed.len() == 5 {
                break;
            }
        }
        assert_eq!(failed.len(), 5, "{mode:?}");
        options.disk.set(u64::MAX);
        log.write_one_by_one((6000..6010).map(message));
        log.storage.stop();
        assert_eq!(open(dir.path(), &options).entries(), stored + 10);
    }
}

#[test]
fn in_relaxed_mode_a_few_items_are_written_at_once_and_in_their_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { mode: Mode::Relaxed, segment_bytes: 200_000, ..Options::default() };
    let mut log = open(dir.path(), &options);
    log.write_one_by_one(std::iter::once(topic()));
    let mut next = 0;
    let mut locations = Vec::new();
    // Few, many for the thread, few behind them while it may still be at work: all end up in one order.
    for round in 0..60 {
        let count = if round % 3 == 1 { 100 } else { 2 };
        log.storage.submit(&mut (next..next + count).map(message).collect());
        next += count;
        if round % 5 == 0 {
            locations.extend(log.answers(next as usize - locations.len()));
        }
    }
    locations.extend(log.answers(next as usize - locations.len()));
    let places: Vec<_> = locations.into_iter().map(|at| at.map(|at| (at.segment, at.offset))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    while !log.storage.is_idle() {
        std::thread::yield_now();
    }
    // Nothing is under way: the answer is there when the call is back.
    log.storage.submit(&mut vec![message(next)]);
    assert!(matches!(log.completions.try_recv(), Ok(Completion::Stored { messages: 1, .. })));
    log.storage.stop();
    assert_eq!(open(dir.path(), &options).entries(), next + 1);
}

#[test]
fn what_was_submitted_with_a_failure_fails_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { mode: Mode::Relaxed, ..Options::default() };
    options.disk.set(0);
    let mut log = open(dir.path(), &options);
    log.storage.submit(&mut vec![topic()]);
    log.storage.submit(&mut (0..3).map(message).collect());
    // The failures are not told to the storage yet: what comes now is from before.
    let mut failed = 0;
    while failed < 4 {
        match log.completions.recv_timeout(PATIENCE).expect("an answer") {
            Completion::Failed { count, .. } => failed += count,
            other => panic!("{other:?}"),
        }
    }
    options.disk.set(u64::MAX);
    log.storage.submit(&mut (3..5).map(message).collect());
    assert_eq!(log.answers(2), [None, None]);
    log.storage.submit(&mut vec![topic()]);
    assert!(log.answers(1)[0].is_some());
}

#[test]
fn a_directory_has_one_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let lock = DirectoryLock::acquire(dir.path()).expect("free");
    assert!(matches!(DirectoryLock::acquire(dir.path()), Err(Error::Locked { .. })));
    drop(lock);
    DirectoryLock::acquire(dir.path()).expect("free again");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any damage anywhere is an error, or cuts off the end: never a panic, never a hole, never other data.
    #[test]
    fn any_damage_leaves_a_prefix_or_an_error(at in 0usize..12_000, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let dir = tempfile::tempdir().expect("a directory");
        let locations = written(dir.path(), &small(), 30);
        let segments = segment::list(&Disk, dir.path()).expect("listed");
        let path = segment::path(dir.path(), segments[at % segments.len()]);
        let len = std::fs::metadata(&path).expect("there").len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
        file.write_all_at(&bytes, at as u64 % len).expect("written");
        if let Ok((broker, recovered)) = recover(&Disk, dir.path()) {
            let stats = broker.topic_stats(&TopicName::parse("t").expect("valid"));
            let entries = stats.map_or(0, |stats| stats.entries) as usize;
            prop_assert!(entries == 30 || recovered.torn_bytes > 0);
            // Only the end may be lost: it had been synced, but nothing intact after it says so. The damage
            // is shorter than a message, so it hits two at most.
            prop_assert!(entries >= 28, "{entries} of {}", locations.len());
        }
    }

    /// A file that ends anywhere: nothing but the end is lost, and only of the last segment.
    #[test]
    fn a_file_that_ends_anywhere_is_a_prefix_or_an_error(at in 0u64..5000) {
        let dir = tempfile::tempdir().expect("a directory");
        let locations = written(dir.path(), &small(), 60);
        let last = *segment::list(&Disk, dir.path()).expect("listed").last().expect("some");
        let path = segment::path(dir.path(), last);
        let len = std::fs::metadata(&path).expect("there").len();
        let cut = at % len;
        std::fs::OpenOptions::new().write(true).open(&path).expect("opens").set_len(cut).expect("cut");
        let whole = locations.iter().filter(|at| at.segment < last || u64::from(at.offset + at.len) <= cut).count();
        let (broker, _) = recover(&Disk, dir.path()).expect("a torn end is no damage");
        let stats = broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
        prop_assert_eq!(stats.entries as usize, whole);
    }
}
