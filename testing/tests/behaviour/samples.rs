//! The workflows of these tests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use everpulse::{
    Error, Failure, activities, activity, join_all, publish, select, signal, sleep, step, update, workflow,
};
use everpulse_sdk as everpulse;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PaymentError {
    #[error("the card was declined")]
    Declined,
    #[error("the bank is closed")]
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub cents: u64,
}

#[activity(timeout = "30s", retry(initial = "1s", max_attempts = 3, never = PaymentError::Declined), crate = everpulse_sdk)]
pub async fn charge(card: String, cents: u64) -> Result<Receipt, PaymentError> {
    if card.is_empty() { Err(PaymentError::Declined) } else { Ok(Receipt { cents }) }
}

#[activity(crate = everpulse_sdk)]
pub async fn refund(cents: u64) -> Result<(), Error> {
    let _ = cents;
    Ok(())
}

#[signal(crate = everpulse_sdk)]
#[derive(Debug, Serialize, Deserialize)]
pub struct Approved {
    pub ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub stage: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum CheckoutError {
    #[error("the payment failed: {0}")]
    Payment(#[from] Failure<PaymentError>),
    #[error("the refund failed: {0}")]
    Refund(#[from] Failure<Error>),
    #[error("nobody approved it")]
    Expired,
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn checkout(card: String, cents: u64) -> Result<Receipt, CheckoutError> {
    let receipt = charge(card, cents).await?;
    publish(&Progress { stage: "charged".to_owned() });
    let approved = select! {
        approved = signal::<Approved>().recv() => approved.ok,
        () = sleep(Duration::from_secs(86_400)) => false,
    };
    if !approved {
        refund(receipt.cents).await?;
        return Err(CheckoutError::Expired);
    }
    Ok(receipt)
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn reads_a_rate() -> Result<f64, Error> {
    Ok(step("rate", || async { Ok::<f64, Error>(1.5) }).await?)
}

#[activity(crate = everpulse_sdk)]
pub fn double(n: u64) -> u64 {
    n * 2
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn fans_out(n: u64) -> u64 {
    join_all((0..n).map(double)).await.into_iter().map(|each| each.unwrap_or_default()).sum()
}

pub struct Ledger {
    pub offset: u64,
}

#[activities(crate = everpulse_sdk)]
impl Ledger {
    #[activity]
    pub async fn book(&self, cents: u64) -> u64 {
        self.offset + cents
    }
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn books(cents: u64) -> Result<u64, Error> {
    Ok(Ledger::book(cents).await?)
}

/// In the order of a `HashMap`, which differs from map to map.
fn prices(n: u64) -> Vec<u64> {
    let prices: HashMap<u64, u64> = (0..n).map(|each| (each, each)).collect();
    prices.into_keys().collect()
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn walks_a_hash_map(n: u64) -> Result<u64, Error> {
    let mut sum = 0;
    for price in prices(n) {
        sum += double(price).await?;
    }
    Ok(sum)
}

fn nanos() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(1)
}

/// Passes the time of the computer on.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn reads_a_clock() -> Result<u64, Error> {
    Ok(double(nanos()).await?)
}

fn times() -> u32 {
    static TIMES: AtomicU32 = AtomicU32::new(0);
    TIMES.fetch_add(1, Ordering::Relaxed)
}

/// Does something else when it is run for the first time.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn has_hidden_state() -> u64 {
    if times() > 0 {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    7
}

#[update(reply = u64, error = String, crate = everpulse_sdk)]
#[derive(Debug, Serialize, Deserialize)]
pub struct Count {
    pub by: u64,
}

/// Counts up so often, never by more than it has steps.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn counter(n: u64) -> u64 {
    let counts = update::<Count>()
        .validate(move |count| if count.by > n { Err(format!("{} is too much", count.by)) } else { Ok(()) });
    let mut sum = 0;
    for _ in 0..n {
        let count = counts.recv().await;
        sleep(Duration::from_secs(1)).await;
        sum += count.by;
        count.reply(Ok(sum));
    }
    sum
}

/// Waits for something that no event brings.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn waits_astray() {
    std::future::pending::<()>().await;
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn panics() {
    panic!("no such order");
}

/// Counts words, as long as they come.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn counts_approvals(n: u64) -> u64 {
    let mut yes = 0;
    for _ in 0..n {
        yes += u64::from(signal::<Approved>().recv().await.ok);
        double(yes).await.ok();
    }
    yes
}
