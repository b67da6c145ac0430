//! What waits to be written to one connection, and how much it holds in memory altogether.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::limits::{HELD_ALWAYS, Memory};
use crate::semantics::{Position, Source};
use crate::wire::Response;

/// A connection whose client has so many bytes of messages without an answer is not read.
const UNANSWERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection whose client does not take its answers is not read either.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a message on its way costs beside its payload, about.
const MESSAGE_BYTES: usize = 256;
/// A payload that is smaller is copied, so that it does not keep all that was received with it.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// A connection for which so many messages wait gets no more until they are written.
const QUEUED_MESSAGES_MAX: usize = 4 * 1024;

#[derive(Debug)]
pub struct Outbound {
    memory: Arc<Memory>,
    queue: Mutex<Queue>,
    filled: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Out>,
    held: Held,
    /// Its client does not take its messages; it gets none until they are written.
    congested: bool,
    /// Close when all is written.
    finished: bool,
}

/// Bytes in memory on this connection's account.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    /// Encoded, or payloads that are kept in memory for it, or messages to be read from disk (by what they cost here).
    queued: usize,
    /// Taken by the connection and not written yet.
    writing: usize,
    /// In the hands of the socket.
    encoded: usize,
    /// Messages that the storage has not answered.
    unanswered: usize,
    /// The beginning of a frame.
    begun: usize,
}

impl Held {
    fn sum(self) -> usize {
        self.queued + self.writing + self.encoded + self.unanswered + self.begun
    }
}

#[derive(Debug)]
pub enum Out {
    /// Whole frames.
    Frames(BytesMut),
    /// A message; a stored one is read when it is written, so that a slow client costs no memory.
    Message(OutMessage),
}

#[derive(Debug)]
pub struct OutMessage {
    pub consumer_id: u64,
    pub position: Position,
    pub partition: i32,
    pub redelivery_count: u32,
    pub permits: u32,
    pub ack_set: Vec<u64>,
    pub epoch: Option<u64>,
    pub source: Source,
}

impl Outbound {
    pub fn new(memory: Arc<Memory>) -> Outbound {
        Outbound { memory, queue: Mutex::default(), filled: Notify::new(), room: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the connection holds, here and in the sum of all.
    fn hold(&self, queue: &mut Queue, change: impl FnOnce(&mut Held)) {
        let (before, had_room) = (queue.held.sum(), queue.held_has_room());
        change(&mut queue.held);
        self.memory.change(before, queue.held.sum());
        let after = queue.held.sum();
        if (!had_room && queue.held_has_room()) || (before > HELD_ALWAYS && after <= HELD_ALWAYS) {
            self.room.notify_one();
        }
    }

    pub fn respond(&self, response: &Response) {
        let mut queue = self.queue();
        if !matches!(queue.items.back(), Some(Out::Frames(_))) {
            queue.items.push_back(Out::Frames(BytesMut::new()));
        }
        if let Some(Out::Frames(frames)) = queue.items.back_mut() {
            let before = frames.len();
            response.encode(frames);
            let more = frames.len() - before;
            self.hold(&mut queue, |held| held.queued += more);
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// False if it is a message that is kept nowhere else and there is no room for it.
    pub fn deliver(&self, mut message: OutMessage) -> bool {
        let mut queue = self.queue();
        let mut bytes = MESSAGE_BYTES;
        if let Source::Inline(payload) = &mut message.source {
            if queue.held.queued + queue.held.writing > QUEUED_BYTES_MAX || self.memory.is_short() {
                return false;
            }
            if payload.len() <= COPIED_BYTES_MAX {
                *payload = Bytes::copy_from_slice(payload);
            }
            bytes += payload.len();
        }
        self.hold(&mut queue, |held| held.queued += bytes);
        queue.items.push_back(Out::Message(message));
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// True if it has become full of messages; no more should come until [`Outbound::relieve`] says so.
    pub fn has_become_congested(&self) -> bool {
        let mut queue = self.queue();
        queue.items.len() >= QUEUED_MESSAGES_MAX && !std::mem::replace(&mut queue.congested, true)
    }

    pub fn is_congested(&self) -> bool {
        self.queue().congested
    }

    /// What waited is written. True if messages had been held back.
    pub fn relieve(&self) -> bool {
        std::mem::take(&mut self.queue().congested)
    }

    pub fn count_unanswered(&self, bytes: usize) {
        self.hold(&mut self.queue(), |held| held.unanswered += bytes + MESSAGE_BYTES);
    }

    pub fn answered(&self, bytes: usize) {
        self.hold(&mut self.queue(), |held| held.unanswered = held.unanswered.saturating_sub(bytes + MESSAGE_BYTES));
    }

    /// So many bytes of a frame that is not whole yet have been received.
    pub fn count_begun(&self, bytes: usize) {
        self.hold(&mut self.queue(), |held| held.begun = bytes);
    }

    /// So many bytes are encoded for the socket, beside what was taken.
    pub fn count_encoded(&self, bytes: usize) {
        self.hold(&mut self.queue(), |held| held.encoded = bytes);
    }

    /// Nothing more comes; the connection ends when all is written.
    pub fn finish(&self) {
        self.queue().finished = true;
        self.filled.notify_one();
    }

    /// Waits until the client has few enough unanswered messages and untaken answers, and memory is not short or not
    /// held by it.
    ///
    /// # Cancel safety
    /// Can be dropped at any time.
    pub async fn room(&self) {
        loop {
            let others = self.memory.room();
            tokio::pin!(others);
            others.as_mut().enable();
            if self.has_room() {
                return;
            }
            tokio::select! {
                () = self.room.notified() => {}
                () = others => {}
            }
        }
    }

    pub fn has_room(&self) -> bool {
        let queue = self.queue();
        queue.held_has_room() && !queue.finished && (queue.held.sum() <= HELD_ALWAYS || !self.memory.is_short())
    }

    /// Waits for something to write; `None` when nothing more comes. What was taken before counts as written.
    ///
    /// # Cancel safety
    /// Can be dropped at any time; nothing is taken then.
    pub async fn take(&self) -> Option<VecDeque<Out>> {
        loop {
            match self.try_take() {
                Some(items) if items.is_empty() => self.filled.notified().await,
                taken => return taken,
            }
        }
    }

    /// Empty if there is nothing yet.
    pub fn try_take(&self) -> Option<VecDeque<Out>> {
        let mut queue = self.queue();
        self.hold(&mut queue, |held| {
            held.writing = held.queued;
            held.queued = 0;
        });
        if queue.items.is_empty() && queue.finished {
            return None;
        }
        Some(std::mem::take(&mut queue.items))
    }
}

impl Queue {
    fn held_has_room(&self) -> bool {
        self.held.unanswered <= UNANSWERED_BYTES_MAX && self.held.queued + self.held.writing <= QUEUED_BYTES_MAX
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.memory.change(queue.held.sum(), 0);
    }
}
