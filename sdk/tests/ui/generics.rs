extern crate everpulse_sdk as everpulse;
use std::fmt::Display;

use everpulse::{activities, activity, signal, workflow};

#[activity]
async fn generic<T: Display>(value: T) -> String {
    value.to_string()
}

#[workflow]
async fn with_a_clause() -> u32
where
    u32: Copy,
{
    1
}

struct Holder<T>(T);

#[activities]
impl<T> Holder<T> {
    #[activity]
    async fn hold(&self) {}
}

#[signal]
struct Poke<T>(T);

fn main() {}
