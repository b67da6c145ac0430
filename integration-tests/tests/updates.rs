//! What runs are told with more than a plain signal, on either arm, and with an owner that is killed in the midst of it.

use anyhow::{Context as _, Result, ensure};
use everpulse::WorkerHandle;
use everpulse::client::{ErrorKind, IdPolicy, UpdateError};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};

async fn both(arm: &Arm) -> Result<(WorkerHandle, Client)> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    Ok((worker, Client::connect(arm.url()).await.context("connecting a client")?))
}

async fn judged(arm: &Arm) -> Result<()> {
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_signal_begins_a_run_or_signals_the_open_one() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let add = |n| client.start(adds_up(3)).id("sum").signal(Heard { n });
    let begin = |n| add(n).into_future();
    let (first, second, third) = futures::try_join!(begin(1), begin(2), begin(4))?;
    assert_eq!(first.result().await?, 7);
    let runs = [&first, &second, &third].map(|run| run.run_id());
    ensure!(runs.iter().flatten().all(|run| Some(*run) == runs.iter().flatten().next().copied()), "{runs:?}");
    // After its end a new one begins, unless that is refused.
    let refused = add(8).policy(IdPolicy::Attach).await.expect_err("there is to be no second run");
    assert_eq!(refused.kind(), ErrorKind::Taken);
    let next = add(8).await?;
    ensure!(next.run_id() != first.run_id(), "a second run");
    let open = add(16).policy(IdPolicy::Reject).await.expect_err("it is open");
    assert_eq!(open.kind(), ErrorKind::Taken);
    let both = add(1).signal(Heard { n: 1 }).await.expect_err("two signals");
    assert_eq!(both.kind(), ErrorKind::Invalid);
    next.terminate("enough").await?;
    worker.stop().await;
    judged(&arm).await
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_taken_once_or_refused_and_answered() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(puts(4)).id("p").await?;
    assert_eq!(run.update(Put { n: 2 }).await?, 2);
    let refused = run.update(Put { n: 3 }).id("odd").await.expect_err("it is odd");
    assert!(matches!(refused, UpdateError::Refused(Failure::Failed(Trouble::Final))), "{refused}");
    assert_eq!(run.update_result::<Put>("odd").await.expect_err("it was refused").kind(), Some(ErrorKind::NotFound));
    // The same id is the same request, from any process, whatever it says now.
    let taken = run.update(Put { n: 4 }).id("four").accepted().await?;
    let elsewhere = Client::connect(arm.url()).await?.run(puts, "p");
    assert_eq!(elsewhere.update(Put { n: 40 }).id("four").await?, 6);
    assert_eq!((taken.result().await?, elsewhere.update_result::<Put>("four").await?), (6, 6));
    let failed = run.update(Put { n: 1_000 }).await.expect_err("it is a thousand");
    assert!(matches!(failed, UpdateError::Failed(Failure::Failed(Trouble::Final))), "{failed}");
    let strange = run.update_named("Take", &1).patience(Duration::ZERO).await.expect_err("nobody takes it");
    assert_eq!(strange.kind(), Some(ErrorKind::Unhandled), "{strange}");
    let nobody = client.run(puts, "nobody").update(Put { n: 2 }).patience(Duration::ZERO).await.expect_err("no run");
    assert_eq!(nobody.kind(), Some(ErrorKind::NotFound), "{nobody}");
    let export = run.export().await?;
    assert_eq!(export.matches("update_accepted").count(), 3, "{export}");
    assert_eq!(run.update(Put { n: 6 }).id("last").await?, 12);
    assert_eq!(run.result().await?, 12);
    // What it was is read from history, and what it never took is not taken any more.
    assert_eq!(run.update(Put { n: 6 }).id("last").await?, 12);
    assert_eq!(elsewhere.update_result::<Put>("four").await?, 6);
    let late = run.update(Put { n: 8 }).await.expect_err("it has ended");
    assert_eq!(late.kind(), Some(ErrorKind::AlreadyClosed), "{late}");
    worker.stop().await;
    judged(&arm).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_waits_for_its_run_and_is_told_of_its_end() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    // It is not there when it is asked first.
    let run = client.run(puts, "early");
    let start = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        client.start(puts(2)).id("early").await
    };
    let (answer, started) = futures::join!(run.update(Put { n: 2 }).into_future(), start);
    assert_eq!((answer?, started?.id()), (2, "early"));
    // Nobody counts while no activity worker is there: here it is the run that ends before it answers.
    let listens = client.start(listens()).id("deaf").await?;
    let deaf = listens.update(Put { n: 2 }).patience(Duration::from_millis(300)).await.expect_err("it takes none");
    assert_eq!(deaf.kind(), Some(ErrorKind::Unhandled), "{deaf}");
    worker.stop().await;
    let owner = Worker::connect(arm.url()).await?;
    let owner = workflows::serve_workflows(owner).spawn().await?;
    let taken = run.update(Put { n: 4 }).id("open").accepted().await?;
    let owes = run.describe().await?.updates;
    assert_eq!(owes.iter().map(|update| update.id.as_str()).collect::<Vec<_>>(), ["open"]);
    run.terminate("enough").await?;
    let unanswered = taken.result().await.expect_err("nobody answers any more");
    assert_eq!(unanswered.kind(), Some(ErrorKind::AlreadyClosed), "{unanswered}");
    let again = run.update_result::<Put>("open").await.expect_err("from history it is the same");
    assert!(again.to_string().contains("had not answered update `open`"), "{again}");
    listens.terminate("enough").await?;
    owner.stop().await;
    judged(&arm).await
}

