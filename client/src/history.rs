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
use everpulse_protocol::{RunId, Timestamp, WorkflowId, shard, topic};
use everpulse_transport::Transport;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::core::Meant;
use crate::error::{Error, ErrorKind};

/// So many workflow ids of a shard are followed; the one that was asked about least lately goes first.
const FOLLOWED_MAX: usize = 10_000;
/// So often in one reading may history be trimmed under it.
const HOLES_MAX: u32 = 5;
/// So many shards are read at once, where all are.
const SHARDS_AT_ONCE: usize = 8;
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
    pub(crate) async fn view(&self, id: &WorkflowId, of: Meant) -> Result<Option<RunView>, Error> {
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
        Ok(known.runs.view(id, of))
    }

    /// All records of a run, as history shows it now: of the one that is named, or the newest of the workflow id. None if
    /// history does not have them.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(crate) async fn records(&self, id: &WorkflowId, of: Meant) -> Result<Option<Vec<Record>>, Error> {
        let number = shard::of(id, self.config.shards);
        let mut known = self.shards[number as usize].known.lock().await;
        known.follow(vec![id.clone()]);
        known.runs.exported = Some(id.clone());
        // Records are not kept: what was read is read again.
        known.begin_again();
        let read = self.read_on(number, &mut known).await;
        let records = known.runs.meant(id, of).and_then(|run| known.runs.records.remove(&run));
        known.runs.exported = None;
        known.runs.records.clear();
        read.map(|()| records)
    }

    /// The open runs whose workflow ids begin so, as history shows them now. All shards are read from their earliest entry.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(crate) async fn open_runs(&self, prefix: &str) -> Result<Vec<RunView>, Error> {
        let of_shard = |number: u32| async move {
            let mut known = Known::default();
            known.runs.prefix = Some(prefix.to_owned());
            self.read_on(number, &mut known).await?;
            Ok::<_, Error>(known.runs.open())
        };
        let shards = futures::stream::iter((0..self.config.shards).map(of_shard)).buffered(SHARDS_AT_ONCE);
        let open: Vec<Vec<RunView>> = shards.try_collect().await?;
        Ok(open.into_iter().flatten().collect())
    }

    async fn read_on(&self, number: u32, known: &mut Known) -> Result<(), Error> {
        let topic = topic::partition(topic::HISTORY, number);
        let mut lost = None;
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
                        let whole = self.take_opened(number, ended, &mut known.runs);
                        return whole.map(|whole| whole && known.runs.lost().is_none());
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
            lost = known.runs.lost();
            known.begin_again();
        }
        let what = lost.unwrap_or_else(|| "has a gap: entries that a later one names are not there".to_owned());
        let message = format!(
            "{topic} {what}. Entries were trimmed or lost before all that is needed of them was carried forward: were the \
             subscription `{}` or its cursor removed? Restore the topic, or use another namespace",
            topic::JANITOR
        );
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// False where something was trimmed.
    fn take_opened(&self, number: u32, opened: Opened, runs: &mut Runs) -> Result<bool, Error> {
        match opened {
            Opened::Standing(frames) => {
                frames.into_iter().try_for_each(|stood| self.take(number, stood.frame, runs))?;
                Ok(true)
            }
            Opened::Hole { .. } => Ok(false),
            Opened::Unknown(unknown) => {
                let message = format!("history of shard {number} cannot be read on by this release: {unknown}");
                Err(Error::new(ErrorKind::Refused, message))
            }
        }
    }

    fn take(&self, number: u32, frame: Frame, runs: &mut Runs) -> Result<(), Error> {
        if let Some(config) = &frame.config {
            self.config.check(config).map_err(|mismatch| Error::new(ErrorKind::Refused, mismatch.to_string()))?;
        }
        if frame.shard != number {
            let message = format!("history of shard {number} has a frame of shard {}", frame.shard);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        runs.first.get_or_insert(frame.number);
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
        let Runs { followed, prefix, exported, .. } = std::mem::take(&mut self.runs);
        self.runs = Runs { followed, prefix, exported, ..Runs::default() };
    }
}

