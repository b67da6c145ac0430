//! Queues on either arm: what is urgent is taken first, keys take turns, and workers that are killed meanwhile cost time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse::{WorkerHandle, activity as activity_context};
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::hurries;
use everpulse_protocol::priority::Priority;
use everpulse_protocol::topic;
use everpulse_transport::{Address, Options, Transport};

/// In which order activities began: the workflow id of each.
static BEGUN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Longer than it takes a broker to send the next one.
#[activity(queue = "line", timeout = "30s")]
async fn stands_in_line() {
    let id = activity_context::context().workflow_id().to_string();
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    tokio::time::sleep(Duration::from_millis(40)).await;
}

#[workflow(version = 1)]
async fn lines_up() -> Result<(), Failure<everpulse::Never>> {
    stands_in_line().await
}

#[workflow(version = 1)]
async fn lines_up_heavily(weight: f64) -> Result<(), Failure<everpulse::Never>> {
    stands_in_line().fairness_weight(weight).await
}

/// An application with an owner of runs, and nobody who does their activities.
struct Line {
    arm: Arm,
    owner: WorkerHandle,
    client: Client,
    transport: Transport,
}

impl Line {
    async fn new() -> Result<Self> {
        let arm = Arm::new()?;
        let owner = Worker::connect(arm.url()).await?.workflow(lines_up).workflow(lines_up_heavily).spawn().await?;
        let client = Client::connect(arm.url()).await?;
        let transport = Transport::connect(&arm.url().parse::<Address>()?, Options::default()).await?;
        Ok(Self { arm, owner, client, transport })
    }

    /// Waits until so many tasks are in a lane.
    async fn lined_up(&self, priority: Priority, tasks: u64) -> Result<()> {
        let topic = topic::activity(&priority.lane("line").to_string());
        eventually(&format!("{tasks} tasks in {topic}"), async || {
            let Ok(stats) = self.transport.stats(&topic).await else { return Ok(None) };
            Ok((stats["subscriptions"][topic::WORKERS]["msgBacklog"] == tasks).then_some(()))
        })
        .await
    }

    /// One at a time; enough wait here that the broker is never waited for.
    async fn serve(&self) -> Result<WorkerHandle> {
        BEGUN.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let worker = Worker::connect(self.arm.url()).await?.activity(stands_in_line).concurrency(1);
        Ok(worker.options(|options| options.prefetch = Some(8)).spawn().await?)
    }

    async fn end(self, worker: WorkerHandle) -> Result<()> {
        worker.stop().await;
        self.owner.stop().await;
        let report = everpulse_checker::check(&self.arm.checked(&[], None)?).await?;
        ensure!(report.is_clean(), "{report:#?}");
        Ok(())
    }
}

fn begun() -> Vec<String> {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn of_level(level: u8) -> Priority {
    Priority { level: Some(level), ..Priority::default() }
}

/// They look at the same order, so they take turns.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn queues_give_what_is_urgent_first_whenever_it_came() -> Result<()> {
    let _alone = ALONE.lock().await;
    let line = Line::new().await?;
    let mut runs = Vec::new();
    // The least urgent ones came first.
    for level in [5, 3, 1] {
        for n in 0..10 {
            runs.push(line.client.start(lines_up()).priority(level).id(format!("{level}-{n}")).enqueue().await?);
        }
        line.lined_up(of_level(level), 10).await?;
    }
    let worker = line.serve().await?;
    for run in &runs {
        run.result().await?;
    }
    let order = begun();
    ensure!(order.len() == 30, "{order:?}");
    // It has subscribed to all of them, and their first frames come to it in any order.
    let early = order.iter().take_while(|id| !id.starts_with('1')).count();
    let mut sorted = order[early..].to_vec();
    sorted.sort_by_key(|id| id.split('-').next().map(str::to_owned));
    ensure!(early <= 3 && order[early..] == sorted, "{order:?}");
    line.end(worker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_let_keys_take_turns_by_their_weights() -> Result<()> {
    let _alone = ALONE.lock().await;
    let line = Line::new().await?;
    let mut runs = Vec::new();
    // A long backlog of one, and a few of others behind it, one of which has no key.
    for (key, weight, tasks) in [(Some("large"), 1.0, 60), (None, 1.0, 30), (Some("heavy"), 3.0, 60)] {
        for n in 0..tasks {
            let id = format!("{}-{n}", key.unwrap_or("none"));
            let start = line.client.start(lines_up_heavily(weight)).id(id);
            let start = if let Some(key) = key { start.fairness_key(key) } else { start };
            runs.push(start.enqueue().await?);
        }
        line.lined_up(Priority { key: key.map(str::to_owned), ..Priority::default() }, tasks).await?;
    }
    let worker = line.serve().await?;
    for run in &runs {
        run.result().await?;
    }
    let first: Vec<String> = begun().into_iter().take(50).collect();
    let share = |key: &str| first.iter().filter(|id| id.starts_with(key)).count();
    let shares = [share("large"), share("none"), share("heavy")];
    // Ten turns, ten turns, thirty turns, and the few that a lane may be ahead by.
    let good = [(7..=13), (7..=13), (26..=34)];
    ensure!(shares.iter().zip(&good).all(|(share, good)| good.contains(share)), "{shares:?}: {first:?}");
    line.end(worker).await
}

/// A worker that serves before a lane is there finds it.
#[tokio::test(flavor = "multi_thread")]
async fn queues_are_served_in_lanes_that_come_later() -> Result<()> {
    let _alone = ALONE.lock().await;
    let line = Line::new().await?;
    let worker = line.serve().await?;
    for (level, key) in [(3, None), (1, None), (3, Some("acme")), (5, Some("globex"))] {
        let start = line.client.start(lines_up()).priority(level);
        let start = if let Some(key) = key { start.fairness_key(key) } else { start };
        start.await?.result().await.with_context(|| format!("{level} {key:?}"))?;
    }
    let refused = line.client.start(lines_up()).priority(6).enqueue().await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("6 is no priority")), "it was taken");
    line.end(worker).await
}

/// A worker of a role that ends itself at a point, once for each of some times that it passes there.
async fn killed_at(point: &'static str, victim: Role) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let other_role = if victim == Role::Workflows { Role::Activities } else { Role::Workflows };
    let _other = Party::start(arm.url(), other_role, &ledger, None)?;
    for hit in [1, 3, 5] {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim_party = Party::start(arm.url(), victim, &ledger, Some(&failpoint)).with_context(context)?;
        let run = client.start(hurries(7)).id(format!("{point}-{hit}")).priority(2).enqueue().await?;
        victim_party.wait_killed().with_context(context)?;
        let mut heir = Party::start(arm.url(), victim, &ledger, None)?;
        let done = run.result().await.with_context(context)?;
        ensure!(done == [7, 2, 2, 8, 9], "{}: {done:?}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean() && report.counts().open == 0, "{point}: {report:#?}");
    Ok(())
}

macro_rules! killed {
    ($($name:ident: $point:literal, $victim:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            killed_at($point, Role::$victim).await
        }
    )*};
}

killed! {
    queues_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent", Workflows;
    queues_bear_an_owner_killed_with_the_receipt: "append-receipt", Workflows;
    queues_bear_an_owner_killed_when_a_command_is_sent: "command-sent", Workflows;
    queues_bear_a_worker_killed_with_a_task: "task-received", Activities;
    queues_bear_a_worker_killed_after_the_work: "activity-done", Activities;
    queues_bear_a_worker_killed_with_the_settlement: "settle-confirmed", Activities;
}
