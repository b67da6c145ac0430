//! Topics as clients find them: lists, watchers, partitions, lookup.

use super::effects::{refused, server_error};
use super::requests::Session;
use crate::semantics::listing::{Domain, TopicList};
use crate::semantics::{Broker, Refusal};
use crate::wire::listing::*;
use crate::wire::messages::*;
use crate::wire::{Response, ServerError};

impl Session {
    pub(super) fn topics(&self, broker: &Broker, request: &CommandGetTopicsOfNamespace) {
        let request_id = request.request_id;
        let domain = match request.mode.unwrap_or(0) {
            0 => Domain::Persistent,
            1 => Domain::NonPersistent,
            _ => Domain::All,
        };
        let (pattern, hash) = (request.topics_pattern.as_deref(), request.topics_hash.as_deref());
        let TopicList { topics, filtered, hash } = broker.list_topics(&request.namespace, domain, pattern, hash);
        let response = Response::GetTopicsOfNamespace(CommandGetTopicsOfNamespaceResponse {
            request_id,
            changed: Some(topics.is_some()),
            topics: topics.unwrap_or_default(),
            filtered: Some(filtered),
            topics_hash: Some(hash),
        });
        self.outbound.respond(&response);
    }

    pub(super) fn watch(&self, broker: &mut Broker, request: &CommandWatchTopicList) {
        let CommandWatchTopicList { request_id, watcher_id, .. } = *request;
        let (pattern, hash) = (&request.topics_pattern, request.topics_hash.as_deref());
        let response = match broker.handle_watch_topics(self.id, watcher_id, &request.namespace, pattern, hash) {
            Ok(list) => Response::WatchTopicListSuccess(CommandWatchTopicListSuccess {
                request_id,
                watcher_id,
                topic: list.topics.unwrap_or_default(),
                topics_hash: list.hash,
            }),
            Err(refusal) => refused(request_id, &refusal),
        };
        self.outbound.respond(&response);
    }

    pub(super) fn unwatch(&self, broker: &mut Broker, request: CommandWatchTopicListClose) {
        broker.handle_unwatch_topics(self.id, request.watcher_id);
        self.outbound.respond(&Response::success(request.request_id));
    }

    pub(super) fn partitioned_metadata(&self, broker: &mut Broker, request: &CommandPartitionedTopicMetadata) {
        let creates = request.metadata_auto_creation_enabled.unwrap_or(true);
        broker.handle_partitioned_metadata(self.id, request.request_id, &request.topic, creates);
    }

    pub(super) fn lookup(&self, broker: &Broker, request: &CommandLookupTopic) {
        let request_id = request.request_id;
        let failed = |error: ServerError, message: String| CommandLookupTopicResponse {
            response: Some(2),
            request_id,
            error: Some(error as i32),
            message: Some(message),
            ..Default::default()
        };
        let listener = request.advertised_listener_name.as_ref().filter(|name| !name.is_empty());
        let response = match (listener, broker.resolve(&request.topic)) {
            // As Apache Pulsar 4.0.8 answers.
            (Some(listener), _) => failed(
                ServerError::ServiceNotReady,
                format!("The broker does not have a listener `{}`: leave it out", listener.escape_debug()),
            ),
            (None, Ok(_)) => CommandLookupTopicResponse {
                broker_service_url: Some(self.hub.settings.service_url.clone()),
                response: Some(1),
                request_id,
                authoritative: Some(true),
                proxy_through_service_url: Some(false),
                ..Default::default()
            },
            (None, Err(refusal)) => failed(server_error(refusal.kind), refusal.message),
        };
        self.outbound.respond(&Response::Lookup(response));
    }
}

/// How many partitions a topic has, as its client is told.
pub fn partitions(request_id: u64, outcome: Result<u32, Refusal>) -> Response {
    Response::PartitionedMetadata(match outcome {
        Ok(partitions) => CommandPartitionedTopicMetadataResponse {
            partitions: Some(partitions),
            request_id,
            response: Some(0),
            ..Default::default()
        },
        Err(refusal) => CommandPartitionedTopicMetadataResponse {
            request_id,
            response: Some(1),
            error: Some(server_error(refusal.kind) as i32),
            message: Some(refusal.message),
            ..Default::default()
        },
    })
}
