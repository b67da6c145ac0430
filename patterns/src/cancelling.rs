//! What is wanted no more.

use everpulse::Never;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{perform, perform_for_ever};

/// Somebody thinks otherwise.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Stop {}

/// 19, Cancel Task: one task is withdrawn, and the case goes on.
#[workflow(version = 1)]
pub async fn cancel_task() -> Result<String, Failure<Never>> {
    select! {
        done = perform_for_ever("inspect".to_owned()) => done,
        _ = signal::<Stop>().recv() => perform("go on without an inspection".to_owned()).await,
    }
}

/// 20, Cancel Case: all of it ends when the run is asked to cancel, after what still has to be done.
#[workflow(version = 1)]
pub async fn cancel_case() -> Result<String, Failure<Never>> {
    let application = perform_for_ever("examine the application".to_owned()).await;
    if application.is_err() {
        shielded(perform("tell the applicant".to_owned())).await?;
    }
    application
}

/// 25, Cancel Region: some tasks are withdrawn together, and others are not.
#[workflow(version = 1)]
pub async fn cancel_region() -> Result<Vec<String>, Failure<Never>> {
    let evidence = async {
        try_join!(perform_for_ever("statements".to_owned()), perform_for_ever("photographs".to_owned()))?;
        Ok("the evidence".to_owned())
    };
    let region = async {
        select! {
            gathered = evidence => gathered,
            _ = signal::<Stop>().recv() => Ok("no evidence".to_owned()),
        }
    };
    let (gathered, indexed) = try_join!(region, perform("index the case".to_owned()))?;
    Ok(vec![gathered, indexed])
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker.workflow(cancel_task).workflow(cancel_case).workflow(cancel_region)
}
