//! What becomes of values on their way to the broker and back: a format, and layers over it that compress and seal.
//!
//! ```text
//!   a value of Rust ── format ──► bytes ── layer ──► bytes ── layer ──► Payload { encoding: "json+lz4+aes256gcm:k2" }
//! ```
//! A payload names what was done to it, so it can be opened whatever is done to new ones. The layers themselves are
//! another crate's, or the user's: here is only the order in which they are asked, and what is asked of them. What holds
//! values says so by [`Values`], in one place.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Parked, ParkedKind};
use crate::payload::{Format, MSGPACK};
use crate::values::{Value, Values, each_payload};
use crate::view::PendingStep;
use crate::{Failure, Payload, WorkflowId};

/// No payload has more layers.
pub const LAYERS_MAX: usize = 8;
/// What stands where the words of a failure were, once they are sealed.
pub const SEALED_WORDS: &str = "(sealed: it is shown to whoever has the key)";

/// What the encoding of sealed words begins with: they are MessagePack, and no value of the author's.
const WORDS: &str = "words";

/// Whether it is what a failure or a reason says, as one.
pub(crate) fn is_words(payload: &Payload) -> bool {
    payload.encoding.split('+').next() == Some(WORDS)
}

/// Where a value belongs, which stays the same for as long as the value is kept.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Place<'a> {
    pub workflow_id: &'a WorkflowId,
    /// What was done to the value before: its format, and the layers beneath.
    pub beneath: &'a str,
    /// The same when the same value is wrapped once more, where that can be said: a layer whose work takes long finds it
    /// done then, also where the value was sealed anew.
    pub again: Option<[u8; 32]>,
}

impl<'a> Place<'a> {
    /// A value of a workflow id, to which so much was done before.
    #[must_use]
    pub fn new(workflow_id: &'a WorkflowId, beneath: &'a str) -> Self {
        Self { workflow_id, beneath, again: None }
    }
}

/// What a layer made of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrapped {
    /// They are better left as they are: nothing is said of this layer.
    Unchanged(Bytes),
    /// Others, which the layer turns back by this label.
    Changed { label: Option<String>, data: Bytes },
}

/// Something that is done to the bytes of values, and undone.
///
/// ```
/// use bytes::Bytes;
/// use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
///
/// /// Not for secrets.
/// #[derive(Debug)]
/// struct Rot;
///
/// impl Layer for Rot {
///     fn name(&self) -> &'static str {
///         "rot128"
///     }
///     fn wrap(&self, data: Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
///         Ok(Wrapped::Changed { label: None, data: data.iter().map(|byte| byte ^ 0x80).collect() })
///     }
///     fn unwrap(&self, data: Bytes, _: Option<&str>, _: Place<'_>) -> Result<Bytes, LayerError> {
///         Ok(data.iter().map(|byte| byte ^ 0x80).collect())
///     }
/// }
/// ```
///
/// # Determinism
/// A replayed run wraps its values again, and nobody compares the bytes: [`wrap`](Self::wrap) may draw random ones.
/// [`unwrap`](Self::unwrap) must always come to the same.
pub trait Layer: fmt::Debug + Send + Sync {
    /// What it is called in encodings: letters and digits, no `+` and no `:`.
    fn name(&self) -> &'static str;

    /// Makes of the bytes what the layers above it, and the broker, see.
    ///
    /// # Errors
    /// When it cannot; the message must not say what the bytes are.
    fn wrap(&self, data: Bytes, place: Place<'_>) -> Result<Wrapped, LayerError>;

    /// Makes the bytes again that were wrapped.
    ///
    /// # Errors
    /// When the bytes are not what it made, or belong to another place, or it lacks a key.
    fn unwrap(&self, data: Bytes, label: Option<&str>, place: Place<'_>) -> Result<Bytes, LayerError>;

    /// Whether nobody but its like can read what it made. Then the words of failures go through it as well.
    fn conceals(&self) -> bool {
        false
    }
}

/// Why a layer could not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// It needs the key of that name, which is not here; elsewhere it may be.
    #[error("the key `{key}` is not here")]
    NoKey { key: String },
    /// It needs the store of that name, which this process does not have; elsewhere it may be.
    #[error("it lies in the store `{store}`, which is not here")]
    NoStore { store: String },
    /// What it needs is not to be had now; later or elsewhere it may be.
    #[error("{reason}")]
    Away { reason: String },
    #[error("{reason}")]
    Failed { reason: String },
}

impl LayerError {
    /// For what may be had later, or elsewhere.
    pub fn away(reason: impl Into<String>) -> Self {
        Self::Away { reason: reason.into() }
    }

