//! Each pattern is played on an embedded broker, and does what its description says.

use anyhow::{Context as _, Result};
use everpulse::client::Run;
use everpulse::definition::WorkflowDefinition;
use everpulse::prelude::*;
use everpulse::worker::WorkerHandle;
use everpulse_patterns::cancelling::{Stop, cancel_case, cancel_region, cancel_task};
use everpulse_patterns::cycles::At;
use everpulse_patterns::instances::{Barrels, Enough};
use everpulse_patterns::joins::Arrival;
use everpulse_patterns::state::{AgentFree, Withdrawn};
use everpulse_patterns::triggers::{Alarm, Armed, Ready, persistent_trigger, transient_trigger};
use everpulse_patterns::{basic, branching, cycles, instances, joins, serve, state};
use tempfile::TempDir;

struct Desk {
    client: Client,
    worker: WorkerHandle,
    _dir: TempDir,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Desk {
    async fn open() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let url = format!("embedded:{}?mode=relaxed&shards=2&inbox_partitions=1", dir.path().display());
        let worker = serve(Worker::connect(&url).await?).spawn().await?;
        Ok(Self { client: Client::connect(&url).await?, worker, _dir: dir })
    }

    async fn start<D: WorkflowDefinition>(&self, call: everpulse::Call<D>) -> Result<Run<D>> {
        Ok(self.client.start(call).await?)
    }

    async fn play<D: WorkflowDefinition<Error = Failure<everpulse::Never>>>(
        &self,
        call: everpulse::Call<D>,
    ) -> Result<D::Output> {
        Ok(self.start(call).await?.result_timeout(PATIENCE).await?)
    }

