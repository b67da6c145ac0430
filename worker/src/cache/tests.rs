//! What a shelf in files gives is what was put there, or nothing.

use std::fs;
use std::path::{Path, PathBuf};

use everpulse_engine::{Place, Shelf as _};
use tempfile::TempDir;

use super::Cache;
use super::shelf::FileShelf;

fn opened(dir: &Path) -> Cache {
    Cache::open(dir).expect("writable").expect("nobody else has it")
}

fn shelf(dir: &Path) -> FileShelf {
    opened(dir).shelf(3)
}

fn bytes(n: u32) -> Vec<u8> {
    let len = 1 + (n as usize * 37) % 3_000;
    (0..len).map(|at| (at as u32 ^ n) as u8).collect()
}

/// A shelf on which much was put, and saved.
fn filled(dir: &TempDir) -> Vec<(u32, Place)> {
    let mut shelf = shelf(dir.path());
    assert!(shelf.load().is_none());
    shelf.clear();
    let places = (0..500).map(|n| (n, shelf.put(&bytes(n)).expect("there is room"))).collect();
    shelf.save(b"what was known");
    places
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.path().join("shard-3")).expect("there").map(|entry| entry.expect("there").path()).collect();
    files.sort();
    files
}

fn part(dir: &TempDir) -> PathBuf {
    files(dir).into_iter().find(|path| !path.ends_with("saved")).expect("there is a part")
}

/// What a later life finds of it.
fn resumed(dir: &TempDir, places: &[(u32, Place)]) -> Option<usize> {
    let mut shelf = shelf(dir.path());
    assert_eq!(shelf.load()?, b"what was known");
    shelf.resume(&mut places.iter().map(|(_, place)| *place));
    let found = places.iter().filter_map(|(n, place)| Some((n, shelf.get(*place)?)));
    Some(found.inspect(|(n, found)| assert_eq!(*found, bytes(**n))).count())
}

#[test]
fn what_was_put_is_there_at_once_and_in_the_next_life() {
    let dir = TempDir::new().expect("made");
    let places = filled(&dir);
    assert_eq!(resumed(&dir, &places), Some(500));
    let mut shelf = shelf(dir.path());
    shelf.load().expect("saved");
    shelf.resume(&mut places.iter().map(|(_, place)| *place));
    let more = shelf.put(b"more").expect("there is room");
    assert_eq!(shelf.get(more).expect("there"), b"more");
    assert!(places.iter().all(|(_, place)| place.part != more.part), "nothing is written behind another life's words");
}

#[test]
fn what_was_put_after_the_last_save_is_gone_after_a_crash() {
    let dir = TempDir::new().expect("made");
    let mut places = filled(&dir);
    {
        let mut shelf = shelf(dir.path());
        shelf.load().expect("saved");
        shelf.resume(&mut places.iter().map(|(_, place)| *place));
        places.push((7, shelf.put(&bytes(7)).expect("there is room")));
    }
    assert_eq!(resumed(&dir, &places), Some(500));
}

