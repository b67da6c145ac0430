//! Durable workflows on Apache Pulsar, in plain async Rust.
