//! What Everpulse stores and sends: ids, events, records, frames, topic names and their encoding.
