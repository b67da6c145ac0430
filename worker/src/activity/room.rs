//! Room for attempts of a queue: a slot of this process, and permits of all workers together where the queue has any.
//!
//! They are had in one order: a permit to begin, a slot, a permit to run. So nobody who may run waits until it may begin, and what
//! runs elsewhere is not waited for by those for whom it waits. Nobody waits in a slot until it may begin, perhaps for an hour:
//! batches whose tasks have begun need it. Nor does a permit to begin wait here for a slot: others may have one.
//!
//! Just before the attempt's code begins all of them have to hold: what was lost meanwhile is had again, with all that comes
//! behind it.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::permits::{Permit, Permits};

/// What the attempts of one queue share. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Room {
    slots: Arc<Semaphore>,
    /// In which order they are had. Those that rest come first.
    permits: Arc<[Permits]>,
    /// So many batches are full, and wait until they may run.
    full: watch::Sender<usize>,
}

/// What permits an attempt needs, beside its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// It is judged without its code.
    None,
    /// Its code runs by itself.
    All,
    /// It joins a batch, which runs later.
    ToBegin,
    /// It has begun.
    ToRun,
}

impl Needs {
    fn needs(self, permits: &Permits) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::ToBegin => permits.rest(),
            Self::ToRun => !permits.rest(),
        }
    }
}

/// Room for one attempt of a queue, held until it ends.
#[derive(Debug)]
pub struct Slot {
    room: Room,
    /// Those of the room, in its order; none: it is not needed, or not any more.
    permits: Vec<Option<Permit>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// So much of it is needed, and what was had beside that goes back. It is had after [`hold`](Self::hold).
    pub(super) fn need(&mut self, needs: Needs) {
        for (permits, permit) in self.room.permits.iter().zip(&mut self.permits) {
            *permit = permit.take().or_else(|| Some(Permit::default())).filter(|_| needs.needs(permits));
        }
    }

    /// So much of it is needed at least.
    pub(super) fn need_also(&mut self, needs: Needs) {
        for (permits, permit) in self.room.permits.iter().zip(&mut self.permits) {
            if needs.needs(permits) {
                permit.get_or_insert_default();
            }
        }
    }

    /// Waits until a batch may run that is full with the task that has this slot. Meanwhile tasks that would join the next one wait
    /// until they might run themselves: they are not taken from others that could have them sooner.
    pub(super) async fn run_full(&mut self) {
        self.need_also(Needs::ToRun);
        let _full = Full::new(self.room.full.clone());
        self.hold().await;
    }

    /// Waits until all of it is had, at one time; false when the runner is gone.
    pub(super) async fn hold(&mut self) -> bool {
        let Self { room, permits: had, slot } = self;
        let to_begin = room.permits.iter().take_while(|permits| permits.rest()).count();
        let is_lost = |permit: &Option<Permit>| permit.as_ref().is_some_and(|permit| !permit.holds());
        loop {
            match had.iter().position(is_lost) {
                Some(first) if first < to_begin => {
                    // What comes later goes back before: nobody waits with it for what others have who wait for it.
                    had.iter_mut().skip(first).flatten().for_each(Permit::give_back);
                    *slot = None;
                    let Some(_) = room.slot().await else { return false };
                    for (permits, permit) in room.permits.iter().zip(had.iter_mut()).take(to_begin).skip(first) {
                        if let Some(permit) = permit {
                            *permit = permits.one().await;
                        }
                    }
                    *slot = room.try_slot();
                    if slot.is_none() {
                        // Somebody had it meanwhile. Elsewhere there may be one.
                        had.iter_mut().flatten().for_each(Permit::give_back);
                    }
                }
                _ if slot.is_none() => {
                    let Some(free) = room.slot().await else { return false };
                    *slot = Some(free);
                }
                Some(first) => {
                    had.iter_mut().skip(first).flatten().for_each(Permit::give_back);
                    for (permits, permit) in room.permits.iter().zip(had.iter_mut()).skip(first) {
                        if let Some(permit) = permit {
                            *permit = permits.one().await;
                        }
                    }
                }
                None => return true,
            }
        }
    }

    /// All of its permits are lost.
    #[cfg(test)]
    pub(super) fn lose(&mut self) {
        self.permits.iter_mut().flatten().for_each(Permit::give_back);
    }

    /// The attempt's code begins now, just after [`hold`](Self::hold). What rests does so from here on.
    pub(super) fn begin(&mut self) {
        for (permits, permit) in self.room.permits.iter().zip(&mut self.permits) {
            if permits.rest() {
                permit.take().into_iter().for_each(Permit::begin);
            }
        }
    }
}

/// A batch that is full and waits.
struct Full(watch::Sender<usize>);

impl Full {
    fn new(full: watch::Sender<usize>) -> Self {
        full.send_modify(|full| *full += 1);
        Self(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        self.0.send_modify(|full| *full = full.saturating_sub(1));
    }
}

impl Room {
    pub(super) fn new(slots: usize, permits: Vec<Permits>) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), permits: permits.into(), full: watch::Sender::new(0) }
    }

    /// Whether other workers may have all of it.
    pub(super) fn is_shared(&self) -> bool {
        !self.permits.is_empty()
    }

    fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// The next free slot; none when the runner is gone.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// How many slots are free.
    pub(super) fn free(&self) -> usize {
        self.slots.available_permits()
    }

    /// So many more attempts will want permits soon.
    pub(super) fn ahead(&self, attempts: usize) {
        self.permits.iter().for_each(|permits| permits.ahead(attempts));
    }

    /// How many batches are full, and wait until they may run.
    pub(super) fn full(&self) -> watch::Receiver<usize> {
        self.full.subscribe()
    }

    /// Room of which nothing is had yet.
    pub(super) fn empty(&self, needs: Needs) -> Slot {
        let mut slot = Slot { room: self.clone(), permits: self.permits.iter().map(|_| None).collect(), slot: None };
        slot.need(needs);
        slot
    }

    /// The next free slot, with permits.
    pub(super) async fn enter(&self, needs: Needs) -> Option<Slot> {
        let mut slot = self.empty(needs);
        slot.hold().await.then_some(slot)
    }

    /// A slot that is free now; none also where other workers have to be asked.
    pub(super) fn try_enter(&self) -> Option<Slot> {
        if self.is_shared() {
            return None;
        }
        let slot = self.try_slot()?;
        Some(Slot { slot: Some(slot), ..self.empty(Needs::All) })
    }

    /// Gives all permits back to other workers.
    pub(super) async fn leave(&self) {
        join_all(self.permits.iter().map(Permits::leave)).await;
    }
}

#[cfg(test)]
mod tests;
