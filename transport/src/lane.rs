//! Natural batching: while no frame is in flight an item leaves at once; what comes meanwhile gathers and leaves as
//! one frame when the receipt arrives. Nothing waits for a clock, and the busier it is, the larger the frames.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use everpulse_protocol::Position;
use futures::FutureExt as _;
use futures::future::Shared;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::publisher::{Message, Publisher};
use crate::{Error, ErrorKind};

/// When a frame is full.
///
/// By default early: hundreds of events share a receipt all the same, and each buffer on a frame's way (there are about
/// ten) stays so small that an allocator uses it again for something else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub items_max: usize,
    /// Of what the items say of themselves; a single larger one leaves alone.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { items_max: 256, bytes_max: 64 * 1024 }
    }
}

type Outcome = Result<Option<Position>, Error>;

/// What became of the items of a frame.
#[derive(Clone)]
enum Outcomes {
    All(Outcome),
    /// The frame had to be cut; one for each item.
    Each(Arc<[Outcome]>),
}

type Promise = Shared<oneshot::Receiver<Outcomes>>;
type Encode<I> = dyn Fn(&[I]) -> Bytes + Send + Sync;
type Weigh<I> = dyn Fn(&I) -> usize + Send + Sync;

/// Sends items of one key to one topic, in order, in frames. Clones are the same lane.
pub struct Lane<I> {
    inner: Arc<Inner<I>>,
}

struct Inner<I> {
    publisher: Publisher,
    key: Option<String>,
    limits: Limits,
    encode: Box<Encode<I>>,
    weigh: Box<Weigh<I>>,
    state: Mutex<State<I>>,
    /// Items also come from threads that are not the runtime's.
    runtime: Handle,
}

struct State<I> {
    frames: VecDeque<Frame<I>>,
    /// A task is sending, and will look here again.
    sending: bool,
}

/// Items that leave together, and the promise that all of them share.
struct Frame<I> {
    items: Vec<I>,
    bytes: usize,
    confirm: oneshot::Sender<Outcomes>,
    outcomes: Promise,
}

impl<I: Send + 'static> Lane<I> {
    /// `weigh` says about how many bytes an item takes in a frame; `encode` makes a frame.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        publisher: Publisher,
        key: Option<String>,
        limits: Limits,
        weigh: impl Fn(&I) -> usize + Send + Sync + 'static,
        encode: impl Fn(&[I]) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Lane {
            inner: Arc::new(Inner {
                publisher,
                key,
                limits,
                encode: Box::new(encode),
                weigh: Box::new(weigh),
                state: Mutex::new(State { frames: VecDeque::new(), sending: false }),
                runtime: Handle::current(),
            }),
        }
    }

    /// Sends an item and resolves when it is stored, to the position of its frame (`None` when the broker did not
    /// say). It is sent again until it is confirmed, so it can be stored twice. Dropping the future does not take it
    /// back.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for an item that fits in no message, and [`ErrorKind::Closed`] when the runtime
    /// shuts down; nothing else.
    pub fn send(&self, item: I) -> impl Future<Output = Outcome> + Send + use<I> {
        let (promise, index) = self.enqueue(item);
        async move {
            match promise.await {
                Ok(Outcomes::All(outcome)) => outcome,
                Ok(Outcomes::Each(outcomes)) => outcomes[index].clone(),
                Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime is shutting down")),
            }
        }
    }

    /// The promise of the item's frame, and its place there.
    fn enqueue(&self, item: I) -> (Promise, usize) {
        let bytes = (self.inner.weigh)(&item);
        let mut state = self.inner.state();
        let limits = self.inner.limits;
        let full = |frame: &Frame<I>| {
            frame.items.len() >= limits.items_max || frame.bytes.saturating_add(bytes) > limits.bytes_max
        };
        match state.frames.back_mut().filter(|frame| !full(frame)) {
            Some(frame) => {
                frame.items.push(item);
                frame.bytes += bytes;
            }
            None => state.frames.push_back(Frame::new(vec![item], bytes)),
        }
        let frame = state.frames.back().expect("one was just filled");
        let place = (frame.outcomes.clone(), frame.items.len() - 1);
        if !std::mem::replace(&mut state.sending, true) {
            self.inner.runtime.spawn(self.inner.clone().run());
        }
        place
    }

    /// How many items wait for the frame in flight.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.state().frames.iter().map(|frame| frame.items.len()).sum()
    }
}

impl<I> Inner<I> {
    fn state(&self) -> MutexGuard<'_, State<I>> {
        // Nothing in here can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends frame after frame, one in flight, until nothing waits.
    async fn run(self: Arc<Self>) {
        loop {
            let frame = {
                let mut state = self.state();
                match state.frames.pop_front() {
                    Some(frame) => frame,
                    None => return state.sending = false,
                }
            };
            self.publish(frame).await;
        }
    }

    async fn publish(&self, frame: Frame<I>) {
        let outcomes = self.publish_items(frame.items).await;
        // All who sent may have gone.
        let _ = frame.confirm.send(outcomes);
    }

    async fn publish_items(&self, items: Vec<I>) -> Outcomes {
        let payload = (self.encode)(&items);
        if self.publisher.fits(payload.len()) || items.len() == 1 {
            return Outcomes::All(self.publish_payload(payload).await);
        }
        // The items weigh more than they said: halves of halves, until each piece fits or is a single item.
        let mut outcomes = Vec::with_capacity(items.len());
        let mut pieces = Vec::from([(0, items.len())]);
        while let Some((start, end)) = pieces.pop() {
            let payload = (self.encode)(&items[start..end]);
            if self.publisher.fits(payload.len()) || end - start == 1 {
                let outcome = self.publish_payload(payload).await;
                outcomes.extend(std::iter::repeat_n(outcome, end - start));
            } else {
                let middle = start.midpoint(end);
                pieces.extend([(middle, end), (start, middle)]);
            }
        }
        Outcomes::Each(outcomes.into())
    }

    async fn publish_payload(&self, payload: Bytes) -> Outcome {
        self.publisher.publish_until_confirmed(Message::new(self.key.clone(), payload)).await
    }
}

impl<I> Frame<I> {
    fn new(items: Vec<I>, bytes: usize) -> Self {
        let (confirm, confirmed) = oneshot::channel();
        Frame { items, bytes, confirm, outcomes: confirmed.shared() }
    }
}

impl<I> Clone for Lane<I> {
    fn clone(&self) -> Self {
        Lane { inner: self.inner.clone() }
    }
}

impl<I> fmt::Debug for Lane<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("topic", &self.inner.publisher.topic()).finish_non_exhaustive()
    }
}