/// The runs that are followed, folded.
#[derive(Debug, Default)]
struct Runs {
    followed: HashSet<WorkflowId>,
    /// What begins so is followed, too.
    prefix: Option<String>,
    folds: HashMap<RunId, Fold>,
    newest: HashMap<WorkflowId, RunId>,
    /// Carried runs whose last piece was not read, with the number of the next one.
    pieces: HashMap<RunId, (u32, Vec<Record>)>,
    /// Runs that have ended and whose records were not all read: what is known of them.
    ended: HashMap<RunId, RunView>,
    /// The workflow id whose runs' records are kept, and these.
    exported: Option<WorkflowId>,
    records: HashMap<RunId, Vec<Record>>,
    /// The number of the first frame that was read, and of the first one that is needed.
    first: Option<u64>,
    needed: u64,
}

impl Runs {
    /// What is needed of history and is not there: runs would be unknown that are not, and ends be waited for in vain.
    fn lost(&self) -> Option<String> {
        let first = self.first.filter(|first| *first > self.needed)?;
        Some(format!("begins with frame {first} where frame {} is needed", self.needed))
    }

    fn follows(&self, id: &WorkflowId) -> bool {
        let begins_so = |prefix: &String| id.as_str().starts_with(prefix.as_str());
        self.followed.contains(id) || self.prefix.as_ref().is_some_and(begins_so)
    }

    fn open(&self) -> Vec<RunView> {
        let views = self.newest.values().filter_map(|run| self.view_of(*run));
        views.filter(|view| view.closed_at.is_none()).collect()
    }

    fn take(&mut self, record: &Record) {
        match record.body() {
            Ok(RecordBody::Carried { piece, pieces, records, .. }) => {
                return self.take_piece(record, (piece, pieces), records);
            }
            Ok(RecordBody::Remembered { closed, window, .. }) => {
                closed.iter().for_each(|run| self.remember(run));
                self.needed = window.map_or(self.needed, |window| window.first);
                return;
            }
            _ => {}
        }
        // What else is of the shard, or a piece that cannot be read, tells nothing of a run.
        if !self.follows(&record.workflow_id) || !record.is_of_its_run() {
            return;
        }
        if record.seq > 0 && !self.folds.contains_key(&record.run_id) {
            return self.take_headless(record);
        }
        self.folds.entry(record.run_id).or_default().apply(record);
        if self.exported.as_ref() == Some(&record.workflow_id) {
            self.records.entry(record.run_id).or_default().push(record.clone());
        }
        if record.seq == 0 && !never_began(record) {
            self.follow_newest(&record.workflow_id, record.run_id);
        }
    }

    /// A record of a run whose beginning was trimmed. What is carried of the run has it as well; but of one that ends
    /// here nothing is carried any more, and its names are remembered in a record that comes later.
    fn take_headless(&mut self, record: &Record) {
        let Some(close) = record.close.clone() else { return };
        self.pieces.remove(&record.run_id);
        let blank = ClosedRun {
            workflow_id: record.workflow_id.clone(),
            run_id: record.run_id,
            workflow: String::new(),
            version: 0,
            started_at: record.at,
            closed_at: record.at,
            status: close.status,
            never_began: false,
            first_run: None,
            continued_as: record.continued_as(),
        };
        self.ended.insert(record.run_id, RunView { close: Some(close), ..RunView::from(&blank) });
        self.follow_newest(&record.workflow_id, record.run_id);
    }

    /// A piece of a run that is carried forward; of one that is known already it says nothing new.
    fn take_piece(&mut self, record: &Record, (piece, pieces): (u32, u32), records: Vec<Record>) {
        let run_id = record.run_id;
        if !self.follows(&record.workflow_id) || self.folds.contains_key(&run_id) {
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
            let mut fold = Fold::default();
            records.iter().for_each(|record| fold.apply(record));
            self.folds.insert(run_id, fold);
            let goes_on = records.last().is_some_and(|last| last.continued_as().is_some());
            let has_id = !goes_on && !records.first().is_some_and(never_began);
            if self.exported.as_ref() == Some(&record.workflow_id) {
                self.records.insert(run_id, records);
            }
            if has_id {
                self.follow_newest(&record.workflow_id, run_id);
            }
        }
    }

