//! Runs that others end at once, in one shard and across shards, with owners that fail between any two of their effects. Of those who ask for
//! the end of one run exactly one is told that it did so, and that run does nothing more.

mod world;

use everpulse_protocol::history::RecordBody;
use world::across::Across;
use world::play::How;
use world::workflows::registry;

const ACTS: [fn(&mut Across); 5] = [
    |across| across.start("stubborn", "tidies", 1),
    |across| across.start("series", "goes_on_tidying", 5),
    |across| across.start("first", "puts_down", 1),
    |across| across.start("second", "puts_down", 2),
    |across| across.start("itself", "puts_itself_down", 2),
];

fn play(shards: u32, failures: &[(usize, How)], worse: bool) -> usize {
    let played = std::panic::catch_unwind(|| {
        let mut across = Across::new(&registry(), shards);
        (across.doubles, across.reverses) = (worse, worse);
        across.run(&ACTS, failures);
        let runs = across.check();
        let told = [across.end("first"), across.end("second")];
        let told = told.map(|told| told.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for (what, id) in ["stubborn", "series"].into_iter().enumerate() {
            let mut both = [told[0][what].as_str(), told[1][what].as_str()];
            both.sort_unstable();
            assert_eq!(both, ["did", "nobody"], "{id}");
            // Of a series the last run, which may be the first one still.
            assert!(across.end(id).ends_with("terminated"), "{id}: {}", across.end(id));
        }
        assert_eq!((across.end("itself").as_str(), across.end("left-behind").as_str()), ("terminated", "cancelled"));
        let ends = |records: &Vec<_>| {
            let is_end = |record: &&everpulse_protocol::history::Record| {
                matches!(record.body(), Ok(RecordBody::Terminated { .. }))
            };
            records.iter().filter(is_end).count()
        };
        assert_eq!(runs.values().map(ends).sum::<usize>(), 3, "each is ended once");
        across.effects
    });
    played.unwrap_or_else(|_| panic!("on {shards} with {failures:?} {worse}"))
}

#[test]
fn one_of_those_who_end_a_run_is_told_that_it_did_so() {
    for shards in [1, 3] {
        for worse in [false, true] {
            play(shards, &[], worse);
        }
    }
}

#[test]
fn an_owner_may_fail_between_any_two_effects() {
    let mut points = 0;
    for shards in [1, 3] {
        for at in 0..play(shards, &[], false) {
            for how in [How::Before, How::After, How::Stopped] {
                play(shards, &[(at, how)], at % 3 == 2);
                points += 1;
            }
        }
    }
    println!("{points} single failures");
    assert!(points > 200, "{points}");
}

#[test]
fn its_successor_may_fail_too() {
    let mut points = 0;
    for at in (0..play(3, &[], false)).step_by(3) {
        for (how, then) in [(How::Before, How::After), (How::After, How::After), (How::Stopped, How::Stopped)] {
            play(3, &[(at, how), (at + 3, then)], false);
            points += 1;
        }
    }
    println!("{points} double failures");
    assert!(points > 50, "{points}");
}
