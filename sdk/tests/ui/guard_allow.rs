extern crate everpulse_sdk as everpulse;
use everpulse::workflow;
use std::collections::HashMap;

#[workflow(allow(order, reason = "it is only looked into"))]
async fn has_a_reason(n: u32) -> Option<u32> {
    HashMap::from([(1, 2)]).get(&n).copied()
}

#[workflow(allow(order))]
async fn has_none() -> usize {
    HashMap::<u32, u32>::new().len()
}

#[workflow(allow(clock, reason = "for tea"))]
async fn needs_none() {}

#[workflow(allow(tea, reason = "it is five"))]
async fn no_such_guard() {}

#[workflow(allow(random, reason = "it looks nice"))]
async fn of_another_guard() -> usize {
    HashMap::<u32, u32>::new().len()
}

fn main() {}
