extern crate everpulse_sdk as everpulse;
use everpulse::{now, sleep, workflow};
use std::time::{Duration, Instant, SystemTime};

mod tokio {
    pub mod time {
        pub async fn sleep(_: std::time::Duration) {}
    }
}

#[workflow]
async fn late(limit: u64) -> bool {
    let start = Instant::now();
    let asked = SystemTime::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    sleep(Duration::from_secs(1)).await;
    let begun = now();
    asked == begun || begun.elapsed().unwrap().as_secs() > limit || start.elapsed().as_secs() > limit
}

fn main() {}
