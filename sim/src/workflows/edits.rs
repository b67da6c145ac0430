//! Code that is edited while its runs are open, and that shows how far they are.

use std::cell::Cell;
use std::rc::Rc;

use everpulse_sdk::{Failure, Never, deprecate_patch, on_query, patched, publish, query, signal, step, workflow};
use serde::{Deserialize, Serialize};

use super::{Word, double};

pub const EDITED: &str = "edited";
/// The edit that all code here has, and the one that is deployed late.
pub const OLDER: &str = "older";
pub const NEWER: &str = "newer";
/// Under this name the runs publish how many words they took.
pub const TAKEN: &str = "Taken";

#[derive(Serialize)]
struct Taken(u64);

/// How many words were taken.
#[query(reply = u64, crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
pub struct Heard {}

/// Counts words, and shows how many there were.
fn counts() -> impl FnMut() {
    let heard = Rc::new(Cell::new(0_u64));
    let seen = Rc::clone(&heard);
    on_query(move |Heard {}| seen.get());
    move || {
        heard.set(heard.get() + 1);
        publish(&Taken(heard.get()));
    }
}

/// The sum of its words: before the edit.
#[workflow(version = 1, name = "edited", crate = everpulse_sdk)]
pub async fn edited_before(n: u64) -> Result<u64, Failure<Never>> {
    let (mut sum, mut count) = (0, counts());
    for _ in 0..n {
        let word = signal::<Word>().recv().await.n;
        count();
        sum += if patched(OLDER) { double(word).await? - word } else { 1_000_000 };
    }
    Ok(sum)
}

/// The same after it: the older one is everybody's, and the newer one has another way to the same sum.
#[workflow(version = 1, name = "edited", crate = everpulse_sdk)]
pub async fn edited(n: u64) -> Result<u64, Failure<Never>> {
    let (mut sum, mut count) = (0, counts());
    for _ in 0..n {
        let word = signal::<Word>().recv().await.n;
        count();
        deprecate_patch(OLDER);
        sum += if patched(NEWER) {
            step("same", move || async move { Ok::<u64, Never>(word) }).await?
        } else {
            double(word).await? - word
        };
    }
    Ok(sum)
}
