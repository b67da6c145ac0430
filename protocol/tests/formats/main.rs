//! What is stored and sent, byte for byte: what earlier releases wrote is read in full, and what this one writes does
//! not change unnoticed.
//!
//! Each sample has fixtures in `tests/fixtures`: `NAME.N.hex`, of which the one with the greatest number is what is
//! written today. Where a format was changed on purpose, `EVERPULSE_WRITE_FIXTURES=1` adds the next one. Those that are
//! there are never written again, and go only when a release stops to read them.
//!
//! Workers of two releases share shards while one takes the place of the other. What that asks of the formats is here:
//! the newer one reads all that the older one wrote, and the older one passes over fields that the newer one added, keeps what
//! is of a kind that it does not know, and takes no frame for garbage ([`future`]). What it does with a run of which it does
//! not know all is the engine's.

mod future;
mod samples;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use everpulse_protocol::codec::{Body, Stored, VERSION, reader};
use everpulse_protocol::event::EventBody;
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{DecodeError, decode, encode};
use rmpv::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A stored value with all of its fields.
pub(crate) struct Sample {
    name: String,
    bytes: Vec<u8>,
    /// What this release writes of what it reads in these bytes.
    again: fn(&[u8]) -> Result<Vec<u8>, String>,
}

/// One message of a topic.
pub(crate) fn message<T: Stored>(name: &str, value: &T) -> Sample {
    let again = |bytes: &[u8]| decode::<T>(bytes).map(|value| encode(&value).to_vec()).map_err(|e| e.to_string());
    Sample { name: name.to_owned(), bytes: encode(value).to_vec(), again }
}

/// A value behind an envelope, named by its kind.
pub(crate) fn body<T: Serialize + DeserializeOwned>(family: &str, value: &T) -> Sample {
    let again = |bytes: &[u8]| {
        let opened = Body(bytes.to_vec().into()).open::<T>("sample");
        opened.map(|value| Body::of(&value).0.to_vec()).map_err(|e| e.to_string())
    };
    let envelope = Body::of(value);
    let kind = envelope.kind().expect("it was written just now");
    Sample { name: format!("{family}.{kind}"), bytes: envelope.0.to_vec(), again }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The fixtures by sample, oldest first.
fn fixtures() -> BTreeMap<String, BTreeMap<u32, Vec<u8>>> {
    let mut fixtures: BTreeMap<String, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    for file in std::fs::read_dir(folder()).expect("the folder of the fixtures") {
        let path = file.expect("a file").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let (name, number) = name.strip_suffix(".hex").and_then(|name| name.rsplit_once('.')).expect("NAME.N.hex");
        let number = number.parse().expect("a number");
        let text = std::fs::read_to_string(&path).expect("a fixture");
        fixtures.entry(name.to_owned()).or_default().insert(number, from_hex(&text));
    }
    fixtures
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(pair).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(48).map(line).collect()
}

/// The MessagePack values behind the version byte.
fn values(bytes: &[u8]) -> Vec<Value> {
    let (version, mut rest) = bytes.split_first().expect("a version byte");
    assert_eq!(*version, VERSION);
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.push(rmpv::decode::read_value(&mut rest).expect("MessagePack"));
    }
    values
}

/// Whether all that an older value says is said by a newer one.
fn says_all(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Map(new), Value::Map(old)) => old.iter().all(|(key, old)| {
            let found = new.iter().find(|(name, _)| name == key).map(|(_, new)| new);
            found.map_or(old.is_nil(), |new| says_all(new, old))
        }),
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| says_all(new, old))
        }
        (new, old) => new == old,
    }
}

/// Adds a field to each map with fields, as a later release may. A map of one entry is a kind with its value.
fn with_more_fields(value: Value) -> Value {
    match value {
        Value::Map(fields) => {
            let is_kind = fields.len() == 1;
            let mut more: Vec<(Value, Value)> =
                fields.into_iter().map(|(name, value)| (name, with_more_fields(value))).collect();
            if !is_kind {
                more.push(("of_a_later_release".into(), Value::Map(vec![("with".into(), "more".into())])));
            }
            Value::Map(more)
        }
        Value::Array(values) => Value::Array(values.into_iter().map(with_more_fields).collect()),
        other => other,
    }
}

