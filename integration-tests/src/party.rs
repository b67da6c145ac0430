//! Worker processes of a test, which it can kill, stop and continue.
