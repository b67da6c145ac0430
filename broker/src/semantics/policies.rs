//! What a namespace asks of its topics. Owns the policies and their defaults; who obeys them is elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    #[serde(rename = "retentionTimeInMinutes")]
    pub minutes: i64,
    #[serde(rename = "retentionSizeInMB")]
    pub size_mb: i64,
}

/// The policies of a namespace; what is unset is as in a new Apache Pulsar standalone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Policies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deduplication: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_ttl_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_topics: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backlog_quotas: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Producers must say that they encrypt, and do so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encryption_required: bool,
    /// More producers of a topic are refused; zero or none is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_producers_per_topic: Option<u32>,
    /// Like the former for consumers, durable subscriptions and topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_consumers_per_topic: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_consumers_per_subscription: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_subscriptions_per_topic: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_topics_per_namespace: Option<u32>,
    /// The kinds of subscription that may be used; none or no kind is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_types: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_subscription_creation: Option<AutoSubscriptionCreation>,
    /// A topic with more bytes than this that nobody has compacted yet is compacted; zero or none is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction_threshold: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_compatibility: Option<SchemaCompatibility>,
    /// A producer without a schema is refused by a topic that has one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub schema_validation_enforced: bool,
    /// Whether a producer or consumer may bring a new version of a schema; none is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_auto_update_schema: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_topic_creation: Option<AutoTopicCreation>,
}

/// Which schemas may follow which, by the names that Apache Pulsar has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SchemaCompatibility {
    Undefined,
    AlwaysIncompatible,
    AlwaysCompatible,
    Backward,
    Forward,
    #[default]
    Full,
    BackwardTransitive,
    ForwardTransitive,
    FullTransitive,
}

/// Whether a client's consumer makes the subscription that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoSubscriptionCreation {
    #[serde(rename = "allowAutoSubscriptionCreation")]
    pub allow: bool,
}

/// What becomes of a topic that a client names and that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoTopicCreation {
    #[serde(rename = "allowAutoTopicCreation")]
    pub allow: bool,
    /// Nothing is the same as [`TopicKind::NonPartitioned`], and is told as it was given.
    #[serde(rename = "topicType", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TopicKind>,
    #[serde(rename = "defaultNumPartitions", default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicKind {
    Partitioned,
    NonPartitioned,
}

impl Default for AutoTopicCreation {
    fn default() -> AutoTopicCreation {
        AutoTopicCreation { allow: true, kind: None, partitions: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_pulsar_writes_them() {
        let json = r#"{"allowAutoTopicCreation":true,"topicType":"partitioned","defaultNumPartitions":3}"#;
        let creation: AutoTopicCreation = serde_json::from_str(json).expect("valid");
        let expected = AutoTopicCreation { allow: true, kind: Some(TopicKind::Partitioned), partitions: Some(3) };
        assert_eq!(creation, expected);
        let full: SchemaCompatibility = serde_json::from_str("\"FULL_TRANSITIVE\"").expect("valid");
        assert_eq!(full, SchemaCompatibility::FullTransitive);
    }

    #[test]
    fn what_an_older_version_stored_is_understood() {
        let policies: Policies = serde_json::from_str(r#"{"deduplication":true}"#).expect("valid");
        assert_eq!(policies, Policies { deduplication: Some(true), ..Policies::default() });
    }
}
