//! The questions of one client that wait for an answer, and when they are asked again.
//!
//! ```text
//!   Ticket ── event with reply_to ──► inbox ──► owner
//!      ▲                                          │ non-persistent: may be lost
//!      └── Heard ◄── hear(frame) ◄── replies.CLIENT
//! ```
//! A ticket is open as long as somebody holds it; what comes for others is dropped. Sending is not done here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use everpulse_protocol::event::ReplyTo;
use everpulse_protocol::history::Close;
use everpulse_protocol::reply::{Reply, ReplyBody};
use everpulse_protocol::{RequestId, RunId};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

/// What was heard on a request. A run's end stays, whatever comes after it.
///
/// Boxed: most requests wait, and there can be very many of them.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The last answer that was not an end.
    pub answer: Option<Box<ReplyBody>>,
    pub closed: Option<(RunId, Box<Close>)>,
}

impl Heard {
    fn take(&mut self, body: ReplyBody) {
        match body {
            ReplyBody::Closed { run_id, close } => self.closed = Some((run_id, close)),
            other => self.answer = Some(Box::new(other)),
        }
    }
}

/// All open requests of a client.
#[derive(Debug)]
pub(crate) struct Requests {
    client: String,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<RequestId, Weak<Request>>,
    /// How long answers took lately.
    answer_time: Duration,
}

/// A request that somebody holds a ticket for.
#[derive(Debug)]
struct Request {
    requests: Arc<Requests>,
    id: RequestId,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    heard: Heard,
    /// Grows with all that is heard.
    version: u32,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
}

impl Request {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first wait before a question is asked again, and the longest.
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_LONGEST: Duration = Duration::from_secs(5);
/// With more open requests than this all waits grow in proportion, so that a client asks again at most
/// some hundred times a second.
const OPEN_AT_FULL_PACE: usize = 1_000;
/// A question is not asked again before so many times the usual answer time: under load answers come late, and to ask
/// again makes them later.
const PATIENCE: u32 = 3;
/// But then it is, however slow answers have been.
const PATIENCE_LONGEST: Duration = Duration::from_secs(15);

impl Requests {
    pub(crate) fn new(client: String) -> Arc<Self> {
        Arc::new(Self { client, table: Mutex::default() })
    }

    /// Opens a request.
    pub(crate) fn open(self: &Arc<Self>) -> Ticket {
        let id = RequestId(Uuid::now_v7());
        let (state, news) = Default::default();
        let request = Arc::new(Request { requests: Arc::clone(self), id, state, news });
        self.lock().open.insert(id, Arc::downgrade(&request));
        Ticket { request, seen: 0 }
    }

    /// Takes an answer in.
    pub(crate) fn hear(&self, reply: Reply) {
        // Not held below: the last holder of a request closes it, which may be this function.
        let known = self.lock().open.get(&reply.request).and_then(Weak::upgrade);
        let Some(request) = known else { return };
        let asked = {
            let mut state = request.state();
            state.heard.take(reply.body);
            state.version = state.version.wrapping_add(1);
            state.asked.take()
        };
        if let Some(asked) = asked {
            let mut table = self.lock();
            table.answer_time = (table.answer_time * 3 + asked.elapsed()) / 4;
        }
        request.news.notify_waiters();
    }

    /// How long to wait before a question is asked for the `asked + 1`st time.
    fn wait(&self, id: RequestId, asked: u32) -> Duration {
        let table = self.lock();
        spread(wait(table.open.len(), asked), id).max((table.answer_time * PATIENCE).min(PATIENCE_LONGEST))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here can be left half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait(crowd: usize, asked: u32) -> Duration {
    let own = WAIT_FIRST.saturating_mul(1 << asked.saturating_sub(1).min(8)).min(WAIT_LONGEST);
    let crowd = u32::try_from(crowd.div_ceil(OPEN_AT_FULL_PACE)).unwrap_or(u32::MAX).max(1);
    own.saturating_mul(crowd)
}

/// Three to five quarters of a wait, so that what was asked at once is not asked again at once.
fn spread(wait: Duration, id: RequestId) -> Duration {
    wait.mul_f64(0.75 + f64::from(id.0.as_bytes()[15]) / 510.0)
}

/// A request that waits for answers. Clones wait for the same ones; the last one closes it.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    request: Arc<Request>,
    /// The version of what this one has looked at.
    seen: u32,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.requests.lock().open.remove(&self.id);
    }
}

impl Ticket {
    /// Where the answers are to go.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        ReplyTo { client: self.request.requests.client.clone(), request: self.request.id }
    }

