//! `ballot`: members vote by signals, everybody may ask how it stands, and programs that know no type of ours take part in JSON.
//!
//! ```text
//! cargo run --bin ballot
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::Codec;
use everpulse::prelude::*;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[signal]
#[derive(Debug, Serialize, Deserialize)]
struct Vote {
    member: String,
    candidate: String,
}

/// How many votes a candidate has so far.
#[query(reply = usize)]
#[derive(Debug, Serialize, Deserialize)]
struct VotesFor {
    candidate: String,
}

/// Whoever opened it votes first. Then everybody has a say, once, until the time is over or all have spoken.
#[workflow(version = 1)]
async fn ballot(chair: String, members: usize, minutes: u64) -> BTreeMap<String, usize> {
    let votes: Rc<RefCell<BTreeMap<String, String>>> = Rc::default();
    let so_far = Rc::clone(&votes);
    on_query(move |VotesFor { candidate }: VotesFor| {
        so_far.borrow().values().filter(|voted| **voted == candidate).count()
    });
    let count = |vote: Vote| {
        votes.borrow_mut().entry(vote.member).or_insert(vote.candidate);
    };

    // Votes of others that come earlier are kept.
    count(signal::<Vote>().recv_where(move |vote| vote.member == chair).await);
    let everybody = async {
        let mut all = signal::<Vote>().stream();
        while votes.borrow().len() < members {
            let Some(vote) = all.next().await else { break };
            count(vote);
        }
    };
    // What came in time counts also when not all have voted.
    let _ = timeout(Duration::from_secs(minutes * 60), everybody).await;
    let mut result = BTreeMap::new();
    for candidate in votes.borrow().values() {
        *result.entry(candidate.clone()).or_default() += 1;
    }
    result
}

/// Holds a ballot.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-ballot-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    // All values of this application are JSON: who reads its topics needs nothing else to understand them.
    let worker = Worker::connect(url).await.context("cannot start a worker")?.codec(Codec::json());
    let worker = worker.workflow(ballot).spawn().await?;
    let client = Client::connect(url).await.context("cannot reach the application")?.codec(Codec::json());
    let id = format!("ballot-{}", std::process::id());
    let vote = |member: &str, candidate: &str| Vote { member: member.to_owned(), candidate: candidate.to_owned() };

    let run = client.start(ballot("Ada".to_owned(), 4, 60)).id(&id).await?;
    run.signal(vote("Bob", "Grace")).await?;
    let grace = || VotesFor { candidate: "Grace".to_owned() };
    println!("before the chair has voted Grace has {}", run.query(grace()).await?);
    run.signal(vote("Ada", "Grace")).await?;
    println!("and then {}", run.query(grace()).await?);

    // Another program: it has names and JSON, and none of the types above.
    let other = client.run_named(&id);
    other.signal_named("Vote", &json!({ "member": "Cleo", "candidate": "Alan" })).await?;
    let alan: usize = other.query_named("VotesFor", &json!({ "candidate": "Alan" })).await?;
    println!("Alan has {alan}");
    run.signal(vote("Bob", "Alan")).await?;
    run.signal(vote("Dan", "Alan")).await?;
    let result = run.result().await?;
    println!("{}", serde_json::to_string(&result)?);
    ensure!(result.values().sum::<usize>() == 4, "each member has one vote");
    worker.stop().await;
    Ok(())
}
