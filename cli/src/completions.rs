//! What waits to be completed from outside, by its token; for the command line and for HTTP alike.

use std::fmt;

use everpulse::client::{Client, Error};
use everpulse::{CompletionToken, client};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arguments::{BadInput, CompletionCommand, json};

/// A token whose types are not known here: values are JSON.
pub type Token = CompletionToken<Value, Told>;

/// A failure as it was told from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told {
    /// What a workflow that has the error's type reads it from.
    value: Value,
    #[serde(skip)]
    message: String,
}

impl Told {
    /// A message for people, and the value of the error's type, if the workflow has one. Without it the value is that of
    /// an [`everpulse::Error`].
    pub fn new(message: String, value: Option<Value>) -> Self {
        let value = value.unwrap_or_else(|| serde_json::json!({ "message": message }));
        Self { value, message }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Carries out what was said on the command line.
///
/// # Errors
/// A value or token that is none, and those of the client.
pub async fn run(client: &Client, command: CompletionCommand) -> anyhow::Result<()> {
    match command {
        CompletionCommand::Complete { token, value } => {
            let (token, value) = (parsed(&token)?, json("the value", &value)?);
            client.complete(&token, value).await?;
        }
        CompletionCommand::Fail { token, message, value, is_final } => {
            let value = value.as_deref().map(|value| json("the error's value", value)).transpose()?;
            fail(client, &parsed(&token)?, Told::new(message, value), is_final).await?;
        }
        CompletionCommand::Heartbeat { token, details } => {
            let (token, details) = (parsed(&token)?, json("the details", &details)?);
            client.activity(&token).heartbeat(details).await?;
        }
    }
    Ok(())
}

/// Says that it failed, for this attempt or for good.
///
/// # Errors
/// As [`client::Attempt::fail`].
pub async fn fail(client: &Client, token: &Token, told: Told, is_final: bool) -> Result<(), Error> {
    match is_final {
        true => client.activity(token).fail_for_good(told).await,
        false => client.fail(token, told).await,
    }
}

fn parsed(token: &str) -> Result<Token, BadInput> {
    token.parse().map_err(|error: client::InvalidToken| BadInput::new(error.to_string()))
}
