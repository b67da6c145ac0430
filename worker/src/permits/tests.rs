//! Two workers' parts in the permits of one queue, at a real broker.

use std::time::Instant;

use futures::FutureExt as _;

use super::*;
use crate::trial::{LONG, Trial};

fn open(trial: &Trial, rule: Rule) -> Permits {
    Permits::open(trial.transport.clone(), "trial", rule)
}

async fn had(permits: &Permits) -> Permit {
    timeout(LONG, permits.one()).await.expect("a permit")
}

#[test]
fn what_is_no_limit_is_refused_and_what_is_one_has_whole_milliseconds() {
    let refused = |rule: Rule| rule.refused().is_some();
    assert!(refused(Rule::Concurrency(0)) && refused(Rule::Concurrency(1_000_001)));
    assert!([0.0, -1.0, f64::NAN, f64::INFINITY, 1e-4, 10_001.0].map(Rule::Rate).into_iter().all(refused));
    assert!(![1, 1_000_000].map(Rule::Concurrency).into_iter().any(refused));
    assert!(![1.0 / 3_600.0, 0.5, 10_000.0].map(Rule::Rate).into_iter().any(refused));
    let terms = |rate| (Rule::Rate(rate).terms().limit, Rule::Rate(rate).terms().rest_ms);
    assert_eq!(terms(50.0), (50, 1_000));
    assert_eq!(terms(0.5), (1, 2_000));
    assert_eq!(terms(1.5), (1, 667), "never more than was said");
    assert_eq!(Rule::Concurrency(3).terms(), Terms { limit: 3, rest_ms: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_goes_to_whoever_waits_for_it() {
    for trial in Trial::all().await {
        let (one, other) = (open(&trial, Rule::Concurrency(1)), open(&trial, Rule::Concurrency(1)));
        let held = had(&one).await;
        let mut waiting = Box::pin(other.one());
        assert!(timeout(Duration::from_millis(500), &mut waiting).await.is_err(), "there is one");
        drop(held);
        let held = timeout(LONG, waiting).await.expect("it is free");
        // Whoever waits no more has none.
        let unwanted = one.one().now_or_never();
        assert!(unwanted.is_none());
        drop(held);
        drop(had(&other).await);
        drop(had(&one).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_gives_back_what_it_does_not_use() {
    for trial in Trial::all().await {
        let (one, other) = (open(&trial, Rule::Concurrency(2)), open(&trial, Rule::Concurrency(2)));
        one.ahead(2);
        let used = had(&one).await;
        drop(had(&one).await);
        one.leave().await;
        // What is in use is given to nobody until the one that left has been silent for long.
        let first = had(&other).await;
        assert!(timeout(Duration::from_millis(500), other.one()).await.is_err(), "one is in use elsewhere");
        let second = had(&other).await;
        drop((used, first, second));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permits_of_a_rate_rest_wherever_their_attempts_began() {
    for trial in Trial::all().await {
        let (one, other) = (open(&trial, Rule::Rate(2.0)), open(&trial, Rule::Rate(2.0)));
        // Those that no attempt began with are given back at once.
        for _ in 0..20 {
            drop(had(&one).await);
        }
        let began = Instant::now();
        for permits in [&one, &other, &one, &other, &one] {
            had(permits).await.begin();
        }
        assert!(
            began.elapsed() >= Duration::from_millis(1_900),
            "two at once, and two in each second: {:?}",
            began.elapsed()
        );
        one.leave().await;
        drop(had(&other).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_another_one_made_is_not_taken_for_new_though_it_is_empty() {
    for trial in Trial::all().await {
        let topic = topic::permits("trial", "concurrency");
        for is_new in [true, false] {
            assert_eq!(trial.transport.set_up_permits(&topic).await.expect("made"), is_new);
        }
        let one = open(&trial, Rule::Concurrency(1));
        assert!(timeout(Duration::from_secs(4), one.one()).await.is_err(), "somebody may be there");
        drop(had(&one).await);
    }
}