    /// A run that has ended, of which nothing else may be left.
    fn remember(&mut self, run: &ClosedRun) {
        if self.follows(&run.workflow_id) && !self.folds.contains_key(&run.run_id) {
            let known = self.ended.remove(&run.run_id);
            let close = known.and_then(|known| known.close);
            self.ended.insert(run.run_id, RunView { close, ..RunView::from(run) });
            // One for which another goes on is not the newest, also where both ended in the same millisecond.
            if !run.never_began && run.continued_as.is_none() {
                self.follow_newest(&run.workflow_id, run.run_id);
            }
        }
    }

    /// The newest run of a workflow id is the open one, or the one that ended last: what is carried and remembered is
    /// read later than runs that came after it.
    fn follow_newest(&mut self, id: &WorkflowId, run: RunId) {
        let newer =
            self.newest.get(id).is_some_and(|other| *other != run && self.ended_at(*other) > self.ended_at(run));
        if !newer {
            self.newest.insert(id.clone(), run);
        }
    }

    /// When a run ended; later than any time for one that is open.
    fn ended_at(&self, run: RunId) -> Timestamp {
        self.view_of(run).and_then(|view| view.closed_at).unwrap_or(Timestamp(u64::MAX))
    }

    fn view_of(&self, run: RunId) -> Option<RunView> {
        match self.folds.get(&run) {
            Some(fold) => fold.view(),
            None => self.ended.get(&run).cloned(),
        }
    }

    /// The run that is named, or the last one that goes on for it; the newest, if none is.
    fn meant(&self, id: &WorkflowId, of: Meant) -> Option<RunId> {
        let newest = self.newest.get(id).copied();
        let Some(run) = of.run_id else { return newest };
        if of.exact {
            return Some(run);
        }
        let Some(mut last) = self.view_of(run) else {
            // The first run may be forgotten long before the last one ends.
            let first = |newest: &RunId| self.view_of(*newest)?.continues.map(|continues| continues.first);
            return newest.filter(|newest| first(newest) == Some(run));
        };
        while let Some(next) = last.continued_as.and_then(|next| self.view_of(next)) {
            last = next;
        }
        Some(last.run_id)
    }

    fn view(&self, id: &WorkflowId, of: Meant) -> Option<RunView> {
        let run = self.meant(id, of)?;
        self.view_of(run).filter(|view| view.workflow_id == *id)
    }

    fn forget(&mut self, id: &WorkflowId) {
        self.followed.remove(id);
        self.newest.remove(id);
        self.folds.retain(|_, fold| fold.view().is_none_or(|view| view.workflow_id != *id));
        self.ended.retain(|_, run| run.workflow_id != *id);
    }
}

