//! Workflows in unit tests: in memory, in virtual time, without broker, runtime or waiting; and under faults, by seed.
//!
//! ```
//! # use everpulse_sdk as everpulse;
//! use everpulse_testing::{Environment, Wait};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[everpulse::signal(crate = everpulse)]
//! #[derive(Serialize, Deserialize)]
//! struct Approved { ok: bool }
//!
//! #[everpulse::activity(crate = everpulse)]
//! async fn charge(card: String, cents: u64) -> Result<u64, everpulse::Error> { unreachable!("it is mocked") }
//!
//! #[everpulse::workflow(version = 1, crate = everpulse)]
//! async fn checkout(card: String, cents: u64) -> Result<Option<u64>, everpulse::Error> {
//!     let approved = everpulse::select! {
//!         approved = everpulse::signal::<Approved>().recv() => approved.ok,
//!         () = everpulse::sleep(Duration::from_secs(86_400)) => false,
//!     };
//!     if !approved {
//!         return Ok(None);
//!     }
//!     Ok(Some(charge(card, cents).await?))
//! }
//!
//! // Approved in time.
//! let env = Environment::new().workflow(checkout).mock(charge, |_: String, cents: u64| Ok(cents));
//! let run = env.start(checkout("4711".into(), 42)).id("order-42");
//! assert!(run.is_waiting_for(Wait::signal::<Approved>()));
//! run.at(Duration::from_secs(3_600)).signal(Approved { ok: true });
//! assert_eq!(run.result().unwrap(), Some(42));
//! assert_eq!(env.now(), Duration::from_secs(3_600), "it took an hour of virtual time");
//!
//! // Nobody approves: a day goes by in no time.
//! let env = Environment::new().workflow(checkout).mock(charge, |_: String, _: u64| panic!("nothing is charged"));
//! assert_eq!(env.start(checkout("4711".into(), 42)).result().unwrap(), None);
//! ```
//!
//! # What is real
//!
//! The engine: what runs on workers in production polls the workflow here, writes its history and decides what is retried
//! when. What is around it (the broker, workers, clocks, clients) is replaced by memory. So an
//! [`Environment`] tests the author's code with the rules that hold in production.
//!
//! After every event the run is replayed from scratch, with the same code and its own history. A workflow that looks at a clock,
//! at the order of a `HashMap` or at anything else that history does not have comes to something else then, and the test fails
//! and names the command.
//!
//! # Activities
//!
//! An activity is a function: its code is `charge::body(..)`, and for methods `payments.charge(..)`. In the context of an attempt
//! it is tested by itself with [`activity::with`]:
//!
//! ```
//! # use everpulse_sdk as everpulse;
//! use everpulse_testing::{ActivityContext, activity};
//!
//! #[everpulse::activity(crate = everpulse)]
//! async fn upload(file: String) -> String {
//!     format!("{file}, attempt {}", activity::context().attempt())
//! }
//!
//! let context = ActivityContext::for_test().with_attempt(2);
//! let uploaded = futures::executor::block_on(activity::with(context, upload::body("a.txt".to_owned())));
//! assert_eq!(uploaded, "a.txt, attempt 2");
//! ```
//! In an environment it is [registered](Environment::activity), [mocked](Environment::mock), said to
//! [fail](Environment::fail_first) or to [take time](Environment::takes).
//!
//! # Faults
//!
//! [`explore`] plays a scenario under crashes, duplicates, late and lost messages, a thousand times, each time otherwise.
//!
//! # Recorded runs
//!
//! Runs of production go on with tomorrow's code. [`replay_dir!`] replays recorded ones ("golden histories", see
//! [`Run::export`]) in `cargo test`, and fails with the step that differs.

#![expect(clippy::result_large_err, reason = "failures are values here: rare, and passed on by value")]

mod environment;
mod run;
mod update;
mod wait;

mod explore;
mod history;
mod kept;

mod drive;
mod storm;
mod stubs;
mod world;

pub use environment::{Environment, Execution};
pub use everpulse_protocol::event::IdPolicy;
pub use everpulse_protocol::history::CommandKind;
pub use everpulse_protocol::view::RunStatus;
pub use everpulse_sdk::activity::{self, ActivityContext};
pub use everpulse_sdk::definition::Registry;
pub use explore::explore;
pub use history::{Command, Entry, History};
#[doc(hidden)]
pub use kept::replay_or_panic;
pub use kept::{ReplayError, ReplayErrorKind, replay, replay_all};
pub use run::{At, Run};
pub use stubs::Mock;
pub use update::Requested;
pub use wait::{Unfinished, Wait};
