//! Schemas: versions, who may bring which, and that they last. Each expectation was seen at Apache Pulsar 4.0.8.

use super::producing::refused;
use super::restoring::restarted;
use super::*;
use crate::semantics::policies::SchemaCompatibility;

const F: &str = r#"{"name":"f","type":"int"}"#;
const G: &str = r#"{"name":"g","type":"int","default":0}"#;
const H: &str = r#"{"name":"h","type":"int"}"#;

fn topic() -> TopicName {
    TopicName::parse("t").expect("valid")
}

fn avro(fields: &[&str]) -> Schema {
    let data = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(",")).into_bytes();
    Schema { kind: SchemaKind::Avro, data, properties: Default::default() }
}

fn plain(kind: SchemaKind) -> Schema {
    Schema { kind, data: Vec::new(), properties: Default::default() }
}

/// Creates a producer and closes it again; the version of its schema, or why it was refused.
fn produce(world: &mut World, schema: Option<Schema>) -> Result<Option<u64>, RefusalKind> {
    let request_id = world.request();
    let request = CreateProducer { topic: "t".into(), producer_id: 1, request_id, schema, ..Default::default() };
    world.broker.handle_create_producer(CLIENT, request);
    let out = world.take();
    let ready = out.iter().find_map(|effect| match effect {
        Effect::ProducerReady { schema_version, .. } => Some(*schema_version),
        _ => None,
    });
    world.broker.handle_close_producer(CLIENT, 1, request_id);
    world.take();
    ready.ok_or_else(|| refused(&out).expect("an answer"))
}

fn consume(world: &mut World, consumer_id: u64, schema: Option<Schema>) -> Result<(), RefusalKind> {
    let out = world.subscribe_as(CLIENT, consumer_id, |request| request.schema = schema);
    refused(&out).map_or(Ok(()), Err)
}

fn strategy(world: &mut World, strategy: SchemaCompatibility) {
    let set = |policies: &mut Policies| policies.schema_compatibility = Some(strategy);
    world.broker.handle_set_policies("public/default", set).expect("set");
    world.settle();
}

#[test]
fn versions_count_from_zero_and_a_known_schema_keeps_its_own() {
    let mut world = World::new();
    assert_eq!(produce(&mut world, Some(avro(&[F]))), Ok(Some(0)));
    assert_eq!(produce(&mut world, Some(avro(&[F, G]))), Ok(Some(1)));
    assert_eq!(produce(&mut world, Some(avro(&[F]))), Ok(Some(0)));
    assert_eq!(produce(&mut world, Some(avro(&[F, H]))), Err(RefusalKind::IncompatibleSchema));
    assert_eq!(produce(&mut world, Some(plain(SchemaKind::String))), Err(RefusalKind::IncompatibleSchema));
    assert_eq!(produce(&mut world, None), Ok(None));
}

#[test]
fn strategies_ask_the_last_version_or_all() {
    use SchemaCompatibility::*;
    // Versions: {f}, {f, g = 0}. The candidates: one that drops f, one that adds h, one that drops g.
    for (rule, drops_f, adds_h, drops_g) in [
        (Backward, true, false, true),
        (Forward, false, true, true),
        (Full, false, false, true),
        (BackwardTransitive, true, false, true),
        (ForwardTransitive, false, true, true),
        (FullTransitive, false, false, true),
        (AlwaysCompatible, true, true, true),
        (AlwaysIncompatible, false, false, false),
    ] {
        let mut world = World::new();
        strategy(&mut world, AlwaysCompatible);
        produce(&mut world, Some(avro(&[F]))).expect("the first");
        produce(&mut world, Some(avro(&[F, G]))).expect("the second");
        strategy(&mut world, rule);
        let renamed = |fields: &[&str]| {
            let mut schema = avro(fields);
            // Not one of the versions that are there.
            schema.data = String::from_utf8(schema.data).expect("text").replace("\"R\"", "\"S\"").into_bytes();
            schema
        };
        let check = |schema: &Schema| world.broker.check_schema(&topic(), schema).is_ok();
        let found = (check(&avro(&[G])), check(&avro(&[F, G, H])), check(&renamed(&[F])));
        assert_eq!(found, (drops_f, adds_h, drops_g), "{rule:?}");
    }
}

