extern crate everpulse_sdk as everpulse;
use everpulse::{sleep, workflow};
use std::collections::HashMap;
use std::time::Duration;

#[workflow]
async fn shuffled(names: Vec<String>) {
    let seats: HashMap<usize, String> = names.into_iter().enumerate().collect();
    for _ in seats {
        futures::select! {
            () = futures::FutureExt::fuse(sleep(Duration::from_secs(1))) => {}
            default => {}
        }
    }
}

fn main() {}
