//! What the branches of one run share: a count of permits, and a value that one branch at a time may change.
//!
//! Nothing of it is in history: who waits for a branch of the same run waits for what that branch waits for. Permits go to those
//! that wait in the order in which they began to, in every replay; nobody overtakes, so who wants many is not starved.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Lets so many branches of a run do something at the same time.
///
/// Clones share the permits.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn resize(image: String) -> Result<(), everpulse::Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn resize_all(images: Vec<String>) -> Result<(), everpulse::Error> {
///     let at_once = everpulse::Semaphore::new(10);
///     let branches = images.into_iter().map(async |image| {
///         let _permit = at_once.acquire().await;
///         resize(image).await
///     });
///     everpulse::try_join_all(branches).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    state: Rc<RefCell<Permits>>,
}

struct Permits {
    free: usize,
    waiting: VecDeque<Waiting>,
    next: u64,
}

struct Waiting {
    id: u64,
    wants: usize,
    waker: Waker,
}

impl Permits {
    /// The first that waits, if there is enough for it.
    fn served(&self) -> Option<Waker> {
        self.waiting.front().filter(|first| first.wants <= self.free).map(|first| first.waker.clone())
    }
}

impl Semaphore {
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self { state: Rc::new(RefCell::new(Permits { free: permits, waiting: VecDeque::new(), next: 0 })) }
    }

    /// Waits for a permit. It is given back when what this gives is dropped.
    ///
    /// # Cancel safety
    /// Dropping it loses no permit, only the place in the line.
    pub fn acquire(&self) -> Acquire {
        self.acquire_many(1)
    }

    /// Waits for so many permits at once; for more than there are, it waits for ever.
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub fn acquire_many(&self, permits: usize) -> Acquire {
        Acquire { semaphore: self.clone(), wants: permits, place: None, done: false }
    }

    /// A permit, if there is one and nobody waits.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Permit> {
        let state = &mut *self.state.borrow_mut();
        if state.free == 0 || !state.waiting.is_empty() {
            return None;
        }
        state.free -= 1;
        Some(Permit { semaphore: self.clone(), permits: 1 })
    }

    /// How many permits are free.
    #[must_use]
    pub fn available(&self) -> usize {
        self.state.borrow().free
    }

    /// Changes the state, then wakes whoever can go on: outside the borrow, as a waker may come back here.
    fn change(&self, change: impl FnOnce(&mut Permits)) {
        let served = {
            let state = &mut *self.state.borrow_mut();
            change(state);
            state.served()
        };
        if let Some(served) = served {
            served.wake();
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Semaphore({} free)", self.available())
    }
}

/// Waits for permits of a [`Semaphore`].
#[derive(Debug)]
#[must_use = "nothing is acquired until it is awaited"]
pub struct Acquire {
    semaphore: Semaphore,
    wants: usize,
    /// The place in the line.
    place: Option<u64>,
    done: bool,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let acquire = &mut *self;
        assert!(!acquire.done, "a permit's future was polled after it had given the permit");
        let forgotten = {
            let state = &mut *acquire.semaphore.state.borrow_mut();
            let first = state.waiting.front().is_none_or(|first| Some(first.id) == acquire.place);
            if first && acquire.wants <= state.free {
                state.free -= acquire.wants;
                None
            } else {
                let waker = cx.waker().clone();
                let place = acquire.place;
                Some(match state.waiting.iter_mut().find(|waiting| Some(waiting.id) == place) {
                    Some(waiting) => Some(std::mem::replace(&mut waiting.waker, waker)),
                    None => {
                        let id = state.next;
                        state.next += 1;
                        state.waiting.push_back(Waiting { id, wants: acquire.wants, waker });
                        acquire.place = Some(id);
                        None
                    }
                })
            }
        };
        if forgotten.is_some() {
            return Poll::Pending;
        }
        acquire.done = true;
        acquire.leave();
        Poll::Ready(Permit { semaphore: acquire.semaphore.clone(), permits: acquire.wants })
    }
}

impl Acquire {
    /// Leaves the line; there may be enough for who is first then.
    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            self.semaphore.change(|state| state.waiting.retain(|waiting| waiting.id != place));
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Permits of a [`Semaphore`]; dropped, it gives them back.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    semaphore: Semaphore,
    permits: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.change(|state| state.free += self.permits);
    }
}

/// A value that one branch of a run at a time may read and change, also across awaits.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn withdraw(cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn pay_both(balance: u64) -> Result<u64, everpulse::Error> {
///     let account = everpulse::Mutex::new(balance);
///     let pay = async |cents| {
///         let mut balance = account.lock().await;
///         *balance -= withdraw(cents).await?;
///         Ok::<_, everpulse::Error>(())
///     };
///     everpulse::try_join!(pay(100), pay(200))?;
///     Ok(account.into_inner())
/// }
/// ```
pub struct Mutex<T> {
    turn: Semaphore,
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self { turn: Semaphore::new(1), value: RefCell::new(value) }
    }

    /// Waits for its turn.
    ///
    /// # Cancel safety
    /// Dropping it loses only the place in the line.
    pub async fn lock(&self) -> Guard<'_, T> {
        let turn = self.turn.acquire().await;
        // Only whoever has the turn borrows it, and gives it back before the turn.
        Guard { value: self.value.borrow_mut(), _turn: turn }
    }

    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.try_borrow() {
            Ok(value) => f.debug_tuple("Mutex").field(&*value).finish(),
            Err(_) => f.write_str("Mutex(locked)"),
        }
    }
}

/// The value of a [`Mutex`], as long as it is one's turn.
#[must_use = "dropping a guard ends the turn"]
pub struct Guard<'a, T> {
    // Dropped in this order.
    value: RefMut<'a, T>,
    _turn: Permit,
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&*self.value).finish()
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
