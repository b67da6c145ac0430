use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use everpulse_sdk::{Failure, activity};
use everpulse_testing::{Environment, explore};

use crate::samples::*;

#[test]
fn a_sound_workflow_comes_to_the_same_end_under_all_faults() {
    let repeated = RefCell::new(0);
    explore(300, |env| {
        let env = env.workflow(checkout).activity(charge).activity(refund);
        let run = env.start(checkout("4711".to_owned(), 42));
        run.signal(Approved { ok: true });
        assert_eq!(run.result(), Ok(Receipt { cents: 42 }));
        let executions = env.executions();
        let keys: BTreeSet<String> = executions.iter().map(|done| done.idempotency_key.clone()).collect();
        assert_eq!(keys.len(), 1);
        *repeated.borrow_mut() += executions.len() - 1;
    });
    println!("{} repetitions", repeated.borrow());
    assert!(*repeated.borrow() > 10, "faults struck: {}", repeated.borrow());
}

#[test]
fn each_signal_counts_once_and_timers_steps_and_fans_bear_faults() {
    explore(150, |env| {
        let env = env.workflow(counts_approvals).workflow(fans_out).workflow(reads_a_rate).activity(double);
        let votes = env.start(counts_approvals(4));
        let (fan, rate) = (env.start(fans_out(6)), env.start(reads_a_rate()));
        for ok in [true, false, true, true] {
            votes.signal(Approved { ok });
        }
        assert_eq!(votes.result().unwrap(), 3);
        assert_eq!(fan.result().unwrap(), 30);
        assert_eq!(rate.result().unwrap(), 1.5);
    });
}

#[test]
fn a_timer_of_a_day_fires_though_its_owner_is_gone() {
    explore(100, |env| {
        let env = env.workflow(checkout).activity(charge).activity(refund);
        assert!(env.start(checkout("4711".to_owned(), 42)).result().is_err());
        assert!(env.now().as_secs() >= 86_400);
    });
}

/// The author thought that an activity runs once.
fn careless(env: Environment) {
    let charged = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&charged);
    let env = env.workflow(checkout).activity(refund).mock(charge, move |_: String, cents: u64| {
        *counted.borrow_mut() += cents;
        Ok(Receipt { cents })
    });
    let run = env.start(checkout("4711".to_owned(), 42));
    run.signal(Approved { ok: true });
    run.result().expect("it is approved");
    assert_eq!(*charged.borrow(), 42, "charged once");
}

#[test]
fn a_careless_activity_is_found_with_the_line_that_plays_it_again_and_few_faults() {
    let found = || {
        let panic = catch_unwind(AssertUnwindSafe(|| explore(1_000, careless))).expect_err("it is found");
        panic.downcast_ref::<String>().expect("a message").clone()
    };
    let message = found();
    println!("{message}");
    assert!(message.contains("EVERPULSE_SEED=") && message.contains("cargo test exploring::a_careless"), "{message}");
    assert!(message.contains("charged once"), "{message}");
    let faults = message.lines().filter(|line| line.starts_with("    ")).count();
    assert!((1..=2).contains(&faults), "{message}");
    assert_eq!(found(), message, "a seed plays the same each time");
}

#[test]
fn what_is_told_of_updates_holds_under_faults() {
    explore(300, |env| {
        let env = env.workflow(counter);
        let run = env.start(counter(2)).id("c");
        let refused = run.update(Count { by: 3 });
        let (first, again) = (run.update_as("u-1", Count { by: 1 }), run.update_as("u-1", Count { by: 2 }));
        // Where three workers went down while one was on its way, nobody looks at it any more, and the fourth one knows no more
        // than that it was refused. There is no more to see then.
        let given_up = |told: &Result<u64, Failure<_>>| match told {
            Err(Failure::Panicked { message }) => message.contains("was at hand when a worker went down"),
            Err(Failure::Cancelled) => true,
            _ => false,
        };
        let (first, again) = (first.result(), again.result());
        if given_up(&first) || given_up(&again) {
            return;
        }
        let answer = first.expect("it is let pass");
        assert_eq!(again, Ok(answer), "it is the same request");
        assert!(refused.accepted().is_err());
        let sum = run.update(Count { by: 2 }).result();
        if given_up(&sum) {
            return;
        }
        let sum = sum.expect("it is let pass");
        assert_eq!((run.result(), sum), (Ok(sum), answer + 2));
    });
}

#[test]
fn who_remembers_the_key_charges_once() {
    explore(300, |env| {
        let charged = Rc::new(RefCell::new(std::collections::BTreeMap::new()));
        let counted = Rc::clone(&charged);
        let env = env.workflow(checkout).activity(refund).mock(charge, move |_: String, cents: u64| {
            counted.borrow_mut().insert(activity::context().idempotency_key().to_owned(), cents);
            Ok(Receipt { cents })
        });
        let run = env.start(checkout("4711".to_owned(), 42));
        run.signal(Approved { ok: true });
        run.result().expect("it is approved");
        assert_eq!(charged.borrow().values().sum::<u64>(), 42);
    });
}

#[test]
fn a_signal_by_tag_counts_once_in_each_run_under_faults() {
    explore(100, |env| {
        let env = env.workflow(counts_approvals).activity(double);
        let begin = |tag: &str| env.start(counts_approvals(2)).tag(tag).tag("all");
        let runs = [begin("red"), begin("blue"), begin("red")];
        env.signal_tag("red", Approved { ok: true });
        env.signal_tag("all", Approved { ok: false });
        runs[1].signal(Approved { ok: false });
        let counts = runs.map(|run| run.result().unwrap());
        assert_eq!(counts, [1, 0, 1]);
    });
}
