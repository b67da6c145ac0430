extern crate everpulse_sdk as everpulse;
use everpulse::{Error, activity, signal, workflow};

struct Opaque;

#[activity]
async fn takes(opaque: Opaque) {}

#[activity]
async fn gives() -> Result<Opaque, Error> {
    Ok(Opaque)
}

#[workflow]
async fn fails() -> Result<u32, std::io::Error> {
    Ok(1)
}

#[signal]
struct Poke;

fn main() {}
