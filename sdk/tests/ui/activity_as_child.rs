extern crate everpulse_sdk as everpulse;
use everpulse::{activity, workflow};

#[activity]
async fn charge() -> u32 {
    1
}

#[workflow]
async fn parent() -> u32 {
    charge().id("charge-1").await.unwrap()
}

fn main() {}
