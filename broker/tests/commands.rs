//! Commands that a client gets an error for, and keeps its connection.

mod support;

use everpulse_broker::wire::messages::*;
use prost::Message;
use support::Broker;
use support::raw::Raw;

const SERVICE_NOT_READY: i32 = 6;
const NOT_ALLOWED: i32 = 22;

/// Request id, transaction id, error code: the fields that responses of transactions have.
#[derive(Clone, PartialEq, Message)]
struct Transaction {
    #[prost(uint64, required, tag = "1")]
    request_id: u64,
    #[prost(uint64, optional, tag = "2")]
    least_bits: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    most_bits: Option<u64>,
    #[prost(int32, optional, tag = "4")]
    error: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Coordinator {
    #[prost(uint64, required, tag = "1")]
    request_id: u64,
    #[prost(uint64, required, tag = "2")]
    coordinator: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CoordinatorResponse {
    #[prost(uint64, required, tag = "1")]
    request_id: u64,
    #[prost(int32, optional, tag = "2")]
    error: Option<i32>,
}

async fn connected(broker: &Broker) -> Raw {
    Raw::connect(&broker.embedded.endpoint().service_url).await.0
}

async fn still_serves(raw: &mut Raw) {
    assert_eq!(raw.call(18, &CommandEmpty {}).await.kind, 19);
}

// covers: connect, max_message_size
#[tokio::test]
async fn connected_tells_version_limit_and_features() {
    let broker = Broker::start().await;
    let (_, connected) = Raw::connect(&broker.embedded.endpoint().service_url).await;
    assert_eq!(connected.protocol_version, Some(21));
    assert_eq!(connected.max_message_size, Some(5 * 1024 * 1024));
    assert_eq!(connected.feature_flags.and_then(|flags| flags.topic_watchers), Some(true));
}

// covers: transactions
#[tokio::test]
async fn commands_of_transactions_are_refused_by_their_own_responses() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    for kind in [50, 52, 54, 56, 58, 60] {
        let request = Transaction { request_id: 7, least_bits: Some(1), most_bits: Some(2), error: None };
        let response: Transaction = raw.call(kind, &request).await.of(kind + 1);
        assert_eq!((response.request_id, response.error), (7, Some(NOT_ALLOWED)), "{kind}");
        let id = if kind == 50 { (None, None) } else { (Some(1), Some(2)) };
        assert_eq!((response.least_bits, response.most_bits), id, "{kind}");
    }
    let response = raw.call(62, &Coordinator { request_id: 9, coordinator: 3 }).await;
    let response: CoordinatorResponse = response.of(63);
    assert_eq!((response.request_id, response.error), (9, Some(NOT_ALLOWED)));
    still_serves(&mut raw).await;
}

// covers: errors
#[tokio::test]
async fn an_unknown_command_is_answered_with_its_request_id() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    let response: CommandError = raw.call(120, &CommandSuccess { request_id: 5 }).await.of(14);
    assert_eq!((response.request_id, response.error), (5, NOT_ALLOWED));
    // What only brokers say is no request either.
    let response: CommandError = raw.call(13, &CommandSuccess { request_id: 6 }).await.of(14);
    assert_eq!((response.request_id, response.error), (6, NOT_ALLOWED));
    still_serves(&mut raw).await;
}

// covers: errors
#[tokio::test]
async fn a_malformed_command_costs_an_error_and_not_the_connection() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    // A producer whose topic is a number, and whose request id can be read all the same.
    raw.send_with(5, &[1 << 3, 9, 3 << 3, 42], &[]).await;
    let response: CommandError = raw.receive().await.of(14);
    assert_eq!((response.request_id, response.error), (42, NOT_ALLOWED));
    assert!(response.message.starts_with("Command 5 cannot be understood"), "{}", response.message);
    // A lookup without its topic, a seek cut short, a frame with no command at all.
    raw.send_with(23, &[2 << 3, 8], &[]).await;
    let response: CommandLookupTopicResponse = raw.receive().await.of(24);
    assert_eq!((response.request_id, response.response), (8, Some(2)));
    raw.send_with(28, &[1 << 3, 1, 2 << 3, 4, 3 << 3 | 2, 50], &[]).await;
    assert_eq!(raw.receive().await.of::<CommandError>(14).request_id, 4);
    raw.send_bytes(&[0, 0, 0, 4, 0, 0, 0, 0]).await;
    assert_eq!(raw.receive().await.of::<CommandError>(14).request_id, u64::MAX);
    still_serves(&mut raw).await;
}

// covers: lookup
#[tokio::test]
async fn whoever_asks_for_another_broker_is_told_where_this_one_is() {
    let broker = Broker::start().await;
    let mut raw = Raw::open(&broker.embedded.endpoint().service_url).await;
    let connect = CommandConnect {
        client_version: "raw".into(),
        proxy_to_broker_url: Some("pulsar://elsewhere:6650".into()),
        ..Default::default()
    };
    let refusal: CommandError = raw.call(2, &connect).await.of(14);
    assert_eq!(refusal.error, NOT_ALLOWED);
    assert!(refusal.message.contains(&broker.embedded.endpoint().service_url), "{}", refusal.message);
    assert!(raw.try_receive().await.is_none());
}

// covers: lookup
#[tokio::test]
async fn a_lookup_for_a_listener_that_is_not_there_fails() {
    let broker = Broker::start().await;
    let mut raw = connected(&broker).await;
    let lookup = CommandLookupTopic {
        topic: "persistent://public/default/t".into(),
        request_id: 3,
        advertised_listener_name: Some("outside".into()),
    };
    let response: CommandLookupTopicResponse = raw.call(23, &lookup).await.of(24);
    assert_eq!((response.request_id, response.response, response.error), (3, Some(2), Some(SERVICE_NOT_READY)));
    let lookup = CommandLookupTopic { advertised_listener_name: None, ..lookup };
    let response: CommandLookupTopicResponse = raw.call(23, &lookup).await.of(24);
    assert_eq!(response.response, Some(1));
}
