//! Each kind of time-out ends what it is for, the next attempt comes when it should, and turns are kept; whoever is killed.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use everpulse_integration_tests::ledger;
use everpulse_integration_tests::waits::{AT_A_TIME, PER_SECOND, deadlines, takes_turns};

use crate::{Stage, killed};

async fn ending(stage: &Stage, id: &str) -> Result<()> {
    let told = stage.client.start(deadlines()).id(id).enqueue().await?.result().await?;
    let [silent, kept_waiting, closed, back, refused] = &told;
    ensure!(silent == "41", "the second attempt goes on from the first one's heartbeat: {told:?}");
    ensure!(kept_waiting.contains("timed out"), "it waited too long for its turn: {told:?}");
    ensure!(closed.contains("timed out"), "all attempts together took too long: {told:?}");
    ensure!(back == "3", "the third attempt came soon: {told:?}");
    ensure!(refused == "final", "{told:?}");
    Ok(())
}

/// The same where no activity is done again.
async fn ending_once(stage: &Stage, id: &str) -> Result<()> {
    ending(stage, id).await?;
    let noted = stage.noted(id)?;
    let count = |what: &str| noted.iter().filter(|step| *step == what).count();
    ensure!(count("falls_silent") == 2 && count("refuses") == 1, "{noted:?}");
    Ok(())
}

const TURNS: u64 = 8;

/// Whatever process takes turns, it takes no more of them than it may: at a time, and in a second.
async fn taking_turns(stage: &Stage, id: &str) -> Result<()> {
    let sum = stage.client.start(takes_turns(TURNS)).id(id).enqueue().await?.result().await?;
    ensure!(sum == (0..TURNS).sum::<u64>(), "{sum}");
    let mut under_way: BTreeMap<String, usize> = BTreeMap::new();
    let mut began: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in ledger::read(&stage.ledger)? {
        if let Some(process) = entry.step.strip_prefix("begins ") {
            began.entry(process.to_owned()).or_default().push(entry.at_ms);
            let now = under_way.entry(process.to_owned()).or_default();
            *now += 1;
            ensure!(*now <= AT_A_TIME, "{now} at a time in {process}");
        } else if let Some(process) = entry.step.strip_prefix("ends ") {
            *under_way.entry(process.to_owned()).or_default() -= 1;
        }
    }
    for (process, mut times) in began {
        times.sort_unstable();
        let span = times.last().zip(times.first()).map_or(0, |(last, first)| last - first);
        // A turn may be noted a little late, and so be nearer to the next one; all of them cannot.
        let turns = (times.len() as u64).saturating_sub(2);
        let least = (turns as f64 / PER_SECOND * 1_000.0) as u64;
        ensure!(span >= least, "{} turns in {span} ms in {process}", times.len());
    }
    Ok(())
}

killed! { ending_once:
    deadlines_end_what_they_are_for: "none", Workflows, 0;
    deadlines_bear_an_owner_killed_when_an_input_arrives: "inbox-received", Workflows, 6;
    deadlines_bear_an_owner_killed_before_the_append: "append-before", Workflows, 6;
    deadlines_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows, 6;
    deadlines_bear_an_owner_killed_with_the_receipt: "append-receipt", Workflows, 6;
    deadlines_bear_an_owner_killed_when_a_command_is_sent: "command-sent", Workflows, 5;
    deadlines_bear_an_owner_killed_before_the_ack: "ack-before", Workflows, 6;
    deadlines_bear_an_owner_killed_after_the_ack: "ack-sent", Workflows, 6;
}

killed! { ending:
    deadlines_bear_a_worker_killed_with_the_task: "task-received", Activities, 6;
    deadlines_bear_a_worker_killed_after_the_work: "activity-done", Activities, 6;
    deadlines_bear_a_worker_killed_with_the_settlement: "settle-confirmed", Activities, 6;
    deadlines_bear_a_worker_killed_after_the_ack: "task-acked", Activities, 6;
}

killed! { taking_turns:
    turns_are_kept: "none", Workflows, 0;
    turns_are_kept_by_who_follows_a_worker_killed_with_a_task: "task-received", Activities, 3;
    turns_are_kept_by_who_follows_a_worker_killed_after_the_work: "activity-done", Activities, 3;
    turns_are_kept_by_who_follows_a_worker_killed_with_the_settlement: "settle-confirmed", Activities, 3;
}
