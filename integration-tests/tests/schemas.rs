//! Schemas that workers publish: a change that would not be read is refused before anything is served, on either arm.

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse::schema::Kind;
use everpulse::{JsonSchema, schemars};
use everpulse_integration_tests::Arm;
use serde::{Deserialize, Serialize};

/// Says nothing of itself.
#[derive(Serialize, Deserialize)]
struct Opaque {
    text: String,
}

mod first {
    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Item {
        pub name: String,
        pub cents: u64,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Order {
        pub items: Vec<Item>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Receipt {
        pub cents: u64,
    }

    #[signal]
    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Paid {
        pub by: String,
    }

    #[update(reply = Receipt)]
    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Add {
        pub item: Item,
    }

    #[workflow(version = 1)]
    pub async fn buys(order: Order, note: Opaque) -> Receipt {
        let _ = (note.text, signal::<Paid>().recv().await.by);
        Receipt { cents: order.items.iter().map(|item| item.cents).sum() }
    }
}

/// What may be changed.
mod second {
    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Item {
        pub name: String,
        pub cents: u64,
        #[serde(default)]
        pub count: u32,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Order {
        pub items: Vec<Item>,
        pub coupon: Option<String>,
    }

    #[workflow(version = 1)]
    pub async fn buys(order: Order, note: Opaque, urgent: Option<bool>) -> first::Receipt {
        let _ = (note.text, order.coupon, urgent, signal::<first::Paid>().recv().await.by);
        first::Receipt { cents: order.items.iter().map(|item| item.cents).sum() }
    }
}

/// What may not.
mod third {
    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Item {
        pub name: String,
        pub cents: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Order {
        pub items: Vec<Item>,
    }

    #[workflow(version = 1)]
    pub async fn buys(order: Order, note: Opaque) -> first::Receipt {
        let _ = (note.text, order.items);
        first::Receipt { cents: 0 }
    }

    /// Under another version anything goes.
    #[workflow(name = "buys", version = 2)]
    pub async fn buys_anew(order: Order) -> String {
        order.items.into_iter().map(|item| item.name + &item.cents).collect()
    }

    #[signal]
    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Paid {
        pub by: String,
        pub at: u64,
    }

    #[update(reply = String)]
    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Add {
        pub item: first::Item,
    }
}

async fn refusal(worker: Worker) -> Result<String> {
    Ok(worker.spawn().await.err().context("it starts")?.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_read_is_refused_by_field_and_one_that_is_goes_on_with_open_runs() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let worker = || async { Worker::connect(arm.url()).await.context("connecting a worker") };
    let serving = worker().await?.workflow(first::buys).signal::<first::Paid>().update::<first::Add>();
    let serving = serving.spawn().await?;
    let item = first::Item { name: "tea".to_owned(), cents: 4 };
    let note = Opaque { text: "soon".to_owned() };
    let run = client.start(first::buys(first::Order { items: vec![item] }, note)).id("order-1").await?;
    serving.stop().await;

    let said = refusal(worker().await?.workflow(third::buys)).await?;
    for part in
        ["workflow `buys` version 1", "`order.items[].cents` was integer (uint64) and is string", "a new version"]
    {
        ensure!(said.contains(part), "{said}");
    }
    let said = refusal(worker().await?.workflow(first::buys).signal::<third::Paid>()).await?;
    ensure!(said.contains("signal `Paid`") && said.contains("`at` was nothing and is integer"), "{said}");

    let said = refusal(worker().await?.workflow(first::buys).update::<third::Add>()).await?;
    ensure!(said.contains("update `Add`") && said.contains("string"), "{said}");

    // What was refused left nothing behind, and what is compatible is published in turn.
    let later =
        worker().await?.workflow(second::buys).workflow(third::buys_anew).signal::<first::Paid>().spawn().await?;
    run.signal(first::Paid { by: "Ada".to_owned() }).await?;
    ensure!(run.result().await?.cents == 4);
    let standing = client.schemas().await?;
    let published = standing.get(Kind::Workflow, "buys", Some(1)).context("it is published")?;
    let takes = published.takes.as_deref().context("its types say it")?;
    ensure!(takes.contains("\"coupon\"") && takes.contains("\"urgent\""), "{takes}");
    ensure!(standing.get(Kind::Workflow, "buys", None).is_some_and(|newest| newest.version == Some(2)));
    later.stop().await;

    // Nothing is left that it would be read by.
    client.forget_schema(Kind::Workflow, "buys", Some(1)).await?;
    worker().await?.workflow(third::buys).spawn().await?.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_that_contradict_each_other_at_once_one_serves() -> Result<()> {
    let arm = Arm::new()?;
    let _holds_the_broker = Client::connect(arm.url()).await?;
    let one = Worker::connect(arm.url()).await?.workflow(first::buys);
    let other = Worker::connect(arm.url()).await?.workflow(third::buys);
    let (one, other) = tokio::join!(one.spawn(), other.spawn());
    ensure!(one.is_ok() != other.is_ok(), "one of them serves: {:?}, {:?}", one.err(), other.err());
    let said = one.as_ref().err().or(other.as_ref().err()).map(ToString::to_string).unwrap_or_default();
    ensure!(said.contains("order.items[].cents"), "{said}");
    for worker in [one, other].into_iter().flatten() {
        worker.stop().await;
    }
    Ok(())
}
