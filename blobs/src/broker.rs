//! Blobs as messages of a topic: nothing to operate but the broker that is there.
//!
//! ```text
//! blobs.STORE    … │ piece 0 of 3 │ piece 1 of 3 │ another's │ piece 2 of 3 │ …
//!                ▲ from                                          ▲ to          Reference.at = "from/to"
//! ```
//! A blob is found by where the topic ended before its first piece was sent and after its last one was confirmed. A receipt
//! is not trusted with it: a message that was sent again after a reconnect may come with the place of another one. What
//! lies between that is not of this blob is passed over, and pieces that stand twice count once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use everpulse_protocol::blob::{Piece, Reference};
use everpulse_protocol::{Position, Timestamp, decode, encode, topic};
use everpulse_transport::{Error, Message, Publisher, Transport};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use crate::calls::lock;
use crate::store::{BlobStore, Collected, StoreError};

/// A message of this size fits with every default, and some of them are in flight at once.
const PIECE_BYTES: usize = 1024 * 1024;
const IN_FLIGHT: usize = 4;
const PIECES_READ: u32 = 8;
/// What a put that ended early has confirmed counts for the next one of the same blob, for so long.
const BEGUN: Duration = Duration::from_secs(600);
/// How long a broker may take for a part of an answer.
const ANSWER: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 8 * 1024 * 1024;

/// A topic of the application's namespace.
#[derive(Debug)]
pub struct BrokerStore {
    transport: Transport,
    name: String,
    topic: String,
    publisher: OnceCell<Publisher>,
    begun: Mutex<HashMap<[u8; 32], Arc<Begun>>>,
}

/// A put that has not ended.
#[derive(Debug)]
struct Begun {
    /// Where the topic ended before it.
    from: Option<Position>,
    since: Instant,
    confirmed: Mutex<BTreeSet<u32>>,
}

impl BrokerStore {
    /// The store of that name. Its topic is made when the first blob is put.
    #[must_use]
    pub fn new(transport: Transport, name: &str) -> Self {
        Self {
            transport,
            name: name.to_owned(),
            topic: topic::blobs(name),
            publisher: OnceCell::new(),
            begun: Mutex::default(),
        }
    }

    async fn publisher(&self) -> Result<&Publisher, Error> {
        self.publisher
            .get_or_try_init(|| async {
                self.transport.set_up_blobs(&self.name).await?;
                Ok(self.transport.publisher(&self.topic, Default::default()))
            })
            .await
    }

    async fn write(&self, blob: &Reference, data: Bytes) -> Result<String, Error> {
        let publisher = self.publisher().await?;
        let known = {
            let mut begun = lock(&self.begun);
            begun.retain(|_, begun| begun.since.elapsed() < BEGUN);
            begun.get(&blob.hash).cloned()
        };
        let begun = match known {
            Some(known) => known,
            None => {
                let from = self.transport.last_position_once(&self.topic).await?;
                let begun = Arc::new(Begun { from, since: Instant::now(), confirmed: Mutex::default() });
                Arc::clone(lock(&self.begun).entry(blob.hash).or_insert(begun))
            }
        };
        let at = Timestamp(0).after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let of = u32::try_from(data.len().div_ceil(PIECE_BYTES).max(1)).unwrap_or(u32::MAX);
        let left: Vec<u32> = {
            let confirmed = lock(&begun.confirmed);
            (0..of).filter(|no| !confirmed.contains(no)).collect()
        };
        let begun = &*begun;
        let pieces = left.into_iter().map(|no| {
            let begin = (no as usize * PIECE_BYTES).min(data.len());
            let end = (begin + PIECE_BYTES).min(data.len());
            let piece = Piece { hash: blob.hash, no, of, at, data: data.slice(begin..end) };
            let sent = publisher.publish_until_confirmed(Message::new(None, encode(&piece)));
            async move {
                sent.await?;
                lock(&begun.confirmed).insert(no);
                Ok(())
            }
        });
        stream::iter(pieces).buffer_unordered(IN_FLIGHT).try_for_each(|()| async { Ok(()) }).await?;
        let to = self.transport.last_position_once(&self.topic).await?;
        lock(&self.begun).remove(&blob.hash);
        Ok(format!("{}/{}", Place(begun.from), Place(to)))
    }

    async fn read(&self, blob: &Reference) -> Result<Bytes, StoreError> {
        let Some((from, to)) = blob.at.as_deref().and_then(range) else {
            let reason = "what names it does not say where on the broker: it was put into a store of another kind";
            return Err(StoreError::unavailable(reason));
        };
        let mut reader = self.transport.reader_with_queue(&self.topic, from, PIECES_READ);
        let mut pieces = Pieces::default();
        let read = loop {
            let piece = match reader.read_piece(Some(to), READ_BYTES, ANSWER).await {
                Ok(piece) => piece,
                Err(error) => break Err(StoreError::unavailable(error)),
            };
            let found = piece.entries.iter().filter(|entry| entry.position <= to);
            for piece in found.filter_map(|entry| decode::<Piece>(&entry.payload).ok()) {
                pieces.take(blob, piece);
            }
            if let Some(whole) = pieces.whole(blob) {
                break Ok(whole);
            }
            if piece.done {
                // Trimmed, or never there.
                break Err(StoreError::Missing);
            }
        };
        reader.close().await;
        read
    }

