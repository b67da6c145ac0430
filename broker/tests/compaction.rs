//! Compaction by a namespace's threshold, over the wire: what a reader of the compacted part gets.

mod support;

use std::time::Duration;

use everpulse_broker::wire::messages::*;
use support::raw::{Raw, entry};
use support::{Broker, PATIENCE};

const TOPIC: &str = "persistent://public/default/t";

async fn send(raw: &mut Raw, sequence_id: u64, key: &str, payload: &str) {
    let metadata = MessageMetadata {
        producer_name: "p".into(),
        sequence_id,
        publish_time: 1,
        partition_key: Some(key.into()),
        ..Default::default()
    };
    let send = CommandSend { producer_id: 1, sequence_id, num_messages: Some(1), ..Default::default() };
    raw.send_with(6, &prost::Message::encode_to_vec(&send), &entry(&metadata, payload.as_bytes())).await;
    let receipt: CommandSendReceipt = raw.receive().await.of(7);
    assert_eq!(receipt.sequence_id, sequence_id);
}

/// Payloads that a reader from the earliest message gets; the last one is `last`.
async fn read(broker: &Broker, last: &str) -> Vec<String> {
    let mut raw = Raw::connect(&broker.embedded.endpoint().service_url).await.0;
    let subscribe = CommandSubscribe {
        topic: TOPIC.into(),
        subscription: "reader".into(),
        sub_type: 0,
        consumer_id: 1,
        request_id: 1,
        durable: Some(false),
        read_compacted: Some(true),
        initial_position: Some(1),
        ..Default::default()
    };
    assert_eq!(raw.call(4, &subscribe).await.kind, 13);
    raw.send(11, &CommandFlow { consumer_id: 1, message_permits: 100 }).await;
    let mut payloads: Vec<String> = Vec::new();
    while payloads.last().is_none_or(|payload| payload != last) {
        let message = raw.receive().await;
        assert_eq!(message.kind, 9, "{message:?}");
        let metadata = u32::from_be_bytes(message.payload[6..10].try_into().expect("four bytes")) as usize;
        payloads.push(String::from_utf8(message.payload[10 + metadata..].to_vec()).expect("text"));
    }
    payloads
}

#[tokio::test]
async fn what_is_kept_is_the_last_message_of_each_key_also_after_a_restart() {
    let broker = Broker::start().await;
    let (status, _) = broker.admin().call("PUT", "namespaces/public/default/compactionThreshold", Some("1")).await;
    assert_eq!(status, 204);
    let mut raw = Raw::connect(&broker.embedded.endpoint().service_url).await.0;
    let producer = CommandProducer { topic: TOPIC.into(), producer_id: 1, request_id: 1, ..Default::default() };
    assert_eq!(raw.call(5, &producer).await.kind, 17);
    for (sequence, (key, payload)) in
        [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("b", ""), ("a", "a3")].into_iter().enumerate()
    {
        send(&mut raw, sequence as u64, key, payload).await;
    }
    let compacted = async {
        while read(&broker, "a3").await != ["c1", "a3"] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, compacted).await.expect("compacted in time");
    let broker = broker.restart().await;
    assert_eq!(read(&broker, "a3").await, ["c1", "a3"]);
}
