//! One conformance suite, two arms.
