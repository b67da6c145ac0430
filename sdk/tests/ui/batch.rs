//! Batches: a list in, a list out.

use everpulse_sdk as everpulse;

#[everpulse::activity(batch(max = 10), crate = everpulse_sdk)]
async fn no_list(row: u64) -> Vec<u64> {
    vec![row]
}

#[everpulse::activity(batch(max = 10), crate = everpulse_sdk)]
async fn two_lists(rows: Vec<u64>, names: Vec<String>) -> Vec<u64> {
    let _ = names;
    rows
}

#[everpulse::activity(batch(max = 10), crate = everpulse_sdk)]
async fn one_result(rows: Vec<u64>) -> Result<Vec<u64>, everpulse::Error> {
    Ok(rows)
}

#[everpulse::activity(batch(max = 0), crate = everpulse_sdk)]
async fn none_at_all(rows: Vec<u64>) -> Vec<u64> {
    rows
}

#[everpulse::activity(batch(size = 10), crate = everpulse_sdk)]
async fn unknown(rows: Vec<u64>) -> Vec<u64> {
    rows
}

fn main() {}
