//! What Apache Pulsar's API has and this broker does not honour: read as unset, and never silently stored.
//!
//! Setting such a policy to the value that asks for nothing is accepted, since tools do that to be explicit;
//! any other value is refused with words.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;

use super::reply::{Failure, Reply, done, parse};
use super::routes::Routes;

/// A policy that is not honoured.
struct Policy {
    path: &'static str,
    /// The method that sets it.
    set: &'static str,
    /// What reading it gives; empty if it reads as unset.
    reads: &'static str,
    /// Whether a value asks for nothing.
    asks_nothing: fn(&Value) -> bool,
    reason: &'static str,
}

const fn post(
    path: &'static str,
    reads: &'static str,
    asks_nothing: fn(&Value) -> bool,
    reason: &'static str,
) -> Policy {
    Policy { path, set: "POST", reads, asks_nothing, reason }
}

const fn put(
    path: &'static str,
    reads: &'static str,
    asks_nothing: fn(&Value) -> bool,
    reason: &'static str,
) -> Policy {
    Policy { set: "PUT", ..post(path, reads, asks_nothing, reason) }
}

const RATES: &str = "Rates are not limited by this broker";
const OFFLOAD: &str = "Offloading to other storage is not supported";
const REPLICATION: &str = "Replication is not supported: there is one cluster, `standalone`";
const ONE_BROKER: &str = "This is a single broker: nothing is placed, split or grouped";
const UNACKED: &str = "The limits of unacked messages are fixed in this broker";
const FILTERS: &str = "Entry filters are plug-ins of the Java broker and are not supported";
const ROLES: &str = "There are no roles: this broker has one token, which may do everything";
const EXPIRATION: &str = "Subscriptions do not expire in this broker: delete them";
const SNAPSHOTS: &str = "Deduplication takes no snapshots of its own: its state is always stored";
const PAUSE: &str = "Dispatch does not pause in this broker: the state of acknowledgements is always stored";
const OLD_STRATEGY: &str = "Use schemaCompatibilityStrategy";
const DELAYS: &str = "Delayed delivery cannot be switched off in this broker";
const OF_NAMESPACE: &str = "This policy is a namespace's in this broker: set it there";
const SIZE: &str = "The largest message size is an option of the broker, not of a topic";
const SHADOWS: &str = "Shadow topics are not supported";
const FUNCTIONS: &str = "Functions and connectors are not part of this broker";
const TRANSACTIONS: &str = "Transactions are not supported";
const NO_JMX: &str = "There are no numbers of a Java process here: ask for /metrics, or for the stats of a topic";
const NO_BOOKIES: &str = "There are no bookies: the broker stores messages itself";

const OF_BOTH: &[Policy] = &[
    post("publishRate", "", unlimited, RATES),
    post("dispatchRate", "", unlimited, RATES),
    post("subscriptionDispatchRate", "", unlimited, RATES),
    post("subscribeRate", "", unlimited, RATES),
    post("replicatorDispatchRate", "", unlimited, RATES),
    post("replication", r#"["standalone"]"#, at_home, REPLICATION),
    post("offloadPolicies", "", Value::is_null, OFFLOAD),
    post("deduplicationSnapshotInterval", "", no_limit, SNAPSHOTS),
    post("delayedDelivery", "", delays, DELAYS),
    post("entryFilters", "", Value::is_null, FILTERS),
    post("dispatcherPauseOnAckStatePersistent", "false", off, PAUSE),
];

/// Delayed messages are always delivered when they are due.
fn delays(value: &Value) -> bool {
    value.is_null() || value.get("active").and_then(Value::as_bool) == Some(true)
}

const OF_NAMESPACES: &[Policy] = &[
    post("subscriptionExpirationTime", "", no_limit, EXPIRATION),
    post("maxUnackedMessagesPerConsumer", "", Value::is_null, UNACKED),
    post("maxUnackedMessagesPerSubscription", "", Value::is_null, UNACKED),
    post("subscriptionAuthMode", "\"None\"", none, ROLES),
    put("offloadThreshold", "-1", no_limit, OFFLOAD),
    put("offloadThresholdInSeconds", "-1", no_limit, OFFLOAD),
    put("offloadDeletionLagMs", "", Value::is_null, OFFLOAD),
    post("antiAffinity", "", Value::is_null, ONE_BROKER),
    post("allowedClusters", "[]", at_home, REPLICATION),
    post("persistence/bookieAffinity", "", Value::is_null, NO_BOOKIES),
    put("schemaAutoUpdateCompatibilityStrategy", "", Value::is_null, OLD_STRATEGY),
];

const OF_TOPICS: &[Policy] = &[
    post("maxUnackedMessagesOnConsumer", "", Value::is_null, UNACKED),
    post("maxUnackedMessagesOnSubscription", "", Value::is_null, UNACKED),
    post("backlogQuotaMap", "{}", Value::is_null, OF_NAMESPACE),
    post("backlogQuota", "", Value::is_null, OF_NAMESPACE),
    put("schemaCompatibilityStrategy", "", Value::is_null, OF_NAMESPACE),
    post("schemaValidationEnforced", "false", off, OF_NAMESPACE),
    post("maxMessageSize", "", no_limit, SIZE),
    put("shadowTopics", "[]", nothing_in_it, SHADOWS),
];

/// Throttles with nothing above zero.
fn unlimited(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| !name.to_lowercase().contains("throttlingrate") || no_limit(value))
        }
        other => other.is_null(),
    }
}

