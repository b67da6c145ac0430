//! What waits to be written to one connection, and how much of what it sent is still unanswered.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::semantics::{Position, Source};
use crate::wire::Response;

/// A connection whose client has so many bytes of messages without an answer is not read.
const UNANSWERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection whose client does not take its answers is not read either.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A connection for which so many messages wait gets no more until they are written.
const QUEUED_MESSAGES_MAX: usize = 4 * 1024;

#[derive(Debug, Default)]
pub struct Outbound {
    queue: Mutex<Queue>,
    filled: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Out>,
    /// Encoded bytes and payloads that are kept in memory for it.
    bytes: usize,
    unanswered: usize,
    /// Its client does not take its messages; it gets none until they are written.
    congested: bool,
    /// Close when all is written.
    finished: bool,
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
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
            queue.bytes += more;
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// False if it is a message that is kept nowhere else and there is no room for it.
    pub fn deliver(&self, message: OutMessage) -> bool {
        let mut queue = self.queue();
        if let Source::Inline(payload) = &message.source {
            if queue.bytes > QUEUED_BYTES_MAX {
                return false;
            }
            queue.bytes += payload.len();
        }
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
        self.queue().unanswered += bytes;
    }

    pub fn answered(&self, bytes: usize) {
        let mut queue = self.queue();
        let was_full = queue.unanswered > UNANSWERED_BYTES_MAX;
        queue.unanswered = queue.unanswered.saturating_sub(bytes);
        let room = was_full && queue.unanswered <= UNANSWERED_BYTES_MAX;
        drop(queue);
        if room {
            self.room.notify_one();
        }
    }

    /// Nothing more comes; the connection ends when all is written.
    pub fn finish(&self) {
        self.queue().finished = true;
        self.filled.notify_one();
    }

    /// Waits until the client has few enough unanswered messages and untaken answers.
    ///
    /// # Cancel safety
    /// Can be dropped at any time.
    pub async fn room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }

    fn has_room(&self) -> bool {
        let queue = self.queue();
        queue.unanswered <= UNANSWERED_BYTES_MAX && queue.bytes <= QUEUED_BYTES_MAX && !queue.finished
    }

    /// Waits for something to write; `None` when nothing more comes.
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
    fn try_take(&self) -> Option<VecDeque<Out>> {
        let mut queue = self.queue();
        if queue.items.is_empty() && queue.finished {
            return None;
        }
        let was_full = queue.bytes > QUEUED_BYTES_MAX;
        queue.bytes = 0;
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        if was_full {
            self.room.notify_one();
        }
        Some(items)
    }
}