    /// For whatever is no missing key.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }
}

/// Why a value could not be wrapped or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    #[error(
        "a value needs the layer `{layer}` with key `{key}`, which this process does not have: give it to its codec"
    )]
    NoKey { layer: String, key: String },
    #[error("a value went through the layer `{layer}`, which this process does not have: give it to its codec")]
    NoLayer { layer: String },
    #[error("a value lies in the store `{store}`, which this process does not have: give it to its blobs")]
    NoStore { store: String },
    #[error("a value is not to be had by `{layer}` now: {reason}")]
    Away { layer: String, reason: String },
    #[error("a value cannot be opened by `{layer}`: {reason}")]
    Broken { layer: String, reason: String },
    #[error("a value is not sealed, and only sealed ones are taken here: was it written by somebody without a key?")]
    Plain,
    #[error("a value cannot be wrapped by `{layer}`: {reason}")]
    Refused { layer: String, reason: String },
}

impl CodingError {
    /// What is said of a layer of an encoding that nobody here knows.
    #[must_use]
    pub fn missing(layer: &str) -> Self {
        match layer.split_once(':') {
            Some((crate::blob::LAYER, store)) => Self::NoStore { store: store.to_owned() },
            Some((layer, key)) => Self::NoKey { layer: layer.to_owned(), key: key.to_owned() },
            None => Self::NoLayer { layer: layer.to_owned() },
        }
    }

    /// The key that is not here, if that is what it came to.
    #[must_use]
    pub fn missing_key(&self) -> Option<&str> {
        match self {
            Self::NoKey { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Whether another process may be able to do it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoKey { .. } | Self::NoLayer { .. } | Self::NoStore { .. } | Self::Away { .. })
    }

    /// What a layer could not do, as a reader of values is told it.
    #[must_use]
    pub fn of_layer(layer: &str, error: LayerError) -> Self {
        let layer = layer.to_owned();
        match error {
            LayerError::NoKey { key } => Self::NoKey { layer, key },
            LayerError::NoStore { store } => Self::NoStore { store },
            LayerError::Away { reason } => Self::Away { layer, reason },
            LayerError::Failed { reason } => Self::Broken { layer, reason },
        }
    }
}

/// How the values of an application are written, and read.
///
/// The default is MessagePack and nothing over it. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Coding {
    format: Format,
    /// In the order in which a value goes through them.
    layers: Arc<[Arc<dyn Layer>]>,
    /// Those that only open what was wrapped elsewhere or before.
    others: Arc<[Arc<dyn Layer>]>,
    /// Keeps what is large elsewhere.
    blobs: Option<Arc<dyn Layer>>,
    only_sealed: bool,
}

impl Coding {
    /// Values go through `layers` in their order; `others` open what they are asked to.
    #[must_use]
    pub fn new(format: Format, layers: Vec<Arc<dyn Layer>>, others: Vec<Arc<dyn Layer>>) -> Self {
        Self { format, layers: layers.into(), others: others.into(), blobs: None, only_sealed: false }
    }

    /// The same, which opens no value that went through no layer that conceals.
    #[must_use]
    pub fn only_sealed(self) -> Self {
        Self { only_sealed: true, ..self }
    }

    /// The same, which finds values that lie in a store, and [puts](Self::put_away) there what is large.
    #[must_use]
    pub fn with_blobs(self, blobs: Arc<dyn Layer>) -> Self {
        Self { blobs: Some(blobs), ..self }
    }

    /// What new values are written as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether nobody without a key reads what is written.
    #[must_use]
    pub fn conceals(&self) -> bool {
        self.layers.iter().any(|layer| layer.conceals())
    }

    /// Takes all that is in it through the layers. What went through layers before stays as it is.
    ///
    /// # Errors
    /// When a layer refuses; what was taken through them before it stays so.
    pub fn seal<T: Values + ?Sized>(&self, workflow_id: &WorkflowId, values: &mut T) -> Result<(), CodingError> {
        if self.layers.is_empty() {
            return Ok(());
        }
        values.each(&mut |value| match value {
            Value::Payload(payload) => self.wrap(workflow_id, payload),
            Value::Failure(failure) => self.seal_failure(workflow_id, failure),
            Value::Parked(parked) => self.seal_parked(workflow_id, parked),
            // It is made of failures, which are sealed.
            Value::Pending(_) => Ok(()),
            Value::Of(workflow_id, values) => self.seal(&workflow_id, values),
        })
    }

