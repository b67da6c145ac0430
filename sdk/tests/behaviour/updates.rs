//! Updates: looked at between two events, taken in the order in which they came, answered by commands.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use everpulse::replay::{Command, Input, Unanswered};
use everpulse::{Update, UpdateRequest, publish, select, sleep, update, workflow};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::{FailureKind, Payload};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::harness::{Run, run, value};

#[update(reply = u32, error = String)]
#[derive(Debug, Serialize, Deserialize)]
struct Add(u32);

#[update(reply = (), name = "finish")]
#[derive(Serialize, Deserialize)]
struct Finish;

fn look<U: Update>(run: &mut Run, update: &U) -> Result<(), Unanswered> {
    run.instance.validate(U::NAME, &Payload::encode(update).unwrap())
}

fn take<U: Update>(run: &mut Run, id: &str, update: &U) -> Vec<String> {
    let args = Payload::encode(update).unwrap();
    run.apply(Input::Update { id: id.to_owned(), name: U::NAME.to_owned(), args })
}

#[workflow]
async fn cart(room: u32) -> Vec<u32> {
    let items = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&items);
    let adds = update::<Add>().validate(move |add| match seen.borrow().len() as u32 >= room {
        true => Err(format!("no room for {}", add.0)),
        false => Ok(()),
    });
    let finish = update::<Finish>();
    loop {
        select! {
            add = adds.recv() => {
                items.borrow_mut().push(add.0);
                if add.0 == 13 {
                    add.reply(Err("unlucky".to_owned()));
                } else {
                    add.reply(Ok(items.borrow().len() as u32));
                }
            },
            end = finish.recv() => {
                end.reply(Ok(()));
                break;
            },
        }
    }
    items.take()
}

#[test]
fn an_update_is_looked_at_taken_and_answered() {
    let mut run = run(cart(2));
    assert_eq!(run.start(), ["waiting"]);
    assert_eq!(look(&mut run, &Add(5)), Ok(()));
    assert_eq!(take(&mut run, "a", &Add(5)), ["answer 0 a: 1 bytes", "waiting"]);
    assert_eq!(take(&mut run, "b", &Add(13)), ["answer 1 b: unlucky", "waiting"]);
    let refused = look(&mut run, &Add(6)).unwrap_err();
    assert_eq!((refused.failure.message.as_str(), refused.spoilt), ("no room for 6", false));
    assert_eq!(refused.failure.value.unwrap().decode::<String>().unwrap(), "no room for 6");
    let turn =
        run.turn(Input::Update { id: "c".into(), name: "finish".into(), args: Payload::encode(&Finish).unwrap() });
    assert_eq!(value::<Vec<u32>>(&turn), [5, 13]);
    assert!(matches!(&turn.commands[..], [Command::Answer { no: 2, id, outcome: Outcome::Done(_) }] if id == "c"));
}

#[test]
fn an_update_that_nobody_takes_is_told_which_are_taken() {
    let mut run = run(cart(2));
    run.start();
    let error = run.instance.validate("Remove", &Payload::encode(&()).unwrap()).unwrap_err();
    assert_eq!(error.failure.kind, FailureKind::NotFound);
    let message = &error.failure.message;
    assert!(message.contains("no handler for update `Remove`, it has `Add`, `finish`"), "{message}");
    let error = run.instance.validate("Add", &Payload::encode("two").unwrap()).unwrap_err();
    assert_eq!((error.failure.kind, error.spoilt), (FailureKind::Undecodable, false));
}

#[workflow]
async fn tempted() {
    let adds = update::<Add>().validate(|add| {
        match add.0 {
            0 => publish(&add.0),
            1 => panic!("the bottom fell out"),
            _ => {}
        }
        Ok(())
    });
    let _ = adds.recv().await;
}

#[test]
fn a_validator_only_looks() {
    for (n, kind, words) in
        [(0, FailureKind::Panicked, "it cannot publish a state"), (1, FailureKind::Panicked, "bottom")]
    {
        let mut run = run(tempted());
        run.start();
        let error = look(&mut run, &Add(n)).unwrap_err();
        assert_eq!((&error.failure.kind, error.spoilt), (&kind, true));
        assert!(error.failure.message.contains(words), "{error:?}");
    }
}

#[workflow]
async fn holds() -> u32 {
    let adds = update::<Add>();
    let UpdateRequest { value, responder } = adds.recv().await;
    let first: Vec<u32> = adds.stream().take(2).map(|request| request.0).collect().await;
    sleep(Duration::from_secs(1)).await;
    responder.reply(Ok(value.0));
    adds.close();
    let held = update::<Finish>().recv().await;
    let sum = first.iter().sum();
    drop_at_the_end(&held);
    sum
}

fn drop_at_the_end(held: &UpdateRequest<Finish>) {
    assert_eq!(held.id(), "d");
}

#[test]
fn what_is_dropped_has_failed_and_what_is_held_at_the_end_stays_unanswered() {
    let mut run = run(holds());
    run.start();
    assert_eq!(take(&mut run, "a", &Add(5)), ["waiting"]);
    let dropped = "was dropped by the workflow without an answer";
    assert_eq!(take(&mut run, "b", &Add(6)), [format!("answer 1 b: update `Add` {dropped}"), "waiting".to_owned()]);
    let last = take(&mut run, "c", &Add(7));
    assert_eq!(last[0], format!("answer 2 c: update `Add` {dropped}"));
    assert_eq!(last[1], "0 timer 2000");
    assert_eq!(run.fired(0), ["answer 0 a: 1 bytes", "waiting"]);
    let closed = look(&mut run, &Add(1)).unwrap_err();
    assert_eq!(closed.failure.kind, FailureKind::NotFound);
    assert_eq!(take(&mut run, "d", &Finish), ["completed with 1 bytes"]);
}

#[test]
fn a_replay_answers_the_same_and_asks_no_validator() {
    let mut run = run(cart(0));
    run.start();
    assert!(look(&mut run, &Add(5)).is_err());
    // It stands in history: the code of that day let it pass.
    run.replaying = Some(Vec::new());
    assert_eq!(take(&mut run, "a", &Add(5)), ["answer 0 a: 1 bytes", "waiting"]);
}
