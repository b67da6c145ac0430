//! Publishes what the definitions of this worker take and give, before it serves them.

use everpulse_schemas::{Board, Kind, NotPublished, Published, now};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::schema::Schemas;
use everpulse_transport::Transport;

use crate::error::{Error, ErrorKind};

/// Publishes all that is compatible with what stands, or nothing.
///
/// # Errors
/// The first that is not compatible, by name and field; or when the broker does not answer.
pub(crate) async fn publish(transport: &Transport, registry: &Registry, build: Option<&str>) -> Result<(), Error> {
    let own = own(registry, build);
    if own.is_empty() {
        return Ok(());
    }
    Board::new(transport.clone()).publish(&own).await.map_err(|error| match error {
        NotPublished::Refused(refused) => Error::new(ErrorKind::Invalid, refused.to_string()),
        NotPublished::Transport(error) => error.into(),
    })
}

fn own(registry: &Registry, build: Option<&str>) -> Vec<Published> {
    let published = |kind, name: &str, version, build: Option<&str>, schemas: Schemas| Published {
        kind,
        name: name.to_owned(),
        version,
        at: now(),
        build: build.map(str::to_owned),
        takes: schemas.takes,
        gives: schemas.gives,
        fails: schemas.fails,
        forgotten: false,
        follows: None,
    };
    let workflows = registry.workflows().map(|entry| {
        let build = build.or(entry.build);
        published(Kind::Workflow, entry.name, Some(entry.version), build, (entry.schemas)())
    });
    let activities =
        registry.activities().map(|entry| published(Kind::Activity, &entry.name, None, build, (entry.schemas)()));
    let messages = registry.messages().map(|(kind, name, schemas)| published(kind, name, None, build, schemas));
    workflows.chain(activities).chain(messages).collect()
}
