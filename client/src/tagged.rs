//! Signals to all open runs that carry a tag.
//!
//! ```text
//! client.signal_tag("customer:42", Moved { .. }).await ─┬─► shard 0 ── its runs with the tag ─┐
//!                                                       ├─► shard 1 ── ..                     ├─► Reached { runs }
//!                                                       └─► ..                               ─┘
//! ```
//! Runs are found by their shards, which have them; so each shard gets the signal, under an id that follows from the signal's
//! own. It is sent again under it, with the time of its issue, until all have answered.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::id::check_name;
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{EventId, Headers, Payload, RunId, WorkflowId, shard};
use everpulse_sdk::Signal;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use uuid::Uuid;

use crate::client::Client;
use crate::core::{Core, Deadline, Meant, Question, Sealed};
use crate::error::{Error, ErrorKind};
use crate::intercept::{Call, CallKind};
use crate::requests::Heard;

/// What became of a signal to all runs that carry a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// So many runs have taken it.
    pub runs: u64,
    /// There may have been more: it was sent again after so long that some shards remember only that they had it.
    pub at_least: bool,
}

/// A signal to all runs that carry a tag, which is being described. Await it to send it.
#[must_use = "nothing is sent before it is awaited"]
pub struct SignalTag {
    core: Arc<Core>,
    tag: String,
    signal: Result<(String, Payload), Error>,
    id: Option<String>,
}

impl std::fmt::Debug for SignalTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalTag").field("tag", &self.tag).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Client {
    /// Sends a signal to all open runs that carry a tag (`.tag("customer:42")` at their start), whatever their workflows are:
    /// each takes it once. A run that begins when the call is over does not get it; one that begins or ends meanwhile may or may
    /// not. A run that continues as new gives its tags along, and takes it once with those that go on for it.
    ///
    /// ```no_run
    /// # async fn example(client: everpulse_client::Client) -> Result<(), everpulse_client::Error> {
    /// let reached = client.signal_tag_named("customer:42", "Moved", "Oslo").await?;
    /// println!("{} runs know the new address", reached.runs);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When it is awaited: [`ErrorKind::Timeout`] when no worker answered for some of the shards (stored; it takes effect
    /// when one comes), [`ErrorKind::Invalid`], [`ErrorKind::Expired`], [`ErrorKind::Unreachable`]. The message says how many
    /// runs have taken it; under the same [`id`](SignalTag::id) it can be sent again, and none takes it twice.
    pub fn signal_tag<S: Signal>(&self, tag: impl Into<String>, signal: S) -> SignalTag {
        let value = self.core().encode(&signal).map_err(|error| Error::payload("the signal", &error));
        self.signalling(tag.into(), value.map(|value| (S::NAME.to_owned(), value)))
    }

    /// The same by the signal's name, for those who have not its type.
    pub fn signal_tag_named<V: serde::Serialize + ?Sized>(
        &self,
        tag: impl Into<String>,
        name: &str,
        value: &V,
    ) -> SignalTag {
        let value = self.core().encode(value).map_err(|error| Error::payload("the signal", &error));
        let checked = check_name(name).map_err(|error| Error::invalid_id("a signal's name", &error));
        self.signalling(tag.into(), checked.and(value).map(|value| (name.to_owned(), value)))
    }

    fn signalling(&self, tag: String, signal: Result<(String, Payload), Error>) -> SignalTag {
        SignalTag { core: Arc::clone(self.core()), tag, signal, id: None }
    }
}

impl SignalTag {
    /// The same tag, name and id are the same signal, which no run takes twice: whoever does not know whether it was sent
    /// sends it again, from any process, for as long as ids are remembered (a day). Without it, it is another one each time.
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    async fn send(self) -> Result<Reached, Error> {
        let Self { core, tag, signal, id } = self;
        let (name, value) = signal?;
        // Values are sealed for the tag; this is for errors.
        let shown = WorkflowId::new(&tag).map_err(|error| Error::invalid_id("a tag", &error))?;
        let mut seen = Call::new(CallKind::Signal);
        (seen.tag, seen.name) = (Some(tag.clone()), Some(name.clone()));
        let calling = async |headers: Headers| {
            let headers = core.headers(&headers)?;
            let signal_id = id.map_or_else(|| EventId(Uuid::now_v7()), |id| named(&tag, &name, &id));
            let body = EventBody::SignalTagged { tag: tag.clone(), name, value, headers };
            let body = core.sealed(&shown, body).await?;
            let told = (0..core.shards).map(|shard| tell(&core, &tag, shard, signal_id, &body));
            sum(&tag, join_all(told).await)
        };
        core.interceptors.around(seen, calling).await
    }
}

