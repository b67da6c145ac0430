//! Interceptors and headers on either arm: what a client says beside a start reaches every task and child of the run, also
//! when its owner is killed, and whoever stands around attempts may keep them from beginning.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use everpulse::activity::ActivityContext;
use everpulse::client::intercept::{Answered, Call, CallKind, Interceptor as Around, Next as Rest};
use everpulse::client::{Error, ErrorKind, ResultError};
use everpulse::intercept::{AttemptError, Attempted, Happened, Interceptor, Next, RunEvent};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};

type Seen = Arc<Mutex<Vec<String>>>;

fn note(seen: &Seen, line: impl Into<String>) {
    seen.lock().expect("nobody panics").push(line.into());
}

/// What was seen, when there is so much: those who look on may be told a moment later.
async fn heard(seen: &Seen, lines: usize) -> Result<Vec<String>> {
    let enough = || async { Ok((seen.lock().expect("nobody panics").len() >= lines).then_some(())) };
    eventually("all is told", enough).await?;
    Ok(taken(seen))
}

fn taken(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().expect("nobody panics"))
}

/// Gives each start a trace, and keeps people from terminating runs.
struct Traces(Seen);

impl Around for Traces {
    async fn call(&self, mut call: Call, next: Rest<'_>) -> Result<Answered, Error> {
        let what = format!("{:?} {}", call.kind, call.name.as_deref().unwrap_or("-"));
        match call.kind {
            CallKind::Terminate => return Err(Error::refused("runs are cancelled here, not terminated")),
            CallKind::Start | CallKind::Signal | CallKind::Update => call.headers.insert("trace", "t-1"),
            _ => {}
        }
        let answered = next.run(call).await;
        note(
            &self.0,
            format!(
                "{what} {}",
                answered.as_ref().map_or_else(|error| format!("{:?}", error.kind()), |_| "ok".to_owned())
            ),
        );
        answered
    }
}

/// Asks whoever comes for a trace, twice, and listens.
struct Door(Seen);

impl Interceptor for Door {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        if context.header("trace").is_none() {
            return Err(AttemptError::refused("no trace").not_retryable());
        }
        if context.attempt() == 1 {
            return Err(AttemptError::refused("come again").retry_after(Duration::from_millis(10)));
        }
        let end = next.run().await;
        note(&self.0, format!("{} {}", context.activity(), if end.is_ok() { "done" } else { "failed" }));
        end
    }

    fn observe(&self, event: &RunEvent) {
        let trace = event.headers.get("trace").unwrap_or("-");
        match &event.what {
            Happened::Started { .. } => note(&self.0, format!("{} started {trace}", event.workflow)),
            Happened::Signalled { name, headers } => {
                note(&self.0, format!("{} {name} {trace} {}", event.workflow, headers.get("trace").unwrap_or("-")));
            }
            Happened::Updated { name, id, headers } => {
                note(&self.0, format!("{} {name} {id} {}", event.workflow, headers.get("trace").unwrap_or("-")));
            }
            Happened::Ended { status } => note(&self.0, format!("{} {status:?} {trace}", event.workflow)),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interceptors_what_a_client_says_beside_a_start_travels_with_the_run() -> Result<()> {
    let arm = Arm::new()?;
    let (seen, called) = (Seen::default(), Seen::default());
    let worker = Worker::connect(arm.url()).await?.intercept(Door(Arc::clone(&seen)));
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    let client = Client::connect(arm.url()).await?;
    let tracing = client.clone().intercept(Traces(Arc::clone(&called)));

    let run = tracing.start(traced()).id("a").await?;
    assert_eq!(run.result().await?, ["t-1"; 4]);
    assert_eq!(taken(&called), ["Start traced ok", "Result - ok"]);
    assert_eq!(
        heard(&seen, 7).await?,
        [
            "traced started t-1",
            "overhears done",
            "inherits started t-1",
            "overhears done",
            "inherits Completed t-1",
            "overhears done",
            "traced Completed t-1"
        ]
    );

    let listener = tracing.start(listens()).id("b").header("trace", "mine").enqueue().await?;
    listener.signal(Heard { n: 5 }).await?;
    assert_eq!(listener.result().await?, 5);
    assert_eq!(taken(&called), ["Start listens ok", "Signal Heard ok", "Result - ok"]);
    assert_eq!(heard(&seen, 3).await?, ["listens started t-1", "listens Heard t-1 t-1", "listens Completed t-1"]);

    let adds = tracing.start(puts(1)).id("c").enqueue().await?;
    assert!(adds.update(Put { n: 1 }).id("odd").await.is_err(), "it is odd");
    assert_eq!(adds.update(Put { n: 2 }).id("two").await?, 2);
    assert_eq!(adds.result().await?, 2);
    assert_eq!(
        taken(&called),
        ["Start puts ok", "Update Put ok", "Update Put ok", "UpdateResult Put ok", "Result - ok"],
        "that it was refused is an answer"
    );
    let of_run: Vec<String> = heard(&seen, 4).await?.into_iter().filter(|seen| seen.starts_with("puts")).collect();
    assert_eq!(of_run, ["puts started t-1", "puts Put two t-1", "puts Completed t-1"]);
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn interceptors_refuse_calls_and_attempts() -> Result<()> {
    let arm = Arm::new()?;
    let (seen, called) = (Seen::default(), Seen::default());
    let worker = Worker::connect(arm.url()).await?.intercept(Door(Arc::clone(&seen)));
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    let client = Client::connect(arm.url()).await?;
    let stranger = client.start(hello("ada".to_owned())).id("stranger").await?;
    let Err(ResultError::Failed(Failure::Failed(refused))) = stranger.result().await else { panic!("it is refused") };
    assert_eq!(refused, Failure::Refused { message: "no trace".to_owned() });

    let tracing = client.clone().intercept(Traces(Arc::clone(&called)));
    let listener = tracing.start(listens()).id("b").await?;
    let refused = listener.terminate("it is late").await.expect_err("it is refused");
    assert_eq!(refused.kind(), ErrorKind::Intercepted);
    listener.cancel("it is late").await?;
    assert!(matches!(listener.result().await, Err(ResultError::Failed(Failure::Cancelled))));
    let large = client.start(listens()).id("c").header("x", "y".repeat(5_000)).await.expect_err("they are too large");
    assert_eq!(large.kind(), ErrorKind::TooLarge);
    worker.stop().await;
    Ok(())
}

/// The owner of all shards ends itself at a point, once for each time that a traced run passes it.
async fn killed_at(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    for hit in 1..=5 {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let run = client.start(traced()).id(&id).header("trace", &id).enqueue().await?;
        victim.wait_killed().with_context(context)?;
        let mut heir = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
        let heard = run.result().await.with_context(context)?;
        ensure!(heard == vec![id; 4], "{}: {heard:?}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_bear_an_owner_killed_with_the_receipt() -> Result<()> {
    killed_at("append-receipt").await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_bear_an_owner_killed_when_a_command_is_sent() -> Result<()> {
    killed_at("command-sent").await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_bear_an_owner_killed_after_the_ack() -> Result<()> {
    killed_at("ack-sent").await
}
