#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| everpulse_broker::fuzzing::decode(bytes));
