//! One partition: its chain, its recorded time, and what its runs have to do with each other.
//!
//! Only what stands is judged; a void frame is void as a whole.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::Rules;
use crate::chain::{self, Entry};
use crate::format::{Body, Frame, Id, Position, Record};
use crate::report::{Kind, Place, Report, ShardReport, Violation};
use crate::run::{Judge, Status};
use crate::succession::Succession;
use crate::tagged::Tagged;

/// Wake-ups are never due further ahead than this.
const WAKE_AHEAD_MS_MAX: u64 = 3_600_000;
const FORMAT: u64 = 1;
const HASH: &str = "xxh3-64";

/// Judges a partition, and adds what was found to the report.
pub fn check(shard: u32, shards: u32, entries: &[(Position, Vec<u8>)], rules: &Rules, report: &mut Report) {
    let violations = &mut report.violations;
    let entries: Vec<Entry> = entries.iter().map(|(position, bytes)| Entry::new(*position, bytes)).collect();
    for entry in &entries {
        if let Err(reason) = &entry.frame {
            let place = Place::entry(shard, entry.position);
            violations.push(place.fault(Kind::Unreadable, format!("the entry is no frame: it {reason}")));
        }
    }
    for pair in entries.windows(2) {
        if pair[0].position >= pair[1].position {
            let message = format!("the entry was read after {}: the reading is at fault", pair[0].position);
            violations.push(Place::entry(shard, pair[1].position).fault(Kind::Reading, message));
        }
    }
    let judged = chain::judge(shard, &entries, violations);

    let mut judge = Shard { shard, shards, trimmed: judged.trimmed, ..Shard::default() };
    let mut last = None;
    for &at in &judged.standing {
        if let Ok(frame) = &entries[at].frame {
            if let Some(reason) = &frame.sealed {
                let message = format!("the frame stands, and {reason}; what it and those behind it say is not judged");
                let place = Place::frame(shard, frame.number, entries[at].position);
                violations.push(place.fault(Kind::Unknown, message));
                break;
            }
            judge.frame(frame, entries[at].position, rules, violations);
            last = Some(frame);
        }
    }
    judge.check_trim(judged.standing.first().and_then(|at| entries.get(*at)), violations);
    let runs = judge.runs.into_iter().map(|judge| judge.run);
    let open = judge.open_of.len();
    report.shards.push(ShardReport {
        shard,
        entries: entries.len(),
        standing: judged.standing.len(),
        unreadable: entries.iter().filter(|entry| entry.frame.is_err()).count(),
        void: judged.void,
        trimmed: judged.trimmed,
        records: judge.records,
        open,
        last_number: last.map(|frame| frame.number),
        recorded_time_ms: last.map(|frame| frame.at),
        wake_due_ms: last.and_then(|frame| frame.wake).map(|wake| wake.due),
    });
    report.runs.extend(runs);
}

/// Whether a run, of which these are all records, was begun with an event that the run before had left.
fn goes_along(records: &[Record], event: Id) -> bool {
    let received = |record: &Record| matches!(record.body, Body::Received { event: taken, .. } if taken == event);
    let begins = |record: &Record| matches!(&record.body, Body::Received { body, .. } if matches!(**body, Body::Continued { .. }));
    records.first().is_some_and(begins)
        && records.iter().take_while(|record| matches!(record.body, Body::Received { .. })).any(received)
}

fn seqs(records: &[Record]) -> Vec<u32> {
    records.iter().map(|record| record.seq).collect()
}

/// What is known of a shard up to a frame.
#[derive(Default)]
struct Shard {
    shard: u32,
    shards: u32,
    trimmed: bool,
    frame_at: u64,
    record_at: u64,
    records: usize,
    runs: Vec<Judge>,
    run_of: HashMap<Id, usize>,
    open_of: HashMap<String, Id>,
    /// Where each event took effect, or is carried that it did.
    events: HashMap<Id, Place>,
    /// Ids of runs that ended and of inputs that were taken, in frames that may be trimmed; where that is said.
    remembered: HashMap<Id, Place>,
    /// Runs of which some pieces were carried.
    pieces: HashMap<Id, (u32, Vec<Record>)>,
    /// Frames before this may be trimmed.
    first_needed: u64,
    /// Runs of the frame that go on for others.
    succession: Succession,
    /// Runs with tags, and signals to all of them.
    tagged: Tagged,
}

