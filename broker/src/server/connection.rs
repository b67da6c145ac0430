//! One connection: reads frames, writes what has gathered, ends with its socket.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::effects::{UNASKED, message_id};
use super::hub::Hub;
use super::outbound::{Out, OutMessage, Outbound};
use super::requests::Session;
use crate::semantics::{ConnectionId, ConsumerKey, Source};
use crate::wire::command::encode_message_head;
use crate::wire::messages::CommandMessage;
use crate::wire::{FrameDecoder, Response, ServerError};

const READ_BYTES: usize = 64 * 1024;
/// About how much is written at once.
const WRITE_BYTES: usize = 256 * 1024;

pub async fn run(stream: TcpStream, hub: Arc<Hub>) {
    let Some((id, outbound)) = hub.connect() else {
        return refuse(&stream);
    };
    // As the Java broker shows it.
    let address = stream.peer_addr().map_or_else(|_| String::new(), |address| format!("/{address}"));
    let (reading, writing) = stream.into_split();
    let session = Session::new(id, address, outbound.clone(), hub.clone());
    let ended = tokio::select! {
        ended = read(reading, session, &hub) => ended,
        ended = write(writing, id, &outbound, &hub) => ended,
    };
    match ended {
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData) => {
            tracing::info!(connection = id.0, %error, "disconnected a client");
        }
        Err(error) => tracing::debug!(connection = id.0, %error, "a connection ended"),
        Ok(()) => {}
    }
    hub.disconnect(id);
}

/// As a client understands it, if the socket takes it at once.
fn refuse(stream: &TcpStream) {
    let mut frame = BytesMut::new();
    let message = "Reached the maximum number of connections";
    Response::error(UNASKED, ServerError::NotAllowed, message).encode(&mut frame);
    // It is gone in any case.
    let _ = stream.try_write(&frame);
}

async fn read(mut socket: OwnedReadHalf, mut session: Session, hub: &Hub) -> io::Result<()> {
    let limits = &hub.settings.limits;
    let decoder = FrameDecoder::new(limits.message_bytes);
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut frames = Vec::new();
    let mut pinged = false;
    // When the frame that is not whole yet must be.
    let mut whole_by = None;
    loop {
        let patience = if session.is_connected() { limits.keep_alive } else { limits.handshake };
        let until = Instant::now() + patience;
        let until = whole_by.map_or(until, |by| until.min(by));
        // Waiting for room has no end of its own, except for who holds half a frame: others may wait for that memory.
        match whole_by {
            None => session.outbound.room().await,
            Some(by) => timeout_at(by, session.outbound.room()).await.map_err(|_| unfinished())?,
        }
        buffer.reserve(READ_BYTES);
        match timeout_at(until, socket.read_buf(&mut buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            Err(_) if whole_by.is_some_and(|by| by <= Instant::now()) => return Err(unfinished()),
            Err(_) if pinged || !session.is_connected() => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is silent"));
            }
            Err(_) => {
                pinged = true;
                session.outbound.respond(&Response::Ping);
                continue;
            }
        }
        pinged = false;
        let outcome = loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Ok(()),
                Err(error) => break Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        };
        let progress = !frames.is_empty();
        // Who sends more at a time does not wait for each receipt.
        if frames.len() == 1 {
            hub.attention.call();
        }
        session.handle(frames.drain(..));
        outcome?;
        session.outbound.count_begun(buffer.len());
        if buffer.is_empty() {
            whole_by = None;
        } else if progress || whole_by.is_none() {
            whole_by = Some(Instant::now() + hub.stalled());
        }
    }
}

fn unfinished() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client does not finish a frame that it began")
}

