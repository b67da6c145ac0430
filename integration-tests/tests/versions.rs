//! Code that changes while runs are open: versions, edits, builds, and what is found of code that is not deterministic.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use everpulse::WorkerHandle;
use everpulse::prelude::*;
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::history::{Frame, Hash, Parked, ParkedKind};
use everpulse_protocol::{Timestamp, WorkflowId, WriterId, decode, encode, shard, topic};
use everpulse_transport::{Address, Message, Options, PublisherOptions, Subscription, SubscriptionKind, Transport};
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

/// A format version that nobody reads here.
const LATER: u8 = 9;

/// A message of that version.
fn of_a_later_version(kind: &str) -> Vec<u8> {
    [&[LATER, 0xa0 | kind.len() as u8], kind.as_bytes(), &[0xc0]].concat()
}

/// A frame of that version that is the first of its shard.
fn first_frame_of_a_later_version() -> Vec<u8> {
    let frame = Frame {
        shard: 0,
        number: 0,
        previous: Hash::GENESIS,
        writer: WriterId(uuid::Uuid::new_v4()),
        verified: None,
        at: Timestamp(1),
        config: None,
        wake: None,
        sent_below: 0,
        queues: Vec::new(),
        records: Vec::new(),
    };
    [&[LATER], &encode(&frame)[1..]].concat()
}

/// Receives what is left for others, until nothing comes any more.
async fn left(transport: &Transport, topic: &str, subscription: &str, kind: SubscriptionKind) -> Result<Vec<Vec<u8>>> {
    let mut consumer = transport.subscribe(Subscription::new(topic, subscription, kind)).await?;
    let mut left = Vec::new();
    while let Ok(delivery) = tokio::time::timeout(Duration::from_secs(3), consumer.recv()).await {
        left.push(delivery.payload.to_vec());
    }
    consumer.close().await;
    Ok(left)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_later_release_can_read_is_left_to_it_and_all_else_goes_on() -> Result<()> {
    const SHARDS: u32 = 4;
    const LEFT: usize = 40;
    let arm = Arm::with_shards(SHARDS)?;
    let client = Client::connect(arm.url()).await?;
    let transport = Transport::connect(&arm.url().parse::<Address>()?, Options::default()).await?;
    let publish = async |topic: &str, bytes: Vec<u8>| {
        let publisher = transport.publisher(topic, PublisherOptions::default());
        publisher.publish(Message::new(Some("shard-0".to_owned()), bytes)).await
    };
    publish("history-partition-0", first_frame_of_a_later_version()).await?;
    // It says to be one, and is none: its shard is served.
    publish("history-partition-1", of_a_later_version("history")).await?;
    let end = transport.last_position("history-partition-0").await?;
    // The last one is garbage, and comes behind the others.
    publish("inbox-partition-0", of_a_later_version("inbox")).await?;
    publish(topic::TIMERS, of_a_later_version("timer")).await?;
    publish("inbox-partition-0", b"not a frame".to_vec()).await?;
    // The shard that cannot be served has more than enough waiting for it.
    let of = |id: &str| Ok::<_, anyhow::Error>(shard::of(&WorkflowId::new(id)?, SHARDS));
    let mut busy = Vec::new();
    for n in 0.. {
        let id = format!("busy-{n}");
        if of(&id)? == 0 {
            let client = client.clone();
            busy.push(tokio::spawn(async move { client.start(releases::first()).id(&id).await.is_ok() }));
        }
        if busy.len() == LEFT {
            break;
        }
    }
    let worker = worker(&arm, |worker| worker.workflow(releases::first)).await?;
    let mut shards = vec![0; SHARDS as usize];
    let begun = tokio::time::Instant::now();
    // As long as what is held here goes back and comes again, more than once.
    while begun.elapsed() < Duration::from_secs(6) || shards[1..].contains(&0) {
        let id = format!("order-{}", shards.iter().sum::<u32>());
        let of = of(&id)?;
        shards[of as usize] += 1;
        if of == 0 {
            continue;
        }
        let run = client.start(releases::first()).id(&id).await?;
        run.signal(Go).await?;
        let result = tokio::time::timeout(Duration::from_secs(5), run.result());
        assert_eq!(result.await.context("the others' messages do not wait")??, "first");
    }
    eventually("the garbage is a dead letter", || async {
        Ok((client.inbox_dead_letters().list().await?.len() == 1).then_some(()))
    })
    .await?;
    worker.stop().await;
    for start in busy {
        start.abort();
        assert!(!start.await.unwrap_or(false), "nobody here can say that it began");
    }
    assert_eq!(client.inbox_dead_letters().list().await?.len(), 1, "only the garbage is one");
    assert_eq!(transport.last_position("history-partition-0").await?, end, "nothing was written behind it");
    let inbox = left(&transport, topic::INBOX, topic::OWNERS, SubscriptionKind::KeyShared).await?;
    assert!(inbox.contains(&of_a_later_version("inbox")), "it is left to whoever can read it");
    let starts = inbox.iter().filter_map(|bytes| decode::<InboxFrame>(bytes).ok()).filter(|frame| frame.shard == 0);
    let mut starts: Vec<_> = starts.flat_map(|frame| frame.events).map(|event| event.workflow_id).collect();
    starts.retain(|id| id.as_str().starts_with("busy-"));
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), LEFT, "each is left to whoever can read its history");
    let timers = left(&transport, topic::TIMERS, topic::RELAY, SubscriptionKind::Shared).await?;
    assert!(timers.contains(&of_a_later_version("timer")), "somebody may be woken by it");
    Ok(())
}
