//! Code that changes while runs are open: versions, edits, builds, and what is found of code that is not deterministic.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use everpulse::WorkerHandle;
use everpulse::prelude::*;
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use everpulse_protocol::history::{Parked, ParkedKind};
use serde::{Deserialize, Serialize};

#[signal]
#[derive(Serialize, Deserialize)]
struct Go;

#[activity]
async fn count(n: u64) -> u64 {
    n
}

/// Releases of the workflow `order`.
mod releases {
    use super::*;

    #[workflow(name = "order", version = 1)]
    pub async fn first() -> String {
        signal::<Go>().recv().await;
        let _ = count(1).await;
        "first".to_owned()
    }

    #[workflow(name = "order", version = 2)]
    pub async fn second() -> String {
        let _ = count(2).await;
        signal::<Go>().recv().await;
        "second".to_owned()
    }

    /// The first one, edited without a guard.
    #[workflow(name = "order", version = 1)]
    pub async fn first_edited() -> String {
        let _ = count(0).await;
        signal::<Go>().recv().await;
        "edited".to_owned()
    }

    /// The first one, edited as it should be.
    #[workflow(name = "order", version = 1)]
    pub async fn first_patched() -> String {
        let early = patched("count-first");
        if early {
            let _ = count(0).await;
        }
        signal::<Go>().recv().await;
        if early {
            return "patched".to_owned();
        }
        let _ = count(1).await;
        "first".to_owned()
    }
}

async fn worker(arm: &Arm, serve: impl FnOnce(Worker) -> Worker) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    serve(worker.activity(count)).spawn().await.context("starting a worker")
}

async fn parked(client: &Client, id: &str) -> Result<Parked> {
    eventually("the run is parked", || async { Ok(client.run_named(id).describe().await?.parked) }).await
}

fn nothing() -> BTreeMap<String, u8> {
    BTreeMap::new()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_runs_take_the_newest_version_and_running_ones_stay() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let old = worker(&arm, |worker| worker.workflow(releases::first)).await?;
    let before = client.start(releases::first()).id("before").await?;
    eventually("it has begun", || async { Ok((before.describe().await?.version == 1).then_some(())) }).await?;
    old.stop().await;

    let both = worker(&arm, |worker| worker.workflow(releases::first).workflow(releases::second)).await?;
    let after = client.start_named("order", &nothing()).id("after").await?;
    let asked = client.start_named("order", &nothing()).id("asked").version(1).await?;
    for run in [&after, &asked] {
        run.signal(Go).await?;
    }
    before.signal(Go).await?;
    assert_eq!(before.result().await?, "first");
    let of = async |id: &str| client.run(releases::first, id).result().await;
    assert_eq!((of("after").await?, of("asked").await?), ("second".to_owned(), "first".to_owned()));
    assert_eq!((after.describe().await?.version, asked.describe().await?.version), (2, 1));
    both.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_version_one_worker_lacks_is_taken_up_by_one_that_has_it() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let new = worker(&arm, |worker| worker.workflow(releases::second)).await?;
    let run = client.start(releases::first()).id("run").version(1).await?;
    let reason = parked(&client, "run").await?;
    assert_eq!(reason.kind, ParkedKind::NoCode);
    assert!(reason.message.contains("no version 1 of workflow `order`"), "{}", reason.message);
    run.signal(Go).await?;

    // The other one comes, has its part of the shards, and the first one leaves.
    let old = worker(&arm, |worker| worker.workflow(releases::first)).await?;
    new.stop().await;
    let late = worker(&arm, |worker| worker.workflow(releases::first)).await?;
    assert_eq!(run.result().await?, "first");
    old.stop().await;
    late.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_named_where_it_is_met_and_a_patch_lets_the_run_go_on() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let first = worker(&arm, |worker| worker.workflow(releases::first)).await?;
    let run = client.start(releases::first()).id("run").await?;
    eventually("it has begun", || async { Ok((run.describe().await?.version == 1).then_some(())) }).await?;
    first.stop().await;

    let edited = worker(&arm, |worker| worker.workflow(releases::first_edited)).await?;
    run.signal(Go).await?;
    let reason = parked(&client, "run").await?;
    assert_eq!(reason.kind, ParkedKind::Diverged);
    for words in ["workflow run diverged at command 0", "replayed: schedule activity `count`", "patched(\"..\")"] {
        assert!(reason.message.contains(words), "{}", reason.message);
    }
    edited.stop().await;

    let mended = worker(&arm, |worker| worker.workflow(releases::first_patched)).await?;
    assert_eq!(run.result().await?, "first", "it passed there before the edit");
    let new = client.start(releases::first()).id("new").await?;
    new.signal(Go).await?;
    assert_eq!(new.result().await?, "patched");
    mended.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn code_from_before_a_patch_says_that_it_is_too_old() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let new = worker(&arm, |worker| worker.workflow(releases::first_patched)).await?;
    let run = client.start(releases::first_patched()).id("run").await?;
    eventually("it has begun", || async { Ok((run.describe().await?.version == 1).then_some(())) }).await?;
    new.stop().await;

    let old = worker(&arm, |worker| worker.workflow(releases::first)).await?;
    run.signal(Go).await?;
    let reason = parked(&client, "run").await?;
    assert_eq!(reason.kind, ParkedKind::NoCode);
    assert!(reason.message.contains("has no `patched(\"count-first\")` there"), "{}", reason.message);
    old.stop().await;

    let new = worker(&arm, |worker| worker.workflow(releases::first_patched)).await?;
    assert_eq!(run.result().await?, "patched");
    new.stop().await;
    Ok(())
}

