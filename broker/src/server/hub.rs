//! What connections, storage, admin and clock have in common: the state machine and the way out of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, oneshot};

use super::attention::Attention;
use super::limits::{Limits, Memory};
use super::outbound::Outbound;
use crate::secret::Secret;
use crate::semantics::{Broker, ConnectionId, Effect, Refusal, RefusalKind, TopicId};
use crate::storage::writer::Item;
use crate::storage::{Completion, Reader, Storage};

/// What the server tells and asks its clients.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub service_url: String,
    pub admin_url: String,
    /// If set, clients must present it.
    pub token: Option<Secret>,
    pub limits: Limits,
}

#[derive(Debug)]
pub struct Hub {
    pub settings: Settings,
    pub reader: Reader,
    pub(super) memory: Arc<Memory>,
    pub(super) attention: Attention,
    state: Mutex<State>,
    rearmed: Notify,
    /// A topic should be compacted.
    compaction: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub broker: Broker,
    /// None once the broker has stopped.
    pub storage: Option<Storage>,
    pub connections: HashMap<ConnectionId, Arc<Outbound>>,
    pub syncs: HashMap<u64, oneshot::Sender<Result<(), Refusal>>>,
    pub items: Vec<Item>,
    effects: Vec<Effect>,
    next_connection: u64,
    next_token: u64,
    snapshot_wanted: bool,
    pub compactions: VecDeque<TopicId>,
    /// When the timer will ring, as far as the state knows.
    armed_for: Option<u64>,
}

