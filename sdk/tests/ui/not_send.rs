extern crate everpulse_sdk as everpulse;
use std::rc::Rc;

use everpulse::activity;

#[activity]
async fn holds_a_reference_count() {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {}
