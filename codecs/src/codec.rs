//! The codec as users put it together.

use std::fmt;
use std::sync::Arc;

use everpulse_protocol::Coding;
use everpulse_protocol::coding::{LAYERS_MAX, Layer};
use everpulse_protocol::payload::Format;

/// How values are written: a format, then what is done to its bytes, in the order in which it is said.
///
/// Whatever a codec writes, it reads what others wrote: both formats, compressed or not. Only what is sealed needs its key.
#[derive(Clone, Default)]
pub struct Codec {
    format: Format,
    layers: Vec<Arc<dyn Layer>>,
    /// They open, and change nothing that is written.
    openers: Vec<Arc<dyn Layer>>,
    only_sealed: bool,
}

impl Codec {
    /// MessagePack with field names, which is what holds without a codec.
    #[must_use]
    pub fn message_pack() -> Self {
        Self::default()
    }

    /// JSON, for readers that are not written in Rust. Bytes become lists of numbers in it, and NaN, infinities and
    /// `Some(None)` become `null`. A value with maps whose keys are neither texts nor numbers stays MessagePack.
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

    /// Opens what was sealed with these keys, and seals nothing: what every process needs before the first one may
    /// [`encrypt`](Self::encrypt).
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn open_with(mut self, keys: crate::Keys) -> Self {
        self.openers.push(Arc::new(keys));
        self
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
        assert!(self.layers.len() < LAYERS_MAX, "no value goes through more than {LAYERS_MAX} layers");
        assert!(self.layers.iter().all(|other| other.name() != name), "the layer `{name}` is there already");
        self.layers.push(Arc::new(layer));
        self
    }
}

impl From<Codec> for Coding {
    fn from(Codec { format, layers, openers, only_sealed }: Codec) -> Self {
        #[cfg_attr(not(feature = "compression"), expect(unused_mut, reason = "nothing is added"))]
        let mut others = openers;
        #[cfg(feature = "compression")]
        others.push(Arc::new(crate::Compression::default()));
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
