//! Interceptors, headers and batches in an author's test.

use std::sync::{Arc, Mutex};

use everpulse::activity::ActivityContext;
use everpulse::intercept::{AttemptError, Attempted, Happened, Interceptor, Next, RunEvent};
use everpulse::{Failure, Never, activity, workflow};
use everpulse_sdk as everpulse;
use everpulse_testing::Environment;

#[activity(crate = everpulse_sdk)]
async fn whose() -> String {
    activity::context().header("tenant").unwrap_or("nobody").to_owned()
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn asks() -> Result<String, Failure<Never>> {
    whose().await
}

/// Does what it is given at once; in a test that is one item.
#[activity(batch(max = 10), crate = everpulse_sdk)]
async fn double(ns: Vec<u64>) -> Vec<u64> {
    assert_eq!(activity::contexts().len(), ns.len());
    ns.into_iter().map(|n| n * 2).collect()
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn doubles(n: u64) -> Result<u64, Failure<Never>> {
    double(n).await
}

#[test]
fn a_batch_activity_does_one_item_at_a_time_and_is_mocked_as_its_calls_are() {
    let env = Environment::new().workflow(doubles).activity(double);
    assert_eq!(env.start(doubles(21)).result(), Ok(42));
    let env = Environment::new().workflow(doubles).mock(double, |n: u64| Ok(n + 1));
    assert_eq!(env.start(doubles(21)).result(), Ok(22));
}

/// Lets tenants in, and no strangers.
struct Door(Arc<Mutex<Vec<String>>>);

impl Interceptor for Door {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        match context.header("tenant") {
            Some(_) => next.run().await,
            None => Err(AttemptError::refused("who are you?").not_retryable()),
        }
    }

    fn observe(&self, event: &RunEvent) {
        if let Happened::Ended { status } = &event.what {
            self.0.lock().expect("nobody panics").push(format!("{} {status:?}", event.workflow_id));
        }
    }
}

#[test]
fn an_interceptor_lets_in_whose_run_has_the_header_and_sees_how_runs_end() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let env = Environment::new().workflow(asks).activity(whose).intercept(Door(Arc::clone(&seen)));
    let known = env.start(asks()).id("known").header("tenant", "acme");
    assert_eq!(known.result(), Ok("acme".to_owned()));
    let stranger = env.start(asks()).id("stranger");
    let refused = Failure::Refused { message: "who are you?".to_owned() };
    assert_eq!(stranger.result(), Err(Failure::Failed(refused)));
    // Their ends stand; whoever looks on is told next.
    env.settle();
    assert_eq!(*seen.lock().expect("nobody panics"), ["known Completed", "stranger Failed"]);
}
