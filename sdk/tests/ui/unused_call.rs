extern crate everpulse_sdk as everpulse;
use everpulse::{activity, workflow};

#[activity]
async fn charge() {}

#[workflow]
#[deny(unused_must_use)]
async fn forgets() {
    charge();
    charge().start();
}

fn main() {}