async fn write(mut socket: OwnedWriteHalf, id: ConnectionId, outbound: &Outbound, hub: &Hub) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    while let Some(mut items) = outbound.take().await {
        while !items.is_empty() {
            let gone = fill(&mut buffer, &mut items, hub).await?;
            outbound.count_encoded(buffer.len());
            // By parts, so that a slow client is told from one that takes nothing.
            for part in buffer.chunks(READ_BYTES) {
                let written = timeout(hub.stalled(), socket.write_all(part)).await;
                written
                    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client does not take what is sent"))??;
            }
            buffer.clear();
            outbound.count_encoded(0);
            give_back(gone, id, hub);
        }
        if outbound.is_congested() {
            // Whether it still is is decided while the state machine cannot deliver.
            hub.act(|broker| {
                if outbound.relieve() {
                    broker.handle_congestion(id, false);
                }
            });
        }
        if buffer.capacity() > 4 * WRITE_BYTES {
            buffer = BytesMut::with_capacity(READ_BYTES);
        }
    }
    socket.shutdown().await
}

/// Messages that were let go meanwhile, by consumer, with their permits: they are acknowledged by everybody, so nobody
/// misses them.
type Gone = Vec<(u64, u32)>;

/// The state machine can use their permits for others.
fn give_back(gone: Gone, id: ConnectionId, hub: &Hub) {
    if gone.is_empty() {
        return;
    }
    hub.act(|broker| {
        for (consumer_id, permits) in gone {
            broker.handle_flow(ConsumerKey { connection: id, consumer_id }, permits);
        }
    });
}

/// Encodes items until about [`WRITE_BYTES`] are there, or the first one if memory is short.
async fn fill(buffer: &mut BytesMut, items: &mut VecDeque<Out>, hub: &Hub) -> io::Result<Gone> {
    let reader = &hub.reader;
    let bytes_max = if hub.memory.is_short() { 1 } else { WRITE_BYTES };
    let mut bytes = 0;
    let mut taken = Vec::new();
    let mut missing = Vec::new();
    while bytes < bytes_max
        && let Some(item) = items.pop_front()
    {
        let payload = match &item {
            Out::Frames(frames) => {
                bytes += frames.len();
                None
            }
            Out::Message(OutMessage { source: Source::Inline(payload), .. }) => {
                bytes += payload.len();
                Some(payload.clone())
            }
            Out::Message(OutMessage { source: Source::Stored(location), .. }) => {
                bytes += location.len as usize;
                let cached = reader.cached(*location);
                if cached.is_none() {
                    missing.push(*location);
                }
                cached
            }
        };
        taken.push((item, payload));
    }
    let mut read = VecDeque::new();
    if !missing.is_empty() {
        let reader = reader.clone();
        let reads = tokio::task::spawn_blocking(move || {
            missing.into_iter().map(|location| reader.read(location)).collect::<VecDeque<_>>()
        });
        read = reads.await.map_err(io::Error::other)?;
    }
    let mut gone = Gone::new();
    for (item, payload) in taken {
        match item {
            Out::Frames(frames) => buffer.extend_from_slice(&frames),
            Out::Message(message) => {
                let payload = match payload {
                    Some(payload) => Ok(payload),
                    None => read.pop_front().unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::NotFound))),
                };
                match payload {
                    Ok(payload) => encode(buffer, &message, &payload),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        gone.push((message.consumer_id, message.permits));
                    }
                    Err(error) => {
                        tracing::error!(%error, "could not read a message; its consumer is disconnected");
                        return Err(error);
                    }
                }
            }
        }
    }
    Ok(gone)
}

fn encode(buffer: &mut BytesMut, message: &OutMessage, payload: &Bytes) {
    let command = CommandMessage {
        consumer_id: message.consumer_id,
        message_id: message_id(Some(message.position), message.partition),
        redelivery_count: (message.redelivery_count > 0).then_some(message.redelivery_count),
        ack_set: message.ack_set.iter().map(|word| *word as i64).collect(),
        consumer_epoch: message.epoch,
    };
    encode_message_head(buffer, &command, payload.len());
    buffer.extend_from_slice(payload);
}
