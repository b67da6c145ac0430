//! The attribute macros of Everpulse: workflow, activity, activities, signal.