    async fn skip(&self, before: SystemTime) -> Result<Collected, Error> {
        let before = Timestamp(0).after(before.duration_since(UNIX_EPOCH).unwrap_or_default());
        let mut collected = Collected::default();
        self.transport.set_up_blobs(&self.name).await?;
        let Some(end) = self.transport.last_position_once(&self.topic).await? else { return Ok(collected) };
        let mut reader = self.transport.reader_with_queue(&self.topic, None, PIECES_READ);
        let mut upto = None;
        let read = 'all: loop {
            let piece = match reader.read_piece(Some(end), READ_BYTES, ANSWER).await {
                Ok(piece) => piece,
                Err(error) => break Err(error),
            };
            for entry in piece.entries {
                match decode::<Piece>(&entry.payload) {
                    // Everything from here on stays, so that what is needed is not cut off with what is older.
                    Ok(piece) if piece.at >= before => break 'all Ok(()),
                    Ok(piece) if piece.no == 0 => collected.add(piece.data.len() as u64),
                    Ok(piece) => collected.bytes += piece.data.len() as u64,
                    Err(_) => {}
                }
                upto = Some(entry.position);
            }
            if piece.done {
                break Ok(());
            }
        };
        reader.close().await;
        read?;
        if let Some(upto) = upto {
            self.transport.skip_to(&self.topic, topic::KEEPER, upto).await?;
        }
        Ok(collected)
    }
}

impl BlobStore for BrokerStore {
    fn put<'a>(&'a self, blob: &'a Reference, data: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        async move { self.write(blob, data).await.map(Some).map_err(StoreError::unavailable) }.boxed()
    }

    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.read(blob).boxed()
    }

    /// A topic forgets from its beginning alone: see [`collect`](BlobStore::collect).
    fn delete<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        async { Ok(false) }.boxed()
    }

    /// What goes is not kept by us any more; the broker may keep it for the namespace's retention.
    fn collect(&self, before: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        async move { self.skip(before).await.map_err(StoreError::unavailable) }.boxed()
    }
}

/// What was found of a blob.
#[derive(Default)]
struct Pieces {
    /// By how many there are, as a later release may cut in another way.
    found: BTreeMap<u32, BTreeMap<u32, Bytes>>,
}

impl Pieces {
    fn take(&mut self, blob: &Reference, piece: Piece) {
        if piece.hash == blob.hash && piece.no < piece.of {
            self.found.entry(piece.of).or_default().insert(piece.no, piece.data);
        }
    }

    /// Whoever may write there can write what looks like a piece: what is no blob of that name is none.
    fn whole(&mut self, blob: &Reference) -> Option<Bytes> {
        let full = |(of, pieces): &(&u32, &BTreeMap<u32, Bytes>)| pieces.len() == **of as usize;
        let full: Vec<u32> = self.found.iter().filter(full).map(|(of, _)| *of).collect();
        full.into_iter().find_map(|of| {
            let pieces = self.found.remove(&of)?;
            let mut whole = BytesMut::with_capacity(pieces.values().map(Bytes::len).sum());
            pieces.values().for_each(|piece| whole.extend_from_slice(piece));
            Some(whole.freeze()).filter(|whole| blob.is_to(whole))
        })
    }
}

/// As it stands in a reference; nothing for the beginning of a topic.
struct Place(Option<Position>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |position| position.fmt(f))
    }
}

fn range(at: &str) -> Option<(Option<Position>, Position)> {
    let (from, to) = at.split_once('/')?;
    let position = |text: &str| {
        let (ledger, entry) = text.split_once(':')?;
        Some(Position { ledger: ledger.parse().ok()?, entry: entry.parse().ok()? })
    };
    let from = if from.is_empty() { None } else { Some(position(from)?) };
    Some((from, position(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_blob_lies_can_be_read_again() {
        let position = |ledger, entry| Position { ledger, entry };
        for (from, to) in [(None, position(3, 0)), (Some(position(3, 7)), position(4, 0))] {
            assert_eq!(range(&format!("{}/{}", Place(from), Place(Some(to)))), Some((from, to)));
        }
        for damaged in ["", "/", "1:2", "1:2/", "a:b/1:2", "1:2/3"] {
            assert_eq!(range(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_piece_that_anybody_could_have_written_hides_no_blob() {
        let whole = Bytes::from_static(b"green tea");
        let blob = Reference::to(&whole);
        let piece = |no, of, data| Piece { hash: blob.hash, no, of, at: Timestamp(0), data };
        let mut pieces = Pieces::default();
        pieces.take(&blob, piece(0, 1, Bytes::from_static(b"black tea")));
        assert_eq!(pieces.whole(&blob), None);
        pieces.take(&blob, piece(0, 2, whole.slice(..6)));
        pieces.take(&blob, piece(1, 2, whole.slice(6..)));
        assert_eq!(pieces.whole(&blob), Some(whole.clone()));
    }
}
