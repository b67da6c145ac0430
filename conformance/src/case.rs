//! One case on a running application: start it, play the external system, and compare what its history says.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use everpulse::client::{Client, ErrorKind, Run};
use everpulse::{CompletionToken, Golden};
use regex::Regex;
use serde_json::{Value, json};

use crate::frames::Frames;
use crate::handlers::{RejectedError, workflow_of};
use crate::history::{self, Children, Writers};
use crate::logs::{self, Logs};
use crate::suite::Case;
use crate::variables::Variables;
use crate::{matching, payload};

/// No case may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a history is looked at while something is waited for in it.
const LOOK: Duration = Duration::from_millis(500);
/// How much later than the client others may be told of an end.
const LATE: Duration = Duration::from_secs(5);

/// Where cases are played.
#[derive(Debug)]
pub struct Stage {
    pub client: Client,
    pub logs: Logs,
    /// Who wrote what, where processes are killed. A single one is who wrote everything.
    pub frames: Option<Frames>,
}

/// The workflow id of a case.
#[must_use]
pub fn workflow_id_of(case: &Case) -> String {
    format!("case-{}", case.id)
}

/// Plays a case. What comes back differs from what is expected; nothing: it is as expected.
///
/// # Errors
/// When it cannot be played.
pub async fn play(stage: &Stage, case: &Case) -> Result<Vec<String>> {
    let mut variables = Variables::generate(case.body.get("Variables"))?;
    let input = variables.put_into(case.body.get("Input").unwrap_or(&Value::Null));
    let workflow = workflow_of(&case.id).context("there is no handler for it")?;
    let id = workflow_id_of(case);
    let run = stage.client.start_named(workflow, &json!({ "input": input })).id(&id).await?;
    let expected = case.list("ExpectedExecutionHistory");
    if expected.is_empty() {
        bail!("it expects no history");
    }
    let Some(result) = case.body.get("ExpectedResult") else {
        let differences = until_it_is_there(stage, &run, expected, &variables).await?;
        run.terminate("the case is over").await?;
        return Ok(differences);
    };
    let actions = case.list("CallbackActions");
    let ended = async {
        match run.result_timeout(PATIENCE).await {
            Ok(_) => Ok(()),
            Err(error) if error.failure().is_some() => Ok(()),
            Err(error) => Err(error).context("waiting for its end"),
        }
    };
    let outside = External { stage, run: &run, actions, variables: &variables }.play();
    tokio::select! {
        ended = ended => ended?,
        played = outside => { played?; unreachable!("the external system waits for ever") }
    }
    let events = events(stage, &run).await?;
    let mut differences = matching::compare(expected, &events, &mut variables)?;
    differences.extend(ended_as(result, &events, &variables));
    let expected = case.list("ExpectedLogs");
    differences.extend(said(stage, &id, expected, &variables).await?);
    if !differences.is_empty() {
        let shown: Vec<String> = events.iter().map(Value::to_string).collect();
        differences.push(format!("its history:\n    {}", shown.join("\n    ")));
    }
    Ok(differences)
}

