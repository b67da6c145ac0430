//! A connection on which a test says exactly what it wants, command by command.

#![allow(dead_code)]

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;
use everpulse_broker::wire::messages::{CommandConnect, CommandConnected, MessageMetadata};

pub struct Raw {
    stream: TcpStream,
    next_request: u64,
}

/// A command that the broker sent: its type, its sub-message, and what followed it.
#[derive(Debug, Clone)]
pub struct Received {
    pub kind: u32,
    pub body: Bytes,
    pub payload: Bytes,
}

impl Received {
    pub fn of<M: Message + Default>(&self, kind: u32) -> M {
        assert_eq!(self.kind, kind, "{self:?}");
        M::decode(self.body.clone()).expect("the sub-message of its type")
    }
}

impl Raw {
    pub async fn open(url: &str) -> Raw {
        let address = url.strip_prefix("pulsar://").expect("a pulsar:// URL");
        Raw { stream: TcpStream::connect(address).await.expect("connects"), next_request: 1 }
    }

    /// As a client of the newest protocol version.
    pub async fn connect(url: &str) -> (Raw, CommandConnected) {
        let mut raw = Raw::open(url).await;
        let connect = CommandConnect { client_version: "raw".into(), protocol_version: Some(21), ..Default::default() };
        raw.send(2, &connect).await;
        let connected = raw.receive().await.of(3);
        (raw, connected)
    }

    pub fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    pub async fn send(&mut self, kind: u32, body: &impl Message) {
        self.send_with(kind, &body.encode_to_vec(), &[]).await;
    }

    /// Sends any bytes as the sub-message of a command.
    pub async fn send_with(&mut self, kind: u32, body: &[u8], payload: &[u8]) {
        let mut command = BytesMut::new();
        encode_key(1, WireType::Varint, &mut command);
        encode_varint(u64::from(kind), &mut command);
        encode_key(kind, WireType::LengthDelimited, &mut command);
        encode_varint(body.len() as u64, &mut command);
        command.put_slice(body);
        let mut frame = BytesMut::new();
        frame.put_u32((4 + command.len() + payload.len()) as u32);
        frame.put_u32(command.len() as u32);
        frame.put_slice(&command);
        frame.put_slice(payload);
        self.send_bytes(&frame).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the broker reads");
    }

    pub async fn call(&mut self, kind: u32, body: &impl Message) -> Received {
        self.send(kind, body).await;
        self.receive().await
    }

    pub async fn receive(&mut self) -> Received {
        self.try_receive().await.expect("the broker answers")
    }

    /// `None` if the broker has closed the connection.
    pub async fn try_receive(&mut self) -> Option<Received> {
        let mut size = [0; 4];
        let read = tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut size)).await.expect("an answer in time");
        read.ok()?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame).await.expect("a whole frame");
        let mut frame = Bytes::from(frame);
        let command_len = frame.get_u32() as usize;
        let mut command = frame.split_to(command_len);
        let (mut kind, mut body) = (0, Bytes::new());
        while command.has_remaining() {
            match decode_key(&mut command).expect("a field") {
                (1, WireType::Varint) => kind = decode_varint(&mut command).expect("a number") as u32,
                (_, WireType::LengthDelimited) => {
                    let len = decode_varint(&mut command).expect("a length") as usize;
                    body = command.split_to(len);
                }
                (tag, other) => panic!("field {tag} of type {other:?}"),
            }
        }
        Some(Received { kind, body, payload: frame })
    }
}

/// Metadata and payload with their checksum, as they follow a `Send`.
pub fn entry(metadata: &MessageMetadata, payload: &[u8]) -> Vec<u8> {
    let mut checked = BytesMut::new();
    checked.put_u32(metadata.encoded_len() as u32);
    metadata.encode(&mut checked).expect("grows");
    checked.put_slice(payload);
    let mut entry = BytesMut::new();
    entry.put_u16(0x0e01);
    entry.put_u32(crc32c::crc32c(&checked));
    entry.put_slice(&checked);
    entry.to_vec()
}
