//! What authors rely on in their tests.

mod checks;
mod continuing;
mod environment;
mod exploring;
mod families;
mod golden;
mod interceptors;
mod samples;
