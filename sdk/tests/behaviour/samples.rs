//! The samples of the design and of the crate's documentation, as an author would write them.

use std::time::Duration;

use everpulse::{Failure, activity, select, signal, sleep, workflow};
use serde::{Deserialize, Serialize};

use crate::harness::run;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    card: String,
    cents: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Receipt {
    id: u64,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum PaymentError {
    #[error("declined")]
    Declined,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum CheckoutError {
    #[error(transparent)]
    Payment(#[from] Failure<PaymentError>),
    #[error("expired")]
    Expired,
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Approved {
    ok: bool,
}

#[activity(timeout = "30s", retry(initial = "200ms", max_attempts = 5))]
async fn charge(card: String, cents: u64) -> Result<Receipt, PaymentError> {
    if card.is_empty() { Err(PaymentError::Declined) } else { Ok(Receipt { id: cents }) }
}

#[activity]
async fn refund(_id: u64) -> Result<(), PaymentError> {
    Ok(())
}

#[workflow(version = 1)]
async fn checkout(order: Order) -> Result<Receipt, CheckoutError> {
    let receipt = charge(order.card, order.cents).await?;
    let approved = select! {
        a = signal::<Approved>().recv() => a.ok,
        _ = sleep(Duration::from_secs(86_400)) => false,
    };
    if !approved {
        refund(receipt.id).await?;
        return Err(CheckoutError::Expired);
    }
    Ok(receipt)
}

fn order() -> Order {
    Order { card: "visa".into(), cents: 250 }
}

#[test]
fn an_approved_checkout() {
    let mut run = run(checkout(order()));
    assert_eq!(run.start(), ["0 activity charge", "waiting"]);
    assert_eq!(run.done(0, Receipt { id: 7 }), ["1 timer 86401000", "waiting"]);
    assert_eq!(run.signal(&Approved { ok: true }), ["cancel 1", "completed with 5 bytes"]);
}

#[test]
fn a_checkout_that_nobody_approves() {
    let mut run = run(checkout(order()));
    run.start();
    run.done(0, Receipt { id: 7 });
    run.now += 86_400_000;
    assert_eq!(run.fired(1), ["2 activity refund", "waiting"]);
    assert_eq!(run.done(2, ()), ["failed: expired"]);
}

mod imported {
    //! Calls through other names and modules, private types, definitions in functions.

    use super::charge as pay;
    use everpulse::workflow;

    use crate::harness::{done, run, value};

    #[workflow]
    async fn renamed() -> u64 {
        pay("visa".into(), 3).await.map_or(0, |receipt| receipt.id)
    }

    #[test]
    fn a_call_under_another_name_keeps_its_name_on_the_wire() {
        assert_eq!(run(renamed()).start(), ["0 activity charge", "waiting"]);
    }

    #[test]
    fn definitions_can_stand_in_functions() {
        #[everpulse::activity]
        async fn inner(r#type: String) -> String {
            r#type
        }
        #[workflow]
        async fn outer() -> String {
            inner("x".into()).await.unwrap()
        }
        let mut run = run(outer());
        run.start();
        assert_eq!(value::<String>(&run.turn(done(0, "y"))), "y");
    }
}
