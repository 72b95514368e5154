#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sealbus_envelope::fuzzing::approval_of_held(bytes));
