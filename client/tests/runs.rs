//! A client and a worker at a real broker: starts, results, questions, dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use everpulse_client::{Address, Client, ErrorKind, IdPolicy, Options, ResultError, RunStatus};
use everpulse_protocol::dead_letter::Letter;
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::golden::Golden;
use everpulse_protocol::history::{Frame, Hash, Verified};
use everpulse_protocol::{Timestamp, WriterId, decode, encode, topic};
use everpulse_sdk as everpulse;
use everpulse_sdk::{Failure, Retry};
use everpulse_transport::{self as transport, Message, PublisherOptions, SetUp, Transport};
use everpulse_worker::{Worker, WorkerHandle};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum OrderError {
    #[error("declined: {0}")]
    Declined(String),
    #[error(transparent)]
    Payment(#[from] Failure<String>),
}

#[everpulse::activity(crate = everpulse_sdk)]
async fn greet(name: String) -> Result<String, everpulse::Error> {
    Ok(format!("hello, {name}"))
}

#[everpulse::workflow(crate = everpulse_sdk)]
async fn hello(name: String) -> Result<String, everpulse::Error> {
    Ok(greet(name).await?)
}

#[everpulse::workflow(crate = everpulse_sdk)]
async fn decline(card: String) -> Result<u64, OrderError> {
    Err(OrderError::Declined(card))
}

#[everpulse::signal(crate = everpulse_sdk)]
#[derive(Debug, Serialize, Deserialize)]
struct Approved {
    by: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stage {
    waits_for: String,
}

#[everpulse::workflow(crate = everpulse_sdk)]
async fn approval() -> Result<String, everpulse::Error> {
    everpulse::publish(&Stage { waits_for: "approval".to_owned() });
    Ok(everpulse::signal::<Approved>().recv().await.by)
}

/// Fails in the first attempt; a person has to look then.
#[everpulse::activity(crate = everpulse_sdk, exhausted = "park", retry(max_attempts = 1))]
async fn book(seat: u32) -> Result<u32, String> {
    let attempt = everpulse::activity::context().attempt();
    if attempt == 1 { Err("no connection".to_owned()) } else { Ok(seat + attempt) }
}

#[everpulse::activity(crate = everpulse_sdk)]
async fn never_works(what: String) -> Result<(), String> {
    Err(format!("cannot {what}"))
}

#[everpulse::workflow(crate = everpulse_sdk)]
async fn booking(seat: u32) -> Result<u32, OrderError> {
    Ok(book(seat).await?)
}

#[everpulse::workflow(crate = everpulse_sdk)]
async fn stubborn() -> Result<(), OrderError> {
    Ok(never_works("fly".to_owned()).retry(Retry::new().initial(Duration::from_millis(1)).max_attempts(2)).await?)
}

/// A broker of this run; EVERPULSE_ARM names the only one.
struct Arm {
    address: Address,
    _dir: Option<TempDir>,
}

fn arms() -> Vec<Arm> {
    // Shown when a test fails, with RUST_LOG. Set by the first of them.
    let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init();
    let only = std::env::var("EVERPULSE_ARM").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut arms = Vec::new();
    if wanted("embedded") {
        let dir = tempfile::tempdir().expect("a temporary directory");
        arms.push(Arm { address: Address::embedded(dir.path()), _dir: Some(dir) });
    }
    if wanted("pulsar") {
        match (std::env::var("EVERPULSE_TEST_PULSAR_URL"), std::env::var("EVERPULSE_TEST_PULSAR_ADMIN_URL")) {
            (Ok(service), Ok(admin)) => {
                let namespace = uuid::Uuid::now_v7().simple().to_string();
                let address = format!("{service}/public/test-{namespace}?admin={admin}&shards=2&inbox_partitions=1");
                arms.push(Arm { address: address.parse().expect("a good address"), _dir: None });
            }
            _ if only.is_some() => panic!("EVERPULSE_ARM is pulsar, and EVERPULSE_TEST_PULSAR_URL is not set"),
            _ => eprintln!("NOT RUN on Apache Pulsar: EVERPULSE_TEST_PULSAR_URL is not set"),
        }
    }
    arms
}

impl Arm {
    async fn client(&self) -> Client {
        Client::connect_to(&self.address, Options::default().timeout(LONG)).await.expect("connected")
    }

    async fn worker(&self) -> WorkerHandle {
        Worker::connect(self.address.to_string())
            .await
            .expect("connected")
            .workflow(hello)
            .workflow(decline)
            .workflow(approval)
            .workflow(booking)
            .workflow(stubborn)
            .activity(greet)
            .activity(book)
            .activity(never_works)
            .eager(false)
            .spawn()
            .await
            .expect("serves")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gives_its_typed_result_and_one_id_is_one_run() {
    for arm in arms() {
        let (client, worker) = (arm.client().await, arm.worker().await);
        let run = client.start(hello("Ada".to_owned())).id("greeting-1").tag("vip").await.expect("started");
        assert_eq!(run.result_timeout(LONG).await.expect("a greeting"), "hello, Ada");
        let again = client.start(hello("Bob".to_owned())).id("greeting-1").await.expect("attached");
        assert_eq!(again.run_id(), run.run_id());
        assert_eq!(again.result_timeout(LONG).await.expect("the same"), "hello, Ada");
        let taken = client.start(hello("Eve".to_owned())).id("greeting-1").policy(IdPolicy::Reject).await;
        let taken = taken.expect_err("refused");
        assert_eq!(taken.kind(), ErrorKind::Taken);
        assert!(taken.to_string().contains("greeting-1 is taken by a closed run"), "{taken}");
        let policy = IdPolicy::RestartWhenClosed;
        let new = client.start(hello("Eve".to_owned())).id("greeting-1").policy(policy).await.expect("anew");
        assert_ne!(new.run_id(), run.run_id());
        let handle = client.run(hello, "greeting-1");
        assert_eq!(handle.result_timeout(LONG).await.expect("the newest"), "hello, Eve");
        let json = client.run_named("greeting-1").result_timeout(LONG).await.expect("the newest");
        assert_eq!(json, serde_json::json!("hello, Eve"));
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_gives_the_authors_error() {
    for arm in arms() {
        let (client, worker) = (arm.client().await, arm.worker().await);
        let run = client.start(decline("4242".to_owned())).await.expect("started");
        let error = run.result_timeout(LONG).await.expect_err("declined");
        let failure = error.into_failure().expect("the run's own");
        assert_eq!(failure, Failure::Failed(OrderError::Declined("4242".to_owned())));

        let named = client.start_named("nobody_wrote_this", &BTreeMap::<String, u8>::new()).id("lost").await;
        let view = named.expect("taken in").describe().await.expect("parked");
        assert_eq!(view.status, RunStatus::Parked);
        assert!(view.parked.expect("no code").message.contains("nobody_wrote_this"));
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_described_told_and_asked() {
    for arm in arms() {
        let (client, worker) = (arm.client().await, arm.worker().await);
        let run = client.start(approval()).id("approval-1").await.expect("started");
        let stage: Option<Stage> = run.published().await.expect("asked");
        assert_eq!(stage, Some(Stage { waits_for: "approval".to_owned() }));
        let view = run.describe().await.expect("known");
        assert_eq!((view.workflow.as_str(), view.close, view.status), ("approval", None, RunStatus::Open));
        run.signal(Approved { by: "Grace".to_owned() }).await.expect("stored");
        assert_eq!(run.result_timeout(LONG).await.expect("approved"), "Grace");
        let late = run.signal(Approved { by: "Late".to_owned() }).await.expect_err("it has ended");
        assert_eq!(late.kind(), ErrorKind::AlreadyClosed);
        let lost = client.run(approval, "no-such-run").describe().await.expect_err("never started");
        assert_eq!(lost.kind(), ErrorKind::NotFound);

        let other = client.start(approval()).id("approval-2").await.expect("started");
        other.cancel("changed our mind").await.expect("stored");
        let error = other.result_timeout(LONG).await.expect_err("cancelled");
        assert!(matches!(error.failure(), Some(Failure::Cancelled)), "{error:?}");
        let third = client.start(approval()).id("approval-3").await.expect("started");
        third.terminate("enough").await.expect("stored");
        assert_eq!(third.describe().await.expect("known").status, RunStatus::Terminated);
        let error = third.result_timeout(LONG).await.expect_err("terminated");
        assert!(matches!(error.failure(), Some(Failure::Terminated)), "{error:?}");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_descriptions_are_there_without_a_worker() {
    for arm in arms() {
        let (client, worker) = (arm.client().await, arm.worker().await);
        let run = client.start(hello("Ada".to_owned())).id("done").await.expect("started");
        run.result_timeout(LONG).await.expect("a greeting");
        let open = client.start(approval()).id("open").await.expect("started");
        open.describe().await.expect("known");
        worker.stop().await;

        let other = arm.client().await;
        assert_eq!(other.run(hello, "done").result_timeout(LONG).await.expect("from history"), "hello, Ada");
        let view = other.run(approval, "open").describe().await.expect("from history");
        assert_eq!((view.run_id, view.close), (open.run_id().expect("known"), None));
        let short = Duration::from_secs(4);
        let waiting = other.run(approval, "open").result_timeout(short).await.expect_err("nobody works");
        assert!(matches!(waiting, ResultError::Timeout(_)), "{waiting:?}");

        // What is stored meanwhile takes effect when a worker comes.
        let stored = other.start(hello("Bob".to_owned())).id("later").enqueue().await.expect("stored");
        let worker = arm.worker().await;
        assert_eq!(stored.result_timeout(LONG).await.expect("a greeting"), "hello, Bob");
        worker.stop().await;
    }
}

/// History of one partition, of which the first frame is gone.
async fn write_what_is_left(transport: &Transport, shard: u32) {
    let publisher = transport.publisher(&topic::partition(topic::HISTORY, shard), PublisherOptions::default());
    let (mut previous, mut verified) = (Hash([7; 32]), None);
    for number in 1..4 {
        let frame = Frame {
            shard,
            number,
            previous,
            writer: WriterId(uuid::Uuid::from_u128(9)),
            verified,
            at: Timestamp(number),
            config: None,
            wake: None,
            sent_below: 0,
            queues: Vec::new(),
            records: Vec::new(),
        };
        let payload = encode(&frame);
        previous = Hash::of(&payload);
        let receipt = publisher.publish(Message::new(Some(topic::shard_key(shard)), payload)).await.expect("stored");
        verified = receipt.map(|position| Verified { number, position });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_which_something_is_gone_is_refused_when_nobody_works() {
    for arm in arms() {
        let transport = Transport::connect(&arm.address, transport::Options::default()).await.expect("connected");
        let layout = transport.set_up(&SetUp::default()).await.expect("set up");
        for shard in 0..layout.shards {
            write_what_is_left(&transport, shard).await;
        }
        let client = arm.client().await;
        let run = client.run(hello, "started-long-ago");
        let Err(ResultError::Other(error)) = run.result_timeout(LONG).await else { panic!("its history is gone") };
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("begins with frame 1 where frame 0 is needed"), "{error}");
        let error = run.describe().await.expect_err("its history is gone");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_step_is_redriven_and_an_ended_one_is_not() {
    for arm in arms() {
        let (client, worker) = (arm.client().await, arm.worker().await);
        let parked = client.start(booking(7)).id("parked").await.expect("started");
        let failed = client.start(stubborn()).id("failed").await.expect("started");
        let error = failed.result_timeout(LONG).await.expect_err("attempts ran out");
        let Some(Failure::Failed(OrderError::Payment(Failure::Exhausted { attempts: 2, last }))) = error.failure()
        else {
            panic!("{error:?}")
        };
        assert_eq!(**last, Failure::Failed("cannot fly".to_owned()));
        let letters = client.dead_letters("default").expect("a queue");
        let listed = loop {
            let listed = letters.list().await.expect("listed");
            if listed.len() == 2 {
                break listed;
            }
        };
        for each in listed {
            let Letter::Task(task) = letters.show(each.id).await.expect("there").letter else { panic!("a task") };
            let redriven = letters.redrive(each.id).await;
            if task.activity == "book" {
                redriven.expect("it waits for that");
                let gone = letters.show(each.id).await.expect_err("redriven");
                assert_eq!(gone.kind(), ErrorKind::NotFound);
            } else {
                assert_eq!(redriven.expect_err("the run has ended").kind(), ErrorKind::AlreadyFailed);
                letters.drop(each.id).await.expect("dropped");
            }
        }
        assert_eq!(parked.result_timeout(LONG).await.expect("booked"), 9);
        let (one, two) = tokio::join!(letters.list(), letters.list());
        assert_eq!((one.expect("listed"), two.expect("listed, a little later")), (vec![], vec![]));
        let unknown = client.dead_letters("nobody-serves-this").expect("a name").list().await.expect_err("no queue");
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_at_once_all_give_their_results() {
    for arm in arms() {
        let (client, worker) = (arm.client().await, arm.worker().await);
        let runs = (0..1_000).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let run = client.start(hello(n.to_string())).id(format!("hello-{n}")).await.expect("started");
                run.result_timeout(LONG * 3).await.expect("a greeting")
            })
        });
        for (n, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(run.await.expect("no panic"), format!("hello, {n}"));
        }
        worker.stop().await;
    }
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_sent() {
    for arm in arms() {
        let client = arm.client().await;
        let bad = client.start(hello("Ada".to_owned())).id("order\n42").await.expect_err("a line feed");
        assert_eq!(bad.kind(), ErrorKind::Invalid);
        assert!(bad.to_string().contains("control characters"), "{bad}");
        let bad = client.run(hello, "").describe().await.expect_err("no id");
        assert_eq!(bad.kind(), ErrorKind::Invalid);
        let large = client.start(hello("x".repeat(6 << 20))).await.expect_err("too large");
        assert_eq!(large.kind(), ErrorKind::TooLarge);
        assert!(large.to_string().contains("pass where they are"), "{large}");
        assert_eq!(client.dead_letters("a queue").expect_err("a blank").kind(), ErrorKind::Invalid);
    }
    let nobody = Client::connect("pulsar://127.0.0.1:1").await.expect_err("nobody is there");
    assert_eq!(nobody.kind(), ErrorKind::Unreachable);
    assert_eq!(Client::connect("http://h").await.expect_err("no address").kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_exported_from_history_whether_it_goes_on_or_not() {
    for arm in arms() {
        let (worker, client) = (arm.worker().await, arm.client().await);
        let open = client.start(approval()).id("export-open").await.expect("started");
        let closed = client.start(hello("Ada".to_owned())).id("export-closed").await.expect("started");
        closed.result().await.expect("it greets");
        worker.stop().await;
        let read = |json: String| Golden::from_json(&json).expect("a golden history");
        let closed = read(client.run_named("export-closed").export().await.expect("exported"));
        assert_eq!((closed.workflow.as_str(), closed.version, closed.records.len()), ("hello", 1, 2));
        assert!(closed.records[1].close.is_some());
        let open = read(open.export().await.expect("exported"));
        assert!(!open.records.is_empty() && open.records.iter().all(|record| record.close.is_none()));
        let error = client.run_named("export-none").export().await.expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

/// So a worker that knows it does not take whoever has it for gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_again_says_so() {
    for arm in arms() {
        let client = arm.client().await;
        let transport = Transport::connect(&arm.address, transport::Options::default()).await.expect("connected");
        let layout = transport.set_up(&SetUp::default()).await.expect("set up");
        // Nobody works, so it is asked again and again.
        let asking = tokio::spawn(async move { client.start(hello("world".to_owned())).id("asked").await.is_ok() });
        let said = tokio::time::timeout(LONG, async {
            loop {
                let mut said = Vec::new();
                for partition in 0..layout.inbox_partitions {
                    let topic = topic::partition(topic::INBOX, partition);
                    for entry in transport.read(&topic, None, None).await.expect("it can be read") {
                        let frame: InboxFrame = decode(&entry.payload).expect("a frame");
                        said.extend(frame.events.into_iter().map(|event| (event.id, event.again)));
                    }
                }
                if said.len() > 2 {
                    break said;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let said = said.await.expect("it is asked again");
        asking.abort();
        let again: Vec<bool> = said.iter().map(|(_, again)| *again).collect();
        assert_eq!(again[..3], [false, true, true], "{said:?}");
        assert!(said.iter().all(|(id, _)| *id == said[0].0), "it is one request: {said:?}");
    }
}
