//! The witness: sees every message when it is stored and every ack when it counts, and says at that moment which rule is
//! broken.
//!
//! * An open run has a hold or a wake-up: whenever an ack counts, something unacknowledged is left that brings a worker
//!   to the run's shard (rule 7).
//! * What a task or an answer rests on stands when it is stored (rule 3).
//! * What a frame calls sent is stored (rule 4).
//! * Whoever was misled about the application writes nothing (rule 10).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use everpulse_broker::semantics::TopicId;
use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::history::{CommandKind, Frame, RecordBody};
use everpulse_protocol::reply::{ReplyBody, ReplyFrame};
use everpulse_protocol::task::TaskFrame;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{Position, RunId, WriterId, decode, topic};

use crate::broker::{Layout, Seen, Server};
use crate::ledger::Ledger;
use crate::wire;
use crate::workflows::QUEUE;

#[derive(Debug, Clone, Copy)]
enum Topic {
    History(usize),
    Inbox(u32),
    Timers,
    Queue,
}

/// What stands of a shard, and what is left that brings somebody to it.
#[derive(Debug, Default)]
struct Shard {
    chain: Chain,
    begun: BTreeSet<RunId>,
    open: BTreeSet<RunId>,
    /// Steps that frames ask for.
    asked: BTreeSet<(RunId, u32)>,
    /// Tasks that are not stored, with the frame that asks for them.
    unsent: BTreeMap<(RunId, u32), u64>,
    /// Unacknowledged messages of the inbox, and wake-ups.
    held: u64,
    /// Local work that is open and soon over one way or another, and who asked for it.
    locals: BTreeMap<(RunId, u32), WriterId>,
}

/// A message that is not acknowledged.
#[derive(Debug)]
struct Unacked {
    shard: usize,
    /// Runs that it is for.
    runs: Vec<RunId>,
}

/// Local work of these names is tried for ever.
const PATIENT: &str = "same";

#[derive(Debug)]
pub struct Witness {
    topics: HashMap<TopicId, Topic>,
    shards: Vec<Shard>,
    unacked: BTreeMap<(String, Position), Unacked>,
    pub misled: BTreeSet<WriterId>,
    /// Who is in each slot.
    pub writers: BTreeMap<usize, WriterId>,
    /// Acks of inputs whose run had local work open.
    pub acks_with_work: u64,
    /// Frames of which somebody said that all before was sent, and that was looked at.
    pub marks: u64,
    /// Tasks and answers whose cause was looked for.
    pub causes: u64,
    /// Acks after which an open run had to be covered.
    pub covered: u64,
    /// Frames with carried records, and those that said what may go.
    pub carried: u64,
    pub windows: u64,
}

impl Witness {
    pub fn new(layout: Layout, server: &Server) -> Self {
        let mut topics = HashMap::new();
        let mut name = |name: &str, topic| topics.extend(server.topic_id(name).map(|id| (id, topic)));
        for shard in 0..layout.shards {
            name(&wire::history(shard), Topic::History(shard as usize));
        }
        for partition in 0..layout.partitions {
            name(&wire::inbox(partition), Topic::Inbox(partition));
        }
        name(&wire::stored(topic::TIMERS), Topic::Timers);
        name(&wire::stored(&topic::activity(QUEUE)), Topic::Queue);
        Self {
            topics,
            shards: (0..layout.shards).map(|_| Shard::default()).collect(),
            unacked: BTreeMap::new(),
            misled: BTreeSet::new(),
            writers: BTreeMap::new(),
            acks_with_work: 0,
            marks: 0,
            causes: 0,
            covered: 0,
            carried: 0,
            windows: 0,
        }
    }

