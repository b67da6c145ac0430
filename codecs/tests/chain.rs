//! Format and layers together, as workers and clients use them: what is written, and who can read it.

use everpulse_codecs::{Bytes, Codec, Keys, Layer, LayerError, Place, Wrapped};
use everpulse_protocol::codec::Body;
use everpulse_protocol::coding::SEALED_WORDS;
use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::history::{Parked, ParkedKind};
use everpulse_protocol::payload::Format;
use everpulse_protocol::values::{Value, Values, Visit};
use everpulse_protocol::{Coding, CodingError, EventId, Failure, FailureKind, Payload, RunId, Timestamp, WorkflowId};
use proptest::prelude::*;

fn id() -> WorkflowId {
    WorkflowId::new("order-42").expect("a good id")
}

fn keys() -> Keys {
    Keys::new("k1", [1; 32])
}

fn coding(codec: Codec) -> Coding {
    codec.into()
}

fn payload(text: &str) -> Payload {
    Payload::encode(text).expect("it can be encoded")
}

#[test]
fn an_encoding_names_all_that_was_done_in_its_order() {
    let coding = coding(Codec::json().compress().encrypt(keys()));
    let mut long = Payload::encode_as(coding.format(), &"tea ".repeat(100)).unwrap();
    coding.seal(&id(), &mut long).unwrap();
    assert_eq!(long.encoding, "json+lz4+aes256gcm:k1");
    let mut short = Payload::encode_as(coding.format(), "tea").unwrap();
    coding.seal(&id(), &mut short).unwrap();
    assert_eq!(short.encoding, "json+aes256gcm:k1", "what is not worth it is not compressed");
    coding.open(&id(), &mut long).unwrap();
    assert_eq!((long.format(), long.decode::<String>().unwrap()), (Some(Format::Json), "tea ".repeat(100)));
}

#[test]
fn what_was_sealed_is_not_sealed_again() {
    let coding = coding(Codec::message_pack().encrypt(keys()));
    let mut once = payload("tea");
    coding.seal(&id(), &mut once).unwrap();
    let mut twice = once.clone();
    coding.seal(&id(), &mut twice).unwrap();
    assert_eq!(once, twice);
    coding.open(&id(), &mut twice).unwrap();
    coding.open(&id(), &mut twice).unwrap();
    assert_eq!(twice, payload("tea"));
}

#[test]
fn a_reader_reads_what_it_would_not_write() {
    let reader = coding(Codec::message_pack());
    let mut json = Payload::encode_as(Format::Json, &"tea ".repeat(100)).unwrap();
    coding(Codec::json().compress()).seal(&id(), &mut json).unwrap();
    assert_eq!(json.encoding, "json+lz4");
    reader.open(&id(), &mut json).unwrap();
    assert_eq!(json.decode::<String>().unwrap(), "tea ".repeat(100));

    let mut sealed = payload("tea");
    coding(Codec::message_pack().encrypt(keys())).seal(&id(), &mut sealed).unwrap();
    let before = sealed.clone();
    let error = reader.open(&id(), &mut sealed).unwrap_err();
    assert_eq!((error.missing_key(), error.is_missing()), (Some("k1"), true), "{error}");
    let error = coding(Codec::message_pack().encrypt(Keys::new("k2", [2; 32]))).open(&id(), &mut sealed).unwrap_err();
    assert_eq!(error.missing_key(), Some("k1"), "{error}");
    assert_eq!(sealed, before, "what cannot be opened stays as it was");
}

#[test]
fn of_a_failure_only_kind_and_type_are_left_to_read() {
    let coding = coding(Codec::message_pack().encrypt(keys()));
    let failure = Failure {
        type_name: "PaymentError".to_owned(),
        chain: vec!["canary source".to_owned()],
        value: Some(payload("canary value")),
        attempts: Some(3),
        ..Failure::new(FailureKind::Exhausted, "canary message")
    };
    let mut sealed = Outcome::Failed(failure.clone());
    coding.seal(&id(), &mut sealed).unwrap();
    let Outcome::Failed(shown) = &sealed else { panic!("it is one still") };
    assert_eq!((shown.message.as_str(), shown.chain.len()), (SEALED_WORDS, 0));
    assert_eq!((&shown.kind, shown.type_name.as_str(), shown.attempts), (&failure.kind, "PaymentError", Some(3)));
    let written = shown.sealed().expect("it is sealed");
    assert!(!written.data.windows(6).any(|window| window == b"canary"));
    coding.open(&id(), &mut sealed).unwrap();
    assert_eq!(sealed, Outcome::Failed(failure.clone()));

    let mut compressed = Outcome::Failed(failure.clone());
    self::coding(Codec::message_pack().compress()).seal(&id(), &mut compressed).unwrap();
    let Outcome::Failed(shown) = compressed else { panic!("it is one still") };
    assert_eq!(shown.message, failure.message, "what does not conceal leaves words to be read");
}

