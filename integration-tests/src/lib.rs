//! What the suites share: the arm they run on, a namespace of their own, and the workflows that they run.
//!
//! The same tests run on both arms. `EVERPULSE_ARM` names the arm: `embedded` (the default) or `pulsar`, which
//! needs `EVERPULSE_TEST_PULSAR_URL` and says so where it is missing. No test knows on which arm it runs.

pub mod arm;
pub mod chaos;
pub mod ledger;
pub mod party;
pub mod released;
pub mod waits;
pub mod workflows;

pub use arm::Arm;
