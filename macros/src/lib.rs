//! The attribute macros of Everpulse: workflow, activity, activities, signal, query, update; and its joins and select.
//!
//! What they write names only `everpulse::__private`; what things mean is in `everpulse-sdk`. Bodies of
//! functions are never parsed: their tokens pass as they came, so that editors and debuggers see them
//! where the author wrote them. Those of workflows are looked through for what cannot be replayed.
//!
//! ```text
//!   attribute ─► options ─┐
//!   item ─► function ─────┴─► definition (one free function)   ─► call, braced type, impls
//!                         └─► group (all methods of an impl)   ─► the same for each, and a trait of bodies
//! ```

mod attribute;
mod function;

mod activities;
mod ask;
mod definition;
mod guard;
mod revision;
mod signal;

mod join;
mod select;

use proc_macro::TokenStream;

/// Makes an async function a workflow: durable, replayed after a crash, started by a client.
///
/// `#[workflow(version = 2, name = "checkout", crate = path)]`; the version is 1 and the name the
/// function's unless they are given. The function of this name returns a call for `client.start(..)`;
/// `NAME::body(..)` is the function itself.
///
/// # Determinism
/// A body that names something which differs between replays, or is lost by a restart, does not compile; the
/// error says what to use instead. The guards are `clock`, `random`, `thread` (threads, tasks, blocking), `io`
/// (files, sockets, processes, the environment), `order` (hash maps, a `select!` that goes by chance) and
/// `global`. The arguments of `step` but for its name, and functions defined in the body, may do anything. Where a
/// replay does the same all the same, a guard is taken off with a reason:
/// `#[workflow(allow(order, reason = "it is never iterated"))]`. Printing is not guarded: a replay prints
/// again, and events of `tracing` are silent then.
#[proc_macro_attribute]
pub fn workflow(attribute: TokenStream, item: TokenStream) -> TokenStream {
    definition::workflow(attribute.into(), item.into()).into()
}

/// Makes a function an activity: any I/O, run by a worker, retried until it succeeds.
///
/// ```text
/// #[activity(
///     name = "..", queue = "..", timeout = "30s", heartbeat = "10s", schedule_to_start = "1m",
///     schedule_to_close = "1h", exhausted = "park", crate = path,
///     retry(initial = "200ms", max = "1m", factor = 2.0, max_attempts = 5, never = PATTERN, after(PATTERN = "30s")),
/// )]
/// ```
/// What matches `never` is final. What matches a pattern of `after` is tried again after that time, whatever the policy
/// says; it may come from the error: `after(PaymentError::Busy { seconds } = Duration::from_secs(*seconds))`.
/// The function of this name returns a call, to be awaited in a workflow; `NAME::body(..)` is the function
/// itself. A function that is not async runs on a thread for blocking code.
#[proc_macro_attribute]
pub fn activity(attribute: TokenStream, item: TokenStream) -> TokenStream {
    definition::activity(attribute.into(), item.into()).into()
}

/// Makes the `#[activity]` methods of an `impl` activities of the type's values.
///
/// `Payments::refund(id)` is the call, `payments.refund(id)` the method itself; a worker registers all of
/// them with `.activities(payments)`. `#[activities(name = "..", crate = path)]`.
#[proc_macro_attribute]
pub fn activities(attribute: TokenStream, item: TokenStream) -> TokenStream {
    activities::expand(attribute.into(), item.into()).into()
}

/// Makes a struct or enum a signal, which can be sent to runs: `#[signal(name = "..", crate = path)]`.
#[proc_macro_attribute]
pub fn signal(attribute: TokenStream, item: TokenStream) -> TokenStream {
    signal::expand(attribute.into(), item.into()).into()
}

/// Makes a struct or enum a query, which runs answer: `#[query(reply = u32, name = "..", crate = path)]`.
#[proc_macro_attribute]
pub fn query(attribute: TokenStream, item: TokenStream) -> TokenStream {
    ask::query(attribute.into(), item.into()).into()
}

/// Makes a struct or enum an update, which runs take and answer:
/// `#[update(reply = u32, error = CartError, name = "..", crate = path)]`. Without `error` it cannot be refused.
#[proc_macro_attribute]
pub fn update(attribute: TokenStream, item: TokenStream) -> TokenStream {
    ask::update(attribute.into(), item.into()).into()
}

#[doc(hidden)]
#[proc_macro]
pub fn join(input: TokenStream) -> TokenStream {
    join::join(input.into()).into()
}

#[doc(hidden)]
#[proc_macro]
pub fn try_join(input: TokenStream) -> TokenStream {
    join::try_join(input.into()).into()
}

#[doc(hidden)]
#[proc_macro]
pub fn select(input: TokenStream) -> TokenStream {
    select::expand(input.into()).into()
}
