//! join!, try_join!, join_all, try_join_all, select!: in source order, for any number of branches.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use everpulse::replay::Input;
use everpulse::{Error, activity, join, join_all, select, sleep, try_join, try_join_all, workflow};

use crate::harness::{done, error, run, value};

#[activity]
async fn double(n: u32) -> u32 {
    n * 2
}

#[activity]
async fn check(_n: u32) -> Result<u32, Error> {
    Ok(0)
}

#[workflow]
async fn joined() -> (u32, u32, String) {
    let (one, two, three) = join!(double(1), async { double(2).await.unwrap() }, std::future::ready("x".to_owned()));
    (one.unwrap(), two, three)
}

#[test]
fn join_takes_calls_and_futures_in_source_order() {
    let mut run = run(joined());
    assert_eq!(run.start(), ["0 activity double", "1 activity double", "waiting"]);
    assert_eq!(run.done(1, 4), ["waiting"]);
    assert_eq!(value::<(u32, u32, String)>(&run.turn(done(0, 2))), (2, 4, "x".to_owned()));
}

#[workflow]
async fn tried() -> Result<u32, Error> {
    let (one, two, three) = try_join!(check(1), check(2), check(3))?;
    Ok(one + two + three)
}

#[test]
fn try_join_gives_the_first_error_and_drops_the_rest() {
    let mut first = run(tried());
    first.start();
    assert_eq!(first.done(2, 1), ["waiting"]);
    assert_eq!(first.failed(1, error(&Error::msg("bad"))), ["cancel 0", "failed: bad"]);

    let mut all = run(tried());
    all.start();
    all.done(2, 3);
    all.done(0, 1);
    assert_eq!(value::<u32>(&all.turn(done(1, 2))), 6);
}

#[workflow]
async fn fan_out(count: u32) -> Vec<u32> {
    join_all((0..count).map(double)).await.into_iter().map(Result::unwrap).collect()
}

#[test]
fn join_all_gives_results_in_order_whatever_the_order_of_events() {
    let mut run = run(fan_out(4));
    assert_eq!(run.start().len(), 5);
    for step in [2, 0, 3] {
        assert_eq!(run.done(step, step * 2), ["waiting"]);
    }
    assert_eq!(value::<Vec<u32>>(&run.turn(done(1, 2))), [0, 2, 4, 6]);
}

#[test]
fn join_all_of_nothing_is_nothing() {
    assert_eq!(value::<Vec<u32>>(&run(fan_out(0)).turn(Input::Start)), [0_u32; 0]);
}

/// A future that counts its polls.
struct Counted<F> {
    inner: std::pin::Pin<Box<F>>,
    polls: Rc<Cell<u32>>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<F::Output> {
        self.polls.set(self.polls.get() + 1);
        self.inner.as_mut().poll(cx)
    }
}

#[workflow]
async fn counted(count: u32) -> u32 {
    let polls = Rc::new(Cell::new(0));
    join_all((0..count).map(|n| Counted { inner: Box::pin(double(n)), polls: Rc::clone(&polls) })).await;
    polls.get()
}

#[test]
fn an_event_polls_one_child_of_a_thousand() {
    let mut run = run(counted(1_000));
    run.start();
    for step in (1..1_000).rev() {
        assert_eq!(run.done(step, 0), ["waiting"]);
    }
    assert_eq!(value::<u32>(&run.turn(done(0, 0))), 2_000, "once to begin with, and once for its result");
}

#[workflow]
async fn all_or_error() -> Result<u32, Error> {
    Ok(try_join_all((0..3).map(check)).await?.into_iter().sum())
}

#[test]
fn try_join_all_drops_the_rest_on_an_error() {
    let mut run = run(all_or_error());
    run.start();
    run.done(0, 1);
    assert_eq!(run.failed(2, error(&Error::msg("bad"))), ["cancel 1", "failed: bad"]);
}

#[workflow]
async fn race() -> String {
    select! {
        biased;
        first = double(1) => format!("first {}", first.unwrap()),
        () = sleep(Duration::from_secs(1)) => { "timer".to_owned() }
        second = double(2) => format!("second {}", second.unwrap()),
    }
}

#[test]
fn select_takes_what_comes_first_and_drops_the_rest() {
    let mut first = run(race());
    assert_eq!(first.start(), ["0 activity double", "1 timer 2000", "2 activity double", "waiting"]);
    assert_eq!(first.done(2, 4), ["cancel 1", "cancel 0", "completed with 9 bytes"], "last to first");

    let mut timed_out = run(race());
    timed_out.start();
    assert_eq!(value::<String>(&timed_out.turn(Input::TimerFired { step: 1 })), "timer");
}

#[workflow]
async fn both_ready() -> u32 {
    let one = double(1).start();
    let two = double(2).start();
    sleep(Duration::from_secs(1)).await;
    select! {
        two = two => two.unwrap(),
        one = one => one.unwrap(),
    }
}

#[test]
fn of_two_that_are_ready_the_first_in_the_source_wins() {
    let mut run = run(both_ready());
    run.start();
    run.done(0, 2);
    run.done(1, 4);
    assert_eq!(value::<u32>(&run.turn(Input::TimerFired { step: 2 })), 4);
}

#[workflow]
async fn guarded(enabled: bool) -> u32 {
    let mut number = None::<u32>;
    let mut rounds = 0;
    loop {
        rounds += 1;
        select! {
            Ok(value @ 10..) = double(1), if enabled => number = Some(value),
            Ok(mut value) = double(2), if rounds < 2 => {
                value += 1;
                number = Some(value);
                continue;
            }
            else => break,
        }
    }
    number.unwrap_or(0)
}

