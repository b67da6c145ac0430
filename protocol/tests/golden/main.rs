//! Golden histories: what is exported comes back byte for byte, whatever is in it, and what was exported stays readable.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Start};
use everpulse_protocol::golden::{Golden, GoldenError, shown_payload};
use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::payload::Format;
use everpulse_protocol::{EventId, Payload, RunId, Timestamp, WorkflowId};
use proptest::prelude::*;
use uuid::Uuid;

const AT: u64 = 1_767_225_600_000;

fn record(seq: u32, body: Body) -> Record {
    let mark = CommandMark { due: Some(Timestamp(AT + 5_000)), ..CommandMark::new(seq, CommandKind::Timer) };
    Record {
        workflow_id: WorkflowId::new("order-42").expect("a good id"),
        run_id: RunId(Uuid::from_u128(7)),
        seq,
        event: EventId(Uuid::from_u128(100 + u128::from(seq))),
        at: Timestamp(AT + u64::from(seq)),
        body,
        commands: vec![mark],
        notes: Vec::new(),
        close: None,
    }
}

fn started(args: Payload) -> Body {
    let start = Start {
        workflow: "checkout".to_owned(),
        version: None,
        args,
        policy: IdPolicy::Attach,
        tags: vec!["vip".to_owned()],
        start_at: None,
        timeout_ms: None,
        headers: None,
        priority: Default::default(),
    };
    Body::of(&RecordBody::Started { start, version: 3, build: None, reply_to: None })
}

fn signalled(value: Payload) -> Body {
    Body::of(&RecordBody::Signalled { headers: None, name: "Approved".to_owned(), value })
}

fn payload<T: serde::Serialize + ?Sized>(value: &T) -> Payload {
    Payload::encode(value).expect("it can be encoded")
}

fn golden(bodies: impl IntoIterator<Item = Body>) -> Golden {
    let bodies = std::iter::once(started(payload(&("tea", 3)))).chain(bodies);
    Golden::of((0..).zip(bodies).map(|(seq, body)| record(seq, body)).collect()).expect("a history")
}

/// It is written, and the same bytes come back.
fn comes_back(golden: &Golden) -> String {
    let json = golden.to_json().expect("it can be written");
    let read = Golden::from_json(&json).expect("it can be read");
    let packed = |golden: &Golden| golden.records.iter().map(Record::pack).collect::<Vec<_>>();
    assert_eq!(read, *golden);
    assert_eq!(packed(&read).concat().len(), packed(golden).concat().len());
    json
}

#[test]
fn what_headers_say_is_left_out_on_request_and_nothing_else() {
    let said = |text: &str| payload(&BTreeMap::from([("authorization", text)]));
    let own = payload(&BTreeMap::from([("headers", BTreeMap::from([("own", "value")]))]));
    let signalled = |headers| {
        Body::of(&RecordBody::Signalled { headers: Some(headers), name: "Approved".to_owned(), value: own.clone() })
    };
    let whole = golden([signalled(said("secret")), signalled(payload(&BTreeMap::<String, String>::new()))]);
    let hidden = whole.clone().without_headers().expect("they can be hidden");
    assert_eq!(
        hidden,
        golden([signalled(said("(not exported)")), signalled(payload(&BTreeMap::<String, String>::new()))])
    );
    let json = comes_back(&hidden);
    assert!(json.contains("authorization") && json.contains("value") && !json.contains("secret"), "{json}");
    assert!(comes_back(&whole).contains("secret"));
    let received = Event {
        id: EventId(Uuid::from_u128(9)),
        workflow_id: WorkflowId::new("order-42").expect("a good id"),
        run_id: None,
        exact: false,
        sent_at: Timestamp(AT),
        reply_to: None,
        again: false,
        body: Body::of(&EventBody::Signal { name: "Approved".to_owned(), value: own, headers: Some(said("secret")) }),
    };
    let received = golden([Body::of(&RecordBody::Received { event: received, attempt: 0 })]);
    let json = comes_back(&received.without_headers().expect("they can be hidden"));
    assert!(json.contains("authorization") && !json.contains("secret"), "{json}");
}

#[test]
fn every_kind_of_record_comes_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut kinds = 0;
    for file in std::fs::read_dir(folder).expect("the fixtures") {
        let path = file.expect("a file").path();
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("record.")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a fixture");
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
        let body: Vec<u8> = digits.chunks(2).map(byte).collect();
        let json = comes_back(&golden([Body(body.into())]));
        assert!(!json.contains("\"body\": {\n        \"$base64\""), "{} is not readable: {json}", path.display());
        kinds += 1;
    }
    assert!(kinds > 10, "{kinds}");
}

#[test]
fn what_an_earlier_release_exported_is_read_and_is_written_so_today() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/history.1.json");
    if std::env::var_os("EVERPULSE_WRITE_FIXTURES").is_some() && !path.exists() {
        let odd = Payload { encoding: "aes".to_owned(), data: Bytes::from_static(&[1, 2, 3]) };
        let json = golden([signalled(payload(&serde_value())), signalled(odd)]).to_json().expect("written");
        std::fs::write(&path, json).expect("written");
    }
    let text = std::fs::read_to_string(&path).expect("the fixture");
    let golden = Golden::from_json(&text).expect("it was exported by an earlier release");
    assert_eq!(golden.to_json(), Ok(text));
}

