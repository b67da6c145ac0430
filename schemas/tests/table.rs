//! What may be changed, as a table: each row is a field's schema before and after, and what becomes of it as an input and as a
//! result.

use everpulse_protocol::{Position, Timestamp};
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
        follows: None,
    }
}

fn at(entry: u64) -> Position {
    Position { ledger: 1, entry }
}

/// Publishes it as a worker does that has read all.
fn publish(standing: &mut Standing, new: &Published, entry: u64) -> Result<(), String> {
    let addition = standing.addition(new).map_err(|refused| refused.to_string())?;
    standing.take(addition.expect("it is new"), at(entry));
    Ok(())
}

fn change(old: &Published, new: &Published) -> Result<(), String> {
    let mut standing = Standing::default();
    standing.take(old.clone(), at(1));
    standing.addition(new).map(|_| ()).map_err(|refused| refused.to_string())
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
    standing.take(first.clone(), at(1));
    // Its worker had read nothing yet.
    standing.take(second.clone(), at(2));
    assert_eq!(standing.addition(&first), Ok(None));
    assert!(standing.addition(&second).is_err());
    standing.take(Published { forgotten: true, takes: None, ..first.clone() }, at(3));
    // One that was compared with what was forgotten since.
    standing.take(Published { follows: Some(at(1)), ..first.clone() }, at(4));
    publish(&mut standing, &second, 5).expect("nothing stands");
    assert!(standing.addition(&second) == Ok(None) && standing.addition(&first).is_err());
}

#[test]
fn of_two_that_come_at_once_and_agree_the_later_one_is_compared_with_the_first() {
    let (two, three) = (json!({"enum": ["A", "B"]}), json!({"enum": ["A", "B", "C"]}));
    let other = json!({"enum": ["A", "D"]});
    let [two, three, other] = [two, three, other].map(|of| published(Some(&order(&of, true)), None));
    let mut standing = Standing::default();
    publish(&mut standing, &two, 1).expect("it is the first");
    publish(&mut standing, &three, 2).expect("it reads more");
    // Its worker had read the first alone, like the one that was faster.
    standing.take(Published { follows: Some(at(1)), ..other.clone() }, at(3));
    assert_eq!(standing.addition(&three), Ok(None));
    assert!(standing.addition(&other).is_err(), "it reads no `B`");
}

#[test]
fn who_stood_before_starts_beside_who_came_later() {
    let (two, three) = (json!({"enum": ["A", "B"]}), json!({"enum": ["A", "B", "C"]}));
    let [two, three] = [two, three].map(|of| published(Some(&order(&of, true)), None));
    let mut standing = Standing::default();
    publish(&mut standing, &two, 1).expect("it is the first");
    publish(&mut standing, &three, 2).expect("it reads more");
    assert_eq!(standing.addition(&two), Ok(None), "a release that comes back");
}

#[test]
fn what_was_ever_said_is_read_still() {
    let field = |of: &Value| published(Some(&order(of, false)), None);
    let (number, text) = (field(&json!({"type": "integer"})), field(&json!({"type": "string"})));
    let mut standing = Standing::default();
    publish(&mut standing, &number, 1).expect("it is the first");
    publish(&mut standing, &published(Some(&without()), None), 2).expect("an optional field less");
    // One that says nothing of what it takes hides nothing.
    publish(&mut standing, &published(None, Some(&json!({"type": "null"}))), 3).expect("it says another thing");
    let refused = publish(&mut standing, &text, 4).expect_err("numbers lie in history");
    assert!(refused.contains("`field` was integer and is string"), "{refused}");
    assert_eq!(standing.addition(&number), Ok(None), "it was said before");
}

#[test]
fn of_two_releases_that_take_turns_each_does_the_others_activities() {
    let (u32, u64) = (json!({"type": "integer", "format": "uint32"}), json!({"type": "integer", "format": "uint64"}));
    let activity =
        |of: &Value| Published { kind: Kind::Activity, version: None, ..published(Some(&order(of, true)), None) };
    let refused = change(&activity(&u32), &activity(&u64)).expect_err("the older one would be asked for larger ones");
    assert!(refused.contains("code from before reads it still"), "{refused}");
    change(&activity(&u32), &Published { takes: Some(order(&u32, true).to_string()), ..activity(&u32) }).expect("same");
}

