//! The schema registry: which schemas a topic has had, and which may come next.
//!
//! Schemas belong to a topic, whatever its domain and with all its partitions. Versions count from zero and are
//! never reused while the topic exists; a deletion is a version, too. Every rule here was asked of Apache
//! Pulsar 4.0.8. Payloads are not looked at: a producer promises that its messages are of its schema.
//!
//! ```text
//! producer ──► known? its version ─── compatible with the last (or all)? ──► next version
//! consumer ──► on an unused topic as a producer, else only checked: can it read what is there?
//! ```

mod avro;
mod compatibility;
mod kind;
mod resolve;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use kind::SchemaKind;

use super::broker::Broker;
use super::change::Change;
use super::effect::{Effect, Refusal, RefusalKind};
use super::name::TopicName;
use super::policies::SchemaCompatibility;
use super::{ConnectionId, TopicId};

/// A schema as clients and the admin bring it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub kind: SchemaKind,
    /// The definition: text of Avro or JSON Schema, a descriptor, nothing for primitive types.
    pub data: Vec<u8>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// A schema of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaVersion {
    pub version: u64,
    pub at_ms: u64,
    /// None says that all before were deleted.
    pub schema: Option<Schema>,
}

/// The registry's name of a topic: `tenant/namespace/topic`.
fn id_of(topic: &TopicName) -> &str {
    topic.base().split_once("://").map_or(topic.base(), |(_, id)| id)
}

fn incompatible(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::IncompatibleSchema, message)
}

impl Broker {
    /// All schemas of a topic since the last deletion, oldest first.
    pub fn schemas(&self, topic: &TopicName) -> &[SchemaVersion] {
        let all = self.catalog.schemas.get(id_of(topic)).map_or(&[][..], Vec::as_slice);
        let first = all.iter().rposition(|version| version.schema.is_none()).map_or(0, |deleted| deleted + 1);
        &all[first..]
    }

    /// The last schema of a topic, or one version of it.
    pub fn schema(&self, topic: &TopicName, version: Option<u64>) -> Option<&SchemaVersion> {
        let schemas = self.schemas(topic);
        match version {
            None => schemas.last(),
            Some(version) => schemas.iter().find(|schema| schema.version == version),
        }
    }

    /// Which version of a topic's schema this is, if it is one.
    pub fn schema_version(&self, topic: &TopicName, schema: &Schema) -> Option<u64> {
        let known = self
            .schemas(topic)
            .iter()
            .find(|known| known.schema.as_ref().is_some_and(|known| compatibility::is_same(known, schema)));
        known.map(|known| known.version)
    }

    /// What the topic's namespace asks of schemas.
    pub fn schema_compatibility(&self, topic: &TopicName) -> SchemaCompatibility {
        let policies = self.catalog.namespaces.get(topic.namespace());
        policies.and_then(|policies| policies.schema_compatibility).unwrap_or_default()
    }

    /// Whether this schema could be the topic's next one.
    ///
    /// # Errors
    /// It could not, or is no schema.
    pub fn check_schema(&self, topic: &TopicName, schema: &Schema) -> Result<(), Refusal> {
        compatibility::validate(schema)?;
        let strategy = self.schema_compatibility(topic);
        compatibility::check(self.schemas(topic), schema, strategy)
    }

    /// Makes a schema the topic's last one, unless the topic has it, and gives its version.
    ///
    /// # Errors
    /// It is no schema, or not compatible with what the topic has.
    pub fn handle_put_schema(&mut self, topic: &TopicName, schema: Schema) -> Result<u64, Refusal> {
        self.catalog.namespace(topic.namespace())?;
        compatibility::validate(&schema)?;
        if let Some(version) = self.schema_version(topic, &schema) {
            return Ok(version);
        }
        self.check_schema(topic, &schema)?;
        self.check_storage()?;
        Ok(self.add_schema(topic, Some(schema)))
    }

