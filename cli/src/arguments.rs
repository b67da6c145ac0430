//! What can be said on the command line, and values that come with it.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use everpulse::client::{IdPolicy, LetterId};
use everpulse::codecs::InvalidKeys;
use everpulse::{Blobs, Codec, Keys, RunId};
use serde_json::Value;

use crate::schedules::ScheduleCommand;

/// Durable workflows from a terminal.
///
/// Values are JSON: a text on the command line, `@FILE`, or `-` for standard input.
///
/// Exit code 0: done. 1: the answer is no (the run failed, there is none, it was completed before). 2: the command or a
/// value is wrong, or a key is missing. 3: nobody could be asked, or nobody answered in time.
#[derive(Debug, Parser)]
#[command(name = "everpulse", version)]
pub struct Arguments {
    /// The application: `embedded:DIR` or `pulsar[+ssl]://HOST:PORT[/TENANT/NAMESPACE]`; EVERPULSE_URL without it
    #[arg(long, global = true)]
    pub url: Option<String>,
    /// How long an answer is waited for, in seconds; results are waited for without end
    #[arg(long, global = true, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout_seconds: u64,
    /// The keys of an application whose values are sealed: a line `NAME BASE64` for each, the first one seals; the file that
    /// EVERPULSE_KEYS_FILE names without it
    #[arg(long, global = true, env = "EVERPULSE_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// Write values as JSON instead of MessagePack; both are read
    #[arg(long, global = true)]
    pub json_values: bool,
    /// Where large values lie: `NAME=DIR` for a directory, `NAME` for the broker itself
    #[arg(long, global = true, env = "EVERPULSE_BLOBS", value_parser = blobs)]
    pub blobs: Option<Blobs>,
    #[command(subcommand)]
    pub command: Command,
}

fn blobs(text: &str) -> Result<Blobs, String> {
    let (name, dir) = text.split_once('=').map_or((text, None), |(name, dir)| (name, Some(dir)));
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(good) {
        return Err(format!("{name:?} is no name of a store: use letters, digits, `-` and `_`"));
    }
    Ok(match dir {
        Some(dir) => Blobs::in_directory(name, dir),
        None => Blobs::on_broker(name),
    })
}

/// What was published by the workers.
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// What there is
    List,
    /// The schemas of one: what it takes, gives and fails with
    Show {
        kind: KindArgument,
        name: String,
        /// This version, instead of the newest
        #[arg(long)]
        version: Option<u32>,
    },
    /// Let anything be published in its place; only when nothing is left that was written or is read by it
    Forget {
        kind: KindArgument,
        name: String,
        #[arg(long)]
        version: Option<u32>,
    },
}

/// What a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KindArgument {
    Workflow,
    Activity,
    Signal,
    Query,
    Update,
}

impl std::fmt::Display for KindArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(everpulse::schema::Kind::from(*self).name())
    }
}

/// Large values that lie in the store of `--blobs`.
#[derive(Debug, Subcommand)]
pub enum BlobCommand {
    /// Make the directories of `--blobs`, where they are not there yet: once, when what they lie on is mounted
    Create,
    /// Forget what was put for the last time so long ago. Nothing may name it any more: take longer than your longest run
    /// lives, from when it was asked for (a start can wait for its time), and the retention, and what a dead letter waits for an
    /// operator, together
    Collect {
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        older_than_days: u32,
    },
}

impl Arguments {
    /// How values are written and opened.
    pub fn codec(&self) -> Result<Codec, BadInput> {
        let codec = if self.json_values { Codec::json() } else { Codec::message_pack() };
        let Some(file) = &self.keys_file else { return Ok(codec) };
        let bad = |what: String| BadInput(format!("the keys of {}: {what}", file.display()));
        let keys = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        let keys: Keys = keys.parse().map_err(|error: InvalidKeys| bad(error.to_string()))?;
        Ok(codec.encrypt(keys))
    }