/// Requests three updates at once, each of which one run of the series answers. Gives what each was answered, by its number.
async fn put_at_once(run: &everpulse::Run<impl everpulse::Definition>) -> Result<Vec<(u64, u64)>> {
    let put = |n| async move {
        let sum = run.update(Put { n }).id(format!("put-{n}")).patience(Duration::MAX).await?;
        anyhow::Ok((n, sum))
    };
    let mut sums = futures::future::try_join_all([1, 10, 100].map(put)).await?;
    sums.sort_unstable();
    Ok(sums)
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_taken_once_by_a_series_and_answered_by_whichever_of_its_runs() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(puts_on(4, 0)).id("on").await?;
    let sums = put_at_once(&run).await?;
    let mut answers: Vec<u64> = sums.iter().map(|(_, sum)| *sum).collect();
    answers.sort_unstable();
    assert_eq!(answers.last(), Some(&111), "{sums:?}");
    // Under the same ids, and by them, from any process: each was answered by another run.
    let elsewhere = Client::connect(arm.url()).await?.run(puts_on, "on");
    assert_eq!(put_at_once(&elsewhere).await?, sums);
    for (n, sum) in &sums {
        assert_eq!(run.update_result::<Put>(format!("put-{n}")).await?, *sum);
    }
    let unknown = elsewhere.update_result::<Put>("put-7").await.expect_err("nobody requested it");
    assert_eq!(unknown.kind(), Some(ErrorKind::NotFound), "{unknown}");
    let another = elsewhere.update_named("Take", &1).id("last").patience(Duration::ZERO).await;
    assert!(another.is_err(), "it is not taken");
    assert_eq!(run.update(Put { n: 1_000 }).id("last").await?, 1_111);
    assert_eq!(run.result().await?, 1_111);
    assert_eq!(put_at_once(&run).await?, sums);
    assert_eq!(elsewhere.update_result::<Put>("last").await?, 1_111);
    worker.stop().await;
    judged(&arm).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_an_update_is_that_of_one_name() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(puts(2)).id("p").await?;
    assert_eq!(run.update(Put { n: 2 }).id("two").await?, 2);
    let other = run.update_named("Take", &1).id("two").await.expect_err("it is that of a `Put`");
    assert_eq!(other.kind(), Some(ErrorKind::Taken), "{other}");
    let other = run.update_result::<Take>("two").await.expect_err("it is that of a `Put`");
    assert_eq!(other.kind(), Some(ErrorKind::NotFound), "{other}");
    assert_eq!(run.update(Put { n: 4 }).await?, 6);
    assert_eq!(run.result().await?, 6);
    let other = run.update_result::<Take>("two").await.expect_err("also from history");
    assert_eq!(other.kind(), Some(ErrorKind::NotFound), "{other}");
    worker.stop().await;
    judged(&arm).await
}

