//! Makes the topics of an application, its durable subscriptions (before the first publish: what is published
//! before is gone after a trim) and the namespace's policies; checks them at every start. A second set-up changes
//! nothing, several at once do no harm, and whatever contradicts is refused by name.

use everpulse_protocol::priority::Lane;
use everpulse_protocol::topic;
use serde_json::{Value, json};

use crate::admin::{Admin, Answer, earliest};
use crate::{Error, ErrorKind};

/// When nobody says.
const SHARDS: u32 = 16;
const INBOX_PARTITIONS: u32 = 4;

/// What an application is to be set up with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SetUp {
    /// Another count than that of an existing application is refused. If none is given, what exists is taken; 16 for
    /// a new one.
    pub shards: Option<u32>,
    /// As above; 4 for a new application.
    pub inbox_partitions: Option<u32>,
    /// How long what is acked is kept for readers, if the namespace does not say so already. 1 hour, and 1 GB.
    pub retention_minutes: u32,
    pub retention_mb: u32,
}

impl Default for SetUp {
    fn default() -> Self {
        SetUp { shards: None, inbox_partitions: None, retention_minutes: 60, retention_mb: 1024 }
    }
}

impl SetUp {
    #[must_use]
    pub fn shards(mut self, shards: Option<u32>) -> Self {
        self.shards = shards;
        self
    }

    #[must_use]
    pub fn inbox_partitions(mut self, partitions: Option<u32>) -> Self {
        self.inbox_partitions = partitions;
        self
    }
}

/// What an application has. Fixed when it was set up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Layout {
    /// Partitions of the history.
    pub shards: u32,
    pub inbox_partitions: u32,
}

impl Layout {
    pub(crate) fn new(shards: u32, inbox_partitions: u32) -> Self {
        Layout { shards, inbox_partitions }
    }
}

/// Where the application lives, and the way to administer it.
pub(crate) struct Site<'a> {
    pub admin: &'a Admin,
    pub tenant: &'a str,
    pub namespace: &'a str,
}