    /// How long an answer is waited for.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Run(RunCommand),
    #[command(flatten)]
    Completion(CompletionCommand),
    /// Runs that are begun at times
    Schedule {
        #[command(subcommand)]
        command: ScheduleCommand,
    },
    /// What attempts ran out for, and what nobody could take
    DeadLetters {
        #[command(subcommand)]
        command: LetterCommand,
    },
    /// Values that lie out of line
    Blobs {
        #[command(subcommand)]
        command: BlobCommand,
    },
    /// What workflows, activities, signals and queries take and give
    Schema {
        #[command(subcommand)]
        command: SchemaCommand,
    },
    /// Completions by HTTP: POST /v1/completions/TOKEN
    Serve(ServeOptions),
}

/// Runs: begin, look at, tell, end.
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Begin a run, and print its workflow id and run id
    Start {
        /// The workflow's name
        workflow: String,
        /// Its arguments: an object by parameter name
        #[arg(default_value = "{}")]
        args: String,
        /// The workflow id; a new UUID without it
        #[arg(long)]
        id: Option<String>,
        /// A word by which the run is found; may be given several times
        #[arg(long = "tag")]
        tags: Vec<String>,
        /// What travels with the run beside its arguments, as NAME=TEXT; may be given several times
        #[arg(long = "header")]
        headers: Vec<String>,
        /// How urgent its activities and children are that say nothing else: 1 is taken first, 5 last
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=5))]
        priority: Option<u8>,
        /// Whose they are: keys of one priority take turns
        #[arg(long, value_name = "KEY")]
        fairness_key: Option<String>,
        /// This version, instead of the newest that the workers have
        #[arg(long)]
        version: Option<u32>,
        /// Start it though its workers have published that they take no such arguments
        #[arg(long)]
        unchecked: bool,
        /// The run fails with a time-out so many seconds after its start
        #[arg(long)]
        run_timeout_seconds: Option<u64>,
        /// Send it this signal first, or the run of this id that is open already
        #[arg(long, value_name = "NAME")]
        signal: Option<String>,
        /// The value of that signal
        #[arg(long, requires = "signal", default_value = "null")]
        signal_value: String,
        /// What happens when the id is known already: `attach`, or `restart` with a signal, if nothing is said
        #[arg(long, value_enum)]
        if_known: Option<IfKnown>,
        /// Wait for the result, and print it
        #[arg(long)]
        wait: bool,
    },
    /// Wait for a run's end, and print what it gave
    Result {
        id: String,
        /// This run alone, and not those that continue it as new
        #[arg(long)]
        run: Option<RunId>,
        /// Wait no longer than so many seconds
        #[arg(long)]
        wait_seconds: Option<u64>,
    },
    /// Show a run: its status, what it waits for, and who may complete that
    Describe {
        id: String,
        /// This run alone, and not those that continue it as new
        #[arg(long)]
        run: Option<RunId>,
        /// As JSON, with times in milliseconds since 1970
        #[arg(long)]
        json: bool,
    },
    /// Send a signal
    Signal {
        id: String,
        name: String,
        #[arg(default_value = "null")]
        value: String,
    },
    /// Send a signal to all open runs that carry a tag, and print how many there were
    SignalTag {
        tag: String,
        name: String,
        #[arg(default_value = "null")]
        value: String,
        /// The same id is the same signal, which no run takes twice; a new UUID without it
        #[arg(long)]
        signal_id: Option<String>,
    },
    /// Request an update, and print its answer
    Update {
        id: String,
        name: String,
        #[arg(default_value = "{}")]
        value: String,
        /// The same id is the same request; a new UUID without it
        #[arg(long)]
        update_id: Option<String>,
        /// Do not wait for the answer, and print the update's id when the run has taken it
        #[arg(long)]
        accepted: bool,
    },
    /// Wait for the answer to an update that was requested before
    UpdateResult { id: String, update_id: String },
    /// Ask a query, and print the answer
    Query {
        id: String,
        name: String,
        #[arg(default_value = "{}")]
        value: String,
    },
    /// Ask a run to cancel; it may clean up
    Cancel {
        id: String,
        #[arg(long, default_value = "by an operator")]
        reason: String,
    },
    /// End a run at once; its code is not asked
    Terminate {
        id: String,
        #[arg(long, default_value = "by an operator")]
        reason: String,
    },
    /// Try a parked run again
    Resume { id: String },
    /// Print a run's history as JSON, for tests that replay it
    Export {
        id: String,
        /// This run alone, and not those that continue it as new
        #[arg(long)]
        run: Option<RunId>,
        /// With what headers say: there may be tokens among them
        #[arg(long)]
        headers: bool,
    },
}

