//! Policies that limit what clients may do.

use super::*;
use support::*;

#[tokio::test]
async fn subscriptions_are_made_by_the_admin_only_where_the_policy_says_so() {
    let (broker, admin) = shop().await;
    let path = "namespaces/acme/shop/autoSubscriptionCreation";
    assert_eq!(admin.status("POST", path, Some(r#"{"allowAutoSubscriptionCreation":false}"#)).await, 204);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t", None).await, 204);
    let client = broker.client().await;
    let refused = client.consumer().with_topic("acme/shop/t").with_subscription("s").build::<Vec<u8>>().await;
    let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(words.contains("Subscription does not exist"), "{words}");
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t/subscription/s", None).await, 204);
    consumer(&client, "acme/shop/t", "s", pulsar::SubType::Shared, "c").await;
}

#[tokio::test]
async fn topics_of_a_namespace_are_limited() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("POST", "namespaces/acme/shop/maxTopicsPerNamespace", Some("2")).await, 204);
    assert_eq!(admin.refused("PUT", "persistent/acme/shop/p/partitions", Some("3")).await.0, 412);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/partitions", Some("2")).await, 204);
    assert_eq!(admin.refused("PUT", "persistent/acme/shop/t", None).await.0, 412);
}

#[tokio::test]
async fn subscriptions_of_a_topic_are_limited() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("POST", "namespaces/acme/shop/maxSubscriptionsPerTopic", Some("1")).await, 204);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t", None).await, 204);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t/subscription/a", None).await, 204);
    let (status, reason) = admin.refused("PUT", "persistent/acme/shop/t/subscription/b", None).await;
    assert_eq!(status, 406, "{reason}");
}
