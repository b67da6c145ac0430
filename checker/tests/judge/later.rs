//! History that a later release wrote: the judge says what it does not know, by name, and takes none of it for void.

use everpulse_checker::{Kind, Position, Report, Rules, Status, check_partitions};
use rmpv::Value;
use sha2::{Digest as _, Sha256};

use crate::hand_made::*;

fn start(run: u128) -> Record {
    Record::new(run, 0, run, started("checkout"))
}

fn record(seq: u32, body: Value) -> Record {
    Record::new(1, seq, 100 + u128::from(seq), body)
}

#[track_caller]
fn expect(partition: Partition, kinds: &[Kind]) -> Report {
    let report = check_partitions(&[partition.entries], &Rules::default());
    let found: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, kinds, "{report}");
    report
}

fn of_version(version: u8, bytes: Vec<u8>) -> Vec<u8> {
    [&[version], &bytes[1..]].concat()
}

/// The frame that follows on the one that was appended last, whose bytes nobody here can write.
fn behind(frame: Frame, number: u64, before: &[u8], position: Position) -> Frame {
    let previous = Value::Binary(Sha256::digest(before).to_vec());
    frame.set("number", number).set("previous", previous).verifies(number - 1, position)
}

#[test]
fn unknown_kinds_are_named_and_what_follows_is_judged_as_far_as_it_is_known() {
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity")]), start(2)]);
    partition.write([record(1, body("lease_taken", [("lease", "order-43".into())])).asks([mark(2, "lease")])]);
    // All of this would be a fault if all were known.
    partition.write([record(2, settled(1)).asks([mark(4, "activity")])]);
    partition.write([record(3, settled(4)), record(4, fired(3))]);
    partition.write([Record::new(2, 1, 201, settled(7))]);
    let report = expect(partition, &[Kind::Unknown, Kind::Unknown, Kind::Unscheduled]);
    assert_eq!(
        report.violations[0].to_string(),
        "shard 0, frame 1, position 7:1, run order-1/00000000-0000-0000-0000-000000000001: the record is of the unknown kind \
         \"lease_taken\"; what the run asks for and waits for is judged in part from here on"
    );
    assert!(report.violations[1].message.starts_with("the command of number 2 is of the unknown kind \"lease\""));
    assert_eq!((report.shards[0].standing, report.shards[0].void.len(), report.shards[0].unreadable), (5, 0, 0));
    let run = report.runs_of("order-1").next().expect("it is there");
    assert_eq!((run.status, run.records), (Status::Open, 5));
}

#[test]
fn what_is_known_of_a_run_is_judged_whatever_else_it_has() {
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity"), timer(1, 9_000)])]);
    partition.write([record(1, body("lease_taken", []))]);
    partition.write([record(2, settled(0)), record(3, settled(0))]);
    partition.write([record(5, fired(1))]);
    expect(partition, &[Kind::Unknown, Kind::SettledTwice, Kind::Sequence, Kind::TimerEarly]);
}

#[test]
fn an_unknown_event_that_a_run_took_in_is_named() {
    let mut partition = Partition::default();
    let event = map([("id", id(77)), ("body", body("renew", []))]);
    let received = body("received", [("event", event), ("attempt", 0.into())]);
    let parked = map([("kind", "unknown_kind".into()), ("message", "renew".into())]);
    partition.write([start(1)]);
    partition.write([Record::new(1, 1, 77, received), record(2, body("parked", [("reason", parked)]))]);
    let report = expect(partition, &[Kind::Unknown]);
    assert!(report.violations[0].message.contains("\"renew\""), "{report}");
}

#[test]
fn something_of_the_shard_is_taken_for_no_run() {
    let mut partition = Partition::default();
    partition.write([start(1), Record::new(0, 0, 0, body("schedules", []))]);
    let report = expect(partition, &[Kind::Unknown]);
    assert_eq!(report.runs.len(), 1);
}

