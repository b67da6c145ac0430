//! Which frames stand, seen by somebody who has read everything that was ever stored, also what was trimmed.
//!
//! Nobody in the model may use it to decide anything: it is what their beliefs are compared with.

use crate::Inputs;
use crate::broker::{Broker, Frame, FrameId};

/// The chain: each frame is the first stored one to name the one before it.
#[must_use]
pub fn chain(broker: &Broker) -> Vec<&Frame> {
    let mut chain: Vec<&Frame> = Vec::new();
    let mut head: FrameId = 0;
    for frame in &broker.log {
        if frame.previous == head {
            head = frame.id;
            chain.push(frame);
        }
    }
    chain
}

/// The inputs that history has, and those that it has more than once.
#[must_use]
pub fn applied(broker: &Broker) -> (Inputs, Inputs) {
    chain(broker)
        .iter()
        .fold((0, 0), |(applied, doubled), frame| (applied | frame.inputs, doubled | (applied & frame.inputs)))
}
