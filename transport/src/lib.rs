//! Frames in, frames out, confirmed positions: the one crate that talks to Apache Pulsar.
