//! Runs that live longer than history is kept: what they need is carried forward, and the rest goes.
//!
//! Short by itself; `cargo xtask soak retention` lets it run for as long as it is told.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, PATIENCE};
use everpulse_integration_tests::party::{Party, Role};
use everpulse_integration_tests::workflows::{Word, gathers, hello};
use everpulse_protocol::topic;
use everpulse_transport::{Address, Options, SetUp, Transport};
use futures::future::try_join_all;
use serde_json::json;

const SHARDS: u32 = 2;
/// Runs that gather a word each turn, from the first to the last.
const LONG_RUNS: usize = 8;
/// Runs that come and go in a turn.
const SHORT_RUNS: usize = 24;
const ARGUMENT_BYTES: usize = 3_000;

/// How long, and how.
struct Plan {
    turns: usize,
    /// At least so long lies between two turns.
    pace: Duration,
    retention: Duration,
    /// The worker is killed after so many turns, again and again.
    turns_per_kill: usize,
}

impl Plan {
    fn from_env() -> Self {
        match std::env::var("EVERPULSE_SOAK_MINUTES").ok().and_then(|text| text.parse::<usize>().ok()) {
            None => Self {
                turns: 40,
                pace: Duration::from_millis(250),
                retention: Duration::from_secs(2),
                turns_per_kill: 15,
            },
            Some(minutes) => Self {
                turns: minutes * 60 * 2,
                pace: Duration::from_millis(500),
                retention: Duration::from_secs(60),
                turns_per_kill: 97,
            },
        }
    }
}

/// What history takes: what the janitor has not let go, what the broker stores, and how much was ever appended.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Frames that the janitor has not let go.
    frames: u64,
    frames_appended: u64,
    /// Bytes of them; Apache Pulsar counts the whole ledger in which the first of them lies.
    needed: u64,
    stored: u64,
    appended: u64,
    disk: u64,
}

async fn size(transport: &Transport, arm: &Arm, base: u64) -> Result<Size> {
    let mut size = Size { appended: base, ..Size::default() };
    for shard in 0..SHARDS {
        let stats = transport.stats(&topic::partition(topic::HISTORY, shard)).await?;
        let number = |name: &str| stats[name].as_u64().with_context(|| format!("{name} in {stats}"));
        let backlog = &stats["subscriptions"][topic::JANITOR]["msgBacklog"];
        size.frames += backlog.as_u64().with_context(|| format!("the janitor's backlog in {stats}"))?;
        size.frames_appended += number("msgInCounter")?;
        size.needed += number("backlogSize")?;
        size.stored += number("storageSize")?;
        size.appended += number("bytesInCounter")?;
    }
    if arm.is_embedded() {
        for file in std::fs::read_dir(arm.dir().join("broker"))? {
            size.disk += disk(&file?.path())?;
        }
    }
    Ok(size)
}

