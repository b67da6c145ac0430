//! More than a hundred runs in flight, and something happens to the broker, to the connections or to a worker.
//! The judge is the checker, which reads the raw history: no lost, doubled or reordered step.

#[path = "../../transport/tests/support/proxy.rs"]
#[allow(dead_code, reason = "the transport's tests use the rest of it")]
mod proxy;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::ledger;
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::sequence;
use everpulse_transport::{Address, ErrorKind, Options, Transport};
use futures::future::try_join_all;

const RUNS: usize = 120;

/// Longer than brokers take to notice that a client is gone.
const RESULT: Duration = Duration::from_secs(200);

/// Starts the runs; their results come by themselves.
async fn load(client: &Client, name: &str) -> Result<tokio::task::JoinHandle<Result<()>>> {
    let starts = (0..RUNS).map(|n| client.start(sequence()).id(format!("{name}-{n}")).enqueue());
    let runs = try_join_all(starts).await?;
    Ok(tokio::spawn(async move {
        for run in runs {
            let result = run.result_timeout(RESULT).await.with_context(|| run.id().to_owned())?;
            ensure!(result == (0..10).collect::<Vec<u64>>(), "{}: {result:?}", run.id());
        }
        Ok(())
    }))
}

/// Waits until so many steps were done.
async fn done(ledger: &Path, steps: usize) -> Result<()> {
    eventually(&format!("{steps} steps are done"), || async {
        Ok((ledger::read(ledger)?.len() >= steps).then_some(()))
    })
    .await
}

/// What has to hold in the end, whatever happened.
async fn judge(arm: &Arm, ledger: &Path, runs: usize) -> Result<everpulse_checker::Report> {
    let report = everpulse_checker::check(&arm.checked(&["sequence"], Some(ledger))?).await?;
    ensure!(report.is_clean(), "{:#?}", report.violations);
    let counts = report.counts();
    ensure!(counts.completed == runs && counts.open == 0, "{counts:?}");
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_unloaded() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _workers =
        [Party::start(arm.url(), Role::Both, &ledger, None)?, Party::start(arm.url(), Role::Both, &ledger, None)?];
    let transport = Transport::connect(&arm.url().parse::<Address>()?, Options::default()).await?;
    let load = load(&client, "unload").await?;
    for (steps, topics) in [
        (100, &["inbox-partition-0", "inbox-partition-1"][..]),
        (300, &["history-partition-0", "history-partition-1", "history-partition-2", "history-partition-3"]),
        (500, &["activity.default", "timers"]),
        (700, &["inbox-partition-0", "history-partition-2", "activity.default"]),
    ] {
        done(&ledger, steps).await?;
        for topic in topics {
            // A busy broker may answer that it could not, just now.
            eventually(&format!("{topic} is unloaded"), || async {
                match transport.unload(topic).await {
                    Err(error) if error.kind() == ErrorKind::Unreachable => Ok(None),
                    unloaded => Ok(Some(unloaded?)),
                }
            })
            .await?;
        }
    }
    load.await??;
    judge(&arm, &ledger, RUNS).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_killed_and_comes_back() -> Result<()> {
    let mut arm = Arm::with_own_broker()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _workers =
        [Party::start(arm.url(), Role::Both, &ledger, None)?, Party::start(arm.url(), Role::Both, &ledger, None)?];
    let load = load(&client, "restart").await?;
    done(&ledger, 200).await?;
    arm.restart_broker()?;
    load.await??;
    judge(&arm, &ledger, RUNS).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut() -> Result<()> {
    let arm = Arm::new()?;
    // Sets the application up, and holds the embedded broker.
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let direct = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    let proxy = proxy::Proxy::start(&arm.checked(&[], None)?.service_url).await;
    let through = arm.url_through(&proxy.url)?;
    let _workers =
        [Party::start(&through, Role::Both, &ledger, None)?, Party::start(&through, Role::Both, &ledger, None)?];
    drop(direct);
    let load = load(&client, "cut").await?;
    for steps in [100, 300, 500, 700] {
        done(&ledger, steps).await?;
        proxy.cut();
    }
    load.await??;
    judge(&arm, &ledger, RUNS).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_writes_void_frames_and_recovers() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    // It stops with a frame in its hands, so that it surely writes one when it goes on.
    let file = arm.dir().join("stopped");
    let stopping = Failpoint { name: "append-before", hit: 100, stops: true, file };
    let zombie = Party::start(arm.url(), Role::Both, &ledger, Some(&stopping))?;
    let first = load(&client, "first").await?;
    eventually("the zombie has stopped", || async { Ok(zombie.is_stopped()?.then_some(())) }).await?;
    let other = Party::start(arm.url(), Role::Both, &ledger, None)?;
    first.await??;
    ensure!(zombie.writer != other.writer && !zombie.writer.is_empty(), "each writes under a name of its own");
    zombie.thaw()?;
    let void = eventually("a void frame of the zombie", || async {
        let report = everpulse_checker::check(&arm.checked(&["sequence"], None)?).await?;
        ensure!(report.is_clean(), "{:#?}", report.violations);
        let void = report.void_by_writer();
        Ok(void.iter().find(|(writer, _)| writer.to_string() == zombie.writer).map(|(_, count)| *count))
    })
    .await?;
    eprintln!("the zombie wrote {void} void frames");
    // Alone again, it has to do everything itself.
    drop(other);
    let second = load(&client, "second").await?;
    second.await??;
    judge(&arm, &ledger, 2 * RUNS).await?;
    Ok(())
}
