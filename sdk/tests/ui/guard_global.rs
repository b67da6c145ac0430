extern crate everpulse_sdk as everpulse;
use everpulse::workflow;

#[workflow]
async fn counts() -> u32 {
    static mut RUNS: u32 = 0;
    std::thread_local! {
        static HERE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    HERE.with(std::cell::Cell::get)
}

fn main() {}
