//! One branch for each item of a list.

use everpulse::prelude::*;
use everpulse::{Error, Gathered, Worker};
use serde_json::{Value, json};

use super::batch::{ALL, Branch, Plan, all_at_hand, by_pattern, projected};
use super::step::gives;
use super::{Cases, Raw, number, text};

pub const CASES: Cases = &[
    ("9-1", "items_step"),
    ("9-2", "items_are_doubled"),
    ("9-3", "items_know_their_place"),
    ("9-4", "no_items"),
    ("9-5", "items_fail_fast"),
    ("9-6", "items_fail_the_run"),
    ("9-7", "enough_items"),
    ("9-8", "an_item_may_fail"),
    ("9-9", "too_many_items_fail"),
    ("9-10", "too_much_of_the_items_fails"),
    ("9-11", "items_at_once"),
    ("9-12", "flat_items"),
    ("9-13", "items_with_names"),
    ("9-14", "items_with_a_serializer"),
    ("9-15", "an_item_waits"),
    ("9-16", "large_items"),
    ("9-17", "waits_after_the_items"),
    ("9-18", "waits_after_an_item_failed"),
    ("9-19", "all_items_with_a_serializer"),
    ("9-20", "all_items_with_a_serializer_and_a_wait"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(items_step).workflow(items_are_doubled).workflow(items_know_their_place);
    let worker = worker.workflow(no_items).workflow(items_fail_fast).workflow(items_fail_the_run);
    let worker = worker.workflow(enough_items).workflow(an_item_may_fail).workflow(too_many_items_fail);
    let worker = worker.workflow(too_much_of_the_items_fails).workflow(items_at_once).workflow(flat_items);
    let worker = worker.workflow(items_with_names).workflow(items_with_a_serializer).workflow(an_item_waits);
    let worker = worker.workflow(large_items).workflow(waits_after_the_items).workflow(waits_after_an_item_failed);
    worker.workflow(all_items_with_a_serializer).workflow(all_items_with_a_serializer_and_a_wait)
}

const PLAN: Plan = Plan::MAP;

/// A branch for each item, made of the item and its place.
fn each<F>(items: &Value, make: impl Fn(Value, usize) -> F) -> Vec<Branch<Value>>
where
    F: Future<Output = Result<Value, Error>> + 'static,
{
    let items = items.as_array().into_iter().flatten().cloned().enumerate();
    items.map(|(index, item)| (String::new(), Box::pin(make(item, index)) as _)).collect()
}

async fn values(name: &str, plan: Plan, branches: Vec<Branch<Value>>) -> Result<Value, Error> {
    Ok(json!(plan.run(name, branches).await?.into_values()))
}

/// Items by a pattern, and some of what came of them.
async fn counts(name: &str, plan: Plan, pattern: &str, fields: &[&str]) -> Result<Value, Error> {
    Ok(projected(&plan.run(name, by_pattern(pattern)).await?, fields))
}

#[workflow(version = 1)]
async fn items_step(input: Value) -> Result<Value, Error> {
    let greet = |item: Value, _| async move { gives("greet", json!(format!("Hello, {}!", text(&item)?))).await };
    values("map", PLAN, each(&input, greet)).await
}

#[workflow(version = 1)]
async fn items_are_doubled(input: Value) -> Result<Value, Error> {
    values("", PLAN, each(&input, |item, _| async move { Ok(json!(number(&item)? * 2)) })).await
}

#[workflow(version = 1)]
async fn items_know_their_place(input: Value) -> Result<Value, Error> {
    values("indexed", PLAN, each(&input, |item, index| async move { Ok(json!(number(&item)? + index as i64)) })).await
}

#[workflow(version = 1)]
async fn no_items(input: Value) -> Result<Value, Error> {
    values("empty", PLAN, each(&input, |item, _| async { Ok(item) })).await
}

#[workflow(version = 1)]
async fn items_fail_fast(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("failfast", PLAN.tolerate(0), "+-+", &ALL).await
}

#[workflow(version = 1)]
async fn items_fail_the_run(input: Value) -> Result<Value, Error> {
    let _ = input;
    let batch = PLAN.tolerate(0).run("throwing", by_pattern("-+")).await?;
    Ok(json!(batch.into_result()?))
}

#[workflow(version = 1)]
async fn enough_items(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("min-successful", PLAN.enough(2), "++++", &["completionReason", "successCount", "totalCount"]).await
}

#[workflow(version = 1)]
async fn an_item_may_fail(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("tolerated", PLAN.tolerate(1), "+-+", &ALL).await
}

const FAILED: [&str; 4] = ["completionReason", "successCount", "failureCount", "totalCount"];

#[workflow(version = 1)]
async fn too_many_items_fail(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("tolerated-exceeded", PLAN.tolerate(1), "--+", &FAILED).await
}

#[workflow(version = 1)]
async fn too_much_of_the_items_fails(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("tolerated-pct", PLAN.tolerate_percent(25), "--++", &FAILED).await
}

#[workflow(version = 1)]
async fn items_at_once(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("concurrent", PLAN.at_once(2), all_at_hand(&["r0", "r1", "r2"])).await
}

#[workflow(version = 1)]
async fn flat_items(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("flat", PLAN.flat(), each(&json!(["fa", "fb"]), |item, _| gives("item", item))).await
}

#[workflow(version = 1)]
async fn items_with_names(input: Value) -> Result<Value, Error> {
    let named = each(&input, |item, _| async move { Ok(json!(number(&item)? * 10)) });
    let names = input.as_array().into_iter().flatten().map(|item| format!("item-{item}"));
    let named = names.zip(named).map(|(name, (_, branch))| (name, branch)).collect();
    values("named-items", PLAN, named).await
}

#[workflow(version = 1)]
async fn items_with_a_serializer(input: Value) -> Result<Value, Error> {
    let _ = input;
    let wrapped = |item: &str| -> Branch<Raw> {
        let wrapped = Raw(format!("wrapped:{}", item.to_uppercase()));
        (String::new(), Box::pin(async { Ok::<_, Error>(wrapped) }))
    };
    let batch = PLAN.run("serdes", vec![wrapped("x"), wrapped("y")]).await?;
    Ok(batch.into_values().iter().map(|Raw(text)| text.trim_start_matches("wrapped:")).collect())
}

#[workflow(version = 1)]
async fn an_item_waits(input: Value) -> Result<Value, Error> {
    let _ = input;
    let item = |item: Value, index| async move {
        if index == 1 {
            sleep(Duration::from_secs(1)).await;
        }
        gives("item", item).await
    };
    values("suspend", PLAN, each(&json!(["r0", "r1"]), item)).await
}

#[workflow(version = 1)]
async fn large_items(input: Value) -> Result<Value, Error> {
    let _ = input;
    let large = each(&json!(["a", "b", "c", "d"]), |item, _| async move { Ok(json!(text(&item)?.repeat(70 * 1024))) });
    Ok(projected(&PLAN.run("large", large).await?, &["successCount", "totalCount"]))
}

fn shouted(items: &[&str]) -> Vec<Branch<Value>> {
    each(&json!(items), |item, _| async move { Ok(json!(text(&item)?.to_uppercase())) })
}

#[workflow(version = 1)]
async fn waits_after_the_items(input: Value) -> Result<Value, Error> {
    let _ = input;
    let values = values("then-wait", PLAN, shouted(&["a", "b"])).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(values)
}

#[workflow(version = 1)]
async fn waits_after_an_item_failed(input: Value) -> Result<Value, Error> {
    let _ = input;
    let counted = counts("fail-then-wait", PLAN.tolerate(1), "+-", &ALL).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(counted)
}

/// The whole of a batch in one text of its serializer's own.
fn joined(batch: &Gathered<Value, Error>) -> Raw {
    let values: Vec<&str> = batch.values().filter_map(Value::as_str).collect();
    Raw(format!("OPSERDE:{}", values.join(",")))
}

#[workflow(version = 1)]
async fn all_items_with_a_serializer(input: Value) -> Result<Value, Error> {
    let _ = input;
    Ok(json!(PLAN.written("op-serde", shouted(&["x", "y"]), joined).await?.into_values()))
}

#[workflow(version = 1)]
async fn all_items_with_a_serializer_and_a_wait(input: Value) -> Result<Value, Error> {
    let _ = input;
    let values = PLAN.written("op-serde-replay", shouted(&["x", "y"]), joined).await?.into_values();
    sleep(Duration::from_secs(1)).await;
    Ok(json!(values))
}
