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

#[test]
fn rates_are_measured_over_a_window() {
    let mut world = world();
    let topic = TopicName::parse("t").expect("valid");
    let consumer = world.consumer(1, Kind::Shared, 100);
    world.broker.handle_tick(world.now_ms);
    for _ in 0..20 {
        world.send("k", "0123456789");
    }
    assert_eq!(world.entries().len(), 20);
    world.ack(consumer, &(0..20).collect::<Vec<_>>());
    world.now_ms += meter::WINDOW_MS;
    world.broker.handle_tick(world.now_ms);
    let stats = world.broker.topic_stats(&topic).expect("exists");
    assert_eq!((stats.received.messages, stats.received.bytes), (20, 200));
    assert_eq!((stats.received.rate.per_second(), stats.received.throughput.per_second()), (2.0, 20.0));
    assert_eq!(stats.producers[0].sent.rate.per_second(), 2.0);
    let subscription = &stats.subscriptions[0];
    assert_eq!(subscription.traffic.rate_out.per_second(), 2.0);
    assert_eq!(subscription.consumers[0].traffic.rate_out.per_second(), 2.0);
    world.now_ms += meter::WINDOW_MS;
    world.broker.handle_tick(world.now_ms);
    let stats = world.broker.topic_stats(&topic).expect("exists");
    assert_eq!((stats.received.messages, stats.received.rate.per_second()), (20, 0.0));
}

#[test]
fn a_topics_policy_goes_before_that_of_its_namespace_and_goes_with_the_topic() {
    let mut world = world();
    let topic = TopicName::parse("t").expect("valid");
    let ttl = |world: &World| world.broker.catalog().policy(&topic, |policies| policies.message_ttl_seconds);
    world.broker.handle_set_policies("public/default", |all| all.message_ttl_seconds = Some(1)).expect("set");
    assert_eq!(ttl(&world), Some(1));
    world.broker.handle_set_topic_policies(&topic, |all| all.message_ttl_seconds = Some(2)).expect("set");
    assert_eq!(ttl(&world), Some(2));
    world.broker.handle_delete_topic(&topic, true).expect("deleted");
    assert_eq!(ttl(&world), Some(1));
    let missing = world.broker.handle_set_topic_policies(&topic, |all| all.message_ttl_seconds = Some(2));
    assert_eq!(kind(missing), RefusalKind::TopicNotFound);
}

#[test]
fn consumers_and_kinds_of_subscription_are_limited_by_policy() {
    let mut world = world();
    let refused = |out: Vec<Effect>| match &out[..] {
        [Effect::Refused { refusal, .. }] => refusal.kind,
        other => panic!("{other:?}"),
    };
    world
        .broker
        .handle_set_policies("public/default", |all| all.max_consumers_per_subscription = Some(1))
        .expect("set");
    world.consumer(1, Kind::Shared, 1);
    assert_eq!(refused(world.subscribe_as(CLIENT, 2, |_| ())), RefusalKind::ConsumerBusy);
    let other = |request: &mut Subscribe| request.subscription = "other".into();
    world.broker.handle_set_policies("public/default", |all| all.max_consumers_per_topic = Some(1)).expect("set");
    assert_eq!(refused(world.subscribe_as(CLIENT, 3, other)), RefusalKind::ConsumerBusy);
    world
        .broker
        .handle_set_policies("public/default", |all| {
            *all = Policies { subscription_types: Some(vec!["Exclusive".into()]), ..Policies::default() };
        })
        .expect("set");
    assert_eq!(refused(world.subscribe_as(CLIENT, 4, other)), RefusalKind::NotAllowed);
}
