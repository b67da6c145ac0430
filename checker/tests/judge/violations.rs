//! Each rule, broken by hand: the judge must see it, and nothing else.

use crate::hand_made::*;
use everpulse_checker::{Kind, Report, Rules, Status, Void, check_partitions};
use proptest::prelude::*;

fn judge(partition: Partition) -> Report {
    check_partitions(&[partition.entries], &Rules::default())
}

#[track_caller]
fn expect(partition: Partition, kinds: &[Kind]) -> Report {
    let report = judge(partition);
    let found: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, kinds, "{report}");
    report
}

/// Judges a history of one frame per record.
#[track_caller]
fn expect_of<const N: usize>(records: [Record; N], kinds: &[Kind]) -> Report {
    let mut partition = Partition::default();
    for record in records {
        partition.write([record]);
    }
    expect(partition, kinds)
}

fn start(run: u128) -> Record {
    Record::new(run, 0, run, started("checkout"))
}

fn record(seq: u32, body: rmpv::Value) -> Record {
    Record::new(1, seq, 100 + u128::from(seq), body)
}

#[test]
fn a_history_that_keeps_the_rules_is_clean() {
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity")]), start(2)]);
    partition.write([record(1, settled(0)).asks([timer(1, 1_000), mark(2, "step")])]);
    partition.write([record(2, fired(1)), record(3, step_settled(2)).asks([mark(3, "activity")])]);
    partition.write([record(4, body("signalled", [("name", "go".into()), ("value", payload())]))
        .asks([mark(3, "cancel"), mark(4, "activity")])]);
    partition.write([record(5, settled(4)).closes("completed")]);
    let report = expect(partition, &[]);
    assert_eq!(report.counts().runs, 2);
    assert_eq!((report.counts().completed, report.counts().open), (1, 1));
    assert_eq!(report.shards[0].standing, 5);
    let run = report.runs_of("order-1").next().expect("it is there");
    assert_eq!((run.status, run.records, run.workflow.as_str()), (Status::Completed, 6, "checkout"));
    assert_eq!(run.pending(), []);
}

#[test]
fn an_empty_partition_is_clean() {
    assert!(judge(Partition::default()).is_clean());
}

#[test]
fn rivals_and_what_is_behind_them_are_void_and_break_no_rule() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    let zombie = partition.next([start(2)]).set("writer", id(0xB));
    let first = partition.next([start(3)]);
    partition.stand(&first);
    partition.append(zombie.bytes());
    let behind_zombie = {
        let mut theirs = Partition::default();
        theirs.write([start(1)]);
        theirs.stand(&zombie);
        theirs.next([start(4)]).verifies(0, at(0)).set("writer", id(0xB))
    };
    partition.append(behind_zombie.bytes());
    partition.append(first.bytes());
    partition.write([start(5)]);
    let report = expect(partition, &[]);
    let void: Vec<Void> = report.shards[0].void.iter().map(|void| void.why).collect();
    assert_eq!(void, [Void::Rival, Void::BehindVoid, Void::Duplicate]);
    assert_eq!(report.void_by_writer().into_values().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(report.runs.len(), 3, "runs of void frames do not exist");
}

#[test]
fn a_frame_whose_predecessor_never_came_is_an_orphan() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    let mut theirs = Partition::default();
    theirs.write([start(1)]);
    theirs.write([start(2)]);
    partition.append(theirs.next([start(3)]).verifies(0, at(0)).bytes());
    assert_eq!(expect(partition, &[]).shards[0].void[0].why, Void::Orphan);
}

#[test]
fn a_second_first_frame_is_a_rival() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.append(Partition::default().next([start(2)]).bytes());
    assert_eq!(expect(partition, &[]).shards[0].void[0].why, Void::Rival);
}

#[test]
fn foreign_bytes_are_seen() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.append(b"hello".to_vec());
    partition.append(Vec::new());
    partition.append(bytes(&["inbox".into(), map([])]));
    partition.append(bytes(&["history".into(), map([])]));
    let report = expect(partition, &[Kind::Unreadable; 4]);
    assert_eq!(
        report.violations[0].to_string(),
        "shard 0, position 7:1: the entry is no frame: it has format version 104"
    );
    assert_eq!(report.shards[0].unreadable, 4);
}

#[test]
fn entries_that_were_read_in_disorder_are_seen() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.write([start(2)]);
    partition.entries.push(partition.entries[0].clone());
    expect(partition, &[Kind::Reading]);
}

