//! What one worker does with permits of one kind: it says what it wants, and gives out what it holds. Who reads and publishes is
//! elsewhere.
//!
//! It gives nothing out while it does not read what it says itself. So a worker that is cut off begins nothing with permits
//! that others may have taken back, which they do later.

use std::collections::VecDeque;
use std::time::Duration;

use everpulse_engine::permits::{Heard, Member};
use everpulse_protocol::codec::{Body, Stored as _};
use everpulse_protocol::permit::{Notice, SessionId, Terms};
use everpulse_protocol::{Position, decode, encode};
use everpulse_transport::{Error, ErrorKind, Message};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Had, LEAVING, Moment, Permit, Shared, Wish};

/// So many rounds in which nothing was given out are said in the log.
const CUT_OFF: u32 = 3;
/// A worker takes part anew that has not read what it said in so many rounds, though it was stored: it reads something else.
const UNREAD: u32 = 15;
/// What was said may be trimmed when it was not heard for so long. Nothing but a notice of somebody unknown shows that it was.
const MISSED: Duration = Duration::from_secs(60);

pub(super) struct Desk {
    topic: String,
    pub member: Member,
    hearing: Shared,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    /// So many will be wanted as soon as those that wait have theirs.
    ahead: u32,
    pub resting: FuturesUnordered<BoxFuture<'static, u64>>,
    back: mpsc::WeakUnboundedSender<Wish>,
    publish: Publish,
    /// The notice that is being stored: the next one goes after it.
    pub publishing: Option<(Notice, Storing)>,
    /// A notice of its own that it has not read yet, by its number, and when it said that.
    said: Option<(u64, Moment)>,
    /// When this session began to read.
    began: Moment,
    /// Something of its own was stored since the last round.
    is_stored: bool,
    /// Rounds in which that was so, and nothing of its own was read.
    unread: u32,
    /// It has to say that it is here.
    round: bool,
    /// The topic is new: it is alone.
    is_first: bool,
    /// Who wants it to leave, and until when what is in use is waited for.
    pub leaving: Option<(oneshot::Sender<()>, Instant)>,
    /// Rounds in which it could give nothing out.
    cut_off: u32,
    /// That was said in the log.
    pub cut_off_is_said: bool,
    /// What others said last that was other than what this worker says, and is in the log.
    pub differing: Option<Terms>,
}

pub(super) type Storing = BoxFuture<'static, Result<Option<Position>, Error>>;
pub(super) type Publish = Box<dyn Fn(Message) -> Storing + Send + Sync>;

/// Why it serves no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It leaves. Not said where something is in use: others take that back when it has been silent for long.
    Leaves { said: bool },
    /// What it has not read may be gone.
    Missed,
}

