//! Lists of topics and their watchers (PIP-145). Hashes and matches as Apache Pulsar 4.0.8 has them.

use super::*;
use crate::semantics::listing::{Domain, topics_hash};

const NAMESPACE: &str = "public/default";

fn name(name: &str) -> TopicName {
    TopicName::parse(name).expect("valid")
}

fn some_topics() -> World {
    let mut world = World::new();
    for topic in ["foo", "bar", "non-persistent://public/default/fox"] {
        world.broker.handle_create_topic(&name(topic)).expect("created");
    }
    world.broker.handle_set_partitions(&name("fop"), 2, false).expect("created");
    world.settle();
    world
}

/// Local names of the topics that match.
fn list(world: &World, domain: Domain, pattern: Option<&str>) -> Vec<String> {
    let list = world.broker.list_topics(NAMESPACE, domain, pattern, None);
    let topics = list.topics.expect("asked without a hash").into_iter();
    topics.map(|topic| topic.rsplit('/').next().expect("a name").to_owned()).collect()
}

#[test]
fn hashes_are_those_of_pulsar() {
    assert_eq!(topics_hash([]), "00000000");
    let prefix = "persistent://public/l1795273762/";
    let names = ["bar", "foo", "fop-partition-0", "fop-partition-1"].map(|topic| format!("{prefix}{topic}"));
    assert_eq!(topics_hash(names.iter().map(String::as_str)), "c9670227");
}

#[test]
fn partitions_are_listed_singly_and_matched_by_their_topic() {
    let world = some_topics();
    let partitions = ["fop-partition-0", "fop-partition-1"];
    assert_eq!(list(&world, Domain::Persistent, None), ["bar", "foo", partitions[0], partitions[1]]);
    assert_eq!(list(&world, Domain::NonPersistent, None), ["fox"]);
    assert_eq!(list(&world, Domain::All, Some("public/default/fo.")), ["fox", "foo", partitions[0], partitions[1]]);
    assert_eq!(list(&world, Domain::Persistent, Some("persistent://public/default/fop")), partitions);
    assert!(list(&world, Domain::Persistent, Some("public/default/fop-partition-1")).is_empty());
    assert!(list(&world, Domain::Persistent, Some("fo.*")).is_empty(), "the whole name must match");
    assert_eq!(list(&world, Domain::Persistent, Some("x|public/default/b.*")), ["bar"]);
}

#[test]
fn whoever_has_the_hash_gets_no_names() {
    let world = some_topics();
    let list = |hash: Option<&str>| world.broker.list_topics(NAMESPACE, Domain::All, None, hash);
    let first = list(None);
    assert_eq!(list(Some(&first.hash)).topics, None);
    assert_eq!(list(Some("zz")), first);
    assert!(!first.filtered);
}

#[test]
fn patterns_that_cannot_be_applied_are_left_to_the_client() {
    let world = some_topics();
    let long = format!("public/default/{}", "a".repeat(40));
    let bomb = "((a{9}){9}){9}{9}{9}{9}{9}{9}";
    for pattern in ["public/default/(", "public/default/(?!x).*", &long, bomb] {
        let all = world.broker.list_topics(NAMESPACE, Domain::Persistent, Some(pattern), None);
        assert_eq!((all.topics.map(|topics| topics.len()), all.filtered), (Some(4), false), "{pattern}");
    }
}

#[test]
fn a_watcher_is_told_once_of_all_that_came_and_went() {
    let mut world = some_topics();
    let pattern = "public/default/f.*";
    let list = world.broker.handle_watch_topics(CLIENT, 5, NAMESPACE, pattern, None).expect("watches");
    assert_eq!(list.topics.map(|topics| topics.len()), Some(3));
    world.broker.handle_watch_topics(CLIENT, 6, "public/other", ".*", None).expect("watches");
    world.broker.handle_watch_topics(OTHER, 5, NAMESPACE, "public/default/bar", None).expect("watches");
    world.broker.handle_create_topic(&name("food")).expect("created");
    world.broker.handle_create_topic(&name("other")).expect("created");
    world.broker.handle_create_topic(&name("non-persistent://public/default/fan")).expect("created");
    world.broker.handle_delete_topic(&name("foo"), false).expect("deleted");
    let out = world.take();
    let changes: Vec<&Effect> = out.iter().filter(|effect| matches!(effect, Effect::TopicsChanged { .. })).collect();
    let full = |topic: &str| format!("persistent://public/default/{topic}");
    let now = [full("food"), full("fop-partition-0"), full("fop-partition-1")];
    let expected = Effect::TopicsChanged {
        connection: CLIENT,
        watcher_id: 5,
        created: vec![full("food")],
        deleted: vec![full("foo")],
        hash: topics_hash(now.iter().map(String::as_str)),
    };
    assert_eq!(changes, [&expected]);
}

#[test]
fn who_is_gone_or_does_not_watch_any_more_is_told_nothing() {
    let mut world = some_topics();
    for connection in [CLIENT, OTHER] {
        world.broker.handle_watch_topics(connection, 5, NAMESPACE, ".*", None).expect("watches");
    }
    world.broker.handle_unwatch_topics(CLIENT, 5);
    world.broker.handle_disconnected(OTHER);
    world.broker.handle_create_topic(&name("food")).expect("created");
    assert!(!world.take().iter().any(|effect| matches!(effect, Effect::TopicsChanged { .. })));
}

#[test]
fn a_watcher_that_knows_the_topics_gets_no_names() {
    let mut world = some_topics();
    let list = world.broker.handle_watch_topics(CLIENT, 5, NAMESPACE, "public/default/.*", None).expect("watches");
    let again = world.broker.handle_watch_topics(CLIENT, 5, NAMESPACE, "public/default/.*", Some(&list.hash));
    assert_eq!(again.expect("watches").topics, None);
    let long = "a".repeat(51);
    assert!(world.broker.handle_watch_topics(CLIENT, 5, NAMESPACE, &long, None).is_err());
}
