//! Children and other runs, on either arm, and with an owner that is killed between any two events of a family.

use anyhow::{Context as _, Result, ensure};
use everpulse::WorkerHandle;
use everpulse::client::ResultError;
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};
use everpulse_protocol::history::CommandKind;
use everpulse_protocol::view::RunStatus;

async fn both(arm: &Arm) -> Result<(WorkerHandle, Client)> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    Ok((worker, Client::connect(arm.url()).await.context("connecting a client")?))
}

/// What `family` comes to.
const FAMILY: u64 = 2 + (4 + 6 + 8) + 7 + 100 + 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn families_children_are_awaited_told_and_cancelled() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(family("f".to_owned())).id("f").await?;
    assert_eq!(run.result().await?, FAMILY);
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn families_children_end_as_agreed_when_their_parent_does() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let parent = client.start(leaves("p".to_owned())).id("p").await?;
    let waits = eventually("the children have begun", async || {
        let pending = parent.describe().await?.pending;
        let children = pending.iter().filter(|step| step.kind == CommandKind::Child).count();
        Ok((children == 3 && client.run(listens, "p-left").describe().await.is_ok()).then_some(pending))
    });
    let pending = waits.await?;
    let target = |step: &everpulse_protocol::view::PendingStep| {
        step.target.as_ref().map(|target| target.workflow_id.to_string())
    };
    assert!(pending.iter().filter_map(target).any(|id| id == "p-ended"), "{pending:?}");
    let child = client.run(listens, "p-left").describe().await?;
    assert_eq!(child.parent.map(|parent| parent.workflow_id.to_string()).as_deref(), Some("p"));
    parent.signal(Heard { n: 1 }).await?;
    assert_eq!(parent.result().await?, 1);
    let end = async |id: &str| client.run(listens, id).result().await;
    assert!(matches!(end("p-ended").await, Err(ResultError::Failed(Failure::Terminated))));
    assert!(matches!(end("p-asked").await, Err(ResultError::Failed(Failure::Cancelled))));
    for id in ["p-left", "p-detached"] {
        assert_eq!(client.run(listens, id).describe().await?.status, RunStatus::Open);
        client.run(listens, id).signal(Heard { n: 2 }).await?;
        assert_eq!(end(id).await?, 2);
    }
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn families_other_runs_are_told_and_their_ids_are_theirs() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let other = client.start(listens()).id("other").await?;
    assert_eq!(client.start(meddles("other".to_owned())).await?.result().await?, (true, true));
    assert_eq!(other.result().await?, 5, "the refused child has not taken its place");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn families_runs_end_each_other_at_once() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let puts_down = async |id: &str| client.start(puts_down(id.to_owned())).await?.result().await;
    let stays = client.start(persists_in_waiting()).id("stays").await?;
    stays.cancel("it does not heed that").await?;
    assert_eq!(puts_down("stays").await?, (true, true));
    assert!(matches!(stays.result().await, Err(ResultError::Failed(Failure::Terminated))));
    // A series is known by any of its runs, and ends with its last one.
    let turns = client.start(rounds(0)).id("turns").await?;
    let goes_on = async || Ok(turns.describe().await?.continues.map(|_| ()));
    eventually("it has gone on", goes_on).await?;
    assert_eq!(puts_down("turns").await?, (true, true));
    assert!(matches!(turns.result().await, Err(ResultError::Failed(Failure::Terminated))));
    assert_eq!(puts_down("nobody").await?, (false, true));
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

async fn a_family(client: &Client, id: &str) -> Result<()> {
    let result = client.start(family(id.to_owned())).id(id).enqueue().await?.result().await?;
    ensure!(result == FAMILY, "{result}");
    Ok(())
}

async fn an_end(client: &Client, id: &str) -> Result<()> {
    let run = client.start(has_it_put_down(format!("{id}-stays"))).id(id).enqueue().await?;
    let result = run.result().await?;
    ensure!(result == (true, true), "{result:?}");
    Ok(())
}

/// The owner of all shards ends itself at a point, once for each time that what is played passes it.
async fn killed_at(point: &'static str, hits: u32, play: impl AsyncFn(&Client, &str) -> Result<()>) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    for hit in 1..=hits {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let killing = async {
            let is_hit = async || Ok(failpoint.file.exists().then_some(()));
            eventually("it is killed", is_hit).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (played, heir) = futures::join!(play(&client, &id), killing);
        let mut heir = heir.with_context(context)?;
        played.with_context(context)?;
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

macro_rules! killed {
    ($play:ident, $hits:literal: $($name:ident: $point:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            killed_at($point, $hits, $play).await
        }
    )*};
}

killed! { a_family, 10:
    families_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    families_bear_an_owner_killed_before_the_append: "append-before";
    families_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    families_bear_an_owner_killed_with_the_receipt: "append-receipt";
    families_bear_an_owner_killed_when_a_command_is_sent: "command-sent";
    families_bear_an_owner_killed_before_the_ack: "ack-before";
    families_bear_an_owner_killed_after_the_ack: "ack-sent";
}

killed! { an_end, 7:
    families_runs_that_end_others_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    families_runs_that_end_others_bear_an_owner_killed_before_the_append: "append-before";
    families_runs_that_end_others_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    families_runs_that_end_others_bear_an_owner_killed_with_the_receipt: "append-receipt";
    families_runs_that_end_others_bear_an_owner_killed_when_a_command_is_sent: "command-sent";
    families_runs_that_end_others_bear_an_owner_killed_before_the_ack: "ack-before";
    families_runs_that_end_others_bear_an_owner_killed_after_the_ack: "ack-sent";
}
