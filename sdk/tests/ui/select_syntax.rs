extern crate everpulse_sdk as everpulse;
use everpulse::{select, workflow};

#[workflow]
async fn nothing() {
    select! {}
}

#[workflow]
async fn else_first() {
    select! {
        else => {}
        _ = std::future::ready(1) => {}
    }
}

#[workflow]
async fn no_arrow() {
    select! {
        _ = std::future::ready(1), true => {}
    }
}

fn main() {}
