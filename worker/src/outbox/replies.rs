//! Answers to clients, in frames, over a topic of each client that keeps nothing. A client that hears nothing for a
//! minute costs nothing any more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use everpulse_protocol::event::Outcome;
use everpulse_protocol::reply::{Reply, ReplyBody, ReplyFrame, UpdateState};
use everpulse_protocol::{Failure, encode, topic};
use everpulse_transport::{Lane, Limits, Transport};

/// A client's producer is kept for so long after the last answer.
const IDLE: Duration = Duration::from_secs(60);
/// About what the ids and names of an answer take in a frame.
const ENVELOPE_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Replies {
    transport: Transport,
    clients: Mutex<Clients>,
}

#[derive(Debug)]
struct Clients {
    lanes: HashMap<String, Client>,
    swept: Instant,
}

#[derive(Debug)]
struct Client {
    lane: Lane<Reply>,
    used: Instant,
}

impl Replies {
    pub(super) fn new(transport: Transport) -> Self {
        let clients = Clients { lanes: HashMap::new(), swept: Instant::now() };
        Self { transport, clients: Mutex::new(clients) }
    }

    pub(super) fn send(&self, client: &str, reply: Reply) {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(clients.swept) > IDLE {
            clients.swept = now;
            // A lane that still sends keeps its producer until that is done.
            clients.lanes.retain(|_, client| now.duration_since(client.used) < IDLE);
        }
        let known = match clients.lanes.get_mut(client) {
            Some(known) => known,
            None => {
                let lane = self.lane(client);
                clients.lanes.entry(client.to_owned()).or_insert(Client { lane, used: now })
            }
        };
        known.used = now;
        // Dropped: nobody waits for it, and it leaves all the same.
        drop(known.lane.send(reply));
    }

    fn lane(&self, client: &str) -> Lane<Reply> {
        let topic = self.transport.non_persistent(&topic::replies(client));
        let publisher = self.transport.publisher(&topic, Default::default());
        let encode = |replies: &[Reply]| encode(&ReplyFrame { replies: replies.to_vec() });
        Lane::new(publisher, None, Limits::default(), weigh, encode)
    }
}

fn weigh(reply: &Reply) -> usize {
    let body = match &reply.body {
        ReplyBody::Closed { close, .. } => outcome_bytes(&close.outcome),
        ReplyBody::Answered { outcome } | ReplyBody::Update { state: UpdateState::Answered(outcome), .. } => {
            outcome_bytes(outcome)
        }
        ReplyBody::Update { state: UpdateState::NotYet(failure) | UpdateState::Refused(failure), .. } => {
            failure_bytes(failure)
        }
        ReplyBody::Published { value } => value.as_ref().map_or(0, |value| value.len()),
        ReplyBody::Description(view) => 512 + 256 * view.pending.len(),
        _ => 0,
    };
    body + ENVELOPE_BYTES
}

fn outcome_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Done(value) => value.len(),
        Outcome::Failed(failure) => failure_bytes(failure),
    }
}

fn failure_bytes(failure: &Failure) -> usize {
    let chain: usize = failure.chain.iter().map(String::len).sum();
    failure.message.len() + chain + failure.value.as_ref().map_or(0, |value| value.len())
}
