//! How much lies unacknowledged in the topics beside history. Counts only: what the messages say is not read.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Unacknowledged messages by topic and subscription; partitions are added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// `topic/subscription`: messages. Without history, whose cursors keep it on purpose.
    pub messages: BTreeMap<String, u64>,
}

impl Backlog {
    /// The messages of a topic, over all its subscriptions.
    #[must_use]
    pub fn of(&self, topic: &str) -> u64 {
        let of_topic = |key: &str| key.rsplit_once('/').is_some_and(|(of, _)| of == topic);
        self.messages.iter().filter(|(key, _)| of_topic(key)).map(|(_, messages)| messages).sum()
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting: Vec<String> = self
            .messages
            .iter()
            .filter(|(_, messages)| **messages > 0)
            .map(|(of, messages)| format!("{of} {messages}"))
            .collect();
        let waiting = if waiting.is_empty() { "nothing".to_owned() } else { waiting.join(", ") };
        write!(f, "backlog     {waiting}")
    }
}
