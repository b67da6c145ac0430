use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use everpulse_sdk::{Error, Failure, activity};
use everpulse_testing::{CommandKind, Environment, RunStatus, Wait};

use crate::samples::*;

const DAY: Duration = Duration::from_secs(86_400);

fn shop() -> Environment {
    Environment::new().workflow(checkout).activity(charge).activity(refund)
}

#[test]
fn a_signal_ends_a_wait_of_a_day_and_no_time_passes() {
    let env = shop();
    let run = env.start(checkout("4711".to_owned(), 42)).id("order-42");
    assert!(run.is_waiting_for(Wait::signal::<Approved>()) && run.is_waiting_for(Wait::Timer));
    assert_eq!(run.published(), Some(Progress { stage: "charged".to_owned() }));
    run.signal(Approved { ok: true });
    assert_eq!(run.result(), Ok(Receipt { cents: 42 }));
    assert_eq!((env.now(), run.status()), (Duration::ZERO, RunStatus::Completed));
}

#[test]
fn a_start_with_a_signal_begins_the_run_or_finds_it_open() {
    let env = shop();
    let run = env.start(checkout("4711".to_owned(), 42)).id("order-42").started_with(Approved { ok: true });
    assert_eq!(run.result(), Ok(Receipt { cents: 42 }));

    let first = env.start(checkout("4711".to_owned(), 42)).id("order-43");
    assert!(first.is_waiting_for(Wait::signal::<Approved>()));
    let second = env.start(checkout("4711".to_owned(), 42)).id("order-43").started_with(Approved { ok: true });
    assert_eq!((first.result(), second.result()), (Ok(Receipt { cents: 42 }), Ok(Receipt { cents: 42 })));
    assert_eq!(env.executions().len(), 2, "each order was charged once");
}

#[test]
fn time_is_skipped_to_the_timer() {
    let env = shop();
    let run = env.start(checkout("4711".to_owned(), 42));
    assert_eq!(run.result(), Err(Failure::Failed(CheckoutError::Expired)));
    assert_eq!(env.now(), DAY);
    let kinds: Vec<CommandKind> = run.commands().iter().map(|command| command.kind()).collect();
    assert_eq!(kinds, [CommandKind::Activity, CommandKind::Timer, CommandKind::Activity]);
    assert_eq!(run.commands()[0].argument::<u64>("cents"), Some(42));
    assert_eq!(run.commands()[1].wait(), Some(DAY));
}

#[test]
fn a_value_of_some_megabytes_is_for_an_application_that_has_a_store() {
    let status = |env: Environment| {
        let run = env.start(checkout("4".repeat(3_000_000), 42));
        run.signal(Approved { ok: true });
        run.status()
    };
    assert_ne!(status(shop()), RunStatus::Completed);
    assert_eq!(status(shop().large_values(64 * 1024 * 1024)), RunStatus::Completed);
}

#[test]
fn a_signal_comes_at_its_moment() {
    let env = shop();
    let run = env.start(checkout("4711".to_owned(), 42));
    run.at(Duration::from_secs(3_600)).signal(Approved { ok: true });
    env.advance(Duration::from_secs(3_599));
    assert!(run.is_waiting_for(Wait::signal::<Approved>()));
    env.advance(Duration::from_secs(1));
    assert_eq!(run.status(), RunStatus::Completed);
    assert_eq!(env.now(), Duration::from_secs(3_600));
}

#[test]
fn failed_attempts_wait_as_the_activitys_own_policy_says() {
    let env = shop().fail_first(charge, 2, PaymentError::Closed);
    let run = env.start(checkout("4711".to_owned(), 42));
    run.signal(Approved { ok: true });
    assert_eq!(run.result(), Ok(Receipt { cents: 42 }));
    assert_eq!(env.now(), Duration::from_secs(1 + 2), "the second wait is twice the first");
    let attempts: Vec<u32> = env.executions().iter().map(|execution| execution.attempt).collect();
    assert_eq!(attempts, [3], "the others failed before their code was run");
}

#[test]
fn attempts_run_out_and_a_dead_letter_remains() {
    let env = shop().fail_first(charge, 3, PaymentError::Closed);
    let run = env.start(checkout("4711".to_owned(), 42));
    let last = Box::new(Failure::Failed(PaymentError::Closed));
    let exhausted = Failure::Exhausted { attempts: 3, last };
    assert_eq!(run.result(), Err(Failure::Failed(CheckoutError::Payment(exhausted))));
    assert_eq!(env.dead_letters().len(), 1, "{:?}", env.dead_letters());
}

#[test]
fn what_is_never_retried_is_not_retried_when_it_is_mocked_either() {
    let times = Rc::new(Cell::new(0));
    let counted = Rc::clone(&times);
    let env = Environment::new().workflow(checkout).mock(charge, move |_: String, _: u64| {
        counted.set(counted.get() + 1);
        Err(PaymentError::Declined)
    });
    let declined = CheckoutError::Payment(Failure::Failed(PaymentError::Declined));
    assert_eq!(env.start(checkout("4711".to_owned(), 42)).result(), Err(Failure::Failed(declined)));
    assert_eq!((times.get(), env.now()), (1, Duration::ZERO));
}

