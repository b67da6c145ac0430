//! A broker in a directory of its own, and clients of the `pulsar` crate on it.

#![allow(dead_code)]

pub mod raw;
pub mod session;

use std::time::Duration;

use everpulse_broker::{Embedded, Options};
use futures::StreamExt;
use pulsar::consumer::{InitialPosition, Message};
use pulsar::producer::Message as Outgoing;
use pulsar::{Consumer, ConsumerOptions, Producer, ProducerOptions, Pulsar, SubType, TokioExecutor};

pub type Client = Pulsar<TokioExecutor>;
pub type Messages = Consumer<Vec<u8>, TokioExecutor>;

/// Far longer than anything takes; only a broken broker reaches it. A single sync has been seen to take half a minute
/// while others filled the disk.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Broker {
    pub embedded: Embedded,
    pub dir: tempfile::TempDir,
}

impl Broker {
    pub async fn start() -> Broker {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let embedded = Embedded::open(Options::new(dir.path())).await.expect("opens");
        Broker { embedded, dir }
    }

    /// Stops it and starts it on the same directory.
    pub async fn restart(self) -> Broker {
        let Broker { embedded, dir } = self;
        embedded.close().await;
        let embedded = Embedded::open(Options::new(dir.path())).await.expect("opens again");
        Broker { embedded, dir }
    }

    pub async fn client(&self) -> Client {
        client(&self.embedded.endpoint().service_url).await
    }

    pub fn admin(&self) -> Admin {
        Admin { url: self.embedded.endpoint().admin_url, http: reqwest::Client::new() }
    }
}

pub async fn client(url: &str) -> Client {
    Pulsar::builder(url, TokioExecutor).build().await.expect("connects")
}

pub async fn producer(client: &Client, topic: &str) -> Producer<TokioExecutor> {
    let options = ProducerOptions { block_queue_if_full: true, ..Default::default() };
    client.producer().with_topic(topic).with_options(options).build().await.expect("a producer")
}

/// Sends and waits for the receipt: ledger and entry.
pub async fn send(producer: &mut Producer<TokioExecutor>, message: Outgoing) -> (u64, u64) {
    let receipt = producer.send_non_blocking(message).await.expect("sent").await.expect("a receipt");
    let id = receipt.message_id.expect("a position");
    (id.ledger_id, id.entry_id)
}

pub fn keyed(key: &str, payload: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing { payload: payload.into(), partition_key: Some(key.into()), ..Default::default() }
}

pub fn plain(payload: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing { payload: payload.into(), ..Default::default() }
}

pub async fn consumer(client: &Client, topic: &str, subscription: &str, kind: SubType, name: &str) -> Messages {
    let options = ConsumerOptions::default().with_initial_position(InitialPosition::Earliest);
    let builder = client.consumer().with_topic(topic).with_subscription(subscription).with_options(options);
    let builder = builder.with_subscription_type(kind).with_consumer_name(name).with_batch_size(100);
    builder.build().await.expect("a consumer")
}

pub async fn next(consumer: &mut Messages) -> Message<Vec<u8>> {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a message in time");
    next.expect("the stream goes on").expect("a message")
}

pub async fn text(consumer: &mut Messages) -> String {
    let message = next(consumer).await;
    consumer.ack(&message).await.expect("acked");
    String::from_utf8(message.payload.data).expect("text")
}

/// Waits until something holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let all = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Waits until a count is reached; it is patient anew each time that the count grows.
pub async fn counted(what: &str, target: usize, count: impl Fn() -> usize) {
    loop {
        let reached = count();
        if reached >= target {
            return;
        }
        eventually(&format!("more than {reached} of {target} {what}"), async || count() > reached).await;
    }
}

pub struct Admin {
    pub url: String,
    pub http: reqwest::Client,
}

impl Admin {
    /// Status and body.
    pub async fn call(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        let method = method.parse().expect("a method");
        let request = self.http.request(method, format!("{}/admin/v2/{path}", self.url));
        let request = request.header("content-type", "application/json");
        let request = match body {
            Some(body) => request.body(body.to_owned()),
            None => request,
        };
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.text().await.expect("a body"))
    }

    pub async fn get(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}