#[test]
fn why_a_run_is_parked_is_sealed_where_it_may_be_an_authors_words() {
    let coding = coding(Codec::message_pack().encrypt(keys()));
    for (kind, authors) in [
        (ParkedKind::Panicked, true),
        (ParkedKind::Diverged, true),
        (ParkedKind::Stuck, false),
        (ParkedKind::NoCode, false),
        (ParkedKind::UnknownKind, false),
        (ParkedKind::Poisonous, false),
        (ParkedKind::Unopened, false),
    ] {
        let reason = Parked::new(kind, "canary");
        let mut sealed = reason.clone();
        coding.seal(&id(), &mut sealed).unwrap();
        assert_eq!(sealed.message.contains("canary"), !authors, "{kind:?}");
        coding.open(&id(), &mut sealed).unwrap();
        assert_eq!(sealed, reason);
    }
}

#[test]
fn a_value_in_an_envelope_is_opened_where_it_can_be_and_else_left() {
    let coding = coding(Codec::message_pack().encrypt(keys()));
    let body = |value| EventBody::Signal { headers: None, name: "Go".to_owned(), value };
    let event = |body: &EventBody| Event {
        id: EventId::derived(RunId::NIL, 0, "signal"),
        workflow_id: id(),
        run_id: None,
        exact: false,
        sent_at: Timestamp(1),
        reply_to: None,
        again: false,
        body: Body::of(body),
    };
    let plain = event(&body(payload("canary")));
    let mut sealed = plain.clone();
    coding.seal(&id(), &mut sealed).unwrap();
    assert!(!sealed.body.0.windows(6).any(|window| window == b"canary"));
    let mut shown = sealed.clone();
    self::coding(Codec::message_pack()).open_what_can_be(&id(), &mut shown);
    assert_eq!(shown, sealed);
    coding.open_what_can_be(&id(), &mut shown);
    assert_eq!(shown, plain);
    let mut later = Event { body: Body::of(&"of_a_later_release"), ..plain };
    let before = later.clone();
    coding.seal(&id(), &mut later).unwrap();
    assert_eq!(later, before, "an envelope that is not known stays closed");
}

#[test]
fn who_takes_only_sealed_values_takes_no_other() {
    let coding = coding(Codec::message_pack().compress().encrypt(keys()).only_sealed());
    assert_eq!(coding.open(&id(), &mut payload("made up")), Err(CodingError::Plain));
    let mut compressed = payload(&"made up ".repeat(50));
    self::coding(Codec::message_pack().compress()).seal(&id(), &mut compressed).unwrap();
    assert_eq!(coding.open(&id(), &mut compressed), Err(CodingError::Plain));
    let mut failure = Failure { value: Some(payload("made up")), ..Failure::new(FailureKind::Failed, "no") };
    assert_eq!(coding.open(&id(), &mut failure), Err(CodingError::Plain));
    let mut ours = Failure::new(FailureKind::TimedOut, "it took too long");
    assert_eq!(coding.open(&id(), &mut ours), Ok(()), "what Everpulse says by itself has no value");
    for mut value in [
        Outcome::Done(payload("tea")),
        Outcome::Failed(Failure { value: Some(payload("no tea")), ..Failure::new(FailureKind::Failed, "no") }),
    ] {
        let before = value.clone();
        coding.seal(&id(), &mut value).unwrap();
        coding.open(&id(), &mut value).unwrap();
        assert_eq!(value, before);
    }
}

#[test]
fn who_only_opens_writes_as_before() {
    let opener = coding(Codec::message_pack().open_with(keys()));
    let mut written = payload("tea");
    opener.seal(&id(), &mut written).unwrap();
    assert_eq!(written, payload("tea"));
    let mut sealed = payload("tea");
    coding(Codec::message_pack().encrypt(keys())).seal(&id(), &mut sealed).unwrap();
    opener.open(&id(), &mut sealed).unwrap();
    assert_eq!(sealed, written);
}

#[test]
fn a_label_that_would_be_read_as_a_layer_is_refused() {
    let coding = coding(Codec::message_pack().layer(Labelled));
    let error = coding.seal(&id(), &mut payload("tea")).unwrap_err();
    assert!(matches!(error, CodingError::Refused { .. }), "{error}");
}

