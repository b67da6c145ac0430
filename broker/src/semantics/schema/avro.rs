//! Avro schemas: understanding one, and telling two apart. Whether one reads what another wrote is in
//! [`super::resolve`]. Source: Avro's specification, and what Apache Pulsar 4.0 refuses.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A schema that can be understood.
#[derive(Debug)]
pub struct Avro {
    pub(super) root: Type,
    pub(super) named: Vec<Named>,
    canonical: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Primitive(Primitive),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// A record, enum or fixed type, by its number.
    Named(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

#[derive(Debug)]
pub(super) struct Named {
    pub full_name: String,
    pub aliases: Vec<String>,
    pub shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// Its fields follow.
    Open,
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed(u64),
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub kind: Type,
    pub default: Option<Value>,
}

impl Avro {
    /// # Errors
    /// Why this is no Avro schema.
    pub fn parse(text: &[u8]) -> Result<Avro, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        let mut parser = Parser { named: Vec::new(), by_name: BTreeMap::new() };
        let (root, canonical) = parser.schema(&value, "")?;
        Ok(Avro { root, named: parser.named, canonical })
    }

    /// Whether the two say the same, whatever their formatting, documentation and aliases.
    pub fn is_same(&self, other: &Avro) -> bool {
        self.canonical == other.canonical
    }
}

struct Parser {
    named: Vec<Named>,
    by_name: BTreeMap<String, usize>,
}

impl Parser {
    /// The type that a piece of JSON stands for, and its form in which equal schemas are equal.
    fn schema(&mut self, value: &Value, namespace: &str) -> Result<(Type, Value), String> {
        match value {
            Value::String(name) => self.reference(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!("`{other}` is no type")),
        }
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<(Type, Value), String> {
        if let Some(primitive) = Primitive::named(name) {
            return Ok((Type::Primitive(primitive), Value::from(name)));
        }
        let full_name = full_name(name, namespace)?;
        let index = self.by_name.get(&full_name).ok_or_else(|| format!("undefined name `{full_name}`"))?;
        Ok((Type::Named(*index), Value::from(full_name)))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<(Type, Value), String> {
        let (mut types, mut canonical) = (Vec::new(), Vec::new());
        for branch in branches {
            let (kind, form) = self.schema(branch, namespace)?;
            let twice = match &kind {
                Type::Union(_) => return Err("a union in a union".into()),
                Type::Array(_) => types.iter().any(|other| matches!(other, Type::Array(_))),
                Type::Map(_) => types.iter().any(|other| matches!(other, Type::Map(_))),
                Type::Primitive(_) | Type::Named(_) => types.contains(&kind),
            };
            if twice {
                return Err(format!("a union has {form} twice"));
            }
            types.push(kind);
            canonical.push(form);
        }
        Ok((Type::Union(types), Value::from(canonical)))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<(Type, Value), String> {
        let kind = object.get("type").ok_or("a type without `type`")?;
        let mut form = Map::new();
        for (key, value) in object {
            if !matches!(
                key.as_str(),
                "type" | "doc" | "aliases" | "namespace" | "name" | "fields" | "items" | "values"
            ) {
                form.insert(key.clone(), value.clone());
            }
        }
        let Value::String(word) = kind else {
            // A whole schema as the type of another.
            return self.schema(kind, namespace);
        };
        form.insert("type".into(), Value::from(word.as_str()));
        match word.as_str() {
            "record" | "error" => return self.record(object, form, namespace),
            "enum" | "fixed" => {
                let (full_name, aliases) = self.name(object, namespace)?;
                let shape = if word == "enum" { enumeration(object)? } else { fixed(object)? };
                form.insert("name".into(), Value::from(full_name.as_str()));
                let index = self.define(full_name, aliases, shape)?;
                return Ok((Type::Named(index), Value::from(form)));
            }
            "array" | "map" => {
                let of = if word == "array" { "items" } else { "values" };
                let inner = object.get(of).ok_or_else(|| format!("a type `{word}` without `{of}`"))?;
                let (inner, inner_form) = self.schema(inner, namespace)?;
                form.insert(of.into(), inner_form);
                let inner = Box::new(inner);
                let kind = if word == "array" { Type::Array(inner) } else { Type::Map(inner) };
                return Ok((kind, Value::from(form)));
            }
            _ => {}
        }
        let (kind, plain) = self.reference(word, namespace)?;
        // `{"type": "int"}` is `"int"`, unless something else is said of it.
        Ok((kind, if form.len() == 1 { plain } else { Value::from(form) }))
    }

    fn record(
        &mut self,
        object: &Map<String, Value>,
        mut form: Map<String, Value>,
        namespace: &str,
    ) -> Result<(Type, Value), String> {
        let (full_name, aliases) = self.name(object, namespace)?;
        let inner = full_name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        form.insert("name".into(), Value::from(full_name.as_str()));
        // Known before its fields are, which may be of this type.
        let index = self.define(full_name, aliases, Shape::Open)?;
        let given = object.get("fields").and_then(Value::as_array).ok_or("a record without `fields`")?;
        let (mut fields, mut forms): (Vec<Field>, Vec<Value>) = (Vec::new(), Vec::new());
        for field in given {
            let field = field.as_object().ok_or("a field that is no object")?;
            let name = field.get("name").and_then(Value::as_str).ok_or("a field without a name")?;
            check_word(name)?;
            if fields.iter().any(|other| other.name == name) {
                return Err(format!("a record has the field `{name}` twice"));
            }
            let kind = field.get("type").ok_or_else(|| format!("the field `{name}` has no type"))?;
            let (kind, kind_form) = self.schema(kind, &inner)?;
            let mut field_form = field.clone();
            field_form.retain(|key, _| !matches!(key.as_str(), "doc" | "aliases"));
            field_form.insert("type".into(), kind_form);
            forms.push(Value::from(field_form));
            let default = field.get("default").cloned();
            fields.push(Field { name: name.to_owned(), aliases: words(field.get("aliases")), kind, default });
        }
        form.insert("fields".into(), Value::from(forms));
        self.named[index].shape = Shape::Record(fields);
        Ok((Type::Named(index), Value::from(form)))
    }

    fn name(&self, object: &Map<String, Value>, namespace: &str) -> Result<(String, Vec<String>), String> {
        let name = object.get("name").and_then(Value::as_str).ok_or("a named type without a name")?;
        let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let name = full_name(name, own)?;
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let aliases =
            words(object.get("aliases")).iter().filter_map(|alias| full_name(alias, namespace).ok()).collect();
        Ok((name, aliases))
    }

    fn define(&mut self, full_name: String, aliases: Vec<String>, shape: Shape) -> Result<usize, String> {
        let index = self.named.len();
        if Primitive::named(&full_name).is_some() || self.by_name.insert(full_name.clone(), index).is_some() {
            return Err(format!("`{full_name}` is defined twice"));
        }
        self.named.push(Named { full_name, aliases, shape });
        Ok(index)
    }
}

fn enumeration(object: &Map<String, Value>) -> Result<Shape, String> {
    let symbols = object.get("symbols").and_then(Value::as_array).ok_or("an enum without `symbols`")?;
    if symbols.iter().any(|symbol| !symbol.is_string()) {
        return Err("an enum with a symbol that is no string".into());
    }
    let symbols = words(object.get("symbols"));
    for (at, symbol) in symbols.iter().enumerate() {
        check_word(symbol)?;
        if symbols[..at].contains(symbol) {
            return Err(format!("an enum has the symbol `{symbol}` twice"));
        }
    }
    if let Some(default) = object.get("default").and_then(Value::as_str)
        && !symbols.iter().any(|symbol| symbol == default)
    {
        return Err(format!("the default `{default}` of an enum is none of its symbols"));
    }
    Ok(Shape::Enum(symbols))
}

fn fixed(object: &Map<String, Value>) -> Result<Shape, String> {
    object.get("size").and_then(Value::as_u64).map(Shape::Fixed).ok_or_else(|| "a fixed type without `size`".into())
}

fn words(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn full_name(name: &str, namespace: &str) -> Result<String, String> {
    name.split('.').try_for_each(check_word)?;
    if name.contains('.') || namespace.is_empty() {
        return Ok(name.to_owned());
    }
    Ok(format!("{namespace}.{name}"))
}

fn check_word(word: &str) -> Result<(), String> {
    let mut chars = word.chars();
    let starts = chars.next().is_some_and(|first| first.is_alphabetic() || first == '_');
    if starts && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
        return Ok(());
    }
    Err(format!("`{}` is no name", word.escape_debug()))
}

impl Primitive {
    fn named(word: &str) -> Option<Primitive> {
        Some(match word {
            "null" => Primitive::Null,
            "boolean" => Primitive::Boolean,
            "int" => Primitive::Int,
            "long" => Primitive::Long,
            "float" => Primitive::Float,
            "double" => Primitive::Double,
            "bytes" => Primitive::Bytes,
            "string" => Primitive::String,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_only_looks_different_is_the_same() {
        let plain = r#"{"type":"record","name":"a.R","fields":[{"name":"f","type":"int"}]}"#;
        let wordy = r#"{"fields": [{"doc":"d","type":{"type":"int"},"name":"f","aliases":["g"]}],
            "name":"R", "namespace":"a", "doc":"x", "type":"record"}"#;
        let other = r#"{"type":"record","name":"a.R","fields":[{"name":"f","type":"int","default":1}]}"#;
        let parse = |text: &str| Avro::parse(text.as_bytes()).expect("valid");
        assert!(parse(plain).is_same(&parse(wordy)));
        assert!(!parse(plain).is_same(&parse(other)));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for text in [
            "",
            "7",
            r#""none""#,
            r#"["int","int"]"#,
            r#"["int",["null"]]"#,
            r#"{"type":"array"}"#,
            r#"{"type":"record","name":"R"}"#,
            r#"{"type":"record","name":"1","fields":[]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"f","type":"Q"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"f","type":"int"},{"name":"f","type":"int"}]}"#,
            r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
            r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
            r#"{"type":"fixed","name":"F"}"#,
        ] {
            assert!(Avro::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r#"(\{|\}|\[|\]|,|:|"type"|"name"|"fields"|"record"|"R"|"int"){0,40}"#) {
            let _ = Avro::parse(text.as_bytes());
        }
    }
}
