//! What the compiler tells an author who got something wrong.
//!
//! `TRYBUILD=overwrite cargo test -p everpulse-sdk --test ui` writes the expected output anew.

#[test]
fn errors_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
