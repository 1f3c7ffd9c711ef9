#![no_main]

use attachfs_manifest::wire::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    attachfs_fuzz::check_manifest(bytes, |format| {
        matches!(format, Format::V2025_12 | Format::V2025_12Absolute)
    });
});
