//! Queries: questions with arguments that a run's own code answers, from the state that it shares with its handlers.
//!
//! ```text
//!   client: run.query(CountOf { .. }) ──► owner ──► Instance::query ──► the handler of `on_query`
//!      ▲                                                                   │ looks, and no more
//!      └────────────────────────────── reply ◄─────────────────────────────┘
//! ```
//!
//! A handler is a plain function, so it cannot await. Nothing of a query is recorded.

use std::rc::Rc;

use everpulse_protocol::{Failure, FailureKind, Payload};

use crate::__private::encode;
use crate::definition::{Argument, Output};
use crate::replay::core::Core;
use crate::schema::Schemas;

/// A type that can be asked of a run, made by `#[query(reply = ..)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a query",
    note = "write `#[query(reply = ..)]` on the struct or enum, and derive `serde::Serialize` and `serde::Deserialize`"
)]
pub trait Query: Argument {
    /// The name on the wire, by which the handler is found.
    const NAME: &'static str;
    /// What the handler answers.
    type Reply: Output;

    /// What its types say of themselves.
    #[must_use]
    fn schemas() -> Schemas {
        Schemas::default()
    }
}

/// From now on the handler answers the queries of its type, for as long as the run is open; an earlier handler of the
/// same type is replaced.
///
/// Handlers that are registered before the first await answer from the beginning. The state is shared with the rest of
/// the workflow by an `Rc`:
///
/// ```
/// # use everpulse_sdk as everpulse;
/// use std::cell::RefCell;
/// use std::collections::BTreeMap;
/// use std::rc::Rc;
///
/// use everpulse::on_query;
/// use serde::{Deserialize, Serialize};
///
/// #[everpulse::query(reply = u32, crate = everpulse)]
/// #[derive(Serialize, Deserialize)]
/// struct CountOf { item: String }
///
/// # #[everpulse::signal(crate = everpulse)]
/// # #[derive(Serialize, Deserialize)]
/// # struct Added { item: String }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn basket() -> u32 {
///     let items = Rc::new(RefCell::new(BTreeMap::<String, u32>::new()));
///     let seen = items.clone();
///     on_query(move |query: CountOf| seen.borrow().get(&query.item).copied().unwrap_or(0));
///     for _ in 0..10 {
///         let added = everpulse::signal::<Added>().recv().await;
///         *items.borrow_mut().entry(added.item).or_default() += 1;
///     }
///     items.borrow().values().sum()
/// }
/// ```
///
/// # Determinism
/// A handler only looks: a replay does not call it. That it starts nothing, draws no random value and publishes nothing is
/// checked; whoever asks is told, and the run is left as it was. What it writes into the shared state cannot be seen from
/// outside: let it write nothing.
///
/// # Panics
/// Outside a workflow, and in a handler that only looks. A handler that panics does no harm but to whoever asked.
pub fn on_query<Q: Query>(handler: impl Fn(Q) -> Q::Reply + 'static) {
    let core = Core::current("`on_query` was called", "elsewhere ask a run with the client's `run.query(..)`");
    core.register_query(
        Q::NAME,
        Rc::new(move |args: &Payload| {
            let query = args.decode().map_err(|error| {
                let message = format!("query `{}` cannot be read: {error}; deploy both sides with one type", Q::NAME);
                Box::new(Failure::new(FailureKind::Undecodable, message))
            })?;
            encode(&handler(query)).map_err(Box::new)
        }),
    );
}
