//! Who wrote the records of a run, as the frames of its shard say.

use std::time::Duration;

use anyhow::{Result, bail};
use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::{RunId, topic};
use everpulse_transport::{Address, Options, Transport};

use crate::history::Writers;

/// How long history may be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// The frames of an application with one shard, whose history was never trimmed.
#[derive(Debug)]
pub struct Frames {
    transport: Transport,
}

impl Frames {
    /// # Errors
    /// When nobody can be connected to.
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self { transport: Transport::connect(&url.parse::<Address>()?, Options::default()).await? })
    }

    /// Who wrote which record of a run, of all frames that stand.
    ///
    /// # Errors
    /// When history cannot be read, or does not begin with its first frame.
    pub async fn writers(&self, run: RunId) -> Result<Writers> {
        let mut reader = self.transport.reader(&topic::partition(topic::HISTORY, 0), None);
        let (mut chain, mut writers) = (Chain::new(), Writers::new());
        let read = reader.read_to(None, PATIENCE).await;
        reader.close().await;
        for entry in read? {
            match chain.offer(entry.position, &entry.payload) {
                Offered::Stands(frame) => {
                    let of_run = frame.records.iter().filter(|record| record.run_id == run);
                    writers.extend(of_run.map(|record| (record.seq, frame.writer)));
                }
                Offered::Void(_) | Offered::Unreadable(_) => {}
                Offered::Unknown(unknown) => return Err(unknown.into()),
                Offered::Hole { number, expected } => bail!("frame {number} where {expected} is expected"),
            }
        }
        Ok(writers)
    }
}
