//! Workflows whose runs stand in the directories of `fixtures`. What is here stays as it is for ever: its runs were
//! begun by earlier releases, and later ones bring them to their end.

use everpulse::prelude::*;
use everpulse::{Never, activity as activity_context, publish};
use serde::{Deserialize, Serialize};

/// How far a tour has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub cities: Vec<String>,
}

#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct City {
    pub name: String,
}

#[activity(queue = "travel")]
pub async fn travel(to: String) -> String {
    format!("travelled to {to}")
}

#[activity(queue = "travel")]
pub async fn go_home(from: String) -> String {
    format!("home from {from}")
}

/// The first attempt fails, and the second comes two minutes later.
#[activity(retry(initial = "2m", max = "2m", max_attempts = 3))]
pub async fn catches_the_next_train() -> Result<u32, everpulse::Error> {
    match activity_context::context().attempt() {
        1 => Err(std::io::Error::other("missed the train").into()),
        attempt => Ok(attempt),
    }
}

/// Needs a person, and then succeeds.
#[activity(retry(initial = "10ms", max_attempts = 2), exhausted = "park")]
pub async fn shows_passport() -> Result<u32, everpulse::Error> {
    match activity_context::context().attempt() {
        1..=2 => Err(std::io::Error::other("the passport is not valid").into()),
        attempt => Ok(attempt),
    }
}

/// Packs in a local step, publishes, and visits so many cities that it is told by signals.
#[workflow(version = 1)]
pub async fn tours(cities: usize) -> Result<Vec<String>, Failure<Never>> {
    let mut said = vec![step("pack", || async { Ok::<_, Never>("packed".to_owned()) }).await?];
    let mut progress = Progress { cities: Vec::new() };
    publish(&progress);
    while progress.cities.len() < cities {
        let city = signal::<City>().recv().await.name;
        progress.cities.push(city.clone());
        publish(&progress);
        said.push(city);
    }
    Ok(said)
}

/// Two at once, one of them by an activity.
#[workflow(version = 1)]
pub async fn travels(to: String) -> Result<String, Failure<Never>> {
    let (travelled, ()) = join!(travel(to), sleep(Duration::from_millis(1)));
    travelled
}

#[workflow(version = 1)]
pub async fn sleeps_for_a_while() -> String {
    sleep(Duration::from_secs(120)).await;
    "awake".to_owned()
}

#[workflow(version = 1)]
pub async fn takes_a_train() -> Result<u32, everpulse::Error> {
    Ok(catches_the_next_train().await?)
}

#[workflow(version = 1)]
pub async fn crosses_the_border() -> Result<u32, everpulse::Error> {
    Ok(shows_passport().await?)
}

/// Asked to cancel, it goes home first.
#[workflow(version = 1)]
pub async fn wanders() -> Result<(), everpulse::Error> {
    saga(async |saga| {
        saga.compensate(go_home("the woods".to_owned()));
        sleep(Duration::from_secs(360_000)).await;
        Ok(())
    })
    .await
}

/// The worker that wrote the directories did not know it.
#[workflow(version = 1)]
pub async fn came_later(name: String) -> String {
    format!("welcome, {name}")
}

/// All but what came later, and no activity of the queue `travel`.
#[must_use]
pub fn serve_some(worker: Worker) -> Worker {
    worker
        .workflow(tours)
        .workflow(travels)
        .workflow(sleeps_for_a_while)
        .workflow(takes_a_train)
        .workflow(crosses_the_border)
        .workflow(wanders)
        .activity(catches_the_next_train)
        .activity(shows_passport)
}

/// All of it.
#[must_use]
pub fn serve(worker: Worker) -> Worker {
    serve_some(worker).workflow(came_later).activity(travel).activity(go_home)
}
