//! What only the chaos runs, beside the workflows of the suites.

use std::path::PathBuf;
use std::sync::OnceLock;

use everpulse::prelude::*;
use everpulse::{Never, activity as activity_context, info};

use crate::ledger;
use crate::workflows::{Trouble, serve_all};

static SWITCHES: OnceLock<PathBuf> = OnceLock::new();

/// Names the folder in which an operator allows what waits for one: a file by workflow id.
pub fn allowed_in(folder: PathBuf) {
    // A process serves one application.
    let _ = SWITCHES.set(folder);
}

fn note(step: &str) {
    let context = activity_context::context();
    let workflow_id = context.workflow_id().to_string();
    ledger::note(context.idempotency_key(), &workflow_id, step, context.attempt()).expect("the ledger can be written");
}

/// Work that takes its time, so that a fault comes upon it half done.
#[activity(timeout = "30s", retry(initial = "50ms", max = "500ms"))]
pub async fn work(n: u64, ms: u64) -> u64 {
    note(&format!("work {n}"));
    tokio::time::sleep(Duration::from_millis(ms)).await;
    n
}

/// Some pieces of work, one after another.
#[workflow(version = 1)]
pub async fn toils(pieces: u64, ms: u64) -> Result<u64, Failure<Never>> {
    let mut sum = 0;
    for n in 0..pieces {
        sum += work(n, ms).await?;
    }
    Ok(sum)
}

/// Local steps, one after another. Each is noted under the key that an activity in its place would have.
#[workflow(version = 1)]
pub async fn paces(steps: u64) -> Result<Vec<u64>, Failure<Never>> {
    let me = info();
    let (id, run) = (me.workflow_id.to_string(), me.run_id.to_string());
    let mut all = Vec::new();
    for n in 0..steps {
        let (id, run) = (id.clone(), run.clone());
        let pace = move || {
            let (key, id) = (format!("{id}/{run}/{n}"), id.clone());
            async move {
                ledger::note(&key, &id, "pace", 1).expect("the ledger can be written");
                Ok::<u64, Never>(n)
            }
        };
        all.push(step("pace", pace).await?);
    }
    Ok(all)
}

/// Fails until an operator has allowed it, and waits for one.
#[activity(retry(initial = "10ms", max_attempts = 2), exhausted = "park")]
pub async fn permitted() -> Result<String, Trouble> {
    note("permitted");
    let context = activity_context::context();
    let id = context.workflow_id().to_string();
    if SWITCHES.get().is_some_and(|folder| folder.join(&id).exists()) {
        return Ok(id);
    }
    Err(Trouble::Flaky { attempt: context.attempt() })
}

#[workflow(version = 1)]
pub async fn asks_permission() -> Result<String, Failure<Trouble>> {
    permitted().await
}

/// Serves all that the chaos starts.
#[must_use]
pub fn serve(worker: Worker) -> Worker {
    serve_all(worker).workflow(toils).workflow(paces).workflow(asks_permission).activity(work).activity(permitted)
}
