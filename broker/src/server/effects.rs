//! Carrying out effects: to the storage, to connections, to whoever waits for a change.

use bytes::Bytes;

use super::hub::State;
use super::listing;
use super::outbound::OutMessage;
use crate::semantics::{ConnectionId, Effect, Position, Refusal, RefusalKind, Source};
use crate::storage::record::Message;
use crate::storage::writer::Item;
use crate::wire::listing::CommandWatchTopicUpdate;
use crate::wire::messages::*;
use crate::wire::{Response, ServerError};

/// The request id of what the broker says unasked, as the Java broker's.
pub const UNASKED: u64 = u64::MAX;

/// A position that stands for "no message": -1:-1.
pub const NO_POSITION: Position = Position { ledger: u64::MAX, entry: u64::MAX };

pub fn server_error(kind: RefusalKind) -> ServerError {
    match kind {
        RefusalKind::InvalidName => ServerError::InvalidTopicName,
        RefusalKind::TopicNotFound | RefusalKind::NamespaceNotFound | RefusalKind::TenantNotFound => {
            ServerError::TopicNotFound
        }
        RefusalKind::SubscriptionNotFound => ServerError::SubscriptionNotFound,
        RefusalKind::ConsumerNotFound => ServerError::ConsumerNotFound,
        RefusalKind::AlreadyExists | RefusalKind::NotAllowed => ServerError::NotAllowed,
        RefusalKind::Busy | RefusalKind::Unencrypted => ServerError::Metadata,
        RefusalKind::ConsumerBusy => ServerError::ConsumerBusy,
        RefusalKind::ConsumerAssign => ServerError::ConsumerAssign,
        RefusalKind::ProducerBusy => ServerError::ProducerBusy,
        RefusalKind::ProducerFenced => ServerError::ProducerFenced,
        RefusalKind::TopicTerminated => ServerError::TopicTerminated,
        RefusalKind::BacklogHold => ServerError::BacklogQuotaExceededHold,
        RefusalKind::BacklogFull => ServerError::BacklogQuotaExceededFail,
        RefusalKind::IncompatibleSchema | RefusalKind::InvalidSchema => ServerError::IncompatibleSchema,
        RefusalKind::Storage => ServerError::Persistence,
    }
}

pub fn refused(request_id: u64, refusal: &Refusal) -> Response {
    let error = match refusal.kind {
        // Clients try again by themselves after this one.
        RefusalKind::Storage => ServerError::ServiceNotReady,
        kind => server_error(kind),
    };
    Response::error(request_id, error, &refusal.message)
}

pub fn schema_version_bytes(version: u64) -> Bytes {
    Bytes::copy_from_slice(&version.to_be_bytes())
}

fn created_schema(request_id: u64, outcome: Result<Option<u64>, Refusal>) -> CommandGetOrCreateSchemaResponse {
    match outcome {
        Ok(version) => CommandGetOrCreateSchemaResponse {
            request_id,
            schema_version: Some(version.map(schema_version_bytes).unwrap_or_default()),
            ..Default::default()
        },
        Err(refusal) => CommandGetOrCreateSchemaResponse {
            request_id,
            error_code: Some(server_error(refusal.kind) as i32),
            error_message: Some(refusal.message),
            ..Default::default()
        },
    }
}

pub fn message_id(position: Option<Position>, partition: i32) -> MessageIdData {
    let Position { ledger, entry } = position.unwrap_or(NO_POSITION);
    let partition = (partition >= 0).then_some(partition);
    MessageIdData { ledger_id: ledger, entry_id: entry, partition, ..MessageIdData::default() }
}

