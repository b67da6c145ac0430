//! `kill -9` at random moments under load: every message with a receipt is there, in order, once; acks are known up
//! to some point (see [`model`]).
//!
//! A short form here; `cargo xtask soak broker-kill` is the long one. `EVERPULSE_KILLS` is how many kills count in
//! each mode, `EVERPULSE_SEED` repeats the choices (not the threads' timing), `EVERPULSE_SOAK_OUT` is a file for figures.

mod clients;
#[path = "../support/dice.rs"]
mod dice;
mod model;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/thin.rs"]
mod thin;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clients::{Consumed, Consumer, Producer};
use dice::Dice;
use model::Topic;
use program::Program;

const RECEIPTS_MIN: u64 = 1000;
/// Two producers share the first topic; the third has one whose producer sends again what has no receipt, under
/// deduplication.
const TOPICS: [&str; 3] =
    ["persistent://public/default/a", "persistent://public/default/b", "persistent://public/once/c"];
const PRODUCERS: [(u32, usize); 4] = [(0, 0), (1, 0), (2, 1), (3, 2)];
const ONCE: u32 = 3;

/// The figures of one kill.
struct Round {
    receipts: u64,
    in_flight: u64,
    restart: Duration,
    forgotten: usize,
}

#[test]
fn what_has_a_receipt_survives_kill_9_durable() {
    kills("durable", &["--segment-bytes", "1000000"]);
}

#[test]
fn what_has_a_receipt_survives_kill_9_relaxed() {
    kills("relaxed", &["--relaxed", "--segment-bytes", "1000000"]);
}

fn kills(mode: &str, arguments: &[&str]) {
    let wanted: usize =
        std::env::var("EVERPULSE_KILLS").map_or(6, |text| text.parse().expect("EVERPULSE_KILLS is a number"));
    let seed = dice::seed();
    let mut dice = Dice::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let mut topics: [Topic; 3] = Default::default();
    let once = clients::Once::default();
    let mut rounds: Vec<Round> = Vec::new();
    let mut uncounted = 0;
    let mut life = 0;
    while rounds.len() < wanted {
        life += 1;
        let began = Instant::now();
        let program = Program::start_with(dir.path(), arguments);
        let restart = began.elapsed();
        if life == 1 {
            deduplicate(&program.admin_url, "public/once");
        }
        let mut forgotten = 0;
        let consumers: Vec<Consumer> = TOPICS
            .iter()
            .zip(&mut topics)
            .map(|(name, topic)| {
                let (consumer, delivered) = Consumer::start(&program.service_url, name, life, dice.fork());
                forgotten += topic.handle_restart(&delivered);
                consumer
            })
            .collect();
        let receipts = AtomicU64::new(0);
        let in_flight = AtomicU64::new(0);
        let shared = topics.each_mut().map(Mutex::new);
        std::thread::scope(|scope| {
            for (consumer, topic) in consumers.into_iter().zip(&shared) {
                scope.spawn(move || {
                    let Consumed { delivered, acked } = consumer.run();
                    let mut topic = topic.lock().expect("no panic elsewhere");
                    delivered.into_iter().for_each(|(id, position)| topic.handle_delivery(id, position));
                    acked.into_iter().for_each(|id| topic.handle_ack(id));
                });
            }
            for (id, topic) in PRODUCERS {
                let (url, dice, once) = (program.service_url.clone(), dice.fork(), (id == ONCE).then(|| once.clone()));
                let (receipts, in_flight, topic) = (&receipts, &in_flight, &shared[topic]);
                scope.spawn(move || {
                    let producer = Producer::start(&url, TOPICS[PRODUCERS[id as usize].1], id, life, dice, once);
                    let sent = clients::produce(producer, receipts);
                    in_flight.fetch_add(sent.unanswered, Ordering::Relaxed);
                    let mut topic = topic.lock().expect("no panic elsewhere");
                    sent.receipts.into_iter().for_each(|(id, position)| topic.handle_receipt(id, position));
                });
            }
            let enough = RECEIPTS_MIN + dice.below(1500);
            let patience = Instant::now() + Duration::from_secs(120);
            while receipts.load(Ordering::Relaxed) < enough {
                assert!(Instant::now() < patience, "{} receipts in two minutes", receipts.load(Ordering::Relaxed));
                std::thread::yield_now();
            }
            // Anywhere within a write, a sync or a receipt.
            let moment = Instant::now() + Duration::from_micros(dice.below(3000));
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            program.kill();
        });
        let (receipts, in_flight) = (receipts.into_inner(), in_flight.into_inner());
        if in_flight > 0 {
            rounds.push(Round { receipts, in_flight, restart, forgotten });
        } else {
            uncounted += 1;
        }
    }
    // What the last kill left; then an end that forgets nothing.
    let program = Program::start_with(dir.path(), arguments);
    for (name, topic) in TOPICS.iter().zip(&mut topics) {
        let (consumer, delivered) = Consumer::start(&program.service_url, name, life + 1, dice.fork());
        topic.handle_restart(&delivered);
        let acked = consumer.ack_all(&delivered);
        acked.into_iter().for_each(|id| topic.handle_ack(id));
    }
    assert!(program.terminate().success(), "SIGTERM is a clean end");
    let program = Program::start_with(dir.path(), arguments);
    for (name, topic) in TOPICS.iter().zip(&mut topics) {
        let (_consumer, delivered) = Consumer::start(&program.service_url, name, life + 2, dice.fork());
        assert_eq!(topic.handle_restart(&delivered), 0, "a clean end forgets no ack");
    }
    program.terminate();
    report(mode, seed, uncounted, &rounds);
}

fn report(mode: &str, seed: u64, uncounted: usize, rounds: &[Round]) {
    let sorted = |of: &dyn Fn(&Round) -> u64| {
        let mut values: Vec<u64> = rounds.iter().map(of).collect();
        values.sort_unstable();
        serde_json::json!({
            "min": values.first(), "median": values.get(values.len() / 2), "max": values.last(),
        })
    };
    let line = serde_json::json!({
        "mode": mode,
        "seed": seed,
        "kills": rounds.len(),
        "kills_without_sends_in_flight": uncounted,
        "receipts": rounds.iter().map(|round| round.receipts).sum::<u64>(),
        "receipts_per_kill": sorted(&|round| round.receipts),
        "in_flight_at_kill": sorted(&|round| round.in_flight),
        "acks_forgotten_by_kill": sorted(&|round| round.forgotten as u64),
        "start_ms": sorted(&|round| round.restart.as_millis() as u64),
    });
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("EVERPULSE_SOAK_OUT") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file for figures");
        writeln!(file, "{line}").expect("written");
    }
}

/// Makes the namespace, with deduplication.
fn deduplicate(admin_url: &str, namespace: &str) {
    for (method, path, body) in [("PUT", "", "{}"), ("POST", "/deduplication", "true")] {
        let mut stream = TcpStream::connect(admin_url.trim_start_matches("http://")).expect("the admin listens");
        let head =
            format!("{method} /admin/v2/namespaces/{namespace}{path} HTTP/1.1\r\nHost: broker\r\nConnection: close");
        let length = body.len();
        let request = format!("{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
}