#[test]
fn a_frame_that_skips_a_number_is_seen() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.append(partition.next([start(2)]).set("number", 5).bytes());
    let report = expect(partition, &[Kind::Number]);
    assert_eq!(report.shards[0].void[0].why, Void::Misnumbered);
}

#[test]
fn who_builds_on_a_void_frame_has_forked() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    let rival = partition.next([start(2)]).set("writer", id(0xB));
    partition.write([start(3)]);
    let at_rival = partition.append(rival.bytes());
    let mut theirs = Partition::default();
    theirs.write([start(1)]);
    theirs.stand(&rival);
    partition.append(theirs.next([start(4)]).verifies(1, at_rival).bytes());
    let report = expect(partition, &[Kind::Fork]);
    assert_eq!(
        report.violations[0].to_string(),
        "shard 0, frame 2, position 7:3: a fork: the frame calls frame 1 at 7:2 verified, which is void (another was \
         the first to name its predecessor; written by 00000000-0000-0000-0000-00000000000b)"
    );
}

#[test]
fn a_verified_mark_must_name_a_standing_frame_before_it_at_its_position() {
    for (number, position) in [(0, at(1)), (1, at(0)), (0, at(9)), (2, at(2))] {
        let mut partition = Partition::default();
        partition.write([start(1)]);
        partition.write([start(2)]);
        partition.stand(&partition.next([start(3)]).verifies(number, position));
        expect(partition, &[Kind::Fork]);
    }
}

#[test]
fn where_the_beginning_was_trimmed_the_anchor_is_what_a_later_frame_verified() {
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity")])]);
    partition.write([start(2)]);
    partition.write([record(1, settled(0)).asks([mark(1, "activity")])]);
    let rival = partition.next([start(4)]);
    partition.write([record(2, settled(1)).closes("completed")]);
    partition.append(rival.bytes());
    partition.write([start(3)]);
    partition.write([needs_from(1)]);
    partition.entries.drain(..1);
    let report = expect(partition, &[]);
    assert!(report.shards[0].trimmed);
    assert_eq!((report.shards[0].standing, report.shards[0].void.len()), (5, 1));
    assert!(report.runs_of("order-1").all(|run| run.partial && run.status == Status::Completed));
    assert!(report.runs_of("order-3").all(|run| !run.partial));
}

/// Its writer knew of an empty partition, stood still, and went on when all that was written first may be trimmed.
#[test]
fn a_frame_that_came_too_late_to_be_the_first_says_nothing_of_what_was_trimmed() {
    for trimmed in 0..=2 {
        let mut partition = Partition::default();
        let late = partition.next([start(9)]);
        partition.write([start(1).asks([mark(0, "activity")])]);
        partition.write([record(1, settled(0)).closes("completed")]);
        partition.write([start(2)]);
        partition.append(late.bytes());
        partition.write([start(3)]);
        partition.write([needs_from(2)]);
        partition.entries.drain(..trimmed);
        let report = expect(partition, &[]);
        assert_eq!(report.shards[0].trimmed, trimmed > 0);
        assert_eq!((report.shards[0].standing, report.shards[0].void.len()), (5 - trimmed, 1));
    }
}

/// A run whose first frames are carried forward in two pieces, with a record between them.
fn carrying(words: &str) -> Partition {
    let signalled = |seq| record(seq, body("signalled", [("name", "go".into()), ("value", payload())]));
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity")])]);
    partition.write([signalled(1)]);
    partition.write([start(2)]);
    let begun = Record::new(1, 0, 1, started(words)).asks([mark(0, "activity")]);
    partition.write([record(9, carried(0, 0, [begun]))]);
    partition.write([signalled(2)]);
    partition.write([record(9, carried(1, 2, [signalled(1), signalled(2)]))]);
    partition.write([needs_from(2)]);
    partition
}

#[test]
fn a_run_that_was_carried_forward_is_known_when_its_beginning_is_trimmed() {
    let whole = expect(carrying("checkout"), &[]);
    assert_eq!(whole.counts().runs, 2, "carried records are no runs of their own");
    for trimmed in 1..=2 {
        let mut partition = carrying("checkout");
        partition.write([record(3, settled(0)).closes("completed")]);
        partition.entries.drain(..trimmed);
        let report = expect(partition, &[]);
        let run = report.runs_of("order-1").next().expect("it is there");
        assert_eq!((run.status, run.records, run.workflow.as_str()), (Status::Completed, 4, "checkout"));
        assert!(!run.partial);
    }
}

