//! Which lanes are in use: who sends into one for the first time says so, and whoever takes tasks listens.
//!
//! ```text
//!   first task of a lane ─► its topic, its subscription ─► its name in `lanes`, confirmed ─► the task
//!                                                              │
//!   workers of its queue ◄── all of `lanes`, for ever ◄────────┘
//! ```
//! So a task is never where no worker looks. The topic is read from its beginning, and what is in it is not said again but
//! by those who do so at the same moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use everpulse_protocol::priority::{Lane, Opened};
use everpulse_protocol::{decode, encode, topic};
use everpulse_transport::{Entry, Error, Message, Transport};
use tokio::sync::{Mutex, watch};

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Directory {
    transport: Transport,
    /// Those that stand there; none before it was read.
    known: Arc<Mutex<Option<BTreeSet<Lane>>>>,
}

impl Directory {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, known: Arc::default() }
    }

    /// Says that a lane is in use. It stands there when this returns.
    ///
    /// # Errors
    /// When the broker does not answer, or the transport is closed.
    pub(crate) async fn announce(&self, lane: &Lane) -> Result<(), Error> {
        if lane.is_queue() {
            return Ok(());
        }
        let mut known = self.known.lock().await;
        let known = self.read(&mut known).await?;
        if !known.contains(lane) {
            let publisher = self.transport.publisher(topic::LANES, Default::default());
            let opened = Opened { lane: lane.to_string() };
            publisher.publish_until_confirmed(Message::new(None, encode(&opened))).await?;
            known.insert(lane.clone());
        }
        Ok(())
    }

    /// Those that are in use now, of all queues, or a little earlier.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(crate) async fn in_use(&self) -> Result<BTreeSet<Lane>, Error> {
        let mut known = self.known.lock().await;
        self.read(&mut known).await.cloned()
    }

    async fn read<'a>(&self, known: &'a mut Option<BTreeSet<Lane>>) -> Result<&'a mut BTreeSet<Lane>, Error> {
        if known.is_none() {
            // A worker of an earlier release may have set the application up.
            self.transport.set_up_lanes().await?;
            let entries = self.transport.read(topic::LANES, None, None).await?;
            *known = Some(entries.iter().filter_map(lane_of).collect());
        }
        Ok(known.get_or_insert_default())
    }

    /// The lanes of a queue but for the queue itself, as they come to be known.
    pub(crate) fn follow(&self, queue: &str) -> watch::Receiver<BTreeSet<Lane>> {
        let (lanes, followed) = watch::channel(BTreeSet::new());
        let (mut reader, queue) = (self.transport.reader(topic::LANES, None), queue.to_owned());
        tokio::spawn(async move {
            loop {
                let entry = tokio::select! {
                    entry = reader.next() => entry,
                    () = lanes.closed() => return reader.close().await,
                };
                if let Some(lane) = lane_of(&entry).filter(|lane| !lane.is_queue() && lane.queue == queue) {
                    lanes.send_if_modified(|lanes| lanes.insert(lane));
                }
            }
        });
        followed
    }
}

fn lane_of(entry: &Entry) -> Option<Lane> {
    let lane = match decode::<Opened>(&entry.payload) {
        Ok(opened) => opened.lane.parse().map_err(|error| format!("{error}")),
        Err(error) => Err(error.to_string()),
    };
    // Those of a later release are for its workers.
    lane.inspect_err(|error| tracing::warn!(position = %entry.position, error, "the name of a lane cannot be read"))
        .ok()
}