    async fn close(self) {
        drop(self.client);
        self.worker.stop().await;
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Waits until a run has published that it is ready.
async fn ready<D: WorkflowDefinition>(run: &Run<D>) -> Result<()> {
    let ready = async {
        while run.published::<Ready>().await?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, ready).await.context("the run is ready")?
}

#[tokio::test]
async fn basic_control_flow() -> Result<()> {
    let desk = Desk::open().await?;
    assert_eq!(desk.play(basic::sequence()).await?, words(&["pick", "pack", "ship"]));
    assert_eq!(desk.play(basic::parallel_split()).await?, ("send the bill".into(), "ship".into()));
    assert_eq!(desk.play(basic::synchronization()).await?, words(&["bill", "goods", "close"]));
    assert_eq!(desk.play(basic::exclusive_choice(7)).await?, "accept");
    assert_eq!(desk.play(basic::exclusive_choice(700_000)).await?, "ask the manager");
    assert_eq!(desk.play(basic::simple_merge(true)).await?, words(&["card", "receipt"]));
    assert_eq!(desk.play(basic::simple_merge(false)).await?, words(&["cash", "receipt"]));
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn branches_and_how_they_come_together() -> Result<()> {
    let desk = Desk::open().await?;
    assert_eq!(desk.play(branching::multi_choice(true, false, true)).await?, words(&["fire brigade", "police"]));
    assert_eq!(desk.play(branching::multi_choice(false, false, false)).await?, words(&[]));
    let merged = desk.play(branching::structured_synchronizing_merge(words(&["fire brigade", "police"]))).await?;
    assert_eq!(merged, words(&["fire brigade", "police", "report"]));
    assert_eq!(desk.play(branching::multi_merge(words(&["a", "b"]))).await?, words(&["a archived", "b archived"]));
    assert_eq!(desk.play(branching::local_synchronizing_merge(true)).await?, words(&["label", "pack", "ship"]));
    let whole = words(&["label", "pack", "insure", "ship"]);
    assert_eq!(desk.play(branching::local_synchronizing_merge(false)).await?, whole);
    assert_eq!(desk.play(branching::thread_merge(4)).await?, "4 washed");
    assert_eq!(desk.play(branching::thread_split(2)).await?, words(&["print copy 1", "print copy 2"]));
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn joins_that_do_not_wait_for_all() -> Result<()> {
    let desk = Desk::open().await?;
    assert_eq!(desk.play(joins::structured_discriminator()).await?, ("triage".into(), 1));
    assert_eq!(desk.play(joins::cancelling_discriminator()).await?, "use the quick source");
    assert_eq!(desk.play(joins::structured_partial_join(2, words(&["a", "b", "c", "d"]))).await?, (2, 2));
    let bids = joins::cancelling_partial_join(2, words(&["a", "b"]), words(&["never"]));
    assert_eq!(desk.play(bids).await?, 2);
    let arrival = |way, what: &str| Arrival { way, what: what.to_owned() };
    // By the first way twice before the second: the second time counts for the next round.
    let run = desk.start(joins::blocking_discriminator(2)).await?;
    for (way, what) in [(1, "a1"), (1, "a2"), (2, "b1"), (3, "c1"), (3, "c2"), (2, "b2")] {
        run.signal(arrival(way, what)).await?;
    }
    assert_eq!(run.result_timeout(PATIENCE).await?, words(&["a1", "a2"]));
    let run = desk.start(joins::blocking_partial_join(2, 2)).await?;
    for (way, what) in [(1, "a1"), (1, "a2"), (2, "b1"), (3, "c1"), (3, "c2"), (2, "b2")] {
        run.signal(arrival(way, what)).await?;
    }
    assert_eq!(run.result_timeout(PATIENCE).await?, words(&["a1 and b1", "a2 and c2"]));
    let run = desk.start(joins::generalised_and_join(2)).await?;
    for (way, what) in [(1, "bolt 1"), (1, "bolt 2"), (2, "nut 1"), (2, "nut 2")] {
        run.signal(arrival(way, what)).await?;
    }
    assert_eq!(run.result_timeout(PATIENCE).await?, words(&["bolt 1 with nut 1", "bolt 2 with nut 2"]));
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn many_instances_of_one_task() -> Result<()> {
    let desk = Desk::open().await?;
    assert_eq!(desk.play(instances::without_synchronization(3)).await?, "close the day");
    let signed = desk.play(instances::known_when_written()).await?;
    assert_eq!(signed, ("Ann signs".into(), "Bob signs".into(), "Cleo signs".into()));
    assert_eq!(desk.play(instances::known_when_begun(words(&["x", "y"]))).await?, words(&["x", "y"]));
    let run = desk.start(instances::never_known()).await?;
    for barrel in ["b", "a", "c"] {
        run.signal(Barrels::More(barrel.to_owned())).await?;
    }
    run.signal(Barrels::NoMore).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, words(&["a", "b", "c"]));
    let run = desk.start(instances::cancelled(words(&["north", "south"]))).await?;
    run.signal(Enough {}).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, "call it off");
    let run = desk.start(instances::completed_early(words(&["a", "b"]), words(&["never"]))).await?;
    run.signal(Enough {}).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, words(&["a", "b", "report"]));
    assert_eq!(desk.play(instances::static_partial_join(3, 8)).await?, (3, 5));
    assert_eq!(desk.play(instances::cancelling_partial_join(2, 5)).await?, 3);
    let run = desk.start(instances::dynamic_partial_join(11)).await?;
    for barrel in ["oil", "tar", "water"] {
        run.signal(Barrels::More(barrel.to_owned())).await?;
    }
    assert_eq!(run.result_timeout(PATIENCE).await?, 11);
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn what_depends_on_the_state() -> Result<()> {
    let desk = Desk::open().await?;
    let long = 3_600_000;
    let run = desk.start(state::deferred_choice(long)).await?;
    run.signal(AgentFree { agent: "Ann".to_owned() }).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, "talk to Ann");
    let run = desk.start(state::deferred_choice(long)).await?;
    run.signal(Withdrawn {}).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, "file it");
    assert_eq!(desk.play(state::deferred_choice(1)).await?, "escalate");
    let order = desk.play(state::interleaved_parallel_routing()).await?;
    let at = |task: &str| order.iter().position(|done| done == task);
    assert_eq!(order.len(), 3);
    assert!(at("check the device") < at("calibrate the device"), "{order:?}");
    let run = desk.start(state::milestone(1_500)).await?;
    run.signal(AgentFree { agent: "Bob".to_owned() }).await?;
    let boarded = run.result_timeout(PATIENCE).await?;
    assert_eq!(boarded, words(&["issue the ticket", "rebook with Bob", "board"]));
    let sections = words(&["first reads", "first writes", "second reads", "second writes"]);
    assert_eq!(desk.play(state::critical_section()).await?, sections);
    let checks = words(&["blood", "eyes", "ears"]);
    assert_eq!(desk.play(state::interleaved_routing(checks.clone())).await?, checks);
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn what_is_wanted_no_more() -> Result<()> {
    let desk = Desk::open().await?;
    let run = desk.start(cancel_task()).await?;
    run.signal(Stop {}).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, "go on without an inspection");
    let run = desk.start(cancel_case()).await?;
    run.cancel("the applicant moved away").await?;
    let failure = run.result_timeout(PATIENCE).await.expect_err("it was cancelled");
    assert!(failure.to_string().contains("cancel"), "{failure}");
    let run = desk.start(cancel_region()).await?;
    run.signal(Stop {}).await?;
    assert_eq!(run.result_timeout(PATIENCE).await?, words(&["no evidence", "index the case"]));
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn again_and_at_an_end() -> Result<()> {
    let desk = Desk::open().await?;
    let smooth = words(&["Draft", "Review", "Sign"]);
    assert_eq!(desk.play(cycles::arbitrary_cycles(At::Draft, 0)).await?, smooth);
    let entered_late = desk.play(cycles::arbitrary_cycles(At::Review, 4)).await?;
    assert_eq!(entered_late, words(&["Review", "Draft", "Review", "Draft", "Review", "Sign"]));
    assert_eq!(desk.play(cycles::structured_loop(3)).await?, 3);
    assert_eq!(desk.play(cycles::recursion(35)).await?, 4);
    assert_eq!(desk.play(cycles::implicit_termination()).await?, ("sweep".into(), "dry".into()));
    assert_eq!(desk.play(cycles::explicit_termination()).await?, "catch the thief");
    desk.close().await;
    Ok(())
}

#[tokio::test]
async fn what_comes_early_is_lost_or_kept() -> Result<()> {
    let desk = Desk::open().await?;
    let lost = desk.start(transient_trigger()).await?;
    lost.signal(Alarm { room: 1 }).await?;
    lost.signal(Armed {}).await?;
    ready(&lost).await?;
    lost.signal(Alarm { room: 2 }).await?;
    assert_eq!(lost.result_timeout(PATIENCE).await?, "go to room 2");
    let kept = desk.start(persistent_trigger()).await?;
    kept.signal(Alarm { room: 1 }).await?;
    kept.signal(Armed {}).await?;
    assert_eq!(kept.result_timeout(PATIENCE).await?, "go to room 1");
    desk.close().await;
    Ok(())
}

#[test]
fn the_table_names_each_pattern_once() {
    let table = include_str!("../src/lib.rs");
    for number in 1..=43 {
        assert_eq!(table.matches(&format!("//! | {number} | ")).count(), 1, "pattern {number}");
    }
    let workflows = table.matches("| [`").count();
    assert_eq!(workflows, 42);
}
