//! The attribute macros of Everpulse: workflow, activity, activities, signal; and its joins and select.
//!
//! What they write names only `everpulse::__private`; what things mean is in `everpulse-sdk`. Bodies of
//! functions are never parsed: their tokens pass as they came, so that editors and debuggers see them
//! where the author wrote them.
//!
//! ```text
//!   attribute ─► options ─┐
//!   item ─► function ─────┴─► definition (one free function)   ─► call, braced type, impls
//!                         └─► group (all methods of an impl)   ─► the same for each, and a trait of bodies
//! ```

mod attribute;
mod function;

mod activities;
mod definition;
mod signal;

mod join;
mod select;

use proc_macro::TokenStream;

/// Makes an async function a workflow: durable, replayed after a crash, started by a client.
///
/// `#[workflow(version = 2, name = "checkout", crate = path)]`; the version is 1 and the name the
/// function's unless they are given. The function of this name returns a call for `client.start(..)`;
/// `NAME::body(..)` is the function itself.
#[proc_macro_attribute]
pub fn workflow(attribute: TokenStream, item: TokenStream) -> TokenStream {
    definition::workflow(attribute.into(), item.into()).into()
}

/// Makes a function an activity: any I/O, run by a worker, retried until it succeeds.
///
/// ```text
/// #[activity(
///     name = "..", queue = "..", timeout = "30s", heartbeat = "10s", exhausted = "park", crate = path,
///     retry(initial = "200ms", max = "1m", factor = 2.0, max_attempts = 5, never = PATTERN),
/// )]
/// ```
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
