//! What authors of workflows import, and the deterministic replay of a run.