#[test]
fn what_is_written_today_is_what_the_newest_fixture_says() {
    let mut known = fixtures();
    for Sample { name, bytes, .. } in samples::all() {
        let newest = known.remove(&name).and_then(|mut versions| versions.pop_last());
        if newest.as_ref().is_some_and(|(_, fixture)| *fixture == bytes) {
            continue;
        }
        let file = folder().join(format!("{name}.{}.hex", newest.as_ref().map_or(1, |(number, _)| number + 1)));
        assert!(
            std::env::var_os("EVERPULSE_WRITE_FIXTURES").is_some(),
            "the format of `{name}` changed.\n  stored: {}\n  now:    {}\nIf releases that are in use read it, write \
             {} with EVERPULSE_WRITE_FIXTURES=1; else change it so that they do",
            newest.map_or(Value::Nil, |(_, fixture)| Value::Array(values(&fixture))),
            Value::Array(values(&bytes)),
            file.display()
        );
        let mut options = std::fs::File::options();
        let mut file = options.write(true).create_new(true).open(&file).expect("a fixture is never written again");
        std::io::Write::write_all(&mut file, to_hex(&bytes).as_bytes()).expect("written");
    }
    assert!(known.is_empty(), "nobody reads these any more: {:?}", known.keys());
}

#[test]
fn what_earlier_releases_wrote_is_read_in_full() {
    let fixtures = fixtures();
    for Sample { name, again, .. } in samples::all() {
        for (number, fixture) in fixtures.get(&name).into_iter().flatten() {
            let again = again(fixture).unwrap_or_else(|error| panic!("{name}.{number}: {error}"));
            let (new, old) = (Value::Array(values(&again)), Value::Array(values(fixture)));
            assert!(says_all(&new, &old), "{name}.{number} lost something\n  was: {old}\n  is:  {new}");
        }
    }
}

#[test]
fn fields_that_a_later_release_adds_are_passed_over() {
    for Sample { name, bytes, again } in samples::all() {
        let mut more = vec![VERSION];
        for value in values(&bytes) {
            rmpv::encode::write_value(&mut more, &with_more_fields(value)).expect("memory takes it");
        }
        let again = again(&more).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(values(&again), values(&bytes), "{name}");
    }
}

#[test]
fn another_version_is_refused_by_name() {
    for Sample { name, mut bytes, again } in samples::all() {
        bytes[0] = VERSION + 1;
        let error = again(&bytes).expect_err("a later version");
        assert!(error.contains(&format!("of format version {}", VERSION + 1)), "{name}: {error}");
    }
}

/// All kinds of an enum, as its decoder names them.
fn kinds<T: DeserializeOwned>() -> Vec<String> {
    let unknown = Body::of(&"no_such_kind");
    assert!(matches!(unknown.open::<T>("sample"), Err(DecodeError::Unknown { kind, .. }) if kind == "no_such_kind"));
    let Err(error) = T::deserialize(&mut reader(&unknown.0[1..])) else { panic!("there is no such kind") };
    let error = error.to_string();
    let (_, expected) = error.split_once("expected one of").expect("the kinds are listed");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_kind_has_a_sample() {
    let names: Vec<String> = samples::all().into_iter().map(|sample| sample.name).collect();
    let families =
        [("record", kinds::<RecordBody>()), ("event", kinds::<EventBody>()), ("reply", kinds::<ReplyBody>())];
    for (family, kinds) in families {
        assert!(kinds.len() > 10, "{kinds:?}");
        for kind in kinds {
            assert!(names.contains(&format!("{family}.{kind}")), "{family} {kind} has no sample");
        }
    }
}