#[test]
fn what_is_carried_with_other_words_is_seen() {
    expect(carrying("checkin"), &[Kind::Carried]);
}

#[test]
fn what_is_carried_in_part_is_seen() {
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity")])]);
    partition.write([record(1, settled(0))]);
    partition.write([record(9, carried(0, 1, [start(1).asks([mark(0, "activity")])]))]);
    expect(partition, &[Kind::Carried]);
}

#[test]
fn an_event_that_took_effect_in_a_trimmed_frame_is_known_where_its_run_is_carried() {
    let signalled = |run, seq, event| {
        Record::new(run, seq, event, body("signalled", [("name", "go".into()), ("value", payload())]))
    };
    for (event, kinds) in [(77, &[Kind::EventTwice][..]), (78, &[])] {
        for after in [false, true] {
            let mut partition = Partition::default();
            partition.write([start(1)]);
            partition.write([signalled(1, 1, 77)]);
            partition.write([start(2)]);
            if !after {
                partition.write([signalled(2, 1, event)]);
            }
            partition.write([record(9, carried(0, 1, [start(1), signalled(1, 1, 77)]))]);
            partition.write([needs_from(2)]);
            if after {
                partition.write([signalled(2, 1, event)]);
            }
            partition.entries.drain(..2);
            expect(partition, kinds);
        }
    }
}

#[test]
fn an_event_that_took_effect_in_a_trimmed_frame_is_known_where_it_is_remembered() {
    let signalled =
        |event| record(1, body("signalled", [("name", "go".into()), ("value", payload())])).set("event", id(event));
    let trimmed = |last: Record| {
        let mut partition = Partition::default();
        partition.write([]);
        partition.write([start(1)]);
        partition.write([remembered([77], [5])]);
        partition.write([needs_from(1)]);
        partition.write([last]);
        partition.entries.drain(..1);
        partition
    };
    expect(trimmed(signalled(78)), &[]);
    expect(trimmed(signalled(77)), &[Kind::EventTwice]);
    expect(trimmed(received(1, 77, 1, bare("resume"))), &[Kind::EventTwice]);
    expect(trimmed(start(6)), &[]);
    expect(trimmed(start(5)), &[Kind::EventTwice]);
}

#[test]
fn what_was_received_and_remembered_may_still_be_applied() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.write([received(1, 77, 1, bare("resume"))]);
    partition.write([remembered([77], [])]);
    partition.write([received(2, 77, 2, bare("resume"))]);
    partition.write([applied(3, 77)]);
    expect(partition, &[]);
}

#[test]
fn a_run_that_is_remembered_as_ended_has_ended() {
    let mut partition = Partition::default();
    partition.write([start(1), start(2)]);
    partition.write([record(1, bare("timed_out")).closes("timed_out")]);
    partition.write([remembered([], [1, 2])]);
    expect(partition, &[Kind::Carried]);
}

#[test]
fn what_is_trimmed_beyond_what_was_carried_is_seen() {
    let mut partition = carrying("checkout");
    partition.entries.drain(..3);
    expect(partition, &[Kind::Carried]);
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.write([needs_from(1)]);
    expect(partition, &[Kind::Carried]);
    // An open run of which nothing is left but a record in its midst.
    let mut partition = Partition::default();
    partition.write([start(1).asks([mark(0, "activity")])]);
    partition.write([record(1, settled(0))]);
    partition.write([]);
    partition.write([needs_from(1)]);
    partition.entries.drain(..1);
    expect(partition, &[Kind::Carried]);
}

#[test]
fn a_frame_in_the_partition_of_another_shard_is_seen() {
    let mut partition = Partition::default();
    partition.stand(&partition.next([start(1)]).set("shard", 3));
    expect(partition, &[Kind::Shard]);
}

#[test]
fn a_run_in_the_partition_of_another_shard_is_seen() {
    // XXH3 of "order-42" is 572 modulo 1024.
    let here = |shards: usize, shard: usize| {
        let mut partition = Partition::default();
        let first = partition.next([start(42)]).set("config", config(shards as u32)).set("shard", shard as u32);
        partition.stand(&first);
        let mut partitions = vec![Vec::new(); shards];
        partitions[shard] = partition.entries;
        check_partitions(&partitions, &Rules::default()).violations.iter().map(|found| found.kind).collect::<Vec<_>>()
    };
    assert_eq!(here(1024, 572), []);
    assert_eq!(here(1024, 571), [Kind::Shard]);
}

