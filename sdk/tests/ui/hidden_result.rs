extern crate everpulse_sdk as everpulse;
use everpulse::activity;

type Answer = Result<u32, String>;
type Outcome<T> = std::result::Result<T, String>;

#[activity]
async fn ask() -> Answer {
    Ok(1)
}

#[activity]
async fn ask_again() -> Outcome<u32> {
    Ok(1)
}

fn main() {}
