extern crate everpulse_sdk as everpulse;
use everpulse::{update, workflow};
use serde::{Deserialize, Serialize};

#[update]
#[derive(Serialize, Deserialize)]
struct WithoutReply;

#[update(reply = u32, error = std::io::Error)]
#[derive(Serialize, Deserialize)]
struct WithStrangeError;

#[update(reply = u32)]
#[derive(Serialize, Deserialize)]
struct Generic<T>(T);

#[workflow]
async fn waits() {
    update::<u32>().recv().await;
}

fn main() {}