#[test]
fn what_the_application_fixed_must_be_said_and_match() {
    let mut partition = Partition::default();
    partition.stand(&partition.next([]).set("config", rmpv::Value::Nil));
    expect(partition, &[Kind::Config]);
    let mut partition = Partition::default();
    partition.stand(&partition.next([]).set("config", config(4)));
    expect(partition, &[Kind::Config]);
}

#[test]
fn recorded_time_that_goes_back_is_seen() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.stand(&partition.next([]).set("at", 999));
    expect(partition, &[Kind::Time]);
    let mut partition = Partition::default();
    partition.write([start(1), start(2).set("at", 999)]);
    expect(partition, &[Kind::Time]);
    let mut partition = Partition::default();
    partition.write([start(1).set("at", 1_001)]);
    expect(partition, &[Kind::Time]);
}

#[test]
fn a_wake_up_of_another_shard_or_too_far_ahead_is_seen() {
    for (shard, due, kinds) in
        [(0, 1_000_u64 + 3_600_000, &[][..]), (1, 1_000, &[Kind::Wake]), (0, 3_602_000, &[Kind::Wake])]
    {
        let mut partition = Partition::default();
        let wake = map([("shard", shard.into()), ("number", 1.into()), ("due", due.into())]);
        partition.stand(&partition.next([]).set("wake", wake));
        expect(partition, kinds);
    }
}

#[test]
fn commands_marked_as_sent_before_their_frame_was_verified_are_seen() {
    let mut partition = Partition::default();
    partition.write([start(1)]);
    partition.stand(&partition.next([]).set("sent_below", 1));
    partition.stand(&partition.next([]).set("sent_below", 3));
    expect(partition, &[Kind::SentEarly]);
}

#[test]
fn a_gap_or_a_repetition_in_a_run_is_seen() {
    expect_of([start(1), record(2, bare("resumed"))], &[Kind::Sequence]);
    expect_of([start(1), record(0, bare("resumed")).set("event", id(9))], &[Kind::Sequence]);
}

#[test]
fn a_run_that_does_not_begin_with_a_start_is_seen() {
    expect_of([record(0, bare("resumed"))], &[Kind::Start]);
    expect_of([start(1), record(1, started("checkout")).set("event", id(7))], &[Kind::Start, Kind::RunId]);
}

#[test]
fn a_run_id_that_is_not_its_starts_is_seen() {
    expect_of([start(1).set("event", id(2))], &[Kind::RunId]);
    expect_of([start(1), record(1, bare("resumed")).set("workflow_id", "another")], &[Kind::RunId]);
}

#[test]
fn a_second_open_run_of_an_id_is_seen() {
    let second = || start(2).set("workflow_id", "order-1");
    expect_of([start(1), second()], &[Kind::OpenTwice]);
    expect_of([start(1).closes("failed"), second()], &[]);
}

#[test]
fn an_event_that_takes_effect_twice_is_seen() {
    let signal = |seq| Record::new(1, seq, 50, body("signalled", [("name", "go".into()), ("value", payload())]));
    let report = expect_of([start(1), signal(1), signal(2)], &[Kind::EventTwice]);
    assert!(report.violations[0].message.contains("took effect before, at 7:1 in frame 1"), "{report}");
}

/// An input that was taken in, but not applied.
fn received(seq: u32, event: u128, attempt: u32, kind: rmpv::Value) -> Record {
    let event_value =
        map([("id", id(event)), ("workflow_id", "order-1".into()), ("sent_at", 0.into()), ("body", kind)]);
    Record::new(1, seq, event, body("received", [("event", event_value), ("attempt", attempt.into())]))
}

fn applied(seq: u32, event: u128) -> Record {
    Record::new(1, seq, event, body("applied", [("event", id(event))]))
}

