//! Tenants, namespaces, partitions.

use super::*;

fn kind<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> RefusalKind {
    outcome.expect_err("refused").kind
}

#[test]
fn namespaces_need_their_tenant_and_topics_their_namespace() {
    let mut world = World::new();
    let broker = &mut world.broker;
    assert_eq!(kind(broker.handle_create_namespace("acme/shop", Policies::default())), RefusalKind::TenantNotFound);
    assert_eq!(kind(broker.resolve("acme/shop/t")), RefusalKind::NamespaceNotFound);
    broker.handle_create_tenant("acme").expect("created");
    assert_eq!(kind(broker.handle_create_tenant("acme")), RefusalKind::AlreadyExists);
    broker.handle_create_namespace("acme/shop", Policies::default()).expect("created");
    assert_eq!(kind(broker.handle_create_namespace("acme/shop", Policies::default())), RefusalKind::AlreadyExists);
    broker.resolve("acme/shop/t").expect("exists");
}

// covers: partitioned_topics
#[test]
fn partitions_are_created_grown_and_never_taken_away() {
    let mut world = World::new();
    let topic = TopicName::parse("p").expect("valid");
    let broker = &mut world.broker;
    assert_eq!(broker.partitions(&topic), Ok(0));
    assert_eq!(kind(broker.handle_set_partitions(&topic, 3, true)), RefusalKind::TopicNotFound);
    broker.handle_set_partitions(&topic, 3, false).expect("created");
    assert_eq!(kind(broker.handle_set_partitions(&topic, 3, false)), RefusalKind::AlreadyExists);
    assert_eq!(kind(broker.handle_set_partitions(&topic, 2, true)), RefusalKind::NotAllowed);
    broker.handle_set_partitions(&topic, 4, true).expect("grown");
    assert_eq!(broker.partitions(&topic), Ok(4));
    assert_eq!(broker.topics_of("public/default").len(), 4);
    broker.handle_delete_partitioned(&topic, false).expect("deleted");
    assert!(broker.topics_of("public/default").is_empty());
}

#[test]
fn a_partitioned_topic_and_partitions_beyond_its_count_cannot_be_used() {
    let mut world = World::new();
    world.broker.handle_set_partitions(&TopicName::parse("p").expect("valid"), 2, false).expect("created");
    for (name, expected) in [("p", RefusalKind::NotAllowed), ("p-partition-2", RefusalKind::TopicNotFound)] {
        let out = world.producer(CLIENT, name, "x", Access::Shared);
        assert!(matches!(&out[..], [Effect::Refused { refusal, .. }] if refusal.kind == expected), "{out:?}");
    }
}

// covers: delete_topic
#[test]
fn a_topic_with_clients_is_deleted_by_force_only() {
    let mut world = world();
    let topic = TopicName::parse("t").expect("valid");
    assert_eq!(kind(world.broker.handle_delete_topic(&topic, false)), RefusalKind::Busy);
    world.broker.handle_delete_topic(&topic, true).expect("deleted");
    assert!(world.take().contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
}

#[test]
fn an_admins_subscription_starts_where_it_says() {
    let mut world = world();
    let topic = TopicName::parse("t").expect("valid");
    world.send("k", "x");
    world.settle();
    world.broker.handle_create_subscription(&topic, "s", Start::Earliest).expect("created");
    world.broker.handle_create_subscription(&topic, "late", Start::Latest).expect("created");
    assert_eq!(kind(world.broker.handle_create_subscription(&topic, "s", Start::Latest)), RefusalKind::AlreadyExists);
    assert_eq!(world.backlog(), 1);
    let stats = world.broker.topic_stats(&topic).expect("exists");
    assert_eq!(stats.subscriptions.iter().map(|subscription| subscription.backlog).collect::<Vec<_>>(), [1, 0]);
}
