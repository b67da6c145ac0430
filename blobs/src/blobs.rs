//! Which stores a process uses, as users say it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use everpulse_protocol::topic;
use everpulse_transport::Transport;

use crate::broker::BrokerStore;
use crate::directory::Directory;
use crate::store::BlobStore;
use crate::stores::Stores;

/// What is no longer than this stays where it is, unless [`Blobs::above`] says otherwise.
const ABOVE: usize = 256 * 1024;
/// More would not fit beside other things into what stands for itself.
const ABOVE_MAX: usize = 2 * 1024 * 1024;
/// What is longer than this is refused, as it is without a store, unless [`Blobs::up_to`] says otherwise.
const UP_TO: usize = 64 * 1024 * 1024;

/// Where large values lie: one store for new ones, and others from which they are read.
///
/// A store has a name, which stands in what refers to it: say the same on all workers and clients.
#[derive(Debug, Clone)]
pub struct Blobs {
    stores: Vec<(String, Source)>,
    above: Option<usize>,
    up_to: usize,
}

#[derive(Clone)]
enum Source {
    Directory(Directory),
    Store(Arc<dyn BlobStore>),
    Broker,
}

impl Blobs {
    /// In files of a directory that all workers and clients share. It has to be [created](Self::create) once.
    ///
    /// # Panics
    /// As [`in_store`](Self::in_store).
    #[must_use]
    pub fn in_directory(name: &str, dir: impl Into<PathBuf>) -> Self {
        Self::of(name, Source::Directory(Directory::new(dir)))
    }

    /// In a topic of the broker that the application uses, in pieces.
    ///
    /// # Panics
    /// As [`in_store`](Self::in_store).
    #[must_use]
    pub fn on_broker(name: &str) -> Self {
        Self::of(name, Source::Broker)
    }

    /// In a store of your own.
    ///
    /// # Panics
    /// When the name has anything but letters, digits, `-` and `_`, or more than 64 of them.
    #[must_use]
    pub fn in_store(name: &str, store: impl BlobStore) -> Self {
        Self::of(name, Source::Store(Arc::new(store)))
    }

    fn of(name: &str, source: Source) -> Self {
        assert!(topic::is_queue_name(name), "{name:?} cannot be a store's name: use letters, digits, `-` and `_`");
        Self { stores: vec![(name.to_owned(), source)], above: None, up_to: UP_TO }
    }

    /// Makes the directories that it lies in, where they are not there yet: once for an application, by whoever sets it up. No
    /// worker or client does it by itself: where a share is not mounted, they would keep what others do not find.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(self) -> std::io::Result<Self> {
        for (_, source) in &self.stores {
            if let Source::Directory(directory) = source {
                directory.create()?;
            }
        }
        Ok(self)
    }

    /// Reads from these stores as well, and puts nothing there: to change stores while runs are open.
    ///
    /// # Panics
    /// When one of them has a name that is taken.
    #[must_use]
    pub fn also(mut self, others: Self) -> Self {
        for (name, source) in others.stores {
            assert!(self.stores.iter().all(|(taken, _)| *taken != name), "the store `{name}` is there already");
            self.stores.push((name, source));
        }
        self
    }

    /// Values that take more bytes than this are put into the store, 256 KiB by default; counted when they are compressed and
    /// sealed. What stands for a value takes about a hundred bytes itself.
    ///
    /// # Panics
    /// When it is more than 2 MiB, for which messages have no room; or more than [`up_to`](Self::up_to).
    #[must_use]
    pub fn above(mut self, bytes: usize) -> Self {
        assert!(bytes <= ABOVE_MAX, "what has {bytes} bytes has to be put out: say {ABOVE_MAX} at most");
        self.above = Some(bytes);
        self.checked()
    }

    /// Values that take more bytes than this are refused, 64 MiB by default. Each is in memory as a whole, more than once
    /// where it is sealed.
    ///
    /// # Panics
    /// When it is less than what was said to stay [where it is](Self::above).
    #[must_use]
    pub fn up_to(mut self, bytes: usize) -> Self {
        self.up_to = bytes;
        self.checked()
    }

    fn checked(self) -> Self {
        let (above, up_to) = (self.above.unwrap_or_default(), self.up_to);
        assert!(above <= up_to, "what is put out has more than {above} bytes, and no value has more than {up_to}");
        self
    }

    /// The stores, for a process on this connection.
    #[must_use]
    pub fn open(&self, transport: &Transport) -> Stores {
        let open = |(name, source): &(String, Source)| {
            let store: Arc<dyn BlobStore> = match source {
                Source::Directory(directory) => Arc::new(directory.clone()),
                Source::Store(store) => Arc::clone(store),
                Source::Broker => Arc::new(BrokerStore::new(transport.clone(), name)),
            };
            (name.clone(), store)
        };
        Stores::new(self.stores.iter().map(open).collect(), self.above.unwrap_or(ABOVE.min(self.up_to)), self.up_to)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => directory.fmt(f),
            Self::Store(store) => store.fmt(f),
            Self::Broker => f.write_str("Broker"),
        }
    }
}