impl Shard {
    /// No more was trimmed than history says may go, and what is open is known from its beginning.
    fn check_trim(&self, first: Option<&Entry>, violations: &mut Vec<Violation>) {
        let Some((entry, frame)) = first.and_then(|entry| Some((entry, entry.frame.as_ref().ok()?))) else { return };
        let place = Place::frame(self.shard, frame.number, entry.position);
        if frame.number > self.first_needed && self.trimmed {
            let message = format!("history begins here, but frame {} is needed", self.first_needed);
            violations.push(place.fault(Kind::Carried, message));
        }
        for judge in self.runs.iter().filter(|judge| judge.run.partial && judge.run.status == Status::Open) {
            let message = "the run is open, and its beginning neither stands nor is carried".to_owned();
            violations.push(place.fault(Kind::Carried, message).of(judge.run.workflow_id.clone(), judge.run.run_id));
        }
    }

    fn frame(&mut self, frame: &Frame, position: Position, rules: &Rules, violations: &mut Vec<Violation>) {
        let place = Place::frame(self.shard, frame.number, position);
        let mut fault = |kind, message: String| violations.push(place.fault(kind, message));
        if frame.shard != self.shard {
            fault(Kind::Shard, format!("the frame says that it belongs to shard {}", frame.shard));
        }
        if frame.at < self.frame_at {
            fault(Kind::Time, format!("recorded time goes back from {} to {} ms", self.frame_at, frame.at));
        }
        if frame.number == 0 && frame.config.is_none() {
            fault(Kind::Config, "the first frame does not say what the application fixed".to_owned());
        }
        if let Some(config) = &frame.config {
            if config.shards != self.shards {
                fault(Kind::Config, format!("the frame says {} shards, but there are {}", config.shards, self.shards));
            }
            if config.format != FORMAT || config.hash != HASH {
                fault(Kind::Config, format!("format {} with hash {:?} is not known here", config.format, config.hash));
            }
        }
        if let Some(wake) = frame.wake {
            if wake.shard != self.shard {
                fault(Kind::Wake, format!("the current wake-up is one of shard {}", wake.shard));
            }
            let ahead = wake.due.saturating_sub(frame.at);
            if ahead > WAKE_AHEAD_MS_MAX {
                fault(Kind::Wake, format!("the current wake-up is due {ahead} ms ahead, more than an hour"));
            }
        }
        // Nothing leaves before its cause is known to stand.
        let known = frame.verified.map_or(0, |verified| verified.number.saturating_add(1));
        if frame.sent_below > known {
            let message = format!("commands of all frames below {} are said to be sent", frame.sent_below);
            fault(Kind::SentEarly, format!("{message}, but only frames below {known} are verified"));
        }
        self.tagged.frame(frame.number);
        for record in &frame.records {
            self.record(record, frame, place, rules, violations);
        }
        violations.extend(self.succession.end(place));
        self.frame_at = self.frame_at.max(frame.at);
    }

