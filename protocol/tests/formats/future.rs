//! Bytes of a release that does not exist: kinds, fields, forms and a format version that nobody knows here. A release that
//! reads them must neither take them for what they are not, nor for nothing.

use bytes::Bytes;
use everpulse_protocol::chain::{Chain, Offered, Opened, Opening, Stood, Unknown};
use everpulse_protocol::codec::{Body, VERSION};
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::{CloseStatus, CommandKind, Frame, Hash, Record, RecordBody, Verified};
use everpulse_protocol::shard;
use everpulse_protocol::{DecodeError, EventId, Position, RunId, Timestamp, decode, encode};
use rmpv::Value;

use crate::{samples, values};

fn at(entry: u64) -> Position {
    Position { ledger: 1, entry }
}

/// A frame that follows on another one's bytes.
fn next(number: u64, before: Option<&[u8]>) -> Frame {
    let verified = number.checked_sub(1).map(|number| Verified { number, position: at(number) });
    Frame { number, previous: before.map_or(Hash::GENESIS, Hash::of), verified, ..samples::frame() }
}

/// The frame's bytes after something in it was changed that this release cannot write.
fn rewritten(frame: &Frame, change: impl FnOnce(&mut Value)) -> Bytes {
    let mut values = values(&encode(frame));
    change(values.last_mut().expect("the frame"));
    let mut bytes = vec![VERSION];
    for value in values {
        rmpv::encode::write_value(&mut bytes, &value).expect("memory takes it");
    }
    bytes.into()
}

fn field<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    let Value::Map(fields) = value else { panic!("no map") };
    if !fields.iter().any(|(key, _)| key.as_str() == Some(name)) {
        fields.push((name.into(), Value::Nil));
    }
    let found = fields.iter_mut().find(|(key, _)| key.as_str() == Some(name));
    &mut found.expect("it is there").1
}

fn first(value: &mut Value) -> &mut Value {
    match value {
        Value::Array(values) => values.first_mut().expect("it has one"),
        other => panic!("no list: {other}"),
    }
}

fn first_record(frame: &mut Value) -> &mut Value {
    first(field(frame, "records"))
}

/// A chain that ends with frame 0, and the bytes of that frame.
fn begun() -> (Chain, Bytes) {
    let (mut chain, zero) = (Chain::new(), encode(&next(0, None)));
    assert!(matches!(chain.offer(at(0), &zero), Offered::Stands(_)));
    (chain, zero)
}

#[test]
fn a_frame_with_kinds_that_are_not_known_stands_and_is_written_again_as_it_came() {
    let (mut chain, zero) = begun();
    let bytes = rewritten(&next(1, Some(&zero)), |frame| {
        let record = first_record(frame);
        *field(first(field(record, "commands")), "kind") = "lease".into();
        *field(field(record, "close"), "status") = "continued".into();
        *field(record, "body") = Value::Binary(b"\x01\x81\xa7renewed\x80".to_vec());
    });
    let Offered::Stands(frame) = chain.offer(at(1), &bytes) else { panic!("it stands") };
    assert_eq!(chain.next_number(), 2);
    let record = &frame.records[0];
    let CommandKind::Unknown(kind) = record.commands[0].kind else { panic!("{:?}", record.commands[0]) };
    assert_eq!((kind.as_str(), record.commands[0].no, record.commands[0].kind.is_work()), ("lease", 0, false));
    let CloseStatus::Unknown(status) = record.close.as_ref().expect("it ended").status else { panic!("{record:?}") };
    assert_eq!(status.as_str(), "continued");
    assert_eq!(
        record.body().expect_err("nobody knows it").to_string(),
        "record kind `renewed` is not known to this release"
    );
    assert_eq!(encode(&frame), bytes);
    assert!(!frame.passes_over(&bytes), "all of it is kept");
}