impl Desk {
    /// `is_first`: nobody has ever said anything.
    pub fn new(
        topic: &str,
        member: Member,
        is_first: bool,
        back: mpsc::WeakUnboundedSender<Wish>,
        publish: Publish,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            member,
            hearing: Shared::default(),
            waiting: VecDeque::new(),
            ahead: 0,
            resting: FuturesUnordered::new(),
            back,
            publish,
            publishing: None,
            said: None,
            began: Moment::now(),
            is_stored: false,
            unread: 0,
            round: false,
            is_first,
            leaving: None,
            cut_off: 0,
            cut_off_is_said: false,
            differing: None,
        }
    }

    pub fn handle(&mut self, wish: Wish) {
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

    /// A permit of that session is used no more.
    pub fn put(&mut self, session: u64) {
        if session == self.hearing.lock().session {
            self.member.put();
        }
    }

    /// A round is over.
    pub fn tick(&mut self) -> Option<End> {
        self.round = true;
        self.unread += u32::from(std::mem::take(&mut self.is_stored));
        if self.unread > UNREAD {
            tracing::warn!(
                topic = self.topic,
                used = self.member.used(),
                "what this worker says about permits does not come back; it takes part anew, and what runs here goes on \
                 beside what others begin"
            );
            return Some(End::Missed);
        }
        let is_fresh = self.hearing.lock().is_fresh();
        let is_cut_off = !is_fresh || !self.member.is_informed();
        self.cut_off = if is_cut_off { self.cut_off.saturating_add(1) } else { 0 };
        self.cut_off_is_said &= is_cut_off;
        if self.cut_off >= CUT_OFF && !self.waiting.is_empty() && !self.cut_off_is_said {
            self.cut_off_is_said = true;
            let topic = &self.topic;
            if is_fresh {
                tracing::warn!(
                    topic,
                    "nobody has said yet who has permits; until somebody does, or was not heard for long, nothing begins here \
                     that needs one"
                );
            } else {
                tracing::warn!(
                    topic,
                    "nothing is heard of what workers say about permits; until it is, nothing begins here that needs one"
                );
            }
        }
        None
    }

    /// What became of the notice that was being stored.
    pub fn stored(&mut self, stored: Result<Option<Position>, Error>) -> Option<End> {
        let notice = self.publishing.take().map(|(notice, _)| notice);
        match (stored, notice) {
            (Ok(_), _) => self.is_stored = true,
            (Err(error), _) if error.kind() == ErrorKind::Closed => return Some(End::Leaves { said: false }),
            (Err(error), Some(notice)) => {
                tracing::error!(topic = self.topic, %error, "a notice about permits was not taken, and is said in fewer words");
                // Nothing of it is there. Its number has to be, for whoever reads what comes after it. What can be long is left
                // out, and said another time.
                let notice = Notice { account: None, silent: Vec::new(), ..notice };
                let storing = (self.publish)(Message::new(None, encode(&notice)));
                self.publishing = Some((notice, storing));
            }
            (Err(_), None) => {}
        }
        None
    }

    /// The next message of the topic.
    pub fn read(&mut self, position: Position, payload: &bytes::Bytes) -> Option<End> {
        let used = self.member.used();
        let heard = match decode::<Notice>(payload) {
            Ok(notice) => {
                // All that was said before what it has heard of its own it has read.
                let heard = self.hearing.lock().said.unwrap_or(self.began);
                if heard.elapsed() > MISSED && self.member.has_missed(&notice) {
                    tracing::warn!(
                        topic = self.topic,
                        used,
                        "what was said about permits meanwhile is gone; this worker takes part anew, and what runs here goes \
                         on beside what others begin"
                    );
                    return Some(End::Missed);
                }
                if notice.session == self.member.session() {
                    self.unread = 0;
                    if let Some((_, said)) = self.said.take_if(|(number, _)| notice.number >= *number) {
                        self.hearing.lock().said = Some(said);
                    }
                }
                self.member.read(position, notice)
            }
            Err(error) => {
                tracing::error!(topic = self.topic, %position, %error, "a notice about permits cannot be read");
                // What is no notice is so for all, and changes nothing; a later release may know what the other ones are.
                if !Body(payload.clone()).is_of_kind(Notice::KIND) {
                    return None;
                }
                self.member.unreadable(position)
            }
        };
        let differing = self.member.differing();
        // While it does not know what holds, nothing has changed.
        if self.member.is_informed()
            && std::mem::replace(&mut self.differing, differing) != differing
            && let Some(others) = differing
        {
            let (topic, own) = (&self.topic, self.member.own_terms());
            tracing::warn!(
                topic,
                limit = others.limit,
                rest_ms = others.rest_ms,
                own_limit = own.limit,
                own_rest_ms = own.rest_ms,
                "a worker that began later says another limit than this one; it holds for all of them"
            );
        }
        if heard == Heard::Over {
            let topic = &self.topic;
            if !self.member.is_informed() {
                tracing::warn!(topic, used, "a notice about permits is missing here; this worker takes part anew");
            } else if used > 0 {
                tracing::warn!(
                    topic,
                    used,
                    "this worker was not heard for long, and its permits went to others; what runs here goes on beside theirs"
                );
            }
            self.member.begin_anew(SessionId(Uuid::now_v7()));
            self.begin_anew();
        }
        None
    }

    /// As another member, that reads from elsewhere.
    pub fn replace(&mut self, member: Member, is_first: bool) {
        self.member = member.in_place_of(&self.member);
        self.is_first = is_first;
        self.begin_anew();
    }

    /// In another session. What is in use is of the one before, and nobody waits in vain.
    fn begin_anew(&mut self) {
        let mut hearing = self.hearing.lock();
        (hearing.session, hearing.said) = (hearing.session + 1, None);
        drop(hearing);
        (self.publishing, self.said, self.is_stored, self.unread) = (None, None, false, 0);
        self.began = Moment::now();
    }

    /// Gives out what it holds, and says what it wants.
    pub fn go_on(&mut self) {
        self.waiting.retain(|give| !give.is_closed());
        while !self.waiting.is_empty() {
            let session = {
                let hearing = self.hearing.lock();
                if !hearing.is_fresh() || !self.member.take() {
                    break;
                }
                hearing.session
            };
            let Some(give) = self.waiting.pop_front() else { break };
            // None: the worker is going, and all of it goes back.
            let had = self.back.upgrade().map(|back| Had { session, hearing: self.hearing.clone(), back });
            if let Err(mut unused) = give.send(Permit(had)) {
                // Nobody waits for it any more. It goes back by this, and not by being dropped.
                unused.0 = None;
                self.member.put();
            }
        }
        if self.publishing.is_some() {
            return;
        }
        let notice = if std::mem::take(&mut self.is_first) {
            Some(self.member.join(true))
        } else {
            // Nothing is kept from those who wait for what may begin here later.
            let ahead = if self.member.others_wait() { 0 } else { self.ahead };
            let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).saturating_add(ahead);
            self.member.next(waiting, self.round)
        };
        if let Some(notice) = notice {
            self.round = false;
            // What is said meanwhile is no news: else nothing would be heard in time where much is said.
            self.said.get_or_insert_with(|| (notice.number, Moment::now()));
            let storing = (self.publish)(Message::new(None, encode(&notice)));
            self.publishing = Some((notice, storing));
        }
    }

    /// The last notice of all, after the one that is being stored; if `said`, and not for longer than it takes.
    pub async fn leave(mut self, said: bool) {
        let publishing = self.publishing.take();
        let last = encode(&self.member.leave());
        let last = async {
            if let Some((_, storing)) = publishing {
                // Whatever became of it, the last notice comes after it.
                let _ = storing.await;
            }
            if let Err(error) = (self.publish)(Message::new(None, last)).await {
                tracing::debug!(topic = self.topic, %error, "that this worker leaves could not be said");
            }
        };
        if said {
            // If it takes too long, others find out by themselves.
            let _ = tokio::time::timeout(LEAVING, last).await;
        }
        if let Some((done, _)) = self.leaving {
            // Whoever asked may have run out of patience.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests;
