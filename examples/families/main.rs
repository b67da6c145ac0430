//! `families`: a tour with a child for each city, one of which takes too long; in one process.

use everpulse::prelude::*;
use everpulse::{Error, ParentClose};
use serde::{Deserialize, Serialize};

/// How many listeners came, as somebody says who has counted them.
#[signal]
#[derive(Serialize, Deserialize)]
struct Counted {
    listeners: u32,
}

/// A run of its own for each concert: it can be looked at, told and cancelled by its id.
#[workflow(version = 1)]
async fn concert(city: String) -> Result<u32, Error> {
    if city == "Rome" {
        return Err(std::io::Error::other("the hall in Rome is closed").into());
    }
    Ok(signal::<Counted>().recv().await.listeners)
}

/// What is left of a tour, and goes on when it is over.
#[workflow(version = 1)]
async fn sell_shirts() -> u32 {
    signal::<Counted>().recv().await.listeners
}

/// Ends a run that it did not begin, whatever the code of that one thinks of it.
#[workflow(version = 1)]
async fn lock_up(id: String) -> Result<(), Error> {
    external(id).terminate("the hall is locked").await?;
    Ok(())
}

#[workflow(version = 1)]
async fn tour(cities: Vec<String>) -> Result<Vec<String>, Error> {
    sell_shirts().id("shirts").detach();
    let mut diary = Vec::new();
    for city in cities {
        // However this tour ends, no concert is left over.
        let begun = concert(city.clone()).id(&city).parent_close(ParentClose::Terminate).start().await;
        let mut playing = match begun {
            Ok(playing) => playing,
            Err(Failure::Taken { .. }) => {
                diary.push(format!("{city}: somebody plays there already"));
                continue;
            }
            Err(failure) => return Err(failure.into()),
        };
        let played = select! {
            played = &mut playing => played,
            () = sleep(Duration::from_secs(2)) => {
                playing.cancel().await?;
                playing.await
            }
        };
        diary.push(match played {
            Ok(listeners) => format!("{city}: {listeners} listeners"),
            Err(Failure::Cancelled) => format!("{city}: nobody has counted"),
            Err(failure) => format!("{city}: {failure}"),
        });
    }
    Ok(diary)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    // EVERPULSE_URL says where, or else a directory of yours.
    let worker = Worker::connect_from_env().await?;
    let worker = worker.workflow(tour).workflow(concert).workflow(sell_shirts).workflow(lock_up).spawn().await?;
    let client = Client::connect_from_env().await?;
    let cities = ["Oslo", "Rome", "Wien"].map(String::from);
    let run = client.start(tour(cities.into())).await?;
    // Anybody who knows the id can tell a child something: here a client, in a workflow `external("Oslo")`.
    let oslo = client.run(concert, "Oslo");
    while oslo.signal(Counted { listeners: 320 }).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for line in run.result().await? {
        println!("{line}");
    }
    let shirts = client.run(sell_shirts, "shirts");
    println!("shirts: {}", shirts.describe().await?.status);
    client.start(lock_up("shirts".to_owned())).await?.result().await?;
    println!("shirts: {}", shirts.describe().await?.status);
    worker.stop().await;
    Ok(())
}
