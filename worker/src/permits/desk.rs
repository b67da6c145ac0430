//! What one worker does with permits of one kind: it reads, says what it wants, and gives out what it holds.
//!
//! It gives nothing out while it does not read what it says itself. So a worker that is cut off begins nothing with permits
//! that others may have taken back, which they do later.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use everpulse_engine::permits::{Heard, Member, ROUND_MS};
use everpulse_protocol::permit::{Notice, SessionId};
use everpulse_protocol::{Position, decode, encode};
use everpulse_transport::{Entry, Error, ErrorKind, Message, Publisher, Reader, Transport};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::{LEAVING, Permit, Rule, Wish};

/// How often a worker says that it is there.
const ROUND: Duration = Duration::from_millis(ROUND_MS);
/// A worker that has read nothing of its own that it said since then gives nothing out. Others call it silent later than that:
/// of the rounds for which they wait the first two may come together, where they had to wait for the broker, and no more.
const FRESH: Duration = Duration::from_millis(ROUND_MS * 5 / 2);
/// So many rounds in which nothing was given out are said in the log.
const CUT_OFF: u32 = 3;
/// What was not read for so long may be trimmed: nobody goes on from there.
const MISSED: Duration = Duration::from_secs(600);
/// So many notices are read back from the end: what holds is in one of them, or in the next.
const READ_BACK: u64 = 256;
/// What did not succeed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

struct Desk {
    topic: String,
    rule: Rule,
    member: Member,
    /// Counts its sessions: permits of an earlier one are not this one's.
    session: u64,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    /// So many will be wanted as soon as those that wait have theirs.
    ahead: u32,
    resting: FuturesUnordered<BoxFuture<'static, u64>>,
    back: mpsc::WeakUnboundedSender<Wish>,
    publisher: Publisher,
    /// The notice that is being stored: the next one goes after it.
    publishing: Option<(Notice, Storing)>,
    /// The number of the last notice that it said, and when.
    said: (u64, Instant),
    /// When it said what it has read of its own.
    heard: Option<Instant>,
    /// When it read that, by the machine's clock.
    read_at: SystemTime,
    /// It has to say that it is here.
    round: bool,
    /// Rounds in which nobody said what holds.
    unanswered: u32,
    /// To be said as soon as nothing is being stored.
    joins: Option<bool>,
    /// Who wants it to leave, and until when what is in use is waited for.
    leaving: Option<(oneshot::Sender<()>, Instant)>,
    /// Rounds in which it could give nothing out.
    cut_off: u32,
}

type Storing = BoxFuture<'static, Result<Option<Position>, Error>>;

/// Why it serves no more.
enum End {
    /// It leaves. Not said where something is in use: others take that back when it has been silent for long.
    Leaves { said: bool },
    /// What it has not read may be gone.
    Missed,
}

pub(super) async fn run(
    transport: Transport,
    topic: String,
    rule: Rule,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    back: mpsc::WeakUnboundedSender<Wish>,
) {
    let Some(end) = end_of(&transport, &topic, &back).await else { return };
    let (mut reader, member) = begin(&transport, &topic, rule, end);
    let mut desk = Desk {
        member,
        publisher: transport.publisher(&topic, Default::default()),
        topic: topic.clone(),
        rule,
        session: 0,
        waiting: VecDeque::new(),
        ahead: 0,
        resting: FuturesUnordered::new(),
        back: back.clone(),
        publishing: None,
        said: (0, Instant::now()),
        heard: None,
        read_at: SystemTime::now(),
        round: false,
        unanswered: 0,
        joins: Some(end.is_none()),
        leaving: None,
        cut_off: 0,
    };
    loop {
        match desk.serve(&mut reader, &mut wishes).await {
            End::Leaves { said } => {
                desk.leave(said).await;
                return reader.close().await;
            }
            End::Missed => {
                reader.close().await;
                let Some(end) = end_of(&transport, &topic, &back).await else { return };
                (reader, desk.member) = begin(&transport, &topic, rule, end);
                desk.begin_anew(end.is_none());
            }
        }
    }
}

