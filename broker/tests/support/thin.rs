//! Pulsar's protocol by hand, on blocking sockets: for tests and measurements in which a client library would
//! reconnect, resend, batch or wait by itself.

#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use pulsar::proto::{self, BaseCommand, base_command::Type};

/// A broker that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 64 * 1024;

/// One side of a connection; [`Thin::reading`] makes another one for a second thread.
#[derive(Debug)]
pub struct Thin {
    stream: TcpStream,
    received: BytesMut,
}

/// A frame from the broker.
#[derive(Debug)]
pub struct Answer {
    pub command: BaseCommand,
    /// Checksum, metadata and payload of a message.
    pub entry: Bytes,
}

impl Thin {
    /// Connects and says hello.
    pub fn connect(url: &str) -> io::Result<Thin> {
        let mut thin = Thin::open(url)?;
        thin.write(&connect(None))?;
        match thin.next()?.command.connected {
            Some(_) => Ok(thin),
            None => Err(io::Error::other("no CONNECTED")),
        }
    }

    /// Connects and says nothing yet.
    pub fn open(url: &str) -> io::Result<Thin> {
        let stream = TcpStream::connect(url.trim_start_matches("pulsar://"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Thin { stream, received: BytesMut::new() })
    }

    /// The same connection for a thread that reads; only one of the two may.
    pub fn reading(&self) -> io::Result<Thin> {
        Ok(Thin { stream: self.stream.try_clone()?, received: self.received.clone() })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The next frame; pings are not answered.
    pub fn next(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.buffered()? {
                return Ok(answer);
            }
            self.fill()?;
        }
    }

    /// A frame that has been received already.
    pub fn buffered(&mut self) -> io::Result<Option<Answer>> {
        let Some(head) = self.received.get(..4) else { return Ok(None) };
        let total = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if self.received.len() < 4 + total {
            return Ok(None);
        }
        self.received.advance(4);
        let mut frame = self.received.split_to(total).freeze();
        if frame.len() < 4 {
            return Err(io::Error::other("a frame without a command"));
        }
        let command_len = frame.get_u32() as usize;
        if command_len > frame.len() {
            return Err(io::Error::other("a command longer than its frame"));
        }
        let command = BaseCommand::decode(frame.split_to(command_len)).map_err(io::Error::other)?;
        Ok(Some(Answer { command, entry: frame }))
    }

    /// Reads once; the end of the stream is an error.
    pub fn fill(&mut self) -> io::Result<()> {
        let before = self.received.len();
        self.received.resize(before + READ_BYTES, 0);
        let read = self.stream.read(&mut self.received[before..]);
        self.received.truncate(before + read.as_ref().copied().unwrap_or(0));
        if read? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Asks where a topic is, which is what makes Apache Pulsar serve it.
    pub fn lookup(&mut self, topic: &str) -> io::Result<()> {
        let lookup = proto::CommandLookupTopic { topic: topic.into(), request_id: 0, ..Default::default() };
        self.write(&frame(&BaseCommand { lookup_topic: Some(lookup), ..base(Type::Lookup) }, &[]))?;
        while self.next()?.command.lookup_topic_response.is_none() {}
        Ok(())
    }

    /// Makes a producer and waits for it: its last sequence id.
    pub fn producer(&mut self, topic: &str, id: u64, name: Option<&str>) -> io::Result<i64> {
        self.write(&producer(topic, id, name))?;
        loop {
            let answer = self.next()?.command;
            if let Some(ready) = answer.producer_success {
                return Ok(ready.last_sequence_id.unwrap_or(-1));
            }
            if let Some(error) = answer.error {
                return Err(io::Error::other(error.message));
            }
        }
    }

    /// Makes a consumer at the earliest message and waits for it; it has no permits yet.
    pub fn consumer(&mut self, topic: &str, subscription: &str, id: u64, kind: i32) -> io::Result<()> {
        self.write(&subscribe(topic, subscription, id, kind))?;
        loop {
            let answer = self.next()?.command;
            if answer.success.is_some() {
                return Ok(());
            }
            if let Some(error) = answer.error {
                return Err(io::Error::other(error.message));
            }
        }
    }
}

pub fn frame(command: &BaseCommand, entry: &[u8]) -> Vec<u8> {
    let command_len = command.encoded_len();
    let mut frame = Vec::with_capacity(8 + command_len + entry.len());
    frame.extend(((4 + command_len + entry.len()) as u32).to_be_bytes());
    frame.extend((command_len as u32).to_be_bytes());
    command.encode(&mut frame).expect("a vector grows");
    frame.extend_from_slice(entry);
    frame
}

/// Checksum, metadata and payload, as they follow a `Send`.
pub fn entry(metadata: &proto::MessageMetadata, payload: &[u8]) -> Vec<u8> {
    let metadata_len = metadata.encoded_len();
    let mut entry = Vec::with_capacity(10 + metadata_len + payload.len());
    entry.extend([0x0e, 0x01, 0, 0, 0, 0]);
    entry.extend((metadata_len as u32).to_be_bytes());
    metadata.encode(&mut entry).expect("a vector grows");
    entry.extend_from_slice(payload);
    let checksum = crc32c::crc32c(&entry[6..]);
    entry[2..6].copy_from_slice(&checksum.to_be_bytes());
    entry
}

/// The payload of a message whose checksum fits.
pub fn payload(mut entry: Bytes) -> io::Result<Bytes> {
    if entry.len() < 10 || crc32c::crc32c(&entry[6..]) != u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]) {
        return Err(io::Error::other("a message whose checksum does not fit"));
    }
    entry.advance(6);
    let metadata_len = entry.get_u32() as usize;
    if metadata_len > entry.len() {
        return Err(io::Error::other("a message whose metadata is cut"));
    }
    entry.advance(metadata_len);
    Ok(entry)
}

