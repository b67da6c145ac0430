//! Sleep, recorded time, randomness.

use std::time::{Duration, SystemTime};

use everpulse::replay::Input;
use everpulse::{now, random, random_range, sleep, sleep_until, uuid, workflow};

use crate::harness::{run, value};

#[workflow]
async fn naps() -> u64 {
    sleep(Duration::from_millis(250)).await;
    sleep(Duration::ZERO).await;
    sleep(Duration::from_nanos(1)).await;
    sleep(Duration::MAX).await;
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn timers_are_due_from_the_recorded_time_on_and_even_none_is_a_timer() {
    let mut run = run(naps());
    assert_eq!(run.start(), ["0 timer 1250", "waiting"]);
    run.now = 1_300;
    assert_eq!(run.fired(0), ["1 timer 1300", "waiting"]);
    assert_eq!(run.fired(0), ["waiting"], "a timer fires once");
    assert_eq!(run.fired(1), ["2 timer 1301", "waiting"], "never early");
    assert_eq!(run.fired(2), [format!("3 timer {}", u64::MAX), "waiting".to_owned()]);
    run.now = 9_999;
    assert_eq!(value::<u64>(&run.turn(Input::TimerFired { step: 3 })), 9_999);
}

#[workflow]
async fn until_past(ms: u64) {
    sleep_until(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).await;
    sleep_until(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).await;
}

#[test]
fn a_time_that_has_passed_is_due_at_once() {
    let mut run = run(until_past(500));
    assert_eq!(run.start(), ["0 timer 500", "waiting"]);
    assert_eq!(run.fired(0), ["1 timer 0", "waiting"]);
    assert_eq!(run.fired(1), ["completed with 1 bytes"]);
}

#[workflow]
async fn dice() -> (u64, String, Vec<u8>, bool) {
    let number = random::<u64>();
    sleep(Duration::from_secs(1)).await;
    let id = uuid().to_string();
    (number, id, (0..5).map(|_| random_range(1..=6)).collect(), random())
}

#[test]
fn random_values_depend_on_the_run_alone() {
    let throw = || {
        let mut run = run(dice());
        run.start();
        run.now += 77;
        value::<(u64, String, Vec<u8>, bool)>(&run.turn(Input::TimerFired { step: 0 }))
    };
    let first = throw();
    assert_eq!(first, throw());
    // Old histories depend on these.
    assert_eq!(first.0, 16_282_861_141_363_966_259);
    assert_eq!(first.1, "b99fffea-e327-401f-9093-789439adaa22");
    assert_eq!(first.2, [1, 1, 3, 1, 1]);
}

#[test]
fn outside_a_workflow_each_function_says_what_to_do() {
    type Call = fn();
    let calls: [(Call, &str); 7] = [
        (|| drop(sleep(Duration::ZERO)), "`sleep` was called"),
        (|| drop(sleep_until(SystemTime::UNIX_EPOCH)), "`sleep_until` was called"),
        (|| assert!(now() > SystemTime::UNIX_EPOCH), "`now` was called"),
        (|| assert!(random::<bool>()), "`random` was called"),
        (|| assert!(uuid().is_nil()), "`uuid` was called"),
        (|| drop(everpulse::workflow::info()), "`workflow::info` was called"),
        (|| everpulse::publish(&1), "`publish` was called"),
    ];
    for (call, start) in calls {
        let panic = std::panic::catch_unwind(call).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        let expected = format!("{start} outside a workflow: it works only while a function with `#[workflow]` runs; ");
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.len() > expected.len(), "{message}");
    }
}
