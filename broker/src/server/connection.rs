//! One connection: reads frames, writes what has gathered, ends with its socket.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::effects::message_id;
use super::hub::Hub;
use super::outbound::{Out, OutMessage, Outbound};
use super::requests::Session;
use crate::semantics::{ConnectionId, ConsumerKey, Source};
use crate::storage::Reader;
use crate::wire::command::encode_message_head;
use crate::wire::messages::CommandMessage;
use crate::wire::{FrameDecoder, Response};

/// A client that is silent for this long is pinged, and after as long again given up.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A client has this long to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 * 1024;
/// About how much is written at once.
const WRITE_BYTES: usize = 256 * 1024;

pub async fn run(stream: TcpStream, hub: Arc<Hub>) {
    let (id, outbound) = hub.connect();
    // As the Java broker shows it.
    let address = stream.peer_addr().map_or_else(|_| String::new(), |address| format!("/{address}"));
    let (reading, writing) = stream.into_split();
    let session = Session::new(id, address, outbound.clone(), hub.clone());
    let ended = tokio::select! {
        ended = read(reading, session) => ended,
        ended = write(writing, id, &outbound, &hub) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(connection = id.0, %error, "a connection ended");
    }
    hub.disconnect(id);
}

async fn read(mut socket: OwnedReadHalf, mut session: Session) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut frames = Vec::new();
    let mut pinged = false;
    loop {
        session.outbound.room().await;
        buffer.reserve(READ_BYTES);
        let patience = if session.is_connected() { KEEP_ALIVE } else { HANDSHAKE };
        match tokio::time::timeout(patience, socket.read_buf(&mut buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok(());
                }
            }
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
            match FrameDecoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Ok(()),
                Err(error) => break Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        };
        session.handle(frames.drain(..));
        outcome?;
    }
}

async fn write(mut socket: OwnedWriteHalf, id: ConnectionId, outbound: &Outbound, hub: &Hub) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    while let Some(mut items) = outbound.take().await {
        while !items.is_empty() {
            let dropped = fill(&mut buffer, &mut items, &hub.reader).await?;
            socket.write_all(&buffer).await?;
            buffer.clear();
            for message in dropped {
                let consumer = ConsumerKey { connection: id, consumer_id: message.consumer_id };
                hub.act(|broker| broker.handle_flow(consumer, message.permits));
            }
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

/// Encodes items until about [`WRITE_BYTES`] are there. Gives back messages that were let go meanwhile: they
/// are acknowledged by everybody, so nobody misses them.
async fn fill(buffer: &mut BytesMut, items: &mut VecDeque<Out>, reader: &Reader) -> io::Result<Vec<OutMessage>> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    let mut missing = Vec::new();
    while bytes < WRITE_BYTES
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
    let mut gone = Vec::new();
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
                    Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(message),
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
