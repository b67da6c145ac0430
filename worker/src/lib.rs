//! Worker processes: they drive shards, run activities and relay timers.