    fn record(&mut self, record: &Record, frame: &Frame, place: Place, rules: &Rules, violations: &mut Vec<Violation>) {
        self.records += 1;
        match &record.body {
            Body::Carried { piece, pieces, records } => {
                return self.carried(record, (*piece, *pieces), records, frame, place, rules, violations);
            }
            Body::Remembered { first, closed, inputs } => {
                self.remember(closed, inputs, place, violations);
                let verified = frame.verified.map_or(0, |verified| verified.number);
                if let Some(first) = first {
                    self.first_needed = self.first_needed.max(*first);
                    if *first > verified {
                        let message = format!("frames before {first} may go, but only frame {verified} is verified");
                        violations.push(place.fault(Kind::Carried, message));
                    }
                }
                return;
            }
            Body::TagReached { signal, tag, since, all } => {
                return violations.extend(self.tagged.reached((*signal, tag), *since, *all, place));
            }
            Body::Unknown { kind } if record.run_id == Id::default() => {
                let message = format!("a record of the shard is of the unknown kind {kind:?}; it is not judged");
                violations.push(place.fault(Kind::Unknown, message));
                return;
            }
            _ => {}
        }
        let mut fault = |kind, message: String| {
            violations.push(place.fault(kind, message).of(record.workflow_id.clone(), record.run_id));
        };
        let belongs = xxh3_64(record.workflow_id.as_bytes()) % u64::from(self.shards.max(1));
        if belongs != u64::from(self.shard) {
            fault(Kind::Shard, format!("the workflow id belongs to shard {belongs}"));
        }
        let earliest = self.record_at.max(self.frame_at);
        if record.at < earliest {
            fault(Kind::Time, format!("the record's time goes back from {earliest} to {} ms", record.at));
        }
        if record.at > frame.at {
            fault(Kind::Time, format!("the record's time {} ms is after its frame's, {} ms", record.at, frame.at));
        }
        self.record_at = self.record_at.max(record.at);
        if !self.is_handed_on(record) {
            self.check_event(record, place, &mut fault);
        }
        if let Some(message) = self.tagged.takes(record) {
            fault(Kind::Tagged, message);
        }
        let index = match self.run_of.get(&record.run_id) {
            Some(&index) => index,
            None => {
                let takes_id = !matches!(record.body, Body::NeverBegan { .. });
                if let Some(open) = self.open_of.get(&record.workflow_id).filter(|_| takes_id) {
                    fault(Kind::OpenTwice, format!("the run begins while run {open} of its workflow id is open"));
                }
                self.runs.push(Judge::new(self.shard, record, frame.writer, self.trimmed));
                self.run_of.insert(record.run_id, self.runs.len() - 1);
                if takes_id {
                    self.open_of.insert(record.workflow_id.clone(), record.run_id);
                }
                if let Some(message) = self.succession.begins(record) {
                    fault(Kind::Succession, message);
                }
                self.runs.len() - 1
            }
        };
        let judge = &mut self.runs[index];
        if judge.run.workflow_id != record.workflow_id {
            fault(Kind::RunId, format!("the run id is that of a run of {:?}", judge.run.workflow_id));
        }
        judge.apply(record, place, rules, violations);
        self.succession.ends(&judge.run);
        if judge.run.status != Status::Open && self.open_of.get(&record.workflow_id) == Some(&record.run_id) {
            self.open_of.remove(&record.workflow_id);
        }
    }

    /// A piece of a run. What it repeats has to be what stood, and the last one has to bear all of it; of a run whose
    /// beginning was trimmed it is all that is known.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of one record and where it stands")]
    fn carried(
        &mut self,
        record: &Record,
        (piece, pieces): (u32, Option<u32>),
        records: &[Record],
        frame: &Frame,
        place: Place,
        rules: &Rules,
        violations: &mut Vec<Violation>,
    ) {
        let run_id = record.run_id;
        let known = self.run_of.get(&run_id).copied();
        let fault = |message: String| place.fault(Kind::Carried, message).of(record.workflow_id.clone(), run_id);
        if let Some(judge) = known.and_then(|index| self.runs.get(index)) {
            for carried in records.iter().filter(|carried| !judge.repeats(carried)) {
                violations.push(fault(format!("record {} is carried with other words than it stood", carried.seq)));
            }
        }
        if piece == 0 {
            self.pieces.insert(run_id, (0, Vec::new()));
        }
        let Some((next, so_far)) = self.pieces.get_mut(&run_id).filter(|(next, _)| *next == piece) else {
            // The first pieces may be trimmed with what they were carried for.
            if !self.trimmed {
                violations.push(fault(format!("piece {piece} has none before it")));
            }
            return;
        };
        *next += 1;
        so_far.extend_from_slice(records);
        let Some(pieces) = pieces else { return };
        let Some((count, records)) = self.pieces.remove(&run_id) else { return };
        let dense = records.iter().zip(0..).all(|(record, seq)| record.seq == seq);
        let Some(begins) = records.first().filter(|_| count == pieces && dense) else {
            violations.push(fault(format!("{count} of {pieces} pieces have records {:?}", seqs(&records))));
            return;
        };
        let there = u32::try_from(records.len()).unwrap_or(u32::MAX);
        match known.and_then(|index| self.runs.get_mut(index)) {
            Some(judge) if !judge.run.partial => {
                if judge.next_seq() != there {
                    let stood = judge.next_seq();
                    violations.push(fault(format!("{there} records are carried of a run that has {stood}")));
                }
            }
            _ => {
                // Its beginning is only here. What stood of it since then is in the pieces too.
                let read = known.and_then(|index| self.runs.get(index));
                for record in records.iter().filter(|record| !read.is_some_and(|judge| judge.has_read(record.seq))) {
                    // That something was received says nothing of when it took effect.
                    if matches!(record.body, Body::Received { .. }) {
                        continue;
                    }
                    // What went along took effect in one run after the other.
                    if self.succession.has_handed_on(record.event) || goes_along(&records, record.event) {
                        self.events.entry(record.event).or_insert(place);
                        continue;
                    }
                    if let Some(first) = self.events.insert(record.event, place) {
                        let message = format!("event {} is carried, but took effect before, at {first}", record.event);
                        let workflow_id = record.workflow_id.clone();
                        violations.push(place.fault(Kind::EventTwice, message).of(workflow_id, run_id));
                    }
                }
                let mut judge = Judge::new(self.shard, begins, frame.writer, true);
                for record in &records {
                    judge.apply(record, place, rules, violations);
                }
                self.tagged.is_carried(&records);
                let is_open = judge.run.status == Status::Open;
                match known {
                    Some(index) => self.runs[index] = judge,
                    None => {
                        self.runs.push(judge);
                        self.run_of.insert(run_id, self.runs.len() - 1);
                    }
                }
                if is_open {
                    self.open_of.insert(record.workflow_id.clone(), run_id);
                }
            }
        }
    }

