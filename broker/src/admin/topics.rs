//! Topics: list, create, delete, unload, truncate, and where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use serde_json::json as value;

use super::namespaces::{BUNDLE, topics_of};
use super::path::{Namespace, Persistent, Topic, each};
use super::reply::{Failure, Reply, done, json, parse};
use super::routes::Routes;
use super::tenants::Force;
use crate::server::Hub;

pub(super) type Shared = State<Arc<Hub>>;

pub(super) fn routes() -> Routes {
    let mut routes = Routes::default();
    for domain in ["persistent", "non-persistent"] {
        let namespace = format!("/admin/v2/{domain}/{{tenant}}/{{namespace}}");
        let topic = format!("{namespace}/{{topic}}");
        let of = |rest: &str| format!("{topic}/{rest}");
        routes = routes
            .get(&namespace, list)
            .get(&format!("{namespace}/partitioned"), list_partitioned)
            .put(&topic, create)
            .delete(&topic, delete)
            .put(&of("unload"), unload)
            .delete(&of("truncate"), truncate)
            .get(&of("permissions"), async |_: Topic| json(value!({})))
            .merge(super::lifecycle::routes(&topic))
            .merge(super::partitions::routes(&topic))
            .merge(super::subscriptions::routes(&topic))
            .merge(super::stats::routes(&topic))
            .merge(super::internal::routes(&topic))
            .merge(super::messages::routes(&topic))
            .merge(super::policies::of_topics(&topic))
            .merge(super::unsupported::of_topics(&topic));
    }
    let lookup = "/lookup/v2/topic/{domain}/{tenant}/{namespace}/{topic}";
    routes.get(lookup, look_up).get(&format!("{lookup}/bundle"), bundle)
}

async fn list(State(hub): Shared, namespace: Namespace, Persistent(persistent): Persistent) -> Reply {
    let topics = topics_of(&hub, &namespace)?;
    let topics = topics.iter().filter(|topic| topic.is_persistent() == persistent);
    Ok(json(topics.map(ToString::to_string).collect::<Vec<_>>()))
}

async fn list_partitioned(State(hub): Shared, namespace: Namespace, Persistent(persistent): Persistent) -> Reply {
    topics_of(&hub, &namespace)?;
    let topics = hub.look(|broker| broker.partitioned_of(&namespace.0));
    let topics = topics.iter().filter(|topic| topic.is_persistent() == persistent);
    Ok(json(topics.map(ToString::to_string).collect::<Vec<_>>()))
}

async fn create(State(hub): Shared, Topic(topic): Topic, body: Bytes) -> Reply {
    let properties: Option<BTreeMap<String, String>> = if body.is_empty() { None } else { parse(&body)? };
    if let Some(index) = topic.partition() {
        let base = topic.base();
        let count = hub.look(|broker| broker.catalog().partitioned.get(base).copied());
        if count.is_none_or(|count| index >= count) {
            return Err(Failure::precondition(format!(
                "Can't create topic {topic}: a name that ends with -partition- and a number is a partition of {base}, \
                 which has {} partitions",
                count.unwrap_or(0)
            )));
        }
    }
    hub.change(|broker| {
        broker.handle_create_topic(&topic)?;
        broker.handle_edit_topic_properties(&topic, |all| all.extend(properties.unwrap_or_default()))
    })
    .await?;
    Ok(done())
}

async fn delete(State(hub): Shared, Topic(topic): Topic, Query(query): Query<Force>) -> Reply {
    if hub.look(|broker| broker.partitions(&topic))? > 0 {
        return Err(Failure::conflict(format!(
            "{topic} is a partitioned topic, instead of calling delete topic, please call delete-partitioned-topic."
        )));
    }
    hub.change(|broker| broker.handle_delete_topic(&topic, query.force)).await?;
    Ok(done())
}

async fn unload(State(hub): Shared, Topic(topic): Topic) -> Reply {
    hub.change(|broker| broker.handle_unload(&topic)).await?;
    Ok(done())
}

/// All messages become acknowledged; retention decides how long they stay.
async fn truncate(State(hub): Shared, Topic(topic): Topic) -> Reply {
    hub.change(|broker| {
        for topic in each(broker, &topic)? {
            let stats = broker.topic_stats(&topic)?;
            for subscription in stats.subscriptions.iter().filter(|subscription| subscription.durable) {
                broker.handle_clear_backlog(&topic, &subscription.name)?;
            }
        }
        Ok(())
    })
    .await?;
    Ok(done())
}

async fn look_up(State(hub): Shared, Topic(topic): Topic) -> Reply {
    hub.look(|broker| broker.resolve(topic.as_str()))?;
    let (service, admin) = (&hub.settings.service_url, &hub.settings.admin_url);
    Ok(json(value!({ "brokerUrl": service, "httpUrl": admin, "nativeUrl": service, "brokerUrlSsl": "" })))
}

async fn bundle(State(hub): Shared, Topic(topic): Topic) -> Reply {
    hub.look(|broker| broker.resolve(topic.as_str()))?;
    use axum::response::IntoResponse;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], BUNDLE).into_response())
}
