//! Branches beside each other.

use everpulse::prelude::*;
use everpulse::{Error, Worker};
use serde::Serialize;
use serde_json::{Value, json};

use super::Cases;
use super::batch::{ALL, Branch, Plan, all_at_hand, at_hand, by_pattern, projected, stepping};

pub const CASES: Cases = &[
    ("8-1", "branches_step"),
    ("8-2", "branches_without_a_name"),
    ("8-3", "branches_with_names"),
    ("8-4", "branches_of_all_kinds"),
    ("8-5", "no_branches"),
    ("8-6", "branches_fail_fast"),
    ("8-7", "branches_fail_the_run"),
    ("8-8", "enough_branches"),
    ("8-9", "a_branch_may_fail"),
    ("8-10", "too_many_branches_fail"),
    ("8-11", "branches_at_once"),
    ("8-12", "flat_branches"),
    ("8-13", "too_much_of_the_branches_fails"),
    ("8-14", "a_branch_waits"),
    ("8-15", "branches_with_a_serializer"),
    ("8-16", "all_branches_fail"),
    ("8-17", "never_enough_branches"),
    ("8-18", "branches_fail_before_there_are_enough"),
    ("8-19", "no_branch_at_once"),
    ("8-20", "branches_are_looked_at"),
    ("8-21", "branches_of_a_branch"),
    ("8-22", "as_many_branches_fail_as_may"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(branches_step).workflow(branches_without_a_name).workflow(branches_with_names);
    let worker = worker.workflow(branches_of_all_kinds).workflow(no_branches).workflow(branches_fail_fast);
    let worker = worker.workflow(branches_fail_the_run).workflow(enough_branches).workflow(a_branch_may_fail);
    let worker = worker.workflow(too_many_branches_fail).workflow(branches_at_once).workflow(flat_branches);
    let worker = worker.workflow(too_much_of_the_branches_fails).workflow(a_branch_waits);
    let worker = worker.workflow(branches_with_a_serializer).workflow(all_branches_fail);
    let worker = worker.workflow(never_enough_branches).workflow(branches_fail_before_there_are_enough);
    let worker = worker.workflow(no_branch_at_once).workflow(branches_are_looked_at).workflow(branches_of_a_branch);
    worker.workflow(as_many_branches_fail_as_may)
}

const PLAN: Plan = Plan::PARALLEL;

async fn values(name: &str, plan: Plan, branches: Vec<Branch<Value>>) -> Result<Value, Error> {
    Ok(json!(plan.run(name, branches).await?.into_values()))
}

/// Branches by a pattern, and some of what came of them.
async fn counts(name: &str, plan: Plan, pattern: &str, fields: &[&str]) -> Result<Value, Error> {
    Ok(projected(&plan.run(name, by_pattern(pattern)).await?, fields))
}

#[workflow(version = 1)]
async fn branches_step(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("parallel", PLAN, vec![stepping("task-1"), stepping("task-2")]).await
}

#[workflow(version = 1)]
async fn branches_without_a_name(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("", PLAN, all_at_hand(&["alpha", "beta"])).await
}

#[workflow(version = 1)]
async fn branches_with_names(input: Value) -> Result<Value, Error> {
    let _ = input;
    let named = |name: &str, value: &str| (name.to_owned(), at_hand(json!(value)).1);
    values("named", PLAN, vec![named("first", "one"), named("second", "two")]).await
}

#[workflow(version = 1)]
async fn branches_of_all_kinds(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("hetero", PLAN, vec![at_hand(json!("hello")), at_hand(json!(42)), at_hand(json!({ "k": "v" }))]).await
}

#[workflow(version = 1)]
async fn no_branches(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("empty", PLAN, Vec::new()).await
}

#[workflow(version = 1)]
async fn branches_fail_fast(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("failfast", PLAN.tolerate(0), "+-+", &ALL).await
}

#[workflow(version = 1)]
async fn branches_fail_the_run(input: Value) -> Result<Value, Error> {
    let _ = input;
    let batch = PLAN.tolerate(0).run("throwing", by_pattern("-+")).await?;
    Ok(json!(batch.into_result()?))
}

#[workflow(version = 1)]
async fn enough_branches(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("min-successful", PLAN.enough(2), "++++", &["completionReason", "successCount", "totalCount"]).await
}

#[workflow(version = 1)]
async fn a_branch_may_fail(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("tolerated", PLAN.tolerate(1), "+-+", &ALL).await
}

const FAILED: [&str; 4] = ["completionReason", "successCount", "failureCount", "totalCount"];

#[workflow(version = 1)]
async fn too_many_branches_fail(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("tolerated-exceeded", PLAN.tolerate(1), "--+", &FAILED).await
}

#[workflow(version = 1)]
async fn branches_at_once(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("concurrent", PLAN.at_once(2), all_at_hand(&["r0", "r1", "r2"])).await
}

#[workflow(version = 1)]
async fn flat_branches(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("flat", PLAN.flat(), vec![stepping("fa"), stepping("fb")]).await
}

#[workflow(version = 1)]
async fn too_much_of_the_branches_fails(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("tolerated-pct", PLAN.tolerate_percent(25), "--++", &FAILED).await
}

#[workflow(version = 1)]
async fn a_branch_waits(input: Value) -> Result<Value, Error> {
    let _ = input;
    let waiting: Branch<Value> = (
        String::new(),
        Box::pin(async {
            sleep(Duration::from_secs(2)).await;
            Ok(json!("b1"))
        }),
    );
    values("replay", PLAN, vec![stepping("b0"), waiting]).await
}

/// A value in an envelope of its serializer's.
#[derive(Debug, Clone, Serialize)]
struct Wrapped {
    wrapped: String,
}

#[workflow(version = 1)]
async fn branches_with_a_serializer(input: Value) -> Result<Value, Error> {
    let _ = input;
    let wrapped = |value: &str| -> Branch<Wrapped> {
        let wrapped = Wrapped { wrapped: value.to_owned() };
        (String::new(), Box::pin(async { Ok::<_, Error>(wrapped) }))
    };
    let batch = PLAN.run("serde", vec![wrapped("x"), wrapped("y")]).await?;
    Ok(batch.into_values().into_iter().map(|value| value.wrapped).collect())
}

#[workflow(version = 1)]
async fn all_branches_fail(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("all-fail", PLAN.tolerate(3), "---", &ALL).await
}

#[workflow(version = 1)]
async fn never_enough_branches(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("min-not-reached", PLAN.enough(3), "+-+", &ALL).await
}

#[workflow(version = 1)]
async fn branches_fail_before_there_are_enough(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("combined", PLAN.enough(3).tolerate(1), "--++", &FAILED).await
}

#[workflow(version = 1)]
async fn no_branch_at_once(input: Value) -> Result<Value, Error> {
    let _ = input;
    values("bad-concurrency", PLAN.at_once(0), all_at_hand(&["a", "b"])).await
}

#[workflow(version = 1)]
async fn branches_are_looked_at(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("accessors", PLAN.tolerate(1), "+-+", &["hasFailure", "successCount", "failureCount", "errorCount"]).await
}

#[workflow(version = 1)]
async fn branches_of_a_branch(input: Value) -> Result<Value, Error> {
    let _ = input;
    let inner: Branch<Value> = (String::new(), Box::pin(values("inner", PLAN, vec![stepping("i1"), stepping("i2")])));
    values("outer", PLAN, vec![inner]).await
}

#[workflow(version = 1)]
async fn as_many_branches_fail_as_may(input: Value) -> Result<Value, Error> {
    let _ = input;
    counts("pct-boundary", PLAN.tolerate_percent(25), "-+++", &ALL).await
}
