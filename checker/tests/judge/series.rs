//! Runs that go on as other ones: each rule of that, kept and broken by hand.

use crate::hand_made::*;
use everpulse_checker::{Kind, Report, Rules, Status, check_partitions};

/// The run that goes on for run 1 by command 0, as the rule says.
fn next() -> u128 {
    asked_first("continued as new")
}

fn start() -> Record {
    Record::new(1, 0, 1, started("checkout"))
}

fn goes_on(next: u128) -> rmpv::Value {
    let target = map([("workflow_id", "order-1".into()), ("run_id", id(next))]);
    map([("no", 0.into()), ("kind", "continue_as_new".into()), ("name", "checkout".into()), ("target", target)])
}

fn ends() -> Record {
    Record::new(1, 2, 102, bare("resumed")).asks([goes_on(next())]).closes("continued_as_new")
}

fn signalled(seq: u32) -> Record {
    Record::new(1, seq, 300, body("signalled", [("name", "word".into()), ("value", payload())]))
}

fn of_next(seq: u32, event: u128, body: rmpv::Value) -> Record {
    Record::new(next(), seq, event, body).set("workflow_id", "order-1")
}

fn received(seq: u32, event: u128, body: rmpv::Value) -> Record {
    let event_map = map([("id", id(event)), ("body", body)]);
    of_next(seq, event, crate::hand_made::body("received", [("event", event_map), ("attempt", 0.into())]))
}

fn before(first: u128, previous: u128, number: u32) -> rmpv::Value {
    map([("first", id(first)), ("previous", id(previous)), ("number", number.into()), ("version", 1.into())])
}

fn taken_in(before: rmpv::Value) -> Record {
    let start = map([("workflow", "checkout".into()), ("args", payload())]);
    received(0, next(), body("continue_as_new", [("start", start), ("continues", before)]))
}

fn signal() -> rmpv::Value {
    body("signal", [("name", "word".into()), ("value", payload())])
}

fn begins(seq: u32) -> Record {
    let start = map([("workflow", "checkout".into()), ("args", payload())]);
    let fields = [("start", start), ("version", 1.into()), ("continues", before(1, 1, 1))];
    of_next(seq, next(), body("continued", fields))
}

#[track_caller]
fn expect(frames: &[&[Record]], kinds: &[Kind]) -> Report {
    let mut partition = Partition::default();
    for frame in frames {
        partition.write(frame.iter().cloned());
    }
    let report = check_partitions(&[partition.entries], &Rules::default());
    let found: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, kinds, "{report}");
    report
}

#[test]
fn a_run_that_goes_on_has_its_successor_in_the_same_frame_with_what_it_left() {
    let applied = of_next(3, 300, body("signalled", [("name", "word".into()), ("value", payload())]));
    let report = expect(
        &[
            &[start(), signalled(1)],
            &[ends(), taken_in(before(1, 1, 1)), received(1, 300, signal())],
            &[begins(2), applied],
        ],
        &[],
    );
    let runs: Vec<_> = report.runs_of("order-1").collect();
    assert_eq!((runs[0].status, runs[1].status), (Status::ContinuedAsNew, Status::Open));
    assert_eq!(runs[1].continues.map(|continues| continues.number), Some(1));
    assert_eq!((report.counts().continued_as_new, report.counts().open), (1, 1));
}

#[test]
fn a_successor_that_is_missing_late_or_of_another_is_seen() {
    let (a, b) = (start(), signalled(1));
    expect(&[&[a.clone(), b.clone()], &[ends()]], &[Kind::Succession]);
    expect(&[&[a.clone(), b.clone()], &[ends()], &[taken_in(before(1, 1, 1))]], &[Kind::Succession, Kind::Succession]);
    expect(&[&[a.clone(), b.clone()], &[ends(), taken_in(before(1, 9, 1))]], &[Kind::Succession]);
    expect(&[&[a.clone(), b.clone()], &[ends(), taken_in(before(1, 1, 2))]], &[Kind::Succession]);
    expect(&[&[a.clone(), b.clone()], &[ends(), taken_in(before(9, 1, 1))]], &[Kind::Succession]);
    let another = Record::new(1, 2, 102, bare("resumed")).asks([goes_on(9)]).closes("continued_as_new");
    expect(&[&[a.clone(), b.clone()], &[another]], &[Kind::RunId, Kind::Succession]);
    let no_end = Record::new(1, 2, 102, bare("resumed")).asks([goes_on(next())]);
    expect(&[&[a.clone(), b.clone()], &[no_end]], &[Kind::Close]);
    let no_mark = Record::new(1, 2, 102, bare("resumed")).closes("continued_as_new");
    expect(&[&[a, b], &[no_mark]], &[Kind::Close]);
}

