//! Wakers: they note that something is to be polled again, and who said so.
//!
//! A run's future may be woken only while an event of that run is applied, on the thread that applies
//! it. A wake from anywhere else shows that the run waits for something that no history has.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

thread_local! {
    /// The instance that applies an event on this thread; 0 when none does.
    static APPLYING: Cell<u64> = const { Cell::new(0) };
}

/// Marks an instance as the one that applies an event here, until it is dropped.
pub(crate) struct Applying {
    before: u64,
}

impl Applying {
    pub(crate) fn enter(instance: u64) -> Self {
        Self { before: APPLYING.replace(instance) }
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        APPLYING.set(self.before);
    }
}

/// The waker of a run's whole future.
#[derive(Debug)]
pub(crate) struct Root {
    instance: u64,
    woken: AtomicBool,
    foreign: AtomicBool,
}

impl Root {
    pub(crate) fn new(instance: u64) -> Arc<Self> {
        Arc::new(Self { instance, woken: AtomicBool::new(false), foreign: AtomicBool::new(false) })
    }

    /// Whether it was woken since the last time that this was asked.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::Relaxed)
    }

    /// Whether it was woken since it was last asked and answered.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// Whether it was ever woken from outside.
    pub(crate) fn was_woken_from_outside(&self) -> bool {
        self.foreign.load(Ordering::Acquire)
    }
}

impl Wake for Root {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A thread that is being torn down has no such variable any more, and applies nothing.
        if APPLYING.try_with(Cell::get) == Ok(self.instance) {
            self.woken.store(true, Ordering::Relaxed);
        } else {
            self.foreign.store(true, Ordering::Release);
        }
    }
}

/// The children of one combinator that are to be polled, so that a wake costs one poll, not one per child.
#[derive(Debug, Default)]
pub(crate) struct Children {
    ready: Mutex<Vec<usize>>,
    parent: Mutex<Option<Waker>>,
}

/// The waker of one child.
#[derive(Debug)]
struct Child {
    index: usize,
    queued: AtomicBool,
    children: Arc<Children>,
}

impl Children {
    /// The wakers of so many children, all of which are to be polled once.
    pub(crate) fn wakers(count: usize) -> (Arc<Self>, Vec<ChildWaker>) {
        let children = Arc::new(Self { ready: Mutex::new((0..count).collect()), parent: Mutex::default() });
        let waker = |index| {
            let child = Arc::new(Child { index, queued: AtomicBool::new(true), children: Arc::clone(&children) });
            ChildWaker { waker: Waker::from(Arc::clone(&child)), child }
        };
        let wakers = (0..count).map(waker).collect();
        (children, wakers)
    }

    /// The children to poll now, in source order.
    pub(crate) fn take_ready(&self, parent: &Waker) -> Vec<usize> {
        lock(&self.parent).get_or_insert_with(|| parent.clone()).clone_from(parent);
        let mut ready = std::mem::take(&mut *lock(&self.ready));
        // Not the order of the wakes: which child goes first must be seen in the source.
        ready.sort_unstable();
        ready
    }
}

/// A child's waker, with what resets it.
#[derive(Debug)]
pub(crate) struct ChildWaker {
    waker: Waker,
    child: Arc<Child>,
}

impl ChildWaker {
    /// To be called before the child is polled: from then on a wake counts again.
    pub(crate) fn arm(&self) -> &Waker {
        self.child.queued.store(false, Ordering::Release);
        &self.waker
    }
}

impl Wake for Child {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.children.ready).push(self.index);
        }
        let parent = lock(&self.children.parent).clone();
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while these are held; and what they guard is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
