//! A real file system that is full: a small one in memory, mounted for the test. Where that may not be done, the test
//! says so and ends.

#[path = "support/program.rs"]
mod program;
#[path = "support/thin.rs"]
mod thin;

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use program::Program;
use thin::Thin;

const TOPIC: &str = "persistent://public/default/full";
const PAYLOAD_BYTES: usize = 10_000;
/// Of the file system.
const MEGABYTES: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);

/// A file system of [`MEGABYTES`], gone when it is dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={MEGABYTES}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "everpulse-test"]).arg(dir.path()).output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(SmallDisk { dir }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("SKIPPED: no file system may be mounted here: {}", why.trim());
        None
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Small files that can be removed to make a little room, one for each start.
    fn crumbs(&self) -> [PathBuf; 2] {
        ["crumbs", "more crumbs"].map(|name| self.path().join(name))
    }

    fn make_a_little_room(&self) {
        let removed = self.crumbs().iter().find_map(|path| std::fs::remove_file(path).ok());
        assert!(removed.is_some(), "nothing is left to be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a broker of a test that failed may still be ending.
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}

fn payload(n: u64) -> Vec<u8> {
    let mut payload = format!("{n} ").into_bytes();
    payload.resize(PAYLOAD_BYTES, b'x');
    payload
}

fn number(payload: &Bytes) -> u64 {
    let text = std::str::from_utf8(payload).expect("text");
    text.split(' ').next().expect("some").parse().expect("a number")
}

/// Sends one message after the other until one is refused: the numbers of those with a receipt, and why.
fn send_until_refused(connection: &mut Thin, next: &mut u64) -> io::Result<(Vec<u64>, String)> {
    let mut confirmed = Vec::new();
    loop {
        let n = *next;
        *next += 1;
        connection.write(&thin::send(1, n, &payload(n)))?;
        loop {
            let answer = connection.next()?.command;
            if let Some(error) = answer.send_error {
                return Ok((confirmed, error.message));
            }
            if answer.send_receipt.is_some() {
                confirmed.push(n);
                break;
            }
        }
    }
}

/// A producer, as soon as the broker takes one, on a new connection.
fn producer(url: &str) -> Thin {
    let began = Instant::now();
    loop {
        let mut connection = Thin::connect(url).expect("connects");
        match connection.producer(TOPIC, 1, None) {
            Ok(_) => return connection,
            Err(error) => assert!(began.elapsed() < PATIENCE, "never again: {error}"),
        }
        std::thread::yield_now();
    }
}

/// Sends one message as soon as the broker takes it.
fn send_when_possible(url: &str, next: &mut u64) -> u64 {
    let began = Instant::now();
    loop {
        let mut connection = producer(url);
        let n = *next;
        *next += 1;
        connection.write(&thin::send(1, n, &payload(n))).expect("sent");
        let answer = connection.next().expect("an answer").command;
        match answer.send_error {
            None => return n,
            Some(error) => assert!(began.elapsed() < PATIENCE, "never again: {}", error.message),
        }
    }
}

/// Everything that the topic has, from its first message to this one.
fn all_up_to(url: &str, last: u64) -> (Thin, Vec<(u64, u64, u64)>) {
    let mut connection = Thin::connect(url).expect("connects");
    connection.consumer(TOPIC, "all", 1, 0).expect("a consumer");
    connection.write(&thin::flow(1, 100_000)).expect("sent");
    let mut all = Vec::new();
    loop {
        let answer = connection.next().expect("all of them");
        let Some(message) = answer.command.message else { continue };
        let n = number(&thin::payload(answer.entry).expect("whole"));
        all.push((n, message.message_id.ledger_id, message.message_id.entry_id));
        if n == last {
            return (connection, all);
        }
    }
}

fn assert_all_there(confirmed: &[u64], all: &[(u64, u64, u64)]) {
    let numbers: Vec<u64> = all.iter().map(|(n, _, _)| *n).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let lost: Vec<&u64> = confirmed.iter().filter(|n| !numbers.contains(n)).collect();
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
}

/// Starts on a disk that may be full to the last byte: then it says so, and starts when there is a little room. Nobody
/// reads its log, which would fill a pipe otherwise.
fn start(disk: &SmallDisk, data: &Path, arguments: &[&str]) -> Program {
    let log = tempfile::tempfile().expect("a file");
    match Program::try_start(data, arguments, Stdio::from(log.try_clone().expect("a file"))) {
        Ok(program) => program,
        Err(_) => {
            let mut said = String::new();
            let mut log = log;
            log.seek(SeekFrom::Start(0)).and_then(|_| log.read_to_string(&mut said)).expect("readable");
            assert!(said.contains("No space left on device") && said.contains("free some space"), "{said}");
            disk.make_a_little_room();
            Program::start_with(data, arguments)
        }
    }
}

fn fill_up_and_go_on(relaxed: bool) {
    let Some(disk) = SmallDisk::mount() else { return };
    let data = disk.path().join("data");
    let mode: &[&str] = if relaxed { &["--relaxed"] } else { &[] };
    let arguments = [&["--segment-bytes", "1048576"], mode].concat();
    let broker = Program::start_with(&data, &arguments);
    let url = broker.service_url.clone();
    disk.crumbs().iter().for_each(|path| std::fs::write(path, [1; 64 << 10]).expect("written"));
    let foreign = disk.path().join("of another program");
    std::fs::write(&foreign, vec![1; 4 << 20]).expect("written");
    Thin::connect(&url).and_then(|mut thin| thin.consumer(TOPIC, "all", 1, 0)).expect("a subscription");

    // Full: what is sent is refused, by a message that says why; nothing that was confirmed is lost.
    let mut next = 0;
    let (mut confirmed, why) = send_until_refused(&mut producer(&url), &mut next).expect("an answer");
    assert!(confirmed.len() > 500, "it was not full: {why}");
    assert!(why.contains("space"), "{why}");
    let (connection, all) = all_up_to(&url, *confirmed.last().expect("some"));
    assert_all_there(&confirmed, &all);
    drop(connection);

    // Space is made by somebody else: it goes on without a restart.
    std::fs::remove_file(&foreign).expect("removed");
    confirmed.push(send_when_possible(&url, &mut next));
    let (more, why) = send_until_refused(&mut producer(&url), &mut next).expect("an answer");
    assert!(more.len() > 100, "it was not used: {why}");
    confirmed.extend(more);

    // A start on a full disk.
    broker.kill();
    let broker = start(&disk, &data, &arguments);
    let url = broker.service_url.clone();
    let last = *confirmed.last().expect("some");
    let (mut connection, all) = all_up_to(&url, last);
    assert_all_there(&confirmed, &all);

    // What is acknowledged makes room, though acknowledging has to be written down, too.
    let (_, ledger, entry) = *all.last().expect("some");
    connection.write(&thin::ack_up_to(1, ledger, entry)).expect("sent");
    let (mut confirmed, began) = (Vec::new(), Instant::now());
    while confirmed.len() < 500 {
        assert!(began.elapsed() < PATIENCE, "the room is not given back: {}", confirmed.len());
        confirmed.push(send_when_possible(&url, &mut next));
        confirmed.extend(send_until_refused(&mut producer(&url), &mut next).expect("an answer").0);
    }
    assert!(broker.terminate().success());

    // A clean end on a full disk, and a start after it.
    let broker = start(&disk, &data, &arguments);
    let (_, all) = all_up_to(&broker.service_url, confirmed.pop().expect("some"));
    assert_all_there(&confirmed, &all);
}

#[test]
fn a_full_file_system_refuses_loses_nothing_and_ends() {
    fill_up_and_go_on(false);
}

#[test]
fn a_full_file_system_likewise_when_relaxed() {
    fill_up_and_go_on(true);
}
