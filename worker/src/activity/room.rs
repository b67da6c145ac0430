//! Room for attempts of a queue: a slot of this process, and permits of all workers together where the queue has any.
//!
//! They are had in one order: a slot, a permit to begin, a permit to run. So nobody who may run waits until it may begin, and what
//! runs elsewhere is not waited for by those for whom it waits. Just before the attempt's code begins all of them have to hold:
//! what was lost meanwhile is had again, with all that comes behind it.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::permits::{Permit, Permits};

/// What the attempts of one queue share. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Room {
    slots: Arc<Semaphore>,
    /// In which order they are had. Those that rest come first.
    permits: Arc<[Permits]>,
}

/// Those of a room, in its order; none: it is not needed, or not any more.
pub(super) type Had = Vec<Option<Permit>>;

/// Room for one attempt of a queue, held until it ends.
#[derive(Debug)]
pub struct Slot {
    room: Room,
    permits: Had,
    _slot: OwnedSemaphorePermit,
}

impl Slot {
    /// The attempt's code begins now. What rests does so from here on.
    pub(super) async fn begin(&mut self) {
        self.room.hold(&mut self.permits).await;
        for (permits, permit) in self.room.permits.iter().zip(&mut self.permits) {
            if permits.rest() {
                permit.take().into_iter().for_each(Permit::begin);
            }
        }
    }
}

impl Room {
    pub(super) fn new(slots: usize, permits: Vec<Permits>) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), permits: permits.into() }
    }

    /// Whether other workers may have all of it.
    pub(super) fn is_shared(&self) -> bool {
        !self.permits.is_empty()
    }

    /// The next free slot; none when the runner is gone.
    pub(super) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// How many slots are free.
    pub(super) fn free(&self) -> usize {
        self.slots.available_permits()
    }

    /// The next permits.
    pub(super) async fn permits(&self) -> Had {
        let mut had: Had = self.permits.iter().map(|_| Some(Permit::default())).collect();
        self.hold(&mut had).await;
        had
    }

    /// Waits until all of them hold, at one time.
    async fn hold(&self, had: &mut Had) {
        let is_lost = |permit: &Option<Permit>| permit.as_ref().is_some_and(|permit| !permit.holds());
        while let Some(first) = had.iter().position(is_lost) {
            // What comes later goes back before: nobody waits with it for what others have who wait for it.
            had.iter_mut().skip(first).flatten().for_each(Permit::give_back);
            for (permits, permit) in self.permits.iter().zip(had.iter_mut()).skip(first) {
                if let Some(permit) = permit {
                    *permit = permits.one().await;
                }
            }
        }
    }

    /// So many more attempts will want permits soon.
    pub(super) fn ahead(&self, attempts: usize) {
        self.permits.iter().for_each(|permits| permits.ahead(attempts));
    }

    /// Room with what was had for it.
    pub(super) fn with(&self, slot: OwnedSemaphorePermit, permits: Had) -> Slot {
        Slot { room: self.clone(), permits, _slot: slot }
    }

    /// The next free slot, with permits.
    pub(super) async fn enter(&self) -> Option<Slot> {
        let slot = self.slot().await?;
        Some(self.with(slot, self.permits().await))
    }

    /// The same for the execution of a batch, whose tasks have begun each with a permit of its own: it takes those alone that
    /// say how many run at a time.
    pub(super) async fn execution(&self) -> Option<Slot> {
        let slot = self.slot().await?;
        let mut running: Had = self.permits.iter().map(|permits| (!permits.rest()).then(Permit::default)).collect();
        self.hold(&mut running).await;
        Some(self.with(slot, running))
    }

    /// A slot that is free now; none also where other workers have to be asked.
    pub(super) fn try_enter(&self) -> Option<Slot> {
        if self.is_shared() {
            return None;
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(self.with(slot, Vec::new()))
    }

    /// Gives all permits back to other workers.
    pub(super) async fn leave(&self) {
        join_all(self.permits.iter().map(Permits::leave)).await;
    }
}

#[cfg(test)]
mod tests;
