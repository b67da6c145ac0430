//! One worker's part at the broker: it reads what is said of permits, publishes what its desk says, and keeps the time.

use std::time::Duration;

use everpulse_engine::permits::{Member, ROUND_MS};
use everpulse_protocol::Position;
use everpulse_protocol::permit::{Notice, SessionId};
use everpulse_transport::{Error, ErrorKind, Message, Reader, Transport};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use uuid::Uuid;

use super::desk::{Desk, End, Storing};
use super::{Rule, Wish};

/// How often a worker says that it is there.
const ROUND: Duration = Duration::from_millis(ROUND_MS);
/// So many notices are read back from the end: what holds is in one of them, or in the next.
const READ_BACK: u64 = 256;
/// What did not succeed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a worker begins to read.
#[derive(Debug, Clone, Copy)]
struct Beginning {
    /// The last notice that was there; none: there were none, or they are gone.
    end: Option<Position>,
    /// This worker made the topic.
    is_new: bool,
}

pub(super) async fn run(
    transport: Transport,
    topic: String,
    rule: Rule,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    back: mpsc::WeakUnboundedSender<Wish>,
) {
    let Some(beginning) = beginning(&transport, &topic, &back).await else { return };
    let (mut reader, member) = begin(&transport, &topic, rule, beginning);
    let publisher = transport.publisher(&topic, Default::default());
    let publish = move |message: Message| publisher.publish_until_confirmed(message).boxed();
    let mut desk = Desk::new(&topic, member, beginning.is_alone(), back.clone(), Box::new(publish));
    loop {
        match serve(&mut desk, &mut reader, &mut wishes).await {
            End::Leaves { said } => {
                desk.leave(said).await;
                return reader.close().await;
            }
            End::Missed => {
                reader.close().await;
                let Some(beginning) = self::beginning(&transport, &topic, &back).await else { return };
                let (again, member) = begin(&transport, &topic, rule, beginning);
                reader = again;
                desk.replace(member, beginning.is_alone());
            }
        }
    }
}

impl Beginning {
    /// Nobody can have said anything. Of a topic that is merely empty nobody knows what was there.
    fn is_alone(self) -> bool {
        self.is_new && self.end.is_none()
    }
}

/// The end of the topic, which is made if it is not there; none if nobody waits for anything any more.
async fn beginning(transport: &Transport, topic: &str, back: &mpsc::WeakUnboundedSender<Wish>) -> Option<Beginning> {
    let mut is_new = false;
    loop {
        let end = match transport.set_up_permits(topic).await {
            Ok(made) => {
                is_new |= made;
                transport.last_position_once(topic).await
            }
            Err(error) => Err(error),
        };
        match end {
            Ok(end) => return Some(Beginning { end, is_new }),
            Err(error) if error.kind() == ErrorKind::Closed || back.strong_count() == 0 => return None,
            Err(error) => tracing::warn!(topic, %error, "permits cannot be shared yet, next try in {AGAIN:?}"),
        }
        sleep(AGAIN).await;
    }
}

/// Reads the last notices, and what comes.
fn begin(transport: &Transport, topic: &str, rule: Rule, beginning: Beginning) -> (Reader, Member) {
    let began = beginning.end.map(|end| Position { entry: end.entry.saturating_sub(READ_BACK), ..end });
    let member = Member::new(SessionId(Uuid::now_v7()), rule.terms(), began);
    (transport.reader(topic, began), member)
}

async fn serve(desk: &mut Desk, reader: &mut Reader, wishes: &mut mpsc::UnboundedReceiver<Wish>) -> End {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        desk.go_on();
        let leaves_at = desk.leaving.as_ref().map(|(_, until)| *until);
        if leaves_at.is_some() && desk.member.used() == 0 {
            return End::Leaves { said: true };
        }
        let end = tokio::select! {
            biased;
            stored = stored(&mut desk.publishing) => desk.stored(stored),
            entry = reader.next() => desk.read(entry.position, &entry.payload),
            Some(session) = desk.resting.next(), if !desk.resting.is_empty() => {
                desk.put(session);
                None
            }
            wish = wishes.recv() => match wish {
                Some(wish) => {
                    desk.handle(wish);
                    None
                }
                // Nobody can ask for anything any more.
                None => Some(End::Leaves { said: desk.member.used() == 0 }),
            },
            _ = rounds.tick() => desk.tick(),
            () = sleep_until(leaves_at.unwrap_or_else(Instant::now)), if leaves_at.is_some() => {
                Some(End::Leaves { said: false })
            }
        };
        if let Some(end) = end {
            return end;
        }
    }
}

/// What became of the notice that is being stored; for ever, if there is none.
async fn stored(storing: &mut Option<(Notice, Storing)>) -> Result<Option<Position>, Error> {
    match storing {
        Some((_, storing)) => storing.await,
        None => std::future::pending().await,
    }
}
