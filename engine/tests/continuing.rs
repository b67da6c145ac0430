//! Runs that go on as other ones, with owners that fail between any two of their effects. Whatever happens, each has one
//! successor, what it was sent and did not receive goes along in its order, and whoever waits hears of the last one.

mod world;

use everpulse_protocol::Payload;
use everpulse_protocol::event::EventBody;
use serde::Serialize;
use world::across::Across;
use world::payload;
use world::play::How;
use world::workflows::{Put, registry};

struct Scenario {
    name: &'static str,
    acts: &'static [fn(&mut Across)],
    /// How runs end, by their ids: all of an id, in the order of history.
    ends: &'static [(&'static str, &'static str)],
    /// How the last run of an id ends, where the number of those before hangs on what arrives first.
    last: &'static [(&'static str, &'static str)],
}

#[derive(Serialize)]
struct PassesOn {
    n: u64,
    said: &'static str,
}

#[derive(Serialize)]
struct AnswersOne {
    n: u64,
    sum: u64,
}

/// Clients ask for all of them.
fn put_all(across: &mut Across) {
    for n in [1, 10, 100] {
        let (id, name, args) = (format!("put-{n}"), "Put".to_owned(), payload(&Put { n }));
        across.ask("series", &EventBody::Update { id, name, args, patient: true, headers: None });
    }
}

fn passes_on(n: u64) -> Payload {
    payload(&PassesOn { n, said: "" })
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "words that are received by one run after the other",
        acts: &[
            |across| across.start_with("series", "passes_on", passes_on(4)),
            // All of them come before the first run is over.
            |across| ["a", "b", "c"].iter().for_each(|text| across.signal("series", text)),
            |across| across.signal("series", "d"),
        ],
        ends: &[("series", "continuedasnew, continuedasnew, continuedasnew, abcd")],
        last: &[],
    },
    Scenario {
        name: "updates that are taken by one run and answered by the next ones",
        acts: &[
            |across| across.start_with("series", "answers_one", payload(&AnswersOne { n: 3, sum: 0 })),
            // Whoever has no answer asks again under the same id.
            |across| put_all(across),
            |across| put_all(across),
            |across| put_all(across),
        ],
        ends: &[("series", "continuedasnew, continuedasnew, 111")],
        last: &[],
    },
    Scenario {
        name: "runs that go on at once, and by the clock",
        acts: &[|across| across.start("series", "counts_down", 4)],
        ends: &[("series", "continuedasnew, continuedasnew, continuedasnew, continuedasnew, 4")],
        last: &[],
    },
    Scenario {
        name: "a parent hears of the last one",
        acts: &[|across| across.start("parent", "begets_many", 3)],
        ends: &[("parent", "012"), ("series", "continuedasnew, continuedasnew, 012")],
        last: &[],
    },
    Scenario {
        name: "children that go on are known by the first one",
        acts: &[|across| across.start("parent", "stops", 1_500)],
        ends: &[("parent", "(true, true) true Some(4)")],
        last: &[("asked", "cancelled"), ("told", "4"), ("left", "terminated")],
    },
    Scenario {
        name: "what a run leaves when it goes on",
        acts: &[|across| across.start("parent", "moves", 3)],
        ends: &[("parent", "continuedasnew, 7"), ("moved-asked", "cancelled"), ("moved-ended", "terminated")],
        last: &[],
    },
    Scenario {
        name: "a series that is asked to cancel, and one that is ended",
        acts: &[
            |across| across.start("circle", "circles", 0),
            |across| across.start("other", "circles", 0),
            |across| across.ask("circle", &EventBody::Cancel { reason: String::new() }),
            |across| across.ask("other", &EventBody::Terminate { reason: String::new() }),
        ],
        ends: &[],
        last: &[("circle", "cancelled"), ("other", "terminated")],
    },
];

fn play(scenario: &Scenario, shards: u32, failures: &[(usize, How)], worse: bool) -> Across {
    let outcome = std::panic::catch_unwind(|| {
        let mut across = Across::new(&registry(), shards);
        (across.doubles, across.reverses) = (worse, worse);
        across.run(scenario.acts, failures);
        across.check();
        for (id, end) in scenario.ends {
            assert_eq!(across.end(id), *end, "{id}");
        }
        for (id, end) in scenario.last {
            assert_eq!(across.end(id).rsplit(", ").next(), Some(*end), "{id}: {}", across.end(id));
        }
        across
    });
    outcome.unwrap_or_else(|_| panic!("scenario {:?} on {shards} with {failures:?} {worse}", scenario.name))
}

#[test]
fn series_come_to_their_ends() {
    for scenario in SCENARIOS {
        for shards in [1, 3] {
            for worse in [false, true] {
                play(scenario, shards, &[], worse);
            }
        }
    }
}

#[test]
fn an_owner_may_fail_between_any_two_effects() {
    let mut points = 0;
    for scenario in SCENARIOS {
        let effects = play(scenario, 1, &[], false).effects;
        for at in 0..effects {
            for how in [How::Before, How::After, How::Stopped] {
                play(scenario, 1, &[(at, how)], at % 4 == 2);
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
        let effects = play(scenario, 3, &[], false).effects;
        for at in (0..effects).step_by(5) {
            for (how, then) in [(How::Before, How::After), (How::After, How::After), (How::Stopped, How::Stopped)] {
                play(scenario, 3, &[(at, how), (at + 3, then)], false);
                points += 1;
            }
        }
    }
    println!("{points} double failures");
    assert!(points > 100, "{points}");
}
