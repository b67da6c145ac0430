//! Nothing that a client can do goes past its interceptors.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, SystemTime};

use everpulse_client::intercept::{Answered, Call, Interceptor, Next};
use everpulse_client::{Client, Error, ErrorKind, LetterId, ResultError};
use everpulse_protocol::{RunId, Token, WorkflowId};
use everpulse_schemas::Kind;
use everpulse_sdk as everpulse;
use everpulse_sdk::CompletionToken;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[everpulse::workflow(crate = everpulse_sdk)]
async fn nothing() -> Result<(), everpulse::Error> {
    Ok(())
}

#[everpulse::signal(crate = everpulse_sdk)]
#[derive(Debug, Serialize, Deserialize)]
struct Told;

#[everpulse::query(reply = u64, crate = everpulse_sdk)]
#[derive(Debug, Serialize, Deserialize)]
struct Asked;

/// Lets nobody through.
struct Nobody;

impl Interceptor for Nobody {
    async fn call(&self, _: Call, _: Next<'_>) -> Result<Answered, Error> {
        Err(Error::refused("nobody gets through"))
    }
}

/// Calls that were refused, by the names of their functions.
#[derive(Default)]
struct Refused(BTreeSet<&'static str>);

impl Refused {
    fn note<T: Debug>(&mut self, name: &'static str, answer: Result<T, Error>) {
        let error = answer.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Intercepted, "{name}: {error}");
        self.0.insert(name);
    }
}

fn call_error<E>(error: ResultError<E>) -> Error {
    match error {
        ResultError::Other(error) => error,
        _ => panic!("it was not refused"),
    }
}

/// What makes a client, before there is anything to intercept, and what calls the interceptors.
const BEFORE: [&str; 5] = ["around", "connect", "connect_from_env", "connect_to", "over"];

/// The names of all public async functions in a directory of sources, but for those of updates.
fn public(source: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(source).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names.extend(public(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("update.rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let signatures = text.lines().filter_map(|line| line.trim().strip_prefix("pub async fn "));
            names.extend(signatures.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned));
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_client_passes_its_interceptors() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("embedded:{}?shards=1", dir.path().display());
    let client = Client::connect(&url).await.expect("connected").intercept(Nobody);
    let mut refused = Refused::default();

    refused.note("enqueue", client.start(nothing()).enqueue().await);
    refused.note("start", client.start(nothing()).id("some").await);
    let run = client.run_named("some");
    refused.note("describe", run.describe().await);
    refused.note("export", run.export().await);
    refused.note("export_with_headers", run.export_with_headers().await);
    refused.note("published", run.published::<u64>().await);
    refused.note("query", run.query(Asked).await);
    refused.note("query_named", run.query_named::<u64>("Asked", &()).await);
    refused.note("signal", run.signal(Told).await);
    refused.note("signal_named", run.signal_named("Told", &()).await);
    refused.note("cancel", run.cancel("enough").await);
    refused.note("terminate", run.terminate("enough").await);
    refused.note("resume", run.resume().await);
    refused.note("resume", client.resume("some").await);
    refused.note("result", client.run(nothing, "some").result().await.map_err(call_error));
    let limit = Duration::from_secs(1);
    refused.note("result_timeout", client.run(nothing, "some").result_timeout(limit).await.map_err(call_error));

    let id = WorkflowId::new("some").expect("a good id");
    let token = Token { workflow_id: id, run_id: RunId(Uuid::nil()), step: 0, attempt: Some(1) };
    let token: CompletionToken<u64, String> = token.to_string().parse().expect("a token");
    refused.note("complete", client.complete(&token, 1_u64).await);
    refused.note("fail", client.fail(&token, "down".to_owned()).await);
    refused.note("complete", client.activity(&token).complete(1_u64).await);
    refused.note("fail", client.activity(&token).fail("down".to_owned()).await);
    refused.note("fail_for_good", client.activity(&token).fail_for_good("down".to_owned()).await);
    refused.note("heartbeat", client.activity(&token).heartbeat(1).await);

    refused.note("collect_blobs", client.collect_blobs(SystemTime::UNIX_EPOCH).await);
    refused.note("schemas", client.schemas().await);
    refused.note("forget_schema", client.forget_schema(Kind::Workflow, "nothing", None).await);
    refused.note("schedules", client.schedules().await);

    let schedule = client.schedule("nightly");
    let spec = || client.schedule("nightly").cron("0 2 * * *");
    refused.note("create", spec().create(nothing()).await);
    refused.note("create_named", spec().create_named("nothing", &()).await);
    refused.note("pause", schedule.pause("").await);
    refused.note("unpause", schedule.unpause().await);
    refused.note("trigger", schedule.trigger().await);
    refused.note("backfill", schedule.backfill(SystemTime::UNIX_EPOCH..SystemTime::now()).await);
    refused.note("describe", schedule.describe().await);
    refused.note("update", schedule.update(|_| ()).await);
    refused.note("delete", schedule.delete().await);

    let letters = client.dead_letters("some").expect("a good name");
    let letter: LetterId = "1:2".parse().expect("an id");
    refused.note("list", letters.list().await);
    refused.note("show", letters.show(letter).await);
    refused.note("redrive", letters.redrive(letter).await);
    refused.note("drop", letters.drop(letter).await);

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let unseen: Vec<String> = public(&source)
        .into_iter()
        .filter(|name| !BEFORE.contains(&name.as_str()) && !refused.0.contains(name.as_str()))
        .collect();
    assert!(unseen.is_empty(), "add them to this test: {unseen:?}");
}
