//! Lists of a namespace's topics, by pattern, and who is told when they change (PIP-145).
//!
//! A pattern is matched against the whole of `tenant/namespace/topic`, whatever the domain; a partition is
//! matched by the name of its partitioned topic. Partitions are listed singly. Patterns are regular expressions
//! in the syntax that Java's and RE2's have in common.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::ConnectionId;
use super::broker::Broker;
use super::effect::{Effect, Refusal, RefusalKind};
use super::name::TopicName;

/// Longer patterns are not looked at, as in Apache Pulsar's default: a list is not filtered then, a watcher refused.
pub const PATTERN_LEN_MAX: usize = 50;
/// Far more than a pattern of that length needs, unless it repeats repetitions.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Which domain's topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    Persistent,
    NonPersistent,
    All,
}

/// The answer to [`Broker::list_topics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicList {
    /// None if the asker knows them by their hash.
    pub topics: Option<Vec<String>>,
    /// Whether the pattern was applied.
    pub filtered: bool,
    pub hash: String,
}

/// Somebody who is told of topics that come and go.
#[derive(Debug)]
pub(super) struct Watcher {
    namespace: String,
    pattern: Regex,
    topics: BTreeSet<String>,
}

/// Watchers, and the namespaces whose topics have changed since they were told.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: BTreeMap<(ConnectionId, u64), Watcher>,
    changed: BTreeSet<String>,
}

/// CRC-32C of the sorted names with commas between, its bytes from the lowest, as Apache Pulsar has it.
pub fn topics_hash<'a>(sorted: impl IntoIterator<Item = &'a str>) -> String {
    let mut crc = None;
    for name in sorted {
        crc = Some(match crc {
            None => crc32c::crc32c(name.as_bytes()),
            Some(crc) => crc32c::crc32c_append(crc32c::crc32c_append(crc, b","), name.as_bytes()),
        });
    }
    crc.unwrap_or(0).to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(pattern: &str) -> Result<Regex, Refusal> {
    let pattern = pattern.split_once("://").map_or(pattern, |(_, pattern)| pattern);
    let whole = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
    whole.map_err(|error| {
        let message = format!("The pattern `{}` cannot be understood: {error}", pattern.escape_debug());
        Refusal::new(RefusalKind::NotAllowed, message)
    })
}

fn matches(pattern: &Regex, topic: &TopicName) -> bool {
    let base = topic.base();
    pattern.is_match(base.split_once("://").map_or(base, |(_, base)| base))
}

impl Broker {
    /// The topics of a namespace, sorted; none if it does not exist. A pattern that cannot be understood here
    /// (Java has some that nobody else has) is not applied; then the asker does it.
    pub fn list_topics(
        &self,
        namespace: &str,
        domain: Domain,
        pattern: Option<&str>,
        known_hash: Option<&str>,
    ) -> TopicList {
        let pattern = pattern.filter(|pattern| pattern.len() <= PATTERN_LEN_MAX);
        let pattern = pattern.and_then(|pattern| parse(pattern).ok());
        let filtered = pattern.is_some();
        let topics = self.topics_of(namespace).into_iter().filter(|topic| match domain {
            Domain::Persistent => topic.is_persistent(),
            Domain::NonPersistent => !topic.is_persistent(),
            Domain::All => true,
        });
        let topics = topics.filter(|topic| pattern.as_ref().is_none_or(|pattern| matches(pattern, topic)));
        let mut topics: Vec<String> = topics.map(|topic| topic.to_string()).collect();
        topics.sort();
        let hash = topics_hash(topics.iter().map(String::as_str));
        let known = known_hash == Some(&hash);
        TopicList { topics: (!known).then_some(topics), filtered, hash }
    }

    /// From now on the connection is told which persistent topics of a namespace match and come or go. Gives
    /// those that are there, unless it knows them.
    ///
    /// # Errors
    /// The pattern is none, or too long.
    pub fn handle_watch_topics(
        &mut self,
        connection: ConnectionId,
        watcher_id: u64,
        namespace: &str,
        pattern: &str,
        known_hash: Option<&str>,
    ) -> Result<TopicList, Refusal> {
        if pattern.len() > PATTERN_LEN_MAX {
            let message =
                format!("Unable to create topic list watcher: pattern longer than maximum: {PATTERN_LEN_MAX}");
            return Err(Refusal::new(RefusalKind::NotAllowed, message));
        }
        let pattern = parse(pattern)?;
        let topics = self.matching(namespace, &pattern);
        let hash = topics_hash(topics.iter().map(String::as_str));
        let known = known_hash == Some(&hash);
        let list = TopicList { topics: (!known).then(|| topics.iter().cloned().collect()), filtered: true, hash };
        let watcher = Watcher { namespace: namespace.to_owned(), pattern, topics };
        self.watchers.all.insert((connection, watcher_id), watcher);
        Ok(list)
    }

    pub fn handle_unwatch_topics(&mut self, connection: ConnectionId, watcher_id: u64) {
        self.watchers.all.remove(&(connection, watcher_id));
    }

    pub(super) fn unwatch_all(&mut self, connection: ConnectionId) {
        self.watchers.all.retain(|(other, _), _| *other != connection);
    }

    /// A topic came or went.
    pub(super) fn listing_changed(&mut self, topic: &TopicName) {
        if topic.is_persistent() && !self.watchers.all.is_empty() {
            self.watchers.changed.insert(topic.namespace().to_owned());
        }
    }

    fn matching(&self, namespace: &str, pattern: &Regex) -> BTreeSet<String> {
        let topics = self.topics_of(namespace).into_iter();
        let topics = topics.filter(|topic| topic.is_persistent() && matches(pattern, topic));
        topics.map(|topic| topic.to_string()).collect()
    }

    /// Tells watchers what has changed since they were told.
    pub(super) fn tell_watchers(&mut self) {
        for namespace in std::mem::take(&mut self.watchers.changed) {
            let concerned = self.watchers.all.iter().filter(|(_, watcher)| watcher.namespace == namespace);
            let now: Vec<_> =
                concerned.map(|(key, watcher)| (*key, self.matching(&namespace, &watcher.pattern))).collect();
            for (key, topics) in now {
                let Some(watcher) = self.watchers.all.get_mut(&key) else { continue };
                let created: Vec<String> = topics.difference(&watcher.topics).cloned().collect();
                let deleted: Vec<String> = watcher.topics.difference(&topics).cloned().collect();
                if created.is_empty() && deleted.is_empty() {
                    continue;
                }
                let hash = topics_hash(topics.iter().map(String::as_str));
                watcher.topics = topics;
                let (connection, watcher_id) = key;
                self.emit(Effect::TopicsChanged { connection, watcher_id, created, deleted, hash });
            }
        }
    }
}
