extern crate everpulse_sdk as everpulse;
use everpulse::activity;

#[derive(serde::Serialize, serde::Deserialize)]
struct PageResult<T>(T);

#[activity]
async fn page() -> PageResult<u32> {
    PageResult(1)
}

fn main() {}
