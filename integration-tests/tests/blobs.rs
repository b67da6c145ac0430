//! Values that are larger than any message, in the stores that come with Everpulse, on either arm; and what becomes of runs when
//! processes end between the store and the broker, or the store does not have what is named.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse::{Blobs, Never, WorkerHandle};
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::ledger;
use everpulse_integration_tests::party::{BLOBS, Failpoint, Party, Role};
use everpulse_integration_tests::workflows::paperwork;
use everpulse_protocol::history::ParkedKind;
use serde::{Deserialize, Serialize};

/// More than fits into a message, of which the next one differs.
fn document(seed: u64) -> String {
    let mut text = String::with_capacity(6_000_100);
    let mut number = seed;
    while text.len() < 6_000_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!("{number:x},"));
    }
    text
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Scan {
    text: String,
}

#[query(reply = String)]
#[derive(Serialize, Deserialize)]
struct Page {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Archive {
    text: String,
}

/// Fails once, with details that the next attempt is given.
#[activity(retry(initial = "10ms", max_attempts = 2))]
async fn reads(text: String) -> Result<String, everpulse::Error> {
    let context = everpulse::activity::context();
    if context.attempt() == 1 {
        context.heartbeat(text.clone() + "beat,");
        return Err(everpulse::Error::msg("once"));
    }
    Ok(context.last_heartbeat::<String>().unwrap_or_default())
}

#[workflow]
async fn echoes(text: String) -> String {
    text + &signal::<Scan>().recv().await.text
}

/// Takes what is large through every place in which values travel.
#[workflow]
async fn moves(text: String) -> Result<String, everpulse::Error> {
    let shown = text.clone();
    on_query(move |Page { text }: Page| text + &shown);
    publish(&Archive { text: text.clone() });
    let scanned = signal::<Scan>().recv().await.text;
    let read = reads(text).await?;
    let stepped = step("copies", move || async move { Ok::<_, Never>(read + "copied,") }).await?;
    let child = echoes(stepped).start().await?;
    child.signal(Scan { text: scanned }).await?;
    Ok(child.await?)
}

async fn worker(arm: &Arm, blobs: &Blobs) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?.blobs(blobs.clone());
    // Every event is a replay, which needs what came before from the store.
    let worker = worker.options(|options| options.live_runs_per_shard = 0);
    Ok(worker.workflow(moves).workflow(echoes).activity(reads).spawn().await?)
}

async fn takes_all(arm: &Arm, blobs: Blobs) -> Result<()> {
    let client = Client::connect(arm.url()).await?.blobs(blobs.clone());
    let first = worker(arm, &blobs).await?;
    let (text, scan) = (document(1), document(2));
    let run = client.start(moves(text.clone())).id("moves").await?;
    ensure!(run.query(Page { text: scan.clone() }).await? == format!("{scan}{text}"));
    let published = eventually("it is published", || async { Ok(run.published::<Archive>().await?) }).await?;
    ensure!(published.text == text);
    // What comes next is for one that has nothing at hand.
    first.stop().await;
    let second = worker(arm, &blobs).await?;
    run.signal(Scan { text: scan.clone() }).await?;
    ensure!(run.result().await? == format!("{text}beat,copied,{scan}"));
    let without = Client::connect(arm.url()).await?;
    let error = without.run(moves, "moves").result().await.err().context("this client has no store")?;
    ensure!(error.to_string().contains("blob"), "{error}");
    second.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_message_goes_everywhere_by_a_directory() -> Result<()> {
    let arm = Arm::new()?;
    takes_all(&arm, Blobs::in_directory("files", arm.dir().join("blobs")).create()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_message_goes_everywhere_by_the_broker() -> Result<()> {
    let arm = Arm::new()?;
    takes_all(&arm, Blobs::on_broker("files")).await
}

/// Whoever is killed between the store and the broker leaves a blob that nobody names, and its work to others.
async fn kill_between(victim: Role, hits: u32) -> Result<()> {
    let arm = Arm::new()?;
    let files = arm.dir().join("blobs");
    let client = Client::connect(arm.url()).await?.blobs(Blobs::in_directory("files", &files).create()?);
    let ledger = arm.dir().join("ledger.jsonl");
    let told = [(BLOBS, files.display().to_string())];
    let other = if victim == Role::Workflows { Role::Activities } else { Role::Workflows };
    let _other = Party::start_with(arm.url(), other, &ledger, None, &told)?;
    for hit in 1..=hits {
        let context = || format!("hit {hit}");
        let failpoint = Failpoint { name: "blob-put", hit, stops: false, file: arm.dir().join(format!("hit-{hit}")) };
        let mut killed = Party::start_with(arm.url(), victim, &ledger, Some(&failpoint), &told)?;
        let id = format!("paper-{hit}");
        let text = document(u64::from(hit));
        let run = client.start(paperwork(text.clone())).id(&id).enqueue().await?;
        killed.wait_killed().with_context(context)?;
        ensure!(failpoint.file.exists(), "{}: the point was not hit", context());
        let mut heir = Party::start_with(arm.url(), victim, &ledger, None, &told)?;
        let result = run.result().await.with_context(context)?;
        ensure!(result == format!("{text}stamped,signed,copied,filed,"), "{}: another document", context());
        let done = ledger::read(&ledger)?.into_iter().filter(|entry| entry.workflow_id == id).count();
        let again = usize::from(victim == Role::Activities);
        ensure!((2..=2 + again).contains(&done), "{}: {done} activities", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_killed_when_it_has_put_what_it_sends() -> Result<()> {
    kill_between(Role::Workflows, 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_worker_is_killed_when_it_has_put_its_result() -> Result<()> {
    kill_between(Role::Activities, 2).await
}

fn blobs_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(blobs_in(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_blob_is_missing_or_damaged_is_parked_by_name_and_goes_on_when_it_is_back() -> Result<()> {
    let arm = Arm::new()?;
    let dir = arm.dir().join("blobs");
    let blobs = Blobs::in_directory("files", &dir).create()?;
    let client = Client::connect(arm.url()).await?.blobs(blobs.clone());
    let text = document(9);
    // Nobody serves it yet.
    let run = client.start(echoes(text.clone())).id("lost").enqueue().await?;
    let is_blob = |path: &PathBuf| path.parent() != Some(dir.as_path());
    let blob = blobs_in(&dir)?.into_iter().find(is_blob).context("its argument is there")?;
    let name = blob.file_name().context("it has a name")?.to_string_lossy().into_owned();
    let bytes = std::fs::read(&blob)?;
    for (damaged, says) in [(true, "not those that were put"), (false, "it is not there")] {
        if damaged {
            let mut other = bytes.clone();
            other[100] ^= 1;
            std::fs::write(&blob, other)?;
        } else {
            std::fs::remove_file(&blob)?;
        }
        let serving = worker(&arm, &blobs).await?;
        // What it says is what is wrong now, and not what was when it was parked.
        let parked = eventually("the run is parked, and says why", || async {
            Ok(run.describe().await?.parked.filter(|parked| parked.message.contains(says)))
        })
        .await?;
        ensure!(parked.kind == ParkedKind::Unopened && parked.message.contains(&name), "{}", parked.message);
        serving.stop().await;
    }
    std::fs::write(&blob, bytes)?;
    let serving = worker(&arm, &blobs).await?;
    run.signal(Scan { text: "end".to_owned() }).await?;
    ensure!(run.result().await? == format!("{text}end"));
    serving.stop().await;
    Ok(())
}