#[test]
fn what_goes_along_counts_once_in_each_run_and_what_is_new_may_come_behind_it() {
    let (a, b, along) = (start(), signalled(1), taken_in(before(1, 1, 1)));
    let applied = |seq, event| of_next(seq, event, body("signalled", [("name", "word".into()), ("value", payload())]));
    let new = [ends(), along.clone(), received(1, 301, signal())];
    expect(&[&[a.clone(), b.clone()], &new, &[begins(2), applied(3, 301)]], &[]);
    let whole = [ends(), along.clone(), received(1, 300, signal())];
    expect(&[&[a.clone(), b.clone()], &whole, &[begins(2), applied(3, 300), applied(4, 300)]], &[Kind::EventTwice]);
    // Once the frame is over, an input of the run before is one that comes again.
    expect(&[&[a, b], &[ends(), along], &[received(1, 300, signal())]], &[Kind::EventTwice]);
}

fn update(id: &str) -> rmpv::Value {
    body("update_accepted", [("id", id.into()), ("name", "Put".into()), ("args", payload())])
}

fn answers(no: u32, id: &str) -> rmpv::Value {
    map([("no", no.into()), ("kind", "answer".into()), ("name", id.into()), ("answer", done())])
}

#[test]
fn an_update_is_taken_once_by_a_run_and_answered_once_under_its_number() {
    let taken = |seq, event, id: &str| Record::new(1, seq, event, update(id));
    let (first, second) = (taken(1, 300, "u-1"), taken(2, 301, "u-2"));
    let said = |seq| {
        Record::new(1, seq, 310 + u128::from(seq), body("signalled", [("name", "w".into()), ("value", payload())]))
    };
    let both = [start(), first.clone(), second.clone().asks([answers(1, "u-2"), answers(0, "u-1")])];
    expect(&[&both], &[]);
    expect(&[&[start(), first.clone(), taken(2, 301, "u-1")]], &[Kind::Update]);
    expect(&[&[start(), said(1).asks([answers(0, "u-1")])]], &[Kind::Update]);
    expect(&[&[start(), first.clone().asks([answers(0, "u-1")]), said(2).asks([answers(0, "u-1")])]], &[Kind::Update]);
    expect(&[&[start(), first.clone(), second.asks([answers(0, "u-2")])]], &[Kind::Update]);
    // It may have been taken in by a release that did not know it.
    let event = map([
        ("id", id(300)),
        ("body", body("update", [("id", "u-1".into()), ("name", "Put".into()), ("args", payload())])),
    ]);
    let received = Record::new(1, 1, 300, body("received", [("event", event), ("attempt", 0.into())]));
    expect(&[&[start(), received], &[taken(2, 300, "u-1")]], &[]);
}

#[test]
fn an_update_that_was_not_received_goes_along_and_is_taken_by_both_runs() {
    let first = Record::new(1, 1, 300, update("u-1"));
    let along = [ends(), taken_in(before(1, 1, 1)), received(1, 300, update("u-1"))];
    let applied = of_next(3, 300, update("u-1")).asks([answers(0, "u-1")]);
    expect(&[&[start(), first.clone()], &along, &[begins(2), applied.clone()]], &[]);
    // And only if it went along.
    let alone = [ends(), taken_in(before(1, 1, 1))];
    expect(&[&[start(), first], &alone, &[begins(1), of_next(2, 300, update("u-1"))]], &[Kind::EventTwice]);
}