/// Whether it is all that there is of a child that never began: its workflow id is not its.
fn never_began(record: &Record) -> bool {
    matches!(record.body(), Ok(RecordBody::NeverBegan { .. }))
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::codec::Body;
    use everpulse_protocol::continuation::Continues;
    use everpulse_protocol::event::{IdPolicy, Outcome, Start};
    use everpulse_protocol::family::Target;
    use everpulse_protocol::history::{Close, CloseStatus, CommandKind, CommandMark, Window};
    use everpulse_protocol::view::RunStatus;
    use everpulse_protocol::{EventId, Payload};
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
            notes: Vec::new(),
            close: close.then_some(Close { status: CloseStatus::Completed, outcome }),
        }
    }

    fn only(run: u128) -> Meant {
        Meant { run_id: Some(RunId(Uuid::from_u128(run))), exact: true }
    }

    /// The run of this number, or the one that goes on for it.
    fn from(run: u128) -> Meant {
        Meant { exact: false, ..only(run) }
    }

    fn start() -> Start {
        Start {
            workflow: "checkout".into(),
            version: None,
            args: Payload::encode(&()).expect("encodes"),
            policy: IdPolicy::Attach,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: None,
            headers: None,
            priority: Default::default(),
        }
    }

    fn started() -> RecordBody {
        RecordBody::Started { start: start(), version: 3, reply_to: None, build: None }
    }

    #[test]
    fn records_are_kept_of_what_is_exported_alone_and_carried_ones_count() {
        let mut runs = Runs { followed: [id("a"), id("b")].into(), exported: Some(id("a")), ..Runs::default() };
        let signal =
            RecordBody::Signalled { headers: None, name: "s".into(), value: Payload::encode(&1).expect("encodes") };
        let records = vec![record("a", 1, 0, &started(), false), record("a", 1, 1, &signal, false)];
        let carried = RecordBody::Carried { piece: 0, pieces: 1, records: records.clone(), commands: Vec::new() };
        runs.take(&record("a", 1, 2, &carried, false));
        runs.take(&record("a", 1, 2, &signal, true));
        runs.take(&record("b", 2, 0, &started(), false));
        let kept = &runs.records[&RunId(Uuid::from_u128(1))];
        assert_eq!(kept[..2], records[..]);
        assert_eq!((kept.len(), kept[2].seq, runs.records.len()), (3, 2, 1));
    }

    #[test]
    fn without_a_run_id_the_newest_run_is_shown() {
        let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
        runs.take(&record("a", 1, 0, &started(), true));
        runs.take(&record("a", 2, 0, &started(), false));
        runs.take(&record("other", 3, 0, &started(), false));
        let newest = runs.view(&id("a"), Meant::default()).expect("known");
        assert_eq!((newest.run_id.0.as_u128(), newest.version, newest.close), (2, 3, None));
        let first = runs.view(&id("a"), only(1)).expect("known");
        assert!(first.close.is_some());
        assert!(runs.view(&id("other"), Meant::default()).is_none(), "nobody asked about it");
    }

    #[test]
    fn a_run_that_was_carried_forward_is_the_same_run() {
        let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
        let signal =
            RecordBody::Signalled { headers: None, name: "s".into(), value: Payload::encode(&1).expect("encodes") };
        let later = record("a", 1, 1, &signal, false);
        let pieces = [(0, 0, record("a", 1, 0, &started(), false)), (1, 2, later.clone())];
        for (piece, pieces, part) in pieces {
            assert!(runs.view(&id("a"), Meant::default()).is_none(), "the last piece counts");
            let carried = RecordBody::Carried { piece, pieces, records: vec![part], commands: Vec::new() };
            // It was written between the pieces, and is in the last one.
            runs.take(&later);
            runs.take(&record("a", 1, 2, &carried, false));
        }
        let view = runs.view(&id("a"), Meant::default()).expect("known");
        assert_eq!((view.workflow.as_str(), view.records), ("checkout", 2));
        runs.take(&record("a", 1, 2, &signal, false));
        assert_eq!(runs.view(&id("a"), Meant::default()).expect("known").records, 3);
    }

    fn closed_run(run: u128, closed_at: u64) -> ClosedRun {
        ClosedRun {
            workflow_id: id("a"),
            run_id: RunId(Uuid::from_u128(run)),
            workflow: "checkout".into(),
            version: 3,
            started_at: Timestamp(0),
            closed_at: Timestamp(closed_at),
            status: CloseStatus::Completed,
            never_began: false,
            first_run: None,
            continued_as: None,
        }
    }

    fn remembered(closed: Vec<ClosedRun>, first: Option<u64>) -> Record {
        let window = first.map(|first| Window { first, ..Window::default() });
        record("other", 9, 0, &RecordBody::Remembered { closed, inputs: Vec::new(), window }, false)
    }

    #[test]
    fn the_end_of_a_run_counts_though_its_beginning_was_trimmed() {
        let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
        let signal =
            RecordBody::Signalled { headers: None, name: "s".into(), value: Payload::encode(&1).expect("encodes") };
        runs.take(&record("a", 1, 4, &signal, false));
        assert!(runs.view(&id("a"), Meant::default()).is_none(), "what is carried of it will say what it is");
        runs.take(&record("a", 1, 5, &signal, true));
        let ended = runs.view(&id("a"), Meant::default()).expect("known");
        assert!(ended.close.is_some() && ended.closed_at == Some(Timestamp(5)));
        runs.take(&remembered(vec![closed_run(1, 5)], None));
        let named = runs.view(&id("a"), Meant::default()).expect("known");
        assert_eq!((named.workflow.as_str(), named.version), ("checkout", 3));
        assert_eq!(named.close, ended.close, "and its end is kept");
    }

    #[test]
    fn what_is_carried_of_an_old_run_hides_no_newer_one() {
        for newer_is_open in [true, false] {
            let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
            // It ended with commands that may not be sent, and was carried after the next run began.
            let signal =
                RecordBody::Signalled { headers: None, name: "s".into(), value: Payload::encode(&1).expect("encodes") };
            let newer = Record { at: Timestamp(10), ..record("a", 2, 0, &started(), !newer_is_open) };
            runs.take(&newer);
            let records = vec![record("a", 1, 0, &started(), false), record("a", 1, 1, &signal, true)];
            let carried = RecordBody::Carried { piece: 0, pieces: 1, records, commands: Vec::new() };
            runs.take(&record("a", 1, 2, &carried, false));
            runs.take(&remembered(vec![closed_run(3, 5)], None));
            let newest = runs.view(&id("a"), Meant::default()).expect("known");
            assert_eq!((newest.run_id, newest.close.is_some()), (newer.run_id, !newer_is_open));
            let old = runs.view(&id("a"), only(1)).expect("known");
            assert!(old.close.is_some() && old.records == 2);
        }
    }

    #[test]
    fn a_run_that_went_on_is_followed_to_the_last_one() {
        let run = |number: u128| RunId(Uuid::from_u128(number));
        let continued = |number: u32| {
            let previous = run(u128::from(number));
            let continues = Continues { first: run(1), previous, number, version: 3 };
            RecordBody::Continued { start: start(), version: 3, continues, parent: None, build: None }
        };
        let ends = |record: Record| {
            let target =
                Target { workflow_id: id("a"), run_id: Some(run(record.run_id.0.as_u128() + 1)), on_close: None };
            let mark =
                CommandMark { target: Some(Box::new(target)), ..CommandMark::new(0, CommandKind::ContinueAsNew) };
            let close = Close { status: CloseStatus::ContinuedAsNew, ..record.close.clone().expect("it ends") };
            Record { commands: vec![mark], close: Some(close), ..record }
        };
        let mut runs = Runs { followed: [id("a")].into(), ..Runs::default() };
        // The first one is forgotten, and of the second one its end is left.
        runs.take(&ends(record("a", 2, 4, &RecordBody::Resumed, true)));
        runs.take(&record("a", 3, 0, &continued(2), false));
        runs.take(&remembered(
            vec![ClosedRun { status: CloseStatus::ContinuedAsNew, continued_as: Some(run(3)), ..closed_run(2, 4) }],
            None,
        ));
        for of in [Meant::default(), from(1), from(2), from(3), only(3)] {
            assert_eq!(runs.view(&id("a"), of).map(|view| view.run_id), Some(run(3)), "{of:?}");
        }
        let second = runs.view(&id("a"), only(2)).expect("known");
        assert_eq!((second.status, second.continued_as), (RunStatus::ContinuedAsNew, Some(run(3))));
        assert!(runs.view(&id("a"), only(1)).is_none() && runs.view(&id("a"), from(7)).is_none());
    }

    #[test]
    fn a_frame_that_is_needed_and_not_there_is_missed() {
        let mut runs = Runs { first: Some(7), needed: 0, ..Runs::default() };
        assert!(runs.lost().is_some_and(|lost| lost.contains("frame 7 where frame 0")), "nothing was carried");
        runs.take(&remembered(Vec::new(), Some(6)));
        assert!(runs.lost().is_some_and(|lost| lost.contains("frame 6 is needed")));
        runs.take(&remembered(Vec::new(), Some(7)));
        assert_eq!(runs.lost(), None);
    }

    #[test]
    fn the_memory_of_followed_ids_is_bounded() {
        let mut known = Known::default();
        known.follow((0..FOLLOWED_MAX + 2).map(|n| id(&n.to_string())).collect());
        assert_eq!(known.runs.followed.len(), FOLLOWED_MAX);
        assert!(!known.runs.followed.contains(&id("0")));
    }
}