/// A user's layer with an unfortunate label.
#[derive(Debug)]
struct Labelled;

impl Layer for Labelled {
    fn name(&self) -> &'static str {
        "labelled"
    }
    fn wrap(&self, data: Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
        Ok(Wrapped::Changed { label: Some("v1+2".to_owned()), data })
    }
    fn unwrap(&self, data: Bytes, _: Option<&str>, _: Place<'_>) -> Result<Bytes, LayerError> {
        Ok(data)
    }
}

#[test]
fn an_encoding_with_very_many_layers_is_refused() {
    let mut data = payload(&"tea ".repeat(100));
    let coding = coding(Codec::message_pack().compress());
    coding.seal(&id(), &mut data).unwrap();
    data.encoding = format!("msgpack{}", "+lz4".repeat(100_000));
    assert!(coding.open(&id(), &mut data).is_err());
    // Each of them opens.
    let many = self::coding(Codec::message_pack().layer(Nothing));
    let mut data = payload("tea");
    data.encoding = format!("msgpack{}", "+nothing".repeat(9));
    let error = many.open(&id(), &mut data).unwrap_err();
    assert!(error.to_string().contains("more than 8"), "{error}");
    data.encoding = format!("msgpack{}", "+nothing".repeat(8));
    assert_eq!(many.open(&id(), &mut data), Ok(()));
}

/// A value for another workflow, beside one for this.
struct Sent(Payload, Payload);

impl Values for Sent {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self(own, other) = self;
        own.each(visit)?;
        visit(Value::Of(WorkflowId::new("order-43").expect("a good id"), other))
    }
}

#[test]
fn what_is_for_another_workflow_is_sealed_for_it() {
    let coding = coding(Codec::message_pack().encrypt(keys()));
    let mut sent = Sent(payload("tea"), payload("milk"));
    coding.seal(&id(), &mut sent).unwrap();
    let Sent(mut own, mut other) = sent;
    assert!(coding.open(&id(), &mut other.clone()).is_err());
    coding.open(&id(), &mut own).unwrap();
    coding.open(&WorkflowId::new("order-43").unwrap(), &mut other).unwrap();
    assert_eq!((own, other), (payload("tea"), payload("milk")));
}

/// A user's layer that does nothing.
#[derive(Debug)]
struct Nothing;

impl Layer for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn wrap(&self, data: Bytes, place: Place<'_>) -> Result<Wrapped, LayerError> {
        assert_eq!((place.workflow_id.as_str(), place.beneath), ("order-42", "msgpack"));
        Ok(Wrapped::Changed { label: Some("v1".to_owned()), data })
    }
    fn unwrap(&self, data: Bytes, _: Option<&str>, _: Place<'_>) -> Result<Bytes, LayerError> {
        Ok(data)
    }
}

#[test]
fn a_layer_of_ones_own_stands_in_the_chain() {
    let coding = coding(Codec::message_pack().layer(Nothing).encrypt(keys()));
    let mut value = payload("tea");
    coding.seal(&id(), &mut value).unwrap();
    assert_eq!(value.encoding, "msgpack+nothing:v1+aes256gcm:k1");
    coding.open(&id(), &mut value).unwrap();
    assert_eq!(value, payload("tea"));
}

proptest! {
    #[test]
    fn whatever_a_codec_writes_it_reads(texts in proptest::collection::vec(".{0,40}", 0..20), json: bool, small: bool, shut: bool) {
        let codec = if json { Codec::json() } else { Codec::message_pack() };
        let codec = if small { codec.compress() } else { codec };
        let coding = coding(if shut { codec.encrypt(keys()) } else { codec });
        let plain = Payload::encode_as(coding.format(), &texts).unwrap();
        let mut payload = plain.clone();
        coding.seal(&id(), &mut payload).unwrap();
        prop_assert_eq!(shut, payload.encoding.ends_with("+aes256gcm:k1"));
        coding.open(&id(), &mut payload).unwrap();
        prop_assert_eq!(&payload, &plain);
        prop_assert_eq!(payload.decode::<Vec<String>>().unwrap(), texts);
    }

    #[test]
    fn any_encoding_and_any_bytes_are_a_value_or_an_error(encoding in "(json|msgpack|x)?([+](lz4|aes256gcm|aes256gcm:k1|:|y))*", data in proptest::collection::vec(any::<u8>(), 0..80)) {
        let coding = coding(Codec::json().compress().encrypt(keys()));
        let mut payload = Payload { encoding, data: data.into() };
        let _ = coding.open(&id(), &mut payload);
        let _ = payload.decode::<Vec<String>>();
    }
}
