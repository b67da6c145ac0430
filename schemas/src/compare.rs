//! Whether all that is written by one schema is read by another.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::normal::normal;
use crate::shape::{
    Alternative, alternatives, describe, describe_one, integer, is_unknown, range, required, resolve, tag,
};

/// Where a reader cannot read what a writer may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The field: `order.items[].price`; empty for the whole.
    pub path: String,
    pub written: String,
    pub read: String,
    /// The field is one that must be there, and may be absent in what is written.
    pub is_absent: bool,
}

impl Mismatch {
    /// The same, as it is seen from around it: `name` is a field, or `[]` and `{}` for the items of lists and maps.
    fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with(['[', '{']) { "" } else { "." };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, written, read, .. } = self;
        if !path.is_empty() {
            write!(f, "`{path}`: ")?;
        }
        write!(f, "{written} is written, {read} is read")
    }
}

/// Whether a reader with one schema reads all that a writer with another one writes. `true` is anything.
///
/// Compared is what serde goes by: types, fields, variants, the ranges of integers, formats, lengths that are fixed. Bounds that
/// only people read are not.
///
/// # Errors
/// The first place at which it does not.
pub fn reads(reader: &Value, writer: &Value) -> Result<(), Mismatch> {
    compare(reader, writer, false)
}

/// Whether all fields that a reader needs are always there in what a writer writes; other differences do not count.
///
/// # Errors
/// The first field that may be missing.
pub fn has_all(reader: &Value, writer: &Value) -> Result<(), Mismatch> {
    compare(reader, writer, true)
}

fn compare(reader: &Value, writer: &Value, absent_only: bool) -> Result<(), Mismatch> {
    let (reader, writer) = (&normal(reader), &normal(writer));
    Comparison {
        reader,
        writer,
        absent_only,
        known: HashMap::new(),
        leaning: Vec::new(),
        depth: 0,
        leans_on: usize::MAX,
    }
    .node(reader, writer)
}

/// Whether a reader with this schema reads a value.
///
/// # Errors
/// The first place at which it does not.
pub fn fits(reader: &Value, value: &Value) -> Result<(), Mismatch> {
    reads(reader, &exactly(value))
}

/// The schema of one value.
fn exactly(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let names: Vec<&String> = fields.keys().collect();
            let properties: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), exactly(value))).collect();
            json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
        }
        Value::Array(items) => {
            let each: Vec<Value> = items.iter().map(exactly).collect();
            json!({"type": "array", "prefixItems": each, "items": false, "minItems": items.len(), "maxItems": items.len()})
        }
        scalar => json!({"const": scalar}),
    }
}

struct Comparison<'a> {
    reader: &'a Value,
    writer: &'a Value,
    /// Nothing counts but fields that may be missing.
    absent_only: bool,
    /// What came of each pair. Of one that is being compared it is taken that it fits: types that hold themselves come to an
    /// end so.
    known: HashMap<Pair, Known>,
    /// Pairs that fit if one does that is being compared still, in the order in which they came.
    leaning: Vec<Pair>,
    /// How many pairs are being compared.
    depth: usize,
    /// The outermost of these that was taken to fit, since the innermost began.
    leans_on: usize,
}

type Pair = (*const Value, *const Value);
type Compared = Result<(), Mismatch>;

struct Known {
    compared: Compared,
    /// It holds if the pair at this depth fits.
    leans_on: usize,
}

impl<'a> Comparison<'a> {
    fn node(&mut self, reader: &'a Value, writer: &'a Value) -> Compared {
        let (read, written) = (resolve(self.reader, reader), resolve(self.writer, writer));
        let pair = (std::ptr::from_ref(read), std::ptr::from_ref(written));
        if let Some(known) = self.known.get(&pair) {
            self.leans_on = self.leans_on.min(known.leans_on);
            return known.compared.clone();
        }
        let (depth, before) = (self.depth, self.leaning.len());
        self.known.insert(pair, Known { compared: Ok(()), leans_on: depth });
        self.depth += 1;
        let outer = std::mem::replace(&mut self.leans_on, usize::MAX);
        let compared = self.resolved((reader, read), written);
        self.depth -= 1;
        let mut leans_on = std::mem::replace(&mut self.leans_on, outer);
        if compared.is_err() {
            // It holds whatever comes of those around it, for more was taken to fit than does. What leaned on it does not.
            self.leaning.drain(before..).for_each(|pair| drop(self.known.remove(&pair)));
            leans_on = usize::MAX;
        } else if leans_on >= depth {
            for pair in self.leaning.drain(before..) {
                self.known.entry(pair).and_modify(|known| known.leans_on = usize::MAX);
            }
            leans_on = usize::MAX;
        } else {
            self.leaning.push(pair);
        }
        self.leans_on = self.leans_on.min(leans_on);
        self.known.insert(pair, Known { compared: compared.clone(), leans_on });
        compared
    }