#[test]
fn transitive_strategies_look_further_back() {
    let mut world = World::new();
    strategy(&mut world, SchemaCompatibility::AlwaysCompatible);
    produce(&mut world, Some(avro(&[F]))).expect("the first");
    produce(&mut world, Some(avro(&[F, H]))).expect("the second");
    // It reads the second, but not the first, which has no h.
    let next = avro(&[H]);
    strategy(&mut world, SchemaCompatibility::Backward);
    assert!(world.broker.check_schema(&topic(), &next).is_ok());
    strategy(&mut world, SchemaCompatibility::BackwardTransitive);
    assert!(world.broker.check_schema(&topic(), &next).is_err());
}

#[test]
fn what_is_no_schema_is_refused() {
    let mut world = World::new();
    let broken = Schema { data: b"nope".to_vec(), ..plain(SchemaKind::Avro) };
    assert_eq!(produce(&mut world, Some(broken)), Err(RefusalKind::InvalidSchema));
    let wordy = Schema { data: b"x".to_vec(), ..plain(SchemaKind::String) };
    assert_eq!(produce(&mut world, Some(wordy)), Err(RefusalKind::InvalidSchema));
    let torn = Schema { data: b"abc".to_vec(), ..plain(SchemaKind::KeyValue) };
    assert_eq!(produce(&mut world, Some(torn)), Err(RefusalKind::InvalidSchema));
    assert!(world.broker.schemas(&topic()).is_empty());
}

#[test]
fn the_python_clients_string_schema_is_one() {
    let mut world = World::new();
    let null = Schema { data: b"null".to_vec(), ..plain(SchemaKind::String) };
    assert!(produce(&mut world, Some(null)).is_ok());
    let number = Schema { data: b"null".to_vec(), ..plain(SchemaKind::Int64) };
    assert_eq!(produce(&mut world, Some(number)), Err(RefusalKind::InvalidSchema));
}

#[test]
fn keys_and_values_are_checked_each_by_its_own_rules() {
    let pair = |value: &Schema| {
        let mut data = 0u32.to_be_bytes().to_vec();
        data.extend((value.data.len() as u32).to_be_bytes());
        data.extend(&value.data);
        let types = [("key.schema.type", SchemaKind::String), ("value.schema.type", value.kind)];
        let properties = types.map(|(key, kind)| (key.to_owned(), kind.name())).into();
        Schema { kind: SchemaKind::KeyValue, data, properties }
    };
    let mut world = World::new();
    assert_eq!(produce(&mut world, Some(pair(&avro(&[F])))), Ok(Some(0)));
    assert_eq!(produce(&mut world, Some(pair(&avro(&[F, G])))), Ok(Some(1)));
    assert_eq!(produce(&mut world, Some(pair(&avro(&[H])))), Err(RefusalKind::IncompatibleSchema));
    assert_eq!(produce(&mut world, Some(pair(&plain(SchemaKind::Int64)))), Err(RefusalKind::IncompatibleSchema));
}

#[test]
fn a_consumer_gives_an_unused_topic_its_schema_and_is_checked_otherwise() {
    let mut world = World::new();
    assert_eq!(consume(&mut world, 1, Some(plain(SchemaKind::AutoConsume))), Ok(()));
    assert_eq!(consume(&mut world, 2, Some(avro(&[F, H]))), Ok(()));
    assert_eq!(world.broker.schema(&topic(), None).map(|schema| schema.version), Some(0));
    // Reading is all that is asked of it, though the strategy is FULL, and it adds no version.
    assert_eq!(consume(&mut world, 3, Some(avro(&[F]))), Ok(()));
    let other = r#"{"name":"i","type":"int"}"#;
    assert_eq!(consume(&mut world, 4, Some(avro(&[F, H, other]))), Err(RefusalKind::IncompatibleSchema));
    assert_eq!(consume(&mut world, 5, Some(plain(SchemaKind::String))), Err(RefusalKind::IncompatibleSchema));
    assert_eq!(consume(&mut world, 6, None), Ok(()));
    assert_eq!(world.broker.schemas(&topic()).len(), 1);
}

