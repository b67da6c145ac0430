//! Attempts that report by heartbeat: their owner keeps them, and no worker has to live for it.

use std::sync::atomic::AtomicBool;

use everpulse_protocol::event::{Event, Report};

use super::*;

static DONE: AtomicBool = AtomicBool::new(false);

/// Reports twice, with a pause that is long enough to be told of both, and goes on until it is let go.
#[everpulse_sdk::activity(crate = everpulse_sdk)]
async fn uploads(pieces: u64) -> u64 {
    begin();
    let from = context().last_heartbeat::<u64>().unwrap_or(0);
    for piece in from..pieces {
        context().heartbeat(piece + 1);
        tokio::time::sleep(Duration::from_millis(2_200)).await;
    }
    while !DONE.load(Ordering::SeqCst) {
        context().heartbeat(pieces);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    from
}

async fn uploader(trial: &Trial) -> ActivityRunner {
    let mut registry = Registry::new();
    registry.activity_fn(uploads).expect("once");
    let options = Options { queues: Some(vec!["trial".to_owned()]), ..Options::default() };
    let starting = ActivityRunner::start(Arc::new(registry), trial.outbox.clone(), trial.transport.clone(), options);
    starting.await.expect("started")
}

fn details(event: &(Event, EventBody)) -> u64 {
    let payload = match &event.1 {
        EventBody::AttemptLeft { running: true, task, .. } => task.heartbeat.clone(),
        EventBody::AttemptReported { report: Report::Beat { details }, .. } => details.clone(),
        other => panic!("{other:?}"),
    };
    payload.expect("details").decode().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_attempt_reports_is_kept_by_its_owner_and_outlives_its_worker() {
    for trial in Trial::all().await {
        DONE.store(false, Ordering::SeqCst);
        let relay = Relay::start(&trial.transport, trial.outbox.clone()).await.expect("started");
        let first = uploader(&trial).await;
        let mut task = task("uploads", args("pieces", 2));
        task.options.start_to_close_ms = 600_000;
        task.options.heartbeat_ms = Some(2_400);
        task.options.retry.max_attempts = Some(1);
        trial.outbox.task(task.clone()).await.expect("sent");
        let mut inbox = trial.inbox();
        assert_eq!(details(&inbox.next().await), 1);
        // It runs on, and the owner has it: nothing of it is in the queue.
        acked(&trial).await;
        assert_eq!(details(&inbox.next().await), 2);
        first.drain(Duration::ZERO).await;
        // It reports whatever comes until it is given up; then it is told that the next one follows.
        let (attempt, failure) = loop {
            match inbox.next().await.1 {
                EventBody::AttemptReported { report: Report::Beat { .. }, .. } => {}
                EventBody::AttemptFailed { attempt, failure, next: NextAttempt::At(_), .. } => {
                    break (attempt, failure);
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((attempt, failure.kind), (1, FailureKind::TimedOut));
        DONE.store(true, Ordering::SeqCst);
        let second = uploader(&trial).await;
        let from = loop {
            match inbox.next().await.1 {
                EventBody::AttemptLeft { running: true, .. } | EventBody::AttemptReported { .. } => {}
                EventBody::ActivitySettled { attempt: 2, outcome: Outcome::Done(from), .. } => break from,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(from.decode::<u64>().expect("a number"), 2, "it goes on where the first one was");
        acked(&trial).await;
        assert_eq!(begun(&task), 2);
        second.drain(LONG).await;
        relay.stop().await;
    }
}
