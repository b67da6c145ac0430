//! How fast a broker takes single messages: latency one at a time, and throughput with many in flight.
//!
//! Speaks the protocol by hand, so that the broker is measured and not a client library.
//!
//! ```text
//! cargo run --release -p everpulse-broker --example load -- [--relaxed]
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use everpulse_broker::{Embedded, Mode, Options};
use pulsar::proto::{self, BaseCommand, base_command::Type};

const PAYLOAD: usize = 300;

fn frame(command: &BaseCommand, payload: Option<u64>) -> Vec<u8> {
    use prost::Message;
    let command = command.encode_to_vec();
    let mut entry = Vec::new();
    if let Some(sequence_id) = payload {
        let metadata =
            proto::MessageMetadata { producer_name: "load".into(), sequence_id, publish_time: 1, ..Default::default() };
        let metadata = metadata.encode_to_vec();
        let mut checked = (metadata.len() as u32).to_be_bytes().to_vec();
        checked.extend(metadata);
        checked.resize(checked.len() + PAYLOAD, b'x');
        entry.extend(0x0e01u16.to_be_bytes());
        entry.extend(crc32c::crc32c(&checked).to_be_bytes());
        entry.extend(checked);
    }
    let mut frame = ((4 + command.len() + entry.len()) as u32).to_be_bytes().to_vec();
    frame.extend((command.len() as u32).to_be_bytes());
    frame.extend(command);
    frame.extend(entry);
    frame
}

fn send(sequence_id: u64) -> Vec<u8> {
    let send = proto::CommandSend { producer_id: 1, sequence_id, ..Default::default() };
    frame(&BaseCommand { r#type: Type::Send as i32, send: Some(send), ..Default::default() }, Some(sequence_id))
}

/// Reads so many frames.
fn answers(stream: &mut impl Read, count: usize) -> std::io::Result<()> {
    let mut rest = Vec::new();
    for _ in 0..count {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        rest.resize(u32::from_be_bytes(len) as usize, 0);
        stream.read_exact(&mut rest)?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(".")?;
    let mut options = Options::new(dir.path());
    if std::env::args().any(|argument| argument == "--relaxed") {
        options.mode = Mode::Relaxed;
    }
    println!("mode {:?}, single messages of {PAYLOAD} bytes", options.mode);
    let began = Instant::now();
    let broker = Embedded::open(options).await?;
    println!("ready after {:?}", began.elapsed());
    let address = broker.endpoint().service_url.trim_start_matches("pulsar://").to_owned();
    tokio::task::spawn_blocking(move || measure(&address)).await??;
    broker.close().await;
    Ok(())
}

fn measure(address: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let connect = proto::CommandConnect { client_version: "load".into(), ..Default::default() };
    let connect = BaseCommand { r#type: Type::Connect as i32, connect: Some(connect), ..Default::default() };
    stream.write_all(&frame(&connect, None))?;
    let producer = proto::CommandProducer { topic: "load".into(), producer_id: 1, request_id: 1, ..Default::default() };
    let producer = BaseCommand { r#type: Type::Producer as i32, producer: Some(producer), ..Default::default() };
    stream.write_all(&frame(&producer, None))?;
    answers(&mut stream, 2)?;

    let mut latencies: Vec<Duration> = Vec::new();
    for sequence in 0..3000 {
        let began = Instant::now();
        stream.write_all(&send(sequence))?;
        answers(&mut stream, 1)?;
        latencies.push(began.elapsed());
    }
    latencies.sort();
    println!("one at a time: p50 {:?}, p99 {:?}", latencies[1500], latencies[2970]);

    let count = 300_000;
    let batch: Vec<u8> = (0..1000).flat_map(|n| send(3000 + n)).collect();
    let mut writing = stream.try_clone()?;
    let began = Instant::now();
    let writer = std::thread::spawn(move || (0..count / 1000).try_for_each(|_| writing.write_all(&batch)));
    answers(&mut std::io::BufReader::with_capacity(256 * 1024, stream), count)?;
    let took = began.elapsed();
    println!("in flight: {:.0} messages/s", count as f64 / took.as_secs_f64());
    writer.join().map_err(|_| std::io::Error::other("the writer has panicked"))?
}
