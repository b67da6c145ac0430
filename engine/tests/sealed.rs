//! Runs whose values an owner cannot open: nothing is applied, nothing is lost, and history does not grow by it.

mod world;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::NoEager;
use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::{ParkedKind, RecordBody};
use everpulse_protocol::payload::Format;
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::view::RunView;
use everpulse_protocol::{Coding, FailureKind, Payload, RequestId, WorkflowId};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{update, workflow};
use world::workflows::{self, Word, number};
use world::{World, payload};

/// A lock without cryptography: who has no key is told so.
#[derive(Debug)]
struct Lock {
    key: bool,
}

impl Layer for Lock {
    fn name(&self) -> &'static str {
        "lock"
    }

    fn wrap(&self, data: bytes::Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
        Ok(Wrapped::Changed { label: Some("k1".to_owned()), data })
    }

    fn unwrap(&self, data: bytes::Bytes, _: Option<&str>, _: Place<'_>) -> Result<bytes::Bytes, LayerError> {
        if self.key { Ok(data) } else { Err(LayerError::NoKey { key: "k1".to_owned() }) }
    }

    fn conceals(&self) -> bool {
        true
    }
}

fn coding(key: bool) -> Coding {
    Coding::new(Format::MessagePack, vec![Arc::new(Lock { key })], Vec::new())
}

fn registry(key: bool) -> Registry {
    let mut registry = workflows::registry();
    registry.set_coding(coding(key));
    registry
}

fn locked(mut value: Payload) -> Payload {
    let id = WorkflowId::new("a").expect("a good id");
    coding(true).seal(&id, &mut value).expect("it can be sealed");
    value
}

fn word(world: &mut World, value: Payload) -> Event {
    world.event("a", None, &EventBody::Signal { headers: None, name: "Word".to_owned(), value })
}

fn said(text: &str) -> Payload {
    payload(&Word { text: text.to_owned() })
}

fn describe(world: &mut World, owner: usize) -> RunView {
    let ask = world.event("a", None, &EventBody::Describe);
    world.say(owner, vec![ask]);
    // What was asked before may be answered meanwhile, too.
    let view = world.replies.iter().rev().find_map(|(_, reply)| match reply {
        ReplyBody::Description(view) => Some((**view).clone()),
        _ => None,
    });
    view.expect("an owner describes a run")
}

/// Parked runs are tried again every half minute, as long as somebody looks at the shard.
fn ten_minutes(world: &mut World, owner: usize) {
    for _ in 0..20 {
        let now = world.now.after(Duration::from_secs(31));
        world.run_until(now);
        describe(world, owner);
    }
}

fn result(world: &World) -> Option<String> {
    let mut outcome = world.result("a")?;
    coding(true).open(&WorkflowId::new("a").expect("a good id"), &mut outcome).expect("the key is here");
    match outcome {
        everpulse_protocol::event::Outcome::Done(value) => value.decode().ok(),
        failed => panic!("{failed:?}"),
    }
}

#[test]
fn a_start_that_cannot_be_opened_is_parked_once_and_taken_up_by_who_has_the_key() {
    let mut world = World::new(registry(true));
    let without = world.owner_with(Arc::new(registry(false)), Rc::new(NoEager));
    let start = world.start("a", "listens", locked(number(1)));
    world.say(without, vec![start]);
    let parked = describe(&mut world, without).parked.expect("it is parked");
    assert_eq!(parked.kind, ParkedKind::Unopened);
    assert!(parked.message.contains("key `k1`, which this process does not have"), "{}", parked.message);
    let hint = word(&mut world, locked(said("hello")));
    world.say(without, vec![hint]);
    let before = world.records().len();
    ten_minutes(&mut world, without);
    assert_eq!(world.records().len(), before, "twenty tries leave no trace");
    assert!(describe(&mut world, without).parked.is_some());

    world.crash(without);
    let with = world.owner();
    ten_minutes(&mut world, with);
    assert_eq!(result(&world).as_deref(), Some("hello"));
}

#[test]
fn an_input_that_cannot_be_opened_parks_its_run_once_and_those_behind_it_wait_in_order() {
    let mut world = World::new(registry(true));
    let without = world.owner_with(Arc::new(registry(false)), Rc::new(NoEager));
    // The start is plain, so it begins; the first word is not.
    let start = world.start("a", "listens", number(3));
    world.say(without, vec![start]);
    for value in [locked(said("one ")), said("two "), locked(said("three"))] {
        let hint = word(&mut world, value);
        world.say(without, vec![hint]);
    }
    assert_eq!(describe(&mut world, without).parked.map(|parked| parked.kind), Some(ParkedKind::Unopened));
    let before = world.records().len();
    ten_minutes(&mut world, without);
    assert_eq!(world.records().len(), before, "twenty tries leave no trace");
    world.crash(without);
    let with = world.owner();
    ten_minutes(&mut world, with);
    assert_eq!(result(&world).as_deref(), Some("one two three"));
    let resumed = world.records().iter().filter(|record| matches!(record.body(), Ok(RecordBody::Resumed))).count();
    assert_eq!(resumed, 1);
}

#[update(reply = u64, error = String, crate = everpulse_sdk)]
#[derive(serde::Serialize, serde::Deserialize)]
struct Add {
    n: u64,
}

/// Takes one update that is no odd number.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn adds_even(n: u64) -> u64 {
    let adds = update::<Add>().validate(|add| if add.n % 2 == 0 { Ok(()) } else { Err("it is odd".to_owned()) });
    let add = adds.recv().await;
    let sum = n + add.n;
    add.reply(Ok(sum));
    sum
}

#[test]
fn an_update_that_nobody_here_can_open_is_not_decided_and_is_taken_where_there_is_the_key() {
    let with = |key: bool| {
        let mut registry = registry(key);
        registry.workflow_fn(adds_even).expect("new");
        Arc::new(registry)
    };
    let mut world = World::new(workflows::registry());
    let keyless = world.owner_with(with(false), Rc::new(NoEager));
    let start = world.start("a", "adds_even", number(1));
    world.say(keyless, vec![start]);
    let request = |world: &mut World, id: &str, n: u64| {
        let (name, args) = ("Add".to_owned(), locked(payload(&Add { n })));
        // Nobody has any patience.
        world.event("a", None, &EventBody::Update { id: id.to_owned(), name, args, patient: false, headers: None })
    };
    let states = |world: &World, event: &Event| {
        let request = RequestId(event.id.0);
        let replies = world.replies.iter().filter(|(of, _)| *of == request);
        let states = replies.filter_map(|(_, body)| match body {
            ReplyBody::Update { state, .. } => Some(state.clone()),
            _ => None,
        });
        states.collect::<Vec<_>>()
    };
    let (even, odd) = (request(&mut world, "u-1", 4), request(&mut world, "u-2", 3));
    for event in [&even, &odd] {
        world.say(keyless, vec![event.clone()]);
        let states = states(&world, event);
        assert!(
            matches!(&states[..], [UpdateState::NotYet(failure)] if failure.kind == FailureKind::NotFound),
            "{states:?}"
        );
    }
    world.crash(keyless);
    let keyed = world.owner_with(with(true), Rc::new(NoEager));
    world.say(keyed, vec![odd.clone(), even.clone()]);
    assert!(matches!(states(&world, &odd).last(), Some(UpdateState::Refused(_))), "{:?}", states(&world, &odd));
    assert!(matches!(states(&world, &even).last(), Some(UpdateState::Answered(_))), "{:?}", states(&world, &even));
    assert_eq!(world.unacked(), 0);
}
