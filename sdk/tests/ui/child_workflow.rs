extern crate everpulse_sdk as everpulse;
use everpulse::workflow;

#[workflow]
async fn child() -> u32 {
    1
}

#[workflow]
async fn parent() -> u32 {
    child().await.unwrap()
}

fn main() {}
