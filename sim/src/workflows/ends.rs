//! Runs that others end at once: two of them at the same time, neither of which began it.

use std::time::Duration;

use everpulse_sdk::{
    Error, Failure, Never, ParentClose, continue_as_new, external, join, shielded, signal, sleep, workflow,
};

use super::{Word, double, hears, relay};

/// An ending whose answer came too late to say whether it took effect.
const PERHAPS: u64 = 100;

/// Never ends by itself, nor when it is asked to cancel: with a child, with work under way, as a series.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn stays(n: u64) -> Result<u64, Failure<Never>> {
    match n % 3 {
        0 => {
            let child = hears(1).parent_close(ParentClose::Terminate).start().await;
            shielded(signal::<Word>().recv()).await;
            drop(child);
        }
        1 => {
            let under_way = double(n).start();
            shielded(sleep(Duration::from_secs(600))).await;
            drop(under_way);
            shielded(signal::<Word>().recv()).await;
        }
        _ => return continue_as_new(relay(2, 0)).await,
    }
    Ok(n)
}

/// Does not heed a request to cancel.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn deaf(n: u64) -> u64 {
    shielded(sleep(Duration::from_millis(n * 600))).await;
    n
}

/// Ends a run, once. Its result says whether it was this one that did so.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn ends(id: String) -> Result<u64, Error> {
    let mut perhaps = 0;
    loop {
        match external(id.as_str()).terminate("it stayed too long").await {
            Ok(()) => return Ok(perhaps + 1),
            Err(Failure::NotFound { .. }) => return Ok(perhaps),
            Err(Failure::TimedOut) => perhaps = PERHAPS,
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// Has runs that stay, each of which two others end at the same time. Exactly one of these has done so, and is told so.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn duels(n: u64) -> u64 {
    let mut wrong = 0;
    for each in 0..n {
        let stays = loop {
            match stays(each + n).parent_close(ParentClose::Terminate).start().await {
                Ok(begun) => break begun,
                Err(Failure::TimedOut) => {}
                Err(_) => return 0,
            }
        };
        let id = stays.workflow_id().to_string();
        let end = || async {
            loop {
                match ends(id.clone()).await {
                    // It was asked for too long ago.
                    Err(Failure::TimedOut) => {}
                    ended => break ended.unwrap_or(10),
                }
            }
        };
        let (one, other, ended) = join!(end(), end(), stays);
        let sum = one + other;
        wrong += u64::from(sum % PERHAPS > 1 || sum == 0 || ended != Err(Failure::Terminated));
    }
    n + wrong * 1_000
}
