//! A word of its own goes through every place in which values travel, and is looked for in all that the broker gets, gives
//! and keeps. Without encryption each of them is found there: so the search can fail.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use everpulse::client::ResultError;
use everpulse::client::intercept::{Answered, Call, CallKind, Interceptor, Next};
use everpulse::definition::Never;
use everpulse::prelude::*;
use everpulse::{Blobs, Codec, CompletionToken, Keys, WorkerHandle, info};
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use serde::{Deserialize, Serialize};

use crate::wiretap::{Wiretap, holds};

/// Where values travel. The word of each is told from those of the others.
const PLACES: [&str; 31] = [
    "input",
    "header",
    "signal-header",
    "result",
    "argument",
    "activity-result",
    "heartbeat",
    "retried-error",
    "retried-source",
    "final-error",
    "exhausted-argument",
    "exhausted-error",
    "activity-panic",
    "step-result",
    "step-error",
    "signal",
    "signal-by-tag",
    "query",
    "answer",
    "query-panic",
    "published",
    "promise",
    "broken-promise",
    "completion",
    "outside-heartbeat",
    "failed-run",
    "panicked-run",
    "child-argument",
    "child-signal",
    "child-result",
    "child-error",
];

fn canary(place: &str) -> String {
    assert!(PLACES.contains(&place), "{place} is looked for");
    format!("canary-{place}-7e31")
}

