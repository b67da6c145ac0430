//! Workers that end themselves with SIGKILL at every point of the protocol, for each step of a ten-step run.
//!
//! The owner of the runs and the workers of their activities are processes of their own, so that it can be said
//! what a kill may repeat:
//!
//! | killed | at | what may run again |
//! |---|---|---|
//! | the owner | `inbox-received`, `append-before`, `append-sent`, `append-receipt`, `command-sent`, `ack-before`, `ack-sent` | no activity |
//! | the activity worker | `task-received` | nothing: it had not begun |
//! | the activity worker | `activity-done` | the activity of that task, once: its task was not acked (rule 4); and the one before, once: acks are sent without an answer, and no answer to a later frame had said that the broker read it |
//! | the activity worker | `settle-confirmed`, `task-acked` | the activity of that task, once: acks are sent without an answer; and the next one, once, if it had begun: the run goes on when the result is confirmed |
//! | the owner | `step-before` | nothing: it had not begun |
//! | the owner | `step-done`, `append-before`, `append-sent` | the step that was done and not in history, once (rule 6) |

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::ledger;
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{sequence, ten_steps, trip};

/// How often each key stands in the ledger, for one workflow id.
fn executions(ledger: &Path, id: &str) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for entry in ledger::read(ledger)?.into_iter().filter(|entry| entry.workflow_id == id) {
        *counts.entry(entry.step).or_default() += 1;
    }
    Ok(counts)
}

/// What is killed, where, and which steps may run once more for it, counted from the one that the hit belongs to.
struct Case {
    point: &'static str,
    victim: Role,
    again: &'static [i64],
}

async fn kill_at(case: &Case) -> Result<()> {
    let arm = Arm::new()?;
    // Holds the embedded broker, so that the victim is nothing but a worker.
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let other_role = if case.victim == Role::Workflows { Role::Activities } else { Role::Workflows };
    let _other = Party::start(arm.url(), other_role, &ledger, None)?;
    for hit in 1..=10 {
        let context = || format!("killed at {}, hit {hit}", case.point);
        let file = arm.dir().join(format!("{}-{hit}", case.point));
        let failpoint = Failpoint { name: case.point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), case.victim, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{}-{hit}", case.point);
        let run = client.start(sequence()).id(&id).enqueue().await?;
        victim.wait_killed().with_context(context)?;
        ensure!(failpoint.file.exists(), "{}: the point was not hit", context());
        let mut heir = Party::start(arm.url(), case.victim, &ledger, None)?;
        let result = run.result().await.with_context(context)?;
        ensure!(result == (0..10).collect::<Vec<u64>>(), "{}: {result:?}", context());
        let counts = executions(&ledger, &id)?;
        ensure!(counts.len() == 10, "{}: {counts:?}", context());
        let struck = i64::from(hit) - 1;
        let again: Vec<String> = case.again.iter().map(|offset| format!("count {}", struck + offset)).collect();
        let most = |step: &String| if again.contains(step) { 2 } else { 1 };
        ensure!(counts.iter().all(|(step, count)| *count <= most(step)), "{}: {counts:?}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&["sequence"], None)?).await?;
    ensure!(report.is_clean(), "{}: {report:#?}", case.point);
    ensure!(report.counts().completed == 10, "{:?}", report.counts());
    Ok(())
}

macro_rules! killed {
    ($($name:ident: $point:literal, $victim:ident, $again:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            kill_at(&Case { point: $point, victim: Role::$victim, again: &$again }).await
        }
    )*};
}

killed! {
    owner_killed_when_an_input_arrives: "inbox-received", Workflows, [];
    owner_killed_before_the_append: "append-before", Workflows, [];
    owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows, [];
    owner_killed_with_the_receipt: "append-receipt", Workflows, [];
    owner_killed_when_a_command_is_sent: "command-sent", Workflows, [];
    owner_killed_before_the_ack: "ack-before", Workflows, [];
    owner_killed_after_the_ack: "ack-sent", Workflows, [];
    activity_worker_killed_with_a_task: "task-received", Activities, [];
    activity_worker_killed_after_the_work: "activity-done", Activities, [-1, 0];
    activity_worker_killed_with_the_settlement: "settle-confirmed", Activities, [0, 1];
    activity_worker_killed_after_the_ack: "task-acked", Activities, [0, 1];
}

/// The same for local steps, which the owner does itself.
async fn kill_stepping(point: &'static str, extra_max: usize) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    for hit in 1..=10 {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let run = client.start(ten_steps(id.clone())).id(&id).enqueue().await?;
        victim.wait_killed().with_context(context)?;
        ensure!(failpoint.file.exists(), "{}: the point was not hit", context());
        let mut heir = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
        let result = run.result().await.with_context(context)?;
        ensure!(result == (0..10).collect::<Vec<u64>>(), "{}: {result:?}", context());
        let counts = executions(&ledger, &id)?;
        let extra: usize = counts.values().sum::<usize>() - 10;
        ensure!(counts.len() == 10 && extra <= extra_max, "{}: {counts:?}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&["ten_steps"], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_killed_before_a_step() -> Result<()> {
    kill_stepping("step-before", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_killed_after_a_step() -> Result<()> {
    kill_stepping("step-done", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_killed_before_a_steps_append() -> Result<()> {
    kill_stepping("append-before", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_killed_with_a_steps_receipt() -> Result<()> {
    kill_stepping("append-receipt", 1).await
}

/// What is done of a saga is undone in reverse, each once, wherever its owner is killed; also when it is cancelled.
async fn kill_a_saga(point: &'static str, sleeps: bool) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    for hit in 1..=8 {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("trip-{hit}");
        let run = client.start(trip(3, sleeps)).id(&id).enqueue().await?;
        let steps = || anyhow::Ok(ledger::read(&ledger)?.into_iter().filter(|entry| entry.workflow_id == id));
        let cancelling = async {
            if sleeps {
                eventually("its parts are done", || async { Ok((steps()?.count() >= 3).then_some(())) }).await?;
                run.cancel("not wanted").await?;
            }
            anyhow::Ok(())
        };
        let killing = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (cancelled, heir) = futures::join!(cancelling, killing);
        cancelled.with_context(context)?;
        let mut heir = heir.with_context(context)?;
        let error = run.result().await.expect_err("it fails, or is cancelled").to_string();
        ensure!(error.contains(if sleeps { "cancelled" } else { "final" }), "{}: {error}", context());
        let mut done: Vec<String> = steps()?.map(|entry| entry.step).collect();
        done.retain(|step| step != "flaky");
        ensure!(done == ["count 0", "count 1", "count 2", "undo 2", "undo 1", "undo 0"], "{}: {done:?}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&["trip"], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_is_undone_when_its_owner_is_killed() -> Result<()> {
    kill_a_saga("append-sent", false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_saga_is_undone_when_its_owner_is_killed() -> Result<()> {
    kill_a_saga("append-before", true).await
}
