//! A client that speaks command by command and sorts what it receives.

#![allow(dead_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use everpulse_broker::wire::messages::*;
use prost::Message;

use super::Broker;
use super::raw::{Raw, Received, entry};

/// An Apache Pulsar, if `EVERPULSE_TEST_PULSAR_URL` names one, else a broker of our own. The tests are the same:
/// that is how it is known that they expect the right things.
pub struct Target {
    pub url: String,
    own: Option<Broker>,
}

impl Target {
    pub async fn start() -> Target {
        match std::env::var("EVERPULSE_TEST_PULSAR_URL") {
            Ok(url) => Target { url, own: None },
            Err(_) => {
                let broker = Broker::start().await;
                Target { url: broker.embedded.endpoint().service_url, own: Some(broker) }
            }
        }
    }

    pub async fn session(&self) -> Session {
        Session { raw: Raw::connect(&self.url).await.0, inbox: VecDeque::new(), producers: 0, sequence: 0 }
    }
}

/// A name that no other test uses, nor this one when it runs again.
pub fn fresh(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    format!("persistent://public/default/{what}-{since}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

pub struct Session {
    pub raw: Raw,
    inbox: VecDeque<Received>,
    producers: u64,
    sequence: u64,
}

/// Error code and words.
pub type Refused = (i32, String);

impl Session {
    /// The first command that fits; others are kept.
    pub async fn wait(&mut self, fits: impl Fn(&Received) -> bool) -> Received {
        if let Some(at) = self.inbox.iter().position(&fits) {
            return self.inbox.remove(at).expect("it is there");
        }
        loop {
            let received = self.raw.receive().await;
            match received.kind {
                18 => self.raw.send(19, &CommandEmpty {}).await,
                _ if fits(&received) => return received,
                _ => self.inbox.push_back(received),
            }
        }
    }

    async fn answer(&mut self, request_id: u64) -> Result<(), Refused> {
        let of = |received: &Received| match received.kind {
            13 => received.of::<CommandSuccess>(13).request_id == request_id,
            14 => received.of::<CommandError>(14).request_id == request_id,
            _ => false,
        };
        let received = self.wait(of).await;
        if received.kind == 13 {
            return Ok(());
        }
        let error: CommandError = received.of(14);
        Err((error.error, error.message))
    }

    /// Without it an Apache Pulsar does not serve a topic.
    async fn look_up(&mut self, topic: &str) {
        let request_id = self.raw.request();
        self.raw
            .send(23, &CommandLookupTopic { topic: topic.into(), request_id, advertised_listener_name: None })
            .await;
        self.wait(|received| received.kind == 24).await;
    }

    /// A durable Shared consumer from the earliest message on, unless `edit` says otherwise.
    pub async fn subscribe(
        &mut self,
        topic: &str,
        consumer_id: u64,
        edit: impl FnOnce(&mut CommandSubscribe),
    ) -> Result<(), Refused> {
        let request_id = self.raw.request();
        let mut command = CommandSubscribe {
            topic: topic.into(),
            subscription: "s".into(),
            sub_type: 1,
            consumer_id,
            request_id,
            consumer_name: Some(format!("c{consumer_id}")),
            initial_position: Some(1),
            ..Default::default()
        };
        edit(&mut command);
        self.look_up(topic).await;
        self.raw.send(4, &command).await;
        self.answer(request_id).await
    }

    /// The same, with permits.
    pub async fn consumer(&mut self, topic: &str, consumer_id: u64, edit: impl FnOnce(&mut CommandSubscribe)) {
        self.subscribe(topic, consumer_id, edit).await.expect("subscribed");
        self.flow(consumer_id, 1000).await;
    }

    pub async fn flow(&mut self, consumer_id: u64, message_permits: u32) {
        self.raw.send(11, &CommandFlow { consumer_id, message_permits }).await;
    }

    pub async fn producer(&mut self, topic: &str) -> u64 {
        self.look_up(topic).await;
        self.producers += 1;
        let request_id = self.raw.request();
        let producer_id = self.producers;
        let command = CommandProducer { topic: topic.into(), producer_id, request_id, ..Default::default() };
        self.raw.send(5, &command).await;
        self.wait(|received| received.kind == 17 && received.of::<CommandProducerSuccess>(17).request_id == request_id)
            .await;
        producer_id
    }

    /// Publishes and waits for the receipt.
    pub async fn publish(
        &mut self,
        producer_id: u64,
        payload: &[u8],
        edit: impl FnOnce(&mut MessageMetadata),
    ) -> MessageIdData {
        let sequence_id = self.sequence;
        self.sequence += 1;
        let mut metadata =
            MessageMetadata { producer_name: "raw".into(), sequence_id, publish_time: now_ms(), ..Default::default() };
        edit(&mut metadata);
        let num_messages = metadata.num_messages_in_batch;
        let send = CommandSend { producer_id, sequence_id, num_messages, ..Default::default() };
        self.raw.send_with(6, &send.encode_to_vec(), &entry(&metadata, payload)).await;
        let receipt = self
            .wait(|received| received.kind == 7 && received.of::<CommandSendReceipt>(7).sequence_id == sequence_id)
            .await;
        receipt.of::<CommandSendReceipt>(7).message_id.expect("a position")
    }

    /// Publishes the same many times without waiting in between; the last one's position.
    pub async fn publish_many(&mut self, producer_id: u64, payload: &[u8], count: u64) -> MessageIdData {
        for _ in 1..count {
            let sequence_id = self.sequence;
            self.sequence += 1;
            let metadata = MessageMetadata {
                producer_name: "raw".into(),
                sequence_id,
                publish_time: now_ms(),
                ..Default::default()
            };
            let send = CommandSend { producer_id, sequence_id, ..Default::default() };
            self.raw.send_with(6, &send.encode_to_vec(), &entry(&metadata, payload)).await;
        }
        self.publish(producer_id, payload, |_| {}).await
    }

    /// The next message for any consumer.
    pub async fn message(&mut self) -> CommandMessage {
        self.wait(|received| received.kind == 9).await.of(9)
    }

    /// Acks and waits for the broker's answer.
    pub async fn ack(&mut self, consumer_id: u64, cumulative: bool, ids: &[MessageIdData]) -> CommandAckResponse {
        let request_id = self.raw.request();
        let ack = CommandAck {
            consumer_id,
            ack_type: i32::from(cumulative),
            message_id: ids.to_vec(),
            request_id: Some(request_id),
            ..Default::default()
        };
        self.raw.send(10, &ack).await;
        let fits = |received: &Received| {
            received.kind == 38 && received.of::<CommandAckResponse>(38).request_id == Some(request_id)
        };
        self.wait(fits).await.of(38)
    }

    pub async fn redeliver(&mut self, consumer_id: u64, ids: &[MessageIdData], consumer_epoch: Option<u64>) {
        self.raw.send(20, &CommandRedeliver { consumer_id, message_ids: ids.to_vec(), consumer_epoch }).await;
    }

    pub async fn unsubscribe(&mut self, consumer_id: u64, force: bool) -> Result<(), Refused> {
        let request_id = self.raw.request();
        self.raw.send(12, &CommandUnsubscribe { consumer_id, request_id, force: Some(force) }).await;
        self.answer(request_id).await
    }

    pub async fn close(&mut self, consumer_id: u64) {
        let request_id = self.raw.request();
        self.raw.send(16, &CommandTargeted { target_id: consumer_id, request_id }).await;
        self.answer(request_id).await.expect("closed");
    }

    pub async fn seek(&mut self, seek: CommandSeek) -> Result<(), Refused> {
        let request_id = self.raw.request();
        self.raw.send(28, &CommandSeek { request_id, ..seek }).await;
        self.answer(request_id).await
    }

    /// Waits until the broker has closed a consumer.
    pub async fn closed(&mut self, consumer_id: u64) {
        self.wait(|received| received.kind == 16 && received.of::<CommandTargeted>(16).target_id == consumer_id).await;
    }

    /// Waits until a consumer is told whether it is active.
    pub async fn told(&mut self, consumer_id: u64) -> bool {
        let fits = |received: &Received| {
            received.kind == 31 && received.of::<CommandActiveConsumerChange>(31).consumer_id == consumer_id
        };
        self.wait(fits).await.of::<CommandActiveConsumerChange>(31).is_active == Some(true)
    }

    pub async fn last_message_id(&mut self, consumer_id: u64) -> CommandGetLastMessageIdResponse {
        let request_id = self.raw.request();
        self.raw.send(29, &CommandGetLastMessageId { consumer_id, request_id }).await;
        self.wait(|received| received.kind == 30).await.of(30)
    }

    pub async fn stats(&mut self, consumer_id: u64) -> CommandConsumerStatsResponse {
        let request_id = self.raw.request();
        self.raw.send(25, &CommandConsumerStats { request_id, consumer_id }).await;
        self.wait(|received| received.kind == 26).await.of(26)
    }
}

/// Ledger and entry.
pub fn at(id: &MessageIdData) -> (u64, u64) {
    (id.ledger_id, id.entry_id)
}

/// A batch of messages as they lie in a payload: metadata size, metadata, payload of each.
pub fn batch(payloads: &[&str]) -> Vec<u8> {
    #[derive(Clone, PartialEq, Message)]
    struct SingleMessageMetadata {
        #[prost(int32, required, tag = "3")]
        payload_size: i32,
    }
    let mut bytes = Vec::new();
    for payload in payloads {
        let metadata = SingleMessageMetadata { payload_size: payload.len() as i32 };
        bytes.extend((metadata.encoded_len() as u32).to_be_bytes());
        bytes.extend(metadata.encode_to_vec());
        bytes.extend(payload.as_bytes());
    }
    bytes
}
