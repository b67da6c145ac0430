//! Whether data of one Avro schema can be read with another.
//!
//! The rules are those of Avro's specification ("Schema Resolution") as Apache Pulsar 4.0 applies them, which
//! asks Avro's resolver: names of records need not agree, those of enums and fixed types must up to their
//! namespace, a symbol that an enum lost is no error, and a default that does not fit its type is one. The
//! test has what Apache Pulsar 4.0.8 said to each of 125 pairs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::avro::{Avro, Named, Primitive, Shape, Type};

/// No schema that somebody means is nested deeper.
const DEPTH_MAX: usize = 200;

impl Avro {
    /// Whether data written with `writer` can be read with this one.
    pub fn can_read(&self, writer: &Avro) -> bool {
        let (assumed, failed) = (BTreeSet::new(), BTreeSet::new());
        Resolution { writer, reader: self, assumed, failed, depth: 0 }.resolves(&writer.root, &self.root)
    }
}

impl Primitive {
    fn promotes_to(self, reader: Primitive) -> bool {
        use Primitive::*;
        matches!(
            (self, reader),
            (Int, Long | Float | Double) | (Long, Float | Double) | (Float, Double) | (Bytes, String) | (String, Bytes)
        )
    }
}

/// One question whether one schema can read another.
struct Resolution<'a> {
    writer: &'a Avro,
    reader: &'a Avro,
    /// Pairs of named types that are being looked at, or were found to resolve: a record may contain itself.
    assumed: BTreeSet<(usize, usize)>,
    failed: BTreeSet<(usize, usize)>,
    depth: usize,
}

impl Resolution<'_> {
    fn resolves(&mut self, writer: &Type, reader: &Type) -> bool {
        if self.depth > DEPTH_MAX {
            return false;
        }
        self.depth += 1;
        let resolves = self.type_resolves(writer, reader);
        self.depth -= 1;
        resolves
    }

    fn type_resolves(&mut self, writer: &Type, reader: &Type) -> bool {
        match (writer, reader) {
            // Whatever the writer chose must be readable.
            (Type::Union(branches), _) => branches.iter().all(|branch| self.resolves(branch, reader)),
            (_, Type::Union(branches)) => {
                self.branch(writer, branches).is_some_and(|branch| self.resolves(writer, branch))
            }
            (Type::Primitive(writer), Type::Primitive(reader)) => writer == reader || writer.promotes_to(*reader),
            (Type::Array(writer), Type::Array(reader)) | (Type::Map(writer), Type::Map(reader)) => {
                self.resolves(writer, reader)
            }
            (Type::Named(writer), Type::Named(reader)) => self.named_resolves(*writer, *reader),
            _ => false,
        }
    }

    /// Each pair is looked at once. What rests on an assumption that turned out false does not stand.
    fn named_resolves(&mut self, writer: usize, reader: usize) -> bool {
        if self.failed.contains(&(writer, reader)) {
            return false;
        }
        let before = self.assumed.clone();
        if !self.assumed.insert((writer, reader)) {
            return true;
        }
        let resolves = self.shape_resolves(writer, reader);
        if !resolves {
            self.assumed = before;
            self.failed.insert((writer, reader));
        }
        resolves
    }

    fn shape_resolves(&mut self, writer_index: usize, reader_index: usize) -> bool {
        let (from, to) = (self.writer, self.reader);
        let (writer, reader) = (&from.named[writer_index], &to.named[reader_index]);
        match (&writer.shape, &reader.shape) {
            (Shape::Enum(_), Shape::Enum(_)) => reader.goes_by_short(writer),
            (Shape::Fixed(writer_size), Shape::Fixed(reader_size)) => {
                writer_size == reader_size && reader.goes_by_short(writer)
            }
            (Shape::Record(written), Shape::Record(wanted)) => {
                let aliased = reader.goes_by(writer);
                wanted.iter().all(|field| {
                    let source = written
                        .iter()
                        .find(|source| source.name == field.name || aliased && field.aliases.contains(&source.name));
                    match (source, &field.default) {
                        (Some(source), _) => self.resolves(&source.kind, &field.kind),
                        (None, Some(default)) => to.fits(default, &field.kind, 0),
                        (None, None) => false,
                    }
                })
            }
            _ => false,
        }
    }

    /// The branch of a reader's union that takes what is not a union: of the same name or type, else a record
    /// of the same structure, else the first that it can be promoted to.
    fn branch<'b>(&mut self, writer: &Type, branches: &'b [Type]) -> Option<&'b Type> {
        let mut structure = None;
        for branch in branches {
            match (writer, branch) {
                (Type::Named(written), Type::Named(wanted)) => {
                    let (from, to) = (self.writer, self.reader);
                    let (written_type, wanted_type) = (&from.named[*written], &to.named[*wanted]);
                    let same_shape =
                        std::mem::discriminant(&written_type.shape) == std::mem::discriminant(&wanted_type.shape);
                    if same_shape && wanted_type.goes_by(written_type) {
                        return Some(branch);
                    }
                    let record = same_shape && matches!(wanted_type.shape, Shape::Record(_));
                    let better = structure.is_none() || wanted_type.goes_by_short(written_type);
                    if record && better && self.named_resolves(*written, *wanted) {
                        structure = Some(branch);
                    }
                }
                (Type::Primitive(a), Type::Primitive(b)) if a == b => return Some(branch),
                (Type::Array(_), Type::Array(_)) | (Type::Map(_), Type::Map(_)) => return Some(branch),
                _ => {}
            }
        }
        structure.or_else(|| {
            let Type::Primitive(writer) = writer else { return None };
            branches.iter().find(|branch| matches!(branch, Type::Primitive(reader) if writer.promotes_to(*reader)))
        })
    }
}

