//! The codec as users put it together.

use std::fmt;
use std::sync::Arc;

use everpulse_protocol::Coding;
use everpulse_protocol::coding::Layer;
use everpulse_protocol::payload::Format;

/// How values are written: a format, then what is done to its bytes, in the order in which it is said.
///
/// Whatever a codec writes, it reads what others wrote: both formats, compressed or not. Only what is sealed needs its key.
#[derive(Clone, Default)]
pub struct Codec {
    format: Format,
    layers: Vec<Arc<dyn Layer>>,
    only_sealed: bool,
}

impl Codec {
    /// MessagePack with field names, which is what holds without a codec.
    #[must_use]
    pub fn message_pack() -> Self {
        Self::default()
    }

    /// JSON, for readers that are not written in Rust. Bytes become lists of numbers in it, and maps need keys that are texts
    /// or numbers.
    #[must_use]
    pub fn json() -> Self {
        Self { format: Format::Json, ..Self::default() }
    }

    /// Compresses by LZ4 what is worth it. Say it before [`encrypt`](Self::encrypt): what is sealed has no patterns left.
    ///
    /// How long the compressed bytes are tells something of what is in them, also when they are sealed. Where somebody chooses
    /// a part of a value and can see how long the sealed whole is, do not compress.
    #[cfg(feature = "compression")]
    #[must_use]
    pub fn compress(self) -> Self {
        self.layer(crate::Compression::default())
    }

    /// Seals with AES-256-GCM, so that nobody reads or changes a value without the key: not the broker, not whoever has its
    /// disks or backups, not the cache on a worker's disk. The messages of failures are sealed with their values; what kind
    /// of failure it was can be read.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encrypt(self, keys: crate::Keys) -> Self {
        self.layer(keys)
    }

    /// Takes no value that was not sealed. Without this a process with keys reads plain values too, as an application that has
    /// just begun to encrypt must; but then who can write to the broker can also make values up. Say it on all workers and
    /// clients, when nothing is kept that was written in plain. It needs a layer that conceals.
    ///
    /// # Panics
    /// When there is none: nothing could be read.
    #[must_use]
    pub fn only_sealed(mut self) -> Self {
        assert!(self.layers.iter().any(|layer| layer.conceals()), "say `encrypt` before `only_sealed`");
        self.only_sealed = true;
        self
    }

    /// A layer of one's own.
    ///
    /// # Panics
    /// When its name has anything but letters, digits, `-` and `_`, or is that of a layer that is there.
    #[must_use]
    pub fn layer(mut self, layer: impl Layer + 'static) -> Self {
        let name = layer.name();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        assert!(
            !name.is_empty() && name.bytes().all(plain),
            "{name:?} cannot be a layer's name: use letters, digits, `-` and `_`"
        );
        assert!(self.layers.iter().all(|other| other.name() != name), "the layer `{name}` is there already");
        self.layers.push(Arc::new(layer));
        self
    }
}

impl From<Codec> for Coding {
    fn from(Codec { format, layers, only_sealed }: Codec) -> Self {
        #[cfg(feature = "compression")]
        let others: Vec<Arc<dyn Layer>> = vec![Arc::new(crate::Compression::default())];
        #[cfg(not(feature = "compression"))]
        let others = Vec::new();
        let coding = Self::new(format, layers, others);
        if only_sealed { coding.only_sealed() } else { coding }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({}", self.format.name())?;
        self.layers.iter().try_for_each(|layer| write!(f, "+{}", layer.name()))?;
        f.write_str(")")
    }
}