/// The owner of all shards ends itself at a point while a series of runs is asked for things.
async fn killed_in_a_series(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    let hits = if point == "command-sent" { 3 } else { 5 };
    for hit in 1..=hits {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let asking = async {
            let run = client.start(puts_on(3, 0)).id(&id).enqueue().await?;
            let sums = put_at_once(&run).await?;
            ensure!(put_at_once(&run).await? == sums, "they are known");
            anyhow::Ok(run)
        };
        let heir = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (run, heir) = futures::join!(asking, heir);
        let mut heir = heir.with_context(context)?;
        let sum = run.with_context(context)?.result().await.with_context(context)?;
        ensure!(sum == 111, "{}: {sum}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    Ok(())
}

/// The owner of all shards ends itself at a point while a run is asked for things, good and bad.
async fn killed_with_updates(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    // Each number is counted by an activity; other commands there may be none.
    let hits = if point == "command-sent" { 3 } else { 6 };
    for hit in 1..=hits {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let asking = async {
            let run = client.start(puts(3)).id(&id).enqueue().await?;
            for (n, sum) in [(2, 2), (4, 6), (6, 12)] {
                let refused = run.update(Put { n: n + 1 }).patience(Duration::from_secs(60)).await;
                // With whoever refused it go the words, and not that it is refused.
                let is_refused = match &refused {
                    Err(UpdateError::Refused(_)) => true,
                    Err(UpdateError::Other(error)) => error.kind() == ErrorKind::Refused,
                    _ => false,
                };
                ensure!(is_refused, "{refused:?}");
                let answer = run.update(Put { n }).id(format!("put-{n}")).patience(Duration::from_secs(60)).await?;
                ensure!(answer == sum, "{n} gives {answer}");
            }
            for (n, sum) in [(2, 2), (4, 6), (6, 12)] {
                ensure!(run.update(Put { n }).id(format!("put-{n}")).await? == sum, "put-{n} is known");
            }
            anyhow::Ok(run)
        };
        let heir = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (run, heir) = futures::join!(asking, heir);
        let mut heir = heir.with_context(context)?;
        let sum = run.with_context(context)?.result().await.with_context(context)?;
        ensure!(sum == 12, "{}: {sum}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().completed == hits as usize && report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

/// The owner of all shards ends itself at a point while runs are begun by their signals.
async fn killed_with_signals(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    for hit in 1..=4 {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let add = |n| client.start(adds_up(4)).id(&id).signal(Heard { n });
        let adding = async {
            let run = add(1).await?;
            for n in [10, 100, 1_000] {
                add(n).await?;
            }
            anyhow::Ok(run)
        };
        let heir = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (run, heir) = futures::join!(adding, heir);
        let mut heir = heir.with_context(context)?;
        let sum = run.with_context(context)?.result().await.with_context(context)?;
        ensure!(sum == 1_111, "{}: {sum}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().completed == 4 && report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

macro_rules! killed {
    ($body:ident: $($name:ident: $point:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            $body($point).await
        }
    )*};
}

killed! {
    killed_with_signals:
    signals_with_starts_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    signals_with_starts_bear_an_owner_killed_before_the_append: "append-before";
    signals_with_starts_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    signals_with_starts_bear_an_owner_killed_with_the_receipt: "append-receipt";
    signals_with_starts_bear_an_owner_killed_before_the_ack: "ack-before";
    signals_with_starts_bear_an_owner_killed_after_the_ack: "ack-sent";
}

killed! {
    killed_in_a_series:
    updates_of_a_series_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    updates_of_a_series_bear_an_owner_killed_before_the_append: "append-before";
    updates_of_a_series_bear_an_owner_killed_with_the_receipt: "append-receipt";
    updates_of_a_series_bear_an_owner_killed_before_the_ack: "ack-before";
}

killed! {
    killed_with_updates:
    updates_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    updates_bear_an_owner_killed_before_the_append: "append-before";
    updates_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    updates_bear_an_owner_killed_with_the_receipt: "append-receipt";
    updates_bear_an_owner_killed_when_a_command_is_sent: "command-sent";
    updates_bear_an_owner_killed_before_the_ack: "ack-before";
    updates_bear_an_owner_killed_after_the_ack: "ack-sent";
}
