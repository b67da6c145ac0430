//! What a client asks, put to the state machine.

use std::sync::Arc;

use super::effects::{UNASKED, message_id, refused, server_error};
use super::hub::Hub;
use super::outbound::Outbound;
use super::schemas;
use crate::semantics::{
    Access, Broker, Client, ConnectionId, ConsumerKey, CreateProducer, Facts, Kind, MessageId, Position, Publish,
    Refusal, RefusalKind, Start, Subscribe, batch::first_index, hash::sticky_hash, selector::KeyPolicy,
};
use crate::timestamp::iso_8601;
use crate::wire::messages::*;
use crate::wire::{EntryHeader, Frame, PROTOCOL_VERSION, Payload, Request, Response, ServerError};

const AUTHENTICATION_REQUIRED: &str = "Authentication required: present the broker's token (auth method `token`)";

/// What a client may rely on beside the protocol's version.
const FEATURES: FeatureFlags = FeatureFlags {
    auth_refresh: None,
    broker_entry_metadata: None,
    partial_producer: None,
    topic_watchers: Some(true),
    partitioned_metadata_without_auto_creation: Some(true),
};

/// A connection's side of the conversation.
#[derive(Debug)]
pub struct Session {
    pub(super) id: ConnectionId,
    pub outbound: Arc<Outbound>,
    pub(super) hub: Arc<Hub>,
    connected: bool,
    /// Of the client.
    address: String,
}

impl Session {
    pub fn new(id: ConnectionId, address: String, outbound: Arc<Outbound>, hub: Arc<Hub>) -> Session {
        Session { id, outbound, hub, connected: false, address }
    }

    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Handles what one read has brought, all at once.
    pub fn handle(&mut self, frames: impl Iterator<Item = Frame>) {
        let mut frames = frames.peekable();
        if frames.peek().is_none() {
            return;
        }
        let hub = self.hub.clone();
        hub.act(|broker| {
            for frame in frames {
                if !self.connected {
                    match frame.request {
                        Request::Connect(connect) => self.connect(broker, &connect),
                        _ => self.refuse_connection(ServerError::NotAllowed, "The first command must be CONNECT"),
                    }
                    if !self.connected {
                        return;
                    }
                    continue;
                }
                self.request(broker, frame);
            }
        });
    }

    fn connect(&mut self, broker: &mut Broker, connect: &CommandConnect) {
        if !self.is_authentic(connect.auth_method_name.as_deref(), connect.auth_data.as_deref()) {
            return self.refuse_connection(ServerError::Authentication, AUTHENTICATION_REQUIRED);
        }
        if let Some(url) = connect.proxy_to_broker_url.as_ref().filter(|url| !url.is_empty()) {
            let message = format!(
                "This broker is no proxy to {}: connect to {} directly",
                url.escape_debug(),
                self.hub.settings.service_url
            );
            return self.refuse_connection(ServerError::NotAllowed, &message);
        }
        self.connected = true;
        let version = connect.client_version.clone();
        broker.handle_connected(self.id, Client { address: self.address.clone(), version });
        self.outbound.respond(&Response::Connected(CommandConnected {
            server_version: concat!("Everpulse broker ", env!("CARGO_PKG_VERSION")).into(),
            protocol_version: Some(connect.protocol_version.unwrap_or(0).min(PROTOCOL_VERSION)),
            max_message_size: Some(self.hub.settings.limits.message_bytes.try_into().unwrap_or(i32::MAX)),
            feature_flags: Some(FEATURES),
        }));
    }

    fn is_authentic(&self, method: Option<&str>, data: Option<&[u8]>) -> bool {
        let Some(token) = &self.hub.settings.token else { return true };
        method == Some("token") && same(data.unwrap_or_default(), token.expose().as_bytes())
    }

    /// This broker's token does not expire, so it never sends a challenge; a client that presents its
    /// credentials again is taken at its word.
    fn authenticate_again(&self, response: &CommandAuthResponse) {
        let data = response.response.clone().unwrap_or_default();
        if !self.is_authentic(data.auth_method_name.as_deref(), data.auth_data.as_deref()) {
            self.refuse_connection(ServerError::Authentication, AUTHENTICATION_REQUIRED);
        }
    }

    fn refuse_connection(&self, error: ServerError, message: &str) {
        self.outbound.respond(&Response::error(UNASKED, error, message));
        self.outbound.finish();
    }

