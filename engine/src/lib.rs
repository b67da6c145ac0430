//! A shard of runs as a pure state machine: inputs in, effects out.