    /// Takes what the broker has to tell.
    pub fn look(&mut self, server: &mut Server, ledger: &Ledger, faults: &mut Vec<String>) {
        for seen in std::mem::take(&mut server.seen) {
            match seen {
                Seen::Stored(place) => {
                    if let Some((topic, position, payload)) = server.at(place) {
                        self.stored(topic, position, payload, faults);
                    }
                }
                Seen::Acked { topic, position, by } => {
                    if let Some(acked) = self.unacked.remove(&(topic, position)) {
                        let shard = &mut self.shards[acked.shard];
                        shard.held -= 1;
                        self.check_cover(acked.shard, faults);
                        self.count_work(&acked, by, ledger);
                    }
                }
                Seen::Restarted => self.restarted(server),
            }
        }
    }

    fn stored(&mut self, id: TopicId, position: Position, payload: &Bytes, faults: &mut Vec<String>) {
        match self.topics.get(&id).copied() {
            Some(Topic::History(shard)) => self.frame(shard, position, payload, faults),
            Some(Topic::Inbox(partition)) => {
                self.hold(wire::inbox(partition), position, of_inbox(payload));
            }
            Some(Topic::Timers) => self.hold(wire::stored(topic::TIMERS), position, of_timers(payload)),
            Some(Topic::Queue) => {
                for task in decode::<TaskFrame>(payload).map(|frame| frame.tasks).unwrap_or_default() {
                    let shard = &mut self.shards[task.shard as usize];
                    let key = (task.run_id, task.step);
                    shard.unsent.remove(&key);
                    self.causes += 1;
                    if !shard.asked.contains(&key) {
                        let id = &task.workflow_id;
                        faults.push(format!(
                            "the task of step {} of {id} is sent, and no frame that stands asks for it",
                            task.step
                        ));
                    }
                }
            }
            None => {}
        }
    }

    fn hold(&mut self, topic: String, position: Position, unacked: Option<Unacked>) {
        let Some(unacked) = unacked.filter(|unacked| unacked.shard < self.shards.len()) else { return };
        let number = unacked.shard;
        if self.unacked.insert((topic, position), unacked).is_none() {
            self.shards[number].held += 1;
        }
    }

    /// Counts acks of inputs whose run has local work under way, done and not settled, by the one who acks.
    fn count_work(&mut self, acked: &Unacked, by: usize, ledger: &Ledger) {
        let locals = &self.shards[acked.shard].locals;
        let Some(writer) = self.writers.get(&by) else { return };
        for run in &acked.runs {
            let mut work = locals.range((*run, 0)..=(*run, u32::MAX));
            let under_way = work.any(|((run, step), asker)| asker == writer && ledger.has(*run, *step, by));
            self.acks_with_work += u64::from(under_way);
        }
    }

    fn frame(&mut self, number: usize, position: Position, payload: &Bytes, faults: &mut Vec<String>) {
        let shard = &mut self.shards[number];
        let frame = match shard.chain.offer(position, payload) {
            Offered::Stands(frame) => frame,
            Offered::Void(frame) => return faults.extend(self.misled(&frame)),
            // The checker says what is wrong with it.
            _ => return,
        };
        for record in &frame.records {
            match record.body() {
                Ok(RecordBody::Carried { .. }) => {
                    self.carried += 1;
                    continue;
                }
                Ok(RecordBody::Remembered { window, .. }) => {
                    self.windows += u64::from(window.is_some());
                    continue;
                }
                Ok(
                    RecordBody::ActivitySettled { step, .. }
                    | RecordBody::StepSettled { step, .. }
                    | RecordBody::AttemptFailed { step, .. },
                ) => {
                    shard.locals.remove(&(record.run_id, step));
                }
                // It may be the result.
                Ok(RecordBody::Received { .. } | RecordBody::Parked { .. }) => {
                    shard.locals.retain(|(run, _), _| *run != record.run_id);
                }
                _ => {}
            }
            if shard.begun.insert(record.run_id) {
                shard.open.insert(record.run_id);
            }
            for mark in &record.commands {
                let key = (record.run_id, mark.no);
                if mark.kind == CommandKind::Cancel {
                    shard.unsent.remove(&key);
                    shard.locals.remove(&key);
                    continue;
                }
                if (mark.kind == CommandKind::Step || mark.eager) && mark.name != PATIENT {
                    shard.locals.insert(key, frame.writer);
                }
                shard.asked.insert(key);
                if mark.kind == CommandKind::Activity && !mark.eager {
                    shard.unsent.insert(key, frame.number);
                }
            }
            if record.close.is_some() {
                shard.open.remove(&record.run_id);
                shard.locals.retain(|(run, _), _| *run != record.run_id);
            }
        }
        self.marks += u64::from(frame.sent_below > 0);
        let lost = shard.unsent.iter().find(|(_, asked_by)| **asked_by < frame.sent_below);
        if let Some(((run, step), asked_by)) = lost {
            faults.push(format!(
                "frame {} of shard {number} calls all below {} sent, and the task of step {step} of {run}, which frame \
                 {asked_by} asks for, is not stored",
                frame.number, frame.sent_below
            ));
        }
        faults.extend(self.misled(&frame));
        self.check_cover(number, faults);
    }

