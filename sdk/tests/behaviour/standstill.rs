//! Runs that wait for what is not durable, and runs that panic: told by name, and never worse.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use everpulse::{activity, join, sleep, workflow};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};

use crate::harness::run;

#[activity]
async fn double(n: u32) -> u32 {
    n * 2
}

#[workflow(version = 3)]
async fn waits_for_nothing() {
    double(1).await.unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn a_run_that_no_event_can_wake_is_stuck_and_says_where() {
    let mut run = run(waits_for_nothing());
    run.start();
    let message = "stuck: workflow `waits_for_nothing` version 3, run order-42/00000000-0000-0000-0000-000000000007, waits for \
                   something that is not durable (a channel, a lock, a tokio timer, I/O); its last command was command 0, \
                   activity `double`; in a workflow wait only for activities, `step`, `sleep`, `signal::<T>().recv()`, \
                   `update::<T>().recv()`, and what is made of them; do all else in an activity or a step";
    assert_eq!(run.done(0, 2), [message]);
    assert_eq!(run.done(0, 2), [message], "and it stays so");
}

static SENDERS: Mutex<Vec<oneshot::Sender<()>>> = Mutex::new(Vec::new());

#[workflow]
async fn waits_for_a_channel_too() {
    let (sender, receiver) = oneshot::channel();
    SENDERS.lock().unwrap().push(sender);
    let (received, ()) = join!(receiver, sleep(Duration::from_secs(1)));
    received.unwrap();
}

#[test]
fn a_wake_from_outside_makes_it_stuck_even_if_it_came_between_events() {
    let mut run = run(waits_for_a_channel_too());
    assert_eq!(run.start(), ["0 timer 2000", "waiting"]);
    let sender = SENDERS.lock().unwrap().pop().unwrap();
    std::thread::spawn(move || sender.send(()).unwrap()).join().unwrap();
    let shown = run.fired(0);
    assert!(shown[0].contains("was woken by something that is not durable"), "{shown:?}");
}

#[workflow]
async fn inner_channel() -> u32 {
    let shared = Rc::new(RefCell::new(0));
    let (sender, mut receiver) = mpsc::unbounded();
    let reader = async {
        while let Some(number) = receiver.next().await {
            *shared.borrow_mut() += number;
        }
    };
    let writer = async {
        for number in 1..=3 {
            sender.unbounded_send(double(number).await.unwrap()).unwrap();
        }
        drop(sender);
    };
    join!(reader, writer);
    shared.take()
}

#[test]
fn channels_and_shared_state_within_a_run_are_fine() {
    let mut run = run(inner_channel());
    run.start();
    run.done(0, 2);
    run.done(1, 4);
    assert_eq!(run.done(2, 6), ["completed with 1 bytes"]);
}

#[workflow]
async fn wakes_itself() {
    std::future::poll_fn::<(), _>(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[test]
fn a_run_that_wakes_itself_for_ever_is_stopped() {
    let shown = run(wakes_itself()).start();
    assert!(shown[0].contains("does not come to rest: it wakes itself over and over again"), "{shown:?}");
}

#[workflow]
async fn panics(message: String) {
    let _open = double(1).start();
    sleep(Duration::from_secs(1)).await;
    panic!("{message}");
}

#[test]
fn a_panic_is_caught_with_its_message_and_nothing_is_asked_for() {
    let mut run = run(panics("out of paper".into()));
    run.start();
    assert_eq!(run.fired(1), ["panicked: out of paper"]);
    assert_eq!(run.fired(1), ["panicked: out of paper"]);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[workflow]
async fn panics_in_a_destructor() {
    let _value = PanicsWhenDropped;
    sleep(Duration::from_secs(1)).await;
}

#[test]
fn a_panic_in_a_destructor_is_caught_at_the_end_and_while_a_run_is_taken_down() {
    let mut ends = run(panics_in_a_destructor());
    ends.start();
    assert_eq!(ends.fired(0), ["panicked: in a destructor"]);

    let mut cancelled = run(panics_in_a_destructor());
    cancelled.start();
    assert_eq!(cancelled.cancel(), ["cancelled: no longer wanted"]);

    let mut dropped = run(panics_in_a_destructor());
    dropped.start();
    drop(dropped);
}

#[workflow]
async fn abandons_what_it_polled() {
    // Polled once, so it has a waker, and then given up for something that is not durable.
    let mut timer = Box::pin(sleep(Duration::from_secs(1)));
    let _ = (&mut timer).now_or_never();
    drop(timer);
    std::future::pending::<()>().await;
}

#[test]
fn a_timer_that_was_dropped_is_no_wait() {
    let shown = run(abandons_what_it_polled()).start();
    assert!(shown[0].contains("its last command was command 0, a timer due at"), "{shown:?}");
}