#[test]
fn guards_patterns_and_else_mean_what_tokio_says() {
    let mut disabled = run(guarded(false));
    assert_eq!(disabled.start(), ["0 activity double", "waiting"], "a branch with a false guard is not polled");
    assert_eq!(value::<u32>(&disabled.turn(done(0, 4))), 5);

    let mut unmatched = run(guarded(true));
    assert_eq!(unmatched.start(), ["0 activity double", "1 activity double", "waiting"]);
    assert_eq!(unmatched.done(0, 9), ["waiting"], "the pattern does not fit: the branch is out");
    assert_eq!(unmatched.done(1, 4), ["2 activity double", "waiting"]);
    assert_eq!(value::<u32>(&unmatched.turn(done(2, 3))), 5, "no branch is left: else");
}

#[workflow]
async fn leaves(n: u32) -> Result<String, Error> {
    let text = Some(String::from("moved"));
    for round in 0_u32.. {
        select! {
            checked = check(n) => { checked?; }
            Some(text) = async { text.clone() }, if round == 1 => return Ok(text),
            _ = sleep(Duration::from_secs(1)), if round > 5 => {},
        }
    }
    unreachable!()
}

#[test]
fn handlers_can_return_and_use_the_question_mark() {
    let mut good = run(leaves(1));
    good.start();
    assert_eq!(value::<String>(&good.turn(done(0, 1))), "moved");
    let mut bad = run(leaves(1));
    bad.start();
    assert_eq!(bad.failed(0, error(&Error::msg("bad"))), ["failed: bad"]);
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Doubled(u32),
    #[expect(dead_code, reason = "only its name is of interest")]
    Branch0,
}

#[workflow]
async fn own_names() -> u32 {
    let (mut outcome, pending, cx, value) = (None, 1, 2, 3);
    select! {
        Outcome::Doubled(n) = async { Outcome::Doubled(double(pending).await.unwrap()) } => {
            outcome = Some(Outcome::Doubled(n + pending + cx + value));
        }
        else => {}
    }
    match outcome {
        Some(Outcome::Doubled(n)) => n,
        _ => 0,
    }
}

#[test]
fn names_of_the_author_are_not_disturbed() {
    let mut run = run(own_names());
    run.start();
    assert_eq!(value::<u32>(&run.turn(done(0, 10))), 16);
}

#[workflow]
async fn only_else() -> u32 {
    select! { else => 1 }
}

#[test]
fn select_with_nothing_but_else() {
    assert_eq!(value::<u32>(&run(only_else()).turn(Input::Start)), 1);
}

#[workflow]
async fn none_left() -> u32 {
    select! {
        Err(_) = double(1) => 1,
    }
}

#[test]
fn without_a_branch_left_and_without_else_it_panics() {
    let mut run = run(none_left());
    run.start();
    assert_eq!(run.done(0, 1), ["panicked: no branch of `select!` is left, and there is no `else`"]);
}

#[workflow]
async fn borrowed() -> u32 {
    let mut total = 0;
    let mut slow = double(1).start();
    let mut rounds = 0;
    loop {
        select! {
            result = &mut slow => return total + result.unwrap(),
            fast = double(2) => {
                total += fast.unwrap();
                rounds += 1;
            }
        }
        assert!(rounds < 3);
    }
}

#[test]
fn a_future_can_be_kept_across_rounds() {
    let mut run = run(borrowed());
    assert_eq!(run.start(), ["0 activity double", "1 activity double", "waiting"]);
    assert_eq!(run.done(1, 4), ["2 activity double", "waiting"]);
    assert_eq!(run.done(2, 4), ["3 activity double", "waiting"]);
    let turn = run.turn(done(0, 2));
    assert_eq!(value::<u32>(&turn), 10);
}

#[workflow]
async fn forty() -> (u32, u32) {
    let d = double;
    #[rustfmt::skip]
    let all = join!(
        d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7), d(8), d(9), d(10), d(11), d(12), d(13), d(14), d(15), d(16), d(17),
        d(18), d(19), d(20), d(21), d(22), d(23), d(24), d(25), d(26), d(27), d(28), d(29), d(30), d(31), d(32), d(33),
        d(34), d(35), d(36), d(37), d(38), d(39),
    );
    let joined = all.39.unwrap();
    #[rustfmt::skip]
    let selected = select! {
        a = d(0) => a, a = d(1) => a, a = d(2) => a, a = d(3) => a, a = d(4) => a, a = d(5) => a, a = d(6) => a,
        a = d(7) => a, a = d(8) => a, a = d(9) => a, a = d(10) => a, a = d(11) => a, a = d(12) => a, a = d(13) => a,
        a = d(14) => a, a = d(15) => a, a = d(16) => a, a = d(17) => a, a = d(18) => a, a = d(19) => a, a = d(20) => a,
        a = d(21) => a, a = d(22) => a, a = d(23) => a, a = d(24) => a, a = d(25) => a, a = d(26) => a, a = d(27) => a,
        a = d(28) => a, a = d(29) => a, a = d(30) => a, a = d(31) => a, a = d(32) => a, a = d(33) => a, a = d(34) => a,
        a = d(35) => a, a = d(36) => a, a = d(37) => a, a = d(38) => a, a = d(39) => a,
    };
    (joined, selected.unwrap())
}

#[test]
fn forty_branches() {
    let mut run = run(forty());
    assert_eq!(run.start().len(), 41);
    for step in 0..39 {
        run.done(step, 0);
    }
    assert_eq!(run.done(39, 78).len(), 41);
    let shown = run.turn(done(79, 5));
    assert_eq!(shown.commands.len(), 39, "the others are cancelled");
    assert_eq!(value::<(u32, u32)>(&shown), (78, 5));
}
