//! How fast a broker is with single messages of 300 bytes, ours or another one at a URL. `cargo xtask bench broker`
//! runs it on both.
//!
//! Speaks the protocol by hand, so that the broker is measured and not a client library. One line of JSON: publish
//! latency (send to receipt, one at a time), publish throughput (1,000 in flight), end-to-end latency (send to delivery
//! on another connection, one at a time) and end-to-end throughput (1,000 in flight, acknowledged).
//!
//! ```text
//! cargo run --release -p everpulse-broker --example load -- pulsar://127.0.0.1:6650 [SECONDS]
//! ```

#[path = "../tests/support/thin.rs"]
mod thin;

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use thin::Thin;

const PAYLOAD: [u8; 300] = [b'x'; 300];
const WINDOW: u64 = 1000;
/// Sends that share a write to the socket, as a busy client's do.
const GROUP: u64 = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("expected the URL of a broker")?;
    let seconds = Duration::from_secs_f64(arguments.next().map_or(Ok(5.0), |text| text.parse())?);
    let topic = |name: &str| format!("persistent://public/default/load-{name}-{}", std::process::id());
    let mut line = serde_json::Map::new();
    let mut note = |name: &str, value: f64| line.insert(name.into(), ((value * 100.0).round() / 100.0).into());

    // Once without looking, so that a virtual machine has compiled what it needs.
    publish_one_by_one(&url, &topic("warm"), seconds / 2)?;
    publish_many(&url, &topic("warm"), seconds / 2)?;
    let (p50, p99) = publish_one_by_one(&url, &topic("publish"), seconds)?;
    note("publish_p50_us", p50);
    note("publish_p99_us", p99);
    let rate = publish_many(&url, &topic("publish"), seconds)?;
    note("publish_per_s", rate);
    let (p50, p99) = end_to_end_one_by_one(&url, &topic("through"), seconds)?;
    note("end_to_end_p50_us", p50);
    note("end_to_end_p99_us", p99);
    // About as long again, in whole groups.
    let count = ((rate * seconds.as_secs_f64()) as u64).next_multiple_of(GROUP);
    note("end_to_end_per_s", end_to_end_many(&url, &topic("through-many"), count)?);
    println!("{}", serde_json::Value::from(line));
    Ok(())
}

fn producer(url: &str, topic: &str) -> io::Result<Thin> {
    let mut connection = Thin::connect(url)?;
    connection.lookup(topic)?;
    connection.producer(topic, 1, None)?;
    Ok(connection)
}

fn consumer(url: &str, topic: &str) -> io::Result<Thin> {
    let mut connection = Thin::connect(url)?;
    connection.lookup(topic)?;
    connection.consumer(topic, "load", 1, 0)?;
    Ok(connection)
}

fn quantiles(mut latencies: Vec<Duration>) -> (f64, f64) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).map_or(0.0, Duration::as_secs_f64) * 1e6;
    (at(50), at(99))
}

fn receipt(connection: &mut Thin) -> io::Result<()> {
    loop {
        let answer = connection.next()?.command;
        if let Some(error) = answer.send_error {
            return Err(io::Error::other(error.message));
        }
        if answer.send_receipt.is_some() {
            return Ok(());
        }
    }
}

fn publish_one_by_one(url: &str, topic: &str, time: Duration) -> io::Result<(f64, f64)> {
    let mut connection = producer(url, topic)?;
    let mut latencies = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let began = Instant::now();
        connection.write(&thin::send(1, latencies.len() as u64, &PAYLOAD))?;
        receipt(&mut connection)?;
        latencies.push(began.elapsed());
    }
    Ok(quantiles(latencies))
}

/// Keeps the window full until the time is over or so many are sent, then waits for the rest.
fn send_many(connection: &mut Thin, time: Duration, count: u64) -> io::Result<(u64, Duration)> {
    // Encoded once: the client's own work is no part of what is measured. Nobody deduplicates.
    let group: Vec<u8> = (0..GROUP).flat_map(|n| thin::send(1, n, &PAYLOAD)).collect();
    let (mut sent, mut known) = (0, 0);
    let began = Instant::now();
    loop {
        while began.elapsed() < time && sent < count && sent + GROUP <= known + WINDOW {
            connection.write(&group)?;
            sent += GROUP;
        }
        if known == sent {
            return Ok((known, began.elapsed()));
        }
        receipt(connection)?;
        known += 1;
        while let Some(answer) = connection.buffered()? {
            known += u64::from(answer.command.send_receipt.is_some());
        }
    }
}

fn publish_many(url: &str, topic: &str, time: Duration) -> io::Result<f64> {
    let (count, took) = send_many(&mut producer(url, topic)?, time, u64::MAX)?;
    Ok(count as f64 / took.as_secs_f64())
}

fn end_to_end_one_by_one(url: &str, topic: &str, time: Duration) -> io::Result<(f64, f64)> {
    let mut receiving = consumer(url, topic)?;
    let mut sending = producer(url, topic)?;
    receiving.write(&thin::flow(1, 1_000_000))?;
    let mut latencies = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let began = Instant::now();
        sending.write(&thin::send(1, latencies.len() as u64, &PAYLOAD))?;
        let message = loop {
            if let Some(message) = receiving.next()?.command.message {
                break message;
            }
        };
        latencies.push(began.elapsed());
        receiving.write(&thin::ack(1, message.message_id.ledger_id, message.message_id.entry_id))?;
        receipt(&mut sending)?;
    }
    Ok(quantiles(latencies))
}

fn end_to_end_many(url: &str, topic: &str, count: u64) -> Result<f64, Box<dyn Error>> {
    let mut receiving = consumer(url, topic)?;
    let mut sending = producer(url, topic)?;
    receiving.write(&thin::flow(1, 5000))?;
    let began = Instant::now();
    let sender = std::thread::spawn(move || send_many(&mut sending, Duration::MAX, count));
    let (mut received, mut acked) = (0, 0);
    while received < count {
        let mut next = Some(receiving.next()?);
        let mut last = None;
        while let Some(answer) = next {
            received += u64::from(answer.command.message.is_some());
            last = answer.command.message.or(last);
            next = receiving.buffered()?;
        }
        // Up to the last one of each read, and permits for as many again.
        if let Some(message) = last {
            let id = message.message_id;
            let mut bytes = thin::ack_up_to(1, id.ledger_id, id.entry_id);
            bytes.extend(thin::flow(1, (received - acked) as u32));
            receiving.write(&bytes)?;
            acked = received;
        }
    }
    let took = began.elapsed();
    sender.join().map_err(|_| "the sender has panicked")??;
    Ok(count as f64 / took.as_secs_f64())
}
