//! What may be changed, as a table: each row is a field's schema before and after, and what becomes of it as an input and as a
//! result.

use everpulse_protocol::Timestamp;
use everpulse_schemas::{Kind, Published, Standing, fits, reads};
use serde_json::{Value, json};

fn order(field: &Value, is_required: bool) -> Value {
    let required = if is_required { vec!["id", "field"] } else { vec!["id"] };
    json!({"type": "object", "properties": {"id": {"type": "string"}, "field": field}, "required": required})
}

fn without() -> Value {
    json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]})
}

fn published(takes: Option<&Value>, gives: Option<&Value>) -> Published {
    Published {
        kind: Kind::Workflow,
        name: "checkout".to_owned(),
        version: Some(1),
        at: Timestamp(1),
        build: None,
        takes: takes.map(Value::to_string),
        gives: gives.map(Value::to_string),
        fails: None,
        forgotten: false,
    }
}

fn change(old: &Published, new: &Published) -> Result<(), String> {
    let mut standing = Standing::default();
    standing.take(old.clone());
    standing.check(new).map(|_| ()).map_err(|refused| refused.to_string())
}

#[test]
fn what_may_be_changed_of_inputs_and_of_results() {
    let (u32, u64) = (json!({"type": "integer", "format": "uint32"}), json!({"type": "integer", "format": "uint64"}));
    let text = json!({"type": "string"});
    let uuid = json!({"type": "string", "format": "uuid"});
    let perhaps = json!({"type": ["string", "null"]});
    let two = json!({"type": "string", "enum": ["A", "B"]});
    let three = json!({"type": "string", "enum": ["A", "B", "C"]});
    let list = json!({"type": "array", "items": u32});
    let pair = json!({"type": "array", "prefixItems": [u32, text], "minItems": 2, "maxItems": 2});
    let variant = |name: &str, of: &Value| json!({"type": "object", "properties": {name: of}, "required": [name], "additionalProperties": false});
    let card = json!({"oneOf": [variant("Card", &text), variant("Cash", &u32)]});
    let more = json!({"oneOf": [variant("Card", &text), variant("Cash", &u32), variant("Gift", &u32)]});
    let other = json!({"oneOf": [variant("Card", &u32), variant("Cash", &u32)]});
    let (all, some) = (|field: &Value| order(field, true), |field: &Value| order(field, false));
    // Before, after, and whether an input and a result may be changed so.
    let rows = [
        ("the same", all(&u32), all(&u32), true, true),
        ("an optional field more", without(), some(&u32), true, true),
        ("a needed field more", without(), all(&u32), false, false),
        ("an optional field less", some(&u32), without(), true, true),
        ("a needed field less", all(&u32), without(), false, false),
        ("needed, then optional", all(&text), some(&text), false, false),
        ("optional, then needed", some(&text), all(&text), false, false),
        ("another type", all(&u32), all(&text), false, false),
        ("a wider number", all(&u32), all(&u64), true, false),
        ("a narrower number", all(&u64), all(&u32), false, false),
        ("a uuid, then a text", all(&uuid), all(&text), true, false),
        ("a text, then a uuid", all(&text), all(&uuid), false, false),
        ("a text, then perhaps one", some(&text), some(&perhaps), true, false),
        ("a variant more", all(&two), all(&three), true, false),
        ("a variant less", all(&three), all(&two), false, false),
        ("a variant with data more", all(&card), all(&more), true, false),
        ("a variant with data less", all(&more), all(&card), false, false),
        ("a variant with other data", all(&card), all(&other), false, false),
        ("a list, then a pair", all(&list), all(&pair), false, false),
        ("now it is known", all(&json!({"x-unknown": true})), all(&u32), true, true),
    ];
    for (what, before, after, input, result) in rows {
        let changed = change(&published(Some(&before), None), &published(Some(&after), None));
        assert_eq!(changed.is_ok(), input, "{what}, as an input: {changed:?}");
        let changed = change(&published(None, Some(&before)), &published(None, Some(&after)));
        assert_eq!(changed.is_ok(), result, "{what}, as a result: {changed:?}");
    }
}

#[test]
fn the_field_is_named_with_what_it_was_and_is_and_with_what_to_do() {
    let deep = |price: &Value| {
        json!({
            "type": "object",
            "properties": {"order": {"$ref": "#/$defs/Order"}},
            "required": ["order"],
            "$defs": {
                "Order": {"type": "object", "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/Item"}}}},
                "Item": {"type": "object", "properties": {"price": price, "part_of": {"$ref": "#/$defs/Item"}}},
            },
        })
    };
    let (old, new) = (deep(&json!({"type": "integer", "format": "uint64"})), deep(&json!({"type": "string"})));
    let said = change(&published(Some(&old), None), &published(Some(&new), None)).expect_err("it is another type");
    for part in
        ["workflow `checkout` version 1", "`order.items[].price` was integer (uint64) and is string", "a new version"]
    {
        assert!(said.contains(part), "{said}");
    }
    let said =
        change(&published(Some(&without()), None), &published(Some(&order(&json!({"type": "string"}), true)), None));
    let said = said.expect_err("it is needed");
    assert!(
        said.contains("its argument `field` was nothing and is string") && said.contains("#[serde(default)]"),
        "{said}"
    );
}

#[test]
fn of_two_that_contradict_each_other_the_first_stands_whoever_reads() {
    let schema = |name: &str| order(&json!({"type": name}), true);
    let (first, second) = (published(Some(&schema("string")), None), published(Some(&schema("integer")), None));
    let mut standing = Standing::default();
    standing.take(first.clone());
    standing.take(second.clone());
    assert!(standing.says(&first) && !standing.says(&second) && standing.check(&second).is_err());
    standing.take(Published { forgotten: true, takes: None, ..first.clone() });
    standing.take(second.clone());
    assert!(standing.says(&second) && standing.check(&first).is_err());
}

#[test]
fn what_a_worker_does_not_say_stays_as_it_was_said() {
    let said = published(Some(&without()), Some(&json!({"type": "string"})));
    let mut standing = Standing::default();
    standing.take(said.clone());
    standing.take(published(Some(&without()), None));
    assert!(standing.says(&said));
}

#[test]
fn a_value_is_checked_against_a_schema() {
    let schema = order(&json!({"type": "integer", "format": "uint8"}), true);
    assert_eq!(fits(&schema, &json!({"id": "a", "field": 255, "more": [1, {"b": null}]})), Ok(()));
    for (value, path) in [
        (json!({"id": "a"}), "field"),
        (json!({"id": "a", "field": 256}), "field"),
        (json!({"id": 7, "field": 1}), "id"),
        (json!("text"), ""),
    ] {
        assert_eq!(fits(&schema, &value).expect_err("it does not fit").path, path, "{value}");
    }
    let tree = json!({"$ref": "#/$defs/Tree", "$defs": {"Tree": {
        "type": "object", "properties": {"leaves": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}, "required": ["leaves"],
    }}});
    assert_eq!(reads(&tree, &tree), Ok(()));
    assert_eq!(fits(&tree, &json!({"leaves": [{"leaves": []}]})), Ok(()));
    assert_eq!(fits(&tree, &json!({"leaves": [{"leafs": []}]})).expect_err("it lacks them").path, "leaves[0].leaves");
}