#[test]
fn inputs_may_be_received_again_and_again_but_applied_once() {
    let start_event = || body("start", [("workflow", "checkout".into()), ("args", payload())]);
    let settled_event = || body("activity_settled", [("step", 0.into()), ("attempt", 1.into()), ("outcome", done())]);
    let on_trial = [
        received(0, 1, 1, start_event()),
        received(1, 1, 2, start_event()),
        applied(2, 1).asks([mark(0, "activity")]),
        received(3, 60, 0, settled_event()),
        applied(4, 60).closes("completed"),
    ];
    let report = expect_of(on_trial.clone(), &[]);
    assert_eq!(report.runs[0].commands[0].settled, Some(true));
    let [first, _, third, fourth, _] = on_trial;
    let again = received(1, 1, 1, start_event());
    expect_of([first.clone(), again, third.clone().set("seq", 2)], &[Kind::Received]);
    let applied_twice = [first.clone(), third.clone().set("seq", 1), applied(2, 1)];
    expect_of(applied_twice, &[Kind::EventTwice, Kind::Received]);
    let received_late = [first, third.set("seq", 1), received(2, 1, 3, start_event())];
    expect_of(received_late, &[Kind::EventTwice]);
    expect_of([start(1), fourth.set("seq", 1), applied(2, 61)], &[Kind::Received]);
}

#[test]
fn a_step_that_is_scheduled_twice_is_seen() {
    let again = record(1, bare("resumed")).asks([mark(0, "activity")]);
    expect_of([start(1).asks([mark(0, "activity")]), again], &[Kind::ScheduledTwice]);
    expect_of([start(1).asks([mark(0, "activity"), timer(2, 0)])], &[Kind::CommandGap]);
    expect_of([start(1).asks([mark(0, "timer")])], &[Kind::CommandGap]);
}

#[test]
fn a_step_that_is_settled_twice_is_seen() {
    let again = record(2, settled(0));
    expect_of([start(1).asks([mark(0, "activity")]), record(1, settled(0)), again], &[Kind::SettledTwice]);
    let fired_twice = [start(1).asks([timer(0, 5)]), record(1, fired(0)), record(2, fired(0))];
    expect_of(fired_twice, &[Kind::SettledTwice]);
}

#[test]
fn what_was_never_scheduled_cannot_end() {
    expect_of([start(1), record(1, settled(0))], &[Kind::Unscheduled]);
    expect_of([start(1), record(1, settled(0)).asks([mark(0, "activity")])], &[Kind::Unscheduled]);
    expect_of([start(1).asks([mark(0, "step")]), record(1, settled(0))], &[Kind::Unscheduled]);
    expect_of([start(1).asks([mark(0, "cancel")])], &[Kind::Unscheduled]);
    let failed = body("attempt_failed", [("step", 3.into()), ("attempt", 1.into())]);
    expect_of([start(1), record(1, failed)], &[Kind::Unscheduled]);
}

#[test]
fn a_timer_that_fires_before_it_is_due_is_seen() {
    expect_of([start(1).asks([timer(0, 1_001)]), record(1, fired(0))], &[Kind::TimerEarly]);
    expect_of([start(1).asks([timer(0, 1_000)]), record(1, fired(0))], &[]);
}

#[test]
fn an_attempt_that_is_given_up_too_early_is_seen() {
    // Of step 0, its first attempt, each at its time.
    type Told = (u64, rmpv::Value);
    let of = |kind, name, more| body(kind, [("step", 0.into()), ("attempt", 1.into()), (name, more)]);
    let left = |running: bool| {
        let task = map([("options", map([("heartbeat_ms", 1_500.into())]))]);
        let (step, until, running) = (("step", 0.into()), ("until", 20_000.into()), ("running", running.into()));
        (1_000, body("attempt_left", [step, ("attempt", 1.into()), ("task", task), until, running]))
    };
    let beat = |at| (at, of("attempt_reported", "report", map([("beat", map([]))])));
    let failed = |at| (at, of("attempt_failed", "failure", map([])));
    let overdue = |at| (at, of("attempt_overdue", "failure", map([])));
    let early = |told: Vec<Told>| {
        let mut partition = Partition::default();
        partition.write([start(1).asks([mark(0, "activity")])]);
        for (seq, (at, body)) in (1..).zip(told) {
            partition.stand(&partition.next([record(seq, body).set("at", at)]).set("at", at));
        }
        let kinds: Vec<Kind> = judge(partition).violations.iter().map(|violation| violation.kind).collect();
        assert!(kinds.iter().all(|kind| *kind == Kind::Overdue), "{kinds:?}");
        kinds.len()
    };
    assert_eq!([early(vec![left(false), overdue(2_499)]), early(vec![left(false), overdue(2_500)])], [1, 0]);
    assert_eq!([early(vec![left(true), overdue(7_499)]), early(vec![left(true), overdue(7_500)])], [1, 0]);
    let told = |at, end| early(vec![left(true), beat(at), overdue(end)]);
    assert_eq!([told(3_000, 9_499), told(3_000, 9_500), told(19_000, 19_999), told(19_000, 20_000)], [1, 0, 1, 0]);
    assert_eq!(early(vec![overdue(90_000)]), 1, "it was never left");
    assert_eq!(early(vec![left(true), failed(2_000), overdue(90_000)]), 1, "it is kept no more");
}

