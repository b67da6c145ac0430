//! Policies that work by themselves: quotas, time to live, unused topics, automatic creation.

use serde_json::json;

use super::producing::{errors, ready, refused};
use super::*;
use crate::semantics::policies::{AutoTopicCreation, TopicKind};

fn name(name: &str) -> TopicName {
    TopicName::parse(name).expect("valid")
}

fn policies(world: &mut World, edit: impl FnOnce(&mut Policies)) {
    world.broker.handle_set_policies("public/default", edit).expect("set");
    world.settle();
}

fn quota(world: &mut World, quota: serde_json::Value) {
    policies(world, |policies| {
        policies.backlog_quotas.insert("destination_storage".into(), quota);
    });
}

fn tick(world: &mut World) -> Vec<Effect> {
    world.broker.handle_tick(world.now_ms);
    world.take()
}

/// A topic with a subscription that waits for ten entries of 100 bytes.
fn waiting() -> World {
    let mut world = world();
    world.consumer(1, Kind::Shared, 0);
    for n in 0..10 {
        world.send("k", &n.to_string());
    }
    world.settle();
    world
}

#[test]
fn producers_are_held_or_fail_while_the_backlog_exceeds_its_quota() {
    for (policy, refusal) in
        [("producer_request_hold", RefusalKind::BacklogHold), ("producer_exception", RefusalKind::BacklogFull)]
    {
        let mut world = waiting();
        quota(&mut world, json!({ "limitSize": 1000, "limitTime": -1, "policy": policy }));
        assert!(!tick(&mut world).contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
        quota(&mut world, json!({ "limitSize": 999, "limitTime": -1, "policy": policy }));
        assert!(tick(&mut world).contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
        assert_eq!(refused(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(refusal));
        world.ack(ConsumerKey { connection: CLIENT, consumer_id: 1 }, &[0]);
        assert_eq!(ready(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(true));
    }
}

#[test]
fn producers_of_a_topic_whose_index_is_too_large_are_held_until_it_is_smaller() {
    let mut world = waiting();
    let closed = Effect::ProducerClosed { connection: CLIENT, producer_id: 1 };
    world.broker.set_index_limit(world.broker.index_bytes());
    assert!(!tick(&mut world).contains(&closed));
    world.broker.set_index_limit(world.broker.index_bytes() - 1);
    assert!(tick(&mut world).contains(&closed));
    assert_eq!(refused(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(RefusalKind::BacklogHold));
    // Whoever has less than its share goes on.
    assert_eq!(ready(&world.producer(CLIENT, "other", "p", Access::Shared)), Some(true));
    assert!(!tick(&mut world).contains(&closed));
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    let all: Vec<u64> = (0..10).collect();
    world.ack(consumer, &all);
    world.begin_segment();
    world.broker.handle_retention(world.now_ms, world.segment());
    tick(&mut world);
    assert_eq!(ready(&world.producer(CLIENT, "t", "q", Access::Shared)), Some(true));
}

#[test]
fn the_oldest_messages_are_skipped_where_the_quota_says_so() {
    let mut world = waiting();
    quota(&mut world, json!({ "limitSize": 500, "limitTime": -1, "policy": "consumer_backlog_eviction" }));
    tick(&mut world);
    assert_eq!(world.backlog(), 4, "a tenth of the quota is made free");
    assert_eq!(ready(&world.producer(OTHER, "t", "q", Access::Shared)), Some(true));
}

#[test]
fn a_quota_can_be_of_age() {
    let mut world = waiting();
    world.now_ms += 5_000;
    world.send("k", "young");
    world.settle();
    quota(&mut world, json!({ "limitSize": -1, "limitTime": 4, "policy": "consumer_backlog_eviction" }));
    tick(&mut world);
    assert_eq!(world.backlog(), 1);
}

#[test]
fn readers_lose_old_messages_to_the_time_to_live_too() {
    let mut world = waiting();
    world.subscribe_as(OTHER, 7, |request| {
        (request.subscription, request.kind, request.durable) = ("r".into(), Kind::Exclusive, false);
        request.start = Some(Start::Earliest);
    });
    world.now_ms += 10_000;
    world.send("k", "young");
    policies(&mut world, |policies| policies.message_ttl_seconds = Some(5));
    tick(&mut world);
    world.broker.handle_flow(ConsumerKey { connection: OTHER, consumer_id: 7 }, 100);
    assert_eq!(world.entries(), [10]);
    assert_eq!(world.backlog(), 1);
}

#[test]
fn unused_topics_stay_unless_the_namespace_says_otherwise() {
    let idle = |mode: &str| json!({ "inactiveTopicDeleteMode": mode, "maxInactiveDurationSeconds": 60, "deleteWhileInactive": true });
    let exists = |world: &mut World| {
        tick(world);
        world.now_ms += 59_000;
        tick(world);
        let before = world.broker.topics_of("public/default").len();
        world.now_ms += 1_000;
        tick(world);
        (before, world.broker.topics_of("public/default").len())
    };
    let unused = || {
        let mut world = waiting();
        world.broker.handle_disconnected(CLIENT);
        world.settle();
        world
    };
    assert_eq!(exists(&mut unused()), (1, 1));
    let mut world = unused();
    policies(&mut world, |policies| policies.inactive_topics = Some(idle("delete_when_no_subscriptions")));
    assert_eq!(exists(&mut world), (1, 1), "it has a subscription");
    world.broker.handle_delete_subscription(&name("t"), "s", false).expect("deleted");
    world.now_ms += 1_000;
    assert_eq!(exists(&mut world).1, 0);
    let mut world = unused();
    policies(&mut world, |policies| policies.inactive_topics = Some(idle("delete_when_subscriptions_caught_up")));
    assert_eq!(exists(&mut world), (1, 1), "it has a backlog");
    let mut world = waiting();
    world.ack(ConsumerKey { connection: CLIENT, consumer_id: 1 }, &(0..10).collect::<Vec<_>>());
    policies(&mut world, |policies| policies.inactive_topics = Some(idle("delete_when_subscriptions_caught_up")));
    assert_eq!(exists(&mut world), (1, 1), "it has clients");
    world.broker.handle_disconnected(CLIENT);
    assert_eq!(exists(&mut world), (1, 0));
}

#[test]
fn a_topic_may_stay_unused_where_its_namespace_lets_others_go() {
    let idle = |deletes: bool| {
        let mode = "delete_when_no_subscriptions";
        json!({ "inactiveTopicDeleteMode": mode, "maxInactiveDurationSeconds": 60, "deleteWhileInactive": deletes })
    };
    let mut world = World::new();
    for topic in ["stays", "goes"] {
        world.broker.handle_create_topic(&name(topic)).expect("created");
    }
    policies(&mut world, |policies| policies.inactive_topics = Some(idle(true)));
    world
        .broker
        .handle_set_topic_policies(&name("stays"), |policies| policies.inactive_topics = Some(idle(false)))
        .expect("set");
    tick(&mut world);
    world.now_ms += 60_000;
    tick(&mut world);
    assert_eq!(world.broker.topics_of("public/default"), [name("stays")]);
}

#[test]
fn a_non_persistent_topic_goes_some_time_after_its_last_client() {
    let mut world = World::new();
    let topic = "non-persistent://public/default/n";
    world.producer(CLIENT, topic, "p", Access::Shared);
    world.now_ms += 120_000;
    tick(&mut world);
    assert_eq!(world.broker.topics_of("public/default").len(), 1);
    world.broker.handle_disconnected(CLIENT);
    tick(&mut world);
    assert_eq!(world.broker.topics_of("public/default").len(), 1);
    world.now_ms += 60_000;
    tick(&mut world);
    assert!(world.broker.topics_of("public/default").is_empty());
}

#[test]
fn a_namespace_can_forbid_that_clients_create_topics() {
    let mut world = World::new();
    let never = AutoTopicCreation { allow: false, kind: Some(TopicKind::NonPartitioned), partitions: None };
    policies(&mut world, |policies| policies.auto_topic_creation = Some(never));
    assert_eq!(refused(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(RefusalKind::TopicNotFound));
    assert_eq!(refused(&world.subscribe_as(CLIENT, 1, |_| ())), Some(RefusalKind::TopicNotFound));
    assert_eq!(partitions(&mut world, "t", true), Err(RefusalKind::TopicNotFound));
    world.broker.handle_create_topic(&name("t")).expect("the admin can");
    assert_eq!(partitions(&mut world, "t", true), Ok(0));
    assert_eq!(ready(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(true));
}

/// What a client is told of a topic's partitions.
fn partitions(world: &mut World, topic: &str, creates: bool) -> Result<u32, RefusalKind> {
    let request_id = world.request();
    world.broker.handle_partitioned_metadata(CLIENT, request_id, topic, creates);
    let told = world.take().into_iter().find_map(|effect| match effect {
        Effect::Partitions { outcome, .. } => Some(outcome.map_err(|refusal| refusal.kind)),
        _ => None,
    });
    told.expect("an answer")
}

#[test]
fn asking_for_partitions_creates_them_where_the_namespace_says_so() {
    let mut world = World::new();
    assert_eq!(partitions(&mut world, "t", true), Ok(0));
    assert_eq!(partitions(&mut world, "t", false), Err(RefusalKind::TopicNotFound), "PIP-344");
    assert!(world.broker.topics_of("public/default").is_empty());
    let three = AutoTopicCreation { allow: true, kind: Some(TopicKind::Partitioned), partitions: Some(3) };
    policies(&mut world, |policies| policies.auto_topic_creation = Some(three));
    assert_eq!(partitions(&mut world, "t", false), Err(RefusalKind::TopicNotFound));
    assert_eq!(partitions(&mut world, "t", true), Ok(3));
    assert_eq!(partitions(&mut world, "t", false), Ok(3));
    assert_eq!(partitions(&mut world, "t-partition-1", true), Ok(0));
    let refusal = refused(&world.producer(CLIENT, "t-partition-3", "p", Access::Shared));
    assert_eq!(refusal, Some(RefusalKind::TopicNotFound));
}

#[test]
fn new_partitions_have_the_subscriptions_of_the_first() {
    let mut world = World::new();
    world.broker.handle_set_partitions(&name("t"), 1, false).expect("created");
    world.broker.handle_create_subscription(&name("t-partition-0"), "s", Start::Latest).expect("created");
    world.broker.handle_set_partitions(&name("t"), 3, true).expect("grown");
    world.settle();
    let mut world = super::restoring::restarted(&world, None);
    world.producer(CLIENT, "t-partition-2", "p", Access::Shared);
    world.send("k", "x");
    world.settle();
    let stats = world.broker.topic_stats(&name("t-partition-2")).expect("exists");
    assert_eq!((stats.subscriptions[0].name.as_str(), stats.subscriptions[0].backlog), ("s", 1));
    world.broker.handle_delete_topic(&name("t-partition-1"), true).expect("deleted");
    world.broker.handle_create_missed_partitions(&name("t")).expect("made again");
    assert!(world.broker.topic_stats(&name("t-partition-1")).is_ok());
}

#[test]
fn a_terminated_topic_takes_nothing_more_and_says_so_to_those_who_have_everything() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 10);
    for n in 0..2 {
        world.send("k", &n.to_string());
    }
    world.settle();
    let last = world.broker.handle_terminate(&name("t")).expect("terminated");
    assert_eq!(last, Some(Position { ledger: 1, entry: 1 }));
    let out = world.take();
    assert!(out.contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
    assert!(!out.contains(&Effect::EndOfTopic { consumer }), "it has not acknowledged everything");
    assert_eq!(refused(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(RefusalKind::TopicTerminated));
    world.send("k", "late");
    assert!(errors(&world.take()).is_empty(), "the producer is gone");
    world.ack(consumer, &[0, 1]);
    assert!(world.take().contains(&Effect::EndOfTopic { consumer }));
    world.broker.handle_flow(consumer, 1);
    assert!(!world.take().contains(&Effect::EndOfTopic { consumer }), "once");
    assert_eq!(world.broker.handle_terminate(&name("t")), Ok(last));
    let mut world = super::restoring::restarted(&world, Some((world.broker.snapshot(), world.stored.len())));
    assert_eq!(world.broker.is_terminated(&name("t")), Ok(true));
    assert_eq!(refused(&world.producer(CLIENT, "t", "p", Access::Shared)), Some(RefusalKind::TopicTerminated));
}

#[test]
fn what_is_being_stored_when_a_topic_is_terminated_still_comes() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Exclusive, 10);
    world.settle();
    world.automatic = false;
    world.send("k", "x");
    world.settle();
    let last = world.broker.handle_terminate(&name("t")).expect("terminated");
    assert_eq!(last, Some(Position { ledger: 1, entry: 0 }));
    assert!(!world.take().contains(&Effect::EndOfTopic { consumer }));
    world.automatic = true;
    assert_eq!(world.entries(), [0]);
    world.ack(consumer, &[0]);
    assert!(world.take().contains(&Effect::EndOfTopic { consumer }));
}

#[test]
fn what_the_user_notes_of_topics_lasts() {
    let mut world = world();
    world.broker.handle_set_partitions(&name("p"), 2, false).expect("created");
    for topic in ["t", "p"] {
        let note = |properties: &mut std::collections::BTreeMap<String, String>| {
            properties.insert("k".into(), topic.into());
        };
        world.broker.handle_edit_topic_properties(&name(topic), note).expect("noted");
    }
    world.settle();
    for snapshot in [None, Some((world.broker.snapshot(), world.stored.len()))] {
        let world = super::restoring::restarted(&world, snapshot);
        for topic in ["t", "p"] {
            let properties = world.broker.topic_properties(&name(topic)).expect("exists");
            assert_eq!(properties.get("k").map(String::as_str), Some(topic));
        }
    }
}