impl Named {
    fn short_name(&self) -> &str {
        self.full_name.rsplit_once('.').map_or(&self.full_name, |(_, name)| name)
    }

    /// Whether the writer's type is this one by its name or an alias.
    fn goes_by(&self, writer: &Named) -> bool {
        self.full_name == writer.full_name || self.aliases.contains(&writer.full_name)
    }

    fn goes_by_short(&self, writer: &Named) -> bool {
        self.short_name() == writer.short_name() || self.goes_by(writer)
    }
}

impl Avro {
    /// Whether a default value is one of its type; that of a union is of its first branch.
    fn fits(&self, value: &Value, kind: &Type, depth: usize) -> bool {
        if depth > DEPTH_MAX {
            return false;
        }
        let fits = |value: &Value, kind: &Type| self.fits(value, kind, depth + 1);
        match kind {
            Type::Primitive(Primitive::Null) => value.is_null(),
            Type::Primitive(Primitive::Boolean) => value.is_boolean(),
            Type::Primitive(Primitive::Bytes | Primitive::String) => value.is_string(),
            Type::Primitive(_) => value.is_number(),
            Type::Array(items) => value.as_array().is_some_and(|values| values.iter().all(|value| fits(value, items))),
            Type::Map(items) => value.as_object().is_some_and(|values| values.values().all(|value| fits(value, items))),
            Type::Union(branches) => branches.first().is_some_and(|first| fits(value, first)),
            Type::Named(index) => match &self.named[*index].shape {
                Shape::Open => false,
                Shape::Fixed(_) => value.is_string(),
                Shape::Enum(symbols) => {
                    value.as_str().is_some_and(|value| symbols.iter().any(|symbol| symbol == value))
                }
                Shape::Record(fields) => value.as_object().is_some_and(|values| {
                    fields.iter().all(|field| {
                        let value = values.get(&field.name).or(field.default.as_ref());
                        value.is_some_and(|value| fits(value, &field.kind))
                    })
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        case: String,
        writer: Value,
        reader: Value,
        readable: bool,
    }

    fn avro(value: &Value) -> Avro {
        Avro::parse(value.to_string().as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"))
    }

    #[test]
    fn pairs_are_judged_as_apache_pulsar_judges_them() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("avro-pairs.json")).expect("the recorded answers");
        assert!(cases.len() > 100);
        for Case { case, writer, reader, readable } in cases {
            assert_eq!(avro(&reader).can_read(&avro(&writer)), readable, "{case}");
        }
    }

    #[test]
    fn what_is_nested_without_end_ends() {
        let schema = r#"{"type":"record","name":"R","fields":[]}"#;
        let endless = r#"{"type":"record","name":"R","fields":[{"name":"f","type":"R","default":{}}]}"#;
        let parse = |text: &str| Avro::parse(text.as_bytes()).expect("valid");
        assert!(!parse(endless).can_read(&parse(schema)));
        assert!(parse(endless).can_read(&parse(endless)));
    }
}
