//! What authors rely on in their tests.

mod checks;
mod environment;
mod exploring;
mod families;
mod golden;
mod interceptors;
mod samples;