#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{word}")]
struct Trouble {
    word: String,
    #[serde(skip)]
    source: Option<Source>,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Source(String);

fn trouble(place: &str) -> Trouble {
    Trouble { word: canary(place), source: None }
}

#[derive(Clone, Serialize, Deserialize)]
struct Told {
    word: String,
    promise: CompletionToken<String>,
    broken: CompletionToken<String>,
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Hint {
    word: String,
}

#[query(reply = String)]
#[derive(Serialize, Deserialize)]
struct Ask {
    word: String,
}

/// Fails once, then comes back with a word; beats with another.
#[activity(timeout = "20s", retry(initial = "20ms", max_attempts = 5))]
async fn carries(word: String) -> Result<String, Trouble> {
    let context = everpulse::activity::context();
    assert_eq!(word, canary("argument"));
    assert_eq!(context.header("word"), Some(canary("header").as_str()));
    context.heartbeat(canary("heartbeat"));
    if context.attempt() == 1 {
        let source = Some(Source(canary("retried-source")));
        return Err(Trouble { source, ..trouble("retried-error") });
    }
    assert_eq!(context.last_heartbeat::<String>(), Some(canary("heartbeat")));
    Ok(canary("activity-result"))
}

#[activity(retry(never = Trouble { .. }))]
async fn refuses() -> Result<(), Trouble> {
    Err(trouble("final-error"))
}

#[activity(retry(initial = "10ms", max_attempts = 2))]
async fn exhausts(word: String) -> Result<(), Trouble> {
    assert_eq!(word, canary("exhausted-argument"));
    Err(trouble("exhausted-error"))
}

#[activity(retry(initial = "10ms", max_attempts = 1))]
async fn panics() -> Result<(), Trouble> {
    panic!("{}", canary("activity-panic"))
}

/// Somebody else completes it.
#[activity(timeout = "60s")]
async fn leaves() -> Result<String, Trouble> {
    everpulse::activity::context().complete_later().await
}

#[workflow]
async fn goes_everywhere(word: String) -> Result<String, everpulse::Error> {
    assert_eq!(word, canary("input"));
    on_query(|Ask { word }: Ask| {
        assert_ne!(word, canary("query-panic"), "{word}");
        assert_eq!(word, canary("query"));
        canary("answer")
    });
    let (promise, broken) = (promise::<String>(), promise::<String>());
    publish(&Told { word: canary("published"), promise: promise.token(), broken: broken.token() });
    assert_eq!(signal::<Hint>().recv().await.word, canary("signal"));
    // For all that carry the tag, for which it is sealed.
    assert_eq!(signal::<Hint>().recv().await.word, canary("signal-by-tag"));
    assert_eq!(carries(canary("argument")).await?, canary("activity-result"));
    assert_eq!(refuses().await.expect_err("it refuses").to_string(), canary("final-error"));
    let exhausted = exhausts(canary("exhausted-argument")).await.expect_err("it never works");
    assert!(exhausted.to_string().contains(&canary("exhausted-error")), "{exhausted}");
    let panicked = panics().await.expect_err("it panics");
    assert!(panicked.to_string().contains(&canary("activity-panic")), "{panicked}");
    let stepped = step("says", || async { Ok::<_, Never>(canary("step-result")) }).await;
    assert_eq!(stepped.expect("it cannot fail"), canary("step-result"));
    let failed = step("fails", || async { Err::<(), _>(trouble("step-error")) }).await;
    assert_eq!(failed.expect_err("it fails").to_string(), canary("step-error"));
    assert_eq!(promise.await?, canary("promise"));
    assert_eq!(broken.await.expect_err("it is broken").to_string(), canary("broken-promise"));
    assert_eq!(leaves().await?, canary("completion"));
    // Under an id of its own, for which what it is told and what it tells is sealed.
    let child = listens(canary("child-argument")).start().await?;
    child.signal(Hint { word: canary("child-signal") }).await?;
    assert_eq!(child.await?, canary("child-result"));
    assert_eq!(fails_as_child().await.expect_err("it fails").to_string(), canary("child-error"));
    Ok(canary("result"))
}

#[workflow]
async fn listens(word: String) -> String {
    assert_eq!(word, canary("child-argument"));
    assert_eq!(info().headers.get("word"), Some(canary("header").as_str()));
    assert_eq!(signal::<Hint>().recv().await.word, canary("child-signal"));
    canary("child-result")
}

#[workflow]
async fn fails_as_child() -> Result<(), Trouble> {
    Err(trouble("child-error"))
}

#[workflow]
async fn fails() -> Result<(), Trouble> {
    Err(trouble("failed-run"))
}

#[workflow]
async fn falls_over() -> u64 {
    panic!("{}", canary("panicked-run"))
}

#[workflow]
async fn waits(word: String) -> String {
    assert_eq!(word, canary("input"));
    signal::<Hint>().recv().await.word
}

/// Puts a word of its own on signals.
struct SaysMore;

impl Interceptor for SaysMore {
    async fn call(&self, mut call: Call, next: Next<'_>) -> Result<Answered, everpulse::client::Error> {
        if call.kind == CallKind::Signal {
            call.headers.insert("word", canary("signal-header"));
        }
        next.run(call).await
    }
}

/// Sends a word through every place, and gives what was heard.
async fn play(arm: &Arm, codec: Codec, blobs: Option<Blobs>) -> Result<Wiretap> {
    // Sets the application up, and holds the embedded broker.
    let keeper = Client::connect(arm.url()).await?;
    let tap = Wiretap::start(&arm.checked(&[], None)?.service_url).await?;
    let url = arm.url_through(&tap.url)?;
    let worker = worker(arm, &url, codec.clone(), blobs.clone()).await?;
    let client = Client::connect(&url).await?.codec(codec).intercept(SaysMore);
    let client = match blobs {
        Some(blobs) => client.blobs(blobs),
        None => client,
    };
    let waiting = client.start(waits(canary("input"))).id("waiting").await?;
    let run = client.start(goes_everywhere(canary("input"))).id("everywhere").tag("tapped");
    let run = run.header("word", canary("header")).await?;
    assert_eq!(run.query(Ask { word: canary("query") }).await?, canary("answer"));
    let refused = run.query(Ask { word: canary("query-panic") }).await.expect_err("it panics");
    assert!(refused.to_string().contains(&canary("query-panic")), "{refused}");
    let told = eventually("it is published", || async { Ok(run.published::<Told>().await?) }).await?;
    assert_eq!(told.word, canary("published"));
    run.signal(Hint { word: canary("signal") }).await?;
    assert_eq!(client.signal_tag("tapped", Hint { word: canary("signal-by-tag") }).await?.runs, 1);
    client.complete(&told.promise, canary("promise")).await?;
    client.fail(&told.broken, everpulse::Error::msg(canary("broken-promise"))).await?;
    let token = eventually("it is left to others", || async {
        let pending = run.describe().await?.pending;
        Ok(pending.into_iter().find(|step| step.name == "leaves").and_then(|step| step.token))
    })
    .await?;
    let token: CompletionToken<String, Trouble> = token.to_string().parse()?;
    client.activity(&token).heartbeat(canary("outside-heartbeat")).await?;
    client.complete(&token, canary("completion")).await?;
    assert_eq!(run.result().await?, canary("result"));

    // What lies in a store is fetched for who looks at one letter.
    let (operator, mut letters) = (client.dead_letters("default")?, Vec::new());
    for listed in operator.list().await? {
        letters.push(operator.show(listed.id).await?);
    }
    let letters = format!("{letters:?}");
    assert!(letters.contains(&canary("exhausted-error")), "an operator with the key sees why: {letters}");

    let Err(ResultError::Failed(failure)) = client.start(fails()).id("fails").await?.result().await else {
        panic!("it fails")
    };
    assert_eq!(failure.to_string(), canary("failed-run"));
    let fallen = client.start(falls_over()).id("fallen").await?;
    let parked = eventually("the run is parked", || async { Ok(fallen.describe().await?.parked) }).await?;
    assert!(parked.message.contains(&canary("panicked-run")), "{}", parked.message);
    assert!(run.export().await?.contains(&canary("input")));
    assert_eq!(waiting.describe().await?.pending.len(), 0);
    worker.stop().await;
    drop(keeper);
    Ok(tap)
}

async fn worker(arm: &Arm, url: &str, codec: Codec, blobs: Option<Blobs>) -> Result<WorkerHandle> {
    let worker =
        Worker::connect(url).await.context("connecting a worker")?.codec(codec).cache_dir(arm.dir().join("cache"));
    let worker = worker.options(|options| (options.live_runs_per_shard, options.runs_at_hand_per_shard) = (0, 0));
    let worker = match blobs {
        Some(blobs) => worker.blobs(blobs),
        None => worker,
    };
    let worker = worker.workflow(goes_everywhere).workflow(fails).workflow(falls_over).workflow(waits);
    let worker = worker.workflow(listens).workflow(fails_as_child);
    let worker = worker.activity(carries).activity(refuses).activity(exhausts).activity(panics).activity(leaves);
    worker.spawn().await.context("starting a worker")
}

/// The files that hold a text. The broker lives on meanwhile, so files may go while they are looked for.
fn files_with(dir: &Path, text: &str) -> Result<Vec<String>> {
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, text)?);
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) if holds(&bytes, text) => found.push(path.display().to_string()),
            Err(error) if !is_gone(&error) => return Err(error).with_context(|| path.display().to_string()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_encryption_the_broker_sees_every_value() -> Result<()> {
    let arm = Arm::new()?;
    let tap = play(&arm, Codec::message_pack(), None).await?;
    let unheard: Vec<&str> = PLACES.into_iter().filter(|place| !tap.has_heard(&canary(place))).collect();
    ensure!(unheard.is_empty(), "the search would not find these: {unheard:?}");
    ensure!(!files_with(&arm.dir().join("cache"), &canary("input"))?.is_empty(), "the cache holds runs that wait");
    if arm.is_embedded() {
        ensure!(!files_with(&arm.dir().join("broker"), &canary("input"))?.is_empty(), "the broker keeps what it gets");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_encryption_neither_the_broker_nor_a_disk_sees_any() -> Result<()> {
    let arm = Arm::new()?;
    let tap = play(&arm, Codec::json().encrypt(Keys::new("k1", [7; 32])), None).await?;
    for place in PLACES {
        let word = canary(place);
        ensure!(!tap.has_heard(&word), "{place} passes to the broker, or from it, in plain");
        let files = files_with(arm.dir(), &word)?;
        ensure!(files.is_empty(), "{place} lies in {files:?}");
    }
    // Names stay readable, so it was this that was looked through.
    for name in ["goes_everywhere", "carries", "Hint", "everywhere", "aes256gcm:k1"] {
        ensure!(tap.has_heard(name), "{name} is not there");
    }
    Ok(())
}

/// The places whose words are those of failures, whose messages stay where they are unless they are sealed.
const WORDS: [&str; 9] = [
    "retried-error",
    "retried-source",
    "final-error",
    "exhausted-error",
    "activity-panic",
    "step-error",
    "query-panic",
    "broken-promise",
    "child-error",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_out_of_line_does_not_pass_the_broker_at_all() -> Result<()> {
    let arm = Arm::new()?;
    let files = arm.dir().join("blobs");
    // Everything is large.
    let blobs = Blobs::in_directory("files", &files).create()?.above(0);
    let tap = play(&arm, Codec::message_pack(), Some(blobs)).await?;
    let words = [&WORDS[..], &["failed-run", "panicked-run"]].concat();
    for place in PLACES.into_iter().filter(|place| !words.contains(place)) {
        let word = canary(place);
        ensure!(!tap.has_heard(&word), "{place} passes to the broker, or from it");
        ensure!(!files_with(&files, &word)?.is_empty(), "{place} is not in the store");
        ensure!(files_with(&arm.dir().join("cache"), &word)?.is_empty(), "{place} lies in the cache");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_is_sealed_in_the_store_as_well() -> Result<()> {
    let arm = Arm::new()?;
    let blobs = Blobs::in_directory("files", arm.dir().join("blobs")).create()?.above(0);
    let tap = play(&arm, Codec::json().encrypt(Keys::new("k1", [7; 32])), Some(blobs)).await?;
    for place in PLACES {
        let word = canary(place);
        ensure!(!tap.has_heard(&word), "{place} passes to the broker, or from it, in plain");
        let files = files_with(arm.dir(), &word)?;
        ensure!(files.is_empty(), "{place} lies in {files:?}");
    }
    ensure!(tap.has_heard("aes256gcm:k1+blob:files"), "it was this that was looked through");
    Ok(())
}
