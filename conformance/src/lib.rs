//! The public conformance suite of durable executions, run against Everpulse.
//!
//! The suite (`aws-durable-execution-conformance-tests`) says in prose what a handler does, and in YAML what it is given, what
//! comes of it, and which events its history has. Here are the handlers, as plain workflows ([`handlers`]), the suite's
//! events as they follow from our history ([`history`]), its rules of comparison ([`matching`], [`logs`]) and what plays a
//! case ([`case`]), with workers that are killed where it asks for that ([`crash`]). The suite itself is no part of the project: `cargo xtask conformance` installs it.

pub mod case;
pub mod crash;
pub mod frames;
pub mod gaps;
pub mod handlers;
pub mod history;
pub mod logs;
pub mod matching;
pub mod payload;
pub mod plugins;
pub mod report;
pub mod suite;
pub mod variables;
