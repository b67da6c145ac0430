//! Reads the raw history of an application and decides whether the rules held.
