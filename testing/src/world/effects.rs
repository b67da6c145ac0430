//! What owners have done, as the world does it.

use everpulse_engine::{Effect, Outgoing};
use everpulse_protocol::chain::Offered;
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{Position, RunId};

use super::World;
use super::attempts::{Attempt, Work};
use super::owners::Answer;
use super::told::Told;

impl World {
    /// The outside does what an effect says; the owner has not heard of it.
    ///
    /// `receipt_lost`: of what is appended nobody hears.
    pub(super) fn happen(&mut self, owner: usize, effect: Effect, receipt_lost: bool) -> Option<Answer> {
        let partition = self.owners[owner].partition as usize;
        let log = &self.partitions[partition].log;
        match effect {
            Effect::AskTail { id } => Some(Answer::Tail { id, tail: log.last().map(|(position, _)| *position) }),
            Effect::Read { id, after, to } => {
                let first = after.map_or(0, |after| log.partition_point(|(position, _)| *position <= after));
                let last = log.partition_point(|(position, _)| *position <= to);
                Some(Answer::Entries { id, entries: log.get(first..last).unwrap_or_default().to_vec() })
            }
            Effect::Fetch { id, position } => {
                let payload = log.iter().find(|(at, _)| *at == position).map(|(_, payload)| payload.clone());
                Some(Answer::Fetched { id, payload })
            }
            Effect::Append { id, payload } => {
                let position = Position { ledger: 1, entry: log.len() as u64 };
                self.partitions[partition].log.push((position, payload));
                self.tell(partition);
                Some(Answer::Receipt { id, receipt: if receipt_lost { Err(()) } else { Ok(Some(position)) } })
            }
            Effect::FindTasks { id, queue, after, tasks } => {
                let placed = self.queue.iter().enumerate().filter(|(_, task)| task.lane().to_string() == queue);
                let behind = placed.filter(|(place, _)| after.is_none_or(|after| queue_position(*place) > after));
                let is_sought = |task: &Task| tasks.iter().any(|sought| sought.is_shown_by(task));
                let found = behind.map(|(_, task)| task).filter(|task| is_sought(task)).map(|task| task.id).collect();
                Some(Answer::Found { id, tasks: found })
            }
            Effect::Send { id, outgoing } => {
                let position = self.send(outgoing);
                Some(Answer::Sent { id, position })
            }
            Effect::Reply { reply, .. } => {
                self.replies.entry(reply.request).or_default().push(reply.body);
                None
            }
            Effect::StartStep { run, step, name, options, body } => {
                let work = Work::Step { run, step, name, options, body, attempt: 1 };
                self.add_attempt(Attempt::new(Some(owner), work, self.now));
                None
            }
            Effect::StartEager { task } => {
                self.check_arguments(&task);
                self.add_attempt(Attempt::new(Some(owner), Work::Task { task, place: None }, self.now));
                None
            }
            Effect::CancelLocal { run, step } => {
                self.attempts.retain(|_, attempt| attempt.owner != Some(owner) || attempt.key() != (run, step));
                None
            }
            Effect::CancelTasks { tasks } => {
                let is_cancelled = |attempt: &Attempt| attempt.task().is_some_and(|task| tasks.contains(&task.id));
                self.attempts.retain(|_, attempt| attempt.owner.is_some() || !is_cancelled(attempt));
                self.timers.retain(|timer| match timer {
                    TimerMessage::Wake(_) => true,
                    TimerMessage::Retry { task, .. } => !tasks.contains(&task.id),
                });
                self.cancelled.extend(tasks);
                None
            }
            Effect::Observe { events } => {
                events.iter().for_each(|event| self.registry.interceptors().observe(event));
                None
            }
            // Nothing is trimmed here.
            Effect::Trim { .. } => None,
            Effect::Ack { token } => {
                if let Some(message) = self.owners[owner].holds.remove(&token) {
                    self.inbox[message].acked = true;
                }
                None
            }
            Effect::Refuse { reason } => panic!("the engine refuses to serve a shard of the test: {reason}"),
        }
    }

    fn send(&mut self, outgoing: Outgoing) -> Option<Position> {
        match outgoing {
            Outgoing::Task(task) => {
                self.check_arguments(&task);
                let place = self.queue_up(*task);
                return Some(queue_position(place));
            }
            Outgoing::Wake(wake) => self.timers.push(TimerMessage::Wake(wake)),
            Outgoing::Event(event) => self.told(*event),
            Outgoing::DeadEvent(letter) => self.dead.push(*letter),
        }
        None
    }

    /// Reads what was appended: frames that stand tell of runs.
    fn tell(&mut self, partition: usize) {
        let registry = self.sealed();
        let partition = &mut self.partitions[partition];
        let Some((position, payload)) = partition.log.last() else { return };
        let frame = match partition.chain.offer(*position, payload) {
            Offered::Stands(frame) => frame,
            Offered::Void(_) => return,
            Offered::Unreadable(error) => panic!("the engine wrote what nobody can read: {error}"),
            Offered::Unknown(unknown) => panic!("the engine wrote what it does not know: {unknown}"),
            Offered::Hole { number, expected } => {
                panic!("the engine wrote frame {number} where {expected} was expected")
            }
        };
        for record in frame.records {
            if !Told::repeats(&record) {
                let run: RunId = record.run_id;
                self.runs.entry(run).or_insert_with(|| Told::new(&record)).take(record, &registry);
            }
        }
    }
}

/// What an effect is called in the list of faults.
pub(super) fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::AskTail { .. } => "ask for the tail",
        Effect::Read { .. } => "read history",
        Effect::Append { .. } => "append to history",
        Effect::FindTasks { .. } => "look for tasks",
        Effect::Fetch { .. } => "fetch a result",
        Effect::Send { outgoing: Outgoing::Task(_), .. } => "send a task",
        Effect::Send { outgoing: Outgoing::Wake(_), .. } => "send a wake-up",
        Effect::Send { outgoing: Outgoing::Event(_), .. } => "tell another run",
        Effect::Send { outgoing: Outgoing::DeadEvent(_), .. } => "send a dead letter",
        Effect::Reply { .. } => "reply",
        Effect::StartStep { .. } => "start a step",
        Effect::StartEager { .. } => "start an activity",
        Effect::CancelLocal { .. } | Effect::CancelTasks { .. } => "cancel",
        Effect::Observe { .. } => "tell those who look on",
        Effect::Trim { .. } => "trim",
        Effect::Ack { .. } => "ack",
        Effect::Refuse { .. } => "refuse",
    }
}

/// Where a task of the queue stands in its topic.
fn queue_position(place: usize) -> Position {
    Position { ledger: 7, entry: place as u64 }
}
