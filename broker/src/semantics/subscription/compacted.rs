//! Reading what compaction kept, up to its horizon, and then the log.

use std::collections::BTreeSet;

use super::{Delivery, Subscription};
use crate::semantics::entry::Position;
use crate::semantics::log::Log;
use crate::semantics::seek::Start;

/// Where a subscription is that reads what compaction kept. It counts in positions, since the log may have let
/// go of what it reads.
#[derive(Debug, Default)]
pub struct CompactedReading {
    /// It reads so.
    pub wanted: bool,
    /// The first message that is not acknowledged, if the log does not have it any more.
    pub next: Option<Position>,
    /// Where reading goes on; none: at the first message that is not acknowledged.
    read: Option<Position>,
    /// What was delivered that the log does not have, and is not acknowledged.
    out: BTreeSet<Position>,
    /// The last that was acknowledged since reading began.
    acked: Option<Position>,
}

/// What compaction kept of a topic, and the last position that it looked at.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    pub log: &'a Log,
    pub horizon: Position,
}

impl CompactedReading {
    /// Everything unacknowledged is to be read again.
    pub fn rewind(&mut self) {
        self.read = None;
        self.acked = None;
        self.out.clear();
    }

    /// The subscription begins there, or was moved there.
    pub fn start_at(&mut self, start: Start) {
        self.rewind();
        self.next = match start {
            Start::Earliest => Some(Position { ledger: 0, entry: 0 }),
            Start::At(position) | Start::Within(position, _) => Some(position),
            Start::After(position) => Some(position.next()),
            Start::Latest | Start::Since(_) => None,
        };
    }

    /// A message is acknowledged, or all up to it are. What is still out decides what comes next time.
    pub fn handle_ack(&mut self, position: Position, cumulative: bool) {
        if !self.wanted {
            return;
        }
        if cumulative {
            self.out = self.out.split_off(&position.next());
        } else {
            self.out.remove(&position);
        }
        self.acked = self.acked.max(Some(position));
        let next = self.out.first().copied().or(self.acked.map(Position::next));
        self.next = self.next.max(next);
    }
}

impl Subscription {
    /// The first message that is not acknowledged, if it is one that only compaction has.
    pub fn lost(&self, log: &Log) -> Option<Position> {
        let base = log.position(log.base());
        let next = self.compacted.next.filter(|_| self.compacted.wanted && self.cursor.next() <= log.base());
        next.filter(|next| base.is_none_or(|base| *next < base))
    }

    /// Hands out whatever can go now to the one consumer that reads so.
    pub fn dispatch_compacted(
        &mut self,
        kept: Option<Kept<'_>>,
        log: &Log,
        now_ms: u64,
        out: &mut Vec<(Position, Delivery)>,
    ) {
        let unacked = self.lost(log).or_else(|| log.position(self.cursor.next()));
        let Some(consumer) = self.active().and_then(|slot| self.consumers.get_mut(&slot)) else { return };
        while consumer.permits > 0 {
            // Nothing is unacknowledged: what comes next is the log's.
            let at = self.compacted.read.or(unacked).or_else(|| log.last_position().map(Position::next));
            let Some(at) = at else { return };
            let source = match kept {
                Some(kept) if at <= kept.horizon => kept.log,
                _ => log,
            };
            let offset = source.ceiling(at);
            let found = source.position(offset).zip(source.get(offset));
            let Some((position, entry)) = found else {
                match kept {
                    Some(kept) if at <= kept.horizon => {
                        self.compacted.read = Some(kept.horizon.next());
                        continue;
                    }
                    _ => return,
                }
            };
            self.compacted.read = Some(position.next());
            let offset = log.find(position);
            if offset.is_some_and(|offset| self.cursor.is_acked(offset)) {
                continue;
            }
            if offset.is_none() {
                self.compacted.out.insert(position);
            }
            let offset = offset.unwrap_or(log.base());
            let delivery = Delivery::new(consumer, offset, entry, 0, None, consumer.epoch);
            let (messages, bytes) = (u64::from(delivery.messages), u64::from(entry.location.len));
            consumer.permits -= i64::from(delivery.messages);
            consumer.traffic.delivered(messages, bytes, false, now_ms);
            self.traffic.delivered(messages, bytes, false, now_ms);
            out.push((position, delivery));
        }
    }
}