#[test]
fn a_cancellation_of_what_has_ended_is_seen() {
    let cancel = |seq| record(seq, bare("resumed")).asks([mark(0, "cancel")]);
    let asked = || start(1).asks([mark(0, "activity")]);
    expect_of([asked(), record(1, settled(0)), cancel(2)], &[Kind::Cancel]);
    expect_of([asked(), cancel(1), cancel(2)], &[Kind::Cancel]);
    expect_of([asked(), cancel(1), record(2, settled(0))], &[]);
}

#[test]
fn nothing_follows_a_runs_end() {
    expect_of([start(1).closes("completed"), record(1, bare("resumed"))], &[Kind::AfterClose]);
}

#[test]
fn an_end_must_be_one() {
    expect_of([start(1).closes("exploded")], &[Kind::Close]);
    let terminated = || record(1, body("terminated", [("reason", "why".into())]));
    expect_of([start(1), terminated()], &[Kind::Close]);
    expect_of([start(1), terminated().closes("terminated")], &[]);
    expect_of([start(1), record(1, bare("timed_out"))], &[Kind::Close]);
}

#[test]
fn steps_of_an_ordered_workflow_settle_in_order() {
    let history = || {
        let mut partition = Partition::default();
        partition.write([start(1).asks([mark(0, "activity"), mark(1, "activity")])]);
        partition.write([record(1, settled(1))]);
        partition
    };
    expect(history(), &[]);
    let rules = Rules { ordered_workflows: vec!["checkout".to_owned()], ..Rules::default() };
    let report = check_partitions(&[history().entries], &rules);
    assert_eq!(report.violations.len(), 1);
    assert_eq!(
        report.violations[0].message,
        "activity 1 `charge` is settled before activity 0 `charge`, which was scheduled first"
    );
}

#[test]
fn parked_runs_are_counted_until_they_go_on() {
    let reason = map([("kind", "diverged".into()), ("message", "at command 7".into())]);
    let parked = || record(1, body("parked", [("reason", reason.clone())]));
    let report = expect_of([start(1), parked()], &[]);
    assert_eq!(report.counts().parked, 1);
    assert!(report.to_string().contains("parked: diverged: at command 7"), "{report}");
    assert_eq!(expect_of([start(1), parked(), record(2, bare("resumed"))], &[]).counts().parked, 0);
}

#[test]
fn the_ledger_is_compared_with_history() {
    let key = |run: u128, step: u32| format!("order-{run}/00000000-0000-0000-0000-{run:012}/{step}");
    let line = |key: &str, attempt: u32| {
        format!(r#"{{"key":"{key}","workflow_id":"w","step":0,"attempt":{attempt},"at_ms":1}}"#)
    };
    let two = || [mark(0, "activity"), mark(1, "activity")];
    let mut report = expect_of([start(1).asks(two()), record(1, settled(0)), record(2, settled(1))], &[]);
    let ledger =
        [line(&key(1, 0), 1), line(&key(1, 0), 2), line(&key(1, 0), 2), line(&key(9, 0), 1), "{".to_owned()].join("\n");
    report.judge_effects(&ledger);
    let effects = report.effects.clone().expect("it was judged");
    assert_eq!((effects.lines, effects.keys), (4, 2));
    assert_eq!(effects.executed_more_than_once.len(), 1);
    assert_eq!(effects.executed_more_than_once[0].attempts, [1, 2, 2]);
    assert!(effects.executed_more_than_once[0].repeats_an_attempt());
    assert_eq!(effects.never_executed, [key(1, 1)]);
    assert_eq!(effects.without_cause, [key(9, 0)]);
    let kinds: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [Kind::Ledger, Kind::EffectWithoutCause, Kind::NeverExecuted]);
    assert_eq!(report.to_json(true)["runs"][0]["workflow_id"], "order-1");
}

/// The child that command 0 of run 1 begins, as the rule says.
fn child() -> u128 {
    asked_first("child")
}

fn parent() -> rmpv::Value {
    map([("workflow_id", "order-1".into()), ("run_id", id(1)), ("step", 0.into())])
}