#[test]
fn what_is_not_known_of_a_record_is_named() {
    let mut record = samples::frame().records.remove(0);
    assert_eq!(record.unknown(), None);
    let bytes = rewritten(&samples::frame(), |frame| {
        *field(first(field(first_record(frame), "commands")), "kind") = "lease".into();
    });
    let frame: Frame = decode(&bytes).expect("it reads");
    let named = frame.records[0].unknown().expect("there is something");
    let expected = "record 6 of workflow order-42: command kind `lease`, of number 0, is not known to this release";
    assert_eq!(named, expected);
    record.body = Body(Bytes::from_static(b"\x02\x81\xa7resumed\x80"));
    assert_eq!(
        record.unknown().expect("there is something"),
        format!("record 6 of workflow order-42: a record of format version 2; this release reads {VERSION}")
    );
}

#[test]
fn a_name_that_is_no_name_of_a_kind_seals_its_frame() {
    let (chain, zero) = begun();
    for kind in [Value::from("x".repeat(24)), Value::Map(vec![("lease".into(), 3.into())]), Value::Nil] {
        let bytes = rewritten(&next(1, Some(&zero)), |frame| {
            *field(first(field(first_record(frame), "commands")), "kind") = kind;
        });
        let mut chain = chain.clone();
        assert!(matches!(chain.offer(at(1), &bytes), Offered::Unknown(Unknown { number: 1, .. })));
    }
}

#[test]
fn a_frame_that_cannot_be_read_stands_by_its_envelope_and_nobody_goes_on_behind_it() {
    type Change = fn(&mut Value);
    let changes: [Change; 5] = [
        |frame| *field(frame, "records") = "none of them".into(),
        |frame| *field(frame, "wake") = Value::Array(vec![1.into(), 2.into()]),
        |frame| {
            *first(field(frame, "queues")) = Value::Map(vec![("inbox".into(), 3.into()), ("position".into(), 4.into())])
        },
        |frame| *field(first_record(frame), "run_id") = 7.into(),
        |frame| *field(frame, "at") = "noon".into(),
    ];
    for change in changes {
        let (mut chain, zero) = begun();
        let bytes = rewritten(&next(1, Some(&zero)), change);
        assert!(decode::<Frame>(&bytes).is_err(), "nobody can read it here");
        let Offered::Unknown(unknown) = chain.offer(at(1), &bytes) else { panic!("it stands, and is not known") };
        let message = unknown.to_string();
        assert!(
            message.starts_with("frame 1 at 1:1 stands, and is one that this release does not know (a history that"),
            "{message}"
        );
        assert!(message.ends_with("run the release that wrote it, or a later one"), "{message}");
        assert_eq!(
            (chain.next_number(), chain.read_to()),
            (1, Some(at(0))),
            "nothing may be appended as if it were not there"
        );
        // The same frame where another one is in its place.
        let mut rivalled = chain.clone();
        assert!(matches!(rivalled.offer(at(1), &encode(&next(1, Some(&zero)))), Offered::Stands(_)));
        assert!(matches!(rivalled.offer(at(2), &bytes), Offered::Unreadable(_)), "it is void, whatever it says");
        assert_eq!(rivalled.read_to(), Some(at(2)));
    }
}

fn of_version(version: u8, bytes: &[u8]) -> Bytes {
    [&[version], &bytes[1..]].concat().into()
}

#[test]
fn a_frame_of_a_later_format_version_is_placed_by_its_envelope_if_it_has_one() {
    let (mut chain, zero) = begun();
    let two = of_version(2, &encode(&next(1, Some(&zero))));
    let Offered::Unknown(unknown) = chain.clone().offer(at(1), &two) else { panic!("it stands") };
    assert!(matches!(&unknown, Unknown { number: 1, reason: DecodeError::Version { found: 2, .. }, .. }), "{unknown}");
    assert!(matches!(chain.offer(at(1), &encode(&next(1, Some(&zero)))), Offered::Stands(_)));
    assert!(matches!(chain.offer(at(2), &two), Offered::Unreadable(_)), "another one was the first");
}

