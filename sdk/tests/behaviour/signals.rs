//! Signals: kept until taken, served in order, never lost.

use std::time::Duration;

use everpulse::replay::Input;
use everpulse::{Signal, join, select, signal, sleep, workflow};
use everpulse_protocol::Payload;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::harness::{run, value};

#[signal]
#[derive(Serialize, Deserialize)]
struct Approved {
    by: String,
}

#[signal(name = "item-added")]
#[derive(Serialize, Deserialize)]
struct Item(u32);

fn approved(by: &str) -> Approved {
    Approved { by: by.to_owned() }
}

#[test]
fn a_signal_is_named_as_its_type_or_as_it_says() {
    assert_eq!((Approved::NAME, Item::NAME), ("Approved", "item-added"));
}

#[workflow]
async fn late_reader() -> Vec<String> {
    sleep(Duration::from_secs(1)).await;
    let approvals = signal::<Approved>();
    vec![approvals.recv().await.by, approvals.recv().await.by, approvals.recv().await.by]
}

#[test]
fn signals_that_come_early_wait_in_order() {
    let mut run = run(late_reader());
    run.start();
    assert_eq!(run.signal(&approved("a")), ["waiting"]);
    assert_eq!(run.signal(&approved("b")), ["waiting"]);
    assert_eq!(run.fired(0), ["waiting"]);
    let turn = run.turn(Input::Signal { name: "Approved".into(), value: Payload::encode(&approved("c")).unwrap() });
    assert_eq!(value::<Vec<String>>(&turn), ["a", "b", "c"]);
}

#[test]
fn signals_may_come_before_the_start() {
    let mut run = run(late_reader());
    assert_eq!(run.signal(&approved("a")), ["waiting"]);
    run.start();
    run.fired(0);
    run.signal(&approved("b"));
    assert_eq!(run.signal(&approved("c")), ["completed with 7 bytes"]);
}

#[workflow]
async fn two_readers() -> (u32, u32, String) {
    let (first, second, other) = join!(signal::<Item>().recv(), signal::<Item>().recv(), signal::<Approved>().recv());
    (first.0, second.0, other.by)
}

#[test]
fn two_that_wait_are_served_in_the_order_of_their_first_poll_and_names_are_apart() {
    let mut run = run(two_readers());
    run.start();
    run.signal(&Item(1));
    run.signal(&approved("x"));
    let turn = run.turn(Input::Signal { name: "item-added".into(), value: Payload::encode(&Item(2)).unwrap() });
    assert_eq!(value::<(u32, u32, String)>(&turn), (1, 2, "x".to_owned()));
}

#[workflow]
async fn reader_that_gives_up() -> (Option<u32>, u32) {
    let items = signal::<Item>();
    let first = select! {
        item = items.recv() => Some(item.0),
        () = sleep(Duration::from_secs(1)) => None,
    };
    (first, items.recv().await.0)
}

#[test]
fn a_reader_that_gives_up_takes_nothing_with_it() {
    let mut run = run(reader_that_gives_up());
    assert_eq!(run.start(), ["0 timer 2000", "waiting"]);
    assert_eq!(run.fired(0), ["waiting"]);
    let turn = run.turn(Input::Signal { name: "item-added".into(), value: Payload::encode(&Item(5)).unwrap() });
    assert_eq!(value::<(Option<u32>, u32)>(&turn), (None, 5));
}