    /// Ids that are remembered in the place of frames that may be trimmed: none of them takes effect again.
    fn remember(&mut self, closed: &[(String, Id)], inputs: &[Id], place: Place, violations: &mut Vec<Violation>) {
        for event in inputs {
            self.remembered.entry(*event).or_insert(place);
        }
        for (workflow_id, run_id) in closed {
            self.remembered.entry(*run_id).or_insert(place);
            let Some(judge) = self.run_of.get(run_id).and_then(|index| self.runs.get(*index)) else { continue };
            let mut fault = |message: &str| {
                violations.push(place.fault(Kind::Carried, message.to_owned()).of(workflow_id.clone(), *run_id));
            };
            if judge.run.status == Status::Open {
                fault("the run is remembered as one that ended, but it is open");
            }
            if judge.run.workflow_id != *workflow_id {
                fault("the run is remembered under another workflow id");
            }
        }
    }

    /// Whether what a run receives in the frame in which it begins is what the run before has left it. It may be new as well: what
    /// comes behind the event that ended the one before is for this one.
    fn is_handed_on(&mut self, record: &Record) -> bool {
        let Body::Received { event, .. } = &record.body else { return false };
        let before = self.succession.before(record.run_id, *event);
        let Some(judge) = before.and_then(|run| self.runs.get_mut(*self.run_of.get(&run)?)) else { return false };
        // It may take effect once more now, in the next run.
        let had = self.events.remove(event).is_some();
        let is_handed_on = judge.hand_on(*event) || had;
        if is_handed_on {
            self.succession.hand_on(*event);
        }
        is_handed_on
    }

    /// An event takes effect once in its shard. Being received is no effect, but nothing is received after it.
    fn check_event(&mut self, record: &Record, place: Place, fault: &mut impl FnMut(Kind, String)) {
        let event = match &record.body {
            Body::Received { event, .. } => *event,
            _ => record.event,
        };
        // What was received before it was remembered is applied after it. Of a run that is known in part it is not known
        // what it has received.
        let waits = self.run_of.get(&record.run_id).and_then(|index| self.runs.get(*index));
        if let Some(first) = self.remembered.get(&event)
            && !waits.is_some_and(|judge| judge.may_have_received(event))
        {
            fault(Kind::EventTwice, format!("event {event} was taken before, as is remembered at {first}"));
            return;
        }
        let mut once = |event: Id| {
            if let Some(first) = self.events.insert(event, place) {
                fault(Kind::EventTwice, format!("event {event} took effect before, at {first}"));
            }
        };
        match &record.body {
            Body::Received { event, .. } => {
                if let Some(first) = self.events.get(event) {
                    fault(Kind::EventTwice, format!("event {event} is received, but took effect before, at {first}"));
                }
            }
            Body::Applied { event } if *event != record.event => {
                once(*event);
                once(record.event);
            }
            _ => once(record.event),
        }
    }
}
