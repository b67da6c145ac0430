//! A workflow that is no function of its history does not pass its author's first test.

use std::panic::{AssertUnwindSafe, catch_unwind};

use everpulse_sdk::{Call, WorkflowDefinition};
use everpulse_testing::Environment;

use crate::samples::*;

fn found<D: WorkflowDefinition>(env: Environment, call: Call<D>) -> String {
    let run = env.start(call);
    let panic = catch_unwind(AssertUnwindSafe(|| drop(run.result()))).expect_err("it is found");
    panic.downcast_ref::<String>().expect("a message").clone()
}

#[test]
fn the_order_of_a_hash_map_is_found_and_its_command_named() {
    let message = found(Environment::new().workflow(walks_a_hash_map).activity(double), walks_a_hash_map(40));
    assert!(message.contains("the arguments of activity `double`, command"), "{message}");
    assert!(message.contains("recorded: {\"n\":") && message.contains("the order of a `HashMap`"), "{message}");
}

#[test]
fn a_clock_is_found() {
    let message = found(Environment::new().workflow(reads_a_clock).activity(double), reads_a_clock());
    assert!(message.contains("the arguments of activity `double`, command 0, changed"), "{message}");
}

#[test]
fn hidden_state_is_found() {
    let message = found(Environment::new().workflow(has_hidden_state), has_hidden_state());
    assert!(message.contains("diverged") || message.contains("changed"), "{message}");
}