impl Site<'_> {
    pub async fn set_up(&self, wanted: &SetUp) -> Result<Layout, Error> {
        self.ensure_namespace().await?;
        self.ensure_policies(wanted).await?;
        let shards = self.ensure_partitioned(topic::HISTORY, "shards", wanted.shards, SHARDS).await?;
        let inbox = self
            .ensure_partitioned(topic::INBOX, "inbox_partitions", wanted.inbox_partitions, INBOX_PARTITIONS)
            .await?;
        self.ensure_topic(topic::TIMERS).await?;
        self.ensure_topic(topic::INBOX_DEAD).await?;
        for (name, subscription) in [
            (topic::HISTORY, topic::JANITOR),
            (topic::INBOX, topic::OWNERS),
            (topic::TIMERS, topic::RELAY),
            (topic::INBOX_DEAD, topic::OPERATORS),
        ] {
            self.ensure_subscription(name, subscription).await?;
        }
        Ok(Layout::new(shards, inbox))
    }

    pub async fn set_up_queue(&self, queue: &str) -> Result<(), Error> {
        let (tasks, dead) = (topic::activity(queue), topic::activity_dead(queue));
        self.ensure_topic(&tasks).await?;
        self.ensure_subscription(&tasks, topic::WORKERS).await?;
        self.ensure_topic(&dead).await?;
        self.ensure_subscription(&dead, topic::OPERATORS).await
    }

    pub async fn set_up_lane(&self, lane: &Lane) -> Result<(), Error> {
        let tasks = topic::activity(&lane.to_string());
        self.ensure_topic(&tasks).await?;
        self.ensure_subscription(&tasks, topic::WORKERS).await
    }

    /// What is old in it nobody needs, so no subscription keeps it. Whether it is new.
    pub async fn set_up_permits(&self, topic: &str) -> Result<bool, Error> {
        self.ensure_topic(topic).await
    }

    pub async fn set_up_lanes(&self) -> Result<(), Error> {
        self.ensure_topic(topic::LANES).await?;
        self.ensure_subscription(topic::LANES, topic::KEEPER).await
    }

    pub async fn set_up_blobs(&self, store: &str) -> Result<(), Error> {
        let name = topic::blobs(store);
        self.ensure_topic(&name).await?;
        self.ensure_subscription(&name, topic::KEEPER).await
    }

    pub async fn set_up_schemas(&self) -> Result<(), Error> {
        self.ensure_topic(topic::SCHEMAS).await?;
        self.ensure_subscription(topic::SCHEMAS, topic::KEEPER).await
    }

    async fn ensure_namespace(&self) -> Result<(), Error> {
        let (tenant, namespace) = (self.tenant, self.namespace);
        let path = format!("namespaces/{tenant}/{namespace}");
        if let Answer::Done(_) = self.admin.get(&path).await? {
            return Ok(());
        }
        if let Answer::Missing = self.admin.put(&path, Some(json!({}))).await? {
            let clusters = self.admin.get("clusters").await?.or_refused("asking for the clusters")?;
            let body = json!({"adminRoles": [], "allowedClusters": clusters});
            self.admin.put(&format!("tenants/{tenant}"), Some(body)).await?;
            // Somebody else may have been faster with either.
            if let Answer::Missing = self.admin.put(&path, Some(json!({}))).await? {
                let message = format!("cannot create the namespace {tenant}/{namespace}: its tenant is not there");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
        }
        Ok(())
    }

    async fn ensure_policies(&self, wanted: &SetUp) -> Result<(), Error> {
        let path = format!("namespaces/{}/{}", self.tenant, self.namespace);
        let policies = self.admin.get(&path).await?.or_refused(format!("asking for the policies of {path}"))?;
        if let Some(contradiction) = contradiction(&policies) {
            let message = format!(
                "the namespace {}/{} contradicts what an application needs: {contradiction}; change it, or use a \
                 namespace of its own",
                self.tenant, self.namespace
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        for Policy { name, body, optional } in missing(&policies, wanted) {
            match self.admin.post(&format!("{path}/{name}"), body).await? {
                // A broker without the policy needs none.
                Answer::Missing if optional => {}
                answer => {
                    answer.or_refused(format!("setting {name} of {path}"))?;
                }
            }
        }
        Ok(())
    }

    /// The count that is there, after making it if there was none.
    async fn ensure_partitioned(
        &self,
        name: &str,
        what: &str,
        wanted: Option<u32>,
        default: u32,
    ) -> Result<u32, Error> {
        let path = self.path(name, "partitions");
        let count = match self.partitions(&path).await? {
            Some(count) => count,
            None => {
                self.admin.put(&path, Some(json!(wanted.unwrap_or(default)))).await?;
                // Asked again, since somebody else may have been faster, with another count.
                self.partitions(&path).await?.ok_or_else(|| {
                    let message = format!("the topic {name} was made as a partitioned one, but it is not");
                    Error::new(ErrorKind::Refused, message)
                })?
            }
        };
        match wanted {
            Some(wanted) if wanted != count => Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "{what} is {wanted} here, but this application was set up with {count}, which is fixed; leave it \
                     out, or use another namespace"
                ),
            )),
            _ => Ok(count),
        }
    }

    async fn partitions(&self, path: &str) -> Result<Option<u32>, Error> {
        match self.admin.get(path).await? {
            Answer::Done(body) => {
                let count = body.get("partitions").and_then(Value::as_u64).unwrap_or(0);
                Ok(u32::try_from(count).ok().filter(|count| *count > 0))
            }
            _ => Ok(None),
        }
    }

    /// Whether it is new.
    async fn ensure_topic(&self, name: &str) -> Result<bool, Error> {
        match self.admin.put(&self.path(name, ""), None).await? {
            Answer::Missing => Err(Error::new(ErrorKind::NotFound, format!("cannot create the topic {name}"))),
            Answer::Done(_) => Ok(true),
            Answer::Exists => Ok(false),
        }
    }

    pub async fn ensure_subscription(&self, name: &str, subscription: &str) -> Result<(), Error> {
        let path = self.path(name, &format!("subscription/{subscription}"));
        match self.admin.put(&path, Some(earliest())).await? {
            Answer::Missing => {
                let message = format!("cannot create the subscription {subscription} of {name}");
                Err(Error::new(ErrorKind::NotFound, message))
            }
            _ => Ok(()),
        }
    }

    /// `persistent/T/N/NAME[/REST]`.
    pub fn path(&self, name: &str, rest: &str) -> String {
        let separator = if rest.is_empty() { "" } else { "/" };
        format!("persistent/{}/{}/{name}{separator}{rest}", self.tenant, self.namespace)
    }
}

/// The first policy that was set to something with which an application would lose what it stores.
fn contradiction(policies: &Value) -> Option<String> {
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_i64);
    if policies.get("deduplicationEnabled") == Some(&Value::Bool(false)) {
        return Some("deduplicationEnabled is false (it must be true, or not be set)".to_owned());
    }
    if let Some(ttl @ 1..) = number(policies, "message_ttl_in_seconds") {
        return Some(format!("message_ttl_in_seconds is {ttl} (it must be 0, or not be set)"));
    }
    if let Some(minutes @ 1..) = number(policies, "subscription_expiration_time_minutes") {
        return Some(format!("subscription_expiration_time_minutes is {minutes} (it must be 0, or not be set)"));
    }
    for (kind, quota) in policies.get("backlog_quota_map").and_then(Value::as_object).into_iter().flatten() {
        let limit = match kind.as_str() {
            "message_age" => number(quota, "limitTime").unwrap_or(0),
            _ => number(quota, "limitSize").or(number(quota, "limit")).unwrap_or(-1),
        };
        let limited = if kind == "message_age" { limit > 0 } else { limit >= 0 };
        if limited {
            return Some(format!("backlog_quota_map limits {kind} to {limit} (it must be unlimited, or not be set)"));
        }
    }
    let clusters = policies.get("replication_clusters").and_then(Value::as_array).map_or(0, Vec::len);
    if clusters > 1 {
        return Some(format!("replication_clusters has {clusters} clusters (an application lives in one)"));
    }
    let inactive = policies.get("inactive_topic_policies");
    if inactive.and_then(|policy| policy.get("deleteWhileInactive")) == Some(&Value::Bool(true)) {
        return Some("inactive_topic_policies has deleteWhileInactive (it must be false, or not be set)".to_owned());
    }
    let delayed = policies.get("delayed_delivery_policies");
    if delayed.and_then(|policy| policy.get("active")) == Some(&Value::Bool(false)) {
        return Some("delayed_delivery_policies is not active (timers and retries need it)".to_owned());
    }
    let kinds: Vec<&str> = policies
        .get("subscription_types_enabled")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let lacking = ["Exclusive", "Shared", "Key_Shared"].into_iter().find(|kind| !kinds.contains(kind));
    if let (false, Some(kind)) = (kinds.is_empty(), lacking) {
        return Some(format!("subscription_types_enabled lacks {kind}"));
    }
    None
}

