//! Children in the environment of a test: run for real, in other shards, or mocked.

use std::time::Duration;

use everpulse_sdk as everpulse;
use everpulse_sdk::{Error, Failure, ParentClose, external, join_all, select, signal, sleep, workflow};
use everpulse_testing::{Environment, RunStatus, Wait, explore};
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3_600);

#[everpulse::signal(crate = everpulse)]
#[derive(Serialize, Deserialize)]
struct Push {
    by: u64,
}

#[workflow(version = 1, crate = everpulse)]
async fn part(n: u64) -> Result<u64, Error> {
    sleep(Duration::from_secs(n)).await;
    if n == 13 { Err(Error::msg("bad luck")) } else { Ok(n * 2) }
}

#[workflow(version = 1, crate = everpulse)]
async fn whole(n: u64) -> Result<u64, Error> {
    let parts = join_all((0..n).map(part)).await;
    parts.into_iter().map(|part| Ok(part?)).sum()
}

#[workflow(version = 1, crate = everpulse)]
async fn pushed() -> u64 {
    signal::<Push>().recv().await.by
}

#[workflow(version = 1, crate = everpulse)]
async fn pushes() -> Result<u64, Error> {
    let mut child = pushed().id("pushed").start().await?;
    select! {
        early = &mut child => return Ok(early?),
        () = sleep(HOUR) => child.signal(Push { by: 7 }).await?,
    }
    Ok(child.await?)
}

#[workflow(version = 1, crate = everpulse)]
async fn loses_patience() -> String {
    let child = pushed().id("pushed").start().await;
    let Ok(child) = child else { return "not begun".to_owned() };
    sleep(HOUR).await;
    child.cancel().await.expect("it is open");
    match child.await {
        Err(Failure::Cancelled) => "cancelled".to_owned(),
        _ => "something else".to_owned(),
    }
}

#[workflow(version = 1, crate = everpulse)]
async fn puts_down() -> String {
    let told = external("pushed").terminate("enough").await;
    let again = external("pushed").terminate("enough").await;
    format!("{} {}", told.is_ok(), matches!(again, Err(Failure::NotFound { .. })))
}

#[workflow(version = 1, crate = everpulse)]
async fn leaves(how: ParentClose) -> u64 {
    let child = pushed().id("pushed").parent_close(how).start().await;
    sleep(HOUR).await;
    u64::from(child.is_ok())
}

#[workflow(version = 1, crate = everpulse)]
async fn meddles() -> String {
    let told = external("pushed").signal(Push { by: 3 }).await;
    let taken = pushed().id("pushed").await;
    format!("{} {}", told.is_ok(), matches!(taken, Err(Failure::Taken { .. })))
}

fn all(env: Environment) -> Environment {
    let env = env.workflow(part).workflow(whole).workflow(pushed).workflow(pushes);
    env.workflow(loses_patience).workflow(leaves).workflow(meddles).workflow(puts_down)
}

#[test]
fn a_run_is_ended_by_another_one_and_only_once() {
    let env = all(Environment::new());
    let pushed = env.start(pushed()).id("pushed");
    env.settle();
    let ends = env.start(puts_down());
    assert_eq!(ends.result().unwrap(), "true true");
    assert_eq!(pushed.status(), RunStatus::Terminated);
    assert_eq!(ends.commands()[0].to_string(), "termination 0 of another run");
}

#[test]
fn children_run_for_real_beside_each_other() {
    let env = all(Environment::new());
    assert_eq!(env.start(whole(5)).result().unwrap(), 20);
    assert_eq!(env.now(), Duration::from_secs(4), "at the same time");
    let failed = env.start(whole(14)).result();
    assert!(failed.unwrap_err().to_string().contains("bad luck"));
}

#[test]
fn a_parent_waits_for_its_child_by_name() {
    let env = all(Environment::new());
    let parent = env.start(pushes());
    assert!(parent.is_waiting_for(Wait::child(pushed)));
    assert_eq!(parent.result().unwrap(), 7);
    assert_eq!(env.now(), HOUR);
    assert_eq!(env.run(pushed, "pushed").result().unwrap(), 7);
}

#[test]
fn a_child_can_be_mocked() {
    let env =
        all(Environment::new()).mock_child(part, |n: u64| if n > 3 { Err(Error::msg("too many")) } else { Ok(n) });
    assert_eq!(env.start(whole(4)).result().unwrap(), 6);
    assert!(env.start(whole(5)).result().unwrap_err().to_string().contains("too many"));
    assert_eq!(env.now(), Duration::ZERO);
    let env = all(Environment::new()).mock_child(pushed, || Ok(9));
    assert_eq!(env.start(pushes()).result().unwrap(), 9);
}

#[test]
fn what_becomes_of_a_child_is_agreed_beforehand() {
    let ends = [
        (ParentClose::Terminate, RunStatus::Terminated),
        (ParentClose::RequestCancel, RunStatus::Cancelled),
        (ParentClose::Abandon, RunStatus::Open),
    ];
    for (how, end) in ends {
        explore(40, move |env| {
            let env = all(env);
            assert_eq!(env.start(leaves(how)).result().unwrap(), 1);
            env.advance(Duration::from_secs(600));
            assert_eq!(env.run(pushed, "pushed").status(), end);
        });
    }
}

#[test]
fn families_come_to_the_same_end_under_all_faults() {
    explore(120, |env| {
        let env = all(env);
        assert_eq!(env.start(whole(6)).result().unwrap(), 30);
    });
    explore(120, |env| {
        let env = all(env);
        assert_eq!(env.start(pushes()).result().unwrap(), 7);
    });
    explore(120, |env| {
        let env = all(env);
        assert_eq!(env.start(loses_patience()).result().unwrap(), "cancelled");
        assert_eq!(env.run(pushed, "pushed").status(), RunStatus::Cancelled);
    });
    explore(120, |env| {
        let env = all(env);
        let run = env.start(pushed()).id("pushed");
        assert!(run.is_waiting_for(Wait::signal::<Push>()));
        assert_eq!(env.start(meddles()).result().unwrap(), "true true");
        assert_eq!(run.result().unwrap(), 3);
    });
}
