//! `subscription`: bills every month and lives for ever: each month is a run that continues as new, here within a second. All
//! subscribers of a plan hear of its new price at once, by their tag.

use everpulse::Error;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

/// What is known of a subscriber from one month to the next: all of it is an argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Account {
    reader: String,
    cents_a_month: u64,
    paid: u64,
}

/// Signals that come while a month ends are there in the next one.
#[signal]
#[derive(Serialize, Deserialize)]
enum Wish {
    Upgrade { cents_a_month: u64 },
    Quit,
}

#[activity(timeout = "10s")]
async fn charge(reader: String, cents: u64) -> Result<u64, Error> {
    println!("{reader} pays {cents}");
    Ok(cents)
}

#[workflow(version = 1)]
async fn subscription(mut account: Account) -> Result<Account, Error> {
    publish(&account);
    account.paid += charge(account.reader.clone(), account.cents_a_month).await?;
    let mut rest = sleep(Duration::from_millis(300));
    loop {
        select! {
            wish = signal::<Wish>().recv() => match wish {
                Wish::Upgrade { cents_a_month } => account.cents_a_month = cents_a_month,
                Wish::Quit => return Ok(account),
            },
            () = &mut rest => break,
        }
    }
    // The history begins anew; id, tags and who waits for the result stay.
    continue_as_new(subscription(account)).await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    // EVERPULSE_URL says where, or else a directory of yours.
    let worker = Worker::connect_from_env().await?.workflow(subscription).activity(charge).spawn().await?;
    let client = Client::connect_from_env().await?;
    let account = Account { reader: "Ada".to_owned(), cents_a_month: 900, paid: 0 };
    let run = client.start(subscription(account)).tag("plan:basic").await?;
    let account = Account { reader: "Grace".to_owned(), cents_a_month: 700, paid: 0 };
    let other = client.start(subscription(account)).tag("plan:basic").await?;
    let months = async |at_least: u32| loop {
        let view = run.describe().await?;
        if view.continues.as_ref().map_or(0, |continues| continues.number) >= at_least {
            return anyhow::Ok(view);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    months(1).await?;
    // The handle was given by the first month, and means the last one.
    run.signal(Wish::Upgrade { cents_a_month: 1_200 }).await?;
    let third = months(3).await?;
    println!("run {} of this id has {} records", third.continues.map_or(0, |it| it.number) + 1, third.records);
    // Whoever continues as new carries the tag along.
    let reached = client.signal_tag("plan:basic", Wish::Upgrade { cents_a_month: 1_500 }).await?;
    println!("{} subscribers know the new price", reached.runs);
    months(5).await?;
    client.signal_tag("plan:basic", Wish::Quit).await?;
    for run in [other, run] {
        let account = run.result().await?;
        println!("{} paid {} in all", account.reader, account.paid);
    }
    worker.stop().await;
    Ok(())
}
