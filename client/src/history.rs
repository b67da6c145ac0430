//! Answers from history, for when no worker is alive: a reader of history sees what an owner sees, a little later.
//!
//! Only runs that somebody asked about are kept. A shard is read from its earliest entry when a run is asked about for
//! the first time (all that are asked about meanwhile share that reading), and from where it was left afterwards.
//! History cannot say that a run does not exist: its start may still lie in the inbox. That is for owners to say.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::history::{Frame, Record, RecordBody};
use everpulse_protocol::shard::Config;
use everpulse_protocol::view::{Fold, RunView};
use everpulse_protocol::{RunId, WorkflowId, shard, topic};
use everpulse_transport::Transport;

use crate::error::{Error, ErrorKind};

/// So many workflow ids of a shard are followed; the one that was asked about least lately goes first.
const FOLLOWED_MAX: usize = 10_000;
/// How long a shard's history is read before that is given up.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The histories of all shards, as far as they were asked for.
#[derive(Debug, Clone)]
pub(crate) struct Histories {
    transport: Transport,
    config: Arc<Config>,
    shards: Arc<[Shard]>,
}

#[derive(Debug, Default)]
struct Shard {
    asked: Mutex<Vec<WorkflowId>>,
    known: tokio::sync::Mutex<Known>,
}

impl Histories {
    pub(crate) fn new(transport: Transport, shards: u32, inbox_partitions: u32) -> Self {
        Self {
            transport,
            config: Arc::new(Config::new(shards, inbox_partitions)),
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
        }
    }

    /// A run as history shows it now: the one that is named, or the newest of the workflow id.
    ///
    /// # Errors
    /// When history cannot be read, or was written for another count of shards.
    pub(crate) async fn view(&self, id: &WorkflowId, run: Option<RunId>) -> Result<Option<RunView>, Error> {
        let number = shard::of(id, self.config.shards);
        let shard = &self.shards[number as usize];
        let asked = || shard.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked().push(id.clone());
        let mut known = shard.known.lock().await;
        let asked_about = std::mem::take(&mut *asked());
        known.follow(asked_about);
        // Another one who asked about it may have taken it from the list.
        known.follow(vec![id.clone()]);
        self.read_on(number, &mut known).await?;
        Ok(known.runs.view(id, run))
    }

    async fn read_on(&self, number: u32, known: &mut Known) -> Result<(), Error> {
        let topic = topic::partition(topic::HISTORY, number);
        for _ in 0..2 {
            let mut reader = self.transport.reader(&topic, known.chain.read_to());
            let limit = Duration::from_secs(10);
            let Some(end) = reader.last_position(limit).await? else { return Ok(()) };
            let reading = async {
                while known.chain.read_to().is_none_or(|read_to| read_to < end) {
                    let entry = reader.next().await;
                    match known.chain.offer(entry.position, &entry.payload) {
                        Offered::Stands(frame) => self.take(number, frame, &mut known.runs)?,
                        Offered::Void(_) | Offered::Unreadable(_) => {}
                        Offered::Hole { .. } => return Ok(false),
                    }
                }
                Ok::<_, Error>(true)
            };
            let read = tokio::time::timeout(READ_LIMIT, reading).await.map_err(|_| {
                Error::new(ErrorKind::Unreachable, format!("reading {topic} took longer than {READ_LIMIT:?}"))
            })?;
            if read? {
                return Ok(());
            }
            // Something was trimmed under us: once more, from what is the earliest entry now.
            known.begin_again();
        }
        let message = format!("{topic} has a gap: entries that a later one names are not there");
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    fn take(&self, number: u32, frame: Frame, runs: &mut Runs) -> Result<(), Error> {
        if let Some(config) = &frame.config {
            self.config.check(config).map_err(|mismatch| Error::new(ErrorKind::Refused, mismatch.to_string()))?;
        }
        if frame.shard != number {
            let message = format!("history of shard {number} has a frame of shard {}", frame.shard);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        frame.records.iter().for_each(|record| runs.take(record));
        Ok(())
    }
}

/// What was read of one shard.
#[derive(Debug, Default)]
struct Known {
    chain: Chain,
    runs: Runs,
    order: VecDeque<WorkflowId>,
}

impl Known {
    /// Follows more workflow ids. What was read before does not know them, so it is read again.
    fn follow(&mut self, ids: Vec<WorkflowId>) {
        let mut new = false;
        for id in ids {
            if self.runs.followed.insert(id.clone()) {
                self.order.push_back(id);
                new = true;
            }
        }
        while self.order.len() > FOLLOWED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.runs.forget(&oldest);
        }
        if new {
            self.begin_again();
        }
    }

    fn begin_again(&mut self) {
        self.chain = Chain::new();
        self.runs.folds.clear();
        self.runs.newest.clear();
    }
}

/// The runs that are followed, folded.
#[derive(Debug, Default)]
struct Runs {
    followed: HashSet<WorkflowId>,
    folds: HashMap<RunId, Fold>,
    newest: HashMap<WorkflowId, RunId>,
}

impl Runs {
    fn take(&mut self, record: &Record) {
        if let Ok(RecordBody::Carried { records, .. }) = record.body() {
            return records.iter().for_each(|record| self.take(record));
        }
        if !self.followed.contains(&record.workflow_id) {
            return;
        }
        let begins = !self.folds.contains_key(&record.run_id);
        self.folds.entry(record.run_id).or_default().apply(record);
        if begins {
            self.newest.insert(record.workflow_id.clone(), record.run_id);
        }
    }

