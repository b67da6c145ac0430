//! A broker without sockets, threads or files, and the well-behaved client that must be served.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};

use super::MESSAGE_BYTES_MAX;
use super::generate;
use crate::semantics::{ConnectionId, ConsumerKey, Source};
use crate::server::hub::{Hub, Settings};
use crate::server::limits::Limits;
use crate::server::outbound::{Out, Outbound};
use crate::server::requests::Session;
use crate::storage::simulated::MemoryFiles;
use crate::storage::{ByHand, Completion, Mode, Options, Storage, recover};
use crate::wire::FrameDecoder;

/// How many clients the script has.
pub const CONNECTIONS: usize = 4;
const MEMORY_BYTES: usize = 1024 * 1024;
/// What one read may add before the limit is looked at again, times what a small command can cause.
const SLACK_BYTES: usize = 8 * 1024 * 1024;

struct Peer {
    id: ConnectionId,
    session: Session,
    outbound: Arc<Outbound>,
    buffer: BytesMut,
    /// Sent while the broker did not read.
    unread: BytesMut,
}

pub struct World {
    hub: Arc<Hub>,
    by_hand: ByHand,
    completions: Arc<Mutex<Vec<Completion>>>,
    peers: Vec<Peer>,
    served: Peer,
}

impl Peer {
    fn new(hub: &Arc<Hub>) -> Peer {
        let (id, outbound) = hub.connect().expect("few connections");
        let session = Session::new(id, "/fuzz".into(), outbound.clone(), hub.clone());
        Peer { id, session, outbound, buffer: BytesMut::new(), unread: BytesMut::new() }
    }

    /// As a connection reads: False if it ends.
    fn receive(&mut self, bytes: &[u8]) -> bool {
        self.unread.extend_from_slice(bytes);
        if !self.outbound.has_room() {
            // The socket is not read; what is in it is not ours.
            self.unread.truncate(MESSAGE_BYTES_MAX);
            return true;
        }
        self.buffer.unsplit(self.unread.split());
        let decoder = FrameDecoder::new(MESSAGE_BYTES_MAX);
        let mut frames = Vec::new();
        let goes_on = loop {
            match decoder.decode(&mut self.buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        self.session.handle(frames.into_iter());
        self.outbound.count_begun(self.buffer.len());
        goes_on
    }

    /// What is written to the client: commands' types, with the payloads of messages. None if the connection ends.
    fn take(&mut self, hub: &Hub) -> Option<Vec<(u8, Bytes)>> {
        let mut taken = Vec::new();
        for item in self.outbound.try_take()? {
            match item {
                Out::Frames(frames) => commands(frames.freeze(), &mut taken),
                Out::Message(message) => {
                    let entry = match &message.source {
                        Source::Inline(entry) => Some(entry.clone()),
                        Source::Stored(at) => match hub.reader.read(*at) {
                            Ok(entry) => Some(entry),
                            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                            Err(error) => panic!("a stored message cannot be read: {error}"),
                        },
                    };
                    let consumer = ConsumerKey { connection: self.id, consumer_id: message.consumer_id };
                    match entry {
                        Some(entry) => taken.push((9, entry)),
                        None => hub.act(|broker| broker.handle_flow(consumer, message.permits)),
                    }
                }
            }
        }
        if self.outbound.relieve() {
            hub.act(|broker| broker.handle_congestion(self.id, false));
        }
        Some(taken)
    }
}

/// Takes whole frames apart.
fn commands(mut frames: Bytes, into: &mut Vec<(u8, Bytes)>) {
    while frames.has_remaining() {
        let total = frames.get_u32() as usize;
        let mut frame = frames.split_to(total);
        let command_len = frame.get_u32() as usize;
        assert_eq!(command_len, frame.len(), "an answer is a simple command");
        assert_eq!(frame[0], 8, "a command begins with its type");
        into.push((frame[1], frame));
    }
}

impl World {
    pub fn new() -> World {
        let files = MemoryFiles::default();
        let dir = Path::new("/fuzz");
        let (broker, recovered) = recover(&files, dir).expect("an empty directory");
        let completions: Arc<Mutex<Vec<Completion>>> = Arc::default();
        let sink = completions.clone();
        let files = Arc::new(files);
        let options =
            Options { mode: Mode::Relaxed, segment_bytes: 256 * 1024, cache_bytes: 4096, files, ..Options::default() };
        let started = Storage::by_hand(dir, options, &recovered, broker.entries_per_segment(), move |completion| {
            sink.lock().expect("no panic elsewhere").push(completion);
        });
        let (storage, by_hand) = started.expect("an empty directory");
        let limits = Limits { message_bytes: MESSAGE_BYTES_MAX, memory_bytes: MEMORY_BYTES, ..Limits::default() };
        let hub = Arc::new(Hub::new(Settings { limits, ..Settings::default() }, broker, storage));
        let mut served = Peer::new(&hub);
        assert!(served.receive(&generate::connect()));
        let peers = (0..CONNECTIONS).map(|_| Peer::new(&hub)).collect();
        World { hub, by_hand, completions, peers, served }
    }

    pub fn receive(&mut self, connection: usize, bytes: &[u8]) {
        if !self.peers[connection].receive(bytes) {
            self.reconnect(connection);
        }
    }

    pub fn take(&mut self, connection: usize) {
        if self.peers[connection].take(&self.hub).is_none() {
            self.reconnect(connection);
        } else {
            // The socket is read again.
            self.receive(connection, &[]);
        }
    }

    pub fn reconnect(&mut self, connection: usize) {
        self.hub.disconnect(self.peers[connection].id);
        self.peers[connection] = Peer::new(&self.hub);
    }

    /// The disk answers.
    pub fn store(&mut self) {
        self.by_hand.step();
        let completions = std::mem::take(&mut *self.completions.lock().expect("no panic elsewhere"));
        self.hub.handle_completions(completions.into_iter());
    }

    pub fn tick(&mut self) {
        self.hub.handle_time(true);
    }

    pub fn check_memory(&self) {
        let held = self.hub.held_bytes();
        let bound = MEMORY_BYTES + SLACK_BYTES;
        assert!(held <= bound, "connections hold {held} bytes, and {bound} are allowed");
    }

    /// Whatever the others did and hold: a message goes through.
    pub fn check_service(&mut self) {
        assert!(self.served.receive(&generate::service()), "the well-behaved client is refused");
        let mut seen = Vec::new();
        for _ in 0..4 {
            self.store();
            seen.extend(self.served.take(&self.hub).expect("the well-behaved client is disconnected"));
        }
        let payload = seen.iter().find(|(kind, _)| *kind == 9);
        let (_, entry) = payload.unwrap_or_else(|| panic!("no message, only {seen:?}"));
        assert!(entry.ends_with(generate::SERVED), "another message");
        let kinds: Vec<u8> = seen.iter().map(|(kind, _)| *kind).collect();
        assert!([3, 17, 13, 7, 19].iter().all(|kind| kinds.contains(kind)), "an answer is missing: {kinds:?}");
        // What they held is given back with their connections.
        for connection in 0..CONNECTIONS {
            self.hub.disconnect(self.peers[connection].id);
        }
        self.peers.clear();
        let held = self.hub.held_bytes();
        assert!(held < 64 * 1024, "{held} bytes are held for nobody");
    }
}
