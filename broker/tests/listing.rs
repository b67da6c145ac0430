//! Lists of topics, watchers and partitions over the wire; the ends of terminated topics.

mod support;

use everpulse_broker::wire::listing::*;
use everpulse_broker::wire::messages::*;
use support::Broker;
use support::raw::Raw;

const TOPIC_NOT_FOUND: i32 = 11;
const NOT_ALLOWED: i32 = 22;

async fn connected(broker: &Broker) -> Raw {
    Raw::connect(&broker.embedded.endpoint().service_url).await.0
}

fn producer(topic: &str, producer_id: u64) -> CommandProducer {
    CommandProducer { topic: topic.into(), producer_id, request_id: producer_id, ..Default::default() }
}

fn list(pattern: Option<&str>, hash: Option<&str>) -> CommandGetTopicsOfNamespace {
    CommandGetTopicsOfNamespace {
        request_id: 5,
        namespace: "public/default".into(),
        mode: Some(2),
        topics_pattern: pattern.map(str::to_owned),
        topics_hash: hash.map(str::to_owned),
    }
}

// covers: regex_subscription
#[tokio::test]
async fn lists_are_filtered_and_left_out_for_those_who_have_them() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    for (id, topic) in ["foo", "bar", "non-persistent://public/default/fox"].into_iter().enumerate() {
        assert_eq!(raw.call(5, &producer(topic, id as u64)).await.kind, 17);
    }
    let all: CommandGetTopicsOfNamespaceResponse = raw.call(32, &list(None, None)).await.of(33);
    assert_eq!((all.topics.len(), all.filtered, all.changed), (3, Some(false), Some(true)));
    let some: CommandGetTopicsOfNamespaceResponse = raw.call(32, &list(Some("public/default/fo."), None)).await.of(33);
    let expected = ["non-persistent://public/default/fox", "persistent://public/default/foo"];
    assert_eq!((some.topics, some.filtered), (expected.map(str::to_owned).to_vec(), Some(true)));
    let known: CommandGetTopicsOfNamespaceResponse =
        raw.call(32, &list(Some("public/default/fo."), some.topics_hash.as_deref())).await.of(33);
    assert_eq!((known.topics.len(), known.changed), (0, Some(false)));
    let all: CommandGetTopicsOfNamespaceResponse = raw.call(32, &list(Some("("), None)).await.of(33);
    assert_eq!((all.topics.len(), all.filtered), (3, Some(false)), "it is left to the client");
}

// covers: topic_list_watcher
#[tokio::test]
async fn watchers_are_told_of_topics_that_come_and_go() {
    let broker = Broker::start().await;
    let (mut watching, mut other) = (connected(&broker).await, connected(&broker).await);
    let watch = CommandWatchTopicList {
        request_id: 1,
        watcher_id: 9,
        namespace: "public/default".into(),
        topics_pattern: "persistent://public/default/f.*".into(),
        topics_hash: None,
    };
    let list: CommandWatchTopicListSuccess = watching.call(64, &watch).await.of(65);
    assert_eq!((list.request_id, list.watcher_id, list.topic.len()), (1, 9, 0));
    for (id, topic) in ["bar", "foo"].into_iter().enumerate() {
        assert_eq!(other.call(5, &producer(topic, id as u64)).await.kind, 17);
    }
    let update: CommandWatchTopicUpdate = watching.receive().await.of(66);
    assert_eq!((update.watcher_id, update.new_topics), (9, vec!["persistent://public/default/foo".to_owned()]));
    let close = CommandWatchTopicListClose { request_id: 2, watcher_id: 9 };
    assert_eq!(watching.call(67, &close).await.of::<CommandSuccess>(13).request_id, 2);
    assert_eq!(other.call(5, &producer("fox", 7)).await.kind, 17);
    assert_eq!(watching.call(18, &CommandEmpty {}).await.kind, 19, "nothing else came");
    let long = CommandWatchTopicList { topics_pattern: "x".repeat(51), ..watch };
    assert_eq!(watching.call(64, &long).await.of::<CommandError>(14).error, NOT_ALLOWED);
}

// covers: topic_auto_creation, partitioned_topics
#[tokio::test]
async fn whoever_only_asks_for_partitions_creates_nothing() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    let ask = |creates| CommandPartitionedTopicMetadata {
        topic: "t".into(),
        request_id: 3,
        metadata_auto_creation_enabled: creates,
    };
    let absent: CommandPartitionedTopicMetadataResponse = raw.call(21, &ask(Some(false))).await.of(22);
    assert_eq!((absent.request_id, absent.response, absent.error), (3, Some(1), Some(TOPIC_NOT_FOUND)));
    for creates in [None, Some(true)] {
        let plain: CommandPartitionedTopicMetadataResponse = raw.call(21, &ask(creates)).await.of(22);
        assert_eq!((plain.response, plain.partitions), (Some(0), Some(0)));
    }
    assert_eq!(raw.call(5, &producer("t", 1)).await.kind, 17);
    let present: CommandPartitionedTopicMetadataResponse = raw.call(21, &ask(Some(false))).await.of(22);
    assert_eq!((present.response, present.partitions), (Some(0), Some(0)));
}
