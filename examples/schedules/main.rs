//! `schedules`: a watering plan that a worker keeps, watched by a client; in one process.

use everpulse::client::schedule::View;
use everpulse::prelude::*;
use everpulse::{Error, Overlap};

/// What is begun at each time: a run of its own, with an id that says which time it is.
#[workflow(version = 1)]
async fn water(bed: String) -> Result<String, Error> {
    sleep(Duration::from_millis(300)).await;
    Ok(format!("{bed} is wet"))
}

/// Waits until the schedule has come so far.
async fn until(schedule: &everpulse::Schedule, holds: impl Fn(&View) -> bool) -> anyhow::Result<View> {
    loop {
        let view = schedule.describe().await?;
        if holds(&view) {
            return Ok(view);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    // EVERPULSE_URL says where, or else a directory of yours.
    let worker = Worker::connect_from_env().await?.workflow(water).spawn().await?;
    let client = Client::connect_from_env().await?;

    // A real one would say `.cron("0 6 * * *").time_zone("Europe/Vienna")`.
    let roses = client.schedule("roses").every(Duration::from_secs(1)).limit(3).overlap(Overlap::BufferAll);
    let roses = roses.create(water("the rose bed".to_owned())).await?;
    let view = until(&roses, |view| view.counts.completed == 3).await?;
    for recent in &view.recent {
        println!("{}", client.run(water, &recent.workflow_id).result().await?);
    }

    roses.pause("it rains").await?;
    roses.trigger().await?; // by hand, all the same
    let view = until(&roses, |view| view.counts.completed == 4).await?;
    let paused = view.paused.map(|paused| paused.note).unwrap_or_default();
    println!("{} waterings; paused: {paused}", view.counts.begun);

    println!("schedules: {}", client.schedules().await?.join(", "));
    roses.delete().await?;
    worker.stop().await;
    Ok(())
}
