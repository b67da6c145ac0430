//! Promises: what a person or another system completes from outside, by a token.
//!
//! A promise is a command without a send: its number is fixed when it is made, so that its token can be given away, and
//! its end comes as an event. Who may complete it, and how, is the client's.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use everpulse_protocol::history::CommandKind;
use everpulse_protocol::{InvalidToken, Token};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::typed;
use crate::definition::{AuthorError, Output};
use crate::failure::Failure;
use crate::replay::core::Core;
use crate::replay::{Command, Settlement, Ticket};

/// Something that is completed from outside: a token to give away, and a future of what comes of it.
///
/// Whoever has the token completes it with `client.complete(&token, value)` or `client.fail(&token, error)`, from any
/// process, months later; the first one counts. What comes before the promise is awaited is kept. Until then `describe`
/// shows the promise with its token, so that a person sees what is waited for.
///
/// The future gives the value, or a [`Failure`] whose error is [`everpulse::Error`](crate::Error), unless
/// [`or`](Promise::or) names another type. It is `Unpin`: `&mut promise` can be awaited in a `select!` several times.
///
/// ```
/// use everpulse_sdk as everpulse;
/// use everpulse::{CompletionToken, Error, promise, timeout};
/// use std::time::Duration;
///
/// #[everpulse::activity(crate = everpulse)]
/// async fn ask_for_approval(who: String, token: CompletionToken<bool>) -> Result<(), Error> {
///     println!("to {who}: https://approve.example.com/{token}");
///     Ok(())
/// }
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn spend(cents: u64) -> Result<bool, Error> {
///     let approval = promise::<bool>();
///     ask_for_approval("boss".to_owned(), approval.token()).await?;
///     match timeout(Duration::from_secs(7 * 86_400), approval).await {
///         Ok(answer) => Ok(answer?),
///         Err(_) => Ok(false),
///     }
/// }
/// ```
///
/// # Determinism
/// The token follows from the run and the number of the promise: a replay makes the same.
///
/// # Panics
/// Outside a workflow.
///
/// # Cancel safety
/// Dropping the promise cancels it: from then on its token is refused as expired. So it is when the run is asked to
/// cancel, except in a shield; then the promise gives [`Failure::Cancelled`].
pub fn promise<T: Output>() -> Promise<T> {
    let core = Core::current("`promise` was called", "elsewhere use a channel of your runtime");
    let (no, ticket) = Ticket::schedule_known(&core, CommandKind::Promise, |no| Command::Promise { no });
    let token = Token { workflow_id: core.info.workflow_id.clone(), run_id: core.info.run_id, step: no, attempt: None };
    let state = ticket.map_or(State::Cancelled, State::Open);
    Promise { token: CompletionToken::of(token), state }
}

/// Something that is completed from outside; see [`promise`].
#[must_use = "dropping a promise cancels it: keep it as long as its token is to be good"]
pub struct Promise<T, E = crate::Error> {
    token: CompletionToken<T, E>,
    state: State,
}

enum State {
    Open(Ticket),
    /// The run was cancelled before it was made.
    Cancelled,
    Done,
}

impl<T, E> Promise<T, E> {
    /// What whoever is to complete it needs. It can be an argument of an activity, be published, or be sent as a text.
    #[must_use]
    pub fn token(&self) -> CompletionToken<T, E> {
        self.token.clone()
    }

    /// What it stands for, in a word, for people: `describe` shows it beside the token.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # #[everpulse::workflow(crate = everpulse)]
    /// # async fn waits() -> Result<bool, everpulse::Error> {
    /// let approval = everpulse::promise::<bool>().named("approval of the budget");
    /// # Ok(approval.await?) }
    /// ```
    ///
    /// # Determinism
    /// A replay does not look at it: it can be edited while runs are open.
    ///
    /// # Panics
    /// Outside the workflow that made it.
    pub fn named(self, name: impl Into<String>) -> Self {
        let core = Core::current("a promise was named", "name it where it is made");
        core.name(self.token.token.step, name.into());
        self
    }
}

impl<T> Promise<T> {
    /// The same promise, which fails with an error of the author's.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// use everpulse::{Failure, Never, promise};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
    /// #[error("refused by {by}")]
    /// struct Refused {
    ///     by: String,
    /// }
    ///
    /// #[everpulse::workflow(crate = everpulse)]
    /// async fn waits() -> Result<String, Failure<Never>> {
    ///     match promise::<u64>().or::<Refused>().await {
    ///         Ok(cents) => Ok(format!("{cents} granted")),
    ///         Err(Failure::Failed(Refused { by })) => Ok(format!("{by} said no")),
    ///         Err(_) => Ok("nobody said anything".to_owned()),
    ///     }
    /// }
    /// ```
    pub fn or<E: AuthorError>(self) -> Promise<T, E> {
        Promise { token: CompletionToken::of(self.token.token), state: self.state }
    }
}

// Nothing in it is pinned.
impl<T, E> Unpin for Promise<T, E> {}

impl<T: Output, E: AuthorError> Future for Promise<T, E> {
    type Output = Result<T, Failure<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let settlement = match &self.state {
            State::Open(ticket) => std::task::ready!(ticket.poll(cx)),
            State::Cancelled => Settlement::Cancelled,
            State::Done => panic!("a promise was polled after it had given its result"),
        };
        self.state = State::Done;
        Poll::Ready(typed(settlement))
    }
}

impl<T, E> fmt::Debug for Promise<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Promise").field(&self.token.token.step).finish()
    }
}

/// Completes a promise, or an activity that was left to be completed later, from anywhere: one word of letters, digits, `-`
/// and `_`, which names the run and what waits there.
///
/// `T` is what it is completed with, `E` what it can fail with. As a text it loses these types:
///
/// ```
/// # fn example(text: &str) -> Result<(), Box<dyn std::error::Error>> {
/// use everpulse_sdk::CompletionToken;
///
/// let token: CompletionToken<bool> = text.parse()?;
/// assert_eq!(token.to_string(), text);
/// # Ok(()) }
/// # example("ept1_AAGQwN4AAHAAgAAAAAAAAAEAAAADb3JkZXItNDIVzOmq").unwrap();
/// ```
pub struct CompletionToken<T, E = crate::Error> {
    token: Token,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> CompletionToken<T, E> {
    pub(crate) fn of(token: Token) -> Self {
        Self { token, types: PhantomData }
    }

    /// What it names; for clients.
    #[must_use]
    pub fn parts(&self) -> &Token {
        &self.token
    }
}

impl<T, E> Clone for CompletionToken<T, E> {
    fn clone(&self) -> Self {
        Self::of(self.token.clone())
    }
}

impl<T, E> PartialEq for CompletionToken<T, E> {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl<T, E> Eq for CompletionToken<T, E> {}

impl<T, E> Hash for CompletionToken<T, E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.token.hash(state);
    }
}

impl<T, E> fmt::Display for CompletionToken<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.token, f)
    }
}

impl<T, E> fmt::Debug for CompletionToken<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompletionToken({})", self.token)
    }
}

impl<T, E> FromStr for CompletionToken<T, E> {
    type Err = InvalidToken;

    /// Reads a token; white space around it is passed over.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        text.parse().map(Self::of)
    }
}

impl<T, E> Serialize for CompletionToken<T, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.token.serialize(serializer)
    }
}

impl<'de, T, E> Deserialize<'de> for CompletionToken<T, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Token::deserialize(deserializer).map(Self::of)
    }
}