    fn consumer(&self, consumer_id: u64) -> ConsumerKey {
        ConsumerKey { connection: self.id, consumer_id }
    }

    fn request(&mut self, broker: &mut Broker, frame: Frame) {
        let Frame { request, payload } = frame;
        match request {
            Request::Send(send) => self.send(broker, &send, payload),
            Request::Ack(ack) => self.ack(broker, &ack),
            Request::Flow(flow) => broker.handle_flow(self.consumer(flow.consumer_id), flow.message_permits),
            Request::Ping => self.outbound.respond(&Response::Pong),
            Request::Pong => {}
            Request::AuthResponse(response) => self.authenticate_again(&response),
            Request::Connect(_) => self.refuse_connection(ServerError::NotAllowed, "Already connected"),
            Request::Producer(producer) => self.producer(broker, producer),
            Request::Subscribe(subscribe) => self.subscribe(broker, subscribe),
            Request::CloseProducer(close) => broker.handle_close_producer(self.id, close.target_id, close.request_id),
            Request::CloseConsumer(close) => {
                broker.handle_close_consumer(self.consumer(close.target_id), close.request_id);
            }
            Request::Unsubscribe(unsubscribe) => {
                let consumer = self.consumer(unsubscribe.consumer_id);
                broker.handle_unsubscribe(consumer, unsubscribe.request_id, unsubscribe.force.unwrap_or(false));
            }
            Request::Redeliver(redeliver) => {
                let positions: Vec<Position> = redeliver.message_ids.iter().map(position_of).collect();
                broker.handle_redeliver(self.consumer(redeliver.consumer_id), &positions, redeliver.consumer_epoch);
            }
            Request::Seek(seek) => self.seek(broker, &seek),
            Request::PartitionedMetadata(request) => self.partitioned_metadata(broker, &request),
            Request::Lookup(request) => self.lookup(broker, &request),
            Request::ConsumerStats(request) => self.consumer_stats(broker, &request),
            Request::GetLastMessageId(request) => self.last_message_id(broker, &request),
            Request::GetTopicsOfNamespace(request) => self.topics(broker, &request),
            Request::WatchTopicList(request) => self.watch(broker, &request),
            Request::WatchTopicListClose(request) => self.unwatch(broker, request),
            Request::GetSchema(request) => self.get_schema(broker, &request),
            Request::GetOrCreateSchema(request) => self.get_or_create_schema(broker, request),
            Request::Transaction(transaction) => {
                let refusal = transaction.refused(ServerError::NotAllowed, "Transactions are not supported");
                self.outbound.respond(&Response::Transaction(refusal));
            }
            Request::Unsupported { kind, request_id } => {
                let message = format!("Command {kind} is not supported by this broker");
                let request_id = request_id.unwrap_or(UNASKED);
                self.outbound.respond(&Response::error(request_id, ServerError::NotAllowed, message));
            }
            Request::Malformed { kind, request_id, reason } => {
                let message = format!("Command {kind} cannot be understood: {reason}");
                let request_id = request_id.unwrap_or(UNASKED);
                self.outbound.respond(&Response::error(request_id, ServerError::NotAllowed, message));
            }
        }
    }

    fn producer(&self, broker: &mut Broker, request: CommandProducer) {
        let request_id = request.request_id;
        match create_producer(request) {
            Ok(request) => broker.handle_create_producer(self.id, request),
            Err(refusal) => self.outbound.respond(&refused(request_id, &refusal)),
        }
    }

    fn send(&self, broker: &mut Broker, send: &CommandSend, payload: Option<Payload>) {
        let (producer_id, sequence_id) = (send.producer_id, send.sequence_id);
        let refuse = |error: ServerError, message: &str| {
            let (error, message) = (error as i32, message.to_owned());
            let refusal = CommandSendError { producer_id, sequence_id, error, message };
            self.outbound.respond(&Response::SendError(refusal));
        };
        if send.txnid_least_bits.unwrap_or(0) != 0 || send.txnid_most_bits.unwrap_or(0) != 0 {
            return refuse(ServerError::NotAllowed, "Transactions are not supported");
        }
        let Some(payload) = payload.filter(|payload| payload.intact) else {
            return refuse(ServerError::Checksum, "Checksum failed on the broker");
        };
        let Some(header) = EntryHeader::of(&payload.entry) else {
            return refuse(ServerError::NotAllowed, "The message's metadata cannot be read");
        };
        self.outbound.count_unanswered(payload.entry.len());
        let facts = Facts {
            hash: sticky_hash(&header.sticky_key),
            batch: header.batch.unwrap_or(0),
            publish_time_ms: header.publish_time_ms,
            deliver_at_ms: header.deliver_at_ms,
        };
        let publish = Publish {
            producer_id,
            sequence_id,
            highest_sequence_id: send.highest_sequence_id.unwrap_or(0),
            facts,
            partial_chunk: header.partial_chunk,
            encrypted: header.encrypted,
            payload: payload.entry,
        };
        broker.handle_publish(self.id, publish);
    }

