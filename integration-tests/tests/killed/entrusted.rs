//! Of two completions at once exactly one counts, and it is the one that was told so: whoever is killed, also between a
//! completion and its frame, and also when it comes before its attempt is left.

use anyhow::{Context as _, Result, bail, ensure};
use everpulse::CompletionToken;
use everpulse::client::{Error, ErrorKind};
use everpulse_integration_tests::arm::eventually;
use everpulse_integration_tests::waits::agrees;
use everpulse_integration_tests::workflows::Trouble;

use crate::{Stage, killed};

fn is_late(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyCompleted | ErrorKind::AlreadyClosed | ErrorKind::Expired)
}

/// Two say what it comes to. The value of the one that counts.
async fn contested(stage: &Stage, token: &CompletionToken<u64, Trouble>, values: [u64; 2]) -> Result<u64> {
    let [one, other] = values;
    let client = &stage.client;
    match futures::join!(client.complete(token, one), client.complete(token, other)) {
        (Ok(()), Err(late)) if is_late(&late) => Ok(one),
        (Err(late), Ok(())) if is_late(&late) => Ok(other),
        both => bail!("of two completions one counts: {both:?}"),
    }
}

/// The token of a promise, as a person sees it.
async fn promised(stage: &Stage, id: &str) -> Result<CompletionToken<u64, Trouble>> {
    let text = eventually("the promise is given", || async {
        // Its start may still be on its way.
        let Ok(view) = stage.client.run(agrees, id).describe().await else { return Ok(None) };
        let token = view.pending.into_iter().find_map(|step| step.token);
        Ok(token.filter(|token| token.attempt.is_none()))
    });
    text.await?.to_string().parse().context("a token")
}

/// The token of an attempt, which may not be left yet.
async fn handed_over(stage: &Stage, id: &str, contract: u64) -> Result<CompletionToken<u64, Trouble>> {
    let wanted = format!("token {contract} ");
    let token = eventually("the attempt gives its token away", || async {
        Ok(stage.noted(id)?.iter().find_map(|step| step.strip_prefix(&wanted).map(str::to_owned)))
    });
    token.await?.parse().context("a token")
}

async fn play(stage: &Stage, id: &str) -> Result<()> {
    let run = stage.client.start(agrees()).id(id).enqueue().await?;
    let promise = promised(stage, id).await?;
    let price = contested(stage, &promise, [10, 20]).await?;
    let first = handed_over(stage, id, 1).await?;
    let signed = contested(stage, &first, [11, 21]).await?;
    let second = handed_over(stage, id, 2).await?;
    let deposit = contested(stage, &second, [12, 22]).await?;
    let result = run.result().await?;
    ensure!(result == [price, signed, deposit], "{result:?}, and what counts is {price}, {signed}, {deposit}");
    for token in [promise, first, second] {
        let late = stage.client.complete(&token, 99).await.err().context("the run has ended")?;
        ensure!(is_late(&late), "{late}");
    }
    Ok(())
}

killed! { play:
    entrusted_completions_count_once: "none", Workflows, 0;
    entrusted_completions_bear_an_owner_killed_when_they_arrive: "inbox-received", Workflows, 5;
    entrusted_completions_bear_an_owner_killed_before_the_append: "append-before", Workflows, 4;
    entrusted_completions_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows, 4;
    entrusted_completions_bear_an_owner_killed_with_the_receipt: "append-receipt", Workflows, 4;
    entrusted_completions_bear_an_owner_killed_when_a_command_is_sent: "command-sent", Workflows, 2;
    entrusted_completions_bear_an_owner_killed_before_the_ack: "ack-before", Workflows, 5;
    entrusted_completions_bear_an_owner_killed_after_the_ack: "ack-sent", Workflows, 5;
    entrusted_completions_bear_a_worker_killed_with_the_task: "task-received", Activities, 2;
    entrusted_completions_bear_a_worker_killed_before_it_says_that_it_left: "activity-done", Activities, 2;
    entrusted_completions_bear_a_worker_killed_when_it_left: "settle-confirmed", Activities, 2;
    entrusted_completions_bear_a_worker_killed_after_the_ack_of_the_task: "task-acked", Activities, 2;
}
