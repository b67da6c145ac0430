//! Room for attempts of a queue: a slot of this process, and permits of all workers together where the queue has any.
//!
//! They are had in one order: a slot, a permit to run, a permit to begin. The last one counts from when it is had.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::permits::{Permit, Permits};

/// What the attempts of one queue share. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Room {
    slots: Arc<Semaphore>,
    /// In which order they are had. Those that rest come last.
    permits: Arc<[Permits]>,
}

/// Room for one attempt of a queue, held until it ends.
#[derive(Debug)]
pub struct Slot {
    _slot: OwnedSemaphorePermit,
    _permits: Vec<Permit>,
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

    /// The next permits, one after the other.
    pub(super) async fn permits(&self) -> Vec<Permit> {
        let mut all = Vec::with_capacity(self.permits.len());
        for permits in self.permits.iter() {
            all.push(permits.one().await);
        }
        all
    }

    /// So many more attempts will want permits soon.
    pub(super) fn ahead(&self, attempts: usize) {
        self.permits.iter().for_each(|permits| permits.ahead(attempts));
    }

    /// An attempt begins with these.
    pub(super) fn begin(slot: OwnedSemaphorePermit, permits: Vec<Permit>) -> Slot {
        Slot { _slot: slot, _permits: permits.into_iter().filter_map(Permit::begin).collect() }
    }

    /// The next free slot, with permits.
    pub(super) async fn enter(&self) -> Option<Slot> {
        let slot = self.slot().await?;
        Some(Self::begin(slot, self.permits().await))
    }

    /// The same for the execution of a batch, whose tasks have begun each with a permit of its own: it takes those alone that
    /// say how many run at a time.
    pub(super) async fn execution(&self) -> Option<Slot> {
        let slot = self.slot().await?;
        let mut running = Vec::new();
        for permits in self.permits.iter().filter(|permits| !permits.rest()) {
            running.push(permits.one().await);
        }
        Some(Self::begin(slot, running))
    }

    /// A slot that is free now; none also where other workers have to be asked.
    pub(super) fn try_enter(&self) -> Option<Slot> {
        if self.is_shared() {
            return None;
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Self::begin(slot, Vec::new()))
    }

    /// Gives all permits back to other workers.
    pub(super) async fn leave(&self) {
        join_all(self.permits.iter().map(Permits::leave)).await;
    }
}