/// Milliseconds since 1970, as in messages' times.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Hub {
    pub fn new(settings: Settings, mut broker: Broker, storage: Storage) -> Hub {
        broker.set_ceilings(settings.limits.ceilings.clone());
        broker.set_index_limit(settings.limits.index_bytes);
        broker.handle_restarted(now_ms(), storage.open_segment());
        let reader = storage.reader();
        let state = State {
            broker,
            storage: Some(storage),
            connections: HashMap::new(),
            syncs: HashMap::new(),
            items: Vec::new(),
            effects: Vec::new(),
            next_connection: 1,
            next_token: 1,
            // The count of starts must not be used twice: producers' names are made of it.
            snapshot_wanted: true,
            compactions: VecDeque::new(),
            armed_for: None,
        };
        let memory = Arc::new(Memory::new(settings.limits.memory_bytes));
        let (state, rearmed, compaction) = (Mutex::new(state), Notify::new(), Notify::new());
        let attention = Attention::default();
        let hub = Hub { settings, reader, memory, attention, state, rearmed, compaction };
        hub.settle(hub.lock());
        hub
    }

    /// A panic while it was held would be a bug in the state machine. Going on keeps the other clients
    /// served; what was confirmed is in the log in any case.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if there are too many already.
    pub(crate) fn connect(&self) -> Option<(ConnectionId, Arc<Outbound>)> {
        let mut state = self.lock();
        if state.connections.len() >= self.settings.limits.connections {
            tracing::warn!(limit = self.settings.limits.connections, "refused a connection: there are too many");
            return None;
        }
        let id = ConnectionId(state.next_connection);
        state.next_connection += 1;
        let outbound = Arc::new(Outbound::new(self.memory.clone()));
        state.connections.insert(id, outbound.clone());
        Some((id, outbound))
    }

    /// How long a client may stall now.
    pub(super) fn stalled(&self) -> Duration {
        let patience = self.settings.limits.stalled;
        if self.memory.is_short() { patience / 6 } else { patience }
    }

    /// Bytes that all connections hold.
    pub fn held_bytes(&self) -> usize {
        self.memory.held()
    }

    pub(crate) fn disconnect(&self, connection: ConnectionId) {
        let mut state = self.lock();
        state.connections.remove(&connection);
        state.broker.handle_disconnected(connection);
        self.settle(state);
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    /// Acts on the state machine, then does what follows from it.
    pub fn act<R>(&self, act: impl FnOnce(&mut Broker) -> R) -> R {
        let mut state = self.lock();
        state.broker.handle_now(now_ms());
        let result = act(&mut state.broker);
        self.settle(state);
        result
    }

    /// Looks at the state machine.
    pub fn look<R>(&self, look: impl FnOnce(&Broker) -> R) -> R {
        look(&self.lock().broker)
    }

    /// Acts on the state machine and waits until the changes that it made are stored.
    ///
    /// # Errors
    /// It was refused, or could not be stored.
    ///
    /// # Cancel safety
    /// The change is made even if the future is dropped.
    pub async fn change<R>(&self, act: impl FnOnce(&mut Broker) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let (result, stored) = {
            let mut state = self.lock();
            state.broker.check_storage()?;
            state.broker.handle_now(now_ms());
            let result = act(&mut state.broker);
            let token = state.next_token;
            state.next_token += 1;
            let (sender, stored) = oneshot::channel();
            state.syncs.insert(token, sender);
            state.broker.handle_sync(token);
            self.settle(state);
            (result, stored)
        };
        let stopped = || Refusal::new(RefusalKind::Storage, "the broker is stopping");
        let outcome = stored.await.unwrap_or_else(|_| Err(stopped()));
        let result = result?;
        outcome.map(|()| result)
    }

    pub fn handle_completions(&self, completions: impl Iterator<Item = Completion>) {
        let now = now_ms();
        let mut state = self.lock();
        for completion in completions {
            let State { broker, storage, .. } = &mut *state;
            match &completion {
                Completion::Stored { locations, .. } => {
                    for location in locations {
                        broker.handle_appended(now, *location);
                    }
                }
                Completion::Failed { count, reason, .. } => {
                    tracing::warn!(reason, count, "could not write to the log");
                    for _ in 0..*count {
                        broker.handle_append_failed(reason);
                    }
                }
                Completion::Rolled { .. } | Completion::SnapshotStored | Completion::SnapshotFailed { .. } => {}
            }
            let wanted = storage.as_mut().is_some_and(|storage| storage.handle_completion(&completion));
            state.snapshot_wanted |= wanted;
        }
        self.settle(state);
    }

    /// The next topic that should be compacted.
    pub(super) async fn next_compaction(&self) -> TopicId {
        loop {
            let next = self.lock().compactions.pop_front();
            match next {
                Some(topic) => return topic,
                None => self.compaction.notified().await,
            }
        }
    }

    pub(super) fn rearmed(&self) -> impl Future<Output = ()> + '_ {
        self.rearmed.notified()
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let mut state = self.lock();
        state.armed_for = state.broker.poll_timeout();
        state.armed_for
    }

    pub(super) fn handle_time(&self, tick: bool) {
        let now = now_ms();
        let mut state = self.lock();
        state.broker.handle_timeout(now);
        if tick {
            state.broker.handle_tick(now);
            if let Some(open) = state.storage.as_ref().map(Storage::open_segment) {
                state.broker.handle_retention(now, open);
            }
        }
        let mut state = self.settle_in(state);
        if tick && state.storage.as_ref().is_some_and(Storage::wants_snapshot) {
            state.snapshot_wanted = true;
            self.settle(state);
        }
    }

    /// Persists everything and stops writing. Blocks until it is on disk.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.broker.save_cursors();
        state.snapshot_wanted = true;
        let mut state = self.settle_in(state);
        let storage = state.storage.take();
        state.syncs.clear();
        drop(state);
        if let Some(storage) = storage {
            storage.stop();
        }
    }

    fn settle(&self, state: MutexGuard<'_, State>) {
        drop(self.settle_in(state));
    }

    /// Takes all effects and carries them out.
    fn settle_in<'a>(&self, mut guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let state = &mut *guard;
        loop {
            let mut effects = std::mem::take(&mut state.effects);
            state.broker.poll_effects(now_ms(), &mut effects);
            let done = effects.is_empty();
            for effect in effects.drain(..) {
                state.carry_out(effect);
            }
            state.effects = effects;
            if done {
                break;
            }
        }
        if let Some(storage) = &mut state.storage {
            if !state.items.is_empty() {
                storage.submit(&mut state.items);
            }
            // After everything that led to this state has been given to the log.
            if std::mem::take(&mut state.snapshot_wanted) {
                storage.store_snapshot(&state.broker.snapshot());
            }
        }
        if !state.compactions.is_empty() {
            self.compaction.notify_one();
        }
        let due = state.broker.poll_timeout();
        if due.is_some() && (state.armed_for.is_none() || due < state.armed_for) {
            state.armed_for = due;
            self.rearmed.notify_one();
        }
        guard
    }
}
