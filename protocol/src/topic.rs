//! The names of the topics of one application, below its tenant and namespace.

/// Frames of events on their way to a run. Partitioned; Key_Shared; the key is the shard.
pub const INBOX: &str = "inbox";
/// Events that could not be handed to any run, and bytes that nobody could read.
pub const INBOX_DEAD: &str = "inbox.dead";
/// The chains, one partition per shard.
pub const HISTORY: &str = "history";
/// Delayed messages: wake-ups of shards and retries of activities.
pub const TIMERS: &str = "timers";

/// The subscription of the owners on [`INBOX`].
pub const OWNERS: &str = "owners";
/// The subscription on [`HISTORY`] that keeps it from being trimmed.
pub const JANITOR: &str = "janitor";
/// The subscription of the workers on [`TIMERS`].
pub const RELAY: &str = "relay";
/// The subscription of the workers on a queue.
pub const WORKERS: &str = "workers";
/// The subscription on dead-letter topics.
pub const OPERATORS: &str = "operators";

/// The queue of activities that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// The topic of a queue's tasks.
#[must_use]
pub fn activity(queue: &str) -> String {
    format!("activity.{queue}")
}

/// The topic of a queue's dead letters.
#[must_use]
pub fn activity_dead(queue: &str) -> String {
    format!("activity.{queue}.dead")
}

/// The non-persistent topic on which a client hears.
#[must_use]
pub fn replies(client: &str) -> String {
    format!("replies.{client}")
}

/// The topic in which the broker keeps the blobs of a store.
#[must_use]
pub fn blobs(store: &str) -> String {
    format!("blobs.{store}")
}

/// What workflows, activities, signals and queries take and give, as it is published.
pub const SCHEMAS: &str = "schemas";

/// Which lanes of queues are in use; [`priority`](crate::priority).
pub const LANES: &str = "lanes";

/// What workers say to each other about the permits of a queue, by one rule; [`permit`](crate::permit).
#[must_use]
pub fn permits(queue: &str, rule: &str) -> String {
    format!("permits.{queue}.{rule}")
}

/// The subscription that keeps blobs, schemas and the names of lanes from being trimmed.
pub const KEEPER: &str = "keeper";

/// The non-persistent topic on which every activity worker hears of cancelled tasks.
pub const CONTROL: &str = "control";

/// The name of one partition of a partitioned topic, as Pulsar spells it.
#[must_use]
pub fn partition(topic: &str, partition: u32) -> String {
    format!("{topic}-partition-{partition}")
}

/// The Key_Shared ordering key of a shard.
#[must_use]
pub fn shard_key(shard: u32) -> String {
    format!("shard-{shard}")
}

/// Whether a text can be a queue's name: letters, digits, `-` and `_`, at most 64, so that it is a topic's name too.
#[must_use]
pub fn is_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