    /// Deletes all schemas of a topic; gives the version that says so, or none if nothing is remembered because
    /// of `force`.
    ///
    /// # Errors
    /// The namespace does not exist.
    pub fn handle_delete_schema(&mut self, topic: &TopicName, force: bool) -> Result<Option<u64>, Refusal> {
        self.catalog.namespace(topic.namespace())?;
        if force {
            self.forget_schemas(topic);
            return Ok(None);
        }
        Ok(Some(self.add_schema(topic, None)))
    }

    fn add_schema(&mut self, topic: &TopicName, schema: Option<Schema>) -> u64 {
        let versions = self.catalog.schemas.entry(id_of(topic).to_owned()).or_default();
        let version = versions.last().map_or(0, |last| last.version + 1);
        let version = SchemaVersion { version, at_ms: self.now_ms, schema };
        versions.push(version.clone());
        self.log(Change::Schema { topic: id_of(topic).to_owned(), version: version.clone() });
        version.version
    }

    /// The topic is deleted with its schemas; those of a partition belong to its partitioned topic.
    pub(super) fn forget_schemas(&mut self, topic: &TopicName) {
        if self.catalog.schemas.remove(id_of(topic)).is_some() {
            self.log(Change::SchemasForgotten { topic: id_of(topic).to_owned() });
        }
    }

    /// The version that a producer's schema has; none for a producer without.
    pub(super) fn schema_of_producer(
        &mut self,
        topic: &TopicName,
        schema: Option<Schema>,
    ) -> Result<Option<u64>, Refusal> {
        let policies = self.catalog.namespaces.get(topic.namespace());
        let Some(schema) = schema else {
            let enforced = policies.is_some_and(|policies| policies.schema_validation_enforced);
            if enforced && !self.schemas(topic).is_empty() {
                return Err(incompatible(format!(
                    "{topic} has a schema and its namespace enforces schema validation: producers need one"
                )));
            }
            return Ok(None);
        };
        if policies.and_then(|policies| policies.allow_auto_update_schema) == Some(false) {
            let known = self.schema_version(topic, &schema);
            return known
                .map(Some)
                .ok_or_else(|| incompatible("Schema not found and schema auto updating is disabled"));
        }
        self.handle_put_schema(topic, schema).map(Some)
    }

    /// Whether a consumer may come to a topic with this schema.
    pub(super) fn check_consumer_schema(&mut self, id: TopicId, schema: Option<Schema>) -> Result<(), Refusal> {
        let (Some(schema), Some(topic)) = (schema, self.topics.get(&id)) else { return Ok(()) };
        let reads = || self.consumers.values().any(|consumer| consumer.topic == id && !consumer.any_schema);
        let used = !topic.producers.is_empty() || topic.log.count() > 0 || reads();
        let name = topic.name.clone();
        self.schema_of_consumer(&name, schema, used)
    }

    /// What a consumer's schema comes to: on a topic that nobody uses it becomes the topic's, else it must be
    /// able to read.
    fn schema_of_consumer(&mut self, topic: &TopicName, schema: Schema, used: bool) -> Result<(), Refusal> {
        if schema.kind == SchemaKind::AutoConsume {
            return Ok(());
        }
        compatibility::validate(&schema)?;
        let known = self.schemas(topic);
        if known.is_empty() {
            if used {
                return Err(incompatible(format!(
                    "{topic} is in use without a schema: a consumer cannot give it one of type {:?}",
                    schema.kind
                )));
            }
            return self.schema_of_producer(topic, Some(schema)).map(|_| ());
        }
        compatibility::check_consumer(known, &schema, self.schema_compatibility(topic))
    }

    /// A client wants the topic to have this schema.
    pub fn handle_get_or_create_schema(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        topic: &str,
        schema: Option<Schema>,
    ) {
        let outcome = self.resolve(topic).and_then(|name| {
            self.topic(&name)?;
            self.schema_of_producer(&name, schema)
        });
        self.answer(Effect::SchemaReady { connection, request_id, outcome });
    }
}
