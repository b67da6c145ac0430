//! Entry points for fuzzers: any bytes, and the judge of what came of them.
//!
//! [`decode`] is the wire alone. [`conversation`] is several connections with a whole broker in memory: its input is a
//! script of what they send, when the disk answers and when time passes. Both take any bytes, so that a fuzzer that
//! knows nothing can drive them (the targets in `fuzz/`); [`generate`] makes scripts of mostly sensible commands
//! (`cargo xtask fuzz`).
//!
//! ```text
//! script: [operation u8][connection u8][length u16][bytes] ...
//! ```

pub mod generate;
mod world;

use bytes::BytesMut;

use self::world::World;
use crate::wire::{EntryHeader, FrameDecoder};

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Anything may be decoded.
///
/// # Panics
/// If the decoder has a fault.
pub fn decode(bytes: &[u8]) {
    let decoder = FrameDecoder::new(MESSAGE_BYTES_MAX);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
        if let Some(payload) = frame.payload {
            // Whether there is one is the broker's business.
            let _ = EntryHeader::of(&payload.entry);
        }
    }
    assert!(buffer.capacity() <= bytes.len() + 2 * MESSAGE_BYTES_MAX, "a length alone takes memory");
}

/// Several clients may send anything: nothing panics, memory stays bounded, and another client is served.
///
/// # Panics
/// If one of these does not hold.
pub fn conversation(script: &[u8]) {
    let mut world = World::new();
    let mut rest = script;
    while let [operation, connection, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (bytes, after) = more.split_at(length);
        rest = after;
        let connection = usize::from(*connection) % world::CONNECTIONS;
        match operation % 8 {
            0..=3 => world.receive(connection, bytes),
            4 => world.store(),
            5 => world.take(connection),
            6 => world.tick(),
            _ => world.reconnect(connection),
        }
        world.check_memory();
    }
    world.check_service();
}
