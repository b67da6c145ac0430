//! The workflow of an order, and the two services it calls. This is all that a user of Everpulse writes.

use std::sync::Arc;
use std::time::Duration;

use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::Order;
use crate::store::{self, Answer, Request, Store};

/// Reserves the goods, takes the money; if there is none, puts the goods back.
#[workflow(version = 1)]
pub async fn checkout(order: Order) -> Result<Receipt, CheckoutError> {
    let Order { id, sku, quantity, cents, .. } = order;
    Warehouse::reserve(id.clone(), sku, quantity).await?;
    let Err(failure) = Payments::charge(id.clone(), cents).await else {
        return Ok(Receipt { cents, took: took() });
    };
    // Compensation is done even if somebody cancels the run meanwhile.
    shielded(Warehouse::release(id)).await?;
    Err(match failure {
        Failure::Failed(PaymentError::Declined) => CheckoutError::Declined { took: took() },
        failure => failure.into(),
    })
}

/// The time from the run's start to now, both as history recorded them: a restart in between counts in full.
fn took() -> Duration {
    workflow::now().duration_since(workflow::info().started_at).unwrap_or_default()
}

/// What a customer gets who has paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub cents: u64,
    pub took: Duration,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum CheckoutError {
    #[error("the card was declined; the goods are back in the warehouse")]
    Declined { took: Duration },
    #[error("the payment failed: {0}")]
    Payment(#[from] Failure<PaymentError>),
    #[error("the warehouse failed: {0}")]
    Warehouse(#[from] Failure<WarehouseError>),
}

/// The payment provider.
#[derive(Debug)]
pub struct Payments {
    pub store: Arc<Store>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PaymentError {
    #[error("the card was declined")]
    Declined,
    #[error("{0}")]
    Unanswered(String),
}

#[activities]
impl Payments {
    /// Retried until the provider answers; a declined card is an answer.
    #[activity(timeout = "30s", retry(initial = "50ms", max = "2s", never = PaymentError::Declined))]
    fn charge(&self, order_id: String, cents: u64) -> Result<(), PaymentError> {
        match self.store.charge(&request(order_id), cents)? {
            Answer::Charged => Ok(()),
            Answer::Declined => Err(PaymentError::Declined),
        }
    }
}

impl From<store::Error> for PaymentError {
    fn from(error: store::Error) -> Self {
        Self::Unanswered(error.to_string())
    }
}

/// Where the goods are.
#[derive(Debug)]
pub struct Warehouse {
    pub store: Arc<Store>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct WarehouseError(String);

#[activities]
impl Warehouse {
    #[activity(timeout = "30s", retry(initial = "50ms", max = "2s"))]
    fn reserve(&self, order_id: String, sku: String, quantity: u32) -> Result<(), WarehouseError> {
        Ok(self.store.reserve(&request(order_id), &sku, quantity)?)
    }

    #[activity(timeout = "30s", retry(initial = "50ms", max = "2s"))]
    fn release(&self, order_id: String) -> Result<(), WarehouseError> {
        Ok(self.store.release(&request(order_id))?)
    }
}

impl From<store::Error> for WarehouseError {
    fn from(error: store::Error) -> Self {
        Self(error.to_string())
    }
}

/// The request that a service hears: with the same key for every attempt.
fn request(order_id: String) -> Request {
    let context = activity::context();
    Request { key: context.idempotency_key().to_owned(), attempt: context.attempt(), order_id }
}