fn no_limit(value: &Value) -> bool {
    value.is_null() || value.as_f64().is_some_and(|number| number <= 0.0)
}

fn at_home(value: &Value) -> bool {
    value.as_array().is_some_and(|clusters| clusters.iter().all(|cluster| cluster == super::clusters::CLUSTER))
}

fn nothing_in_it(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn off(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

fn none(value: &Value) -> bool {
    value == "None"
}

fn add(routes: Routes, base: &str, policy: &'static Policy) -> Routes {
    let path = format!("{base}/{}", policy.path);
    let set = async move |body: Bytes| -> Reply {
        let value: Value = if body.is_empty() { Value::Null } else { parse(&body)? };
        if (policy.asks_nothing)(&value) { Ok(done()) } else { Err(Failure::not_supported(policy.reason)) }
    };
    let routes = routes
        .get(&path, async move || match policy.reads {
            "" => StatusCode::OK.into_response(),
            reads => ([(header::CONTENT_TYPE, "application/json")], reads).into_response(),
        })
        .delete(&path, async || done());
    if policy.set == "PUT" { routes.put(&path, set) } else { routes.post(&path, set) }
}

/// Below `/admin/v2/namespaces/{tenant}/{namespace}`.
pub(super) fn of_namespaces(base: &str) -> Routes {
    let of = |rest: &str| format!("{base}/{rest}");
    OF_BOTH
        .iter()
        .chain(OF_NAMESPACES)
        .fold(Routes::default(), |routes, policy| add(routes, base, policy))
        .refuse("DELETE", &of("removeOffloadPolicies"), OFFLOAD)
        .refuse("GET", &of("scanOffloadedLedgers"), OFFLOAD)
        .refuse("POST", &of("migration"), REPLICATION)
        .get(&of("resourcegroup"), async || StatusCode::OK)
        .refuse("POST", &of("resourcegroup/{group}"), RATES)
        .refuse("DELETE", &of("resourcegroup"), RATES)
        .refuse("POST", &of("permissions/{role}"), ROLES)
        .refuse("DELETE", &of("permissions/{role}"), ROLES)
        .refuse("POST", &of("permissions/subscription/{role}"), ROLES)
        .refuse("DELETE", &of("permissions/{role}/{subscription}"), ROLES)
        .refuse("PUT", &of("{bundle}/split"), ONE_BROKER)
        .refuse("DELETE", &of("{bundle}"), ONE_BROKER)
        .refuse("GET", &of("{bundle}/topicHashPositions"), ONE_BROKER)
}

/// Below a topic.
pub(super) fn of_topics(base: &str) -> Routes {
    let of = |rest: &str| format!("{base}/{rest}");
    OF_BOTH
        .iter()
        .chain(OF_TOPICS)
        .fold(Routes::default(), |routes, policy| add(routes, base, policy))
        .refuse("POST", &of("trim"), "Acknowledged messages are given back by themselves")
        .refuse("GET", &of("backlog"), "Backlogs are in the stats")
        .refuse("PUT", &of("backlogSize"), "Backlogs are in the stats")
        .refuse("PUT", &of("offload"), OFFLOAD)
        .refuse("GET", &of("offload"), OFFLOAD)
        .refuse("POST", &of("permissions/{role}"), ROLES)
        .refuse("DELETE", &of("permissions/{role}"), ROLES)
        .refuse("GET", &of("{subscription}/dispatchRate"), RATES)
        .refuse("POST", &of("{subscription}/dispatchRate"), RATES)
        .refuse("DELETE", &of("{subscription}/dispatchRate"), RATES)
        .refuse("POST", &of("subscription/{subscription}/replicatedSubscriptionStatus"), REPLICATION)
}

/// Whole subjects that this broker has nothing of.
pub(super) fn elsewhere() -> Routes {
    let subjects: [(&str, &[&str], &'static str); 11] = [
        ("/admin/v2/broker-stats", &["/{*rest}"], NO_JMX),
        ("/admin/v2/resourcegroups", &["", "/{group}"], RATES),
        ("/admin/v2/resource-quotas", &["", "/{tenant}/{namespace}/{bundle}"], RATES),
        ("/admin/v2/bookies", &["/all", "/racks-info", "/racks-info/{bookie}"], NO_BOOKIES),
        ("/admin/v2/worker", &["/{*rest}"], FUNCTIONS),
        ("/admin/v2/worker-stats", &["/{*rest}"], FUNCTIONS),
        ("/admin/v3/functions", &["/{*rest}"], FUNCTIONS),
        ("/admin/v3/sources", &["/{*rest}"], FUNCTIONS),
        ("/admin/v3/sinks", &["/{*rest}"], FUNCTIONS),
        ("/admin/v3/packages", &["/{*rest}"], FUNCTIONS),
        ("/admin/v3/transactions", &["/{*rest}"], TRANSACTIONS),
    ];
    let mut routes = Routes::default();
    for (base, rests, reason) in subjects {
        for rest in rests {
            for method in ["GET", "PUT", "POST", "DELETE"] {
                routes = routes.refuse(method, &format!("{base}{rest}"), reason);
            }
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_values_that_ask_for_nothing_are_taken() {
        assert!(unlimited(&json!({ "dispatchThrottlingRateInMsg": -1, "ratePeriodInSecond": 1 })));
        assert!(!unlimited(&json!({ "publishThrottlingRateInByte": 5 })));
        assert!(no_limit(&json!(0)) && !no_limit(&json!(30)));
        assert!(at_home(&json!(["standalone"])) && !at_home(&json!(["standalone", "other"])));
    }
}
