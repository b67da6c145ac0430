//! Owners that fail between any two of their effects. Whatever happens, the runs come to the same end.

mod world;

use everpulse_protocol::event::{Outcome, Report};
use everpulse_protocol::{Failure, FailureKind};
use world::play::{How, Play, Scenario};
use world::workflows::MENDED;
use world::{done, payload};

fn no() -> Failure {
    Failure::new(FailureKind::Failed, "not signed")
}

fn beat() -> Report {
    Report::Beat { details: Some(payload(&"on its way")) }
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "two activities one after the other",
        eager: false,
        acts: &[|play| play.start("a", "twice", 3)],
        results: || vec![("a", done(&12u64))],
    },
    Scenario {
        name: "two runs in one frame",
        eager: false,
        acts: &[|play| {
            let first = play.world.start("a", "twice", world::workflows::number(3));
            let second = play.world.start("b", "steps", world::workflows::number(2));
            play.say(vec![first, second]);
        }],
        results: || vec![("a", done(&12u64)), ("b", done(&1u64))],
    },
    Scenario {
        name: "local steps",
        eager: false,
        acts: &[|play| play.start("a", "steps", 3)],
        results: || vec![("a", done(&3u64))],
    },
    Scenario {
        name: "sleep",
        eager: false,
        acts: &[|play| play.start("a", "naps", 5_000)],
        results: || vec![("a", done(&5_000u64))],
    },
    Scenario {
        name: "a step behind a timer",
        eager: false,
        acts: &[|play| play.start("a", "rests", 5_000)],
        results: || vec![("a", done(&5_000u64))],
    },
    Scenario {
        name: "a step behind a timer, beside an activity",
        eager: true,
        acts: &[|play| play.start("a", "rests_beside", 500)],
        results: || vec![("a", done(&1_500u64))],
    },
    Scenario {
        name: "signals, one before the start",
        eager: false,
        acts: &[
            |play| {
                play.signal("a", "x");
                play.start("a", "listens", 3);
            },
            |play| play.signal("a", "y"),
            |play| play.signal("a", "z"),
        ],
        results: || vec![("a", done(&"xyz"))],
    },
    Scenario {
        name: "signals that come with starts",
        eager: false,
        acts: &[
            |play| {
                let event = play.world.start_with("a", "x");
                play.say(vec![event]);
            },
            |play| {
                let events = ["b", "a"].map(|id| play.world.start_with(id, "y"));
                play.say(events.into());
            },
            |play| play.signal("b", "z"),
        ],
        results: || vec![("a", done(&"xy")), ("b", done(&"yz"))],
    },
    Scenario {
        name: "updates, which whoever has no answer requests again",
        eager: false,
        acts: &[
            |play| {
                let args = payload(&std::collections::BTreeMap::from([("n", 2_u64), ("sum", 0)]));
                let start = play.world.start("a", "answers_one", args);
                play.say(vec![start]);
            },
            |play| [1, 10, 0].into_iter().for_each(|n| play.put("a", n)),
            |play| [1, 10, 0].into_iter().for_each(|n| play.put("a", n)),
            |play| [10, 1, 0].into_iter().for_each(|n| play.put("a", n)),
        ],
        results: || vec![("a", done(&11u64))],
    },
    Scenario {
        name: "branches that lose",
        eager: false,
        acts: &[|play| play.start("a", "chooses", 3)],
        results: || vec![("a", done(&8u64))],
    },
    Scenario {
        name: "a fan-out of ten",
        eager: false,
        acts: &[|play| play.start("a", "fans_out", 10)],
        results: || vec![("a", done(&90u64))],
    },
    Scenario {
        name: "eager activities",
        eager: true,
        acts: &[|play| play.start("a", "twice", 3), |play| play.start("b", "fans_out", 3)],
        results: || vec![("a", done(&12u64)), ("b", done(&6u64))],
    },
    Scenario {
        name: "parked, mended and resumed",
        eager: false,
        acts: &[
            |play| play.start("a", "fussy", 3),
            |play| play.signal("a", "spinach"),
            |play| play.signal("a", "cake"),
            |_| MENDED.set(true),
            |play| play.resume("a"),
        ],
        results: || vec![("a", done(&14u64))],
    },
    Scenario {
        name: "promises, completed early and late, twice and in vain",
        eager: false,
        acts: &[
            |play| play.start("a", "trusts", 1),
            |play| play.complete("a", 1, 100),
            |play| play.complete("a", 1, 200),
            |play| play.world.now = play.world.now.after(std::time::Duration::from_secs(6)),
            |play| play.complete("a", 2, 300),
            |play| play.complete("a", 0, 10),
        ],
        results: || vec![("a", done(&121u64))],
    },
    Scenario {
        name: "an attempt that is completed from outside, twice",
        eager: false,
        acts: &[
            |play| play.start("a", "waits_for_signature", 3),
            |play| play.report("a", 1, beat()),
            |play| play.report("a", 1, Report::Done(payload(&100u64))),
            |play| play.report("a", 1, Report::Done(payload(&200u64))),
        ],
        results: || vec![("a", done(&106u64))],
    },
    Scenario {
        name: "an attempt that fails from outside, and one that is too late",
        eager: false,
        acts: &[
            |play| play.start("a", "waits_for_signature", 3),
            // Whoever took over sends the task after a second look: there is no second attempt before a first.
            |play| play.world.now = play.world.now.after(std::time::Duration::from_secs(2)),
            |play| play.report("a", 1, Report::Failed { failure: no(), retryable: true }),
            // And gives it back after a second look.
            |play| play.world.now = play.world.now.after(std::time::Duration::from_secs(2)),
            |play| play.report("a", 1, Report::Done(payload(&1u64))),
            |play| play.world.now = play.world.now.after(std::time::Duration::from_secs(61)),
            |play| play.report("a", 2, Report::Done(payload(&2u64))),
            |play| play.report("a", 3, Report::Done(payload(&100u64))),
        ],
        results: || vec![("a", done(&106u64))],
    },
    Scenario {
        name: "an activity that takes too long, and one that does not",
        eager: false,
        acts: &[
            |play| play.start("a", "hurries", 3),
            |play| play.world.now = play.world.now.after(std::time::Duration::from_secs(11)),
        ],
        results: || vec![("a", done(&6u64))],
    },
    Scenario {
        name: "all kinds of waits",
        eager: false,
        acts: &[|play| play.start("a", "mixed", 3), |play| play.signal("a", "word")],
        results: || vec![("a", done(&26u64))],
    },
];

