extern crate everpulse_sdk as everpulse;
use everpulse::{activity, workflow};

#[activity]
async unsafe fn dangerous() {}

#[activity]
extern "C" fn foreign() {}

#[activity]
const fn constant() {}

#[workflow]
fn not_async() -> u32 {
    1
}

fn main() {}
