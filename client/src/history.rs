//! Answers from history, for when no worker is alive: a reader of history sees what an owner sees, a little later.
//!
//! Only runs that somebody asked about are kept. A shard is read from its earliest entry when a run is asked about for
//! the first time (all that are asked about meanwhile share that reading), and from where it was left afterwards.
//! History cannot say that a run does not exist: its start may still lie in the inbox. That is for owners to say.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_protocol::chain::{Opened, Opening};
use everpulse_protocol::history::{ClosedRun, Frame, Record, RecordBody};
use everpulse_protocol::shard::Config;
use everpulse_protocol::view::{Fold, RunView};
use everpulse_protocol::{RunId, WorkflowId, shard, topic};
use everpulse_transport::Transport;

use crate::error::{Error, ErrorKind};

/// So many workflow ids of a shard are followed; the one that was asked about least lately goes first.
const FOLLOWED_MAX: usize = 10_000;
/// So often in one reading may history be trimmed under it.
const HOLES_MAX: u32 = 5;
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
        for _ in 0..HOLES_MAX {
            let mut reader = self.transport.reader(&topic, known.chain.read_to());
            let reading = async {
                // What was read is believed when the tail, asked for afterwards, is where it ended: what is trimmed
                // under a reader is skipped in silence.
                loop {
                    let end = reader.last_position(Duration::from_secs(10)).await?;
                    let behind = |chain: &Opening| end.is_some_and(|end| chain.read_to() < Some(end));
                    if !behind(&known.chain) {
                        let ended = known.chain.end();
                        return self.take_opened(number, ended, &mut known.runs);
                    }
                    while behind(&known.chain) {
                        let entry = reader.next().await;
                        let opened = known.chain.offer(entry.position, entry.payload);
                        if !self.take_opened(number, opened, &mut known.runs)? {
                            return Ok(false);
                        }
                    }
                }
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

    /// False where something was trimmed.
    fn take_opened(&self, number: u32, opened: Opened, runs: &mut Runs) -> Result<bool, Error> {
        let Opened::Standing(frames) = opened else { return Ok(false) };
        frames.into_iter().try_for_each(|(_, _, frame)| self.take(number, frame, runs))?;
        Ok(true)
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
    chain: Opening,
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
        self.chain = Opening::new();
        self.runs = Runs { followed: std::mem::take(&mut self.runs.followed), ..Runs::default() };
    }
}

/// The runs that are followed, folded.
#[derive(Debug, Default)]
struct Runs {
    followed: HashSet<WorkflowId>,
    folds: HashMap<RunId, Fold>,
    newest: HashMap<WorkflowId, RunId>,
    /// Carried runs whose last piece was not read, with the number of the next one.
    pieces: HashMap<RunId, (u32, Vec<Record>)>,
    remembered: HashMap<RunId, ClosedRun>,
}

impl Runs {
    fn take(&mut self, record: &Record) {
        match record.body() {
            Ok(RecordBody::Carried { piece, pieces, records, .. }) => {
                return self.take_piece(record, (piece, pieces), records);
            }
            Ok(RecordBody::Remembered { closed, .. }) => return closed.iter().for_each(|run| self.remember(run)),
            _ => {}
        }
        if !self.followed.contains(&record.workflow_id) {
            return;
        }
        let begins = !self.folds.contains_key(&record.run_id);
        // Its beginning was trimmed: what was carried of it has this record as well.
        if begins && record.seq > 0 {
            return;
        }
        self.folds.entry(record.run_id).or_default().apply(record);
        if begins {
            self.newest.insert(record.workflow_id.clone(), record.run_id);
        }
    }

    /// A piece of a run that is carried forward; of one that is known already it says nothing new.
    fn take_piece(&mut self, record: &Record, (piece, pieces): (u32, u32), records: Vec<Record>) {
        let run_id = record.run_id;
        if !self.followed.contains(&record.workflow_id) || self.folds.contains_key(&run_id) {
            return;
        }
        if piece == 0 {
            self.pieces.insert(run_id, (0, Vec::new()));
        }
        let Some((next, so_far)) = self.pieces.get_mut(&run_id).filter(|(next, _)| *next == piece) else { return };
        *next += 1;
        so_far.extend(records);
        if pieces == piece + 1
            && let Some((_, records)) = self.pieces.remove(&run_id)
        {
            records.iter().for_each(|record| self.take(record));
        }
    }

    /// A run that has ended, of which nothing else may be left.
    fn remember(&mut self, run: &ClosedRun) {
        if self.followed.contains(&run.workflow_id) && !self.folds.contains_key(&run.run_id) {
            self.remembered.insert(run.run_id, run.clone());
            let newest = self.newest.entry(run.workflow_id.clone()).or_insert(run.run_id);
            if self.remembered.get(newest).is_some_and(|other| other.closed_at <= run.closed_at) {
                *newest = run.run_id;
            }
        }
    }

    fn view(&self, id: &WorkflowId, run: Option<RunId>) -> Option<RunView> {
        let run = run.or_else(|| self.newest.get(id).copied())?;
        let view = match self.folds.get(&run) {
            Some(fold) => fold.view(),
            None => self.remembered.get(&run).map(RunView::from),
        };
        view.filter(|view| view.workflow_id == *id)
    }

    fn forget(&mut self, id: &WorkflowId) {
        self.followed.remove(id);
        self.newest.remove(id);
        self.folds.retain(|_, fold| fold.view().is_none_or(|view| view.workflow_id != *id));
        self.remembered.retain(|_, run| run.workflow_id != *id);
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
        let signal = RecordBody::Signalled { name: "s".into(), value: Payload::encode(&1).expect("encodes") };
        let later = record("a", 1, 1, &signal, false);
        let pieces = [(0, 0, record("a", 1, 0, &started(), false)), (1, 2, later.clone())];
        for (piece, pieces, part) in pieces {
            assert!(runs.view(&id("a"), None).is_none(), "the last piece counts");
            let carried = RecordBody::Carried { piece, pieces, records: vec![part], commands: Vec::new() };
            // It was written between the pieces, and is in the last one.
            runs.take(&later);
            runs.take(&record("a", 1, 2, &carried, false));
        }
        let view = runs.view(&id("a"), None).expect("known");
        assert_eq!((view.workflow.as_str(), view.records), ("checkout", 2));
        runs.take(&record("a", 1, 2, &signal, false));
        assert_eq!(runs.view(&id("a"), None).expect("known").records, 3);
    }

    #[test]
    fn the_memory_of_followed_ids_is_bounded() {
        let mut known = Known::default();
        known.follow((0..FOLLOWED_MAX + 2).map(|n| id(&n.to_string())).collect());
        assert_eq!(known.runs.followed.len(), FOLLOWED_MAX);
        assert!(!known.runs.followed.contains(&id("0")));
    }
}