fn base(kind: Type) -> BaseCommand {
    BaseCommand { r#type: kind as i32, ..Default::default() }
}

pub fn connect(token: Option<&str>) -> Vec<u8> {
    let connect = proto::CommandConnect {
        client_version: "thin".into(),
        protocol_version: Some(19),
        auth_method_name: token.map(|_| "token".into()),
        auth_data: token.map(|token| token.as_bytes().to_vec()),
        ..Default::default()
    };
    frame(&BaseCommand { connect: Some(connect), ..base(Type::Connect) }, &[])
}

pub fn producer(topic: &str, producer_id: u64, name: Option<&str>) -> Vec<u8> {
    let producer = proto::CommandProducer {
        topic: topic.into(),
        producer_id,
        request_id: producer_id,
        producer_name: name.map(Into::into),
        user_provided_producer_name: Some(name.is_some()),
        ..Default::default()
    };
    frame(&BaseCommand { producer: Some(producer), ..base(Type::Producer) }, &[])
}

pub fn send(producer_id: u64, sequence_id: u64, payload: &[u8]) -> Vec<u8> {
    let metadata = proto::MessageMetadata {
        producer_name: "thin".into(),
        sequence_id,
        // One that topics' order by time accepts.
        publish_time: 1,
        ..Default::default()
    };
    send_entry(producer_id, sequence_id, &entry(&metadata, payload))
}

/// What [`entry`] made.
pub fn send_entry(producer_id: u64, sequence_id: u64, entry: &[u8]) -> Vec<u8> {
    let send = proto::CommandSend { producer_id, sequence_id, ..Default::default() };
    frame(&BaseCommand { send: Some(send), ..base(Type::Send) }, entry)
}

/// `kind`: 0 Exclusive, 1 Shared, 2 Failover, 3 Key_Shared.
pub fn subscribe(topic: &str, subscription: &str, consumer_id: u64, kind: i32) -> Vec<u8> {
    let subscribe = proto::CommandSubscribe {
        topic: topic.into(),
        subscription: subscription.into(),
        sub_type: kind,
        consumer_id,
        request_id: consumer_id,
        initial_position: Some(proto::command_subscribe::InitialPosition::Earliest as i32),
        ..Default::default()
    };
    frame(&BaseCommand { subscribe: Some(subscribe), ..base(Type::Subscribe) }, &[])
}

pub fn flow(consumer_id: u64, message_permits: u32) -> Vec<u8> {
    let flow = proto::CommandFlow { consumer_id, message_permits };
    frame(&BaseCommand { flow: Some(flow), ..base(Type::Flow) }, &[])
}

pub fn ack(consumer_id: u64, ledger_id: u64, entry_id: u64) -> Vec<u8> {
    let message_id = vec![proto::MessageIdData { ledger_id, entry_id, ..Default::default() }];
    let ack = proto::CommandAck { consumer_id, ack_type: 0, message_id, ..Default::default() };
    frame(&BaseCommand { ack: Some(ack), ..base(Type::Ack) }, &[])
}

/// A cumulative ack.
pub fn ack_up_to(consumer_id: u64, ledger_id: u64, entry_id: u64) -> Vec<u8> {
    let message_id = vec![proto::MessageIdData { ledger_id, entry_id, ..Default::default() }];
    let ack = proto::CommandAck { consumer_id, ack_type: 1, message_id, ..Default::default() };
    frame(&BaseCommand { ack: Some(ack), ..base(Type::Ack) }, &[])
}

pub fn ping() -> Vec<u8> {
    frame(&BaseCommand { ping: Some(proto::CommandPing {}), ..base(Type::Ping) }, &[])
}
