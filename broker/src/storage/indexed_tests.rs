//! Indexes of segments: used where they fit, made where they do not, and never a reason to lose anything.

use std::path::Path;

use super::index::VERSION;
use super::tests::*;
use super::*;
use crate::semantics::TopicName;

/// Entries, and how many segments were read and how many there are.
fn recovered(dir: &Path) -> (u64, usize, usize) {
    let (broker, recovered) = recover(&Disk, dir).expect("recovers");
    let stats = broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
    (stats.entries, recovered.segments_read, recovered.segments.len())
}

#[test]
fn segments_with_an_index_are_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = closed(dir.path(), &small(), 100);
    let (entries, read, segments) = recovered(dir.path());
    assert_eq!((entries, read), (100, 0));
    assert!(segments > 3);
    let log = open(dir.path(), &small());
    for (entry, location) in locations.iter().enumerate() {
        let payload = log.storage.reader().read(*location).expect("readable");
        assert!(payload.starts_with(format!("payload {entry} ").as_bytes()));
    }
}

#[test]
fn after_a_kill_only_the_last_segment_is_read_and_only_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), &small());
    log.write_one_by_one(std::iter::once(topic()).chain((0..100).map(message)));
    let copy = copied(dir.path());
    let (entries, read, segments) = recovered(copy.path());
    assert_eq!((entries, read), (100, 1));
    assert!(segments > 3);
    assert_eq!(recovered(copy.path()), (100, 0, segments));
}

#[test]
fn an_index_that_does_not_fit_costs_only_reading() {
    let dir = tempfile::tempdir().expect("a directory");
    closed(dir.path(), &small(), 100);
    let whole = describe(&recover(&Disk, dir.path()).expect("recovers").0);
    let segments = segment::list(&Disk, dir.path()).expect("listed");
    let other = std::fs::read(index::path(dir.path(), segments[1])).expect("readable");
    for segment in segments.iter().filter(|segment| **segment != segments[1]) {
        let path = index::path(dir.path(), *segment);
        let good = std::fs::read(&path).expect("readable");
        let mut other_version = good.clone();
        other_version[8..12].copy_from_slice(&(VERSION + 1).to_be_bytes());
        let mut flipped = good.clone();
        *flipped.last_mut().expect("some") ^= 1;
        let zeros = vec![0; good.len()];
        for bad in [&good[..good.len() / 2], &other_version, &flipped, &zeros, &other, &[]] {
            std::fs::write(&path, bad).expect("written");
            let (broker, recovered) = recover(&Disk, dir.path()).expect("recovers");
            assert_eq!(recovered.segments_read, 1);
            assert_eq!(describe(&broker), whole);
            assert_eq!(std::fs::read(&path).expect("readable"), good, "it is made anew");
        }
    }
}

#[test]
fn a_segment_shorter_than_its_index_says_has_lost_something() {
    let dir = tempfile::tempdir().expect("a directory");
    let locations = closed(dir.path(), &small(), 60);
    // Between two messages: reading alone would see nothing.
    for location in [locations[20], locations[59]] {
        let path = segment::path(dir.path(), location.segment);
        let whole = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &whole[..location.offset as usize]).expect("written");
        match recover(&Disk, dir.path()) {
            Err(Error::Corrupted { path: named, offset, .. }) => {
                assert_eq!((named, offset), (path.clone(), u64::from(location.offset)));
            }
            other => panic!("not noticed: {other:?}"),
        }
        std::fs::write(&path, &whole).expect("written");
    }
    assert_eq!(recovered(dir.path()).0, 60);
}

#[test]
fn a_longer_segment_than_its_index_says_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    closed(dir.path(), &Options::default(), 10);
    let before = std::fs::read(index::path(dir.path(), 1)).expect("readable");
    let path = segment::path(dir.path(), 1);
    let mut segment = std::fs::read(&path).expect("readable");
    segment.resize(segment.len() + 100, 0);
    std::fs::write(&path, &segment).expect("written");
    assert_eq!(recovered(dir.path()), (10, 1, 1));
    assert_eq!(std::fs::read(index::path(dir.path(), 1)).expect("readable"), before);
}

#[test]
fn a_segment_in_which_a_write_failed_has_no_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { mode: Mode::Relaxed, ..Options::default() };
    let mut log = open(dir.path(), &options);
    log.write_one_by_one(std::iter::once(topic()).chain((0..10).map(message)));
    options.disk.set(0);
    log.storage.submit(&mut (10..15).map(message).collect());
    assert_eq!(log.answers(5), [None; 5]);
    options.disk.set(u64::MAX);
    log.write_one_by_one((15..20).map(message));
    log.storage.stop();
    // What failed must not be said to be there.
    assert_eq!(index::list(&Disk, dir.path()).expect("listed"), [2]);
    assert_eq!(recovered(dir.path()), (15, 1, 2));
}

#[test]
fn an_index_without_a_segment_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    closed(dir.path(), &small(), 10);
    let orphan = index::path(dir.path(), 77);
    std::fs::copy(index::path(dir.path(), 1), &orphan).expect("copied");
    recovered(dir.path());
    assert!(!orphan.exists());
}

/// A directory of a killed broker that knew no indexes, with deduplicating producers, a cursor with holes, a mark and a
/// topic that was deleted. Never edited.
#[test]
fn a_directory_of_format_1_opens() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1");
    let dir = copied(&data);
    let (broker, recovered) = recover(&Disk, dir.path()).expect("recovers");
    assert_eq!((recovered.segments_read, recovered.segments.len(), recovered.torn_bytes), (2, 2, 0));
    let entries = |name: &str| broker.topic_stats(&TopicName::parse(name).expect("valid")).map(|stats| stats.entries);
    assert_eq!(entries("plain").expect("exists"), 169);
    assert_eq!(entries("keyed").expect("exists"), 150);
    entries("gone").expect_err("deleted");
    let state = broker.snapshot();
    let topic = |end: &str| state.topics.iter().find(|topic| topic.name.ends_with(end)).expect("exists");
    let sequence = |end: &str| -> String {
        topic(end).producers.iter().map(|(name, highest, _)| format!("{name} {highest}")).collect()
    };
    assert_eq!((sequence("plain"), sequence("keyed")), ("first 168".into(), "second 149".into()));
    let holes = &topic("plain").subscriptions[0];
    let acked: Vec<(u64, u64)> = holes.acked.iter().map(|(first, last)| (first.entry, last.entry)).collect();
    assert_eq!(holes.next.map(|next| next.entry), Some(10));
    assert_eq!(acked, [(20, 29), (50, 50), (52, 52), (54, 54)]);
    assert_eq!(topic("keyed").subscriptions[0].next.map(|next| next.entry), Some(41));
    // And the same by the indexes that this has left.
    let (again, by_index) = recover(&Disk, dir.path()).expect("recovers");
    assert_eq!(by_index.segments_read, 0);
    assert_eq!(describe(&again), describe(&broker));
}
