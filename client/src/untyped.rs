//! Runs whose code is not in this process: values are shown as JSON.

use everpulse_sdk::Definition;
use everpulse_sdk::definition::SourceLocation;

/// Stands for a workflow that is known by its name alone. Results and errors are JSON values.
#[derive(Debug, Clone, Copy)]
pub enum Untyped {}

impl Definition for Untyped {
    const NAME: &'static str = "";
    const LOCATION: SourceLocation = SourceLocation { file: file!(), line: line!() };
    const PARAMETERS: &'static [&'static str] = &[];
    type Output = serde_json::Value;
    type Error = serde_json::Value;
}
