//! An embedded single-node broker that speaks Apache Pulsar's binary protocol.