#[test]
fn what_a_worker_does_not_say_stays_as_it_was_said() {
    let said = published(Some(&without()), Some(&json!({"type": "string"})));
    let mut standing = Standing::default();
    publish(&mut standing, &said, 1).expect("it is the first");
    assert_eq!(standing.addition(&published(Some(&without()), None)), Ok(None));
    let newest = standing.get(Kind::Workflow, "checkout", None).expect("it stands");
    assert_eq!((&newest.takes, &newest.gives), (&said.takes, &said.gives));
}

#[test]
fn maps_whose_keys_are_numbers_are_compared_by_their_values() {
    let map =
        |of: &Value| json!({"type": "object", "patternProperties": {"^\\d+$": of}, "additionalProperties": false});
    let (number, text) = (map(&json!({"type": "integer"})), map(&json!({"type": "string"})));
    assert_eq!(reads(&number, &number), Ok(()));
    assert_eq!(reads(&number, &text).expect_err("other values").path, "{}");
    assert_eq!(fits(&number, &json!({"7": 1, "8": 2})), Ok(()));
    assert_eq!(fits(&number, &json!({"7": "tea"})).expect_err("a text").path, "7");
    assert_eq!(fits(&number, &json!({"seven": 1})).expect_err("no number").path, "seven");
    let texts = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    assert_eq!(reads(&texts, &number), Ok(()), "a map by texts reads one by numbers");
}

#[test]
fn variants_that_a_field_tells_apart_and_flattened_ones_are_compared_with_what_is_beside_them() {
    // As `#[serde(tag = "kind")]` and `#[serde(flatten)]` are written.
    let paid = |by: &Value| {
        json!({
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": "Card"}}, "required": ["kind"], "$ref": "#/$defs/Card"},
                {"type": "object", "properties": {"kind": {"const": "Cash"}}, "required": ["kind"]},
            ],
            "$defs": {"Card": {"type": "object", "properties": {"number": by}, "required": ["number"]}},
        })
    };
    let (text, number) = (paid(&json!({"type": "string"})), paid(&json!({"type": "integer"})));
    assert_eq!(reads(&text, &text), Ok(()));
    assert_eq!(reads(&text, &number).expect_err("another number").path, "number");
    assert_eq!(fits(&text, &json!({"id": "a", "kind": "Cash"})), Ok(()));
    assert_eq!(fits(&text, &json!({"id": "a", "kind": "Card", "number": "4711"})), Ok(()));
    assert_eq!(fits(&text, &json!({"id": "a", "kind": "Card"})).expect_err("no number").path, "number");
    assert_eq!(fits(&text, &json!({"kind": "Cash"})).expect_err("no id").path, "id");
    assert!(fits(&text, &json!({"id": "a", "kind": "Gift"})).is_err());
}

/// Twelve types that each hold all of them: with each path looked through anew it would not end.
#[test]
fn types_that_hold_each_other_are_compared_once_each() {
    let types = |leaf: &Value| {
        let fields: serde_json::Map<String, Value> = (0..12)
            .map(|no| (format!("f{no}"), json!({"anyOf": [{"$ref": format!("#/$defs/T{no}")}, {"type": "null"}]})))
            .chain([("leaf".to_owned(), leaf.clone())])
            .collect();
        let defs: serde_json::Map<String, Value> =
            (0..12).map(|no| (format!("T{no}"), json!({"type": "object", "properties": fields}))).collect();
        json!({"$ref": "#/$defs/T0", "$defs": defs})
    };
    let (number, text) = (types(&json!({"type": "integer"})), types(&json!({"type": "string"})));
    assert_eq!(reads(&number, &number), Ok(()));
    assert!(reads(&number, &text).expect_err("other leaves").path.ends_with("leaf"));
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