    fn ack(&self, broker: &mut Broker, ack: &CommandAck) {
        let transaction = ack.txnid_least_bits.unwrap_or(0) != 0 || ack.txnid_most_bits.unwrap_or(0) != 0;
        let outcome = if transaction {
            Err(Refusal::new(RefusalKind::NotAllowed, "Transactions are not supported"))
        } else {
            let ids: Vec<MessageId> = ack.message_id.iter().map(id_of).collect();
            broker.handle_ack(self.consumer(ack.consumer_id), ack.ack_type == 1, &ids)
        };
        if let Some(request_id) = ack.request_id {
            let refusal = outcome.err();
            self.outbound.respond(&Response::AckResponse(CommandAckResponse {
                consumer_id: ack.consumer_id,
                error: refusal.as_ref().map(|refusal| server_error(refusal.kind) as i32),
                message: refusal.map(|refusal| refusal.message),
                request_id: Some(request_id),
            }));
        }
    }

    fn subscribe(&self, broker: &mut Broker, request: CommandSubscribe) {
        let kind = match request.sub_type {
            0 => Kind::Exclusive,
            1 => Kind::Shared,
            2 => Kind::Failover,
            3 => Kind::KeyShared,
            _ => {
                let error = Response::error(request.request_id, ServerError::NotAllowed, "Unknown subscription type");
                return self.outbound.respond(&error);
            }
        };
        let (keys, ranges) = match request.key_shared_meta {
            Some(meta) if matches!(kind, Kind::KeyShared | Kind::Exclusive) => {
                let keys = KeyPolicy {
                    sticky: meta.mode == 1,
                    out_of_order: meta.allow_out_of_order_delivery.unwrap_or(false),
                };
                // Nothing is below zero, so a range that ends there is none and one that begins there begins at zero.
                let ranges = meta.hash_ranges.iter().filter(|range| range.end >= 0);
                let ranges = ranges.map(|range| (range.start.max(0) as u32, range.end as u32));
                (keys, if keys.sticky { ranges.collect() } else { Vec::new() })
            }
            _ => Default::default(),
        };
        let schema = match schemas::given(request.schema) {
            Ok(schema) => schema,
            Err(refusal) => return self.outbound.respond(&refused(request.request_id, &refusal)),
        };
        let rollback_s = request.start_message_rollback_duration_sec.unwrap_or(0);
        let since =
            (rollback_s > 0).then(|| Start::Since(super::now_ms().saturating_sub(rollback_s.saturating_mul(1000))));
        broker.handle_subscribe(
            self.id,
            Subscribe {
                topic: request.topic,
                subscription: request.subscription,
                kind,
                consumer_id: request.consumer_id,
                request_id: request.request_id,
                name: request.consumer_name,
                priority: request.priority_level.unwrap_or(0),
                durable: request.durable.unwrap_or(true),
                start: since.or(request.start_message_id.as_ref().map(start_of)),
                earliest: request.initial_position == Some(1),
                create_topic: request.force_topic_creation.unwrap_or(true),
                metadata: pairs(request.metadata),
                properties: pairs(request.subscription_properties),
                epoch: request.consumer_epoch,
                read_compacted: request.read_compacted.unwrap_or(false),
                schema,
                keys,
                ranges,
            },
        );
    }

    fn seek(&self, broker: &mut Broker, seek: &CommandSeek) {
        let start = match (&seek.message_id, seek.message_publish_time) {
            (Some(id), _) => match start_of(id) {
                // The client says by its bits which messages of the batch come before the one that it means.
                Start::At(position) if !id.ack_set.is_empty() => {
                    Start::Within(position, first_index(&words(&id.ack_set)).unwrap_or(u32::MAX))
                }
                start => start,
            },
            (None, Some(time_ms)) => Start::Since(time_ms),
            (None, None) => {
                let error = Response::error(seek.request_id, ServerError::NotAllowed, "Seek to nowhere");
                return self.outbound.respond(&error);
            }
        };
        broker.handle_seek(self.consumer(seek.consumer_id), seek.request_id, start);
    }

