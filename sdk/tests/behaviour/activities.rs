//! Activities as a worker runs them: functions, blocking functions, methods.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use everpulse::activity::{ActivityContext, context, with};
use everpulse::definition::{Activities, AttemptError, FunctionActivity};
use everpulse::{Error, activities, activity, workflow};
use everpulse_protocol::{FailureKind, Payload};
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::harness::{attempt, run};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum PaymentError {
    #[error("declined: {0}")]
    Declined(String),
    #[error("lost")]
    Lost,
    #[error("the bank is closed")]
    Closed,
}

#[activity(queue = "pay", retry(never = PaymentError::Declined(_) | PaymentError::Lost))]
async fn charge(card: String, cents: u64) -> Result<u64, PaymentError> {
    match card.as_str() {
        "good" => Ok(cents),
        "closed" => Err(PaymentError::Closed),
        "lost" => Err(PaymentError::Lost),
        _ => Err(PaymentError::Declined(card)),
    }
}

/// Old.
#[activity]
#[deprecated = "use charge"]
async fn old_charge() {}

#[activity]
#[cfg(any())]
async fn not_there(_never: Missing) {}

#[activity]
fn hash(mut text: String) -> usize {
    text.push('!');
    text.len() + context().attempt() as usize
}

fn args<K: Serialize + Ord>(entries: impl IntoIterator<Item = (&'static str, K)>) -> Payload {
    Payload::encode(&entries.into_iter().collect::<BTreeMap<_, _>>()).unwrap()
}

fn card(card: &str) -> Payload {
    #[derive(Serialize)]
    struct Args<'a> {
        card: &'a str,
        cents: u64,
    }
    Payload::encode(&Args { card, cents: 250 }).unwrap()
}

#[test]
fn an_attempt_takes_arguments_and_gives_a_result() {
    assert_eq!(attempt::<charge>(card("good")), Ok(Payload::encode(&250).unwrap()));
    let entry = charge::entry();
    assert_eq!((entry.name.as_str(), entry.queue, entry.blocking), ("charge", "pay", false));
    assert!(entry.location.file.ends_with("activities.rs") && entry.location.line > 0);
}

#[test]
fn errors_are_retried_unless_the_author_says_never() {
    let failed = |name| attempt::<charge>(card(name)).unwrap_err();
    assert!(failed("closed").retryable);
    let AttemptError { failure, retryable } = failed("expired");
    assert!(!retryable && !failed("lost").retryable);
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Failed, "declined: expired"));
    assert_eq!(failure.value.unwrap().decode(), Ok(PaymentError::Declined("expired".into())));
}

#[test]
fn arguments_that_cannot_be_decoded_are_final() {
    let AttemptError { failure, retryable } = attempt::<charge>(args([("card", 1)])).unwrap_err();
    assert!(!retryable);
    assert_eq!(failure.kind, FailureKind::Undecodable);
}

#[test]
fn a_plain_function_is_marked_as_blocking() {
    let entry = hash::entry();
    assert!(entry.blocking);
    let attempt = with(ActivityContext::for_test().with_attempt(3), entry.run(args([("text", "abc")])));
    assert_eq!(block_on(attempt), Ok(Payload::encode(&7).unwrap()));
}

/// Takes payments, and remembers them.
#[derive(Clone, Default)]
struct Payments {
    refunded: Arc<Mutex<Vec<String>>>,
}

#[activities]
impl Payments {
    const CURRENCY: &'static str = "EUR";

    /// Gives money back.
    #[activity(timeout = "5s", retry(max_attempts = 3))]
    async fn refund(&self, order: String, cents: u64) -> Result<String, PaymentError> {
        if cents == 0 {
            return Err(PaymentError::Lost);
        }
        self.note(&order);
        Ok(format!("{order} {cents} {}", Self::CURRENCY))
    }

    #[activity(name = "count-payments")]
    fn count(&self) -> usize {
        self.refunded.lock().unwrap().len()
    }

    /// Attributes of the author's go where they belong.
    #[activity]
    #[deprecated = "use refund"]
    async fn old_refund(&self) {}

    #[activity]
    #[cfg(any())]
    async fn not_there(&self, _never: Missing) {}

    #[activity]
    async fn refund_twice(&self, order: String) -> Result<(), Error> {
        self.refund(order.clone(), 1).await?;
        self.refund(order, 1).await?;
        Ok(())
    }

    fn note(&self, order: &str) {
        self.refunded.lock().unwrap().push(order.to_owned());
    }
}

#[workflow]
async fn gives_back(order: String) -> Result<String, Error> {
    let refunded = Payments::refund(order, 7).await?;
    Payments::count().await?;
    Ok(refunded)
}

#[test]
fn a_method_is_called_as_a_function_of_its_type() {
    let mut run = run(gives_back("o-1".into()));
    assert_eq!(run.start(), ["0 activity Payments.refund", "waiting"]);
    assert_eq!(run.done(0, "o-1 7 EUR"), ["1 activity count-payments", "waiting"]);
}

#[test]
fn a_deprecated_activity_still_runs() {
    assert_eq!(attempt::<old_charge>(args::<u8>([])), Ok(Payload::encode(&()).unwrap()));
}

#[test]
fn all_methods_of_a_value_are_registered_with_it() {
    let payments = Payments::default();
    let entries = Arc::new(payments.clone()).entries();
    let names: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.blocking)).collect();
    assert_eq!(
        names,
        [
            ("Payments.refund", false),
            ("count-payments", true),
            ("Payments.old_refund", false),
            ("Payments.refund_twice", false)
        ]
    );
    block_on(entries[3].run(args([("order", "o-1")]))).unwrap();
    assert_eq!(*payments.refunded.lock().unwrap(), ["o-1", "o-1"]);
    let count = block_on(entries[1].run(args::<u8>([]))).unwrap();
    assert_eq!(count.decode(), Ok(2_usize));
}

#[test]
fn the_body_of_a_method_is_called_on_a_value() {
    let payments = Payments::default();
    assert_eq!(block_on(payments.refund("o-2".into(), 5)), Ok("o-2 5 EUR".to_owned()));
    assert_eq!(payments.count(), 1);
}