struct Policy {
    name: &'static str,
    body: Value,
    optional: bool,
}

/// What has to be set, in this order: Pulsar refuses a backlog quota above the retention, even an unlimited one.
fn missing(policies: &Value, wanted: &SetUp) -> Vec<Policy> {
    let unset = |name: &str| policies.get(name).is_none_or(Value::is_null);
    let quota = policies.get("backlog_quota_map").and_then(|map| map.get("destination_storage")).is_some();
    let candidates = [
        (unset("deduplicationEnabled"), "deduplication", json!(true), false),
        (unset("message_ttl_in_seconds"), "messageTTL", json!(0), false),
        (
            !quota,
            "backlogQuota?backlogQuotaType=destination_storage",
            json!({"limitSize": -1, "limitTime": -1, "policy": "producer_request_hold"}),
            false,
        ),
        (
            unset("retention_policies"),
            "retention",
            json!({
                "retentionTimeInMinutes": wanted.retention_minutes,
                "retentionSizeInMB": wanted.retention_mb,
            }),
            false,
        ),
        (
            unset("inactive_topic_policies"),
            "inactiveTopicPolicies",
            json!({
                "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
                "maxInactiveDurationSeconds": 60,
                "deleteWhileInactive": false,
            }),
            false,
        ),
        (unset("subscription_expiration_time_minutes"), "subscriptionExpirationTime", json!(0), true),
        // A tenth of the default: a message may be early by one tick, and retries wait less than a second.
        (unset("delayed_delivery_policies"), "delayedDelivery", json!({"active": true, "tickTime": 100}), true),
    ];
    candidates
        .into_iter()
        .filter(|(needed, ..)| *needed)
        .map(|(_, name, body, optional)| Policy { name, body, optional })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contradicting_policy_is_named() {
        let check = |policies: Value, expect: Option<&str>| match (contradiction(&policies), expect) {
            (None, None) => {}
            (Some(found), Some(expect)) => assert!(found.contains(expect), "{found}"),
            (found, _) => panic!("{policies}: {found:?}"),
        };
        check(json!({}), None);
        check(json!({"deduplicationEnabled": false}), Some("deduplicationEnabled"));
        check(json!({"message_ttl_in_seconds": 0}), None);
        check(json!({"message_ttl_in_seconds": 60}), Some("message_ttl_in_seconds is 60"));
        check(json!({"subscription_expiration_time_minutes": 5}), Some("subscription_expiration_time_minutes"));
        let quota = |kind: &str, size: i64, time: i64| json!({"backlog_quota_map": {kind: {"limit": size, "limitSize": size, "limitTime": time}}});
        check(quota("destination_storage", -1, -1), None);
        check(quota("destination_storage", 1000, -1), Some("destination_storage to 1000"));
        check(quota("message_age", -1, 0), None);
        check(quota("message_age", -1, 60), Some("message_age to 60"));
        check(json!({"replication_clusters": ["a"]}), None);
        check(json!({"replication_clusters": ["a", "b"]}), Some("replication_clusters has 2"));
        check(json!({"inactive_topic_policies": {"deleteWhileInactive": true}}), Some("deleteWhileInactive"));
        check(json!({"delayed_delivery_policies": {"active": false}}), Some("delayed_delivery_policies"));
        check(json!({"subscription_types_enabled": []}), None);
        check(json!({"subscription_types_enabled": ["Exclusive", "Shared"]}), Some("lacks Key_Shared"));
    }

    #[test]
    fn what_is_set_already_is_not_set_again() {
        let names = |policies: Value| -> Vec<&str> {
            missing(&policies, &SetUp::default()).iter().map(|policy| policy.name).collect()
        };
        assert_eq!(names(json!({})).len(), 7);
        let all = json!({
            "deduplicationEnabled": true,
            "message_ttl_in_seconds": 0,
            "backlog_quota_map": {"destination_storage": {"limitSize": -1}},
            "retention_policies": {"retentionTimeInMinutes": 5, "retentionSizeInMB": 5},
            "inactive_topic_policies": {"deleteWhileInactive": false},
            "subscription_expiration_time_minutes": 0,
            "delayed_delivery_policies": {"active": true},
        });
        assert!(names(all).is_empty());
    }
}
