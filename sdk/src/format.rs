//! The format in which the code that is polled now writes its values: that of the run or the attempt.
//!
//! Authors' values are encoded deep in their code, where nothing says for which worker. So whoever polls says it, as it
//! says all else about the run.

use std::cell::Cell;

use everpulse_protocol::payload::Format;

use crate::activity;
use crate::replay::core::Core;

thread_local! {
    static SAID: Cell<Option<Format>> = const { Cell::new(None) };
}

/// The format of what is encoded now: what was said last, else that of the run or attempt, else MessagePack.
pub(crate) fn current() -> Format {
    let of_run = || Core::find().map(|core| core.format);
    SAID.get().or_else(of_run).or_else(activity::current_format).unwrap_or_default()
}

/// Encodes in this format whatever is encoded meanwhile.
pub(crate) fn with<T>(format: Format, encode: impl FnOnce() -> T) -> T {
    let _before = Before(SAID.replace(Some(format)));
    encode()
}

/// Puts back what was said before, also when an author's `Serialize` panics.
struct Before(Option<Format>);

impl Drop for Before {
    fn drop(&mut self) {
        SAID.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_holds_for_a_while_and_also_ends_with_a_panic() {
        assert_eq!(current(), Format::MessagePack);
        assert_eq!(with(Format::Json, current), Format::Json);
        let panicked = std::panic::catch_unwind(|| with(Format::Json, || panic!("in the midst of it")));
        assert!(panicked.is_err());
        assert_eq!(current(), Format::MessagePack);
    }
}
