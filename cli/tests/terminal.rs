//! The program as people and other systems use it, on either arm.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse::{Codec, CompletionToken, WorkerHandle};
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::workflows::Trouble;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// What it printed, and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

fn program(arm: &Arm, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everpulse"));
    command.args(["--url", arm.url()]).args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn say(arm: &Arm, arguments: &[&str]) -> Result<Said> {
    say_with(arm, arguments, "").await
}

async fn say_with(arm: &Arm, arguments: &[&str], input: &str) -> Result<Said> {
    let mut child = program(arm, arguments).spawn().context("starting the program")?;
    let mut stdin = child.stdin.take().context("its input")?;
    // It may not want any.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        error: String::from_utf8(output.stderr)?,
    })
}

impl Said {
    fn well(self) -> Result<String> {
        ensure!(self.code == Some(0), "it ended with {:?}: {}{}", self.code, self.out, self.error);
        Ok(self.out)
    }

    fn badly(self, code: i32, message: &str) -> Result<()> {
        ensure!(self.code == Some(code), "it ended with {:?}: {}{}", self.code, self.out, self.error);
        ensure!(self.error.contains(message), "it said {:?}", self.error);
        Ok(())
    }
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Go {
    on: u64,
}

#[query(reply = u64)]
#[derive(Serialize, Deserialize)]
struct Add {
    to: u64,
}

/// Waits for a promise, then for another one, then for a signal.
#[workflow(version = 1)]
async fn entrusts(amount: u64) -> String {
    on_query(move |add: Add| add.to + amount);
    let (first, second) = (promise::<u64>(), promise::<u64>().or::<Trouble>());
    let first = first.await.map_or_else(|failure| failure.to_string(), |value| value.to_string());
    let second = second.await.map_or_else(|failure| format!("{failure:?}"), |value| value.to_string());
    let third = signal::<Go>().recv().await.on;
    format!("{amount}, {first}, {second}, {third}")
}

/// Two signals.
#[workflow(version = 1)]
async fn hears() -> u64 {
    let first = signal::<Go>().recv().await.on;
    first * 10 + signal::<Go>().recv().await.on
}

#[activity(timeout = "60s", retry(initial = "50ms", max_attempts = 3))]
async fn sign(contract: String) -> Result<String, everpulse::Error> {
    let _ = contract;
    everpulse::activity::context().complete_later().await
}

/// Waits for signatures.
#[workflow(version = 1)]
async fn signs() -> String {
    let first = sign("rent".to_owned()).await.unwrap_or_else(|failure| format!("unsigned: {failure}"));
    let second = sign("loan".to_owned()).await.unwrap_or_else(|failure| format!("unsigned: {failure}"));
    format!("{first}; {second}")
}

async fn worker(arm: &Arm) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    worker.workflow(entrusts).workflow(hears).workflow(signs).activity(sign).spawn().await.context("starting a worker")
}

