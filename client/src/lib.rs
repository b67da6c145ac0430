//! Dispatches workflows and addresses their runs.