fn spawned() -> Record {
    let start = map([("workflow", "ship".into()), ("args", payload())]);
    let body = body("spawned", [("start", start), ("version", 1.into()), ("parent", parent())]);
    Record::new(child(), 0, child(), body).set("workflow_id", "tea")
}

fn never_began(event: u128) -> Record {
    let body = body("never_began", [("workflow", "ship".into()), ("parent", parent())]);
    Record::new(child(), 0, event, body).set("workflow_id", "tea").closes("failed")
}

fn of_child(seq: u32, body: rmpv::Value) -> Record {
    Record::new(child(), seq, 200 + u128::from(seq), body).set("workflow_id", "tea")
}

fn asks_for_child(on_close: &str) -> rmpv::Value {
    let target = map([("workflow_id", "tea".into()), ("run_id", id(child())), ("on_close", on_close.into())]);
    map([("no", 0.into()), ("kind", "child".into()), ("name", "ship".into()), ("target", target)])
}

fn child_closed(seq: u32, status: &str, never_began: bool) -> Record {
    let close = map([("status", status.into()), ("outcome", done())]);
    record(seq, body("child_closed", [("step", 0.into()), ("close", close), ("never_began", never_began.into())]))
}

#[track_caller]
fn at_rest<const N: usize>(records: [Record; N], kinds: &[Kind]) {
    let mut partition = Partition::default();
    for record in records {
        partition.write([record]);
    }
    let rules = Rules { at_rest: true, ..Rules::default() };
    let report = check_partitions(&[partition.entries], &rules);
    let found: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, kinds, "{report}");
}

#[test]
fn a_parent_and_its_child_know_of_each_other_what_is_so() {
    let asks = || start(1).asks([asks_for_child("terminate")]);
    let ends = || of_child(1, bare("resumed")).closes("completed");
    at_rest([asks(), spawned(), ends(), child_closed(1, "completed", false)], &[]);
    at_rest([asks(), spawned(), ends(), child_closed(1, "failed", false)], &[Kind::Family]);
    at_rest([asks(), spawned(), ends(), child_closed(1, "completed", true)], &[Kind::Family]);
    at_rest([asks(), spawned(), ends()], &[Kind::Family]);
    at_rest([asks(), spawned(), child_closed(1, "completed", false)], &[Kind::Family]);
    at_rest([asks()], &[Kind::Family]);
    at_rest([spawned(), ends()], &[Kind::Family]);
    at_rest([start(1), spawned(), ends()], &[Kind::Family]);
    at_rest(
        [asks(), spawned(), ends(), child_closed(1, "completed", false), child_closed(2, "completed", false)],
        &[Kind::SettledTwice],
    );
    at_rest([asks(), never_began(300), child_closed(1, "failed", true)], &[]);
}

#[test]
fn a_child_that_never_began_does_not_take_its_id() {
    let asks = || start(1).asks([asks_for_child("abandon")]);
    let other = || Record::new(9, 0, 9, started("ship")).set("workflow_id", "tea");
    at_rest([other(), asks(), never_began(300), child_closed(1, "failed", true)], &[]);
    at_rest([other(), asks(), spawned()], &[Kind::OpenTwice]);
}

#[test]
fn no_child_is_left_against_what_was_agreed() {
    let ends = || record(1, bare("terminated")).closes("terminated");
    let asks = |on_close| start(1).asks([asks_for_child(on_close)]);
    at_rest([asks("terminate"), spawned(), ends()], &[Kind::Family]);
    at_rest([asks("terminate"), spawned(), ends(), of_child(1, bare("terminated")).closes("terminated")], &[]);
    at_rest([asks("request_cancel"), spawned(), ends()], &[Kind::Family]);
    let asked = || of_child(1, body("cancel_requested", [("reason", "".into())]));
    at_rest([asks("request_cancel"), spawned(), ends(), asked()], &[]);
    at_rest([asks("abandon"), spawned(), ends()], &[]);
    let detaches = || record(1, bare("resumed")).asks([mark(0, "detach")]);
    at_rest([asks("terminate"), spawned(), detaches(), record(2, bare("terminated")).closes("terminated")], &[]);
    let drops = || record(1, bare("resumed")).asks([mark(0, "cancel")]);
    at_rest([asks("abandon"), spawned(), drops()], &[Kind::Family]);
    at_rest([asks("abandon"), spawned(), drops(), asked()], &[]);
}

/// The event by which command 0 of run 1 ends another run, as the rule says.
fn termination() -> u128 {
    asked_first("terminate")
}