    /// Whether there is a store for what is large.
    #[must_use]
    pub fn has_blobs(&self) -> bool {
        self.blobs.is_some()
    }

    /// Puts what is large in it into the store, if there is one. To be called when it is sealed and about to leave, and not
    /// for what a replay seals anew: the store would keep each time's bytes. `again`: what stays the same when it is tried
    /// once more, with what was sealed anew.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn put_away<T: Values + ?Sized>(
        &self,
        workflow_id: &WorkflowId,
        values: &mut T,
        mut again: Option<[u8; 32]>,
    ) -> Result<(), CodingError> {
        let Some(blobs) = &self.blobs else { return Ok(()) };
        each_payload(values, &mut |payload| {
            if payload.store().is_none() {
                payload.data = wrap_by(&**blobs, workflow_id, &mut payload.encoding, payload.data.clone(), again)?;
            }
            // The next one is another.
            again = again.map(|again| crate::blob::Reference::to(&again).hash);
            Ok(())
        })
    }

    /// Opens all that is in it.
    ///
    /// # Errors
    /// The first value that cannot be opened; those before it are.
    pub fn open<T: Values + ?Sized>(&self, workflow_id: &WorkflowId, values: &mut T) -> Result<(), CodingError> {
        values.each(&mut |value| match value {
            Value::Payload(payload) => self.unwrap(workflow_id, payload),
            Value::Failure(failure) => self.open_failure(workflow_id, failure),
            Value::Parked(Parked { message, sealed, .. }) => self.open_words(workflow_id, message, sealed),
            Value::Pending(PendingStep { last_error, sealed_error, .. }) => {
                let Some(text) = last_error else { return Ok(()) };
                let Some(said) = self.said(workflow_id, sealed_error.as_ref())? else { return Ok(()) };
                *text = said.to_string();
                *sealed_error = None;
                Ok(())
            }
            Value::Of(workflow_id, values) => self.open(&workflow_id, values),
        })
    }

    /// Opens what can be opened here, and leaves the rest sealed: for whoever looks at more than the values.
    pub fn open_what_can_be<T: Values + ?Sized>(&self, workflow_id: &WorkflowId, values: &mut T) {
        let opened = values.each(&mut |mut value| {
            // A value that stays as it was says by its encoding what it needs.
            let _ = self.open(workflow_id, &mut value);
            Ok(())
        });
        debug_assert!(opened.is_ok());
    }

    fn wrap(&self, workflow_id: &WorkflowId, payload: &mut Payload) -> Result<(), CodingError> {
        if payload.encoding.contains('+') {
            return Ok(());
        }
        let Payload { mut encoding, mut data } = payload.clone();
        for layer in self.layers.iter() {
            data = wrap_by(&**layer, workflow_id, &mut encoding, data, None)?;
        }
        *payload = Payload { encoding, data };
        Ok(())
    }

    fn unwrap(&self, workflow_id: &WorkflowId, payload: &mut Payload) -> Result<(), CodingError> {
        if !self.only_sealed && !payload.encoding.contains('+') {
            return Ok(());
        }
        let Payload { mut encoding, mut data } = payload.clone();
        let mut was_sealed = !self.only_sealed;
        let (mut opened, mut was_fetched) = (0, false);
        while let Some((beneath, named)) = encoding.rsplit_once('+') {
            let (name, label) = named.split_once(':').map_or((named, None), |(name, label)| (name, Some(label)));
            let blobs = self.blobs.as_ref().filter(|blobs| blobs.name() == name);
            // Beside its layers, a value may lie elsewhere, once.
            let is_beyond = if blobs.is_some() {
                std::mem::replace(&mut was_fetched, true)
            } else {
                opened += 1;
                opened > LAYERS_MAX
            };
            if is_beyond {
                let reason = format!("it went through more than {LAYERS_MAX}");
                return Err(CodingError::Broken { layer: "all layers".to_owned(), reason });
            }
            let layer = self.layers.iter().chain(self.others.iter()).chain(blobs).find(|layer| layer.name() == name);
            let layer = layer.ok_or_else(|| CodingError::missing(named))?;
            was_sealed |= layer.conceals();
            let unwrapped = layer.unwrap(data, label, Place::new(workflow_id, beneath));
            data = unwrapped.map_err(|error| CodingError::of_layer(name, error))?;
            encoding.truncate(beneath.len());
        }
        if !was_sealed {
            return Err(CodingError::Plain);
        }
        *payload = Payload { encoding, data };
        Ok(())
    }

    fn seal_failure(&self, workflow_id: &WorkflowId, failure: &mut Failure) -> Result<(), CodingError> {
        if failure.sealed().is_some() {
            return Ok(());
        }
        if !self.conceals() {
            return failure.value.as_mut().map_or(Ok(()), |value| self.wrap(workflow_id, value));
        }
        let said =
            Said { message: failure.message.clone(), chain: failure.chain.clone(), value: failure.value.clone() };
        failure.value = Some(self.concealed(workflow_id, &said)?);
        SEALED_WORDS.clone_into(&mut failure.message);
        failure.chain.clear();
        Ok(())
    }

    fn open_failure(&self, workflow_id: &WorkflowId, failure: &mut Failure) -> Result<(), CodingError> {
        match self.said(workflow_id, failure.sealed())? {
            // The value was sealed with the words, and is open with them.
            Some(Said { message, chain, value }) => {
                (failure.message, failure.chain, failure.value) = (message, chain, value);
                Ok(())
            }
            None => failure.value.as_mut().map_or(Ok(()), |value| self.unwrap(workflow_id, value)),
        }
    }

    fn seal_parked(&self, workflow_id: &WorkflowId, parked: &mut Parked) -> Result<(), CodingError> {
        let authors = match parked.kind {
            // A panic says what its author likes, and what differs between two replays may be a panic.
            ParkedKind::Panicked | ParkedKind::Diverged => true,
            // Names and numbers, for whoever is to mend it.
            ParkedKind::Stuck
            | ParkedKind::NoCode
            | ParkedKind::UnknownKind
            | ParkedKind::Poisonous
            | ParkedKind::Unopened => false,
        };
        if !authors || parked.sealed.is_some() || !self.conceals() {
            return Ok(());
        }
        let said = Said { message: parked.message.clone(), ..Said::default() };
        parked.sealed = Some(self.concealed(workflow_id, &said)?);
        parked.message = format!("workflow {workflow_id} is parked {SEALED_WORDS}");
        Ok(())
    }

    fn open_words(
        &self,
        workflow_id: &WorkflowId,
        message: &mut String,
        sealed: &mut Option<Payload>,
    ) -> Result<(), CodingError> {
        if let Some(said) = self.said(workflow_id, sealed.as_ref())? {
            *message = said.message;
            *sealed = None;
        }
        Ok(())
    }

    fn concealed(&self, workflow_id: &WorkflowId, said: &Said) -> Result<Payload, CodingError> {
        let mut payload = Payload::encode(said)
            .map_err(|error| CodingError::Refused { layer: "words".to_owned(), reason: error.to_string() })?;
        WORDS.clone_into(&mut payload.encoding);
        self.wrap(workflow_id, &mut payload)?;
        Ok(payload)
    }

    fn said(&self, workflow_id: &WorkflowId, sealed: Option<&Payload>) -> Result<Option<Said>, CodingError> {
        let Some(mut payload) = sealed.cloned() else { return Ok(None) };
        self.unwrap(workflow_id, &mut payload)?;
        MSGPACK.clone_into(&mut payload.encoding);
        let broken = |error: crate::payload::PayloadError| CodingError::Broken {
            layer: "words".to_owned(),
            reason: error.to_string(),
        };
        payload.decode().map(Some).map_err(broken)
    }
}

