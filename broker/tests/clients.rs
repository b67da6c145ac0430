//! The `pulsar` crate on this broker: what an application sees.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use pulsar::consumer::InitialPosition;
use pulsar::producer::Message as Outgoing;
use pulsar::reader::Reader;
use pulsar::{ConsumerOptions, SubType, TokioExecutor};
use support::*;

#[tokio::test]
async fn messages_arrive_in_order_and_positions_are_contiguous() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut consumer = consumer(&receiving, "orders", "all", SubType::Exclusive, "c").await;
    let mut producer = producer(&sending, "orders").await;
    let mut positions = Vec::new();
    for n in 0..200 {
        positions.push(send(&mut producer, plain(n.to_string())).await);
    }
    let ledger = positions[0].0;
    assert_eq!(positions, (0..200).map(|entry| (ledger, entry)).collect::<Vec<_>>());
    for n in 0..200 {
        assert_eq!(text(&mut consumer).await, n.to_string());
    }
    let last = consumer.get_last_message_id().await.expect("answered");
    assert_eq!((last[0].ledger_id, last[0].entry_id), (ledger, 199));
}

#[tokio::test]
async fn shared_consumers_split_the_messages() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut first = consumer(&receiving, "work", "workers", SubType::Shared, "a").await;
    let mut second = consumer(&receiving, "work", "workers", SubType::Shared, "b").await;
    let mut producer = producer(&sending, "work").await;
    let admin = broker.admin();
    let both_have_permits = async || {
        let stats = admin.get("persistent/public/default/work/stats").await;
        let consumers = stats["subscriptions"]["workers"]["consumers"].as_array().cloned().unwrap_or_default();
        consumers.iter().filter(|consumer| consumer["availablePermits"].as_u64() > Some(0)).count() == 2
    };
    eventually("both consumers have permits", both_have_permits).await;
    for n in 0..100 {
        send(&mut producer, plain(n.to_string())).await;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        seen.insert(text(&mut first).await);
        seen.insert(text(&mut second).await);
    }
    assert_eq!(seen.len(), 100);
}

#[tokio::test]
async fn a_key_stays_with_one_consumer_and_in_order() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut first = consumer(&receiving, "keys", "owners", SubType::KeyShared, "a").await;
    let mut second = consumer(&receiving, "keys", "owners", SubType::KeyShared, "b").await;
    let mut producer = producer(&sending, "keys").await;
    for n in 0..200u32 {
        send(&mut producer, keyed(&(n % 20).to_string(), n.to_string())).await;
    }
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    let mut lasts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..200 {
        let (message, owner) = tokio::select! {
            message = next(&mut first) => (message, "a"),
            message = next(&mut second) => (message, "b"),
        };
        match owner {
            "a" => first.ack(&message).await.expect("acked"),
            _ => second.ack(&message).await.expect("acked"),
        }
        let key = message.key().expect("a key");
        let n: u32 = String::from_utf8(message.payload.data).expect("text").parse().expect("a number");
        assert_eq!(*owners.entry(key.clone()).or_insert(owner), owner);
        assert!(lasts.insert(key, n).is_none_or(|last| last < n));
    }
    assert_eq!(owners.values().collect::<BTreeSet<_>>().len(), 2, "both consumers have keys");
}

#[tokio::test]
async fn unacked_messages_of_a_closed_consumer_come_to_the_other() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut first = consumer(&receiving, "held", "s", SubType::KeyShared, "a").await;
    let mut producer = producer(&sending, "held").await;
    for n in 0..10 {
        send(&mut producer, keyed("k", n.to_string())).await;
    }
    for n in 0..10 {
        assert_eq!(next(&mut first).await.payload.data, n.to_string().into_bytes());
    }
    let mut second = consumer(&receiving, "held", "s", SubType::KeyShared, "b").await;
    first.close().await.expect("closed");
    for n in 0..10 {
        assert_eq!(text(&mut second).await, n.to_string());
    }
}

#[tokio::test]
async fn a_nacked_message_comes_again() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut consumer = consumer(&receiving, "again", "s", SubType::Shared, "a").await;
    let mut producer = producer(&sending, "again").await;
    send(&mut producer, plain("x")).await;
    for _ in 0..3 {
        let message = next(&mut consumer).await;
        assert_eq!(message.payload.data, b"x");
        consumer.nack(&message).await.expect("nacked");
    }
}

#[tokio::test]
async fn readers_start_where_they_are_told() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut producer = producer(&sending, "history").await;
    let mut positions = Vec::new();
    for n in 0..10 {
        positions.push(send(&mut producer, plain(n.to_string())).await);
    }
    for (from, expected) in [(None, 0), (Some(3), 3)] {
        let mut options = ConsumerOptions::default().durable(false).with_initial_position(InitialPosition::Earliest);
        if let Some(from) = from {
            let (ledger_id, entry_id): (u64, u64) = positions[from];
            let id = pulsar::proto::MessageIdData { ledger_id, entry_id, ..Default::default() };
            options = options.starting_on_message(id);
        }
        let mut reader: Reader<Vec<u8>, TokioExecutor> =
            receiving.reader().with_topic("history").with_options(options).into_reader().await.expect("a reader");
        let last = reader.get_last_message_id().await.expect("answered");
        assert_eq!((last.ledger_id, last.entry_id), positions[9]);
        for n in expected..10 {
            let message = tokio::time::timeout(PATIENCE, reader.next()).await.expect("in time").expect("goes on");
            assert_eq!(message.expect("a message").payload.data, n.to_string().into_bytes());
        }
    }
}

