extern crate everpulse_sdk as everpulse;
use everpulse::{signal, workflow};

#[workflow]
async fn waits() -> u32 {
    signal::<u32>().recv().await
}

fn main() {}
