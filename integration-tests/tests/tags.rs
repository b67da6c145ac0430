//! Signals to all runs that carry a tag, on either arm, and with an owner that is killed in the midst of it.

use anyhow::{Context as _, Result, ensure};
use everpulse::client::ErrorKind;
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};

async fn judged(arm: &Arm, completed: usize) -> Result<()> {
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean() && report.counts().completed == completed, "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_by_tag_is_taken_once_by_all_open_runs_that_carry_it() -> Result<()> {
    let arm = Arm::new()?;
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    let client = Client::connect(arm.url()).await.context("connecting a client")?;
    let nobody = client.signal_tag("customer:42", Heard { n: 1 }).await?;
    assert_eq!((nobody.runs, nobody.at_least), (0, false));
    let mut runs = Vec::new();
    for at in 0..20 {
        let tags = if at % 2 == 0 { "customer:42" } else { "customer:7" };
        runs.push(client.start(adds_up(3)).id(format!("sum-{at}")).tag(tags).tag("sums").await?);
    }
    let over = client.start(adds_up(0)).tag("customer:42").await?;
    assert_eq!(over.result().await?, 0);
    assert_eq!(runs[0].describe().await?.tags, ["customer:42", "sums"]);
    assert_eq!(client.signal_tag("customer:42", Heard { n: 10 }).await?.runs, 10);
    // Under one id it is one signal, from any process; a run that begins in between does not get it.
    assert_eq!(client.signal_tag("sums", Heard { n: 100 }).id("summer").await?.runs, 20);
    let later = client.start(adds_up(1)).tag("sums").await?;
    let elsewhere = Client::connect(arm.url()).await?;
    assert_eq!(elsewhere.signal_tag("sums", Heard { n: 100 }).id("summer").await?.runs, 20);
    assert_eq!(client.signal_tag_named("customer:7", "Heard", &Heard { n: 10 }).await?.runs, 10);
    let bad = client.signal_tag("two\nlines", Heard { n: 1 }).await.expect_err("it is no tag");
    assert_eq!(bad.kind(), ErrorKind::Invalid);
    assert_eq!(client.signal_tag("sums", Heard { n: 1 }).await?.runs, 21);
    for run in &runs {
        assert_eq!(run.result().await?, 111);
    }
    assert_eq!(later.result().await?, 1);
    ensure!(runs[0].export().await?.contains("signalled_by_tag"));
    worker.stop().await;
    judged(&arm, 22).await
}

/// The owner of all shards ends itself at a point while runs are signalled by their tag.
async fn killed_with_tags(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let hits = 6;
    for hit in 1..=hits {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let tag = format!("{point}-{hit}");
        let adding = async {
            let begin = |at| client.start(adds_up(3)).id(format!("{tag}-{at}")).tag(&tag).into_future();
            let runs = futures::try_join!(begin(1), begin(2), begin(3))?;
            for n in [1, 10, 100] {
                let reached = client.signal_tag(&tag, Heard { n }).await?;
                ensure!(reached.runs == 3 && !reached.at_least, "{reached:?}");
            }
            Ok(<[_; 3]>::from(runs))
        };
        let heir = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (runs, heir) = futures::join!(adding, heir);
        let mut heir = heir.with_context(context)?;
        for run in runs.with_context(context)? {
            let sum = run.result().await.with_context(context)?;
            ensure!(sum == 111, "{}: {sum}", context());
        }
        heir.leave()?;
    }
    judged(&arm, 3 * hits as usize).await
}

macro_rules! killed {
    ($($name:ident: $point:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            killed_with_tags($point).await
        }
    )*};
}

killed! {
    signals_by_tag_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    signals_by_tag_bear_an_owner_killed_before_the_append: "append-before";
    signals_by_tag_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    signals_by_tag_bear_an_owner_killed_with_the_receipt: "append-receipt";
    signals_by_tag_bear_an_owner_killed_before_the_ack: "ack-before";
    signals_by_tag_bear_an_owner_killed_after_the_ack: "ack-sent";
}