    fn consumer_stats(&self, broker: &Broker, request: &CommandConsumerStats) {
        let request_id = request.request_id;
        let response = match broker.consumer_stats(self.consumer(request.consumer_id)) {
            Some(stats) => CommandConsumerStatsResponse {
                request_id,
                consumer_name: Some(stats.name),
                msg_rate_out: Some(0.0),
                msg_throughput_out: Some(0.0),
                msg_rate_redeliver: Some(0.0),
                available_permits: Some(stats.permits.max(0) as u64),
                unacked_messages: Some(stats.unacked),
                blocked_on_unacked: Some(stats.blocked_on_unacked),
                address: Some(stats.address),
                connected_since: Some(iso_8601(stats.connected_ms)),
                r#type: Some(stats.kind.name().into()),
                msg_rate_expired: Some(0.0),
                backlog: Some(stats.backlog),
                ..Default::default()
            },
            None => CommandConsumerStatsResponse {
                request_id,
                error_code: Some(ServerError::ConsumerNotFound as i32),
                error_message: Some("Consumer not found".into()),
                ..Default::default()
            },
        };
        self.outbound.respond(&Response::ConsumerStats(response));
    }

    fn last_message_id(&self, broker: &Broker, request: &CommandGetLastMessageId) {
        let request_id = request.request_id;
        let Some(last) = broker.last_message_id(self.consumer(request.consumer_id)) else {
            let refusal = Refusal::new(RefusalKind::ConsumerNotFound, "Consumer not found");
            return self.outbound.respond(&refused(request_id, &refusal));
        };
        let mut id = message_id(last.position, last.partition);
        if last.batch > 0 && last.position.is_some() {
            id.batch_index = Some(last.batch as i32 - 1);
        }
        self.outbound.respond(&Response::GetLastMessageId(CommandGetLastMessageIdResponse {
            last_message_id: id,
            request_id,
            consumer_mark_delete_position: Some(message_id(last.mark_delete, -1)),
        }));
    }
}

fn create_producer(request: CommandProducer) -> Result<CreateProducer, Refusal> {
    Ok(CreateProducer {
        topic: request.topic,
        producer_id: request.producer_id,
        request_id: request.request_id,
        name: request.producer_name,
        user_named: request.user_provided_producer_name.unwrap_or(true),
        epoch: request.epoch.unwrap_or(0),
        access: match request.producer_access_mode.unwrap_or(0) {
            1 => Access::Exclusive,
            2 => Access::WaitForExclusive,
            3 => Access::ExclusiveWithFencing,
            _ => Access::Shared,
        },
        topic_epoch: request.topic_epoch,
        encrypted: request.encrypted.unwrap_or(false),
        schema: schemas::given(request.schema)?,
        initial_subscription: request.initial_subscription_name.filter(|name| !name.is_empty()),
        metadata: pairs(request.metadata),
    })
}

fn pairs(pairs: Vec<KeyValue>) -> std::collections::BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

fn id_of(id: &MessageIdData) -> MessageId {
    let mut ack_set = words(&id.ack_set);
    // A set bit is a message of the batch that is not acknowledged yet; without one it is acknowledged as a whole.
    if ack_set.iter().all(|word| *word == 0) {
        ack_set.clear();
    }
    MessageId { position: position_of(id), ack_set }
}

fn position_of(id: &MessageIdData) -> Position {
    Position { ledger: id.ledger_id, entry: id.entry_id }
}

/// Bits travel in signed numbers.
fn words(ack_set: &[i64]) -> Vec<u64> {
    ack_set.iter().map(|word| *word as u64).collect()
}

/// What a message id as the start of a reader or the target of a seek means: -1:-1 is the earliest message, the
/// largest number the latest; else that message itself, of which the client leaves out what it has.
fn start_of(id: &MessageIdData) -> Start {
    let position = position_of(id);
    match (id.ledger_id as i64, id.entry_id as i64) {
        (..0, _) => Start::Earliest,
        (i64::MAX, _) => Start::Latest,
        (_, ..0) => Start::At(Position { entry: 0, ..position }),
        _ => Start::At(position),
    }
}

/// Compares in a time that does not depend on where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
