//! Values of a run as texts, as the suite's own runner would write them.

use std::io;

use everpulse_protocol::Payload;
use serde::Serialize as _;
use serde_bytes::ByteBuf;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// A value's text: JSON with a space after `,` and `:`, and bytes that a serializer of the author's own wrote as they are.
#[must_use]
pub fn text(payload: &Payload) -> String {
    if let Ok(value) = payload.decode::<Value>() {
        return json(&value);
    }
    let bytes = payload.decode::<ByteBuf>().map_or_else(|_| payload.data.to_vec(), ByteBuf::into_vec);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value as JSON.
#[must_use]
pub fn json(value: &Value) -> String {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)).expect("memory takes all that is written");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// What a text says: JSON, or itself.
#[must_use]
pub fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::handlers::Raw;

    #[test]
    fn values_are_written_with_spaces_and_bytes_as_they_are() {
        let of = |value: &Value| text(&Payload::encode(value).expect("encodes"));
        assert_eq!(of(&json!({ "a": [1, "x"], "b": null })), r#"{"a": [1, "x"], "b": null}"#);
        assert_eq!(text(&Payload::encode(&Raw("HELLO, YOU".to_owned())).expect("encodes")), "HELLO, YOU");
    }
}
