//! The witness: sees every message when it is stored and every ack when it counts, and says at that moment which rule is
//! broken.
//!
//! * An open run has a hold or a wake-up: whenever an ack counts, something unacknowledged is left that brings a worker
//!   to the run's shard (rule 7).
//! * What only its owner does, local work and the application of inputs that were taken in on trial, has it soon: the hour
//!   of an idle shard's wake-up is too long. Whoever acks an input has made sure, for what was asked for by frames of its
//!   own, that another input of the run is held or that a wake-up is stored which comes when the work is over (rules 4 and
//!   5); and whoever acks anything leaves that for the whole shard (rule 7). What another worker asked for is not held
//!   against the one who acks: its book may be older than its rival's frame. Nor are questions: they change nothing, so
//!   nothing is held for them.
//! * What a task or an answer rests on stands when it is stored (rule 3). A task that goes back to its queue bears what was told of
//!   its attempt last (rule 4).
//! * A task lies in its lane, all attempts in the same one, and its lane was named before (rule 4).
//! * What a frame calls sent is stored (rule 4).
//! * Whoever was misled about the application writes nothing (rule 10).

mod families;
mod kept;
mod shard;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use everpulse_broker::semantics::TopicId;
use everpulse_protocol::chain::Offered;
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::history::{CommandKind, Frame, RecordBody};
use everpulse_protocol::priority::Opened;
use everpulse_protocol::reply::{ReplyBody, ReplyFrame};
use everpulse_protocol::task::TaskFrame;
use everpulse_protocol::{EventId, Position, RunId, WriterId, decode, topic};

use self::shard::{HOLD_MS, SOON_MS, Shard, Unacked, Work, of_inbox, of_run, of_timers};
use crate::broker::{Layout, Seen, Server};
use crate::lanes::{self, Part};
use crate::ledger::Ledger;
use crate::wire;

#[derive(Debug, Clone, Copy)]
enum Topic {
    History(usize),
    Inbox(u32),
    Timers,
    Queue(Part),
    Lanes,
}

#[derive(Debug)]
pub struct Witness {
    topics: HashMap<TopicId, Topic>,
    shards: Vec<Shard>,
    /// What is due before this, from now on, is due soon by any worker's clock.
    soon_ms: u64,
    unacked: BTreeMap<(String, Position), Unacked>,
    pub misled: BTreeSet<WriterId>,
    /// What runs are to be told by frames that stand, and is not stored: by the event's id, with shard and frame.
    untold: BTreeMap<EventId, (usize, u64)>,
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
    /// Tasks that owners gave back to be judged.
    pub returned: u64,
    /// The names of lanes in use.
    lanes: BTreeSet<String>,
    pub tasks_in_lanes: u64,
}

impl Witness {
    /// `skew_ms`: so much the workers' clocks may differ from the world's.
    pub fn new(layout: Layout, skew_ms: u64, server: &Server) -> Self {
        let mut topics = HashMap::new();
        let mut name = |name: &str, topic| topics.extend(server.topic_id(name).map(|id| (id, topic)));
        for shard in 0..layout.shards {
            name(&wire::history(shard), Topic::History(shard as usize));
        }
        for partition in 0..layout.partitions {
            name(&wire::inbox(partition), Topic::Inbox(partition));
        }
        name(&wire::stored(topic::TIMERS), Topic::Timers);
        for lane in lanes::all() {
            name(&wire::lane(&lane), Topic::Queue(Part::of(&lane)));
        }
        name(&wire::stored(topic::LANES), Topic::Lanes);
        Self {
            topics,
            shards: (0..layout.shards).map(|_| Shard::default()).collect(),
            soon_ms: SOON_MS + 2 * skew_ms,
            unacked: BTreeMap::new(),
            misled: BTreeSet::new(),
            untold: BTreeMap::new(),
            writers: BTreeMap::new(),
            acks_with_work: 0,
            marks: 0,
            causes: 0,
            covered: 0,
            carried: 0,
            windows: 0,
            returned: 0,
            lanes: BTreeSet::new(),
            tasks_in_lanes: 0,
        }
    }

