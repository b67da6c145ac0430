//! What the macros make of an author's functions, as traits; how workers come from a function to its code.
//!
//! A definition is a braced type of the function's name. Its constants name it; its code is reached
//! through an entry ([`WorkflowEntry`], [`ActivityEntry`]), which has no type of the author's in it.
//! Running the code is not done here: see [`crate::replay`] for workflows; workers run activities.

mod entry;
mod registry;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use entry::{ActivityEntry, AttemptError, Batch, SourceLocation, WorkflowEntry};
pub(crate) use entry::{RunFuture, Together};
pub use registry::{Duplicate, Registry};

use crate::call::{ActivityCall, Call, CallKind, ChildCall};
use crate::options::ActivityOptions;
use crate::schema::Schemas;

/// A workflow or an activity, as a type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no workflow or activity",
    note = "definitions are made by `#[workflow]`, `#[activity]` and `#[activities]`"
)]
pub trait Definition: 'static {
    /// The name on the wire.
    const NAME: &'static str;
    const LOCATION: SourceLocation;
    /// The names of its parameters, which are the keys of the arguments' map.
    const PARAMETERS: &'static [&'static str];
    type Output: Output;
    type Error: AuthorError;

    /// What its types say of themselves.
    #[must_use]
    fn schemas() -> Schemas {
        Schemas::default()
    }
}

/// A definition that a workflow can call.
pub trait Callable: Definition + Sized {
    /// How it is called: as an activity, or as a child.
    type Kind: CallKind<Self>;
}

/// The definition of a `#[workflow]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    label = "a workflow is needed here",
    note = "workflows are made by `#[workflow]`; activities are called by workflows, or plainly as `{Self}::body(..)`"
)]
pub trait WorkflowDefinition: Callable<Kind = ChildCall> {
    const VERSION: u32;
    /// Its code, without the author's types.
    fn entry() -> WorkflowEntry;
}

/// The definition of an `#[activity]`, which a workflow can await.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    label = "an activity is needed here",
    note = "activities are made by `#[activity]` and `#[activities]`"
)]
pub trait ActivityDefinition: Callable<Kind = ActivityCall> {
    const OPTIONS: ActivityOptions;
    /// An error of its code as it is recorded, and whether another attempt follows.
    fn attempt_error(error: &Self::Error) -> AttemptError;
}

/// An activity that needs no instance: a function, not a method of an `#[activities] impl`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a method, so it needs the value that it is called on",
    label = "a method of an `#[activities] impl`",
    note = "register all methods of a value with `.activities(value)`"
)]
pub trait FunctionActivity: ActivityDefinition {
    /// Its code, without the author's types.
    fn entry() -> ActivityEntry;
}

/// A type with an `#[activities] impl`: every `#[activity]` method is registered with the value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no activities",
    note = "write `#[activities]` on its `impl`, and `#[activity]` on the methods"
)]
pub trait Activities: Send + Sync + 'static {
    /// The code of all methods, bound to the value.
    fn entries(self: Arc<Self>) -> Vec<ActivityEntry>
    where
        Self: Sized;
}

impl<T: Activities> Activities for Arc<T> {
    fn entries(self: Arc<Self>) -> Vec<ActivityEntry> {
        T::entries(Arc::clone(&self))
    }
}

/// A function that `#[workflow]` made: `.workflow(checkout)` finds the definition by its return type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow's function",
    note = "give the name of a function with `#[workflow]`, without parentheses"
)]
pub trait WorkflowFn<Arguments> {
    type Definition: WorkflowDefinition;
}

/// A function that `#[activity]` made: `.activity(charge)` finds the definition by its return type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity's function",
    note = "give the name of a function with `#[activity]`, without parentheses"
)]
pub trait ActivityFn<Arguments> {
    type Definition: ActivityDefinition;
}

macro_rules! functions {
    ($($argument:ident)*) => {
        impl<F, D: WorkflowDefinition, $($argument),*> WorkflowFn<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Call<D>,
        {
            type Definition = D;
        }

        impl<F, D: ActivityDefinition, $($argument),*> ActivityFn<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Call<D>,
        {
            type Definition = D;
        }
    };
}

functions!();
functions!(A1);
functions!(A1 A2);
functions!(A1 A2 A3);
functions!(A1 A2 A3 A4);
functions!(A1 A2 A3 A4 A5);
functions!(A1 A2 A3 A4 A5 A6);
functions!(A1 A2 A3 A4 A5 A6 A7);
functions!(A1 A2 A3 A4 A5 A6 A7 A8);
functions!(A1 A2 A3 A4 A5 A6 A7 A8 A9);
functions!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10);
functions!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11);
functions!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12);

/// A type that can be an argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a workflow or activity, or a signal",
    label = "not serializable, or borrowed",
    note = "arguments travel: derive `serde::Serialize` and `serde::Deserialize` for `{Self}`"
)]
pub trait Argument: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Argument for T {}

/// A type that can be a result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a workflow, activity or step",
    label = "not serializable, or borrowed",
    note = "results are recorded: derive `serde::Serialize` and `serde::Deserialize` for `{Self}`"
)]
pub trait Output: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Output for T {}

/// A type that can be the error of a workflow, activity or step.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a workflow, activity or step",
    label = "not serializable, or without `Display`",
    note = "errors are recorded and shown: derive `serde::Serialize`, `serde::Deserialize` and `thiserror::Error` for it, \
            or use `everpulse::Error`, which `?` makes from any error"
)]
pub trait AuthorError: Serialize + DeserializeOwned + fmt::Display + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + fmt::Display + Send + 'static> AuthorError for T {}

/// The error of what returns a plain value: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a failure of something that cannot fail"))
    }
}

/// Which definition an entry came from: the same one may be registered twice, two of one name may not.
pub(crate) fn identity<D: Definition>() -> TypeId {
    TypeId::of::<D>()
}
