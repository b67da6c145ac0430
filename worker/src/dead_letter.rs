//! Writing dead letters: what they say, and to which topic they go. Reading, redriving and dropping them is the
//! client's.

use bytes::Bytes;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::{DecodeError, Timestamp, topic};

/// The dead-letter topic for what was read from `from`.
///
/// A queue's go to its own, from whichever of its lanes; what comes from anywhere else goes to that of the inbox.
#[must_use]
pub fn topic_for(from: &str) -> String {
    let queue = from.strip_prefix("activity.").map(|lane| lane.split('.').next().unwrap_or_default());
    queue.map_or_else(|| topic::INBOX_DEAD.to_owned(), topic::activity_dead)
}

/// A message that this release cannot read.
#[must_use]
pub fn unreadable(topic: &str, bytes: Bytes, error: &DecodeError, now: Timestamp) -> DeadLetter {
    DeadLetter {
        at: now,
        reason: format!("a message of {topic} cannot be read: {error}; was it written by a newer release?"),
        letter: Letter::Unreadable { topic: topic.to_owned(), bytes },
    }
}

/// So much is kept of an unreadable message that is too large for a letter.
const UNREADABLE_BYTES_MAX: usize = 1024 * 1024;

/// Makes a letter smaller that is too large for any message; false if it cannot be.
pub(crate) fn cut(letter: &mut DeadLetter) -> bool {
    let Letter::Unreadable { bytes, .. } = &mut letter.letter else { return false };
    if bytes.len() <= UNREADABLE_BYTES_MAX {
        return false;
    }
    letter.reason = format!("{} (cut: it had {} bytes)", letter.reason, bytes.len());
    bytes.truncate(UNREADABLE_BYTES_MAX);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_letters_go_to_the_queues_own_topic() {
        assert_eq!(topic_for("activity.payments"), "activity.payments.dead");
        assert_eq!(topic_for("activity.payments.p1.f3"), "activity.payments.dead");
        assert_eq!(topic_for("timers"), "inbox.dead");
        assert_eq!(topic_for("inbox-partition-3"), "inbox.dead");
    }
}
