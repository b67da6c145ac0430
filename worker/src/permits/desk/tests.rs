//! Desks in a time of their own, with a topic in memory: workers that are stopped, brokers that are away.

use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use everpulse_engine::permits::{ROUND_MS, ROUNDS};
use futures::StreamExt as _;
use tokio::time::advance;

use super::*;
use crate::permits::{FRESH, Rule};

const ROUND: Duration = Duration::from_millis(ROUND_MS);

/// What was said, in its order. Clones are the same.
#[derive(Clone, Default)]
struct Topic(std::sync::Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    notices: Vec<Bytes>,
    /// Nothing is stored, and nothing read.
    is_away: bool,
    /// Which are the first ones of ledgers, beside the topic's first.
    ledgers: Vec<usize>,
}

impl Said {
    /// Until it is back, with a new ledger.
    fn goes_away(&mut self) {
        self.is_away = true;
        self.ledgers.push(self.notices.len());
    }

    fn at(&self, entry: usize) -> Position {
        let before = self.ledgers.partition_point(|first| *first <= entry);
        let first = before.checked_sub(1).map_or(0, |last| self.ledgers[last]);
        Position { ledger: 1 + before as u64, entry: (entry - first) as u64 }
    }
}

impl Topic {
    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) -> Publish {
        let topic = self.clone();
        Box::new(move |message: Message| {
            let topic = topic.clone();
            let storing = std::future::poll_fn(move |_| {
                let mut said = topic.lock();
                if said.is_away {
                    return Poll::Pending;
                }
                said.notices.push(message.payload.clone());
                Poll::Ready(Ok(Some(said.at(said.notices.len() - 1))))
            });
            storing.boxed()
        })
    }

    fn next(&self, read: usize) -> Option<Bytes> {
        let said = self.lock();
        said.notices.get(read).filter(|_| !said.is_away).cloned()
    }
}

/// A worker's part.
struct One {
    desk: Desk,
    topic: Topic,
    wishes: mpsc::UnboundedSender<Wish>,
    heard: mpsc::UnboundedReceiver<Wish>,
    read: usize,
    reads: bool,
}

impl One {
    fn new(topic: &Topic, id: u128, rule: Rule, is_first: bool) -> Self {
        let (wishes, heard) = mpsc::unbounded_channel();
        let member = Member::new(SessionId(Uuid::from_u128(id)), rule.terms(), None);
        let desk = Desk::new("permits", member, is_first, wishes.downgrade(), topic.publish());
        Self { desk, topic: topic.clone(), wishes, heard, read: 0, reads: true }
    }

    /// The next permit, when there is one.
    fn ask(&self) -> oneshot::Receiver<Permit> {
        let (give, given) = oneshot::channel();
        self.wishes.send(Wish::One(give)).expect("it listens");
        given
    }

    /// All that can be done just now.
    fn go(&mut self) -> Option<End> {
        for _ in 0..4 {
            while let Ok(wish) = self.heard.try_recv() {
                self.desk.handle(wish);
            }
            while let Some(Some(session)) = self.desk.resting.next().now_or_never() {
                self.desk.put(session);
            }
            self.desk.go_on();
            let stored = self.desk.publishing.as_mut().and_then(|(_, storing)| storing.now_or_never());
            if let Some(end) = stored.and_then(|stored| self.desk.stored(stored)) {
                return Some(end);
            }
            while let Some(payload) = self.topic.next(self.read).filter(|_| self.reads) {
                self.read += 1;
                let at = self.topic.lock().at(self.read - 1);
                if let Some(end) = self.desk.read(at, &payload) {
                    return Some(end);
                }
            }
        }
        None
    }
}

async fn rounds(ones: &mut [&mut One], count: u32) -> Option<End> {
    for _ in 0..count {
        advance(ROUND).await;
        for one in ones.iter_mut() {
            if let Some(end) = one.desk.tick().or_else(|| one.go()) {
                return Some(end);
            }
        }
    }
    None
}

/// One that has the only permit, and one beside.
async fn one_with_a_permit_and_one_beside(topic: &Topic) -> (One, Permit, One) {
    let mut one = One::new(topic, 1, Rule::Concurrency(1), true);
    let mut given = one.ask();
    assert_eq!(one.go(), None);
    let permit = given.try_recv().expect("there is one");
    let mut other = One::new(topic, 2, Rule::Concurrency(1), false);
    assert_eq!(rounds(&mut [&mut one, &mut other], 3).await, None);
    assert!(permit.holds() && other.desk.member.is_informed());
    (one, permit, other)
}

