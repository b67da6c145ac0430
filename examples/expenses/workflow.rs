//! An expense that somebody has to approve: reminders while nobody does, and payment when somebody did. This is all that a
//! user of Everpulse writes; its tests are in `tests.rs`.

use std::time::Duration;

use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

pub const DAY: Duration = Duration::from_secs(86_400);
/// After so many reminders it is given up.
pub const REMINDERS: u32 = 3;

/// Asks for approval, reminds each day, and pays.
#[workflow(version = 1)]
pub async fn expense(claim: Claim) -> Result<Paid, ExpenseError> {
    for reminders in 0..=REMINDERS {
        publish(&Progress { reminders });
        let decision = select! {
            decision = signal::<Decision>().recv() => Some(decision),
            () = sleep(DAY) => None,
        };
        match decision {
            Some(Decision { by, approved: true }) => {
                let reference = pay(claim.employee, claim.cents).await?;
                return Ok(Paid { reference, approved_by: by });
            }
            Some(Decision { by, approved: false }) => return Err(ExpenseError::Refused { by }),
            None if reminders < REMINDERS => remind(claim.approver.clone(), reminders + 1).await?,
            None => {}
        }
    }
    Err(ExpenseError::Forgotten)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub employee: String,
    pub approver: String,
    pub cents: u64,
}

/// What the approver says.
#[signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Decision {
    pub by: String,
    pub approved: bool,
}

/// What anybody can look at meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub reminders: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    pub reference: String,
    pub approved_by: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum ExpenseError {
    #[error("{by} refused it")]
    Refused { by: String },
    #[error("nobody decided, in spite of {REMINDERS} reminders")]
    Forgotten,
    #[error("the payment failed: {0}")]
    Payment(#[from] Failure<BankError>),
    #[error("the reminder failed: {0}")]
    Reminder(#[from] Failure<everpulse::Error>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum BankError {
    #[error("the bank does not answer")]
    Unreachable,
    #[error("there is no account of {0}")]
    NoAccount(String),
}

/// Tells the bank, which remembers the key: told twice, it pays once.
#[activity(timeout = "10s", retry(initial = "1s", max = "1m", never = BankError::NoAccount(_)))]
pub async fn pay(employee: String, cents: u64) -> Result<String, BankError> {
    let key = activity::context().idempotency_key().to_owned();
    println!("the bank pays {employee} {cents} cents, under the key {key}");
    Ok(format!("payment of {cents} to {employee}"))
}

#[activity]
pub async fn remind(approver: String, number: u32) -> Result<(), everpulse::Error> {
    println!("reminder {number} to {approver}");
    Ok(())
}
