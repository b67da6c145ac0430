//! How long a broker takes to be ready on a directory of so many gigabytes whose broker was killed, and how much memory
//! it takes then.
//!
//! Fills a directory through a broker of its own (relaxed, one subscription that reads nothing), kills that, and starts
//! another one. Messages have 300 bytes to 4 KB, half of them a key. The page cache is dropped before the start if this
//! may be done (as root), else it is said. One line of JSON; the directory is removed.
//!
//! ```text
//! cargo build --release -p everpulse-broker --bin everpulse-broker
//! cargo run --release -p everpulse-broker --example recovery -- target/release/everpulse-broker GIGABYTES [DIR]
//! ```

#[path = "../tests/support/thin.rs"]
mod thin;

use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pulsar::proto;
use thin::Thin;

const TOPIC: &str = "persistent://public/default/recovery";
const WINDOW: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().ok_or("expected the path of everpulse-broker")?;
    let gigabytes: f64 = arguments.next().ok_or("expected how many gigabytes")?.parse()?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::Builder::new().prefix("everpulse-recovery").tempdir_in(parent)?;

    let mut first = Started::new(&program, dir.path())?;
    let filled = Instant::now();
    let messages = fill(&first.url, (gigabytes * 1e9) as u64)?;
    let filled = filled.elapsed();
    let full = memory(first.child.id())?;
    first.child.kill()?;
    first.child.wait()?;

    let cold = drop_page_cache();
    let began = Instant::now();
    let mut second = Started::new(&program, dir.path())?;
    let ready = began.elapsed();
    let after = memory(second.child.id())?;
    let first_message = began.elapsed() + first_message(&second.url)?;
    second.child.kill()?;
    second.child.wait()?;

    let began = Instant::now();
    let mut third = Started::new(&program, dir.path())?;
    let again = began.elapsed();
    third.child.kill()?;
    third.child.wait()?;

    let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    let line = serde_json::json!({
        "gigabytes": gigabytes,
        "messages": messages,
        "fill_s": filled.as_secs(),
        "rss_filled_kb": full.0,
        "peak_filled_kb": full.1,
        "page_cache": if cold { "dropped" } else { "warm: it could not be dropped" },
        "ready_ms": ms(ready),
        "first_message_ms": ms(first_message),
        "rss_ready_kb": after.0,
        "peak_ready_kb": after.1,
        "ready_again_warm_ms": ms(again),
    });
    println!("{line}");
    Ok(())
}

struct Started {
    child: Child,
    url: String,
}

impl Started {
    fn new(program: &str, dir: &Path) -> Result<Started, Box<dyn Error>> {
        let arguments = ["--port", "0", "--admin-port", "0", "--relaxed", "--data"];
        let mut child = Command::new(program).args(arguments).arg(dir).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        let url = ready["service_url"].as_str().ok_or("no service_url")?.to_owned();
        Ok(Started { child, url })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends so many bytes and waits for all receipts; how many messages that were.
fn fill(url: &str, bytes: u64) -> Result<u64, Box<dyn Error>> {
    let mut connection = Thin::connect(url)?;
    connection.lookup(TOPIC)?;
    connection.consumer(TOPIC, "all", 1, 1)?;
    connection.producer(TOPIC, 1, None)?;
    let groups: Vec<(Vec<u8>, u64, u64)> = (0..200).map(group).collect();
    let (mut written, mut sent, mut known) = (0, 0, 0);
    let mut turn = 0;
    loop {
        while written < bytes && sent < known + WINDOW {
            let (frames, count, size) = &groups[turn % groups.len()];
            connection.write(frames)?;
            (written, sent, turn) = (written + size, sent + count, turn + 1);
        }
        if known == sent {
            return Ok(known);
        }
        let mut next = Some(connection.next()?);
        while let Some(answer) = next {
            if let Some(error) = answer.command.send_error {
                return Err(error.message.into());
            }
            known += u64::from(answer.command.send_receipt.is_some());
            next = connection.buffered()?;
        }
    }
}

/// Some messages of different sizes and keys: their frames, how many they are, and how many bytes.
fn group(seed: u64) -> (Vec<u8>, u64, u64) {
    const COUNT: u64 = 50;
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for n in 0..COUNT {
        let chance = (seed * COUNT + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let payload = vec![b'x'; 300 + (chance % 3797) as usize];
        let metadata = proto::MessageMetadata {
            producer_name: "recovery".into(),
            sequence_id: n,
            publish_time: 1_700_000_000_000 + seed,
            partition_key: chance.is_multiple_of(2).then(|| format!("key {}", chance % 10_007)),
            ..Default::default()
        };
        let entry = thin::entry(&metadata, &payload);
        bytes += entry.len() as u64;
        frames.extend(thin::send_entry(1, n, &entry));
    }
    (frames, COUNT, bytes)
}

/// How long it takes from connecting to the first message.
fn first_message(url: &str) -> io::Result<Duration> {
    let began = Instant::now();
    let mut connection = Thin::connect(url)?;
    connection.consumer(TOPIC, "all", 1, 1)?;
    connection.write(&thin::flow(1, 1))?;
    while connection.next()?.command.message.is_none() {}
    Ok(began.elapsed())
}

/// Resident now and at most, in KB.
fn memory(process: u32) -> Result<(u64, u64), Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    field("VmRSS:").zip(field("VmHWM:")).ok_or_else(|| "no VmRSS".into())
}

fn drop_page_cache() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
