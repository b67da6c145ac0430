extern crate everpulse_sdk as everpulse;
use everpulse::{activities, activity, signal, workflow};

#[activity(timeout = "30")]
async fn no_unit() {}

#[activity(heartbeat = "0s")]
async fn no_time_at_all() {}

#[activity(retry(initial = "1h", max = "1m"))]
async fn shorter_than_the_first() {}

#[activity(retry(factor = 0.5))]
async fn shrinking() {}

#[activity(retry(max_attempts = 0))]
async fn never_tried() {}

#[activity(retry(never = PaymentError::Declined))]
async fn cannot_fail() -> u32 {
    1
}

#[activity(queue = "a/b")]
async fn not_a_topic() {}

#[activity(exhausted = "explode")]
async fn explodes() {}

#[activity(name = "")]
async fn nameless() {}

#[activity(retries = 5)]
async fn misspelled() {}

#[activity(queue = "a", queue = "b")]
async fn twice() {}

#[workflow(version = 0)]
async fn before_the_first() {}

#[workflow(timeout = "1s")]
async fn not_an_option_of_workflows() {}

#[signal(version = 1)]
struct Poke;

#[workflow]
struct NoFunction;

fn main() {}
