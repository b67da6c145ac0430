//! Placeholders of a case: `${NAME}`, generated before it runs or bound when its history is compared.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use uuid::Uuid;

/// The values of a case's placeholders.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    bound: BTreeMap<String, Value>,
}

impl Variables {
    /// What a case asks to be generated: `${GEN_STR:8}` is a text of so many letters and digits.
    ///
    /// # Errors
    /// When a length is no number, or too large.
    pub fn generate(asked: Option<&Value>) -> Result<Self> {
        let mut bound = BTreeMap::new();
        for (name, value) in asked.and_then(Value::as_object).into_iter().flatten() {
            let value = match value.as_str().and_then(|text| text.strip_prefix("${GEN_STR:")?.strip_suffix('}')) {
                Some(length) => {
                    let length: usize = length.parse().with_context(|| format!("the length of {name}"))?;
                    let word = Uuid::new_v4().simple().to_string();
                    Value::String(word.get(..length).context("generated texts have 32 letters at most")?.to_owned())
                }
                None => Value::String(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
            };
            bound.insert(name.clone(), value);
        }
        Ok(Self { bound })
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.bound.get(name)
    }

    pub fn bind(&mut self, name: &str, value: Value) {
        self.bound.insert(name.to_owned(), value);
    }

    /// The same value with all that is known put in; what is not known stays as it is.
    #[must_use]
    pub fn put_into(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.put_into_text(text)),
            Value::Array(values) => values.iter().map(|value| self.put_into(value)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), self.put_into(value))).collect(),
            other => other.clone(),
        }
    }

    /// The same for a text.
    #[must_use]
    pub fn put_into_text(&self, text: &str) -> String {
        let mut put = text.to_owned();
        for (name, value) in &self.bound {
            let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            put = put.replace(&format!("${{{name}}}"), &word);
        }
        put
    }
}