    fn misled(&self, frame: &Frame) -> Option<String> {
        let is_misled = self.misled.contains(&frame.writer);
        is_misled.then(|| format!("frame {} is of a worker that takes the application for another", frame.number))
    }

    fn check_cover(&mut self, number: usize, faults: &mut Vec<String>) {
        let shard = &self.shards[number];
        if let Some(run) = shard.open.first() {
            self.covered += 1;
            if shard.held == 0 {
                let many = shard.open.len();
                faults.push(format!(
                    "shard {number} has {many} open runs, {run} among them, and neither a held input nor a wake-up"
                ));
            }
        }
    }

    /// What was acknowledged and not stored as such is there again.
    fn restarted(&mut self, server: &Server) {
        self.unacked.clear();
        for shard in &mut self.shards {
            shard.held = 0;
        }
        let topics: Vec<Topic> = self.topics.values().copied().collect();
        for topic in topics {
            let (name, subscription) = match topic {
                Topic::Inbox(partition) => (wire::inbox(partition), topic::OWNERS),
                Topic::Timers => (wire::stored(topic::TIMERS), topic::RELAY),
                _ => continue,
            };
            let (next, ranges) = server.acked(&name, subscription);
            let acked = |at: Position| {
                next.is_some_and(|next| at < next) || ranges.iter().any(|(first, last)| (*first..=*last).contains(&at))
            };
            for (_, position, payload) in server.stored_in(&name).filter(|(_, position, _)| !acked(*position)) {
                let unacked = if matches!(topic, Topic::Timers) { of_timers(payload) } else { of_inbox(payload) };
                self.hold(name.clone(), position, unacked);
            }
        }
    }

    /// An answer on its way to a client: what it says of a run stands.
    pub fn answered(&mut self, payload: &Bytes, faults: &mut Vec<String>) {
        let Ok(frame) = decode::<ReplyFrame>(payload) else { return };
        for reply in frame.replies {
            let (run, ended) = match &reply.body {
                ReplyBody::Started { run_id, .. } => (*run_id, false),
                ReplyBody::Closed { run_id, .. } => (*run_id, true),
                _ => continue,
            };
            self.causes += 1;
            let begun = self.shards.iter().find(|shard| shard.begun.contains(&run));
            let true_now = begun.is_some_and(|shard| !ended || !shard.open.contains(&run));
            if !true_now {
                let what = if ended { "has ended" } else { "has begun" };
                faults.push(format!("a client is told that run {run} {what}, and no frame that stands says so"));
            }
        }
    }
}

fn of_inbox(payload: &Bytes) -> Option<Unacked> {
    let frame = decode::<InboxFrame>(payload).ok()?;
    // The id of a start is that of its run.
    let runs = frame.events.iter().map(|event| event.run_id.unwrap_or(RunId(event.id.0))).collect();
    Some(Unacked { shard: frame.shard as usize, runs })
}

fn of_timers(payload: &Bytes) -> Option<Unacked> {
    match decode::<TimerMessage>(payload) {
        Ok(TimerMessage::Wake(wake)) => Some(Unacked { shard: wake.shard as usize, runs: Vec::new() }),
        _ => None,
    }
}