impl IntoFuture for SignalTag {
    type Output = Result<Reached, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

/// The id of a signal that its sender gave a name.
fn named(tag: &str, name: &str, id: &str) -> EventId {
    // None of the three has a control character but the last, which is the last.
    EventId::derived(RunId::NIL, 0, &format!("{tag}\0{name}\0{id}"))
}

/// Asks a shard until it has given the signal to its runs. Gives to how many, if that is known.
async fn tell(core: &Core, tag: &str, shard: u32, signal: EventId, body: &Sealed) -> Result<Option<u32>, Error> {
    let ticket = core.requests.open();
    let event = core.event(&shard::placeholder_id(shard), Meant::default(), Some(ticket.reply_to()), body);
    let event = Event { id: EventId::for_shard(signal, shard), ..event };
    let refused = |kind, message: &str| Some(Err(Error::new(kind, message)));
    let take = |heard: &Heard| match heard.answer.as_deref()? {
        ReplyBody::Reached { runs } => Some(Ok(Some(*runs))),
        ReplyBody::Accepted => Some(Ok(None)),
        ReplyBody::Invalid { message } => refused(ErrorKind::Invalid, message),
        ReplyBody::Expired { message } => refused(ErrorKind::Expired, message),
        _ => None,
    };
    let question = Question {
        what: &|| format!("signal all runs with the tag {tag:?} in shard {shard}"),
        event: &|| event.clone(),
        deadline: Deadline::after(core.limit),
        listen_first: Duration::ZERO,
    };
    core.ask(&ticket, question, take, None).await?
}

/// What all shards have answered; the first error, with what is known of the others.
fn sum(tag: &str, answers: Vec<Result<Option<u32>, Error>>) -> Result<Reached, Error> {
    let known = answers.iter().filter_map(|answer| answer.as_ref().ok());
    let reached = known.fold(Reached { runs: 0, at_least: false }, |reached, runs| Reached {
        runs: reached.runs + u64::from(runs.unwrap_or(0)),
        at_least: reached.at_least || runs.is_none(),
    });
    let (count, failed) = (answers.len(), answers.iter().filter(|answer| answer.is_err()).count());
    match answers.into_iter().find_map(Result::err) {
        None => Ok(reached),
        Some(error) => Err(Error::new(
            error.kind(),
            format!(
                "the signal to all with the tag {tag:?} was taken by {} runs of {} shards; {failed} of {count} shards have not \
                 said so: {error}",
                reached.runs,
                count - failed
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_with_a_name_is_the_same_one_for_its_tag_alone() {
        assert_eq!(named("a", "Word", "1"), named("a", "Word", "1"));
        for other in [named("b", "Word", "1"), named("a", "Other", "1"), named("a", "Word", "2")] {
            assert_ne!(named("a", "Word", "1"), other);
        }
    }

    #[test]
    fn what_all_shards_answered_is_added_up_and_an_error_says_what_the_others_did() {
        let known = Reached { runs: 5, at_least: false };
        assert_eq!(sum("a", vec![Ok(Some(2)), Ok(Some(0)), Ok(Some(3))]).expect("all answered"), known);
        assert_eq!(sum("a", vec![Ok(Some(5)), Ok(None)]).expect("all"), Reached { at_least: true, ..known });
        let late = Error::new(ErrorKind::Timeout, "nobody answered");
        let error = sum("a", vec![Ok(Some(2)), Err(late), Ok(Some(1))]).expect_err("one did not");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("taken by 3 runs of 2 shards; 1 of 3"), "{error}");
    }
}
