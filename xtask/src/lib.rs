//! The project's own commands, as a library, so that one command can use another (the bench starts a
//! Pulsar as `cargo xtask pulsar` does).

pub mod bench;
pub mod chaos;
pub mod ci;
pub mod clients;
pub mod conformance;
pub mod coverage;
pub mod deny;
pub mod fuzz;
pub mod guarantees;
pub mod links;
pub mod pulsar;
pub mod purity;
pub mod sim;
pub mod soak;
pub mod test_groups;

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).expect("the package is a folder of the checkout")
}

/// Where cargo puts what it builds of a checkout, unless it is told otherwise by its argument.
pub fn target_of(source: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source.join("target"), |target| source.join(target))
}