/// What happens when the workflow id of a start is known already.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum IfKnown {
    /// The existing run is meant
    Attach,
    /// The start is refused
    Refuse,
    /// An open run is meant; after a closed one a new one begins
    Restart,
}

impl From<IfKnown> for IdPolicy {
    fn from(known: IfKnown) -> Self {
        match known {
            IfKnown::Attach => Self::Attach,
            IfKnown::Refuse => Self::Reject,
            IfKnown::Restart => Self::RestartWhenClosed,
        }
    }
}

/// What waits to be completed from outside, by its token.
#[derive(Debug, Subcommand)]
pub enum CompletionCommand {
    /// Complete a promise, or an activity that was left to be completed later
    Complete {
        token: String,
        #[arg(default_value = "null")]
        value: String,
    },
    /// Say that it failed; an activity is tried again, as its retry policy says
    Fail {
        token: String,
        /// What went wrong, for people
        message: String,
        /// The error's value, for a workflow that has its type
        #[arg(long)]
        value: Option<String>,
        /// No other attempt could go better: the workflow gets the error at once
        #[arg(long = "final")]
        is_final: bool,
    },
    /// Say that the activity goes on, and how far it has come
    Heartbeat {
        token: String,
        #[arg(default_value = "null")]
        details: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum LetterCommand {
    /// All letters, the oldest first
    List {
        #[command(flatten)]
        of: LettersOf,
        #[arg(long)]
        json: bool,
    },
    /// One letter, with its failures
    Show {
        id: LetterId,
        #[command(flatten)]
        of: LettersOf,
    },
    /// Put a letter back where it came from
    Redrive {
        id: LetterId,
        #[command(flatten)]
        of: LettersOf,
    },
    /// Give a letter up for good
    Drop {
        id: LetterId,
        #[command(flatten)]
        of: LettersOf,
    },
}

/// Whose letters.
#[derive(Debug, Args)]
pub struct LettersOf {
    /// Of this queue of activities; without it of the inbox, where events are
    #[arg(long)]
    pub queue: Option<String>,
}

#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Where to listen; anything but loopback needs a token
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// A file with the token that requests must bear, as `Authorization: Bearer TOKEN`
    #[arg(long)]
    pub token_file: Option<PathBuf>,
    /// The largest body of a request
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1024..=64 << 20))]
    pub max_body_bytes: u64,
}

/// What was given is no value.
#[derive(Debug)]
pub struct BadInput(String);

impl BadInput {
    /// With what is wrong, and what would be right.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// A value from the command line: JSON, `@FILE`, or `-`.
///
/// # Errors
/// When it cannot be read, or is no JSON.
pub fn json(what: &str, given: &str) -> Result<Value, BadInput> {
    let (text, from) = match given.strip_prefix('@') {
        _ if given == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            (read.map(|_| text), "standard input".to_owned())
        }
        Some(file) => (std::fs::read_to_string(file), file.to_owned()),
        None => (Ok(given.to_owned()), format!("`{given}`")),
    };
    let text = text.map_err(|error| BadInput(format!("cannot read {what} from {from}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| {
        BadInput(format!("cannot read {what}: {from} is no JSON ({error}); a text stands in quotes: '\"text\"'"))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_value_that_is_no_json_says_what_was_meant() {
        assert_eq!(json("the value", "[1, true]").expect("JSON"), serde_json::json!([1, true]));
        let error = json("the value", "yes").expect_err("it has no quotes").to_string();
        assert!(error.starts_with("cannot read the value: `yes` is no JSON"), "{error}");
        let error = json("the value", "@/nowhere/at-all").expect_err("there is no such file").to_string();
        assert!(error.starts_with("cannot read the value from /nowhere/at-all: "), "{error}");
    }
}
