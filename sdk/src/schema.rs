//! What definitions say of the types that they take and give, as JSON schemas.
//!
//! A type says it by `#[derive(JsonSchema)]`; the types of the standard library do so already. Of a type that does not, nothing
//! is known and nothing is compared: the macros ask each type by a method that hides one of a trait, so nobody has to say which.

use serde_json::{Map, Value, json};

/// The schemas of one definition, as text. None where nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Schemas {
    /// The arguments by parameter name, or the signal, query or update itself.
    pub takes: Option<String>,
    /// The result, or the reply.
    pub gives: Option<String>,
    /// The error.
    pub fails: Option<String>,
}

/// How a type is asked.
pub type Asked = fn(&mut Generator) -> Option<Value>;

impl Schemas {
    /// Of a workflow or an activity.
    #[must_use]
    pub fn of(parameters: &[(&str, Asked)], gives: Asked, fails: Asked) -> Self {
        Self { takes: Some(arguments(parameters)), gives: document(gives), fails: document(fails) }
    }

    /// Of a signal.
    #[must_use]
    pub fn of_signal(takes: Asked) -> Self {
        Self { takes: document(takes), ..Self::default() }
    }

    /// Of a query and its reply.
    #[must_use]
    pub fn of_query(takes: Asked, gives: Asked) -> Self {
        Self { takes: document(takes), gives: document(gives), fails: None }
    }

    /// Of an update, its reply and its error.
    #[must_use]
    pub fn of_update(takes: Asked, gives: Asked, fails: Asked) -> Self {
        Self { takes: document(takes), gives: document(gives), fails: document(fails) }
    }
}

/// Makes the schemas of one document, which share the types that they name.
#[derive(Debug)]
pub struct Generator {
    #[cfg(feature = "schemas")]
    inner: schemars::SchemaGenerator,
}

impl Generator {
    fn new() -> Self {
        Self {
            #[cfg(feature = "schemas")]
            inner: schemars::generate::SchemaSettings::draft2020_12().into_generator(),
        }
    }

    #[cfg(feature = "schemas")]
    fn definitions(mut self) -> Map<String, Value> {
        self.inner.take_definitions(true)
    }

    #[cfg(not(feature = "schemas"))]
    fn definitions(self) -> Map<String, Value> {
        Map::new()
    }
}

/// Asks a type for its schema: the inherent function hides the trait's.
#[derive(Debug)]
pub struct Shape<T>(std::marker::PhantomData<T>);

#[cfg(feature = "schemas")]
impl<T: schemars::JsonSchema> Shape<T> {
    pub fn schema(generator: &mut Generator) -> Option<Value> {
        Some(generator.inner.subschema_for::<T>().to_value())
    }
}

pub trait NoSchema {
    fn schema(_: &mut Generator) -> Option<Value> {
        None
    }
}

impl<T> NoSchema for Shape<T> {}

fn document(asked: Asked) -> Option<String> {
    let mut generator = Generator::new();
    let schema = asked(&mut generator)?;
    Some(finished(schema, generator))
}

fn arguments(parameters: &[(&str, Asked)]) -> String {
    let mut generator = Generator::new();
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, asked) in parameters {
        // It may be one that can be left out.
        let schema = asked(&mut generator).unwrap_or_else(|| json!({"x-unknown": true}));
        if schema.get("x-unknown").is_none() && !may_be_null(&schema) {
            required.push(*name);
        }
        properties.insert((*name).to_owned(), schema);
    }
    finished(json!({"type": "object", "properties": properties, "required": required}), generator)
}

fn finished(mut schema: Value, generator: Generator) -> String {
    let definitions = generator.definitions();
    if let (Value::Object(map), false) = (&mut schema, definitions.is_empty()) {
        map.insert("$defs".to_owned(), Value::Object(definitions));
    }
    strip(&mut schema);
    schema.to_string()
}

/// An argument that is absent is read as none.
fn may_be_null(schema: &Value) -> bool {
    let is_null = |value: &Value| value == "null";
    let several = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(is_null),
        Some(one) => is_null(one),
        None => several.is_some_and(|several| several.iter().any(may_be_null)),
    }
}

/// Takes out what is said to people alone: a comment that is mended changes no schema.
fn strip(node: &mut Value) {
    match node {
        Value::Object(map) => {
            for word in ["description", "examples", "default", "$schema"] {
                map.remove(word);
            }
            for (word, inner) in map {
                match (word.as_str(), inner) {
                    // Names of the author's, and not words of the schema.
                    ("properties" | "$defs" | "patternProperties", Value::Object(named)) => {
                        named.values_mut().for_each(strip);
                    }
                    ("const" | "enum" | "required", _) => {}
                    (_, inner) => strip(inner),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(all(test, feature = "schemas"))]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_by_name_and_what_may_be_none_may_be_left_out() {
        let takes = Schemas::of(
            &[
                ("order", <Shape<String>>::schema as Asked),
                ("note", <Shape<Option<u32>>>::schema as Asked),
                ("opaque", <Shape<std::cell::Cell<std::thread::Thread>> as NoSchema>::schema as Asked),
            ],
            <Shape<Vec<u8>>>::schema,
            <Shape<crate::definition::Never> as NoSchema>::schema,
        );
        let read = |text: Option<String>| text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let schema = read(takes.takes).expect("a schema");
        assert_eq!(schema["required"], json!(["order"]));
        assert_eq!(schema["properties"]["opaque"], json!({"x-unknown": true}));
        assert_eq!(read(takes.gives).expect("a schema")["type"], "array");
        assert_eq!(takes.fails, None);
    }
}
