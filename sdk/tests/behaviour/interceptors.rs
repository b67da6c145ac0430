//! What stands around attempts, and what travels with a run beside its arguments.

use std::sync::{Arc, Mutex};

use everpulse::activity::{self, ActivityContext};
use everpulse::definition::{FunctionActivity, WorkflowDefinition};
use everpulse::intercept::{AttemptError, Attempted, Happened, Headers, Interceptor, Interceptors, Next, RunEvent};
use everpulse::replay::{Command, Input};
use everpulse::{Failure, Never, info, workflow};
use everpulse_protocol::payload::Format;
use everpulse_protocol::{FailureKind, Payload, RunId, WorkflowId};
use futures::executor::block_on;

use crate::harness::{result, run_with_headers};

#[everpulse::activity]
async fn greets(name: String) -> String {
    format!("{name} for {}", activity::context().header("tenant").unwrap_or("nobody"))
}

/// Writes down what passes it.
struct Scribe(&'static str, Arc<Mutex<Vec<String>>>);

impl Interceptor for Scribe {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        self.1.lock().unwrap().push(format!("{} before {}", self.0, context.activity()));
        // It is the attempt's own task.
        assert_eq!(activity::context().idempotency_key(), context.idempotency_key());
        let end = next.run().await;
        let word = end.as_ref().map(|value| value.decode::<String>().unwrap());
        self.1.lock().unwrap().push(format!("{} after {word:?}", self.0));
        end
    }

    fn observe(&self, event: &RunEvent) {
        self.1.lock().unwrap().push(format!("{} sees {}", self.0, event.workflow));
        assert_ne!(self.0, "clumsy", "an interceptor that panics");
    }
}

struct Door;

impl Interceptor for Door {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        match context.header("token") {
            Some("good") => next.run().await,
            Some(_) => Err(AttemptError::refused("the token is not valid yet")),
            None => Err(AttemptError::refused("no token").not_retryable()),
        }
    }
}

#[expect(clippy::result_large_err, reason = "it is the type of attempts")]
fn attempt(interceptors: &Interceptors, context: &ActivityContext) -> Attempted {
    let args = Payload::encode(&std::collections::BTreeMap::from([("name", "tea")])).unwrap();
    let attempt = interceptors.attempt(&greets::entry(), context, args);
    block_on(activity::with(context.clone(), attempt))
}

#[test]
fn the_first_interceptor_is_the_outermost() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut interceptors = Interceptors::default();
    interceptors.push(Scribe("outer", Arc::clone(&seen)));
    interceptors.push(Scribe("inner", Arc::clone(&seen)));
    let context = ActivityContext::for_test().with_header("tenant", "acme");
    assert_eq!(attempt(&interceptors, &context).unwrap().decode(), Ok("tea for acme".to_owned()));
    let after = r#"after Ok("tea for acme")"#;
    let told = ["outer before test", "inner before test", &format!("inner {after}"), &format!("outer {after}")];
    assert_eq!(*seen.lock().unwrap(), told);
}

#[test]
fn who_is_refused_does_not_get_in_and_the_failure_says_so() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut interceptors = Interceptors::default();
    interceptors.push(Door);
    interceptors.push(Scribe("inner", Arc::clone(&seen)));
    let refused = attempt(&interceptors, &ActivityContext::for_test()).unwrap_err();
    assert_eq!((refused.failure.kind.clone(), refused.retryable), (FailureKind::Refused, false));
    let failure = Failure::<Never>::from_recorded(refused.failure);
    assert_eq!(failure, Failure::Refused { message: "no token".to_owned() });
    let later = attempt(&interceptors, &ActivityContext::for_test().with_header("token", "new")).unwrap_err();
    assert!(later.retryable, "{later}");
    assert!(seen.lock().unwrap().is_empty(), "nothing further inside was asked");
    assert!(attempt(&interceptors, &ActivityContext::for_test().with_header("token", "good")).is_ok());
}

#[test]
fn an_interceptor_that_panics_at_what_it_is_told_keeps_it_from_nobody() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut interceptors = Interceptors::default();
    interceptors.push(Scribe("clumsy", Arc::clone(&seen)));
    interceptors.push(Scribe("other", Arc::clone(&seen)));
    let happened = Happened::Started { version: 1, parent: None };
    let run = RunId(uuid::Uuid::from_u128(7));
    interceptors.observe(&RunEvent::new(WorkflowId::new("order-42").unwrap(), run, "checkout", happened));
    assert_eq!(*seen.lock().unwrap(), ["clumsy sees checkout", "other sees checkout"]);
}

#[workflow]
async fn inherits() -> String {
    info().headers.get("tenant").unwrap_or("nobody").to_owned()
}

#[workflow]
async fn hands_on() -> Result<String, Failure<Never>> {
    greets("tea".to_owned()).detach();
    inherits().detach();
    Ok(info().headers.get("tenant").unwrap_or("nobody").to_owned())
}

#[test]
fn what_came_with_the_start_travels_with_tasks_and_children() {
    let headers: Headers = [("tenant", "acme")].into_iter().collect();
    let stored = headers.to_payload(Format::MessagePack).unwrap();
    let mut run = run_with_headers(hands_on(), stored.clone());
    let turn = run.turn(Input::Start);
    let [Command::Activity { headers: task, .. }, Command::Child { spawn, .. }, ..] = &turn.commands[..] else {
        panic!("{turn:?}")
    };
    assert_eq!((task, &spawn.headers), (&stored, &stored));
    assert_eq!(result::<hands_on>(turn), Ok("acme".to_owned()));
    assert_eq!(<hands_on as WorkflowDefinition>::VERSION, 1);
}

#[test]
fn without_headers_nothing_travels() {
    let mut run = run_with_headers(hands_on(), None);
    let turn = run.turn(Input::Start);
    let [Command::Activity { headers: None, .. }, Command::Child { spawn, .. }, ..] = &turn.commands[..] else {
        panic!("{turn:?}")
    };
    assert_eq!(spawn.headers, None);
    assert_eq!(result::<hands_on>(turn), Ok("nobody".to_owned()));
}