#[tokio::test(start_paused = true)]
async fn a_permit_does_not_hold_on_a_worker_that_was_stopped_for_so_long_that_others_have_it() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    let mut given = other.ask();
    let mut waiting = one.ask();
    // The first one is stopped, and the other one waits.
    assert_eq!(rounds(&mut [&mut other], 2).await, None);
    assert!(permit.holds(), "nobody else can have it yet");
    advance(FRESH).await;
    assert!(!permit.holds());
    assert_eq!(rounds(&mut [&mut other], ROUNDS).await, None);
    let had = given.try_recv().expect("the first one was silent for long");
    assert!(had.holds());
    // It goes on, and has read nothing.
    drop(permit);
    while let Ok(wish) = one.heard.try_recv() {
        one.desk.handle(wish);
    }
    one.desk.go_on();
    assert!(waiting.try_recv().is_err(), "it does not know that others have it");
    assert_eq!(rounds(&mut [&mut one, &mut other], 3).await, None);
    assert!(waiting.try_recv().is_err() && had.holds());
    drop(had);
    assert_eq!(rounds(&mut [&mut other, &mut one], 3).await, None);
    assert!(waiting.try_recv().is_ok_and(|permit| permit.holds()), "it is free");
}

#[tokio::test(start_paused = true)]
async fn a_permit_of_a_session_that_is_over_is_none_of_the_next_one() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    assert_eq!(rounds(&mut [&mut other], ROUNDS + 2).await, None);
    let mut given = other.ask();
    assert_eq!(rounds(&mut [&mut other, &mut one], 3).await, None);
    assert!(one.desk.member.is_informed() && one.desk.hearing.lock().is_fresh(), "it takes part anew");
    assert!(!permit.holds());
    drop(given.try_recv().expect("it is free"));
    let mut given = one.ask();
    assert_eq!(rounds(&mut [&mut other, &mut one], 3).await, None);
    let had = given.try_recv().expect("it is free");
    // What ran all the time ends.
    drop(permit);
    assert_eq!(rounds(&mut [&mut other, &mut one], 3).await, None);
    assert!(had.holds());
    assert_eq!(one.desk.member.used(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_takes_no_permit_from_anybody() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    let mut given = other.ask();
    topic.lock().is_away = true;
    // Longer than one waits for what it says.
    assert_eq!(rounds(&mut [&mut one, &mut other], UNREAD + 5).await, None);
    assert!(!permit.holds(), "nothing begins meanwhile");
    topic.lock().is_away = false;
    assert_eq!(rounds(&mut [&mut other, &mut one], 5).await, None);
    assert!(permit.holds() && given.try_recv().is_err());
    drop(permit);
    assert_eq!(rounds(&mut [&mut one, &mut other], 2).await, None);
    assert!(given.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_what_it_says_takes_part_anew() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    one.reads = false;
    assert_eq!(rounds(&mut [&mut one, &mut other], UNREAD - 1).await, None);
    assert!(!permit.holds());
    assert_eq!(rounds(&mut [&mut one], 3).await, Some(End::Missed));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_for_two_minutes_and_has_a_new_ledger_lets_nobody_forget_what_runs() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    let mut given = other.ask();
    for _ in 0..2 {
        topic.lock().goes_away();
        assert_eq!(rounds(&mut [&mut one, &mut other], 60).await, None);
        topic.lock().is_away = false;
        assert_eq!(rounds(&mut [&mut other, &mut one], 3 * ROUNDS).await, None, "nobody takes part anew");
        assert!(permit.holds() && given.try_recv().is_err(), "one runs");
        assert_eq!((one.desk.member.used(), other.desk.member.used()), (1, 0));
    }
    drop(permit);
    assert_eq!(rounds(&mut [&mut one, &mut other], 2).await, None);
    assert!(given.try_recv().is_ok_and(|permit| permit.holds()));
}

#[tokio::test(start_paused = true)]
async fn one_that_hears_after_long_somebody_of_whom_it_has_read_no_beginning_takes_part_anew() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    assert_eq!(rounds(&mut [&mut other], ROUNDS + 2).await, None);
    let mut third = One::new(&topic, 3, Rule::Concurrency(1), false);
    assert_eq!(rounds(&mut [&mut other, &mut third], 2 * ROUNDS).await, None);
    // All up to here is trimmed before the first one comes back.
    let trimmed = topic.lock().notices.len();
    advance(MISSED).await;
    assert_eq!(rounds(&mut [&mut third], 1).await, None);
    one.read = trimmed;
    assert_eq!(one.go(), Some(End::Missed));
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_notice_of_a_later_release_ends_what_is_known_and_what_is_no_notice_does_not() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    topic.lock().notices.push(Bytes::from_static(b"hello"));
    assert_eq!(rounds(&mut [&mut one, &mut other], 2).await, None);
    assert!(permit.holds());
    let mut later = topic.next(0).expect("said").to_vec();
    later[0] += 1;
    topic.lock().notices.push(later.into());
    assert_eq!(one.go(), None);
    assert!(!one.desk.member.is_informed() && !permit.holds());
}

#[tokio::test(start_paused = true)]
async fn one_that_says_much_hears_itself_though_each_notice_is_read_after_the_next_one_is_said() {
    let topic = Topic::default();
    let (mut one, permit, _) = one_with_a_permit_and_one_beside(&topic).await;
    for _ in 0..20 {
        advance(ROUND / 4).await;
        one.desk.tick();
        one.desk.go_on();
        let stored = one.desk.publishing.as_mut().and_then(|(_, storing)| storing.now_or_never()).expect("said");
        one.desk.stored(stored);
        // The one before.
        while one.read + 1 < topic.lock().notices.len() {
            let payload = topic.next(one.read).expect("said");
            let at = topic.lock().at(one.read);
            one.desk.read(at, &payload);
            one.read += 1;
        }
        assert!(permit.holds());
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_empty_is_not_taken_for_new() {
    let topic = Topic::default();
    let mut one = One::new(&topic, 1, Rule::Concurrency(1), false);
    let mut given = one.ask();
    assert_eq!(one.go(), None);
    assert_eq!(rounds(&mut [&mut one], ROUNDS - 1).await, None);
    assert!(given.try_recv().is_err(), "somebody may be there");
    assert_eq!(rounds(&mut [&mut one], 3).await, None);
    assert!(given.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_permit_of_a_rate_rests_for_as_long_as_it_has_to() {
    let topic = Topic::default();
    let mut one = One::new(&topic, 1, Rule::Rate(2.0), true);
    let (mut first, mut second, mut third) = (one.ask(), one.ask(), one.ask());
    assert_eq!(one.go(), None);
    for given in [&mut first, &mut second] {
        given.try_recv().expect("two at once").begin();
    }
    assert_eq!(one.go(), None);
    advance(Duration::from_millis(990)).await;
    assert_eq!(one.go(), None);
    assert!(third.try_recv().is_err(), "both rest");
    advance(Duration::from_millis(20)).await;
    assert_eq!(one.go(), None);
    let unused = third.try_recv().expect("they have rested");
    drop(unused);
    let mut next = one.ask();
    assert_eq!(one.go(), None);
    assert!(next.try_recv().is_ok(), "one that no attempt began with does not rest");
}

#[tokio::test(start_paused = true)]
async fn what_may_begin_later_keeps_no_permit_from_one_that_waits() {
    let topic = Topic::default();
    let mut one = One::new(&topic, 1, Rule::Concurrency(5), true);
    one.wishes.send(Wish::Ahead(5)).expect("it listens");
    assert_eq!(one.go(), None);
    assert_eq!(one.desk.member.free(), 5);
    let mut other = One::new(&topic, 2, Rule::Concurrency(5), false);
    assert_eq!(rounds(&mut [&mut one, &mut other], 2).await, None);
    assert_eq!(one.desk.member.free(), 5, "nobody else waits");
    let mut given = other.ask();
    for _ in 0..2 {
        assert_eq!((other.go(), one.go()), (None, None));
    }
    assert_eq!(other.go(), None);
    assert!(given.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn that_it_is_cut_off_is_said_when_somebody_waits_and_once_until_it_is_not() {
    let topic = Topic::default();
    let (mut one, permit, _) = one_with_a_permit_and_one_beside(&topic).await;
    for _ in 0..2 {
        topic.lock().is_away = true;
        assert_eq!(rounds(&mut [&mut one], CUT_OFF + 4).await, None);
        assert!(!one.desk.cut_off_is_said, "nobody waits");
        let waiting = one.ask();
        one.go();
        assert_eq!(rounds(&mut [&mut one], 1).await, None);
        assert!(one.desk.cut_off_is_said);
        topic.lock().is_away = false;
        drop(waiting);
        assert_eq!(rounds(&mut [&mut one], 3).await, None);
        assert!(!one.desk.cut_off_is_said, "it hears itself");
    }
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_differs_is_noticed_by_those_that_began_before_it() {
    let topic = Topic::default();
    let (mut one, permit, mut other) = one_with_a_permit_and_one_beside(&topic).await;
    let mut third = One::new(&topic, 3, Rule::Concurrency(4), false);
    assert_eq!(rounds(&mut [&mut one, &mut other, &mut third], 3).await, None);
    let differing = Some(Rule::Concurrency(4).terms());
    assert_eq!((one.desk.differing, other.desk.differing, third.desk.differing), (differing, differing, None));
    drop(permit);
}
