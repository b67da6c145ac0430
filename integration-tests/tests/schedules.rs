//! Schedules on either arm: made, told and changed by clients, and with an owner that is killed between any two events.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use everpulse::WorkerHandle;
use everpulse::client::schedule::{Cause, End, View, schedule};
use everpulse::client::{ErrorKind, ResultError};
use everpulse::prelude::*;
use everpulse::{Overlap, Schedule};
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};
use futures::{StreamExt as _, TryStreamExt as _};

const SECOND: Duration = Duration::from_secs(1);

/// The time that it was begun for, in milliseconds.
#[workflow(version = 1)]
async fn says_when() -> Option<u64> {
    let at = everpulse::scheduled_at()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(at.as_millis()).ok()
}

async fn both(arm: &Arm) -> Result<(WorkerHandle, Client)> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    let worker = workflows::serve_all(worker).workflow(says_when).spawn().await.context("starting a worker")?;
    Ok((worker, Client::connect(arm.url()).await.context("connecting a client")?))
}

/// How it stands when that is so.
async fn when(kept: &Schedule, what: &str, holds: impl Fn(&View) -> bool) -> Result<View> {
    eventually(what, async || {
        let view = kept.describe().await?;
        Ok(holds(&view).then_some(view))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_begin_a_run_at_each_time_and_no_more_than_they_may() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let schedule = client.schedule("each-second").every(SECOND).limit(3).create(says_when()).await?;
    let view = when(&schedule, "three runs have ended", |view| view.counts.completed == 3 && view.open == 0).await?;
    assert_eq!((view.counts.begun, view.plan.remaining), (3, Some(0)), "{view:?}");
    for recent in &view.recent {
        assert!(recent.at.0.is_multiple_of(1_000) && recent.cause == Cause::Time, "{recent:?}");
        let run = client.run(says_when, &recent.workflow_id);
        assert_eq!(run.result().await?, Some(recent.at.0));
    }
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_told_and_changed_and_their_names_are_free_afterwards() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let nightly = client.schedule("nightly");
    let made = || nightly.cron("0 2 * * *").time_zone("Europe/Vienna").jitter(5 * SECOND);
    made().create(hello("you".to_owned())).await?;
    let twice = made().create(hello("you".to_owned())).await.expect_err("there is one");
    assert_eq!(twice.kind(), ErrorKind::Taken, "{twice}");
    assert_eq!(client.schedules().await?, ["nightly"]);

    nightly.pause("a holiday").await?;
    nightly.trigger().await?;
    let view = when(&nightly, "the run on demand has ended", |view| view.counts.completed == 1).await?;
    assert_eq!(view.paused.map(|paused| paused.note).as_deref(), Some("a holiday"));
    assert_eq!((view.coming.len(), view.recent[0].cause), (10, Cause::Trigger));
    nightly.unpause().await?;

    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_774_569_600);
    nightly.backfill(from..from + Duration::from_secs(4 * 86_400)).await?;
    let view = when(&nightly, "four nights were done", |view| view.counts.completed == 5).await?;
    let done: Vec<&str> = view.recent.iter().skip(1).map(|recent| recent.workflow_id.as_str()).collect();
    // The third is the night in which clocks are changed.
    let nights = ["2026-03-27T01:00:00Z", "2026-03-28T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"];
    assert_eq!(done, nights.map(|night| format!("nightly-{night}")));
    nightly.backfill(from..from + Duration::from_secs(86_400)).await?;
    when(&nightly, "the night is known", |view| view.counts.known == 1 && view.counts.begun == 5).await?;

    nightly.update(|plan| plan.overlap = Overlap::BufferAll).await?;
    let view = nightly.describe().await?;
    assert_eq!((view.plan.overlap, view.revision, view.paused), (Overlap::BufferAll, 1, None));

    nightly.delete().await?;
    assert_eq!(nightly.describe().await.expect_err("it is gone").kind(), ErrorKind::NotFound);
    assert_eq!(client.schedules().await?, [""; 0]);
    made().create(hello("you".to_owned())).await?;
    worker.stop().await;
    Ok(())
}

/// Tells it something that changes nothing, so many times: its history has as many events more.
async fn nudge(kept: &Schedule, times: usize) -> Result<()> {
    let nudges = futures::stream::iter(0..times).map(|_| kept.unpause()).buffer_unordered(200);
    nudges.try_collect::<()>().await.context("telling it something")
}

/// How many runs of its own it had before this one.
async fn runs_before(client: &Client, kept: &Schedule) -> Result<u32> {
    let described = client.run(schedule, format!("schedule/{}", kept.name())).describe().await?;
    Ok(described.continues.map_or(0, |continues| continues.number))
}

/// All runs that it began hear what they wait for, and it hears of their ends.
async fn ends_all(client: &Client, kept: &Schedule, begun: u64) -> Result<View> {
    for recent in kept.describe().await?.recent {
        client.run(listens, &recent.workflow_id).signal(Heard { n: 7 }).await?;
    }
    when(kept, "all its runs have ended", |view| view.counts.completed == begun && view.open == 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_continue_as_new_and_hear_of_what_their_earlier_runs_began() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let kept = client.schedule("kept").every(SECOND).overlap(Overlap::AllowAll).limit(2).create(listens()).await?;
    when(&kept, "two runs were begun", |view| view.counts.begun == 2).await?;
    nudge(&kept, 2_000).await?;
    eventually("it went on", async || Ok((runs_before(&client, &kept).await? > 0).then_some(()))).await?;
    let view = kept.describe().await?;
    assert_eq!((view.open, view.counts.begun, view.plan.remaining), (2, 2, Some(0)), "{view:?}");
    // With nothing open it goes on sooner.
    ends_all(&client, &kept, 2).await?;
    let before = runs_before(&client, &kept).await?;
    nudge(&kept, 500).await?;
    eventually("it went on", async || Ok((runs_before(&client, &kept).await? > before).then_some(()))).await?;
    kept.trigger().await?;
    when(&kept, "one run more was begun", |view| view.counts.begun == 3 && view.open == 1).await?;
    kept.delete().await?;
    assert_eq!(client.schedules().await?, [""; 0]);
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_end_a_run_at_once_that_does_not_heed_a_request() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let schedule = client.schedule("stubborn").every(SECOND).overlap(Overlap::TerminateOther);
    let schedule = schedule.create(persists_in_waiting()).await?;
    let view = when(&schedule, "three have ended", |view| view.counts.failed >= 3).await?;
    assert_eq!((view.counts.completed, view.counts.known, view.open <= 1), (0, 0, true), "{view:?}");
    let first = client.run(persists_in_waiting, &view.recent[0].workflow_id).result().await;
    assert!(matches!(first, Err(ResultError::Failed(Failure::Terminated))), "{first:?}");
    schedule.delete().await?;
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_that_cannot_be_are_refused_with_what_is_wrong() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let refused = async |made: everpulse::client::schedule::NewSchedule| {
        let error = made.create(hello("you".to_owned())).await.expect_err("it cannot be");
        (error.kind(), error.to_string())
    };
    let s = client.schedule("s");
    let (kind, said) = refused(s.cron("0 25 * * *")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(said.contains("`25` is no hour") && said.ends_with("    0 25 * * *\n      ^^"), "{said}");
    let (_, said) = refused(s.cron("@daily").time_zone("Europe/Viena")).await;
    assert!(said.contains("did you mean `Europe/Vienna`?"), "{said}");
    let (_, said) = refused(client.schedule("").cron("@daily")).await;
    assert!(said.contains("cannot be the name of a schedule"), "{said}");
    let with_id = s.cron("@daily").create(hello("you".to_owned()).id("mine")).await.expect_err("ids are ours");
    assert_eq!(with_id.kind(), ErrorKind::Invalid, "{with_id}");
    Ok(())
}

/// The owner of all shards ends itself at a point, while a schedule goes on.
async fn killed_at(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    for hit in [2, 5, 9, 14] {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let schedule = client.schedule(format!("{point}-{hit}"));
        let made =
            tokio::spawn(schedule.every(SECOND).overlap(Overlap::BufferAll).limit(4).create(hello("you".to_owned())));
        victim.wait_killed().with_context(context)?;
        ensure!(failpoint.file.exists(), "{}: the point was not hit", context());
        let mut heir = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
        made.await?.with_context(context)?;
        let view = when(&schedule, "four runs have ended", |view| view.counts.completed == 4).await;
        let view = view.with_context(context)?;
        ensure!(
            view.counts.begun == 4 && view.counts.missed + view.counts.skipped + view.counts.known == 0,
            "{view:?}"
        );
        // No second between the first and the last is left out, and none was done twice.
        let times: BTreeSet<u64> = view.recent.iter().map(|recent| recent.at.0).collect();
        let first = view.recent[0].at.0;
        ensure!(times == (0..4).map(|second| first + 1_000 * second).collect(), "{}: {view:?}", context());
        ensure!(view.recent.iter().all(|recent| recent.end == Some(End::Completed)), "{}: {view:?}", context());
        schedule.delete().await?;
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

/// The owner ends itself at a point, while one run of the schedule makes room for the next one.
async fn killed_between_two_runs(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    for hit in 1..=3 {
        let context = || format!("killed at {point}, hit {hit}");
        let mut first = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
        let kept = client.schedule(format!("{point}-{hit}")).every(SECOND).overlap(Overlap::AllowAll).limit(2);
        let kept = kept.create(listens()).await.with_context(context)?;
        when(&kept, "two runs were begun", |view| view.counts.begun == 2).await.with_context(context)?;
        nudge(&kept, 1_950).await.with_context(context)?;
        first.leave()?;
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let told = {
            let kept = kept.clone();
            tokio::spawn(async move { nudge(&kept, 100).await })
        };
        victim.wait_killed().with_context(context)?;
        ensure!(failpoint.file.exists(), "{}: the point was not hit", context());
        let mut heir = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
        told.await?.with_context(context)?;
        let went_on = async || Ok((runs_before(&client, &kept).await? > 0).then_some(()));
        eventually("it went on", went_on).await.with_context(context)?;
        let view = ends_all(&client, &kept, 2).await.with_context(context)?;
        ensure!((view.counts.begun, view.counts.known, view.counts.failed) == (2, 0, 0), "{}: {view:?}", context());
        kept.delete().await?;
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

macro_rules! killed {
    ($by:ident: $($name:ident: $point:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            $by($point).await
        }
    )*};
}

killed! { killed_at:
    schedules_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    schedules_bear_an_owner_killed_before_the_append: "append-before";
    schedules_bear_an_owner_killed_with_the_receipt: "append-receipt";
    schedules_bear_an_owner_killed_when_a_command_is_sent: "command-sent";
    schedules_bear_an_owner_killed_before_the_ack: "ack-before";
}

killed! { killed_between_two_runs:
    schedules_continue_as_new_though_their_owner_is_killed_before_the_append: "append-before";
    schedules_continue_as_new_though_their_owner_is_killed_with_the_receipt: "append-receipt";
    schedules_continue_as_new_though_their_owner_is_killed_when_a_command_is_sent: "command-sent";
}