#[test]
fn a_consumer_cannot_give_a_schema_to_a_topic_in_use() {
    let mut world = World::new();
    assert_eq!(consume(&mut world, 1, None), Ok(()));
    assert_eq!(consume(&mut world, 2, Some(plain(SchemaKind::String))), Err(RefusalKind::IncompatibleSchema));
    let mut world = super::world();
    assert_eq!(consume(&mut world, 1, Some(plain(SchemaKind::String))), Err(RefusalKind::IncompatibleSchema));
    world.send("k", "x");
    world.settle();
    world.broker.handle_disconnected(CLIENT);
    assert_eq!(consume(&mut world, 1, Some(plain(SchemaKind::String))), Err(RefusalKind::IncompatibleSchema));
}

#[test]
fn a_namespace_can_enforce_schemas_and_forbid_new_ones() {
    let mut world = World::new();
    produce(&mut world, Some(avro(&[F]))).expect("the first");
    let enforce = |policies: &mut Policies| {
        policies.schema_validation_enforced = true;
        policies.allow_auto_update_schema = Some(false);
    };
    world.broker.handle_set_policies("public/default", enforce).expect("set");
    world.settle();
    assert_eq!(produce(&mut world, None), Err(RefusalKind::IncompatibleSchema));
    assert_eq!(produce(&mut world, Some(avro(&[F]))), Ok(Some(0)));
    assert_eq!(produce(&mut world, Some(avro(&[F, G]))), Err(RefusalKind::IncompatibleSchema));
    // The admin still can.
    assert_eq!(world.broker.handle_put_schema(&topic(), avro(&[F, G])), Ok(1));
}

#[test]
fn a_deletion_is_a_version_unless_all_is_forgotten() {
    let mut world = World::new();
    produce(&mut world, Some(avro(&[F]))).expect("the first");
    assert_eq!(world.broker.handle_delete_schema(&topic(), false), Ok(Some(1)));
    assert!(world.broker.schemas(&topic()).is_empty());
    assert_eq!(world.broker.schema(&topic(), Some(0)), None);
    assert_eq!(world.broker.handle_put_schema(&topic(), plain(SchemaKind::String)), Ok(2));
    assert_eq!(world.broker.handle_delete_schema(&topic(), true), Ok(None));
    assert_eq!(world.broker.handle_put_schema(&topic(), plain(SchemaKind::String)), Ok(0));
    world.broker.handle_delete_topic(&topic(), true).expect("deleted");
    assert!(world.broker.schemas(&topic()).is_empty());
}

#[test]
fn partitions_and_domains_share_the_schema_of_their_topic() {
    let mut world = World::new();
    let name = |name: &str| TopicName::parse(name).expect("valid");
    world.broker.handle_put_schema(&name("t-partition-1"), avro(&[F])).expect("put");
    assert_eq!(world.broker.schema_version(&name("t"), &avro(&[F])), Some(0));
    assert_eq!(world.broker.schema_version(&name("non-persistent://public/default/t"), &avro(&[F])), Some(0));
}

#[test]
fn schemas_survive_a_restart() {
    let mut world = World::new();
    produce(&mut world, Some(avro(&[F]))).expect("the first");
    let snapshot = (world.broker.snapshot(), world.stored.len());
    world.broker.handle_delete_schema(&topic(), false).expect("deleted");
    produce(&mut world, Some(avro(&[H]))).expect("the next");
    for snapshot in [None, Some(snapshot)] {
        let world = restarted(&world, snapshot);
        let versions: Vec<u64> = world.broker.schemas(&topic()).iter().map(|schema| schema.version).collect();
        assert_eq!(versions, [2]);
        assert_eq!(world.broker.schema_version(&topic(), &avro(&[H])), Some(2));
    }
}