#[tokio::test]
async fn a_delayed_message_waits_and_others_pass_it() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut consumer = consumer(&receiving, "timers", "relay", SubType::Shared, "a").await;
    let mut producer = producer(&sending, "timers").await;
    let due = SystemTime::now() + Duration::from_millis(300);
    let since_epoch = due.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let late = Outgoing { deliver_at_time: Some(since_epoch.as_millis() as i64), ..plain("late") };
    send(&mut producer, late).await;
    send(&mut producer, plain("now")).await;
    assert_eq!(text(&mut consumer).await, "now");
    assert_eq!(text(&mut consumer).await, "late");
    // The due time was cut to milliseconds when it was sent.
    assert!(SystemTime::now() + Duration::from_millis(1) >= due, "it was delivered early");
}

#[tokio::test]
async fn non_persistent_messages_reach_who_is_there() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let topic = "non-persistent://public/default/replies";
    let mut consumer = consumer(&receiving, topic, "me", SubType::Exclusive, "a").await;
    let mut producer = producer(&sending, topic).await;
    // The consumer's permits are on their way; what is sent before is dropped.
    let mut sent = 0;
    let first = loop {
        send(&mut producer, plain(sent.to_string())).await;
        sent += 1;
        match tokio::time::timeout(Duration::from_millis(20), consumer.next()).await {
            Ok(message) => break message.expect("goes on").expect("a message"),
            Err(_) => continue,
        }
    };
    let first: i32 = String::from_utf8(first.payload.data).expect("text").parse().expect("a number");
    assert!(first < sent);
    send(&mut producer, plain("then")).await;
    while text(&mut consumer).await != "then" {}
}

// covers: durable_cursor
#[tokio::test]
async fn acks_and_messages_survive_a_clean_restart() {
    let mut broker = Broker::start().await;
    {
        let (sending, receiving) = (broker.client().await, broker.client().await);
        let mut consumer = consumer(&receiving, "kept", "s", SubType::Shared, "a").await;
        let mut producer = producer(&sending, "kept").await;
        for n in 0..10 {
            send(&mut producer, plain(n.to_string())).await;
        }
        for n in 0..10 {
            let message = next(&mut consumer).await;
            if n % 2 == 0 {
                consumer.ack(&message).await.expect("acked");
            }
        }
        let admin = broker.admin();
        let unacked = async || {
            let stats = admin.get("persistent/public/default/kept/stats").await;
            stats["subscriptions"]["s"]["msgBacklog"] == 5
        };
        eventually("five acks arrive", unacked).await;
    }
    broker = broker.restart().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut consumer = consumer(&receiving, "kept", "s", SubType::Shared, "a").await;
    for n in [1, 3, 5, 7, 9] {
        assert_eq!(text(&mut consumer).await, n.to_string());
    }
    let mut producer = producer(&sending, "kept").await;
    let (_, entry) = send(&mut producer, plain("new")).await;
    assert_eq!(entry, 0, "a new ledger begins at entry 0");
    assert_eq!(text(&mut consumer).await, "new");
}

// covers: unload
#[tokio::test]
async fn clients_reconnect_after_an_unload_and_lose_nothing() {
    let broker = Broker::start().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let (status, _) = broker.admin().call("POST", "namespaces/public/default/deduplication", Some("true")).await;
    assert_eq!(status, 204);
    let mut consumer = consumer(&receiving, "moved", "s", SubType::Exclusive, "a").await;
    let mut producer = producer(&sending, "moved").await;
    let before = send(&mut producer, plain("0")).await;
    for n in 1..20 {
        if n % 5 == 0 {
            let (status, body) = broker.admin().call("PUT", "persistent/public/default/moved/unload", None).await;
            assert_eq!(status, 204, "{body}");
        }
        let after = send(&mut producer, plain(n.to_string())).await;
        assert!(after > before);
        if n % 5 == 0 {
            assert_eq!(after.1, 0);
        }
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        seen.insert(text(&mut consumer).await);
    }
}

#[tokio::test]
async fn a_partitioned_topic_is_used_by_its_partitions() {
    let broker = Broker::start().await;
    let (status, _) = broker.admin().call("PUT", "persistent/public/default/parts/partitions", Some("4")).await;
    assert_eq!(status, 204);
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let mut consumer = consumer(&receiving, "parts", "s", SubType::Shared, "a").await;
    let mut producer = producer(&sending, "parts-partition-2").await;
    send(&mut producer, plain("x")).await;
    let message = next(&mut consumer).await;
    assert_eq!(message.message_id().partition, Some(2));
    assert!(message.topic.ends_with("parts-partition-2"));
}
