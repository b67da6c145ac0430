//! Ends of closed runs that are not at hand: they are read again where they stand in history. So is the frame that the
//! cache ends with.

use bytes::Bytes;
use everpulse_protocol::event::ReplyTo;
use everpulse_protocol::history::Frame;
use everpulse_protocol::reply::{Reply, ReplyBody};
use everpulse_protocol::{Position, RunId, decode};

use super::{Phase, Shard};
use crate::effect::Effect;

/// Ends that are asked for at one position.
#[derive(Debug)]
pub(super) struct Fetching {
    position: Position,
    asked: Vec<(RunId, ReplyTo)>,
}

impl Shard {
    pub(super) fn fetch(&mut self, run: RunId, reply_to: ReplyTo) {
        let Some(position) = self.book.closed.get(&run).and_then(|closed| closed.position) else { return };
        if let Some(fetching) = self.fetching.values_mut().find(|fetching| fetching.position == position) {
            fetching.asked.push((run, reply_to));
            return;
        }
        let id = self.fresh_id();
        self.fetching.insert(id, Fetching { position, asked: vec![(run, reply_to)] });
        self.effects.push_back(Effect::Fetch { id, position });
    }

    /// The answer to [`Effect::Fetch`]; none if it could not be read: the client asks again.
    pub fn handle_fetched(&mut self, id: u64, payload: Option<&Bytes>) {
        match std::mem::replace(&mut self.phase, Phase::Cold) {
            Phase::LoadCache { id: asked, cached } if asked == id => return self.take_cache(*cached, payload),
            other => self.phase = other,
        }
        let Some(fetching) = self.fetching.remove(&id) else { return };
        let Some(frame) = payload.and_then(|payload| decode::<Frame>(payload).ok()) else { return };
        for (run_id, reply_to) in fetching.asked {
            let close = frame.records.iter().filter(|record| record.run_id == run_id).find_map(|r| r.close.clone());
            if let Some(close) = close {
                let reply =
                    Reply { request: reply_to.request, body: ReplyBody::Closed { run_id, close: Box::new(close) } };
                self.effects.push_back(Effect::Reply { client: reply_to.client, reply });
            }
        }
    }
}
