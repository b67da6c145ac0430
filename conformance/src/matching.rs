//! The suite's rules of comparison, told again.
//!
//! | expected | actual |
//! |---|---|
//! | `{}` or `*` | anything |
//! | `${NAME}` | anything, the same wherever the name stands |
//! | `${/PATTERN/}` | a value whose text has the pattern |
//! | an object | an object with these fields, and others |
//! | a list | a list as long, element by element |
//! | anything else | the same |
//!
//! An expected event is compared with the actual one of its number. Actual events that are not expected do not matter.

use anyhow::{Context as _, Result};
use regex::Regex;
use serde_json::Value;

use crate::variables::Variables;

/// What differs between what is expected of a history and what there is. Nothing: it is as expected.
///
/// # Errors
/// When a pattern of the case is none.
pub fn compare(expected: &[Value], actual: &[Value], variables: &mut Variables) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for event in expected {
        let number = event.get("EventId").context("an expected event without a number")?;
        let path = format!("event {number}");
        match actual.iter().find(|actual| actual.get("EventId") == Some(number)) {
            Some(actual) => same(event, actual, &path, variables, &mut differences)?,
            None => differences.push(format!("{path}: there is none")),
        }
    }
    Ok(differences)
}

fn same(
    expected: &Value,
    actual: &Value,
    path: &str,
    variables: &mut Variables,
    differences: &mut Vec<String>,
) -> Result<()> {
    if let Value::String(text) = expected {
        if text == "*" {
            return Ok(());
        }
        if let Some(pattern) = pattern(text) {
            let shown = actual.as_str().map_or_else(|| actual.to_string(), str::to_owned);
            if !Regex::new(pattern).with_context(|| format!("{path}: {pattern}"))?.is_match(&shown) {
                differences.push(format!("{path}: {shown} does not match {pattern}"));
            }
            return Ok(());
        }
        if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            && !name.contains("${")
        {
            match variables.get(name) {
                None => variables.bind(name, actual.clone()),
                Some(bound) if bound == actual => {}
                Some(bound) => differences.push(format!("{path}: {actual}, where {name} is {bound}")),
            }
            return Ok(());
        }
    }
    match (expected, actual) {
        (Value::Object(fields), _) if fields.is_empty() => {}
        (Value::Object(fields), Value::Object(found)) => {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                match found.get(name) {
                    Some(actual) => same(field, actual, &path, variables, differences)?,
                    None => differences.push(format!("{path}: it is missing")),
                }
            }
        }
        (Value::Array(values), Value::Array(found)) if values.len() == found.len() => {
            for (index, (value, actual)) in values.iter().zip(found).enumerate() {
                same(value, actual, &format!("{path}[{index}]"), variables, differences)?;
            }
        }
        (expected, actual) => {
            let expected = variables.put_into(expected);
            if expected != *actual {
                differences.push(format!("{path}: expected {expected}, there is {actual}"));
            }
        }
    }
    Ok(())
}

/// The pattern of `${/PATTERN/}`.
#[must_use]
pub fn pattern(text: &str) -> Option<&str> {
    text.strip_prefix("${/")?.strip_suffix("/}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(expected: Value, actual: Value) -> Vec<String> {
        let expected: Vec<Value> = vec![json!({ "EventId": 2, "is": expected })];
        let actual = vec![json!({ "EventId": 1 }), json!({ "EventId": 2, "is": actual, "more": 1 })];
        compare(&expected, &actual, &mut Variables::default()).expect("patterns are good")
    }

    #[test]
    fn what_is_expected_is_found() {
        for (expected, actual) in [
            (json!({}), json!(7)),
            (json!("*"), json!(null)),
            (json!(["${A}", "${A}"]), json!(["x", "x"])),
            (json!("${/^[0-5]$/}"), json!(3)),
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 })),
            (json!("\"word\""), json!("\"word\"")),
        ] {
            assert_eq!(differences(expected, actual), Vec::<String>::new());
        }
    }

    #[test]
    fn what_differs_is_told() {
        for (expected, actual) in [
            (json!(["${A}", "${A}"]), json!(["x", "y"])),
            (json!("${/^[0-5]$/}"), json!(30)),
            (json!({ "a": 1 }), json!({ "b": 1 })),
            (json!({ "a": 1 }), json!(1)),
            (json!([1]), json!([1, 2])),
            (json!("word"), json!("other")),
        ] {
            assert_eq!(differences(expected.clone(), actual).len(), 1, "{expected}");
        }
        let missing = compare(&[json!({ "EventId": 9 })], &[], &mut Variables::default()).expect("no patterns");
        assert_eq!(missing, ["event 9: there is none"]);
    }
}
