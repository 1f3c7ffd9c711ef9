#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| attachfs_fuzz::check_globs(bytes));
