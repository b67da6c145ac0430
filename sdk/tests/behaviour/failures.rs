//! Typed failures, from the activity's error to the workflow's own and what is recorded of it.

use everpulse::replay::{Input, TurnState};
use everpulse::{Error, Failure, activity, workflow};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::Close;
use everpulse_protocol::{self as protocol, FailureKind, Payload};
use serde::{Deserialize, Serialize};

use crate::harness::{error, result, run, run_with};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum PaymentError {
    #[error("declined: {0}")]
    Declined(String),
    #[error("the bank is closed")]
    Closed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum CheckoutError {
    #[error("payment failed: {0}")]
    Payment(#[from] Failure<PaymentError>),
    #[error("expired")]
    Expired,
}

#[activity(retry(never = PaymentError::Declined(_)))]
async fn charge(card: String) -> Result<u32, PaymentError> {
    match card.as_str() {
        "closed" => Err(PaymentError::Closed),
        "broken" => panic!("a broken card"),
        other => Err(PaymentError::Declined(other.to_owned())),
    }
}

#[workflow]
async fn checkout(card: String) -> Result<u32, CheckoutError> {
    if card.is_empty() {
        return Err(CheckoutError::Expired);
    }
    Ok(charge(card).await?)
}

fn ends_with(failure: protocol::Failure) -> Result<u32, Failure<CheckoutError>> {
    let mut run = run(checkout("visa".into()));
    run.start();
    result::<checkout>(run.turn(Input::Settled { step: 0, outcome: Outcome::Failed(failure) }))
}

#[test]
fn a_failure_goes_through_the_authors_enums_with_its_type() {
    let declined = PaymentError::Declined("no funds".into());
    let failed = ends_with(error(&declined)).unwrap_err();
    assert_eq!(failed, Failure::Failed(CheckoutError::Payment(Failure::Failed(declined.clone()))));
    assert_eq!(failed.to_string(), "payment failed: declined: no funds");

    let exhausted = ends_with(error(&declined).exhausted(5)).unwrap_err();
    let last = Box::new(Failure::Failed(declined));
    assert_eq!(exhausted, Failure::Failed(CheckoutError::Payment(Failure::Exhausted { attempts: 5, last })));
}

#[test]
fn failures_without_a_value_keep_their_kind() {
    let kinds = [
        (FailureKind::TimedOut, Failure::TimedOut),
        (FailureKind::Cancelled, Failure::Cancelled),
        (FailureKind::Terminated, Failure::Terminated),
        (FailureKind::Panicked, Failure::Panicked { message: "why".into() }),
        (FailureKind::NotFound, Failure::NotFound { message: "why".into() }),
    ];
    for (kind, expected) in kinds {
        let failed = ends_with(protocol::Failure::new(kind, "why")).unwrap_err();
        assert_eq!(failed, Failure::Failed(CheckoutError::Payment(expected)));
    }
}

#[test]
fn what_is_recorded_can_be_shown_without_the_type() {
    let mut run = run(checkout(String::new()));
    let TurnState::Closed(Close { outcome: Outcome::Failed(failure), .. }) = run.turn(Input::Start).state else {
        panic!()
    };
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Failed, "expired"));
    assert_eq!(failure.type_name, std::any::type_name::<CheckoutError>());
    assert!(failure.value.is_some());
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("outer")]
struct Outer {
    #[source]
    inner: Inner,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("inner")]
struct Inner;

#[workflow]
async fn with_sources() -> Result<(), Outer> {
    Err(Outer { inner: Inner })
}

#[workflow]
async fn with_any_error() -> Result<(), Error> {
    Err(Outer { inner: Inner })?
}

#[workflow]
async fn with_a_string() -> Result<(), String> {
    Err("just text".to_owned())
}

#[test]
fn sources_are_recorded_where_the_type_has_them() {
    let recorded = |turn: everpulse::replay::Turn| match turn.state {
        TurnState::Closed(Close { outcome: Outcome::Failed(failure), .. }) => failure,
        other => panic!("{other:?}"),
    };
    for turn in [run(with_sources()).turn(Input::Start), run(with_any_error()).turn(Input::Start)] {
        let failure = recorded(turn);
        assert_eq!(failure.to_string(), "outer: inner");
        assert_eq!(failure.type_name, std::any::type_name::<Outer>());
    }
    let text = recorded(run(with_a_string()).turn(Input::Start));
    assert_eq!((text.message.as_str(), text.chain.len()), ("just text", 0));
}

#[test]
fn arguments_that_cannot_be_decoded_fail_the_run_with_the_parameters_name() {
    let mut encoder = std::collections::BTreeMap::new();
    encoder.insert("card", 7);
    let turn = run_with::<checkout>(Payload::encode(&encoder).unwrap()).turn(Input::Start);
    let TurnState::Closed(Close { outcome: Outcome::Failed(failure), .. }) = turn.state else { panic!("{turn:?}") };
    assert_eq!(failure.kind, FailureKind::Undecodable);
    assert!(failure.message.starts_with("argument `card` of `checkout` cannot be read as "), "{failure}");

    let missing = run_with::<checkout>(Payload::encode(&std::collections::BTreeMap::<String, u8>::new()).unwrap());
    let mut missing = missing;
    assert!(missing.start()[0].ends_with(": it is missing"));
}

struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it cannot be written"))
    }
}

impl<'de> Deserialize<'de> for Unserializable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[activity]
async fn takes_it(_it: Unserializable) -> Unserializable {
    Unserializable
}

#[workflow]
async fn sends_it() -> Result<(), Error> {
    takes_it(Unserializable).await?;
    Ok(())
}

#[test]
fn a_value_that_cannot_be_encoded_is_a_failure_and_no_command() {
    let shown = run(sends_it()).start();
    assert!(shown[0].starts_with("failed: activity `takes_it`: cannot encode a value of type "), "{shown:?}");
    assert!(shown[0].ends_with("`_it`: it cannot be written"), "{shown:?}");
}