#[workflow]
async fn says_its_build() -> Option<String> {
    everpulse::info().build
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_what_the_code_that_began_it_was_built_from() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let told = worker(&arm, |worker| worker.workflow(says_its_build).workflow(releases::first).build("4f2a")).await?;
    let run = client.start(says_its_build()).id("told").await?;
    assert_eq!(run.result().await?.as_deref(), Some("4f2a"));
    let open = client.start(releases::first()).id("open").await?;
    let build = eventually("it has begun", || async { Ok(open.describe().await?.build) }).await?;
    assert_eq!(build, "4f2a");
    told.stop().await;

    // Another build goes on with it; it was begun by the first.
    let found = worker(&arm, |worker| worker.workflow(says_its_build).workflow(releases::first)).await?;
    open.signal(Go).await?;
    open.result().await?;
    let found_out = client.start(says_its_build()).id("found").await?.result().await?;
    if std::env::var_os("EVERPULSE_BUILD").is_none()
        && std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.git").exists()
    {
        let found_out = found_out.context("the repository is found where this is compiled")?;
        let revision = found_out.strip_suffix("+debug").unwrap_or(&found_out);
        assert!(revision.len() == 12 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()), "{found_out}");
    }
    found.stop().await;
    Ok(())
}

/// Beyond the macro's sight.
fn by_chance() -> Vec<u64> {
    (0..64).map(|n| (n, n)).collect::<std::collections::HashMap<u64, u64>>().into_values().collect()
}

async fn naps() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[activity]
async fn even(n: u64) -> u64 {
    n
}

#[workflow]
async fn iterates_a_map() -> u64 {
    for n in by_chance() {
        if n % 2 == 0 {
            even(n).start().detach();
        } else {
            count(n).start().detach();
        }
    }
    signal::<Go>().recv().await;
    0
}

#[workflow]
async fn sleeps_by_tokio() -> u64 {
    let _ = count(1).await;
    naps().await;
    0
}

#[workflow]
async fn waits_for_nobody() -> u64 {
    let _ = count(1).await;
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_deterministic_is_found_and_named() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let serve = |worker: Worker| {
        let worker = worker.workflow(iterates_a_map).workflow(sleeps_by_tokio).workflow(waits_for_nobody);
        worker.workflow(releases::first).activity(even).check_determinism(true)
    };
    let worker = worker(&arm, serve).await?;
    let cases: [(&str, ParkedKind, &[&str]); 3] = [
        ("iterates_a_map", ParkedKind::Diverged, &["is not deterministic", "such as a `HashMap`", "`BTreeMap`"]),
        ("sleeps_by_tokio", ParkedKind::Panicked, &["use `everpulse::sleep` for its timers"]),
        (
            "waits_for_nobody",
            ParkedKind::Stuck,
            &["its last command was command 0, activity `count`", "in an activity or a step"],
        ),
    ];
    for (workflow, kind, words) in cases {
        client.start_named(workflow, &nothing()).id(workflow).await?;
        let reason = parked(&client, workflow).await?;
        assert_eq!(reason.kind, kind, "{}", reason.message);
        for word in words {
            assert!(reason.message.contains(word), "{workflow}: {}", reason.message);
        }
    }
    // What is deterministic goes on as ever.
    let run = client.start(releases::first()).id("good").await?;
    run.signal(Go).await?;
    assert_eq!(run.result().await?, "first");
    worker.stop().await;
    Ok(())
}
