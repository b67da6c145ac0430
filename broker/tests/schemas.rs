//! Schemas over the wire: what clients send and get.

mod support;

use everpulse_broker::wire::messages::*;
use support::Broker;
use support::raw::Raw;

const INCOMPATIBLE_SCHEMA: i32 = 18;
const TOPIC_NOT_FOUND: i32 = 11;
const TOPIC: &str = "persistent://public/default/t";

fn record(fields: &str) -> Schema {
    let data = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    let properties = vec![KeyValue { key: "k".into(), value: "v".into() }];
    Schema { name: "any".into(), schema_data: data.into(), r#type: 4, properties }
}

async fn connected(broker: &Broker) -> Raw {
    Raw::connect(&broker.embedded.endpoint().service_url).await.0
}

fn producer(producer_id: u64, schema: Schema) -> CommandProducer {
    let (topic, schema) = (TOPIC.into(), Some(schema));
    CommandProducer { topic, producer_id, request_id: producer_id, schema, ..Default::default() }
}

fn version(number: u64) -> Option<bytes::Bytes> {
    Some(bytes::Bytes::copy_from_slice(&number.to_be_bytes()))
}

// covers: schema_versions
#[tokio::test]
async fn producers_are_told_the_version_of_their_schema_and_anybody_can_read_it() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    let (first, second) = (r#"{"name":"f","type":"int"}"#, r#"{"name":"g","type":"int","default":1}"#);
    let both = record(&format!("{first},{second}"));
    let ready: CommandProducerSuccess = raw.call(5, &producer(1, record(first))).await.of(17);
    assert_eq!(ready.schema_version, version(0));
    let ready: CommandProducerSuccess = raw.call(5, &producer(2, both.clone())).await.of(17);
    assert_eq!(ready.schema_version, version(1));
    let refusal: CommandError = raw.call(5, &producer(3, record(r#"{"name":"h","type":"int"}"#))).await.of(14);
    assert_eq!((refusal.request_id, refusal.error), (3, INCOMPATIBLE_SCHEMA));

    // Also after a restart.
    let broker = broker.restart().await;
    let mut raw = connected(&broker).await;
    let get = |schema_version| CommandGetSchema { request_id: 4, topic: TOPIC.into(), schema_version };
    let latest: CommandGetSchemaResponse = raw.call(34, &get(None)).await.of(35);
    assert_eq!(latest.schema_version, version(1));
    assert_eq!(latest.schema, Some(Schema { name: "public/default/t".into(), ..both }));
    let oldest: CommandGetSchemaResponse = raw.call(34, &get(version(0))).await.of(35);
    assert_eq!(oldest.schema.map(|schema| schema.schema_data), Some(record(first).schema_data));
    let missing: CommandGetSchemaResponse = raw.call(34, &get(version(7))).await.of(35);
    assert_eq!((missing.request_id, missing.error_code), (4, Some(TOPIC_NOT_FOUND)));
}

// covers: schema_versions, schema_auto_produce
#[tokio::test]
async fn a_schema_can_be_asked_for_without_a_producer() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    let create = |topic: &str, schema| {
        let schema = Some(schema);
        CommandGetOrCreateSchema { request_id: 9, topic: topic.into(), schema }
    };
    let string = Schema { r#type: 1, ..Default::default() };
    let missing: CommandGetOrCreateSchemaResponse = raw.call(39, &create(TOPIC, string.clone())).await.of(40);
    assert_eq!((missing.request_id, missing.error_code), (9, Some(TOPIC_NOT_FOUND)));
    let plain = CommandProducer { schema: None, ..producer(1, string.clone()) };
    let ready: CommandProducerSuccess = raw.call(5, &plain).await.of(17);
    assert_eq!(ready.schema_version, Some(bytes::Bytes::new()));
    let created: CommandGetOrCreateSchemaResponse = raw.call(39, &create(TOPIC, string)).await.of(40);
    assert_eq!((created.error_code, created.schema_version), (None, version(0)));
    let other = create(TOPIC, record(r#"{"name":"f","type":"int"}"#));
    let refused: CommandGetOrCreateSchemaResponse = raw.call(39, &other).await.of(40);
    assert_eq!(refused.error_code, Some(INCOMPATIBLE_SCHEMA));
    let unknown = create(TOPIC, Schema { r#type: 77, ..Default::default() });
    let refused: CommandGetOrCreateSchemaResponse = raw.call(39, &unknown).await.of(40);
    assert_eq!(refused.error_code, Some(INCOMPATIBLE_SCHEMA));
}

// covers: schema_compatibility
#[tokio::test]
async fn consumers_that_cannot_read_are_refused() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    let ready = raw.call(5, &producer(1, record(r#"{"name":"f","type":"int"}"#))).await;
    assert_eq!(ready.kind, 17);
    let subscribe = |consumer_id: u64, schema: Schema| CommandSubscribe {
        topic: TOPIC.into(),
        subscription: "s".into(),
        sub_type: 1,
        consumer_id,
        request_id: consumer_id,
        schema: Some(schema),
        ..Default::default()
    };
    let refused: CommandError = raw.call(4, &subscribe(1, record(r#"{"name":"h","type":"int"}"#))).await.of(14);
    assert_eq!((refused.request_id, refused.error), (1, INCOMPATIBLE_SCHEMA));
    let any = Schema { r#type: 21, ..Default::default() };
    assert_eq!(raw.call(4, &subscribe(2, any)).await.kind, 13);
    assert_eq!(raw.call(4, &subscribe(3, record(r#"{"name":"f","type":"long"}"#))).await.kind, 13);
}
