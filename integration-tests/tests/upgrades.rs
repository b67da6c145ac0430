//! Directories that earlier releases left are taken up by this one: files of the broker, messages of every topic,
//! history, caches. They are recorded once for each release, by the test that is ignored here, and never edited.
//!
//! That workers of two releases share shards is tried by `cargo xtask chaos --earlier COMMIT`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::PATIENCE;
use everpulse_integration_tests::released::{
    City, Progress, came_later, crosses_the_border, serve, serve_some, sleeps_for_a_while, takes_a_train, tours,
    travels, wanders,
};

/// Ends stay readable however long ago the directory was recorded.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn url(dir: &Path) -> String {
    format!("embedded:{}?shards=2&inbox_partitions=1", dir.display())
}

async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.with_context(|| format!("{what}, within {PATIENCE:?}"))?
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_releases_left_is_brought_to_its_end() -> Result<()> {
    let mut releases = 0;
    for release in fs::read_dir(fixtures())? {
        let release = release?;
        let dir = tempfile::tempdir()?;
        copy(&release.path(), dir.path())?;
        take_up(&url(dir.path())).await.with_context(|| release.path().display().to_string())?;
        releases += 1;
    }
    ensure!(releases > 0, "no release's directory is in {}", fixtures().display());
    Ok(())
}

async fn take_up(url: &str) -> Result<()> {
    let worker = serve(Worker::connect(url).await?).retention(FOR_EVER).spawn().await?;
    let client = Client::connect(url).await?;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    // It had ended.
    assert_eq!(client.run(tours, "ended").result().await?, words(&["packed", "Oslo"]));
    // It waits for a second city.
    let waits = client.run(tours, "waits");
    let published: Option<Progress> = waits.published().await?;
    assert_eq!(published.context("progress")?.cities, words(&["Rome"]));
    waits.signal(City { name: "Bern".to_owned() }).await?;
    assert_eq!(waits.result().await?, words(&["packed", "Rome", "Bern"]));
    // What was due a little later.
    assert_eq!(client.run(sleeps_for_a_while, "sleeps").result().await?, "awake");
    assert_eq!(client.run(takes_a_train, "retries").result().await?, 2);
    assert_eq!(client.run(tours, "later").describe().await?.workflow, "tours");
    client.run(tours, "later").signal(City { name: "Kyiv".to_owned() }).await?;
    assert_eq!(client.run(tours, "later").result().await?, words(&["packed", "Kyiv"]));
    // A task in a queue that nobody served, and what a cancelled run still had to do.
    assert_eq!(client.run(travels, "task").result().await?, "travelled to Riga");
    let cancelled = client.run(wanders, "cancelled").result().await.expect_err("it was asked to cancel");
    assert!(cancelled.to_string().contains("cancel"), "{cancelled}");
    // A start that nobody took, and one for which there was no code.
    assert_eq!(client.run(tours, "nobody").result().await?, words(&["packed"]));
    assert_eq!(client.run(came_later, "unknown").result().await?, "welcome, Ann");
    // A dead letter.
    let letters = client.dead_letters("default")?.list().await?;
    ensure!(letters.len() == 1, "{letters:?}");
    client.dead_letters("default")?.redrive(letters[0].id).await?;
    assert_eq!(client.run(crosses_the_border, "operator").result().await?, 3);
    // And the ids are still known.
    let again = client.start(tours(9)).id("ended").await?;
    assert_eq!(again.result().await?, words(&["packed", "Oslo"]));
    worker.stop().await;
    Ok(())
}

/// `EVERPULSE_RECORD=0.1.0 cargo test -p everpulse-integration-tests --test upgrades -- --ignored` writes the directory of
/// a release. Once, before the release; then never again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it records the directory of a release"]
async fn record() -> Result<()> {
    let release = std::env::var("EVERPULSE_RECORD").context("EVERPULSE_RECORD names the release")?;
    let kept = fixtures().join(&release);
    ensure!(!kept.exists(), "{} is there already, and is never edited", kept.display());
    let dir = tempfile::tempdir()?;
    let url = url(dir.path());
    let worker = serve_some(Worker::connect(&url).await?).retention(FOR_EVER).spawn().await?;
    let client = Client::connect(&url).await?;
    let in_a_while = SystemTime::now() + Duration::from_secs(120);
    let ended = client.start(tours(1)).id("ended").await?;
    ended.signal(City { name: "Oslo".to_owned() }).await?;
    ended.result().await?;
    let waits = client.start(tours(2)).id("waits").await?;
    waits.signal(City { name: "Rome".to_owned() }).await?;
    eventually("a published city", || async {
        let progress: Option<Progress> = waits.published().await?;
        Ok(progress.filter(|progress| !progress.cities.is_empty()))
    })
    .await?;
    client.start(sleeps_for_a_while()).id("sleeps").await?;
    client.start(tours(1)).id("later").start_at(in_a_while).await?;
    client.start(travels("Riga".to_owned())).id("task").await?;
    let wanders = client.start(wanders()).id("cancelled").await?;
    wanders.cancel("enough").await?;
    client.start(came_later("Ann".to_owned())).id("unknown").await?;
    let retries = client.start(takes_a_train()).id("retries").await?;
    client.start(crosses_the_border()).id("operator").await?;
    eventually("a failed attempt", || async {
        let pending = retries.describe().await?.pending;
        Ok(pending.first().is_some_and(|step| step.attempt == 2).then_some(()))
    })
    .await?;
    eventually("a dead letter", || async { Ok(client.dead_letters("default")?.list().await?.into_iter().next()) })
        .await?;
    worker.stop().await;
    client.start(tours(0)).id("nobody").enqueue().await?;
    drop(client);
    // Whoever held the directory has let go of it when another can take it: then all of it is written.
    let another = Client::connect(&url).await?;
    drop(another);
    copy(dir.path(), &kept)?;
    for gone in ["LOCK", "broker.json", "spare.tmp", "reserve", "cache/LOCK"] {
        let path = kept.join(gone);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    // The room that was made ahead in a segment is as good as none.
    for file in fs::read_dir(&kept)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            let bytes = fs::read(&path)?;
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            fs::write(&path, &bytes[..used.next_multiple_of(16).min(bytes.len())])?;
        }
    }
    Ok(())
}
