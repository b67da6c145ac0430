//! Reading the history topic as it lies in the broker: every partition, from its earliest entry (or on from where an
//! earlier reading ended) to where it ends.
//!
//! Partitions are read by name with non-durable readers, which leave no trace. A reader that ends, fails or falls
//! silent is built anew from the earliest entry; entries that were read already are skipped, so that a
//! resubscription in the middle (which delivers again what it delivered before) changes nothing.
//!
//! History may be trimmed while it is read, and then a reader passes over what it had not sent yet. So when all is read,
//! what lies before the earliest entry of that moment is forgotten: of the rest nothing was trimmed meanwhile. Who reads on
//! behind a position keeps everything, and is to be faster than the trimming.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use pulsar::consumer::{ConsumerOptions, InitialPosition};
use pulsar::message::proto::MessageIdData;
use pulsar::reader::Reader;
use pulsar::{Authentication, OperationRetryOptions, Pulsar, TokioExecutor};
use tokio::time::timeout;

use super::Options;
use crate::Position;

type Entries = Vec<(Position, Vec<u8>)>;

/// How long one operation, or the wait for the next entry, may take before the reader is built anew.
const PATIENCE: Duration = Duration::from_secs(15);
const TRIES: u32 = 12;
/// The longest time between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Partitions that are read at a time.
const CONCURRENCY: usize = 8;
const QUEUE_SIZE: u32 = 1_000;

/// Reads all partitions, in the order of their numbers; each behind the position that is given for it, or whole.
pub async fn read_history(options: &Options, behind: &[Option<Position>]) -> anyhow::Result<Vec<Entries>> {
    let url = &options.service_url;
    let pulsar = timeout(PATIENCE, connect(options))
        .await
        .with_context(|| format!("no answer from {url} within {PATIENCE:?}"))?
        .with_context(|| format!("cannot connect to {url}"))?;
    let topic = format!("persistent://{}/history", namespace(options));
    let partitions = timeout(PATIENCE, pulsar.lookup_partitioned_topic_number(&topic))
        .await
        .with_context(|| format!("no answer from {url} within {PATIENCE:?}"))?
        .with_context(|| format!("cannot ask {url} for the partitions of {topic}"))?;
    if partitions == 0 {
        bail!("{topic} is not there, or not partitioned: is {} the namespace of an application?", namespace(options));
    }
    let behind = behind.iter().copied().chain(std::iter::repeat(None));
    stream::iter((0..partitions).zip(behind))
        .map(|(partition, behind)| read_with_retries(&pulsar, format!("{topic}-partition-{partition}"), behind))
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

/// The namespace that is meant.
pub fn namespace(options: &Options) -> &str {
    if options.namespace.is_empty() { "public/everpulse" } else { &options.namespace }
}

async fn connect(options: &Options) -> Result<Pulsar<TokioExecutor>, pulsar::Error> {
    let retry = OperationRetryOptions { operation_timeout: Duration::from_secs(10), ..Default::default() };
    let mut builder = Pulsar::builder(&options.service_url, TokioExecutor).with_operation_retry_options(retry);
    if let Some(token) = &options.token {
        builder = builder.with_auth(Authentication { name: "token".to_owned(), data: token.clone().into_bytes() });
    }
    builder.build().await
}

async fn read_with_retries(
    pulsar: &Pulsar<TokioExecutor>,
    topic: String,
    behind: Option<Position>,
) -> anyhow::Result<Entries> {
    let mut entries = Entries::new();
    let mut pause = Duration::from_millis(100);
    for last_try in (0..TRIES).map(|tried| tried + 1 == TRIES) {
        let done = async {
            read(pulsar, &topic, behind, &mut entries).await?;
            if behind.is_none() { forget_trimmed(pulsar, &topic, &mut entries).await } else { Ok(()) }
        };
        match done.await {
            Ok(()) => return Ok(entries),
            Err(error) if last_try => return Err(error.context(format!("cannot read {topic}"))),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    unreachable!("the last try returns")
}

/// Reads what is there behind a position and not in `entries` yet.
async fn read(
    pulsar: &Pulsar<TokioExecutor>,
    topic: &str,
    behind: Option<Position>,
    entries: &mut Entries,
) -> anyhow::Result<()> {
    // Asked by a reader that receives nothing, since one with a full queue leaves the question unanswered.
    let mut asking = reader(pulsar, topic, from(InitialPosition::Latest)).await?;
    let last = timeout(PATIENCE, asking.get_last_message_id()).await.context("no answer to the last position")??;
    drop(asking);
    let Some(last) = position(&last) else { return Ok(()) };
    let known = |entries: &Entries| entries.last().map(|(position, _)| *position).or(behind);
    if known(entries) >= Some(last) {
        return Ok(());
    }
    // What comes twice is skipped below, wherever the broker begins.
    let start = match known(entries) {
        Some(position) => ConsumerOptions::default().starting_on_message(message_id(position)),
        None => from(InitialPosition::Earliest),
    };
    let mut reader = reader(pulsar, topic, start).await?;
    while known(entries) < Some(last) {
        let message =
            timeout(PATIENCE, reader.next()).await.context("no entry came")?.context("the reader ended")??;
        let Some(position) = position(message.message_id()) else { continue };
        if Some(position) > known(entries) {
            entries.push((position, message.payload.data.clone()));
        }
    }
    Ok(())
}

/// Keeps of what was read only what is still there.
async fn forget_trimmed(pulsar: &Pulsar<TokioExecutor>, topic: &str, entries: &mut Entries) -> anyhow::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut reader = reader(pulsar, topic, from(InitialPosition::Earliest)).await?;
    let first =
        timeout(PATIENCE, reader.next()).await.context("no first entry came")?.context("the reader ended")??;
    if let Some(first) = position(first.message_id()) {
        entries.retain(|(position, _)| *position >= first);
    }
    Ok(())
}

async fn reader(
    pulsar: &Pulsar<TokioExecutor>,
    topic: &str,
    options: ConsumerOptions,
) -> anyhow::Result<Reader<Vec<u8>, TokioExecutor>> {
    let options = options.durable(false).with_receiver_queue_size(QUEUE_SIZE);
    let reader = pulsar
        .reader()
        .with_topic(topic)
        .with_consumer_name("everpulse-checker")
        .with_batch_size(QUEUE_SIZE)
        .with_options(options)
        .into_reader();
    Ok(timeout(PATIENCE, reader).await.context("no answer to the subscription")??)
}

fn from(position: InitialPosition) -> ConsumerOptions {
    ConsumerOptions::default().with_initial_position(position)
}

fn message_id(position: Position) -> MessageIdData {
    MessageIdData { ledger_id: position.ledger, entry_id: position.entry, ..MessageIdData::default() }
}

/// None where there is nothing: the broker says -1 then.
fn position(id: &MessageIdData) -> Option<Position> {
    let there = i64::try_from(id.ledger_id).is_ok() && i64::try_from(id.entry_id).is_ok();
    there.then_some(Position { ledger: id.ledger_id, entry: id.entry_id })
}