#[test]
fn who_hears_that_it_ended_another_run_did_so() {
    let target = map([("workflow_id", "order-2".into())]);
    let ends = map([("no", 0.into()), ("kind", "terminate_run".into()), ("name", "".into()), ("target", target)]);
    let asks = || start(1).asks([ends.clone()]);
    let told = |outcome| record(1, body("delivered", [("step", 0.into()), ("outcome", outcome)]));
    let end_by = |event| Record::new(2, 1, event, bare("terminated")).closes("terminated");
    at_rest([asks(), start(2), end_by(termination()), told(done())], &[]);
    at_rest([asks(), start(2), told(done())], &[Kind::Family]);
    at_rest([asks(), start(2), end_by(300), told(done())], &[Kind::Family]);
    // Nobody was there.
    let failure = map([("kind", "not_found".into()), ("message", "it has ended".into())]);
    at_rest([asks(), start(2), end_by(300), told(map([("failed", failure)]))], &[]);
    // A release that does not know all of the run keeps it for one that does.
    let demand = map([("terminate", map([("reason", "".into())]))]);
    let caller =
        map([("workflow_id", "order-1".into()), ("run_id", id(1)), ("step", 0.into()), ("kind", "awaits".into())]);
    let event = map([("id", id(termination())), ("body", body("demanded", [("caller", caller), ("demand", demand)]))]);
    let kept = body("received", [("event", event), ("attempt", 0.into())]);
    at_rest([asks(), start(2), Record::new(2, 1, termination(), kept), told(done())], &[]);
    // As anything else it is answered once.
    at_rest(
        [
            asks(),
            start(2),
            end_by(termination()),
            told(done()),
            record(2, body("delivered", [("step", 0.into()), ("outcome", done())])),
        ],
        &[Kind::SettledTwice],
    );
}

#[test]
fn what_is_asked_for_and_taken_back_by_one_record_is_not_begun() {
    at_rest([start(1).asks([asks_for_child("terminate"), mark(0, "cancel")])], &[]);
    at_rest([start(1).asks([asks_for_child("terminate")]).closes("completed")], &[]);
    at_rest([start(1).asks([asks_for_child("terminate"), mark(0, "cancel")]), spawned()], &[Kind::Family]);
}

/// Two frames with every kind of record, as the first release encodes them: hexadecimal, a blank line between.
#[test]
fn frames_as_the_first_release_wrote_them_are_read() {
    let mut partition = Partition::default();
    for frame in include_str!("golden.hex").split_terminator("\n\n") {
        let digits: Vec<u8> = frame.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
        partition.append(digits.chunks(2).map(pair).collect());
    }
    let report = expect(partition, &[]);
    assert_eq!((report.shards[0].standing, report.shards[0].records), (2, 16));
    let run = &report.runs[0];
    assert_eq!((run.records, run.workflow.as_str(), run.status), (15, "checkout", Status::TimedOut));
    let settled: Vec<_> = run.commands.iter().map(|command| (command.settled, command.cancelled)).collect();
    assert_eq!(settled, [(Some(true), false), (Some(true), false), (Some(false), false), (None, true)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_judged_without_a_panic(
        partitions in proptest::collection::vec(
            proptest::collection::vec((0_u64..9, 0_u64..9, proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
            0..4,
        ),
    ) {
        let entry = |(ledger, entry, bytes)| (everpulse_checker::Position { ledger, entry }, bytes);
        let partitions: Vec<Vec<Entry>> = partitions.into_iter().map(|entries| entries.into_iter().map(entry).collect()).collect();
        let report = check_partitions(&partitions, &Rules::default());
        prop_assert_eq!(report.shards.len(), partitions.len());
    }

    #[test]
    fn damaged_frames_are_judged_without_a_panic(flips in proptest::collection::vec((0_usize..4, any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut partition = Partition::default();
        partition.write([start(1).asks([mark(0, "activity"), timer(1, 1_000)])]);
        partition.write([record(1, settled(0)), received(2, 60, 1, bare("resume"))]);
        partition.write([applied(3, 60).asks([mark(1, "cancel")])]);
        partition.write([record(4, bare("timed_out")).closes("timed_out")]);
        for (entry, at, byte) in flips {
            let bytes = &mut partition.entries[entry].1;
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let report = judge(partition);
        prop_assert_eq!(report.shards[0].entries, 4);
        let _ = report.to_string();
    }
}