    fn resolved(&mut self, (reader, read): (&'a Value, &'a Value), written: &'a Value) -> Compared {
        // Of a type that says nothing of itself, nothing is known.
        if is_unknown(read) || is_unknown(written) {
            return Ok(());
        }
        let readers = alternatives(self.reader, read);
        if readers.iter().any(|one| matches!(one, Alternative::Anything)) {
            return Ok(());
        }
        for one in alternatives(self.writer, written) {
            let Err(inner) = self.one(&readers, one) else { continue };
            match inner {
                Some(mismatch) if mismatch.is_absent || !self.absent_only => return Err(mismatch),
                _ if self.absent_only => {}
                inner => {
                    return Err(inner.unwrap_or_else(|| Mismatch {
                        path: String::new(),
                        written: describe_one(&one),
                        read: describe(self.reader, reader),
                        is_absent: false,
                    }));
                }
            }
        }
        Ok(())
    }

    /// Whether some alternative of the reader takes this one of the writer; else why the likeliest does not, if one is likely.
    fn one(&mut self, readers: &[Alternative<'a>], writer: Alternative<'a>) -> Result<(), Option<Mismatch>> {
        let mut likely = None;
        for reader in readers {
            match self.pair(*reader, writer) {
                Some(Ok(())) => return Ok(()),
                Some(Err(mismatch)) if is_same_variant(*reader, writer) || count(readers, writer) == 1 => {
                    likely = Some(mismatch);
                }
                Some(Err(_)) | None => {}
            }
        }
        Err(likely)
    }

    /// None if they are of different types altogether.
    fn pair(&mut self, reader: Alternative<'a>, writer: Alternative<'a>) -> Option<Compared> {
        match (reader, writer) {
            (Alternative::Anything, _) => Some(Ok(())),
            (Alternative::Opaque(reader), Alternative::Opaque(writer)) => (reader == writer).then_some(Ok(())),
            (Alternative::Exactly(reader), Alternative::Exactly(writer)) => (reader == writer).then_some(Ok(())),
            (Alternative::Of(name, map), Alternative::Exactly(value)) => is_of(name, map, value).then_some(Ok(())),
            (Alternative::Of("number", _), Alternative::Of("integer", _)) => Some(Ok(())),
            (Alternative::Of(reader, read), Alternative::Of(writer, written)) if reader == writer => match reader {
                "object" => Some(self.object(read, written)),
                "array" => Some(self.array(read, written)),
                "integer" => is_within(range(written), range(read)).then_some(Ok(())),
                "string" => is_string_within(read, written).then_some(Ok(())),
                "null" | "boolean" | "number" => Some(Ok(())),
                _ => None,
            },
            _ => None,
        }
    }

    fn object(&mut self, read: &'a Map<String, Value>, written: &'a Map<String, Value>) -> Compared {
        for name in required(read) {
            let unknown = property(written, name).is_some_and(is_unknown);
            if unknown || required(written).any(|there| there == name) {
                continue;
            }
            let there = property(written, name);
            return Err(Mismatch {
                path: name.to_owned(),
                written: there
                    .map_or("nothing".to_owned(), |node| format!("{} or nothing", describe(self.writer, node))),
                read: property(read, name).map_or("a field".to_owned(), |node| describe(self.reader, node)),
                is_absent: true,
            });
        }
        let rest = read.get("additionalProperties");
        for (name, node) in properties(written) {
            let reader = property(read, name).or_else(|| pattern_of(read, name)).or(rest);
            self.field(reader, node, name)?;
        }
        for (pattern, node) in patterns(written) {
            let same = patterns(read).find(|(other, _)| *other == pattern).map(|(_, node)| node);
            self.field(same.or(rest), node, "{}")?;
        }
        match (rest, written.get("additionalProperties")) {
            (Some(Value::Bool(_)) | None, _) | (_, Some(Value::Bool(false))) => Ok(()),
            (Some(reader), Some(writer)) => self.node(reader, writer).map_err(|mismatch| mismatch.within("{}")),
            // A struct ignores what it does not know and writes no more than it has; a map reads all.
            (Some(_), None) => Ok(()),
        }
    }

    /// `reader`: what reads it; nothing if it is passed over, `false` if it is refused.
    fn field(&mut self, reader: Option<&'a Value>, writer: &'a Value, name: &str) -> Compared {
        match reader {
            None => Ok(()),
            Some(Value::Bool(false)) if self.absent_only => Ok(()),
            Some(Value::Bool(false)) => Err(Mismatch {
                path: name.to_owned(),
                written: describe(self.writer, writer),
                read: "no such field".to_owned(),
                is_absent: false,
            }),
            Some(reader) => self.node(reader, writer).map_err(|mismatch| mismatch.within(name)),
        }
    }

    fn array(&mut self, read: &'a Map<String, Value>, written: &'a Map<String, Value>) -> Compared {
        let bound = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_u64);
        let low = bound(written, "minItems").unwrap_or(0) < bound(read, "minItems").unwrap_or(0);
        let high = bound(written, "maxItems").unwrap_or(u64::MAX) > bound(read, "maxItems").unwrap_or(u64::MAX);
        if (low || high) && !self.absent_only {
            let say = |map: &Map<String, Value>| match (bound(map, "minItems"), bound(map, "maxItems")) {
                (Some(low), Some(high)) if low == high => format!("a list of {low}"),
                _ => "a list".to_owned(),
            };
            return Err(Mismatch { path: String::new(), written: say(written), read: say(read), is_absent: false });
        }
        let first = |map: &'a Map<String, Value>| {
            map.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
        };
        let (heads, writers) = (first(read), first(written));
        for place in 0..heads.len().max(writers.len()) {
            let reader = heads.get(place).or_else(|| read.get("items"));
            let writer = writers.get(place).or_else(|| written.get("items"));
            if let (Some(reader), Some(writer)) = (reader, writer) {
                self.node(reader, writer).map_err(|mismatch| mismatch.within(&format!("[{place}]")))?;
            }
        }
        match (read.get("items"), written.get("items")) {
            (Some(reader), Some(writer)) => self.node(reader, writer).map_err(|mismatch| mismatch.within("[]")),
            _ => Ok(()),
        }
    }
}

