//! From which of its lanes a queue takes the next frame.
//!
//! ```text
//!   p1         ─ consumer ─ head ┐
//!   p3         ─ consumer ─ head ┤  the smallest priority that has a head; of its lanes the one
//!   p3.f2      ─ consumer ─ head ┼─► whose pass is least ──► taken, and its pass grows by what its tasks weigh
//!   p5         ─ consumer ─ head ┘
//! ```
//! Priorities are strict: what waits behind a smaller one waits for as long as there is any. Keys of one priority take turns
//! (stride scheduling): a lane that is taken from passes on by the inverse of its tasks' weight. A lane that had nothing for a
//! while begins near where the others are: turns are not saved up.
//!
//! Each lane has a consumer of its own, so a long backlog in one fills its own prefetch alone. What is here cannot run
//! elsewhere: a head that is not taken for a while is given back with all that waits behind it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use everpulse_protocol::priority::{Lane, Priority, WEIGHT};
use everpulse_protocol::task::Task;
use everpulse_transport::{Acker, Consumer, Delivery};
use futures::future::join_all;
use tokio::time::Instant;

/// How far a lane passes on with a task of weight 1.
const STEP: u64 = 1_000_000;
/// So many turns a lane may have missed while nothing of it was here: a consumer may be slower than the tasks are.
const MISSED_MAX: u64 = 4;

/// The lanes of one queue that are open here.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    open: Vec<Open>,
    turns: Turns,
}

#[derive(Debug)]
struct Open {
    lane: Lane,
    consumer: Consumer,
    /// What comes next, and since when it is here.
    head: Option<(Delivery, Instant)>,
}

/// A frame that was chosen.
#[derive(Debug)]
pub(super) struct Taken {
    pub delivery: Delivery,
    pub acker: Acker,
    pub lane: Lane,
}

impl Lanes {
    pub(super) fn add(&mut self, lane: Lane, consumer: Consumer) {
        self.turns.add(lane.clone());
        self.open.push(Open { lane, consumer, head: None });
    }