#[workflow]
async fn front_gives_up() -> u32 {
    let items = signal::<Item>();
    let mut front = Box::pin(items.recv());
    let mut second = Box::pin(items.recv());
    let sleeping = sleep(Duration::from_secs(1));
    // Both stand in line; then the one in front leaves, with a signal there that nobody has taken.
    assert!(futures::poll!(&mut front).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    sleeping.await;
    drop(front);
    second.await.0
}

#[test]
fn when_the_front_of_the_line_leaves_the_next_is_served() {
    let mut run = run(front_gives_up());
    run.start();
    assert_eq!(run.signal(&Item(3)), ["waiting"]);
    assert_eq!(value::<u32>(&run.turn(Input::TimerFired { step: 0 })), 3);
}

#[test]
fn a_signal_that_cannot_be_decoded_stops_the_run_with_its_name_and_is_not_lost() {
    let mut run = run(two_readers());
    run.start();
    let shown = run.apply(Input::Signal { name: "item-added".into(), value: Payload::encode("many").unwrap() });
    assert_eq!(shown.len(), 1);
    let start = format!("panicked: signal `item-added` cannot be read as {}: ", std::any::type_name::<Item>());
    assert!(shown[0].starts_with(&start), "{shown:?}");
    assert!(shown[0].ends_with("the signal is kept"), "{shown:?}");
}

#[test]
fn signals_of_names_that_nobody_waits_for_change_nothing() {
    let mut run = run(two_readers());
    run.start();
    let strange = Input::Signal { name: "strange".into(), value: Payload::encode(&1).unwrap() };
    assert_eq!(run.apply(strange), ["waiting"]);
}

#[workflow]
async fn each_its_own() -> (u32, u32, u32) {
    let own = |n| signal::<Item>().recv_where(move |item| item.0 % 10 == n);
    let (one, two) = join!(own(1), own(2));
    (one.0, two.0, signal::<Item>().recv().await.0)
}

#[test]
fn who_is_choosy_takes_what_fits_and_leaves_the_rest() {
    let mut run = run(each_its_own());
    run.start();
    assert_eq!(run.signal(&Item(3)), ["waiting"]);
    assert_eq!(run.signal(&Item(12)), ["waiting"]);
    assert_eq!(run.signal(&Item(2)), ["waiting"], "the second is served already");
    let turn = run.turn(Input::Signal { name: Item::NAME.into(), value: Payload::encode(&Item(21)).unwrap() });
    assert_eq!(value::<(u32, u32, u32)>(&turn), (21, 12, 3), "and what nobody wanted is still first");
}

#[workflow]
async fn choosy_beside_others() -> (u32, u32) {
    let (first, seven) = join!(signal::<Item>().recv(), signal::<Item>().recv_where(|item| item.0 == 7));
    (first.0, seven.0)
}

#[test]
fn who_is_choosy_is_in_nobody_s_way() {
    let mut run = run(choosy_beside_others());
    run.start();
    assert_eq!(run.signal(&Item(7)), ["waiting"], "whoever is polled first takes it");
    let turn = run.turn(Input::Signal { name: Item::NAME.into(), value: Payload::encode(&Item(7)).unwrap() });
    assert_eq!(value::<(u32, u32)>(&turn), (7, 7));
}

#[workflow]
async fn sums() -> u32 {
    let items = signal::<Item>().stream();
    items.take(3).fold(0, async |sum, item| sum + item.0).await
}

#[test]
fn a_stream_gives_one_after_another() {
    let mut run = run(sums());
    run.signal(&Item(1));
    run.start();
    run.signal(&Item(2));
    let turn = run.turn(Input::Signal { name: Item::NAME.into(), value: Payload::encode(&Item(3)).unwrap() });
    assert_eq!(value::<u32>(&turn), 6);
}

#[workflow]
async fn leaves_a_stream() -> (u32, u32) {
    let mut items = signal::<Item>().stream();
    let first = select! {
        Some(item) = items.next() => item.0,
        () = sleep(Duration::from_secs(1)) => 0,
    };
    (first, signal::<Item>().recv().await.0)
}

#[test]
fn a_stream_that_nobody_polls_is_in_nobody_s_way() {
    let mut run = run(leaves_a_stream());
    run.start();
    run.fired(0);
    let turn = run.turn(Input::Signal { name: Item::NAME.into(), value: Payload::encode(&Item(5)).unwrap() });
    assert_eq!(value::<(u32, u32)>(&turn), (0, 5));
}
