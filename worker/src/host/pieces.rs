//! Reads a part of a topic that may be longer than memory. What becomes of its messages is the caller's.

use std::time::Duration;

use everpulse_protocol::Position;
use everpulse_transport::{Piece, Reader, Transport};

use super::carrier::RETRY;

/// About so many bytes of a topic are read at once, and twice as many are in memory.
const PIECE_BYTES: usize = 1024 * 1024;
/// How long one piece may take.
const PIECE_LIMIT: Duration = Duration::from_secs(30);

/// A part of a topic, read piece by piece, however long that takes.
pub(super) struct Pieces {
    transport: Transport,
    topic: String,
    after: Option<Position>,
    to: Position,
    reader: Option<Reader>,
}

impl Pieces {
    pub fn new(transport: Transport, topic: String, after: Option<Position>, to: Position) -> Self {
        Self { transport, topic, after, to, reader: None }
    }

    /// The next piece, tried until it is there.
    pub async fn next(&mut self) -> Piece {
        loop {
            let reader = self.reader.get_or_insert_with(|| self.transport.reader(&self.topic, self.after));
            match reader.read_piece(Some(self.to), PIECE_BYTES, PIECE_LIMIT).await {
                Ok(piece) => {
                    self.after = piece.entries.last().map(|entry| entry.position).or(self.after);
                    return piece;
                }
                Err(error) => tracing::warn!(topic = self.topic, %error, "reading a topic failed; it is tried again"),
            }
            self.close().await;
            tokio::time::sleep(RETRY).await;
        }
    }

    pub async fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.close().await;
        }
    }
}
