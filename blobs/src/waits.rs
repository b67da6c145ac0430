//! How a thread that polls workflows waits for a store: for so long and no longer, and once for the same work.
//!
//! What is asked for goes on when nobody waits any more, and is found by whoever asks again: a run that was parked meanwhile
//! goes on when what it needs is there, however slow the store is. What is slow for one run makes no other one wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use everpulse_protocol::WorkflowId;
use everpulse_protocol::coding::LayerError;
use futures::FutureExt as _;
use tokio::runtime::Handle;

use crate::calls::lock;

/// How long a thread waits for the stores on behalf of one run, within so much time.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(20);
/// A store that took so long to say that it is away is left alone for a while: it would let others wait in vain as well.
const LONG: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(5);
/// What was done while nobody waited is kept for so long.
const KEPT: Duration = Duration::from_secs(120);

/// Work that goes on, and what it came to, by what it is about.
pub(crate) struct Works<K, T>(Arc<Mutex<HashMap<K, Arc<Work<T>>>>>);

struct Work<T> {
    result: Mutex<Option<Result<T, LayerError>>>,
    over: Condvar,
    /// Somebody has waited for it as long as anybody does.
    in_vain: AtomicBool,
}

/// What the threads of a process have waited, and for whom.
pub(crate) struct Waits {
    runtime: Option<Handle>,
    wait: Duration,
    /// Since when stores rest.
    resting: Mutex<HashMap<String, Instant>>,
    /// Of each workflow id: since when, and how much of it.
    spent: Mutex<HashMap<WorkflowId, (Instant, Duration)>>,
}

impl<K, T> Default for Works<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Works<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + 'static,
{
    fn known(&self, key: &K) -> Option<Arc<Work<T>>> {
        lock(&self.0).get(key).cloned()
    }

    fn begin(
        &self,
        key: &K,
        runtime: &Handle,
        work: impl Future<Output = Result<T, LayerError>> + Send + 'static,
    ) -> Arc<Work<T>> {
        let mut all = lock(&self.0);
        if let Some(known) = all.get(key) {
            return Arc::clone(known);
        }
        let begun = Arc::new(Work { result: Mutex::new(None), over: Condvar::new(), in_vain: AtomicBool::new(false) });
        all.insert(key.clone(), Arc::clone(&begun));
        let (all, key, mine) = (Arc::clone(&self.0), key.clone(), Arc::clone(&begun));
        runtime.spawn(async move {
            let result = work.await;
            let is_done = result.is_ok();
            *lock(&mine.result) = Some(result);
            mine.over.notify_all();
            // What failed is to be done anew.
            if is_done {
                tokio::time::sleep(KEPT).await;
            }
            let mut all = lock(&all);
            if all.get(&key).is_some_and(|known| Arc::ptr_eq(known, &mine)) {
                all.remove(&key);
            }
        });
        begun
    }
}

impl<T: Clone> Work<T> {
    fn wait(&self, patience: Duration) -> Option<Result<T, LayerError>> {
        let result = lock(&self.result);
        let waited = self.over.wait_timeout_while(result, patience, |result| result.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Waits {
    pub fn new(wait: Duration) -> Self {
        Self { runtime: Handle::try_current().ok(), wait, resting: Mutex::default(), spent: Mutex::default() }
    }

    /// What the work comes to, if that is soon. Nobody does the same work meanwhile.
    pub fn wait<K, T>(
        &self,
        works: &Works<K, T>,
        key: &K,
        (workflow_id, store): (&WorkflowId, &str),
        work: impl Future<Output = Result<T, LayerError>> + Send + 'static,
    ) -> Result<T, LayerError>
    where
        K: Hash + Eq + Clone + Send + 'static,
        T: Clone + Send + 'static,
    {
        // One sentence for all of it: what is said of a run is recorded when it changes.
        let slow = || LayerError::away(format!("the store `{store}` has not answered yet"));
        // A task that waited here would keep others from running, perhaps the one that it waits for.
        if Handle::try_current().is_ok() {
            return Err(LayerError::away("nobody has fetched it, and here nobody can wait for it"));
        }
        let Some(runtime) = &self.runtime else { return work.now_or_never().unwrap_or_else(|| Err(slow())) };
        let work = match works.known(key) {
            Some(known) => known,
            None if self.rests(store) => return Err(slow()),
            None => works.begin(key, runtime, work),
        };
        let left = if work.in_vain.load(Ordering::Relaxed) { Duration::ZERO } else { self.left(workflow_id) };
        let began = Instant::now();
        let result = work.wait(left);
        self.spend(workflow_id, began.elapsed());
        match &result {
            None if !left.is_zero() => work.in_vain.store(true, Ordering::Relaxed),
            Some(Err(_)) if began.elapsed() > LONG => {
                lock(&self.resting).insert(store.to_owned(), Instant::now());
            }
            _ => {}
        }
        result.unwrap_or_else(|| Err(slow()))
    }

    fn rests(&self, store: &str) -> bool {
        lock(&self.resting).get(store).is_some_and(|since| since.elapsed() < REST)
    }

    fn left(&self, workflow_id: &WorkflowId) -> Duration {
        match lock(&self.spent).get(workflow_id) {
            Some((since, spent)) if since.elapsed() < WINDOW => self.wait.saturating_sub(*spent),
            _ => self.wait,
        }
    }

    fn spend(&self, workflow_id: &WorkflowId, waited: Duration) {
        let mut spent = lock(&self.spent);
        // Those that wait are few.
        spent.retain(|_, (since, _)| since.elapsed() < WINDOW);
        spent.entry(workflow_id.clone()).or_insert((Instant::now(), Duration::ZERO)).1 += waited;
    }
}