/// Takes bytes through one layer, and says so in their encoding if they were changed.
fn wrap_by(
    layer: &dyn Layer,
    workflow_id: &WorkflowId,
    encoding: &mut String,
    data: Bytes,
    again: Option<[u8; 32]>,
) -> Result<Bytes, CodingError> {
    let name = layer.name();
    let wrapped =
        layer.wrap(data, Place { again, ..Place::new(workflow_id, encoding) }).map_err(|error| match error {
            LayerError::Failed { reason } => CodingError::Refused { layer: name.to_owned(), reason },
            error => CodingError::of_layer(name, error),
        })?;
    match wrapped {
        Wrapped::Unchanged(data) => Ok(data),
        Wrapped::Changed { label: Some(label), .. } if label.contains(['+', ':']) => {
            let reason = "its label would be read as a layer of its own".to_owned();
            Err(CodingError::Refused { layer: name.to_owned(), reason })
        }
        Wrapped::Changed { label, data } => {
            encoding.push('+');
            encoding.push_str(name);
            if let Some(label) = label {
                encoding.push(':');
                encoding.push_str(&label);
            }
            Ok(data)
        }
    }
}

/// The words and the value of a failure, as one value that is sealed.
#[derive(Default, Serialize, Deserialize)]
struct Said {
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chain: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Payload>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.chain.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}