    fn view(&self, id: &WorkflowId, run: Option<RunId>) -> Option<RunView> {
        let run = run.or_else(|| self.newest.get(id).copied())?;
        self.folds.get(&run)?.view().filter(|view| view.workflow_id == *id)
    }

    fn forget(&mut self, id: &WorkflowId) {
        self.followed.remove(id);
        self.newest.remove(id);
        self.folds.retain(|_, fold| fold.view().is_none_or(|view| view.workflow_id != *id));
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::codec::Body;
    use everpulse_protocol::event::{IdPolicy, Outcome, Start};
    use everpulse_protocol::history::{Close, CloseStatus};
    use everpulse_protocol::{EventId, Payload, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn id(text: &str) -> WorkflowId {
        WorkflowId::new(text).expect("a good id")
    }

    fn record(workflow: &str, run: u128, seq: u32, body: &RecordBody, close: bool) -> Record {
        let outcome = Outcome::Done(Payload::encode(&run).expect("encodes"));
        Record {
            workflow_id: id(workflow),
            run_id: RunId(Uuid::from_u128(run)),
            seq,
            event: EventId(Uuid::from_u128(run + u128::from(seq))),
            at: Timestamp(u64::from(seq)),
            body: Body::of(body),
            commands: Vec::new(),
            close: close.then_some(Close { status: CloseStatus::Completed, outcome }),
        }
    }

    fn started() -> RecordBody {
        let start = Start {
            workflow: "checkout".into(),
            version: None,
            args: Payload::encode(&()).expect("encodes"),
            policy: IdPolicy::Attach,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: None,
        };
        RecordBody::Started { start, version: 3, reply_to: None }
    }

    #[test]
    fn without_a_run_id_the_newest_run_is_shown() {
        let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
        runs.take(&record("a", 1, 0, &started(), true));
        runs.take(&record("a", 2, 0, &started(), false));
        runs.take(&record("other", 3, 0, &started(), false));
        let newest = runs.view(&id("a"), None).expect("known");
        assert_eq!((newest.run_id.0.as_u128(), newest.version, newest.close), (2, 3, None));
        let first = runs.view(&id("a"), Some(RunId(Uuid::from_u128(1)))).expect("known");
        assert!(first.close.is_some());
        assert!(runs.view(&id("other"), None).is_none(), "nobody asked about it");
    }

    #[test]
    fn a_run_that_was_carried_forward_is_the_same_run() {
        let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
        let records = vec![record("a", 1, 0, &started(), false)];
        let carried = RecordBody::Carried { piece: 0, pieces: 1, records };
        runs.take(&record("a", 1, 0, &carried, false));
        assert_eq!(runs.view(&id("a"), None).expect("known").workflow, "checkout");
    }

    #[test]
    fn the_memory_of_followed_ids_is_bounded() {
        let mut known = Known::default();
        known.follow((0..FOLLOWED_MAX + 2).map(|n| id(&n.to_string())).collect());
        assert_eq!(known.runs.followed.len(), FOLLOWED_MAX);
        assert!(!known.runs.followed.contains(&id("0")));
    }
}
