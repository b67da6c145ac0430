//! Tells interceptors what happened to runs, on a thread of its own.
//!
//! ```text
//!   engine thread 0 ─┐
//!   engine thread 1 ─┼─► room for some frames ─► one thread ─► observe, observe, ..
//!   engine thread 2 ─┘   full: not told, counted
//! ```
//! An engine thread waits a moment for those who look on, so that they are told of something before what follows from it happens. For
//! those who are behind it does not: an interceptor that is slow, or blocks, costs one moment, and what waits for it has an end. Of
//! one run all is told by one engine thread, so it is told in its order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use everpulse_sdk::intercept::{Interceptors, RunEvent};
use tokio::runtime::Handle;

use crate::seldom::Seldom;

/// What so many frames told of may wait.
const FRAMES_MAX: usize = 1_024;
/// An engine thread waits so long.
const MOMENT: Duration = Duration::from_millis(100);

/// Where engine threads leave what happened. Clones are the same; with the last one the thread ends.
#[derive(Clone)]
pub(super) struct Observers {
    /// None where nobody looks on.
    room: Option<SyncSender<Frame>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// They took longer than a moment, and have not caught up since.
    behind: AtomicBool,
    untold: Seldom,
}

/// What a frame told of, and who waits until it is told.
struct Frame {
    events: Vec<RunEvent>,
    told: SyncSender<()>,
}

impl Observers {
    /// Begins to tell, where there is anybody to be told.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(interceptors: Interceptors, runtime: Handle) -> std::io::Result<(Self, Option<JoinHandle<()>>)> {
        let shared = Arc::<Shared>::default();
        if interceptors.is_empty() {
            return Ok((Self { room: None, shared }, None));
        }
        let (room, frames) = sync_channel(FRAMES_MAX);
        let telling = Arc::clone(&shared);
        let thread = Builder::new().name("everpulse-observers".to_owned()).spawn(move || {
            // Those who hand on what takes longer spawn it.
            let _runtime = runtime.enter();
            telling.tell_all(&frames, &interceptors);
        })?;
        Ok((Self { room: Some(room), shared }, Some(thread)))
    }

    /// Leaves what a frame tells, and waits for a moment until it is told.
    pub fn tell(&self, events: Vec<RunEvent>) {
        let Some(room) = &self.room else { return };
        let (told, is_told) = sync_channel(1);
        match room.try_send(Frame { events, told }) {
            Ok(()) if self.shared.behind.load(Ordering::Acquire) => {}
            Ok(()) => {
                if is_told.recv_timeout(MOMENT).is_err() {
                    self.shared.behind.store(true, Ordering::Release);
                }
            }
            Err(TrySendError::Full(frame)) => self.shared.leave_out(&frame.events),
            // It ends with the last of these.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Shared {
    fn tell_all(&self, frames: &Receiver<Frame>, interceptors: &Interceptors) {
        loop {
            let frame = match frames.try_recv() {
                Ok(frame) => frame,
                Err(_) => {
                    self.behind.store(false, Ordering::Release);
                    let Ok(frame) = frames.recv() else { return };
                    frame
                }
            };
            frame.events.iter().for_each(|event| interceptors.observe(event));
            // Nobody may wait for it any more.
            let _ = frame.told.try_send(());
        }
    }

    fn leave_out(&self, events: &[RunEvent]) {
        for count in events.iter().filter_map(|_| self.untold.count()) {
            tracing::warn!(
                count,
                "interceptors that look on at runs are slower than the runs; what finds no room they are not told"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use everpulse_protocol::{RunId, WorkflowId};
    use everpulse_sdk::intercept::{Happened, Interceptor};

    use super::*;

    /// Is told of the next event when it is let go on.
    struct Slow {
        released: Mutex<Receiver<()>>,
        told: Sender<String>,
    }

    impl Interceptor for Slow {
        fn observe(&self, event: &RunEvent) {
            // An error: nobody holds it up any more.
            let _ = self.released.lock().unwrap_or_else(PoisonError::into_inner).recv();
            self.told.send(event.workflow_id.to_string()).expect("the test listens");
        }
    }

    fn happened(n: usize) -> Vec<RunEvent> {
        let run = RunId(uuid::Uuid::nil());
        vec![RunEvent::new(WorkflowId::new(format!("run-{n}")).expect("a good id"), run, "w", Happened::Parked)]
    }

    #[tokio::test]
    async fn one_that_blocks_keeps_nobody_waiting_and_what_finds_no_room_is_not_told() {
        let ((release, released), (told, telling)) = (channel(), channel());
        let mut interceptors = Interceptors::default();
        interceptors.push(Slow { released: Mutex::new(released), told });
        let (observers, thread) = Observers::start(interceptors, Handle::current()).expect("a thread");
        observers.tell(happened(0));
        // It has the first one in its hands when it has room for one more than that.
        release.send(()).expect("it waits");
        assert_eq!(telling.recv().expect("told"), "run-0");
        for n in 1..=2 * FRAMES_MAX {
            observers.tell(happened(n));
        }
        drop((release, observers));
        let told: Vec<String> = telling.into_iter().collect();
        thread.expect("one looks on").join().expect("no panic");
        assert!((FRAMES_MAX..=FRAMES_MAX + 1).contains(&told.len()), "{}", told.len());
        let expected: Vec<String> = (1..=told.len()).map(|n| format!("run-{n}")).collect();
        assert_eq!(told, expected, "the first ones, in their order");
    }

    #[tokio::test]
    async fn where_nobody_looks_on_there_is_no_thread() {
        let (observers, thread) = Observers::start(Interceptors::default(), Handle::current()).expect("nothing to do");
        assert!(thread.is_none());
        observers.tell(happened(1));
    }
}
