//! For tests: a broker with an application of one shard, tasks made by hand, and a look into its topics.

use std::collections::VecDeque;
use std::time::Duration;

use everpulse_protocol::dead_letter::DeadLetter;
use everpulse_protocol::event::{Event, EventBody, InboxFrame};
use everpulse_protocol::task::{OnExhausted, RetryPolicy, Task, TaskOptions};
use everpulse_protocol::{EventId, Payload, RunId, WorkflowId, decode, topic};
use everpulse_transport::{Address, Options, Reader, SetUp, Transport};
use uuid::Uuid;

use crate::clock;
use crate::outbox::Outbox;

/// Long enough for a loaded machine: a test that waits this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A broker with an application that nobody has used.
pub(crate) struct Trial {
    pub transport: Transport,
    pub outbox: Outbox,
    _dir: Option<tempfile::TempDir>,
}

impl Trial {
    /// One per arm of this run: embedded always, Apache Pulsar when EVERPULSE_TEST_PULSAR_URL names one.
    /// EVERPULSE_ARM names the only one.
    pub async fn all() -> Vec<Self> {
        let only = std::env::var("EVERPULSE_ARM").ok();
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        let mut trials = Vec::new();
        if wanted("embedded") {
            let dir = tempfile::tempdir().expect("a temporary directory");
            trials.push(Self::at(Address::embedded(dir.path()), Some(dir)).await);
        }
        if wanted("pulsar") {
            match (std::env::var("EVERPULSE_TEST_PULSAR_URL"), std::env::var("EVERPULSE_TEST_PULSAR_ADMIN_URL")) {
                (Ok(service), Ok(admin)) => {
                    let address = format!("{service}/public/test-{}?admin={admin}", Uuid::now_v7().simple());
                    trials.push(Self::at(address.parse().expect("a good address"), None).await);
                }
                _ if only.is_some() => panic!("EVERPULSE_ARM is pulsar, and EVERPULSE_TEST_PULSAR_URL is not set"),
                _ => eprintln!("NOT RUN on Apache Pulsar: EVERPULSE_TEST_PULSAR_URL is not set"),
            }
        }
        trials
    }

    async fn at(address: Address, dir: Option<tempfile::TempDir>) -> Self {
        let transport = Transport::connect(&address, Options::default()).await.expect("a broker");
        let one = SetUp::default().shards(Some(1)).inbox_partitions(Some(1));
        let layout = transport.set_up(&one).await.expect("set up");
        let outbox = Outbox::new(transport.clone(), layout);
        Self { transport, outbox, _dir: dir }
    }

    /// The inbox from its beginning.
    pub fn inbox(&self) -> Inbox {
        let reader = self.transport.reader(&topic::partition(topic::INBOX, 0), None);
        Inbox { reader, events: VecDeque::new() }
    }

    /// The first letter of a dead-letter topic.
    pub async fn dead_letter(&self, topic: &str) -> DeadLetter {
        let mut reader = self.transport.reader(topic, None);
        let entry = tokio::time::timeout(LONG, reader.next()).await.expect("a dead letter");
        decode(&entry.payload).expect("readable")
    }

    /// Waits until workers have so many messages of a topic that are not acked.
    pub async fn all_taken(&self, topic: &str, messages: u64) {
        let looking = async {
            loop {
                let stats = self.transport.stats(topic).await.expect("statistics");
                if stats["subscriptions"][topic::WORKERS]["unackedMessages"].as_u64() >= Some(messages) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, looking).await.expect("all taken");
    }

    /// Waits until a subscription has nothing left to deliver or to be acked.
    pub async fn all_acked(&self, topic: &str, subscription: &str) {
        let looking = async {
            loop {
                let stats = self.transport.stats(topic).await.expect("statistics");
                if stats["subscriptions"][subscription]["msgBacklog"] == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, looking).await.expect("all acked");
    }
}

/// The events of an inbox, in order.
pub(crate) struct Inbox {
    reader: Reader,
    events: VecDeque<Event>,
}

impl Inbox {
    pub async fn next(&mut self) -> (Event, EventBody) {
        let event = tokio::time::timeout(LONG, async {
            loop {
                if let Some(event) = self.events.pop_front() {
                    return event;
                }
                let entry = self.reader.next().await;
                let frame: InboxFrame = decode(&entry.payload).expect("readable");
                self.events.extend(frame.events);
            }
        });
        let event = event.await.expect("an event");
        let body = event.body().expect("readable");
        (event, body)
    }
}

/// A task of a run of its own, due now: 10 s for an attempt, three attempts, short waits.
pub(crate) fn task(activity: &str, args: Payload) -> Task {
    let run = RunId(Uuid::now_v7());
    Task {
        id: EventId::derived(run, 0, "task"),
        workflow_id: WorkflowId::new(format!("order-{run}")).expect("a good id"),
        run_id: run,
        shard: 0,
        step: 0,
        queue: "trial".to_owned(),
        activity: activity.to_owned(),
        args,
        attempt: 1,
        scheduled_at: clock::now(),
        options: TaskOptions {
            start_to_close_ms: 10_000,
            heartbeat_ms: None,
            schedule_to_start_ms: None,
            schedule_to_close_ms: None,
            retry: RetryPolicy { initial_ms: 20, factor_percent: 200, max_ms: 1_000, max_attempts: Some(3) },
            exhausted: OnExhausted::Fail,
            priority: Default::default(),
        },
        heartbeat: None,
        failures: Vec::new(),
        attempts_before: 0,
        returned: None,
        headers: None,
    }
}
