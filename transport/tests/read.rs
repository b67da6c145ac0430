//! Reading from positions of our own, and asking for the last one.

mod support;

use everpulse_transport::Position;
use support::{number, numbered, on_each_arm, publisher, soon};

const TOPIC: &str = "history-partition-0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_topic_has_no_last_position_and_nothing_to_read() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        assert_eq!(soon("last", transport.last_position(TOPIC)).await.expect("an answer"), None);
        assert!(soon("read", transport.read(TOPIC, None, None)).await.expect("read").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_gives_what_stands_after_a_position_up_to_another() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let publisher = publisher(&transport, TOPIC);
        let mut positions: Vec<Position> = Vec::new();
        for value in 0..30 {
            // In three ledgers.
            if value % 10 == 0 && value > 0 {
                transport.unload(TOPIC).await.expect("unloaded");
            }
            let receipt = soon("receipt", publisher.publish_until_confirmed(numbered(Some("k"), value))).await;
            positions.push(receipt.expect("stored").expect("a position"));
            let last = soon("last", transport.last_position(TOPIC)).await.expect("an answer");
            assert_eq!(last, positions.last().copied(), "asked after the receipt");
        }
        let read = async |after: Option<usize>, to: Option<usize>| -> Vec<u64> {
            let (after, to) = (after.map(|at| positions[at]), to.map(|at| positions[at]));
            let entries = soon("read", transport.read(TOPIC, after, to)).await.expect("read");
            assert!(entries.iter().all(|entry| entry.key.as_deref() == Some("k")));
            assert!(entries.iter().all(|entry| positions.contains(&entry.position)));
            entries.iter().map(|entry| number(&entry.payload)).collect()
        };
        assert_eq!(read(None, None).await, (0..30).collect::<Vec<_>>());
        assert_eq!(read(Some(4), None).await, (5..30).collect::<Vec<_>>());
        assert_eq!(read(Some(9), Some(20)).await[..11], (10..=20).collect::<Vec<_>>());
        assert_eq!(read(Some(29), None).await, Vec::<u64>::new());

        // A position that nothing stands at, between two ledgers and after the last.
        let hole = Position { ledger: positions[9].ledger, entry: 1000 };
        let entries = soon("read", transport.read(TOPIC, Some(hole), Some(positions[12]))).await.expect("read");
        assert_eq!(number(&entries[0].payload), 10);
        let beyond = Position { ledger: positions[29].ledger, entry: 1000 };
        let entries = soon("read", transport.read(TOPIC, Some(positions[27]), Some(beyond))).await.expect("read");
        assert_eq!(entries.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_gives_each_message_once_and_in_order_over_unloads() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let publisher = publisher(&transport, TOPIC);
        let mut reader = transport.reader(TOPIC, None);
        for round in 0..5 {
            for value in 0..50 {
                drop(publisher.publish_until_confirmed(numbered(None, round * 50 + value)));
            }
            for value in 0..50 {
                let entry = soon("entry", reader.next()).await;
                assert_eq!(number(&entry.payload), round * 50 + value);
                if value == 20 {
                    soon("unload", transport.unload(TOPIC)).await.expect("unloaded");
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_once_for_the_last_position_receives_nothing_afterwards() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let stored = publisher(&transport, TOPIC).publish(numbered(None, 1)).await.expect("stored");
        let readers = async || {
            let stats = transport.stats(TOPIC).await.expect("statistics");
            let subscriptions = stats["subscriptions"].as_object().expect("a table");
            subscriptions.values().filter(|subscription| subscription["isDurable"] == false).count()
        };
        assert_eq!(soon("last", transport.last_position_once(TOPIC)).await.expect("an answer"), stored);
        assert_eq!(readers().await, 0, "it has left");
        assert_eq!(soon("last", transport.last_position(TOPIC)).await.expect("an answer"), stored);
        assert_eq!(readers().await, 1, "it waits for the next question");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ask_for_the_last_position_at_once() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let publisher = publisher(&transport, TOPIC);
        let stored = publisher.publish(numbered(None, 1)).await.expect("stored");
        let asked = (0..1000).map(|_| transport.last_position(TOPIC));
        for answer in soon("answers", futures::future::join_all(asked)).await {
            assert_eq!(answer.expect("an answer"), stored);
        }
    })
    .await;
}
