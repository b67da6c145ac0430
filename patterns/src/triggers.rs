//! What comes from outside, in time or not.

use everpulse::Never;
use everpulse::prelude::*;
use futures::{FutureExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};

use crate::perform;

#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Alarm {
    pub room: u32,
}

/// From now on somebody listens.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Armed {}

/// What a run publishes when it listens.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {}

/// 23, Transient Trigger: one that comes when nobody waits for it is lost.
#[workflow(version = 1)]
pub async fn transient_trigger() -> Result<String, Failure<Never>> {
    let _ = signal::<Armed>().recv().await;
    // Nobody waited for those that came before.
    let mut alarms = signal::<Alarm>().stream();
    while alarms.next().now_or_never().is_some() {}
    publish(&Ready {});
    let alarm = signal::<Alarm>().recv().await;
    perform(format!("go to room {}", alarm.room)).await
}

/// 24, Persistent Trigger: one that comes early is kept until it is waited for.
#[workflow(version = 1)]
pub async fn persistent_trigger() -> Result<String, Failure<Never>> {
    let _ = signal::<Armed>().recv().await;
    let alarm = signal::<Alarm>().recv().await;
    perform(format!("go to room {}", alarm.room)).await
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker.workflow(transient_trigger).workflow(persistent_trigger)
}