#[test]
fn values_are_shown_as_json_and_what_json_cannot_say_as_base64() {
    let json = comes_back(&golden([signalled(payload(&serde_value()))]));
    assert!(
        json.contains(
            "\"$payload\": {\n                \"name\": \"Zoë\",\n                \"floats\": [\n                  3.0,"
        ),
        "{json}"
    );
    for odd in [f64::NAN, f64::INFINITY] {
        assert!(comes_back(&golden([signalled(payload(&odd))])).contains("$base64"));
    }
    let encrypted = Payload { encoding: "aes".to_owned(), data: Bytes::from_static(b"\x93\x01\x02\x03") };
    let json = comes_back(&golden([signalled(encrypted)]));
    assert!(json.contains("\"encoding\": \"aes\"") && json.contains("\"$base64\": \"kwECAw==\""), "{json}");
    // An integer that is written longer than it has to be.
    let long = Payload { data: Bytes::from_static(b"\xcd\x00\x07"), ..payload(&7) };
    assert!(comes_back(&golden([signalled(long)])).contains("\"$base64\": \"zQAH\""));
}

#[test]
fn values_in_json_are_shown_as_they_are() {
    let value = Payload::encode_as(Format::Json, &serde_value()).expect("it can be encoded");
    let json = comes_back(&golden([signalled(value.clone())]));
    assert!(json.contains("\"$json\": {\n                \"name\": \"Zoë\",") && !json.contains("$base64"), "{json}");
    assert!(shown_payload(&value).starts_with("{\"name\":\"Zoë\","), "{}", shown_payload(&value));
    // As another process may write it.
    let spaced = Payload { data: Bytes::from_static(b"{\"$payload\": [1,  2.50]}"), ..value.clone() };
    assert!(comes_back(&golden([signalled(spaced)])).contains("$base64"));
    let dollars = Payload { data: Bytes::from_static(b"{\"$payload\":{\"$uuid\":\"x\"}}"), ..value };
    assert!(!comes_back(&golden([signalled(dollars)])).contains("$base64"));
}

fn serde_value() -> impl serde::Serialize {
    #[derive(serde::Serialize)]
    struct Value {
        name: &'static str,
        floats: [f64; 4],
        negative: i64,
        large: u64,
        nothing: Option<u8>,
    }
    Value { name: "Zoë", floats: [3.0, -0.0, 0.1, 1e300], negative: i64::MIN, large: u64::MAX, nothing: None }
}

#[test]
fn fields_with_a_dollar_are_taken_for_nothing_else() {
    for key in ["$payload", "$body", "$uuid", "$base64"] {
        let map = std::collections::BTreeMap::from([(key, "AAAA")]);
        comes_back(&golden([signalled(payload(&map))]));
        comes_back(&golden([signalled(payload(&std::collections::BTreeMap::from([("body", map)])))]));
    }
}

#[test]
fn what_nests_without_end_is_shown_as_bytes() {
    let mut lists = vec![0x91; 5_000];
    lists.push(0x90);
    comes_back(&golden([signalled(Payload { data: lists.into(), ..payload(&()) })]));
    // A payload in a payload, and so on.
    let mut value = payload(&1);
    for _ in 0..2_000 {
        value = Payload { data: rmp_serde::to_vec_named(&value).expect("it can be written").into(), ..payload(&()) };
    }
    comes_back(&golden([signalled(value)]));
    let mut deep = payload(&1);
    deep.data = [vec![0x91; 110], vec![0x01]].concat().into();
    comes_back(&golden([signalled(deep)]));
}

#[test]
fn what_is_no_history_is_refused_in_words() {
    let json = golden([]).to_json().expect("written");
    let read = |text: &str| Golden::from_json(text).expect_err("it is none");
    assert!(matches!(read("{"), GoldenError::NoJson { .. }));
    assert_eq!(read("[]").to_string(), "no golden history: it is no object");
    assert_eq!(read("{}").to_string(), "no golden history: it has no `format`");
    assert_eq!(read(&json.replace("\"format\": 1", "\"format\": 9")), GoldenError::Format { found: 9 });
    assert!(read(&json.replace("\"seq\": 0", "\"seq\": 4")).to_string().contains("record 0"));
    let twice = json.replacen("\"workflow\"", "\"format\": 1,\n  \"workflow\"", 1);
    assert!(read(&twice).to_string().contains("`format` is there twice"));
    assert_eq!(Golden::of(Vec::new()), Err(GoldenError::NoStart));
    assert_eq!(Golden::of(vec![record(0, signalled(payload(&1)))]), Err(GoldenError::NoStart));
}

#[test]
fn a_value_is_shown_in_a_line() {
    assert_eq!(shown_payload(&payload(&Some(1.5))), "1.5");
    assert_eq!(shown_payload(&Payload { encoding: "aes".to_owned(), ..payload(&7) }), "(aes, 1 bytes)");
}

proptest! {
    #[test]
    fn any_bytes_of_a_value_come_back(data in proptest::collection::vec(any::<u8>(), 0..60)) {
        comes_back(&golden([signalled(Payload { data: data.clone().into(), ..payload(&()) })]));
        comes_back(&golden([signalled(Payload { data: data.into(), encoding: "json".to_owned() })]));
    }

    #[test]
    fn any_json_comes_back(values in proptest::collection::vec((any::<i64>(), any::<u64>(), ".*"), 0..5), floats: Vec<f64>) {
        let value = Payload::encode_as(Format::Json, &values).expect("it can be encoded");
        let json = comes_back(&golden([signalled(value)]));
        prop_assert!(json.contains("$json") && !json.contains("$base64"), "{json}");
        comes_back(&golden([signalled(Payload::encode_as(Format::Json, &floats).expect("it can be encoded"))]));
    }

    #[test]
    fn any_numbers_and_texts_come_back(values in proptest::collection::vec((any::<f64>(), any::<i64>(), any::<u64>(), ".*"), 0..5)) {
        comes_back(&golden([signalled(payload(&values))]));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = Golden::from_json(&text);
    }
}
