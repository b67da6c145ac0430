//! Queries: answered by the owner after a look at the tail, from a live future or a replayed one, and without a trace.

mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{FailureKind, Payload};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{Query, on_query, query, signal, workflow};
use serde::{Deserialize, Serialize};
use world::workflows::Word;
use world::{World, done, payload};

#[query(reply = String, crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
enum Said {
    So { far: u32 },
    Nonsense,
    TooMuch,
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn talks() -> String {
    let words = Rc::new(RefCell::new(String::new()));
    let heard = Rc::clone(&words);
    on_query(move |said: Said| match said {
        Said::So { far } => heard.borrow().chars().take(far as usize).collect(),
        Said::Nonsense => {
            heard.borrow_mut().push_str("!!!");
            panic!("nonsense")
        }
        Said::TooMuch => "x".repeat(2 * 1024 * 1024),
    });
    for _ in 0..3 {
        let word = signal::<Word>().recv().await;
        words.borrow_mut().push_str(&word.text);
    }
    words.take()
}

fn world() -> World {
    let mut registry = Registry::new();
    registry.workflow_fn(talks).expect("new");
    World::new(registry)
}

fn word(world: &mut World, text: &str) -> Event {
    let body =
        EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }) };
    world.event("a", None, &body)
}

fn start(world: &mut World) -> Event {
    world.start("a", "talks", payload(&BTreeMap::<String, u64>::new()))
}

fn question(world: &mut World, query: &Said) -> Event {
    world.event("a", None, &EventBody::Query { name: Said::NAME.to_owned(), args: payload(query) })
}

/// What the owner answers.
fn ask(world: &mut World, owner: usize, query: &Said) -> ReplyBody {
    let event = question(world, query);
    let appended = world.log.len();
    world.replies.clear();
    world.say(owner, vec![event]);
    assert_eq!(world.log.len(), appended, "a query leaves no trace");
    assert_eq!(world.unacked(), 0, "and is acknowledged");
    let Some((_, reply)) = world.replies.pop() else { panic!("nothing was answered") };
    assert!(world.replies.is_empty(), "{:?}", world.replies);
    reply
}

fn answered(value: &str) -> ReplyBody {
    ReplyBody::Answered { outcome: Outcome::Done(payload(&value)) }
}

fn failure(reply: ReplyBody) -> (FailureKind, String) {
    let ReplyBody::Answered { outcome: Outcome::Failed(failure) } = reply else { panic!("{reply:?}") };
    (failure.kind, failure.message)
}

#[test]
fn a_query_is_answered_from_a_live_run_and_from_one_that_was_taken_over() {
    let mut world = world();
    let owner = world.owner();
    let events = vec![start(&mut world), word(&mut world, "hello")];
    world.say(owner, events);
    assert_eq!(ask(&mut world, owner, &Said::So { far: 4 }), answered("hell"));
    let next = world.owner();
    assert_eq!(ask(&mut world, next, &Said::So { far: 9 }), answered("hello"));
}

#[test]
fn a_query_sees_what_another_owner_wrote_meanwhile() {
    let mut world = world();
    let (old, new) = (world.owner(), world.owner());
    let events = vec![start(&mut world), word(&mut world, "a")];
    world.say(old, events);
    let event = word(&mut world, "b");
    world.say(new, vec![event]);
    assert_eq!(ask(&mut world, old, &Said::So { far: 9 }), answered("ab"), "it looked at the tail");
}

#[test]
fn a_query_waits_for_the_frame_of_what_it_shows() {
    let mut world = world();
    let owner = world.owner();
    let events = vec![start(&mut world)];
    world.say(owner, events);
    let events = vec![word(&mut world, "a"), question(&mut world, &Said::So { far: 9 })];
    world.replies.clear();
    world.owners[owner].receipts = world::Receipts::Dropped;
    let frame = world.publish(events);
    world.deliver(owner, frame, false);
    while world.owners[owner].receipts == world::Receipts::Dropped && world.replies.is_empty() {
        if !world.step(owner) {
            break;
        }
        if world.trace.iter().filter(|line| line.ends_with("append")).count() == 2 {
            assert!(world.replies.is_empty(), "the frame is not known to stand");
            world.owners[owner].receipts = world::Receipts::Prompt;
        }
    }
    world.settle(owner);
    world.run_until(everpulse_protocol::Timestamp(world.now.0 + 60_000));
    assert!(world.replies.iter().any(|(_, reply)| *reply == answered("a")), "{:?}", world.replies);
}

#[test]
fn a_handler_that_panics_costs_the_asker_an_error_and_the_run_nothing() {
    let mut world = world();
    let owner = world.owner();
    let events = vec![start(&mut world), word(&mut world, "a")];
    world.say(owner, events);
    let (kind, message) = failure(ask(&mut world, owner, &Said::Nonsense));
    assert!(kind == FailureKind::Panicked && message.contains("nonsense"), "{message}");
    assert_eq!(ask(&mut world, owner, &Said::So { far: 9 }), answered("a"), "what it changed is gone");
    let events = vec![word(&mut world, "b"), word(&mut world, "c")];
    world.say(owner, events);
    assert_eq!(world.result("a"), Some(done(&"abc")));
}

#[test]
fn a_reply_beyond_the_limit_is_refused_by_its_size() {
    let mut world = world();
    let owner = world.owner();
    let events = vec![start(&mut world)];
    world.say(owner, events);
    let (_, message) = failure(ask(&mut world, owner, &Said::TooMuch));
    assert!(message.contains("the limit is 1048576"), "{message}");
}

#[test]
fn a_query_of_no_run_a_closed_run_or_an_unknown_name_is_told_so() {
    let mut world = world();
    let owner = world.owner();
    assert_eq!(ask(&mut world, owner, &Said::Nonsense), ReplyBody::NotFound);
    let events = vec![start(&mut world)];
    world.say(owner, events);
    let other =
        world.event("a", None, &EventBody::Query { name: "Other".to_owned(), args: Payload::encode(&()).expect("()") });
    world.replies.clear();
    world.say(owner, vec![other]);
    let (kind, message) = failure(world.replies.pop().expect("an answer").1);
    assert!(kind == FailureKind::NotFound && message.contains("it has `Said`"), "{message}");
    let events = vec![word(&mut world, "a"), word(&mut world, "b"), word(&mut world, "c")];
    world.say(owner, events);
    assert!(matches!(ask(&mut world, owner, &Said::Nonsense), ReplyBody::AlreadyClosed { .. }));
}

#[test]
fn a_query_that_may_have_taken_a_worker_down_is_left_to_be_asked_again() {
    let mut world = world();
    let owner = world.owner();
    let events = vec![start(&mut world)];
    world.say(owner, events);
    let event = question(&mut world, &Said::So { far: 9 });
    world.replies.clear();
    let frame = world.publish(vec![event.clone()]);
    world.deliver(owner, frame, true);
    world.settle(owner);
    assert!(world.replies.is_empty() && world.unacked() == 0, "{:?}", world.replies);
    world.say(owner, vec![event]);
    assert_eq!(world.replies.pop().map(|(_, reply)| reply), Some(answered("")));
}