impl State {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Append { topic, position, facts, origin, payload } => {
                self.items.push(Item::Message(Message { topic, position, facts, origin, payload }));
            }
            Effect::Log(change) => {
                // Enums, strings and numbers: this cannot fail.
                let body = serde_json::to_vec(&change).expect("a change is plain data");
                self.items.push(Item::Change(body));
            }
            Effect::Receipt {
                connection,
                producer_id,
                sequence_id,
                highest_sequence_id,
                position,
                partition,
                bytes,
            } => {
                let Some(outbound) = self.connections.get(&connection) else { return };
                outbound.answered(bytes);
                outbound.respond(&Response::SendReceipt(CommandSendReceipt {
                    producer_id,
                    sequence_id,
                    message_id: Some(message_id(position, partition)),
                    highest_sequence_id: (highest_sequence_id > 0).then_some(highest_sequence_id),
                }));
            }
            Effect::SendError { connection, producer_id, sequence_id, refusal, bytes } => {
                let Some(outbound) = self.connections.get(&connection) else { return };
                outbound.answered(bytes);
                let (error, message) = (server_error(refusal.kind) as i32, refusal.message);
                outbound.respond(&Response::SendError(CommandSendError { producer_id, sequence_id, error, message }));
            }
            Effect::Unanswered { connection, bytes } => {
                if let Some(outbound) = self.connections.get(&connection) {
                    outbound.answered(bytes);
                }
            }
            Effect::Deliver { consumer, position, partition, redelivery_count, permits, ack_set, epoch, source } => {
                let stored = matches!(source, Source::Stored(_));
                let consumer_id = consumer.consumer_id;
                let message =
                    OutMessage { consumer_id, position, partition, redelivery_count, permits, ack_set, epoch, source };
                let outbound = self.connections.get(&consumer.connection);
                let taken = outbound.is_some_and(|outbound| outbound.deliver(message));
                if outbound.is_some_and(|outbound| outbound.has_become_congested()) {
                    self.broker.handle_congestion(consumer.connection, true);
                }
                if !taken && !stored {
                    self.broker.handle_flow(consumer, permits);
                }
            }
            Effect::Success { connection, request_id } => self.respond(connection, &Response::success(request_id)),
            Effect::Refused { connection, request_id, refusal } => {
                self.respond(connection, &refused(request_id, &refusal));
            }
            Effect::ProducerReady {
                connection,
                request_id,
                name,
                last_sequence_id,
                topic_epoch,
                schema_version,
                ready,
            } => {
                let success = CommandProducerSuccess {
                    request_id,
                    producer_name: name,
                    last_sequence_id: Some(last_sequence_id),
                    // Empty: no schema.
                    schema_version: Some(schema_version.map(schema_version_bytes).unwrap_or_default()),
                    topic_epoch,
                    producer_ready: Some(ready),
                };
                self.respond(connection, &Response::ProducerSuccess(success));
            }
            Effect::SchemaReady { connection, request_id, outcome } => {
                self.respond(connection, &Response::GetOrCreateSchema(created_schema(request_id, outcome)));
            }
            Effect::ProducerClosed { connection, producer_id } => {
                let close = CommandTargeted { target_id: producer_id, request_id: UNASKED };
                self.respond(connection, &Response::CloseProducer(close));
            }
            Effect::ConsumerClosed { consumer } => {
                let close = CommandTargeted { target_id: consumer.consumer_id, request_id: UNASKED };
                self.respond(consumer.connection, &Response::CloseConsumer(close));
            }
            Effect::ActiveConsumer { consumer, active } => {
                let change = CommandActiveConsumerChange { consumer_id: consumer.consumer_id, is_active: Some(active) };
                self.respond(consumer.connection, &Response::ActiveConsumerChange(change));
            }
            Effect::Synced { token, outcome } => {
                if let Some(waiting) = self.syncs.remove(&token) {
                    // Whoever asked may have gone.
                    let _ = waiting.send(outcome);
                }
            }
            Effect::Partitions { connection, request_id, outcome } => {
                self.respond(connection, &listing::partitions(request_id, outcome));
            }
            Effect::EndOfTopic { consumer } => {
                let end = CommandReachedEndOfTopic { consumer_id: consumer.consumer_id };
                self.respond(consumer.connection, &Response::ReachedEndOfTopic(end));
            }
            Effect::TopicsChanged { connection, watcher_id, created, deleted, hash } => {
                let update = CommandWatchTopicUpdate {
                    watcher_id,
                    new_topics: created,
                    deleted_topics: deleted,
                    topics_hash: hash,
                };
                self.respond(connection, &Response::WatchTopicUpdate(update));
            }
            Effect::Compact { topic } => self.compactions.push_back(topic),
            Effect::Released { segment, entries } => {
                if let Some(storage) = &mut self.storage {
                    storage.release(segment, entries);
                }
            }
        }
    }

    fn respond(&self, connection: ConnectionId, response: &Response) {
        if let Some(outbound) = self.connections.get(&connection) {
            outbound.respond(response);
        }
    }
}
