//! What leaves a process: events and tasks in frames with natural batching, delayed messages, dead letters, answers.
//! As `everpulse-worker`'s outbox and the client's lanes do it, over a played connection.

use std::collections::{BTreeMap, VecDeque};

use everpulse_engine::delayed::deliver_at;
use everpulse_protocol::codec::Stored;
use everpulse_protocol::dead_letter::DeadLetter;
use everpulse_protocol::event::{Event, InboxFrame};
use everpulse_protocol::priority::Opened;
use everpulse_protocol::reply::{Reply, ReplyFrame};
use everpulse_protocol::task::{Control, TASKS_PER_FRAME_MAX, Task, TaskFrame};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, encode, shard, topic};

use crate::broker::Layout;
use crate::lanes::{Directory, Part, Passage};
use crate::link::{Lane, Link, News, Parcel};
use crate::party::Ctx;
use crate::wire::{self, Heard};

/// So many events share a frame at most.
const EVENTS_PER_FRAME_MAX: usize = 16;

#[derive(Debug)]
enum Item {
    Event(Event),
    Task(Box<Task>),
}

#[derive(Debug)]
struct Queue<T> {
    flying: bool,
    items: VecDeque<(Item, T)>,
}

/// What leaves a process, and the connection that it leaves by.
#[derive(Debug)]
pub struct Outbox<T> {
    pub link: Link<T>,
    pub layout: Layout,
    lanes: BTreeMap<Lane, Queue<T>>,
    directory: Directory<T>,
}

impl<T: Clone> Outbox<T> {
    pub fn new(name: String, layout: Layout) -> Self {
        Self { link: Link::new(name), layout, lanes: BTreeMap::new(), directory: Directory::new() }
    }

    pub fn handle(&mut self, heard: Heard, ctx: &mut Ctx<'_>) -> Option<Heard> {
        self.link.handle(heard, ctx)
    }

    /// What came of what was asked for.
    pub fn news(&mut self, ctx: &mut Ctx<'_>) -> Option<News<T>> {
        loop {
            match self.link.news()? {
                News::Landed(Lane::Opened(part)) => self.in_use(part, ctx),
                News::Landed(lane) => {
                    if let Some(queue) = self.lanes.get_mut(&lane) {
                        queue.flying = false;
                    }
                    self.flush(lane, ctx);
                }
                news => return Some(news),
            }
        }
    }

    /// Whether all that was to leave has left.
    pub fn is_idle(&self) -> bool {
        self.link.is_idle() && self.directory.is_idle() && self.lanes.values().all(|queue| queue.items.is_empty())
    }

    pub fn event(&mut self, event: Event, tag: T, ctx: &mut Ctx<'_>) {
        let shard = shard::of(&event.workflow_id, self.layout.shards);
        self.event_to_shard(shard, event, tag, ctx);
    }

    pub fn event_to_shard(&mut self, shard: u32, event: Event, tag: T, ctx: &mut Ctx<'_>) {
        self.put(Lane::Shard(shard), Item::Event(event), tag, ctx);
    }

    /// Short tasks share frames; long ones travel alone. The first one of a lane waits until all can know that it is in use.
    pub fn task(&mut self, task: Box<Task>, tag: T, ctx: &mut Ctx<'_>) {
        match self.directory.pass(task, tag) {
            Passage::Free(task, tag) => self.task_of_known_lane(task, tag, ctx),
            Passage::Waits => {}
            Passage::Say(part) => {
                let opened = Opened { lane: part.lane().to_string() };
                let parcel = Parcel { lane: Some(Lane::Opened(part)), ..parcel(Vec::new(), &opened) };
                self.link.publish(&wire::stored(topic::LANES), parcel, ctx);
            }
        }
    }

    /// A lane is in use, as is confirmed, or was read.
    pub fn in_use(&mut self, part: Part, ctx: &mut Ctx<'_>) {
        for (task, tag) in self.directory.is_in_use(part) {
            self.task_of_known_lane(task, tag, ctx);
        }
    }

    fn task_of_known_lane(&mut self, task: Box<Task>, tag: T, ctx: &mut Ctx<'_>) {
        let lane = task.lane();
        if task.is_short() {
            return self.put(Lane::Tasks(Part::of(&lane)), Item::Task(task), tag, ctx);
        }
        let frame = TaskFrame { tasks: vec![*task] };
        self.link.publish(&wire::lane(&lane), parcel(vec![tag], &frame), ctx);
    }

    fn put(&mut self, lane: Lane, item: Item, tag: T, ctx: &mut Ctx<'_>) {
        let queue = self.lanes.entry(lane).or_insert(Queue { flying: false, items: VecDeque::new() });
        queue.items.push_back((item, tag));
        self.flush(lane, ctx);
    }

    fn flush(&mut self, lane: Lane, ctx: &mut Ctx<'_>) {
        let Some(queue) = self.lanes.get_mut(&lane).filter(|queue| !queue.flying && !queue.items.is_empty()) else {
            return;
        };
        queue.flying = true;
        let most = if matches!(lane, Lane::Tasks(_)) { TASKS_PER_FRAME_MAX } else { EVENTS_PER_FRAME_MAX };
        let count = queue.items.len().min(most);
        let (mut events, mut tasks, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        for (item, tag) in queue.items.drain(..count) {
            match item {
                Item::Event(event) => events.push(event),
                Item::Task(task) => tasks.push(*task),
            }
            tags.push(tag);
        }
        let (topic, mut parcel) = match lane {
            Lane::Shard(shard) => {
                let topic = wire::inbox(shard::inbox_partition(shard, self.layout.partitions));
                let key = Some(topic::shard_key(shard));
                (topic, Parcel { key, ..parcel(tags, &InboxFrame { shard, events }) })
            }
            Lane::Tasks(part) => (wire::lane(&part.lane()), parcel(tags, &TaskFrame { tasks })),
            Lane::Opened(_) => unreachable!("nothing waits for its turn in it"),
        };
        parcel.lane = Some(lane);
        self.link.publish(&topic, parcel, ctx);
    }

    pub fn timer(&mut self, message: &TimerMessage, tag: T, ctx: &mut Ctx<'_>) {
        let deliver_at = Some(deliver_at(message.due(), ctx.now).0);
        let parcel = Parcel { deliver_at, ..parcel(vec![tag], message) };
        self.link.publish(&wire::stored(topic::TIMERS), parcel, ctx);
    }

    pub fn dead_letter(&mut self, topic: &str, letter: &DeadLetter, tag: T, ctx: &mut Ctx<'_>) {
        self.link.publish(&wire::stored(topic), parcel(vec![tag], letter), ctx);
    }

    /// Once; it may be lost.
    pub fn reply(&mut self, client: &str, reply: Reply, ctx: &mut Ctx<'_>) {
        let parcel = Parcel { once: true, ..parcel(Vec::new(), &ReplyFrame { replies: vec![reply] }) };
        self.link.publish(&wire::unstored(&topic::replies(client)), parcel, ctx);
    }

    /// Once; it may be lost.
    pub fn cancel_tasks(&mut self, cancelled: Vec<EventId>, ctx: &mut Ctx<'_>) {
        let parcel = Parcel { once: true, ..parcel(Vec::new(), &Control { cancelled }) };
        self.link.publish(&wire::unstored(topic::CONTROL), parcel, ctx);
    }
}

fn parcel<T, S: Stored>(tags: Vec<T>, message: &S) -> Parcel<T> {
    Parcel { tags, key: None, payload: encode(message), deliver_at: None, once: false, lane: None }
}
