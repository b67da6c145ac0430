//! What stands in for activities and steps, and what is said of how they go.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use everpulse_protocol::payload::Format;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::__private::{Decoder, encode_output, undecodable};
use everpulse_sdk::definition::{Argument, AttemptError};
use everpulse_sdk::{ActivityDefinition, Definition, failure};
use futures::future::BoxFuture;

pub(crate) type Attempted = Result<Payload, AttemptError>;
pub(crate) type MockedActivity = Rc<RefCell<dyn FnMut(&Payload) -> Attempted>>;
pub(crate) type MockedChild = Rc<RefCell<dyn FnMut(&Payload) -> Result<Payload, Failure>>>;
pub(crate) type MockedStep = Rc<RefCell<dyn FnMut(u32) -> Attempted>>;

/// What waits for the author's futures.
#[derive(Clone)]
pub(crate) struct BlockOn(pub Rc<dyn Fn(BoxFuture<'static, ()>)>);

impl Default for BlockOn {
    fn default() -> Self {
        Self(Rc::new(futures::executor::block_on))
    }
}

impl fmt::Debug for BlockOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockOn(..)")
    }
}

/// What is said of one activity.
#[derive(Default)]
pub(crate) struct Stub {
    pub mocked: Option<MockedActivity>,
    /// Up to which attempt it fails, and how.
    pub failures: Vec<(u32, AttemptError)>,
    /// How long an attempt takes, in virtual time.
    pub takes: Duration,
}

impl Stub {
    pub fn failure_of(&self, attempt: u32) -> Option<AttemptError> {
        self.failures.iter().find(|(upto, _)| attempt <= *upto).map(|(_, error)| error.clone())
    }

    /// Further attempts fail.
    pub fn fail(&mut self, attempts: u32, error: AttemptError) {
        let before = self.failures.last().map_or(0, |(upto, _)| *upto);
        self.failures.push((before.saturating_add(attempts), error));
    }
}

#[derive(Default)]
pub(crate) struct Stubs {
    pub activities: BTreeMap<String, Stub>,
    pub steps: BTreeMap<String, MockedStep>,
    pub children: BTreeMap<String, MockedChild>,
    pub block_on: BlockOn,
}

/// A closure that stands in for an activity or a child: it takes its arguments and gives `Result<Output, Error>`.
///
/// An activity or a workflow that returns a plain value has [`Never`](everpulse_sdk::Never) for its error: its mock gives `Ok(value)`.
#[diagnostic::on_unimplemented(
    message = "this closure cannot stand in for `{D}`",
    label = "takes other arguments, or gives something else",
    note = "a mock takes what the activity takes, each argument with its type, and gives a `Result` of the activity's value and \
            error: `.mock(charge, |card: String, cents: u64| Ok(Receipt {{ .. }}))`"
)]
pub trait Mock<D: Definition, Arguments>: 'static {
    /// One attempt.
    ///
    /// # Errors
    /// When the arguments are not those of the activity.
    #[doc(hidden)]
    fn attempt(&mut self, args: &Payload) -> Result<Result<D::Output, D::Error>, Box<Failure>>;
}

macro_rules! mocks {
    ($($argument:ident $at:literal)*) => {
        impl<M, D, $($argument: Argument),*> Mock<D, ($($argument,)*)> for M
        where
            D: Definition,
            M: FnMut($($argument),*) -> Result<D::Output, D::Error> + 'static,
        {
            #[allow(unused_mut, unused_variables, reason = "some activities take nothing")]
            fn attempt(&mut self, args: &Payload) -> Result<Result<D::Output, D::Error>, Box<Failure>> {
                let mut decoder = Decoder::new::<D>(args)?;
                Ok(self($(decoder.entry::<$argument>(D::PARAMETERS[$at])?),*))
            }
        }
    };
}

mocks!();
mocks!(A1 0);
mocks!(A1 0 A2 1);
mocks!(A1 0 A2 1 A3 2);
mocks!(A1 0 A2 1 A3 2 A4 3);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5 A7 6);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5 A7 6 A8 7);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5 A7 6 A8 7 A9 8);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5 A7 6 A8 7 A9 8 A10 9);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5 A7 6 A8 7 A9 8 A10 9 A11 10);
mocks!(A1 0 A2 1 A3 2 A4 3 A5 4 A6 5 A7 6 A8 7 A9 8 A10 9 A11 10 A12 11);

/// A mock without its types.
pub(crate) fn mocked<D: ActivityDefinition, Arguments, M: Mock<D, Arguments>>(mut mock: M) -> MockedActivity {
    Rc::new(RefCell::new(move |args: &Payload| match mock.attempt(args) {
        Ok(Ok(value)) => encode_output::<D>(&value),
        Ok(Err(error)) => Err(D::attempt_error(&error)),
        Err(failure) => Err(undecodable(*failure)),
    }))
}

/// The same of a child.
pub(crate) fn mocked_child<D: Definition, Arguments, M: Mock<D, Arguments>>(mut mock: M) -> MockedChild {
    Rc::new(RefCell::new(move |args: &Payload| match mock.attempt(args) {
        Ok(Ok(value)) => Payload::encode(&value)
            .map_err(|error| Failure::new(FailureKind::Undecodable, format!("the result cannot be recorded: {error}"))),
        Ok(Err(error)) => Err(failure::recorded_alone(&error, Format::MessagePack)),
        Err(failure) => Err(*failure),
    }))
}