#[test]
fn a_mock_knows_its_attempt_and_an_attempt_that_takes_too_long_times_out() {
    let env = shop().mock(charge, |_: String, cents: u64| {
        assert!(activity::context().idempotency_key().starts_with("order-42/"));
        if activity::context().attempt() < 3 { Err(PaymentError::Closed) } else { Ok(Receipt { cents }) }
    });
    let run = env.start(checkout("4711".to_owned(), 42)).id("order-42");
    run.signal(Approved { ok: true });
    assert_eq!(run.result(), Ok(Receipt { cents: 42 }));

    let env = shop().takes(charge, Duration::from_secs(31));
    let run = env.start(checkout("4711".to_owned(), 42));
    let exhausted = Failure::Exhausted { attempts: 3, last: Box::new(Failure::TimedOut) };
    assert_eq!(run.result(), Err(Failure::Failed(CheckoutError::Payment(exhausted))));
    assert_eq!(env.now(), Duration::from_secs(30 * 3 + 1 + 2));
}

#[test]
fn a_cancelled_run_ends() {
    let env = shop();
    let run = env.start(checkout("4711".to_owned(), 42));
    run.cancel();
    assert_eq!(run.result(), Err(Failure::Cancelled));
    assert_eq!(run.status(), RunStatus::Cancelled);
    let other = env.start(checkout("4711".to_owned(), 42));
    other.terminate();
    assert_eq!(other.result(), Err(Failure::Terminated));
}

#[test]
fn methods_plain_functions_and_steps_are_run_and_steps_are_mocked() {
    let env = Environment::new()
        .workflow(books)
        .workflow(fans_out)
        .workflow(reads_a_rate)
        .activities(Ledger { offset: 1 })
        .activity(double);
    assert_eq!(env.start(books(4)).result().unwrap(), 5);
    assert_eq!(env.start(fans_out(5)).result().unwrap(), 20);
    assert_eq!(env.start(reads_a_rate()).result().unwrap(), 1.5);

    let env = Environment::new()
        .workflow(reads_a_rate)
        .workflow(books)
        .mock(Ledger::book, |cents: u64| Ok(cents * 100))
        .mock_step("rate", |_| Ok::<f64, Error>(2.5));
    assert_eq!(env.start(reads_a_rate()).result().unwrap(), 2.5);
    assert_eq!(env.start(books(4)).result().unwrap(), 400);
}

#[test]
fn a_run_that_waits_for_a_signal_for_ever_says_so() {
    let env = Environment::new().workflow(counts_approvals).activity(double);
    let run = env.start(counts_approvals(2)).id("votes");
    run.signal(Approved { ok: true });
    let unfinished = run.try_result().expect_err("one more is to come");
    let message = unfinished.to_string();
    assert!(message.contains("votes is still open") && message.contains("it waits for signal `Approved`"), "{message}");
    assert!(message.contains("> activity 0 `double` {\"n\":1}"), "the history is shown: {message}");
    assert!(!unfinished.is_parked());
}

#[test]
#[should_panic(expected = "activity `charge` of checkout-1 is neither registered nor mocked")]
fn an_activity_that_nobody_has_is_named() {
    Environment::new().workflow(checkout).start(checkout("4711".to_owned(), 42)).result().ok();
}

#[test]
fn a_run_whose_code_panics_or_waits_astray_is_parked_and_says_why() {
    let env = Environment::new().workflow(panics).workflow(waits_astray);
    let unfinished = env.start(panics()).try_result().expect_err("it is parked");
    assert!(unfinished.is_parked() && unfinished.to_string().contains("no such order"), "{unfinished}");
    let unfinished = env.start(waits_astray()).try_result().expect_err("it is parked");
    assert!(unfinished.to_string().contains("waits for something that is not durable"), "{unfinished}");
}

#[test]
fn a_taken_id_is_told() {
    let env = shop();
    let first = env.start(checkout("4711".to_owned(), 42)).id("order-42");
    env.settle();
    let second = env.start(checkout("4711".to_owned(), 1)).id("order-42").policy(everpulse_testing::IdPolicy::Reject);
    let unfinished = second.try_result().expect_err("it is refused");
    assert!(unfinished.to_string().contains("order-42 was not started: its id is taken"), "{unfinished}");
    first.signal(Approved { ok: true });
    assert_eq!(env.run(checkout, "order-42").result(), Ok(Receipt { cents: 42 }));
}

#[test]
fn a_run_past_its_time_out_ends() {
    let env = shop();
    let run = env.start(checkout("4711".to_owned(), 42)).timeout(Duration::from_secs(60)).tag("vip");
    assert_eq!(run.result(), Err(Failure::TimedOut));
    assert_eq!(env.now(), Duration::from_secs(60));
}

#[test]
fn futures_of_activities_are_given_to_whatever_waits_for_them() {
    let asked = Rc::new(Cell::new(0));
    let counted = Rc::clone(&asked);
    let env = shop().block_on(move |future| {
        counted.set(counted.get() + 1);
        futures::executor::block_on(future);
    });
    let run = env.start(checkout("4711".to_owned(), 42));
    run.result().expect_err("nobody approves");
    assert_eq!(asked.get(), 2);
}

#[test]
fn an_update_is_refused_or_answered_and_its_id_is_one_request() {
    let env = Environment::new().workflow(counter);
    let run = env.start(counter(3)).id("c");
    assert!(run.is_waiting_for(Wait::update::<Count>()));
    assert_eq!(run.update(Count { by: 2 }).result(), Ok(2));
    let refused = run.update(Count { by: 9 });
    assert_eq!(refused.accepted(), Err(Failure::Failed("9 is too much".to_owned())));
    assert_eq!(run.update_as("u-1", Count { by: 3 }).result(), Ok(5));
    assert_eq!(run.update_as("u-1", Count { by: 1 }).result(), Ok(5), "it is the same request");
    assert_eq!(run.update(Count { by: 1 }).result(), Ok(6));
    assert_eq!(run.result(), Ok(6));
    assert!(run.update(Count { by: 1 }).result().is_err(), "it has ended");
}