/// The end of the topic, which is made if it is not there; none if nobody waits for anything any more.
async fn end_of(
    transport: &Transport,
    topic: &str,
    back: &mpsc::WeakUnboundedSender<Wish>,
) -> Option<Option<Position>> {
    loop {
        let last = match transport.set_up_permits(topic).await {
            Ok(()) => transport.last_position_once(topic).await,
            Err(error) => Err(error),
        };
        match last {
            Ok(last) => return Some(last),
            Err(error) if error.kind() == ErrorKind::Closed || back.strong_count() == 0 => return None,
            Err(error) => tracing::warn!(topic, %error, "permits cannot be shared yet, next try in {AGAIN:?}"),
        }
        sleep(AGAIN).await;
    }
}

/// Reads the last notices, and what comes.
fn begin(transport: &Transport, topic: &str, rule: Rule, end: Option<Position>) -> (Reader, Member) {
    let began = end.map(|end| Position { entry: end.entry.saturating_sub(READ_BACK), ..end });
    let member = Member::new(SessionId(Uuid::now_v7()), rule.terms(), began);
    (transport.reader(topic, began), member)
}

impl Desk {
    async fn serve(&mut self, reader: &mut Reader, wishes: &mut mpsc::UnboundedReceiver<Wish>) -> End {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.go_on();
            let leaves_at = self.leaving.as_ref().map(|(_, until)| *until);
            if leaves_at.is_some() && self.member.used() == 0 {
                return End::Leaves { said: true };
            }
            tokio::select! {
                biased;
                stored = stored(&mut self.publishing) => {
                    let notice = self.publishing.take().map(|(notice, _)| notice);
                    match (stored, notice) {
                        (Err(error), _) if error.kind() == ErrorKind::Closed => return End::Leaves { said: false },
                        (Err(error), Some(notice)) => {
                            // Nothing of it is there. Its number has to be, for whoever reads what comes after it.
                            tracing::error!(topic = self.topic, %error, "a notice about permits was not taken");
                            self.publish(Notice { account: None, ..notice });
                        }
                        _ => {}
                    }
                }
                entry = reader.next() => {
                    // By the machine's clock, which goes on while the machine does not.
                    if self.read_at.elapsed().is_ok_and(|elapsed| elapsed > MISSED) {
                        tracing::warn!(topic = self.topic, "nothing was heard about permits for long; this worker takes part anew");
                        return End::Missed;
                    }
                    self.read(&entry);
                }
                Some(session) = self.resting.next(), if !self.resting.is_empty() => self.put(session),
                wish = wishes.recv() => match wish {
                    Some(wish) => self.handle(wish),
                    // Nobody can ask for anything any more.
                    None => return End::Leaves { said: self.member.used() == 0 },
                },
                _ = rounds.tick() => self.tick(),
                () = sleep_until(leaves_at.unwrap_or_else(Instant::now)), if leaves_at.is_some() => {
                    return End::Leaves { said: false };
                }
            }
        }
    }

    fn handle(&mut self, wish: Wish) {
        match wish {
            Wish::One(give) if self.leaving.is_none() => self.waiting.push_back(give),
            Wish::Ahead(ahead) if self.leaving.is_none() => self.ahead = ahead,
            Wish::One(_) | Wish::Ahead(_) => {}
            Wish::Begun(session) => {
                let rest = Duration::from_millis(self.member.terms().rest_ms.max(1));
                let rested = async move {
                    sleep(rest).await;
                    session
                };
                self.resting.push(rested.boxed());
            }
            Wish::Back(session) => self.put(session),
            Wish::Leave(done) => {
                self.waiting.clear();
                self.ahead = 0;
                self.leaving = Some((done, Instant::now() + LEAVING));
            }
        }
    }

    fn tick(&mut self) {
        self.round = true;
        if !self.member.is_informed() {
            self.unanswered = self.unanswered.saturating_add(1);
            // By then what those had rests no more of whom nothing is heard.
            if self.unanswered >= self.member.rounds_max() {
                (self.unanswered, self.joins) = (0, Some(true));
            }
        }
        self.cut_off = if self.is_fresh() { 0 } else { self.cut_off.saturating_add(1) };
        if self.cut_off == CUT_OFF && !self.waiting.is_empty() {
            tracing::warn!(
                topic = self.topic,
                "nothing is heard of what workers say about permits; until it is, nothing begins here that needs one"
            );
        }
    }

    /// Whether others surely believe that it is there.
    fn is_fresh(&self) -> bool {
        self.heard.is_some_and(|said| said.elapsed() < FRESH)
    }

    fn put(&mut self, session: u64) {
        if session == self.session {
            self.member.put();
        }
    }

    fn read(&mut self, entry: &Entry) {
        self.read_at = SystemTime::now();
        let notice = match decode::<Notice>(&entry.payload) {
            Ok(notice) => notice,
            Err(error) => {
                tracing::error!(topic = self.topic, position = %entry.position, %error, "a notice about permits cannot be read");
                return;
            }
        };
        if (notice.session, notice.number) == (self.member.session(), self.said.0) {
            self.heard = Some(self.said.1);
        }
        if self.member.read(entry.position, notice) == Heard::Over {
            tracing::warn!(
                topic = self.topic,
                "this worker was not heard for long, and its permits went to others; what runs here goes on beside theirs"
            );
            self.member.begin_anew(SessionId(Uuid::now_v7()));
            self.begin_anew(false);
        }
    }

    /// In another session. What is in use is of the one before, and nobody waits in vain.
    fn begin_anew(&mut self, alone: bool) {
        (self.session, self.unanswered, self.joins) = (self.session + 1, 0, Some(alone));
        (self.heard, self.read_at, self.publishing) = (None, SystemTime::now(), None);
    }

    /// Gives out what it holds, and says what it wants.
    fn go_on(&mut self) {
        self.waiting.retain(|give| !give.is_closed());
        while self.is_fresh() && !self.waiting.is_empty() && self.member.take() {
            let Some(give) = self.waiting.pop_front() else { break };
            // None: the worker is going, and all of it goes back.
            let back = self.back.upgrade().map(|back| (self.session, back));
            if let Err(mut unused) = give.send(Permit { back, rests: self.rule.rests() }) {
                // Nobody waits for it any more. It goes back by this, and not by being dropped.
                unused.back = None;
                self.member.put();
            }
        }
        if self.publishing.is_some() {
            return;
        }
        let notice = match self.joins.take() {
            Some(alone) => Some(self.member.join(alone)),
            None => {
                let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).saturating_add(self.ahead);
                let notice = self.member.next(waiting, self.round);
                self.round &= notice.is_none();
                notice
            }
        };
        if let Some(notice) = notice {
            self.said = (notice.number, Instant::now());
            self.publish(notice);
        }
    }

    fn publish(&mut self, notice: Notice) {
        let message = Message::new(None, encode(&notice));
        self.publishing = Some((notice, self.publisher.publish_until_confirmed(message).boxed()));
    }

    async fn leave(mut self, said: bool) {
        let last = async {
            if let Some((_, storing)) = self.publishing.take() {
                // Whatever became of it, the last notice comes after it.
                let _ = storing.await;
            }
            let last = Message::new(None, encode(&self.member.leave()));
            if let Err(error) = self.publisher.publish_until_confirmed(last).await {
                tracing::debug!(topic = self.topic, %error, "that this worker leaves could not be said");
            }
        };
        if said {
            // If it takes too long, others find out by themselves.
            let _ = timeout(LEAVING, last).await;
        }
        if let Some((done, _)) = self.leaving {
            // Whoever asked may have run out of patience.
            let _ = done.send(());
        }
    }
}

/// What became of the notice that is being stored; for ever, if there is none.
async fn stored(publishing: &mut Option<(Notice, Storing)>) -> Result<Option<Position>, Error> {
    match publishing {
        Some((_, storing)) => storing.await,
        None => std::future::pending().await,
    }
}