/// The tokens that a description shows, when there are so many.
async fn tokens(arm: &Arm, id: &str, count: usize) -> Result<Vec<String>> {
    everpulse_integration_tests::arm::eventually("the tokens are shown", || async {
        let view: Value = serde_json::from_str(&say(arm, &["describe", id, "--json"]).await?.well()?)?;
        let pending = view["pending"].as_array().context("what it waits for")?;
        let tokens: Vec<String> = pending.iter().filter_map(|step| Some(step["token"].as_str()?.to_owned())).collect();
        Ok((tokens.len() == count).then_some(tokens))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_looked_at_told_and_ended() -> Result<()> {
    let arm = Arm::new()?;
    let worker = worker(&arm).await?;
    let started: Value = serde_json::from_str(
        &say_with(&arm, &["start", "entrusts", "-", "--id", "e-1"], r#"{"amount": 5}"#).await?.well()?,
    )?;
    assert_eq!(started["id"], "e-1");
    let tokens = tokens(&arm, "e-1", 2).await?;
    let described = say(&arm, &["describe", "e-1"]).await?.well()?;
    assert!(described.contains("entrusts (version 1)") && described.contains(&tokens[1]), "{described}");
    assert_eq!(say(&arm, &["query", "e-1", "Add", r#"{"to": 2}"#]).await?.well()?, "7\n");

    say(&arm, &["complete", &tokens[0], "seven"]).await?.badly(2, "is no JSON")?;
    say(&arm, &["complete", "ept1_x", "7"]).await?.badly(2, "token")?;
    say(&arm, &["complete", &tokens[0], "7"]).await?.well()?;
    say(&arm, &["complete", &tokens[0], "8"]).await?.badly(1, "it was completed before")?;
    say(&arm, &["heartbeat", &tokens[1]]).await?.badly(2, "is that of a promise")?;
    say(&arm, &["fail", &tokens[1], "no money", "--value", r#""Final""#]).await?.well()?;
    say(&arm, &["result", "e-1", "--wait-seconds", "1"]).await?.badly(3, "waiting for the result of e-1")?;
    say(&arm, &["signal", "e-1", "Go", r#"{"on": 3}"#]).await?.well()?;
    assert_eq!(say(&arm, &["result", "e-1"]).await?.well()?, "\"5, 7, Failed(Final), 3\"\n");
    assert!(say(&arm, &["export", "e-1"]).await?.well()?.contains("promise_settled"));
    assert!(say(&arm, &["describe", "e-1"]).await?.well()?.contains("completed"));

    // A signal goes along with a start, to the run that begins and to the one that is open.
    for value in ["{\"on\": 4}", "{\"on\": 5}"] {
        say(&arm, &["start", "hears", "--id", "h-1", "--signal", "Go", "--signal-value", value]).await?.well()?;
    }
    assert_eq!(say(&arm, &["result", "h-1"]).await?.well()?, "45\n");
    // One goes to all that carry a tag, and again under its id.
    say(&arm, &["start", "hears", "--id", "h-2", "--tag", "loud", "--tag", "new"]).await?.well()?;
    for (id, value) in [("s-1", r#"{"on": 6}"#), ("s-1", r#"{"on": 7}"#), ("s-2", r#"{"on": 8}"#)] {
        let told = say(&arm, &["signal-tag", "loud", "Go", value, "--signal-id", id]).await?.well()?;
        assert_eq!(told, "{\"at_least\":false,\"runs\":1}\n");
    }
    assert_eq!(say(&arm, &["result", "h-2"]).await?.well()?, "68\n");

    say(&arm, &["start", "entrusts", r#"{"amount": 1}"#, "--id", "e-1", "--if-known", "refuse"])
        .await?
        .badly(1, "e-1")?;
    let nameless = ["start", "entrusts", r#"{"amount": 1}"#, "--id", "e-2", "--header", "=acme"];
    say(&arm, &nameless).await?.badly(2, "write it as NAME=TEXT")?;
    let started = ["start", "entrusts", r#"{"amount": 1}"#, "--id", "e-2", "--header", "tenant=acme"];
    say(&arm, &started).await?.well()?;
    say(&arm, &["cancel", "e-2"]).await?.well()?;
    say(&arm, &["terminate", "nobody"]).await?.badly(1, "there is no run of workflow id nobody")?;
    assert_eq!(say(&arm, &["dead-letters", "list"]).await?.well()?, "there are none\n");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_whose_values_are_sealed_is_looked_at_with_its_keys() -> Result<()> {
    let arm = Arm::new()?;
    // 32 bytes each; the application seals with the first one, and the terminal has both.
    let (new, old) = ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let file = arm.dir().join("keys");
    std::fs::write(&file, format!("# of November\nnew {new}\nold {old}\n"))?;
    let keys = ["--keys-file", file.to_str().context("a path of text")?];
    let with_keys =
        |arguments: &[&'static str]| -> Vec<&str> { keys.iter().copied().chain(arguments.iter().copied()).collect() };
    let codec = Codec::message_pack().encrypt(format!("old {old}\nnew {new}\n").parse()?).only_sealed();
    let worker = Worker::connect(arm.url()).await?.codec(codec).workflow(entrusts).spawn().await?;

    say(&arm, &with_keys(&["start", "entrusts", r#"{"amount": 5}"#, "--id", "e-1"])).await?.well()?;
    assert_eq!(say(&arm, &with_keys(&["query", "e-1", "Add", r#"{"to": 2}"#])).await?.well()?, "7\n");
    let described: Value = serde_json::from_str(&say(&arm, &with_keys(&["describe", "e-1", "--json"])).await?.well()?)?;
    for step in described["pending"].as_array().context("what it waits for")? {
        let token = step["token"].as_str().context("a token")?;
        let complete = ["complete", token, "7", "--json-values"];
        say(&arm, &[keys.as_slice(), &complete].concat()).await?.well()?;
    }
    say(&arm, &with_keys(&["signal", "e-1", "Go", r#"{"on": 3}"#])).await?.well()?;
    assert_eq!(say(&arm, &with_keys(&["result", "e-1"])).await?.well()?, "\"5, 7, 7, 3\"\n");

    say(&arm, &["result", "e-1"]).await?.badly(2, "with key `old`, which this process does not have")?;
    std::fs::write(&file, "new c2VjcmV0")?;
    let refused = say(&arm, &with_keys(&["result", "e-1"])).await?;
    assert!(!refused.error.contains("c2V"), "{}", refused.error);
    refused.badly(2, "line 1: a key has 32 bytes")?;
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_completed_by_http() -> Result<()> {
    let arm = Arm::new()?;
    let worker = worker(&arm).await?;
    let secret = arm.dir().join("secret");
    std::fs::write(&secret, "quite a secret\n")?;
    let secret = secret.to_str().context("a path of text")?;
    say(&arm, &["serve", "--listen", "0.0.0.0:0"]).await?.badly(2, "needs a --token-file")?;
    let mut gateway = program(&arm, &["serve", "--listen", "127.0.0.1:0", "--token-file", secret]).spawn()?;
    let mut line = String::new();
    BufReader::new(gateway.stdout.take().context("its output")?).read_line(&mut line).await?;
    let url = serde_json::from_str::<Value>(&line)?["url"].as_str().context("its address")?.to_owned();

    let http = reqwest::Client::new();
    let post = async |path: &str, body: Value, bearer: &str| -> Result<(StatusCode, Value)> {
        let request = http.post(format!("{url}/v1/completions/{path}")).bearer_auth(bearer).json(&body);
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? }))
    };
    let told = async |path: &str, body: Value| post(path, body, "quite a secret").await;

    say(&arm, &["start", "signs", "--id", "s-1"]).await?.well()?;
    let first = tokens(&arm, "s-1", 1).await?.remove(0);
    // Anything else than a token of this form is refused before anybody is asked.
    let parsed: CompletionToken<String> = first.parse()?;
    assert_eq!(parsed.to_string(), first);
    let (status, body) = post(&first, json!("signed"), "a guess").await?;
    assert_eq!((status, &body["error"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")));
    assert_eq!(told("ept1_nonsense", json!(1)).await?.0, StatusCode::BAD_REQUEST);
    assert_eq!(told(&format!("{first}/failure"), json!({ "mesage": "x" })).await?.0, StatusCode::BAD_REQUEST);

    let (status, _) = told(&format!("{first}/heartbeat"), json!({ "with": "the notary" })).await?;
    assert_eq!(status, StatusCode::NO_CONTENT);
    // Failed once: there is another attempt, with a token of its own.
    let (status, _) = told(&format!("{first}/failure"), json!({ "message": "the pen is empty" })).await?;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let again = everpulse_integration_tests::arm::eventually("another attempt", || async {
        let token = tokens(&arm, "s-1", 1).await?.remove(0);
        Ok((token != first).then_some(token))
    })
    .await?;
    let (status, body) = told(&first, json!("late")).await?;
    assert_eq!((status, &body["error"]), (StatusCode::CONFLICT, &json!("already_completed")), "{body}");
    assert_eq!(told(&again, json!("signed by A")).await?.0, StatusCode::NO_CONTENT);

    let second = everpulse_integration_tests::arm::eventually("the second contract", || async {
        let token = tokens(&arm, "s-1", 1).await?.remove(0);
        Ok((token != again).then_some(token))
    })
    .await?;
    let failed = json!({ "message": "nobody lends", "final": true });
    assert_eq!(told(&format!("{second}/failure"), failed).await?.0, StatusCode::NO_CONTENT);
    assert_eq!(say(&arm, &["result", "s-1"]).await?.well()?, "\"signed by A; unsigned: nobody lends\"\n");
    let (status, body) = told(&second, json!("too late")).await?;
    assert_eq!((status, &body["error"]), (StatusCode::GONE, &json!("already_closed")), "{body}");

    let pid = gateway.id().context("it runs")?;
    let ended = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    ensure!(ended.success(), "it can be asked to end");
    assert!(gateway.wait().await?.success(), "it ends cleanly");
    worker.stop().await;
    Ok(())
}