#[test]
fn a_frame_of_a_later_version_stands_where_its_envelope_says() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    let sealed = of_version(2, partition.next([start(2)]).bytes());
    let position = partition.append(sealed.clone());
    // The rival is of this version, and comes second.
    let rival = partition.next([start(3)]).set("writer", id(0xB));
    partition.append(rival.bytes());
    let next = behind(partition.next([record(1, settled(5))]), 2, &sealed, position);
    partition.append(next.bytes());
    let report = expect(partition, &[Kind::Unknown]);
    let message = "the frame stands, and has format version 2; what it and those behind it say is not judged";
    assert_eq!(report.violations[0].message, message);
    let shard = &report.shards[0];
    assert_eq!((shard.standing, shard.void.len(), shard.unreadable), (3, 1, 0));
    assert_eq!((shard.void[0].number, shard.void[0].position), (1, at(2)));
}

#[test]
fn a_frame_that_cannot_be_read_and_lost_its_place_is_void_and_no_fault() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    let late = of_version(2, partition.next([start(2)]).bytes());
    let broken = partition.next([start(3)]).set("records", "none").bytes();
    partition.write([start(4)]);
    partition.append(late);
    partition.append(broken);
    partition.write([start(5)]);
    let report = expect(partition, &[]);
    assert_eq!((report.shards[0].standing, report.shards[0].void.len()), (3, 2));
}

#[test]
fn what_is_around_the_envelope_makes_no_difference_to_where_a_frame_belongs() {
    let deep = (0..400).fold(Value::Nil, |value, _| Value::Array(vec![value]));
    let behind_it = |partition: &Partition| [partition.next([start(2)]).bytes(), b"\xc0more".to_vec()].concat();
    let deeper = |partition: &Partition| partition.next([start(2)]).set("of_a_later_release", deep.clone()).bytes();
    type Written<'a> = &'a dyn Fn(&Partition) -> Vec<u8>;
    let cases: [(Written<'_>, &[Kind]); 3] = [
        (&behind_it, &[]),
        (&deeper, &[Kind::Unknown]),
        (&|partition| of_version(7, deeper(partition)), &[Kind::Unknown]),
    ];
    for (written, kinds) in cases {
        let mut partition = Partition::default();
        partition.write([start(1)]);
        let theirs = written(&partition);
        let position = partition.append(theirs.clone());
        partition.append(partition.next([start(3)]).set("writer", id(0xB)).bytes());
        let next = behind(partition.next([start(4)]), 2, &theirs, position);
        partition.append(next.bytes());
        let report = expect(partition, kinds);
        assert_eq!((report.shards[0].standing, report.shards[0].void.len()), (3, 1));
    }
}

#[test]
fn what_says_to_be_of_a_later_version_and_has_no_envelope_is_no_frame() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    let twice = |partition: &Partition| {
        let bytes = partition.next([start(2)]).bytes();
        let mut rest = &bytes[1..];
        let kind = rmpv::decode::read_value(&mut rest).expect("a kind");
        let Value::Map(mut fields) = rmpv::decode::read_value(&mut rest).expect("a frame") else { panic!("no map") };
        fields.push(("number".into(), 7.into()));
        crate::hand_made::bytes(&[kind, Value::Map(fields)])
    };
    let whole = partition.next([start(2)]).bytes();
    let foreign = [
        bytes(&["history".into(), Value::Array(vec![1.into()])]),
        bytes(&["history".into()]),
        twice(&partition),
        whole[..whole.len() - 1].to_vec(),
    ];
    let count = foreign.len();
    for bytes in foreign {
        partition.append(of_version(9, bytes));
    }
    partition.write([record(1, settled(7))]);
    let kinds: Vec<Kind> = [Kind::Unreadable].repeat(count).into_iter().chain([Kind::Unscheduled]).collect();
    let report = expect(partition, &kinds);
    assert_eq!((report.shards[0].standing, report.shards[0].unreadable), (2, count));
}