    /// How many runs that others began are open.
    pub fn open_children(&self) -> usize {
        self.shards.iter().map(|shard| shard.parents.keys().filter(|run| shard.open.contains(run)).count()).sum()
    }

    /// Takes what the broker has to tell.
    pub fn look(&mut self, server: &mut Server, ledger: &Ledger, now_ms: u64, faults: &mut Vec<String>) {
        for seen in std::mem::take(&mut server.seen) {
            match seen {
                Seen::Stored(place) => {
                    if let Some((topic, position, payload)) = server.at(place) {
                        self.stored(topic, position, payload, faults);
                    }
                }
                Seen::Acked { topic, position, by } => {
                    if let Some(acked) = self.unacked.remove(&(topic, position)) {
                        self.shards[acked.shard].let_go(&acked);
                        self.check_cover(acked.shard, faults);
                        self.check_work(&acked, by, now_ms, faults);
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
                for event in decode::<InboxFrame>(payload).into_iter().flat_map(|frame| frame.events) {
                    self.untold.remove(&event.id);
                }
                self.hold(wire::inbox(partition), position, of_inbox(payload));
            }
            Some(Topic::Timers) => self.hold(wire::stored(topic::TIMERS), position, of_timers(payload)),
            Some(Topic::Lanes) => self.lanes.extend(decode::<Opened>(payload).map(|opened| opened.lane)),
            Some(Topic::Queue(part)) => {
                for task in decode::<TaskFrame>(payload).map(|frame| frame.tasks).unwrap_or_default() {
                    let shard = &mut self.shards[task.shard as usize];
                    let key = (task.run_id, task.step);
                    shard.unsent.remove(&key);
                    self.causes += 1;
                    let (lane, first) = (task.lane(), *shard.lanes.entry(key).or_insert(part));
                    self.tasks_in_lanes += u64::from(!lane.is_queue());
                    if Part::of(&lane) != part || first != part {
                        faults.push(format!(
                            "a task of step {} of {} is sent into {lane}, its first into {}",
                            task.step,
                            task.workflow_id,
                            first.lane()
                        ));
                    }
                    if !lane.is_queue() && !self.lanes.contains(&lane.to_string()) {
                        faults.push(format!(
                            "a task is sent into {lane}, and no worker can know that there is such a lane"
                        ));
                    }
                    if task.returned.is_some() {
                        self.returned += 1;
                        faults.extend(shard.kept.fault(&task));
                    }
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
        let key = (topic, position);
        if !self.unacked.contains_key(&key) {
            self.shards[unacked.shard].hold(&unacked);
            self.unacked.insert(key, unacked);
        }
    }

    /// A worker has done with an input. If it wrote that it takes it in on trial, it has applied it, or has held it for so
    /// long that a wake-up takes its place.
    pub fn let_go(&self, by: usize, partition: u32, position: Position, held_ms: u64, faults: &mut Vec<String>) {
        let key = (wire::inbox(partition), position);
        let Some((unacked, by)) = self.unacked.get(&key).zip(self.writers.get(&by)) else { return };
        let work = &self.shards[unacked.shard].work;
        let on_trial = |(run, event): &&(RunId, EventId)| work.get(&(*run, Work::Apply(*event))) == Some(by);
        if held_ms < HOLD_MS
            && let Some((run, event)) = unacked.events.iter().find(on_trial)
        {
            faults.push(format!(
                "{event} of {run} is let go {held_ms} ms after it came by the worker that has only taken it in"
            ));
        }
    }

    /// Local work goes on after this ack: whoever was to do it may be gone now, and somebody comes to see to it.
    fn check_work(&self, acked: &Unacked, by: usize, now_ms: u64, faults: &mut Vec<String>) {
        let shard = &self.shards[acked.shard];
        let by = self.writers.get(&by);
        let soon = now_ms + self.soon_ms;
        let is_woken = shard.wakes.first_key_value().is_some_and(|(due, _)| *due <= soon);
        if !is_woken
            && shard.at_once == 0
            && let Some(((run, work), _)) = shard.work.first_key_value()
        {
            faults.push(format!(
                "{work:?} of {run} is under way, and after an ack nothing brings a worker to shard {} soon: no \
                 message is held, and no wake-up is stored that is due within {} ms",
                acked.shard, self.soon_ms
            ));
        }
        for run in &acked.runs {
            let mut work = shard.work.range(of_run(*run));
            let Some(((_, work), _)) = work.find(|(_, writer)| Some(*writer) == by) else { continue };
            if !is_woken && shard.inbox_wakes == 0 && !shard.inputs.contains_key(run) {
                faults.push(format!(
                    "the last input of {run} is acked by the worker whose {work:?} of it is under way, and no \
                     wake-up is stored that is due within {} ms",
                    self.soon_ms
                ));
            }
        }
    }

    /// Counts acks of inputs whose run has local work under way, done and not settled, by the one who acks.
    fn count_work(&mut self, acked: &Unacked, by: usize, ledger: &Ledger) {
        let work = &self.shards[acked.shard].work;
        let Some(writer) = self.writers.get(&by) else { return };
        for run in &acked.runs {
            let under_way = work.range(of_run(*run)).any(|((run, work), asker)| {
                matches!(work, Work::Step(step) if asker == writer && ledger.has(*run, *step, by))
            });
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
            families::note(shard, &mut self.untold, number, record, frame.number);
            let mut applied = true;
            let body = record.body();
            if let Ok(body) = &body {
                shard.kept.note(record.run_id, body);
            }
            if let Ok(RecordBody::ActivitySettled { step, .. }) = &body {
                // Its time may have been over before its task was sent: nobody waits for it.
                shard.unsent.remove(&(record.run_id, *step));
            }
            match body {
                Ok(RecordBody::Carried { .. }) => {
                    self.carried += 1;
                    continue;
                }
                // Of the shard.
                Ok(RecordBody::TagReached { .. }) => continue,
                Ok(RecordBody::Remembered { window, .. }) => {
                    self.windows += u64::from(window.is_some());
                    continue;
                }
                Ok(
                    RecordBody::ActivitySettled { step, .. }
                    | RecordBody::StepSettled { step, .. }
                    | RecordBody::AttemptFailed { step, .. }
                    | RecordBody::AttemptLeft { step, .. }
                    | RecordBody::AttemptReported { step, .. },
                ) => {
                    shard.work.remove(&(record.run_id, Work::Step(step)));
                }
                Ok(RecordBody::Received { event, attempt }) => {
                    // It may be the result.
                    shard.end_work_of(record.run_id);
                    if attempt > 0 {
                        shard.work.insert((record.run_id, Work::Apply(event.id)), frame.writer);
                        applied = false;
                    }
                }
                Ok(RecordBody::Parked { .. }) => shard.end_work_of(record.run_id),
                _ => {}
            }
            if applied {
                shard.work.remove(&(record.run_id, Work::Apply(record.event)));
            }
            if shard.begun.insert(record.run_id) {
                shard.open.insert(record.run_id);
            }
            for mark in &record.commands {
                let key = (record.run_id, mark.no);
                if mark.kind == CommandKind::Cancel {
                    shard.unsent.remove(&key);
                    shard.work.remove(&(record.run_id, Work::Step(mark.no)));
                }
                if !mark.kind.is_work() {
                    continue;
                }
                if mark.kind == CommandKind::Step || mark.eager {
                    shard.work.insert((record.run_id, Work::Step(mark.no)), frame.writer);
                }
                shard.asked.insert(key);
                if mark.kind == CommandKind::Activity && !mark.eager {
                    shard.unsent.insert(key, frame.number);
                }
            }
            if record.close.is_some() {
                shard.open.remove(&record.run_id);
                shard.end_work_of(record.run_id);
            }
        }
        let is_lost = |(_, (of, asked_by)): &(&EventId, &(usize, u64))| *of == number && *asked_by < frame.sent_below;
        if let Some((event, (_, asked_by))) = self.untold.iter().find(is_lost) {
            faults.push(format!(
                "frame {} of shard {number} calls all below {} sent, and event {event} for another run, which frame {asked_by} \
                 asks for, is not stored",
                frame.number, frame.sent_below
            ));
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
            (shard.held, shard.at_once, shard.inbox_wakes) = (0, 0, 0);
            shard.inputs.clear();
            shard.wakes.clear();
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
