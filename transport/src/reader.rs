//! Reads one topic or partition from a position of ours, without a durable subscription: as a stream, up to a
//! position, or up to the end. Gaps where the topic was trimmed are not seen here; whoever numbers what it writes
//! sees them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpulse_protocol::Position;
use pulsar::SubType;
use tokio::time::{Instant, timeout};

use crate::feed::{Feed, Spec, Start};
use crate::link::Link;
use crate::{Error, ErrorKind};

/// Frames are large, so few of them on the way fill the line.
const QUEUE: u32 = 200;
/// A read that hears nothing for this long asks again where the end is.
const SILENCE: Duration = Duration::from_secs(5);

/// One stored message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    pub position: Position,
    pub key: Option<String>,
    pub payload: Bytes,
    /// The publisher's clock.
    pub publish_time_ms: u64,
}

/// A part of what is to be read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Piece {
    pub entries: Vec<Entry>,
    /// There is no more.
    pub done: bool,
}

/// Gives the messages of one topic or partition in order, each once, for ever.
pub struct Reader {
    feed: Feed,
}

impl Reader {
    pub(crate) fn new(link: Arc<Link>, topic: String, after: Option<Position>) -> Self {
        Self::with_queue(link, topic, after, QUEUE)
    }

    pub(crate) fn with_queue(link: Arc<Link>, topic: String, after: Option<Position>, queue: u32) -> Self {
        Reader { feed: feed(link, topic, after.map_or(Start::Earliest, Start::After), queue) }
    }

    /// The next message, when there is one.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Entry {
        let incoming = self.feed.next().await;
        Entry {
            position: incoming.position,
            key: incoming.key,
            payload: incoming.payload,
            publish_time_ms: incoming.publish_time_ms,
        }
    }

    /// The position of the topic's last message, asked now; none when it holds none.
    ///
    /// # Errors
    /// When nobody answers within `limit`.
    pub async fn last_position(&mut self, limit: Duration) -> Result<Option<Position>, Error> {
        self.feed.last(Instant::now() + limit).await
    }

    /// Everything after the last message that was given, up to `to` or to the end as it is now, whichever comes
    /// first. A `to` that was trimmed, or never stood in this topic, does not make it wait.
    ///
    /// # Errors
    /// When nobody answers within `limit`; what was read until then is lost to the caller, so begin a new reader.
    pub async fn read_to(&mut self, to: Option<Position>, limit: Duration) -> Result<Vec<Entry>, Error> {
        Ok(self.read_piece(to, usize::MAX, limit).await?.entries)
    }

    /// The same, but it ends when it has read `bytes`, for what is longer than memory: call it until it is done. The
    /// limit is for the piece.
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to); a new reader behind the last message that was given goes on.
    pub async fn read_piece(&mut self, to: Option<Position>, bytes: usize, limit: Duration) -> Result<Piece, Error> {
        let until = Instant::now() + limit;
        let (mut entries, mut read) = (Vec::new(), 0);
        loop {
            let end = match (self.feed.last(until).await?, to) {
                (Some(last), Some(to)) => last.min(to),
                (Some(last), None) => last,
                (None, _) => return Ok(Piece { entries, done: true }),
            };
            loop {
                if self.feed.seen().is_some_and(|seen| seen >= end) {
                    return Ok(Piece { entries, done: true });
                }
                if read >= bytes {
                    return Ok(Piece { entries, done: false });
                }
                let Ok(entry) = timeout(SILENCE, self.next()).await else { break };
                // A message that came since the end was asked for; it is given as well.
                read += entry.payload.len();
                entries.push(entry);
            }
            if Instant::now() >= until {
                let message =
                    format!("reading {} up to {end}: it stopped at {:?}", self.feed.topic(), self.feed.seen());
                return Err(Error::new(ErrorKind::Unreachable, message));
            }
        }
    }
}

impl Reader {
    /// Leaves without waiting for more than two seconds.
    pub async fn close(self) {
        self.feed.close().await;
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("topic", &self.feed.topic()).field("seen", &self.feed.seen()).finish()
    }
}

pub(crate) fn feed(link: Arc<Link>, topic: String, start: Start, queue: u32) -> Feed {
    let spec = Spec {
        topic,
        // Each consumer gets one of its own.
        subscription: String::new(),
        kind: SubType::Exclusive,
        consumer_name: "everpulse-reader".to_owned(),
        queue,
        start,
    };
    Feed::new(link, spec)
}
