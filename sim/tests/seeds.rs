//! The simulation itself: a seed says all, and what is taken away from it changes nothing else. Many seeds are
//! `cargo xtask sim`'s.

use std::collections::BTreeSet;

use everpulse_sim::{Fault, Plan, play, play_twice};

#[test]
fn a_seed_comes_to_the_same_trace_twice_and_the_rules_hold() {
    for seed in 1..=3 {
        let outcome = play_twice(&Plan::of(seed));
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        assert!(outcome.counts.runs >= 20, "seed {seed} has {} runs", outcome.counts.runs);
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(play(&Plan::of(1), false).trace, play(&Plan::of(2), false).trace);
}

#[test]
fn without_faults_the_rules_hold_too() {
    let plan = Plan { without: Fault::ALL.iter().copied().collect(), ..Plan::of(1) };
    let outcome = play(&plan, false);
    assert_eq!(outcome.violations, Vec::<String>::new());
    assert!(outcome.counts.faults.is_empty());
}

#[test]
fn a_plan_prints_as_the_arguments_that_play_it_again() {
    let without = BTreeSet::from([Fault::Cut, Fault::Pause]);
    let plan = Plan { without, runs_max: Some(3), ..Plan::of(7) };
    assert_eq!(plan.to_string(), "--seed 7 --without cut,pause --runs 3");
}
