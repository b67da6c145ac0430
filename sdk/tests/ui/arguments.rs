extern crate everpulse_sdk as everpulse;
use everpulse::{activity, workflow};

#[activity]
async fn borrows_text(text: &str, bytes: &[u8], list: Vec<&'static str>) {}

#[activity]
async fn borrows_within(text: std::borrow::Cow<'_, str>) {}

#[workflow]
async fn any_display(value: impl std::fmt::Display, other: Box<dyn Send>) {}

#[workflow]
async fn patterns((a, b): (u32, u32), _: u8) {}

#[activity]
async fn pointers(function: fn() -> u32) {}

#[activity]
async fn lends() -> &'static str {
    ""
}

#[activity]
async fn thirteen(
    a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8,
) {
}

fn main() {}
