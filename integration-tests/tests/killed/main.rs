//! Runs that wait, with a worker that is killed between any two events of theirs.
//!
//! | | what is waited for |
//! |---|---|
//! | `entrusted` | promises, and attempts that were left to be completed later |
//! | `asked` | questions: queries and what was published |
//! | `withdrawn` | the first of several, a permit, a shield |
//! | `deadlines` | time-outs of every kind, another attempt, a turn |
//!
//! Owner and activity worker are processes of their own. One of them ends itself with SIGKILL at a point of the protocol, at
//! each time that a run passes it, and another one takes its place. What owners lose repeats no activity (see `kills`).

mod asked;
mod deadlines;
mod entrusted;
mod withdrawn;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::ledger;
use everpulse_integration_tests::party::{Failpoint, Party, Role, WAITS};

/// Where a run is played.
struct Stage {
    client: Client,
    ledger: PathBuf,
}

impl Stage {
    /// What the activities of a run noted, in its order.
    fn noted(&self, id: &str) -> Result<Vec<String>> {
        let all = ledger::read(&self.ledger)?.into_iter();
        Ok(all.filter(|entry| entry.workflow_id == id).map(|entry| entry.step).collect())
    }
}

fn party(arm: &Arm, role: Role, failpoint: Option<&Failpoint>) -> Result<Party> {
    Party::start_with(arm.url(), role, &arm.dir().join("ledger.jsonl"), failpoint, &[(WAITS, "1".to_owned())])
}

/// Plays runs on two processes; of each run so many times as are told the victim ends itself at the point. With no hit
/// nobody is killed, once.
async fn killed_at(
    point: &'static str,
    victim: Role,
    hits: u32,
    play: impl AsyncFn(&Stage, &str) -> Result<()>,
) -> Result<()> {
    let arm = Arm::new()?;
    // Holds the embedded broker, so that the victim is nothing but a worker.
    let client = Client::connect(arm.url()).await?;
    let stage = Stage { client, ledger: arm.dir().join("ledger.jsonl") };
    let other = if victim == Role::Workflows { Role::Activities } else { Role::Workflows };
    let _other = party(&arm, other, None)?;
    if hits == 0 {
        let mut worker = party(&arm, victim, None)?;
        play(&stage, "unharmed").await?;
        worker.leave()?;
    }
    for hit in 1..=hits {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut first = party(&arm, victim, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let killing = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            first.wait_killed()?;
            party(&arm, victim, None)
        };
        let (played, heir) = futures::join!(play(&stage, &id), killing);
        played.with_context(context)?;
        heir.with_context(context)?.leave().with_context(context)?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

/// Tests of one play, by name: where who is killed, and how often a run passes that place.
macro_rules! killed {
    ($play:ident: $($name:ident: $point:literal, $victim:ident, $hits:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> anyhow::Result<()> {
            crate::killed_at($point, everpulse_integration_tests::party::Role::$victim, $hits, $play).await
        }
    )*};
}
use killed;
