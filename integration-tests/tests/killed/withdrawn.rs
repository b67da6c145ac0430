//! What loses a `select!`, a race or against a time is withdrawn and counts no more; permits are given in turn; and a shield
//! is done to its end. A killed owner repeats no activity, but may lose the word that one is not wanted any more.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use everpulse_integration_tests::arm::eventually;
use everpulse_integration_tests::waits::{shields, withdraws};

use crate::{Stage, killed};

/// How often each thing was noted.
fn counts(stage: &Stage, id: &str) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for step in stage.noted(id)? {
        *counts.entry(step).or_default() += 1;
    }
    Ok(counts)
}

async fn withdrawing(stage: &Stage, id: &str) -> Result<()> {
    let result = stage.client.start(withdraws()).id(id).enqueue().await?.result().await?;
    ensure!(result == [1, 3, 5, 10, 11, 12, 13, 14], "{result:?}");
    let counts = counts(stage, id)?;
    ensure!(counts.values().all(|count| *count == 1), "{counts:?}");
    ensure!((10..15).all(|n| counts.contains_key(&format!("count {n}"))), "{counts:?}");
    Ok(())
}

/// The same where nobody is killed: each one that began hears that it is not wanted.
async fn withdrawing_heard(stage: &Stage, id: &str) -> Result<()> {
    withdrawing(stage, id).await?;
    eventually("those that began hear of it", || async {
        let counts = counts(stage, id)?;
        let heard = |n| counts.contains_key(&format!("begins {n}")) == counts.contains_key(&format!("withdrawn {n}"));
        Ok([1, 2, 4].into_iter().all(heard).then_some(()))
    })
    .await
}

async fn shielding(stage: &Stage, id: &str) -> Result<()> {
    let run = stage.client.start(shields()).id(id).enqueue().await?;
    eventually("it lingers", || async { Ok(counts(stage, id)?.contains_key("begins 6").then_some(())) }).await?;
    run.cancel("not wanted").await?;
    let result = run.result().await?;
    ensure!(result == 41, "{result}");
    let counts = counts(stage, id)?;
    ensure!(counts.get("count 20") == Some(&1) && counts.get("count 21") == Some(&1), "{counts:?}");
    Ok(())
}

killed! { withdrawing_heard:
    withdrawn_activities_hear_of_it: "none", Workflows, 0;
}

killed! { withdrawing:
    withdrawn_activities_bear_an_owner_killed_when_an_input_arrives: "inbox-received", Workflows, 6;
    withdrawn_activities_bear_an_owner_killed_before_the_append: "append-before", Workflows, 6;
    withdrawn_activities_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows, 6;
    withdrawn_activities_bear_an_owner_killed_with_the_receipt: "append-receipt", Workflows, 6;
    withdrawn_activities_bear_an_owner_killed_when_a_command_is_sent: "command-sent", Workflows, 6;
    withdrawn_activities_bear_an_owner_killed_before_the_ack: "ack-before", Workflows, 6;
    withdrawn_activities_bear_an_owner_killed_after_the_ack: "ack-sent", Workflows, 6;
}

killed! { shielding:
    shields_are_done_to_their_end: "none", Workflows, 0;
    shields_bear_an_owner_killed_when_an_input_arrives: "inbox-received", Workflows, 4;
    shields_bear_an_owner_killed_before_the_append: "append-before", Workflows, 4;
    shields_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows, 4;
    shields_bear_an_owner_killed_with_the_receipt: "append-receipt", Workflows, 4;
    shields_bear_an_owner_killed_when_a_command_is_sent: "command-sent", Workflows, 3;
    shields_bear_an_owner_killed_before_the_ack: "ack-before", Workflows, 4;
    shields_bear_an_owner_killed_after_the_ack: "ack-sent", Workflows, 4;
}
