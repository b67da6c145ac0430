//! Runs: begin, look at, tell, end.

use std::time::{Duration, SystemTime};

use anyhow::{anyhow, bail};
use everpulse::RunId;
use everpulse::client::{Client, ResultError, Run, Untyped, UpdateError};
use serde_json::Value;

use crate::arguments::{BadInput, RunCommand, json};
use crate::{output, schemas};

/// Carries out what was said on the command line.
///
/// # Errors
/// A value that is none, a run that failed, and those of the client.
pub async fn run(client: &Client, command: RunCommand) -> anyhow::Result<()> {
    match command {
        RunCommand::Start {
            workflow,
            args,
            id,
            tags,
            headers,
            priority,
            fairness_key,
            version,
            unchecked,
            run_timeout_seconds,
            signal,
            signal_value,
            if_known,
            wait,
        } => {
            let args = json("the arguments", &args)?;
            if !args.is_object() {
                bail!(BadInput::new("the arguments are an object by parameter name: '{\"order\": ..}'"));
            }
            if !unchecked {
                schemas::check_start(client, &workflow, version, &args).await?;
            }
            let mut start = client.start_named(&workflow, &args);
            if let Some(if_known) = if_known {
                start = start.policy(if_known.into());
            }
            if let Some(name) = signal {
                start = start.signal_named(&name, &json("the signal", &signal_value)?);
            }
            for tag in tags {
                start = start.tag(tag);
            }
            for header in headers {
                let Some((name, text)) = header.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                    bail!(BadInput::new(format!("{header:?} is no header: write it as NAME=TEXT")));
                };
                start = start.header(name, text);
            }
            if let Some(id) = id {
                start = start.id(id);
            }
            if let Some(level) = priority {
                start = start.priority(level);
            }
            if let Some(key) = fairness_key {
                start = start.fairness_key(key);
            }
            if let Some(version) = version {
                start = start.version(version);
            }
            if let Some(seconds) = run_timeout_seconds {
                start = start.timeout(Duration::from_secs(seconds));
            }
            let run = start.await?;
            if wait {
                return ended(&run, None).await;
            }
            let run_id = run.run_id().map(|run_id| run_id.to_string());
            println!("{}", serde_json::json!({ "id": run.id(), "run_id": run_id }));
            Ok(())
        }
        RunCommand::Result { id, run, wait_seconds } => {
            ended(&named(client, &id, run), wait_seconds.map(Duration::from_secs)).await
        }
        RunCommand::Describe { id, run, json } => {
            let view = named(client, &id, run).describe().await?;
            match json {
                true => println!("{:#}", output::description_json(&view)),
                false => print!("{}", output::description(&view, SystemTime::now())),
            }
            Ok(())
        }
        RunCommand::Signal { id, name, value } => {
            let value = json("the signal", &value)?;
            Ok(client.run_named(id).signal_named(&name, &value).await?)
        }
        RunCommand::SignalTag { tag, name, value, signal_id } => {
            let value = json("the signal", &value)?;
            let mut signal = client.signal_tag_named(tag, &name, &value);
            if let Some(signal_id) = signal_id {
                signal = signal.id(signal_id);
            }
            let reached = signal.await?;
            println!("{}", serde_json::json!({ "runs": reached.runs, "at_least": reached.at_least }));
            Ok(())
        }
        RunCommand::Update { id, name, value, update_id, accepted } => {
            let value = json("the update", &value)?;
            let mut update = client.run_named(&id).update_named(&name, &value);
            if let Some(update_id) = update_id {
                update = update.id(update_id);
            }
            if accepted {
                let taken = update.accepted().await.map_err(|error| update_failed(&id, error))?;
                println!("{}", serde_json::json!({ "update_id": taken.id() }));
            } else {
                println!("{:#}", update.await.map_err(|error| update_failed(&id, error))?);
            }
            Ok(())
        }
        RunCommand::UpdateResult { id, update_id } => {
            let answer = client.run_named(&id).update_result_named(update_id).await;
            println!("{:#}", answer.map_err(|error| update_failed(&id, error))?);
            Ok(())
        }
        RunCommand::Query { id, name, value } => {
            let value = json("the question", &value)?;
            let answer: Value = client.run_named(id).query_named(&name, &value).await?;
            println!("{answer:#}");
            Ok(())
        }
        RunCommand::Cancel { id, reason } => Ok(client.run_named(id).cancel(reason).await?),
        RunCommand::Terminate { id, reason } => Ok(client.run_named(id).terminate(reason).await?),
        RunCommand::Resume { id } => Ok(client.run_named(id).resume().await?),
        RunCommand::Export { id, run, headers } => {
            let run = named(client, &id, run);
            println!("{}", if headers { run.export_with_headers().await? } else { run.export().await? });
            Ok(())
        }
    }
}

/// The newest run of a workflow id, or one of them alone.
fn named(client: &Client, id: &str, run: Option<RunId>) -> Run<Untyped> {
    let newest = client.run_named(id);
    run.map_or_else(|| newest.clone(), |run| newest.only(run))
}

fn update_failed(id: &str, error: UpdateError<Value>) -> anyhow::Error {
    match error {
        UpdateError::Refused(failure) => anyhow!("{id} refuses the update: {failure}"),
        UpdateError::Failed(failure) => anyhow!("{id} answers that it failed: {failure}"),
        UpdateError::Other(error) => error.into(),
        other => anyhow!("{other}"),
    }
}

/// Waits for the end of a run, and prints what it gave.
async fn ended(run: &Run<Untyped>, limit: Option<Duration>) -> anyhow::Result<()> {
    let result = match limit {
        Some(limit) => run.result_timeout(limit).await,
        None => run.result().await,
    };
    match result {
        Ok(value) => {
            println!("{value:#}");
            Ok(())
        }
        Err(ResultError::Failed(failure)) => bail!("{} ended without a result: {failure}", run.id()),
        Err(error) => match error.into_failure() {
            Ok(failure) => bail!("{} ended without a result: {failure}", run.id()),
            Err(error) => Err(error.into()),
        },
    }
}