fn properties(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.map(|(name, node)| (name.as_str(), node))
}

fn property<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get("properties")?.get(name)
}

/// What maps whose keys are no texts say of their values: by the pattern of the keys.
fn patterns(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    let patterns = map.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
    patterns.map(|(pattern, node)| (pattern.as_str(), node))
}

/// The values of a key by its pattern. Patterns other than those of integers are taken to hold.
fn pattern_of<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let is_unsigned = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    let holds = |pattern: &str| match pattern {
        r"^\d+$" => is_unsigned(key),
        r"^-?\d+$" => is_unsigned(key.strip_prefix('-').unwrap_or(key)),
        _ => true,
    };
    patterns(map).find(|(pattern, _)| holds(pattern)).map(|(_, node)| node)
}

fn is_within(inner: (i128, i128), outer: (i128, i128)) -> bool {
    inner.0 >= outer.0 && inner.1 <= outer.1
}

fn is_string_within(read: &Map<String, Value>, written: &Map<String, Value>) -> bool {
    let format = |map: &Map<String, Value>| map.get("format").cloned();
    let longest = |map: &Map<String, Value>| map.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
    (format(read).is_none() || format(read) == format(written)) && longest(written) <= longest(read)
}

fn is_of(name: &str, map: &Map<String, Value>, value: &Value) -> bool {
    match (name, value) {
        ("null", Value::Null) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => true,
        ("string", Value::String(text)) => {
            let longest = map.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
            text.chars().count() as u64 <= longest
        }
        ("integer", number) => integer(number).is_some_and(|number| is_within((number, number), range(map))),
        _ => false,
    }
}

fn is_same_variant(reader: Alternative<'_>, writer: Alternative<'_>) -> bool {
    let (Alternative::Of("object", read), Alternative::Of("object", written)) = (reader, writer) else { return false };
    let constant = |node: &Value| node.get("const").cloned();
    match properties(read).find_map(|(name, node)| Some((name, constant(node)?))) {
        Some((name, value)) => property(written, name).and_then(constant) == Some(value),
        None => tag(read).is_some() && tag(read) == tag(written),
    }
}

/// How many of them are of the writer's type.
fn count(readers: &[Alternative<'_>], writer: Alternative<'_>) -> usize {
    let Alternative::Of(written, _) = writer else { return 0 };
    readers.iter().filter(|reader| matches!(reader, Alternative::Of(read, _) if *read == written)).count()
}
