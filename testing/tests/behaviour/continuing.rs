//! Runs that go on as other ones, in the environment of a test.

use std::time::Duration;

use everpulse_sdk as everpulse;
use everpulse_sdk::{Error, activity, continue_as_new, info, select, signal, sleep, workflow};
use everpulse_testing::{Environment, RunStatus, explore};
use serde::{Deserialize, Serialize};

const MONTH: Duration = Duration::from_secs(30 * 86_400);

#[everpulse::signal(crate = everpulse)]
#[derive(Serialize, Deserialize)]
struct Cancelled;

#[everpulse::signal(crate = everpulse)]
#[derive(Serialize, Deserialize)]
struct Tip {
    cents: u64,
}

#[activity(crate = everpulse)]
async fn charge(_month: u64, cents: u64) -> Result<u64, Error> {
    Ok(cents)
}

/// Bills once in each run, with what was given on top, and ends with the sum.
#[workflow(version = 1, crate = everpulse)]
async fn subscription(month: u64, paid: u64) -> Result<u64, Error> {
    let tip = select! {
        _ = signal::<Cancelled>().recv() => return Ok(paid),
        tip = signal::<Tip>().recv() => tip.cents,
        () = sleep(MONTH) => 0,
    };
    let paid = paid + charge(month, 100 + tip).await?;
    continue_as_new(subscription(month + 1, paid)).await
}

#[workflow(version = 1, crate = everpulse)]
async fn household() -> Result<u64, Error> {
    let mut child = subscription(0, 0).id("paper").start().await?;
    select! {
        paid = &mut child => return Ok(paid?),
        () = sleep(MONTH * 3 + MONTH / 2) => child.signal(Cancelled).await?,
    }
    Ok(child.await?)
}

/// Goes on when it is told that it should.
#[workflow(version = 1, crate = everpulse)]
async fn beats(n: u64) -> u64 {
    for _ in 0.. {
        if info().continue_as_new_suggested {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    if n == 0 { info().history_events } else { continue_as_new(beats(n - 1)).await }
}

fn all(env: Environment) -> Environment {
    env.workflow(subscription).workflow(household).workflow(beats).activity(charge)
}

#[test]
fn a_series_is_one_run_to_its_test() {
    let env = all(Environment::new());
    let run = env.start(subscription(0, 0)).id("paper");
    env.advance(MONTH * 2 + MONTH / 2);
    run.signal(Tip { cents: 7 });
    env.advance(MONTH);
    assert_eq!((run.status(), run.series().len()), (RunStatus::Open, 5));
    run.signal(Cancelled);
    assert_eq!(run.result().unwrap(), 407);
    let first = &run.series()[0];
    assert!(first.to_string().contains("continue as new 2 `subscription`"), "{first}");
    let last = run.history();
    assert!(last.to_string().contains("as number 4"), "{last}");
    assert_eq!(env.run(subscription, "paper").result().unwrap(), 407);
}

#[test]
fn a_series_comes_to_the_same_end_under_all_faults() {
    explore(100, |env| {
        let env = all(env);
        let run = env.start(subscription(0, 0));
        // More than one run can receive before the next one begins.
        for cents in [1, 2, 3, 4] {
            run.signal(Tip { cents });
        }
        env.advance(MONTH / 2);
        run.signal(Cancelled);
        assert_eq!(run.result().unwrap(), 410);
        assert_eq!(run.series().len(), 5);
    });
    explore(60, |env| {
        let env = all(env);
        assert_eq!(env.start(household()).result().unwrap(), 300);
    });
}

#[test]
fn a_run_goes_on_when_its_history_is_long() {
    let env = all(Environment::new());
    let run = env.start(beats(1));
    assert_eq!(run.result().unwrap(), 4_096);
    assert_eq!(run.series().len(), 2);
}
