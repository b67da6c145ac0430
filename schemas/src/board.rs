//! Where an application's schemas are published: a topic that keeps all of them.

use std::time::{SystemTime, UNIX_EPOCH};

use everpulse_protocol::schema::{Kind, Published};
use everpulse_protocol::{Position, Timestamp, decode, encode, topic};
use everpulse_transport::{Error, ErrorKind, Message, Transport};

use crate::standing::{Refused, Standing};

/// The schemas of one application.
#[derive(Debug, Clone)]
pub struct Board {
    transport: Transport,
}

/// Why schemas were not published.
#[derive(Debug, thiserror::Error)]
pub enum NotPublished {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Transport(#[from] Error),
}

impl Board {
    /// Of the application of this connection.
    #[must_use]
    pub fn new(transport: Transport) -> Self {
        Self { transport }
    }

    /// What stands now.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn read(&self) -> Result<Standing, Error> {
        let mut standing = Standing::default();
        match self.read_on(&mut standing, None).await {
            // Nobody has published anything yet.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(standing),
            read => read.map(|_| standing),
        }
    }

    /// Publishes what is new, if all of it is compatible with what stands.
    ///
    /// # Errors
    /// The first that is not, and then nothing is published; or when the broker does not answer.
    pub async fn publish(&self, own: &[Published]) -> Result<(), NotPublished> {
        self.transport.set_up_schemas().await?;
        let (mut standing, mut read) = (Standing::default(), None);
        loop {
            read = self.read_on(&mut standing, read).await?;
            let new: Vec<Published> =
                own.iter().filter_map(|own| standing.addition(own).transpose()).collect::<Result<_, _>>()?;
            if new.is_empty() {
                return Ok(());
            }
            for published in new {
                self.send(&published).await?;
            }
            // If somebody else was faster, theirs stands and ours is compared with it: each turn one of us comes further.
        }
    }

    /// Lets anything be published in the place of what stands.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn forget(&self, kind: Kind, name: &str, version: Option<u32>) -> Result<(), Error> {
        self.transport.set_up_schemas().await?;
        let at = now();
        let name = name.to_owned();
        self.send(&Published {
            kind,
            name,
            version,
            at,
            build: None,
            takes: None,
            gives: None,
            fails: None,
            forgotten: true,
            follows: None,
        })
        .await
    }

    async fn send(&self, published: &Published) -> Result<(), Error> {
        let publisher = self.transport.publisher(topic::SCHEMAS, Default::default());
        publisher.publish_until_confirmed(Message::new(None, encode(published))).await.map(drop)
    }

    /// Reads behind a position, and says where that ended.
    async fn read_on(&self, standing: &mut Standing, after: Option<Position>) -> Result<Option<Position>, Error> {
        let Some(end) = self.transport.last_position(topic::SCHEMAS).await? else { return Ok(after) };
        if after.is_some_and(|after| after >= end) {
            return Ok(after);
        }
        let entries = self.transport.read(topic::SCHEMAS, after, Some(end)).await?;
        let last = entries.last().map(|entry| entry.position);
        for entry in entries {
            match decode::<Published>(&entry.payload) {
                Ok(published) => standing.take(published, entry.position),
                Err(error) => tracing::warn!(position = %entry.position, %error, "a schema cannot be read"),
            }
        }
        Ok(last.or(after))
    }
}

/// The time now. A clock before 1970 counts as 1970.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(0).after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