#[test]
fn torn_changed_and_foreign_parts_give_nothing_wrong() {
    let torn = |path: &Path| fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(100_000));
    let zeros = |path: &Path| fs::write(path, vec![0; 800_000]);
    let flipped = |path: &Path| {
        let mut bytes = fs::read(path)?;
        bytes[50_000] ^= 4;
        fs::write(path, bytes)
    };
    let other = |path: &Path| {
        // The same words at the same places, of another cache.
        let other = TempDir::new()?;
        filled(&other);
        fs::copy(part(&other), path).map(|_| ())
    };
    let gone = |path: &Path| fs::remove_file(path);
    type Fault<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;
    let faults: [(Fault<'_>, std::ops::Range<usize>); 5] =
        [(&torn, 1..500), (&zeros, 0..1), (&flipped, 499..500), (&other, 0..1), (&gone, 0..1)];
    for (at, (fault, found)) in faults.into_iter().enumerate() {
        let dir = TempDir::new().expect("made");
        let places = filled(&dir);
        fault(&part(&dir)).expect("done");
        let there = resumed(&dir, &places).expect("what was saved is whole");
        assert!(found.contains(&there), "fault {at}: {there}");
    }
}

#[test]
fn what_was_saved_is_whole_or_not_there() {
    let dir = TempDir::new().expect("made");
    let places = filled(&dir);
    let path = dir.path().join("shard-3/saved");
    let whole = fs::read(&path).expect("there");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        assert_eq!(resumed(&dir, &places), None, "cut at {cut}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).expect("written");
        assert_eq!(resumed(&dir, &places), None, "changed at {at}");
    }
    fs::write(&path, whole).expect("written");
    assert_eq!(resumed(&dir, &places), Some(500));
}

#[test]
fn room_is_given_back_when_the_next_save_does_without() {
    let dir = TempDir::new().expect("made");
    let mut shelf = shelf(dir.path());
    shelf.clear();
    let big = vec![7; 9 * 1024 * 1024];
    let first: Vec<Place> = (0..2).map(|_| shelf.put(&big).expect("there is room")).collect();
    let second = shelf.put(&big).expect("there is room");
    shelf.save(b"one");
    assert_eq!(files(&dir).len(), 3);
    shelf.free(first[0]);
    assert_eq!(shelf.sparse(), None, "half of it is in use");
    shelf.free(first[1]);
    assert_eq!(files(&dir).len(), 3, "who begins with what was saved needs it");
    shelf.save(b"two");
    assert_eq!(files(&dir).len(), 2);
    assert_eq!(shelf.get(second).map(|bytes| bytes.len()), Some(big.len()));
}

#[test]
fn a_part_of_which_little_is_in_use_is_named() {
    let dir = TempDir::new().expect("made");
    let mut shelf = shelf(dir.path());
    shelf.clear();
    let places: Vec<Place> = (0..40).map(|_| shelf.put(&vec![1; 512 * 1024]).expect("there is room")).collect();
    let first = places[0].part;
    let (gone, stays) = places.split_at(25);
    assert!(stays.iter().any(|place| place.part == first), "some of the first part stay");
    gone.iter().for_each(|place| shelf.free(*place));
    assert_eq!(shelf.sparse(), Some(first));
}

#[test]
fn a_directory_is_one_workers() {
    let dir = TempDir::new().expect("made");
    let first = opened(dir.path());
    let shelf = first.shelf(3);
    assert!(Cache::open(dir.path()).expect("writable").is_none());
    drop(first);
    assert!(Cache::open(dir.path()).expect("writable").is_none(), "a shelf of it is in use");
    drop(shelf);
    opened(dir.path());
}

#[test]
fn a_disk_that_takes_nothing_leaves_runs_in_memory() {
    let dir = TempDir::new().expect("made");
    let cache = opened(dir.path());
    let mut shelf = cache.shelf(3);
    let before = shelf.put(b"before").expect("there is room");
    // A directory where the next part would be: whoever runs this may be one whom permissions do not stop.
    let next = dir.path().join("shard-3").join((before.part + 1).to_string());
    fs::create_dir(&next).expect("made");
    let big = vec![7; 17 * 1024 * 1024];
    shelf.put(&big).expect("the first part takes it");
    assert!(shelf.put(b"after").is_none());
    assert_eq!(shelf.get(before).expect("there"), b"before");
}

#[test]
fn what_cannot_be_saved_takes_what_was_saved_before_with_it_and_its_files() {
    let dir = TempDir::new().expect("made");
    let places = filled(&dir);
    let mut shelf = shelf(dir.path());
    assert!(shelf.load().is_some());
    shelf.resume(&mut places.iter().map(|(_, place)| *place));
    places.iter().for_each(|(_, place)| shelf.free(*place));
    // Files of this name cannot be written, as on a full disk.
    let beside = dir.path().join("shard-3").join("saving");
    fs::create_dir(&beside).expect("made");
    shelf.save(b"more");
    assert_eq!(files(&dir), [beside]);
    assert!(shelf.load().is_none());
}