fn disk(path: &std::path::Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    // A segment may go between the listing and the question.
    let Ok(meta) = path.symlink_metadata() else { return Ok(0) };
    if !meta.is_dir() {
        return Ok(meta.blocks() * 512);
    }
    std::fs::read_dir(path)?.map(|file| disk(&file?.path())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_stays_flat_while_runs_outlive_it() -> Result<()> {
    let plan = Plan::from_env();
    let arm = Arm::with_shards(SHARDS)?;
    let transport = Transport::connect(&arm.url().parse::<Address>()?, Options::default()).await?;
    // What the janitor lets go is not kept for anybody else.
    let mut wanted = SetUp::default().shards(Some(SHARDS)).inbox_partitions(Some(2));
    (wanted.retention_minutes, wanted.retention_mb) = (0, 0);
    transport.set_up(&wanted).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let start = || Party::start_retaining(arm.url(), Role::Both, &ledger, None, Some(plan.retention));
    let mut worker = start()?;
    let client = Client::connect(arm.url()).await?;
    let began = Instant::now();

    let long = |at: usize| format!("long-{at}");
    let mut long_runs = Vec::new();
    for at in 0..LONG_RUNS {
        long_runs.push(client.start(gathers(plan.turns)).id(long(at)).await?);
    }
    // Whoever reads history while it is trimmed sees no fork.
    let checked = arm.checked(&[], None)?;
    let mut looking = tokio::spawn(async move {
        loop {
            let report = everpulse_checker::check(&checked).await?;
            ensure!(report.is_clean(), "{:#?}", report.violations);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let (mut kills, mut samples) = (0, Vec::new());
    for turn in 0..plan.turns {
        let next = tokio::time::Instant::now() + plan.pace;
        let argument = format!("{turn} {}", "x".repeat(ARGUMENT_BYTES));
        let short = (0..SHORT_RUNS).map(|at| {
            let (client, argument) = (&client, &argument);
            async move {
                let run = client.start(hello(argument.clone())).id(format!("short-{turn}-{at}")).await?;
                anyhow::Ok(run.result().await?)
            }
        });
        let told =
            long_runs.iter().map(|run| async move { anyhow::Ok(run.signal(Word { text: turn.to_string() }).await?) });
        // The worker dies while they are under way.
        let kill = async {
            if turn % plan.turns_per_kill == plan.turns_per_kill - 1 {
                worker.kill()?;
                worker = start()?;
                kills += 1;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(try_join_all(short), try_join_all(told), kill).with_context(|| format!("turn {turn}"))?;
        samples.push(size(&transport, &arm, 0).await?);
        tokio::time::sleep_until(next).await;
    }
    looking.abort();
    match (&mut looking).await {
        Err(error) if error.is_cancelled() => {}
        ended => {
            let looked: Result<()> = ended?;
            looked.context("looking on while history was trimmed")?;
        }
    }
    for run in long_runs {
        let words: Vec<usize> = run.result().await?.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
        ensure!(words == (0..plan.turns).collect::<Vec<_>>(), "each word counts once, in order: {words:?}");
    }

    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    let (middle, last) = (samples[plan.turns / 2], samples[plan.turns - 1]);
    let (first_half, second_half) = samples.split_at(plan.turns / 2);
    let frames_max = |samples: &[Size]| samples.iter().map(|size| size.frames).max().unwrap_or(0);
    let needed_max = |samples: &[Size]| samples.iter().map(|size| size.needed).max();
    let (early, late) = (frames_max(first_half), frames_max(second_half));
    let figures = json!({
        "arm": if arm.is_embedded() { "embedded" } else { "pulsar" },
        "seconds": began.elapsed().as_secs(),
        "retention_seconds": plan.retention.as_secs(),
        "kills": kills,
        "short_runs": plan.turns * SHORT_RUNS,
        "long_runs": LONG_RUNS,
        "signals": plan.turns * LONG_RUNS,
        "appended_bytes": last.appended,
        "frames_appended": last.frames_appended,
        "frames_max_first_half": early,
        "frames_max_second_half": late,
        "needed_max_first_half": needed_max(first_half),
        "needed_max_second_half": needed_max(second_half),
        "needed_middle": middle.needed,
        "needed_end": last.needed,
        "stored_max": samples.iter().map(|size| size.stored).max(),
        "stored_middle": middle.stored,
        "stored_end": last.stored,
        "disk_max": samples.iter().map(|size| size.disk).max(),
        "disk_middle": middle.disk,
        "disk_end": last.disk,
    });
    eprintln!("{figures}");
    if let Ok(path) = std::env::var("EVERPULSE_SOAK_OUT") {
        writeln!(std::fs::OpenOptions::new().create(true).append(true).open(path)?, "{figures}")?;
    }
    ensure!(late < last.frames_appended / 2, "most of what was appended was let go: {figures}");
    ensure!(late < 2 * early, "history does not grow: {figures}");
    Ok(())
}

/// Frames that the janitor has not let go, and all that were appended; none while there is no janitor.
async fn kept(transport: &Transport) -> Result<Option<(u64, u64)>> {
    let stats = transport.stats(&topic::partition(topic::HISTORY, 0)).await?;
    let kept = stats["subscriptions"][topic::JANITOR]["msgBacklog"].as_u64();
    Ok(kept.zip(stats["msgInCounter"].as_u64()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_that_keeps_history_is_made_anew_where_somebody_removed_it() -> Result<()> {
    let arm = Arm::with_shards(1)?;
    let transport = Transport::connect(&arm.url().parse::<Address>()?, Options::default()).await?;
    // The namespace keeps for an hour what no cursor does, so nothing is lost meanwhile.
    transport.set_up(&SetUp::default().shards(Some(1)).inbox_partitions(Some(2))).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let start = || Party::start_retaining(arm.url(), Role::Both, &ledger, None, Some(Duration::from_secs(1)));
    let mut worker = start()?;
    let client = Client::connect(arm.url()).await?;
    let long = client.start(gathers(2)).id("long").await?;
    long.signal(Word { text: "first".to_owned() }).await?;

    for removed in [false, true] {
        if removed {
            transport.delete_subscription(&topic::partition(topic::HISTORY, 0), topic::JANITOR).await?;
        }
        let began = Instant::now();
        for turn in 0.. {
            ensure!(began.elapsed() < PATIENCE, "history is not trimmed; removed: {removed}");
            let argument = "x".repeat(ARGUMENT_BYTES);
            let short = (0..SHORT_RUNS).map(|at| {
                let (client, argument) = (&client, &argument);
                async move {
                    let run = client.start(hello(argument.clone())).id(format!("{removed}-{turn}-{at}")).await?;
                    anyhow::Ok(run.result().await?)
                }
            });
            try_join_all(short).await?;
            // All that is kept for an hour came back with the cursor, and goes again.
            if kept(&transport).await?.is_some_and(|(kept, appended)| kept < appended / 2) {
                break;
            }
        }
    }
    worker.kill()?;
    worker = start()?;
    long.signal(Word { text: "last".to_owned() }).await?;
    ensure!(long.result().await? == ["first", "last"], "the run goes on");
    worker.leave()?;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}