fn play(scenario: &Scenario, failures: &[(usize, How)]) -> Play {
    let outcome = std::panic::catch_unwind(|| {
        let mut play = Play::new(scenario.eager);
        play.run(scenario.acts, failures);
        let repeats = play.check((scenario.results)());
        let dead = failures.iter().filter(|(_, how)| *how != How::Stopped).count();
        if dead == failures.len() {
            assert_eq!(repeats.tasks, 0, "a task that is in its queue is found there");
        }
        assert!(repeats.local <= failures.len() * 8, "{repeats:?}");
        play
    });
    outcome.unwrap_or_else(|_| panic!("scenario {:?} with {failures:?}", scenario.name))
}

#[test]
fn without_failures_nothing_happens_twice() {
    for scenario in SCENARIOS {
        let played = play(scenario, &[]);
        let repeats = played.check((scenario.results)());
        assert_eq!((repeats.tasks, repeats.local), (0, 0), "{}", scenario.name);
        assert_eq!(played.world.chain().1, 0, "{}: no frame is void", scenario.name);
    }
}

#[test]
fn an_owner_may_fail_between_any_two_effects() {
    let mut points = 0;
    for scenario in SCENARIOS {
        let effects = play(scenario, &[]).effects;
        for at in 0..effects {
            for how in [How::Before, How::After, How::Stopped] {
                play(scenario, &[(at, how)]);
                points += 1;
            }
        }
    }
    println!("{points} single failures");
    assert!(points > 500, "{points}");
}

#[test]
fn its_successor_may_fail_too() {
    let mut points = 0;
    for scenario in SCENARIOS {
        let effects = play(scenario, &[]).effects;
        for at in 0..effects {
            for (how, then) in [
                (How::Before, How::After),
                (How::After, How::Before),
                (How::After, How::After),
                (How::Stopped, How::After),
                (How::After, How::Stopped),
                (How::Stopped, How::Stopped),
            ] {
                for later in [1, 4] {
                    play(scenario, &[(at, how), (at + later, then)]);
                    points += 1;
                }
            }
        }
    }
    println!("{points} double failures");
    assert!(points > 2_500, "{points}");
}

#[test]
fn the_results_are_what_they_seem() {
    assert!(SCENARIOS.iter().flat_map(|scenario| (scenario.results)()).all(|(_, end)| matches!(end, Outcome::Done(_))));
}
