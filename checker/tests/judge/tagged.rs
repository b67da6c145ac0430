//! Signals to all runs with a tag: each rule of that, kept and broken by hand.

use crate::hand_made::*;
use everpulse_checker::{Kind, Rules, check_partitions};

/// The id of a run's copy of signal 70, as the rule says.
fn copy(run: u128) -> u128 {
    hashed(&[&run.to_be_bytes(), &70_u128.to_be_bytes()])
}

fn begins(run: u128, tags: &[&str]) -> Record {
    let tags = rmpv::Value::Array(tags.iter().map(|tag| (*tag).into()).collect());
    let start = map([("workflow", "checkout".into()), ("args", payload()), ("tags", tags)]);
    Record::new(run, 0, run, body("started", [("start", start), ("version", 1.into())]))
}

fn told() -> [(&'static str, rmpv::Value); 3] {
    [("tag", "red".into()), ("name", "word".into()), ("value", payload())]
}

fn takes(run: u128, seq: u32) -> Record {
    Record::new(run, seq, copy(run), body("signalled_by_tag", told()))
}

fn takes_in(run: u128, seq: u32) -> Record {
    let event = map([("id", id(copy(run))), ("body", body("signal_tagged", told()))]);
    Record::new(run, seq, copy(run), body("received", [("event", event), ("attempt", 0.into())]))
}

fn ends(run: u128, seq: u32) -> Record {
    Record::new(run, seq, run + 1_000, bare("resumed")).closes("completed")
}

fn reached(since: u64, runs: u32, all: bool) -> Record {
    let fields =
        [("event", id(70)), ("tag", "red".into()), ("since", since.into()), ("runs", runs.into()), ("all", all.into())];
    Record::new(0, 0, 71, body("tag_reached", fields))
}

#[track_caller]
fn expect(frames: &[&[Record]], kinds: &[Kind]) {
    let mut partition = Partition::default();
    for frame in frames {
        partition.write(frame.iter().cloned());
    }
    let report = check_partitions(&[partition.entries], &Rules::default());
    let found: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, kinds, "{report}");
}

#[test]
fn all_that_carry_the_tag_and_began_before_have_their_copies() {
    let begun = [begins(1, &["red"]), begins(2, &["blue"]), begins(3, &["blue", "red"]), begins(4, &["red"])];
    let whole = [takes(1, 1), takes_in(3, 1), takes(4, 1), reached(1, 3, true)];
    expect(&[&begun, &whole], &[]);
    // In two frames, between which one ends without it, and another one begins.
    let first = [takes(1, 1), reached(1, 1, false)];
    let between = [ends(3, 1), begins(5, &["red"])];
    expect(&[&begun, &first, &between, &[takes(4, 1), reached(1, 2, true)]], &[]);
    expect(&[&begun, &[takes(1, 1), takes(4, 1), reached(1, 2, true)]], &[Kind::Tagged]);
    expect(&[&begun, &[takes(1, 1), reached(1, 1, true)]], &[Kind::Tagged, Kind::Tagged]);
    expect(&[&begun, &[reached(1, 0, false)]], &[]);
}

#[test]
fn behind_its_end_nobody_gets_it() {
    let begun = [begins(1, &["red"])];
    let whole = [takes(1, 1), reached(1, 1, true)];
    let later = [begins(2, &["red"]), takes(2, 1)];
    expect(&[&begun, &whole, &later], &[Kind::Tagged]);
    expect(&[&begun, &whole, &[begins(2, &["red"]), takes_in(2, 1)]], &[Kind::Tagged]);
    expect(&[&begun, &whole, &[reached(1, 1, true)]], &[Kind::Tagged]);
    // What was taken in before is applied behind it.
    expect(&[&begun, &[takes_in(1, 1), reached(1, 1, true)], &[takes(1, 2)]], &[]);
    expect(&[&begun, &[takes(1, 1), takes(1, 2), reached(1, 1, true)]], &[Kind::EventTwice]);
}

/// The run that goes on for the first one, without a command before that.
fn next() -> u128 {
    asked_first("continued as new")
}

#[test]
fn what_a_trimmed_run_handed_on_is_not_new() {
    let target = map([("workflow_id", "order-1".into()), ("run_id", id(next()))]);
    let goes_on =
        map([("no", 0.into()), ("kind", "continue_as_new".into()), ("name", "checkout".into()), ("target", target)]);
    let ends = Record::new(1, 2, 102, bare("resumed")).asks([goes_on]).closes("continued_as_new");
    let of_next = |seq, event, taken| {
        let event_map = map([("id", id(event)), ("body", taken)]);
        let received = body("received", [("event", event_map), ("attempt", 0.into())]);
        Record::new(next(), seq, event, received).set("workflow_id", "order-1")
    };
    let start = map([("workflow", "checkout".into()), ("args", payload())]);
    let before = map([("first", id(1)), ("previous", id(1)), ("number", 1.into()), ("version", 1.into())]);
    let heir = of_next(0, next(), body("continue_as_new", [("start", start), ("continues", before)]));
    let copied = of_next(1, copy(1), body("signal_tagged", told()));
    let found = |last: [Vec<Record>; 2]| {
        let mut partition = Partition::default();
        partition.write([begins(1, &["red"])]);
        partition.write([takes(1, 1), reached(1, 1, false)]);
        partition.write([reached(1, 1, true)]);
        for records in last {
            partition.write(records);
        }
        partition.write([needs_from(2)]);
        partition.entries.drain(..2);
        let report = check_partitions(&[partition.entries], &Rules::default());
        let kinds = report.violations.iter().map(|violation| violation.kind).collect::<Vec<_>>();
        (kinds, report.to_string())
    };
    let (kinds, report) = found([vec![ends.clone(), heir.clone(), copied.clone()], vec![]]);
    assert_eq!(kinds, [], "{report}");
    let (kinds, report) = found([vec![ends, heir], vec![copied]]);
    assert_eq!(kinds, [Kind::Tagged], "it did not go along: {report}");
}
