//! What was accepted is seen by every question after it, whoever answers.

use anyhow::{Result, ensure};
use everpulse_integration_tests::waits::watched;
use everpulse_integration_tests::workflows::{HowOften, Word};

use crate::{Stage, killed};

const WORDS: usize = 4;

async fn play(stage: &Stage, id: &str) -> Result<()> {
    let run = stage.client.start(watched(WORDS)).id(id).await?;
    for taken in 0..WORDS {
        let asked = run.query(HowOften { text: String::new() }).await?;
        ensure!(asked == taken, "{asked} of {taken} words that were accepted");
        let published = run.published::<usize>().await?;
        ensure!(published == Some(taken), "{published:?} of {taken} words that were accepted");
        run.signal(Word { text: taken.to_string() }).await?;
    }
    let result = run.result().await?;
    ensure!(result == WORDS, "{result}");
    Ok(())
}

killed! { play:
    asked_runs_tell_of_all_that_was_accepted: "none", Workflows, 0;
    asked_runs_bear_an_owner_killed_when_a_question_or_a_signal_arrives: "inbox-received", Workflows, 8;
    asked_runs_bear_an_owner_killed_before_the_append: "append-before", Workflows, 4;
    asked_runs_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows, 4;
    asked_runs_bear_an_owner_killed_with_the_receipt: "append-receipt", Workflows, 4;
    asked_runs_bear_an_owner_killed_before_the_ack: "ack-before", Workflows, 8;
    asked_runs_bear_an_owner_killed_after_the_ack: "ack-sent", Workflows, 8;
}
