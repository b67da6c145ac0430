extern crate everpulse_sdk as everpulse;
use everpulse::workflow;
use std::thread;
use std::time::Duration;

#[workflow]
async fn busy() -> u32 {
    thread::sleep(Duration::from_secs(1));
    std::thread::spawn(|| 1).join().unwrap() + futures::executor::block_on(async { 2 })
}

fn main() {}