/// What differs in what was logged. Those who look on are told of what stands, which may be a little later than the client.
async fn said(stage: &Stage, id: &str, expected: &[Value], variables: &Variables) -> Result<Vec<String>> {
    let until = tokio::time::Instant::now() + LATE;
    loop {
        let differences = logs::compare(expected, &stage.logs.of(id)?, variables)?;
        if differences.is_empty() || tokio::time::Instant::now() >= until {
            return Ok(differences);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Compares a history that goes on, until it is as expected.
async fn until_it_is_there<D>(
    stage: &Stage,
    run: &Run<D>,
    expected: &[Value],
    variables: &Variables,
) -> Result<Vec<String>>
where
    D: everpulse::Definition,
{
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let events = events(stage, run).await?;
        let differences = matching::compare(expected, &events, &mut variables.clone())?;
        if differences.is_empty() || tokio::time::Instant::now() >= until {
            return Ok(differences);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How a run ended, against how it is to end.
fn ended_as(expected: &Value, events: &[Value], variables: &Variables) -> Vec<String> {
    let mut differences = Vec::new();
    let last = events.last().cloned().unwrap_or_default();
    let status = match last["EventType"].as_str() {
        Some("ExecutionSucceeded") => "SUCCEEDED",
        Some("ExecutionFailed") => "FAILED",
        Some("ExecutionTimedOut") => "TIMED_OUT",
        Some("ExecutionStopped") => "STOPPED",
        _ => "in no state that the suite has",
    };
    if let Some(wanted) = expected.get("ExecutionStatus").and_then(Value::as_str)
        && wanted != status
    {
        differences.push(format!("it is {status}, expected {wanted}"));
    }
    if let (Some(wanted), "SUCCEEDED") = (expected.get("Result"), status) {
        let text = last["ExecutionSucceededDetails"]["Result"]["Payload"].as_str().unwrap_or_default();
        let (wanted, result) = (variables.put_into(wanted), payload::read(text));
        if wanted != result {
            differences.push(format!("its result is {result}, expected {wanted}"));
        }
    }
    differences
}

/// The suite's events of a run, by its history and those of the runs that it began.
async fn events<D: everpulse::Definition>(stage: &Stage, run: &Run<D>) -> Result<Vec<Value>> {
    let golden = Golden::from_json(&run.export().await?)?;
    let mut children = Children::new();
    for (workflow_id, run_id) in history::begun(&golden) {
        match stage.client.run_named(workflow_id).export().await {
            Ok(text) => {
                children.insert(run_id, Golden::from_json(&text)?);
            }
            // It is asked for, and has not begun yet.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let writers = match &stage.frames {
        Some(frames) => frames.writers(golden.run_id).await?,
        None => Writers::new(),
    };
    Ok(history::events(&golden, &children, &writers))
}

/// The external system of a case: it finds callbacks in the history, and does what the case says.
struct External<'a, D: everpulse::Definition> {
    stage: &'a Stage,
    run: &'a Run<D>,
    actions: &'a [Value],
    variables: &'a Variables,
}

impl<D: everpulse::Definition> External<'_, D> {
    /// # Errors
    /// When an action cannot be done. It never ends otherwise.
    async fn play(self) -> Result<()> {
        let mut used = BTreeSet::new();
        let mut handled = BTreeSet::new();
        while used.len() < self.actions.len() {
            // An export reads a whole shard: it is asked for when there is something new to be completed.
            let view = self.run.describe().await?;
            let mut tokens = view.pending.iter().filter_map(|step| step.token.as_ref());
            if !tokens.any(|token| !handled.contains(&token.to_string())) {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            for event in events(self.stage, self.run).await? {
                let token = event["CallbackStartedDetails"]["CallbackId"].as_str();
                let Some(token) = token.filter(|token| !handled.contains(*token)) else { continue };
                let name = event["Name"].as_str().unwrap_or_default();
                // One after another, while they do not end it: whoever tells of it in time does not look again before.
                while let Some((index, action)) = self.next(&used, name) {
                    used.insert(index);
                    if self.act(action, token).await? {
                        handled.insert(token.to_owned());
                        break;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        std::future::pending().await
    }

    /// The first action for a callback of this name that was not done.
    fn next(&self, used: &BTreeSet<usize>, name: &str) -> Option<(usize, &Value)> {
        self.actions.iter().enumerate().find(|(index, action)| !used.contains(index) && self.is_for(action, name))
    }

    fn is_for(&self, action: &Value, name: &str) -> bool {
        let wanted = self.variables.put_into_text(action["CallbackName"].as_str().unwrap_or_default());
        let fits = |pattern| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name));
        wanted == "*" || wanted == name || matching::pattern(&wanted).is_some_and(fits)
    }

    /// Does what an action says. True: that was the end of the callback.
    async fn act(&self, action: &Value, token: &str) -> Result<bool> {
        tokio::time::sleep(Duration::from_secs_f64(action["Delay"].as_f64().unwrap_or_default())).await;
        let token: CompletionToken<Value, RejectedError> = token.parse()?;
        let payload = self.variables.put_into(&action["Payload"]);
        match action["Operation"].as_str() {
            Some("success") => self.stage.client.complete(&token, payload).await?,
            Some("failure") if payload["ErrorType"] == "RejectedError" => {
                let message = payload["ErrorMessage"].as_str().unwrap_or_default().to_owned();
                self.stage.client.fail(&token, RejectedError { message }).await?;
            }
            Some("heartbeat") => {
                self.stage.client.activity(&token).heartbeat("it goes on").await?;
                return Ok(false);
            }
            other => bail!("an action of an unknown kind: {other:?} with {payload}"),
        }
        Ok(true)
    }
}