/// Frames whose place every release reads alike, whether it knows what they say or not: number, whom they name.
#[test]
fn what_is_around_the_envelope_makes_no_difference_to_where_a_frame_belongs() {
    let (chain, zero) = begun();
    let whole = encode(&next(1, Some(&zero)));
    let behind = |bytes: &[u8]| Bytes::from([bytes, b"\xc0more"].concat());
    // Deeper than any release reads values.
    let deep = |frame: &mut Value| {
        let mut value = Value::Nil;
        for _ in 0..400 {
            value = Value::Array(vec![value]);
        }
        *field(frame, "of_a_later_release") = value;
    };
    let unread = rewritten(&next(1, Some(&zero)), |frame| *field(frame, "records") = "none of them".into());
    let reordered = rewritten(&next(1, Some(&zero)), |frame| {
        let Value::Map(fields) = frame else { panic!("no map") };
        fields.reverse();
    });
    let deep = rewritten(&next(1, Some(&zero)), deep);
    // The same name, with its length in another form.
    let name = whole.windows(7).position(|window| window == b"\xa6number").expect("it is there");
    let long = Bytes::from([&whole[..name], b"\xd9\x06", &whole[name + 1..]].concat());
    let known = [whole.clone(), behind(&whole), reordered, long];
    let sealed = [of_version(2, &whole), of_version(2, &behind(&whole)), of_version(255, &deep), unread.clone()];
    let sealed = sealed.into_iter().chain([behind(&unread), deep]);
    for (bytes, is_known) in known.into_iter().map(|bytes| (bytes, true)).chain(sealed.map(|bytes| (bytes, false))) {
        let (mut first, mut second) = (chain.clone(), chain.clone());
        match first.offer(at(1), &bytes) {
            Offered::Stands(frame) => assert!(is_known && frame.number == 1),
            Offered::Unknown(unknown) => assert!(!is_known && unknown.number == 1, "{unknown}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(second.offer(at(1), &whole), Offered::Stands(_)));
        match second.offer(at(2), &bytes) {
            Offered::Void(_) => assert!(is_known),
            Offered::Unreadable(_) => assert!(!is_known),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bytes_without_an_envelope_are_no_frame_of_any_release() {
    let (chain, zero) = begun();
    let frame = next(1, Some(&zero));
    let twice = |name: &'static str| {
        move |frame: &mut Value| {
            let said = field(frame, name).clone();
            let Value::Map(fields) = frame else { panic!("no map") };
            fields.push((name.into(), said));
        }
    };
    let without = |name: &'static str| {
        move |frame: &mut Value| {
            let Value::Map(fields) = frame else { panic!("no map") };
            fields.retain(|(key, _)| key.as_str() != Some(name));
        }
    };
    let unnamed = |frame: &mut Value| {
        let Value::Map(fields) = frame else { panic!("no map") };
        *frame = Value::Array(fields.drain(..).map(|(_, value)| value).collect());
    };
    let bytes = [
        rewritten(&frame, unnamed),
        rewritten(&frame, |frame| *frame = Value::Nil),
        rewritten(&frame, without("number")),
        rewritten(&frame, without("previous")),
        rewritten(&frame, twice("number")),
        rewritten(&frame, twice("verified")),
        rewritten(&frame, |frame| *field(frame, "number") = "one".into()),
        rewritten(&frame, |frame| *field(frame, "previous") = Value::Binary(vec![7; 31])),
        rewritten(&frame, |frame| *field(frame, "verified") = "all".into()),
        encode(&frame).slice(..encode(&frame).len() - 1),
        Bytes::from_static(b"\x01\xa7history"),
    ];
    for bytes in bytes {
        for version in [VERSION, 2, 9] {
            let mut chain = chain.clone();
            let bytes = of_version(version, &bytes);
            assert!(matches!(chain.offer(at(1), &bytes), Offered::Unreadable(_)), "{bytes:?}");
            assert_eq!((chain.next_number(), chain.read_to()), (1, Some(at(1))), "nobody is stopped by it");
        }
    }
}

#[test]
fn bytes_that_are_not_ours_are_no_frame_whatever_they_begin_with() {
    let (chain, zero) = begun();
    let whole = encode(&next(1, Some(&zero)));
    let without_envelope = rewritten(&next(1, Some(&zero)), |frame| *field(frame, "previous") = "before".into());
    let of_tasks = [&[9][..], b"\xa5tasks\x80"].concat();
    let cut_off = of_version(VERSION, &whole[..whole.len() - 1]);
    let too_long = Bytes::from([&whole[..], b"\xc0"].concat());
    let older = of_version(0, &whole);
    for bytes in [&b"hello"[..], b"", b"\x02", b"\xff\xa7histori", &of_tasks, &cut_off, &without_envelope, &older] {
        let mut chain = chain.clone();
        assert!(matches!(chain.offer(at(1), bytes), Offered::Unreadable(_)), "{bytes:?}");
        assert_eq!((chain.next_number(), chain.read_to()), (1, Some(at(1))));
    }
    // As ever.
    assert!(matches!(chain.clone().offer(at(1), &too_long), Offered::Stands(_)));
}

/// Reads entries from the earliest on; gives the numbers of those that stand.
fn open(entries: &[(Position, Bytes)]) -> Result<Vec<u64>, Unknown> {
    let (mut opening, mut numbers) = (Opening::new(), Vec::new());
    let mut take = |opened| match opened {
        Opened::Standing(stood) => {
            numbers.extend(stood.into_iter().map(|Stood { frame, .. }| frame.number));
            Ok(())
        }
        Opened::Unknown(unknown) => Err(unknown),
        hole => panic!("{hole:?}"),
    };
    for (position, payload) in entries {
        take(opening.offer(*position, payload.clone()))?;
    }
    take(opening.end())?;
    Ok(numbers)
}

/// Frames 5 to 8, of which a reader finds no beginning; one of them is another one than this release would write.
fn trimmed(number: u64, change: impl Fn(&Frame) -> Bytes) -> Vec<(Position, Bytes)> {
    let mut before: Option<Bytes> = None;
    let written = (5..=8).map(|n| {
        let frame =
            Frame { previous: before.as_ref().map_or(Hash([9; 32]), |before| Hash::of(before)), ..next(n, None) };
        let bytes = if n == number { change(&frame) } else { encode(&frame) };
        before = Some(bytes.clone());
        (at(n), bytes)
    });
    written.collect()
}

#[test]
fn where_the_beginning_is_trimmed_hashes_tell_what_stands_whatever_it_says() {
    let sealed = |frame: &Frame| of_version(2, &encode(frame));
    let strange = |frame: &Frame| of_version(2, &rewritten(frame, |frame| *frame = Value::Nil));
    assert_eq!(open(&trimmed(0, encode)), Ok(vec![5, 6, 7, 8]));
    for number in 5..=8 {
        let unknown = open(&trimmed(number, sealed)).expect_err("nobody knows it here");
        assert!(matches!(unknown, Unknown { number: found, .. } if found == number), "{number}: {unknown}");
    }
    // What has no envelope is on no chain, wherever it lies.
    for before in 4..=8 {
        let mut entries = trimmed(0, encode);
        let place = entries.iter().position(|(position, _)| *position > at(before)).unwrap_or(entries.len());
        entries.insert(place, (Position { ledger: 1, entry: before }, strange(&next(5, None))));
        assert_eq!(open(&entries), Ok(vec![5, 6, 7, 8]));
    }
    assert_eq!(open(&[(at(4), strange(&next(5, None)))]), Ok(vec![]));
}

#[test]
fn what_is_passed_over_and_would_be_lost_in_what_is_carried_is_noticed() {
    type Change = fn(&mut Value);
    let more: Change = |value| *field(value, "of_a_later_release") = 1.into();
    let changes: [fn(&mut Value, Change); 5] = [
        |frame, more| more(frame),
        |frame, more| more(first(field(frame, "queues"))),
        |frame, more| more(first_record(frame)),
        |frame, more| more(first(field(first_record(frame), "commands"))),
        |frame, more| more(field(first_record(frame), "close")),
    ];
    let frame = samples::frame();
    for change in changes {
        let bytes = rewritten(&frame, |frame| change(frame, more));
        let read: Frame = decode(&bytes).expect("fields are passed over");
        assert_eq!(read, frame);
        assert!(read.passes_over(&bytes));
    }
    assert!(!frame.passes_over(&encode(&frame)));
    // In a body they stay where they are: what is carried has the body's bytes.
    let body = |bytes: &'static [u8]| Body(Bytes::from_static(bytes));
    let with = |body: Body, run_id: RunId| {
        let record = Record { body, run_id, ..samples::frame().records.remove(0) };
        Frame { records: vec![record], ..samples::frame() }
    };
    let passes_over = |frame: Frame| frame.passes_over(&encode(&frame));
    let run = samples::frame().records[0].run_id;
    assert!(!passes_over(with(body(b"\x01\x81\xa7resumed\x81\xa4more\x01"), run)));
    // But not in what is of the shard, or only repeats.
    let remembered = Body::of(&RecordBody::Remembered { closed: Vec::new(), inputs: Vec::new(), window: None });
    assert!(!passes_over(with(remembered, RunId::NIL)));
    assert!(passes_over(with(body(b"\x01\x81\xaaremembered\x81\xa4more\x01"), RunId::NIL)));
    assert!(passes_over(with(body(b"\x01\x81\xa7carried\x83\xa5piece\x00\xa6pieces\x01\xa7records\x80"), run)));
    assert!(
        passes_over(with(body(b"\x01\x81\xa8schedule\x80"), RunId::NIL)),
        "it is of the shard, and of an unknown kind"
    );
}

#[test]
fn nothing_that_earlier_releases_wrote_is_taken_for_a_later_ones() {
    let (mut frames, mut bodies) = (0, 0);
    for (name, versions) in crate::fixtures() {
        for (number, bytes) in versions {
            if name == "history" || name.starts_with("history.") {
                let frame: Frame = decode(&bytes).expect("it reads");
                assert!(!frame.passes_over(&bytes), "{name}.{number}");
                frames += 1;
            }
            if name == "record.carried" || name == "record.remembered" {
                let mut record = samples::frame().records.remove(0);
                (record.workflow_id, record.run_id) = (shard::placeholder_id(3), RunId::NIL);
                record.body = Body(bytes.into());
                let frame = Frame { records: vec![record], ..samples::frame() };
                assert!(!frame.passes_over(&encode(&frame)), "{name}.{number}");
                bodies += 1;
            }
        }
    }
    assert!(frames > 2 && bodies > 1, "{frames} frames, {bodies} bodies");
}

#[test]
fn an_event_of_an_unknown_kind_is_named_and_its_name_says_whether_it_only_asks() {
    let event = |kind: &'static str| Event {
        id: EventId(uuid::Uuid::from_u128(1)),
        workflow_id: shard::placeholder_id(3),
        run_id: None,
        exact: false,
        sent_at: Timestamp(1),
        reply_to: None,
        again: false,
        body: Body::of(&kind),
    };
    for (kind, only_asks) in [("ask_leases", true), ("urge", false), ("asked", false)] {
        let event = event(kind);
        assert_eq!(event.body(), Err(DecodeError::Unknown { expected: "event", kind: kind.to_owned() }));
        assert_eq!(event.only_asks(), only_asks, "{kind}");
    }
    // What this release knows is never taken for what it is not.
    let known = [EventBody::AskResult, EventBody::AskPublished { name: "stage".into() }];
    assert!(known.iter().all(|body| Event { body: Body::of(body), ..event("x") }.only_asks()));
    assert!(!Event { body: Body::of(&EventBody::Resume), ..event("x") }.only_asks());
}