    /// Waits until there is something to take.
    ///
    /// # Cancel safety
    /// Safe: what has come is kept.
    pub(super) async fn ready(&mut self) {
        poll_fn(|context| {
            let now = Instant::now();
            for (place, open) in self.open.iter_mut().enumerate() {
                if open.head.is_none()
                    && let Poll::Ready(delivery) = open.consumer.poll_recv(context)
                {
                    open.head = Some((delivery, now));
                    self.turns.came(place);
                }
            }
            if self.open.iter().any(|open| open.head.is_some()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The frame whose turn it is, of those that are here. It is not taken.
    pub(super) fn next(&mut self) -> Option<&Delivery> {
        let place = self.turn()?;
        self.open.get(place)?.head.as_ref().map(|(delivery, _)| delivery)
    }

    /// The same, taken.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let place = self.turn()?;
        self.turns.passed(place);
        let open = self.open.get_mut(place)?;
        let (delivery, _) = open.head.take()?;
        Some(Taken { delivery, acker: open.consumer.acker(), lane: open.lane.clone() })
    }

    /// Which lane's it is.
    fn turn(&mut self) -> Option<usize> {
        for (place, open) in self.open.iter_mut().enumerate().filter(|(_, open)| open.head.is_none()) {
            // What is urgent may have come while there was no slot.
            if let Some(delivery) = open.consumer.try_recv() {
                open.head = Some((delivery, Instant::now()));
                self.turns.came(place);
            }
        }
        let heads = self.open.iter().enumerate().filter(|(_, open)| open.head.is_some());
        self.turns.next(heads.map(|(place, _)| place))
    }

    /// Tasks of a frame are begun with.
    pub(super) fn charge(&mut self, lane: &Lane, tasks: &[Task]) {
        self.turns.charge(lane, tasks.iter().map(|task| &task.options.priority));
    }

    /// How many frames are here.
    pub(super) fn here(&self) -> usize {
        self.open.iter().map(|open| usize::from(open.head.is_some()) + open.consumer.waiting()).sum()
    }

    /// Gives back the lanes whose heads have waited here for so long.
    pub(super) fn give_back(&mut self, waited: Duration) {
        for open in self.open.iter_mut().filter(|open| open.has_waited(waited)) {
            open.give_back();
        }
    }

    /// Gives back all that is here.
    pub(super) fn give_all_back(&mut self) {
        self.open.iter_mut().for_each(Open::give_back);
    }

    /// Leaves them all.
    pub(super) async fn close(self) {
        join_all(self.open.into_iter().map(|open| open.consumer.close())).await;
    }
}

impl Open {
    fn has_waited(&self, waited: Duration) -> bool {
        self.head.as_ref().is_some_and(|(_, since)| since.elapsed() >= waited)
    }

    /// This also moves the acks along, which wait behind messages that nobody takes.
    fn give_back(&mut self) {
        let acker = self.consumer.acker();
        let head = self.head.take().map(|(head, _)| head);
        for delivery in head.into_iter().chain(std::iter::from_fn(|| self.consumer.try_recv())) {
            acker.nack(delivery.token);
        }
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Turns {
    /// In the order of the lanes.
    lanes: Vec<Turn>,
    /// How far the lane was that was taken from last, for each priority.
    last: BTreeMap<u8, u64>,
}

#[derive(Debug)]
struct Turn {
    lane: Lane,
    /// How far it has passed on; only differences count.
    pass: u64,
}

impl Turns {
    fn add(&mut self, lane: Lane) {
        let pass = self.last.get(&lane.level).copied().unwrap_or_default();
        self.lanes.push(Turn { lane, pass });
    }

    /// Something of a lane is here that had nothing.
    fn came(&mut self, place: usize) {
        if let Some(turn) = self.lanes.get_mut(place) {
            let last = self.last.get(&turn.lane.level).copied().unwrap_or_default();
            turn.pass = turn.pass.max(last.saturating_sub(MISSED_MAX * STEP));
        }
    }

    /// The one of these whose turn it is.
    fn next(&self, places: impl Iterator<Item = usize>) -> Option<usize> {
        let turns = places.filter_map(|place| self.lanes.get(place).map(|turn| (turn.lane.level, turn.pass, place)));
        turns.min().map(|(_, _, place)| place)
    }

    /// That one is taken from.
    fn passed(&mut self, place: usize) {
        if let Some(turn) = self.lanes.get(place) {
            self.last.insert(turn.lane.level, turn.pass);
        }
    }

    fn charge<'a>(&mut self, lane: &Lane, tasks: impl Iterator<Item = &'a Priority>) {
        let step = |task: &Priority| STEP * u64::from(WEIGHT) / u64::from(task.weight());
        if let Some(turn) = self.lanes.iter_mut().find(|turn| turn.lane == *lane) {
            turn.pass = turn.pass.saturating_add(tasks.map(step).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes of one queue by name, each with the weight of its tasks.
    struct Backlog {
        turns: Turns,
        weights: Vec<u32>,
    }

    impl Backlog {
        fn new(lanes: &[(&str, u32)]) -> Self {
            let mut turns = Turns::default();
            for (lane, _) in lanes {
                turns.add(lane.parse().expect("a lane"));
            }
            Self { turns, weights: lanes.iter().map(|(_, weight)| *weight).collect() }
        }

        /// How often each is taken from in so many turns, if these have tasks all the time.
        fn take(&mut self, waiting: &[usize], turns: usize) -> Vec<usize> {
            let mut taken = vec![0; self.weights.len()];
            for _ in 0..turns {
                let place = self.turns.next(waiting.iter().copied()).expect("something waits");
                self.turns.passed(place);
                let weight = Some(self.weights[place]);
                let lane = self.turns.lanes[place].lane.clone();
                self.turns.charge(&lane, [Priority { weight, ..Priority::default() }].iter());
                self.turns.came(place);
                taken[place] += 1;
            }
            taken
        }
    }

    #[test]
    fn a_smaller_priority_is_taken_first_for_as_long_as_it_waits() {
        let mut backlog = Backlog::new(&[("q", 1_000), ("q.p1", 1_000), ("q.p5", 1_000)]);
        assert_eq!(backlog.take(&[0, 1, 2], 50), [0, 50, 0]);
        assert_eq!(backlog.take(&[0, 2], 50), [50, 0, 0]);
        assert_eq!(backlog.take(&[2], 5), [0, 0, 5]);
    }

    #[test]
    fn keys_of_one_priority_take_turns_by_their_weights() {
        let mut backlog = Backlog::new(&[("q", 1_000), ("q.p3.f1", 1_000), ("q.p3.f2", 3_000)]);
        assert_eq!(backlog.take(&[0, 1, 2], 500), [100, 100, 300]);
        let mut few = Backlog::new(&[("q.p3.f1", 1), ("q.p3.f2", 1_000_000)]);
        assert_eq!(few.take(&[0, 1], 1_000), [1, 999]);
    }

    #[test]
    fn what_had_nothing_for_long_does_not_keep_the_others_out() {
        let mut backlog = Backlog::new(&[("q.p3.f1", 1_000), ("q.p3.f2", 1_000)]);
        assert_eq!(backlog.take(&[0], 10_000), [10_000, 0]);
        backlog.turns.came(1);
        let taken = backlog.take(&[0, 1], 100);
        assert!((50..=53).contains(&taken[1]), "it has its half, and the few turns that it missed: {taken:?}");
    }

    #[test]
    fn a_lane_that_is_new_begins_where_the_others_are() {
        let mut backlog = Backlog::new(&[("q", 1_000)]);
        backlog.take(&[0], 10_000);
        backlog.turns.add("q.p3.f9".parse().expect("a lane"));
        backlog.weights.push(1_000);
        assert_eq!(backlog.take(&[0, 1], 100), [50, 50]);
    }
}
