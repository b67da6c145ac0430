extern crate everpulse_sdk as everpulse;
use everpulse::workflow;

#[workflow]
async fn fails() -> anyhow::Result<u32> {
    Ok(1)
}

fn main() {}
