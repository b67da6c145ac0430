//! Parents, children and other runs, in one shard and across shards, with owners that fail between any two of their effects.
//! Whatever happens, each child runs once, its parent knows how it ended, and no child is left against what was agreed.

mod world;

use everpulse_protocol::event::EventBody;
use everpulse_protocol::{WorkflowId, shard};
use world::across::Across;
use world::play::How;
use world::workflows::registry;

struct Scenario {
    name: &'static str,
    acts: &'static [fn(&mut Across)],
    /// How runs end, by their ids. Several ends stand for several runs of an id, in the order of history.
    ends: &'static [(&'static str, &'static str)],
    /// What it may come to by chance: the ids whose ends hang on what arrives first.
    either: &'static [(&'static str, &'static [&'static str])],
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "children that are awaited",
        acts: &[|across| across.start("parent", "begets", 3)],
        ends: &[("parent", "12"), ("grim", "failed")],
        either: &[],
    },
    Scenario {
        name: "a child that is told what to say",
        acts: &[|across| across.start("parent", "raises", 3)],
        ends: &[("parent", "aaa"), ("pupil", "aaa")],
        either: &[],
    },
    Scenario {
        name: "children that are dropped",
        acts: &[|across| across.start("parent", "drops", 40)],
        ends: &[("parent", "41"), ("dropped", "cancelled"), ("never", "open"), ("napper", "cancelled")],
        either: &[],
    },
    Scenario {
        name: "children that are left",
        acts: &[|across| across.start("parent", "leaves", 4)],
        ends: &[
            ("parent", "4"),
            ("left-alone", "16"),
            ("left-asked", "cancelled"),
            ("left-ended", "terminated"),
            ("left-unsaid", "5000"),
            ("left-at-the-door", "open"),
        ],
        either: &[],
    },
    Scenario {
        name: "others that are told",
        acts: &[
            |across| across.start("ear", "listens", 1),
            |across| across.start("sleeper", "naps", 3_600_000),
            |across| across.start("stubborn", "naps", 3_600_000),
            |across| across.start("parent", "meddles", 3),
        ],
        ends: &[("parent", "true true true true true true true"), ("sleeper", "cancelled"), ("stubborn", "terminated")],
        // The children that were refused have histories of their own under the id.
        either: &[("ear", &["taken, taken, x"])],
    },
    Scenario {
        name: "a parent that is ended",
        acts: &[
            |across| across.start("parent", "leaves", 600_000),
            |across| across.ask("parent", &EventBody::Terminate { reason: String::new() }),
        ],
        ends: &[
            ("parent", "terminated"),
            ("left-asked", "cancelled"),
            ("left-ended", "terminated"),
            ("left-unsaid", "5000"),
        ],
        either: &[],
    },
    Scenario {
        name: "a parent that is asked to cancel",
        acts: &[
            |across| across.start("parent", "raises", 3),
            |across| across.start("other", "drops", 3_600_000),
            |across| across.ask("other", &EventBody::Cancel { reason: String::new() }),
        ],
        ends: &[("parent", "aaa"), ("other", "0"), ("dropped", "cancelled")],
        either: &[],
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
        for (id, ends) in scenario.either {
            assert!(ends.contains(&across.end(id).as_str()), "{id}: {}", across.end(id));
        }
        across
    });
    outcome.unwrap_or_else(|_| panic!("scenario {:?} on {shards} with {failures:?} {worse}", scenario.name))
}

#[test]
fn the_ids_of_the_scenarios_lie_in_several_shards() {
    let shards = |ids: &[&str]| {
        let of = |id: &&str| shard::of(&WorkflowId::new(id).expect("a good id"), 3);
        ids.iter().map(of).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert!(shards(&["parent", "grim", "pupil", "dropped", "napper", "ear", "sleeper"]) == 3);
}

#[test]
fn families_come_to_their_ends_in_one_shard_and_in_several() {
    for scenario in SCENARIOS {
        for shards in [1, 3] {
            for worse in [false, true] {
                let across = play(scenario, shards, &[], worse);
                let voids: usize = across.worlds.iter().map(|world| world.chain().1).sum();
                assert_eq!(voids, 0, "{}: no frame is void", scenario.name);
            }
        }
    }
}

#[test]
fn an_owner_of_a_family_may_fail_between_any_two_effects() {
    let mut points = 0;
    for scenario in SCENARIOS {
        for shards in [1, 3] {
            let effects = play(scenario, shards, &[], false).effects;
            // Across shards every second one: they are the same effects, in other orders.
            for at in (0..effects).step_by(if shards == 1 { 1 } else { 2 }) {
                for how in [How::Before, How::After, How::Stopped] {
                    play(scenario, shards, &[(at, how)], at % 4 == 2);
                    points += 1;
                }
            }
        }
    }
    println!("{points} single failures");
    assert!(points > 1_000, "{points}");
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
    assert!(points > 200, "{points}");
}
