//! What workflows take and give, as their workers have published it.

use anyhow::{Context as _, bail};
use everpulse::client::Client;
use everpulse::schema::{Kind, Published, fits};
use serde_json::{Value, json};

use crate::arguments::{BadInput, KindArgument, SchemaCommand};

/// Carries out what was said on the command line.
///
/// # Errors
/// Those of the client.
pub async fn run(client: &Client, command: SchemaCommand) -> anyhow::Result<()> {
    match command {
        SchemaCommand::List => {
            for published in client.schemas().await?.iter() {
                println!("{}", published.title());
            }
            Ok(())
        }
        SchemaCommand::Show { kind, name, version } => {
            let standing = client.schemas().await?;
            let published = standing.get(kind.into(), &name, version);
            let published = published.with_context(|| format!("nobody has published a {kind} `{name}`"))?;
            println!("{:#}", shown(published));
            Ok(())
        }
        SchemaCommand::Forget { kind, name, version } => Ok(client.forget_schema(kind.into(), &name, version).await?),
    }
}

fn shown(published: &Published) -> Value {
    let schema = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "takes": schema(&published.takes),
        "gives": schema(&published.gives),
        "fails": schema(&published.fails),
        "build": published.build,
    })
}

/// Whether a workflow takes these arguments, as far as its workers have said what it takes.
///
/// # Errors
/// The field that it does not take.
pub async fn check_start(client: &Client, name: &str, version: Option<u32>, args: &Value) -> anyhow::Result<()> {
    let standing = client.schemas().await?;
    let takes = standing.get(Kind::Workflow, name, version).and_then(|published| published.takes.as_deref());
    let Some(schema) = takes.and_then(|takes| serde_json::from_str::<Value>(takes).ok()) else { return Ok(()) };
    if let Err(mismatch) = fits(&schema, args) {
        bail!(BadInput::new(format!(
            "the workflow `{name}` does not take these arguments: {mismatch}; `everpulse schema show workflow {name}` says \
             what it takes, and --unchecked starts it nevertheless"
        )));
    }
    Ok(())
}

impl From<KindArgument> for Kind {
    fn from(kind: KindArgument) -> Self {
        match kind {
            KindArgument::Workflow => Self::Workflow,
            KindArgument::Activity => Self::Activity,
            KindArgument::Signal => Self::Signal,
            KindArgument::Query => Self::Query,
            KindArgument::Update => Self::Update,
        }
    }
}