    /// Waits until what was heard is worth something to `take`; none when it is not, and there is news.
    ///
    /// Cancel safe.
    pub(crate) async fn hear<T>(&mut self, mut take: impl FnMut(&Heard) -> Option<T>) -> Option<T> {
        loop {
            // Before the look: what comes after it is not missed.
            let news = self.request.news.notified();
            {
                let state = self.request.state();
                let value = take(&state.heard);
                if std::mem::replace(&mut self.seen, state.version) != state.version || value.is_some() {
                    return value;
                }
            }
            news.await;
        }
    }

    /// Notes that it was asked now, unless an answer is waited for already.
    pub(crate) fn asked(&self) {
        self.request.state().asked.get_or_insert_with(Instant::now);
    }

    /// How long to wait before asking again, having asked so often.
    pub(crate) fn wait(&self, asked: u32) -> Duration {
        self.request.requests.wait(self.request.id, asked)
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::Payload;
    use everpulse_protocol::event::Outcome;
    use everpulse_protocol::history::CloseStatus;

    use super::*;

    fn closed(run: u128) -> ReplyBody {
        let outcome = Outcome::Done(Payload::encode(&run).expect("encodes"));
        ReplyBody::Closed {
            run_id: RunId(Uuid::from_u128(run)),
            close: Box::new(Close { status: CloseStatus::Completed, outcome }),
        }
    }

    #[test]
    fn an_answer_reaches_its_request_alone_and_an_end_stays() {
        let requests = Requests::new("c".into());
        let (one, two) = (requests.open(), requests.open());
        requests.hear(Reply { request: one.reply_to().request, body: closed(1) });
        requests.hear(Reply { request: one.reply_to().request, body: ReplyBody::NotFound });
        requests.hear(Reply { request: RequestId(Uuid::nil()), body: ReplyBody::Accepted });
        let heard = &one.request.state().heard;
        assert_eq!(heard.answer.as_deref(), Some(&ReplyBody::NotFound));
        assert!(heard.closed.is_some());
        let other = &two.request.state().heard;
        assert!(other.answer.is_none() && other.closed.is_none());
    }

    #[test]
    fn the_last_holder_of_a_ticket_closes_it() {
        let requests = Requests::new("c".into());
        let ticket = requests.open();
        let clone = ticket.clone();
        drop(ticket);
        assert_eq!(requests.lock().open.len(), 1);
        drop(clone);
        assert_eq!(requests.lock().open.len(), 0);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<_> = (1..=7).map(|asked| wait(1, asked).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(wait(1, u32::MAX), WAIT_LONGEST);
    }

    #[test]
    fn a_crowd_of_requests_asks_no_more_often_together() {
        for crowd in [1_000_usize, 10_000, 100_000] {
            let per_second = crowd as f64 / wait(crowd, 9).as_secs_f64();
            assert!(per_second <= 200.0, "{crowd} requests ask {per_second} times a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_answers_come_late_nobody_asks_again_early() {
        let requests = Requests::new("c".into());
        let waiting = requests.open();
        for _ in 0..20 {
            let ticket = requests.open();
            ticket.asked();
            tokio::time::advance(Duration::from_secs(3)).await;
            requests.hear(Reply { request: ticket.reply_to().request, body: ReplyBody::Accepted });
            // The end of a run is no answer to a question.
            tokio::time::advance(Duration::from_secs(100)).await;
            requests.hear(Reply { request: ticket.reply_to().request, body: closed(1) });
        }
        assert_eq!(waiting.wait(1).as_secs(), 8, "nearly three times three");
        requests.lock().answer_time = Duration::from_secs(60);
        assert_eq!(waiting.wait(1), PATIENCE_LONGEST);
    }

    #[test]
    fn waits_are_spread_around_their_length() {
        let wait = Duration::from_secs(4);
        let least = spread(wait, RequestId(Uuid::from_u128(0)));
        let most = spread(wait, RequestId(Uuid::from_u128(255)));
        assert_eq!((least, most), (Duration::from_secs(3), Duration::from_secs(5)));
    }
}
