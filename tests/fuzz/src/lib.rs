//! What holds for every text that a decoder takes.

use attachfs_manifest::wire::{Format, Manifest, decode, decode_lenient, encode};

/// Decodes bytes strictly and leniently, and checks what has to hold of the results. Texts of other
/// formats than those that `wanted` names are left to other targets.
///
/// # Panics
/// If a law does not hold.
pub fn check(bytes: &[u8], wanted: fn(Format) -> bool) {
    let strict = decode(bytes);
    if let Ok((format, manifest)) = &strict
        && wanted(*format)
    {
        check_text(*format, manifest);
    }
    match (decode_lenient(bytes), &strict) {
        (Ok(lenient), Ok((format, manifest))) => {
            assert_eq!((lenient.format, &lenient.manifest), (*format, manifest));
            assert_eq!(lenient.fault, None);
        }
        (Ok(lenient), Err(error)) => {
            assert_eq!(lenient.fault.as_ref(), Some(error));
            if wanted(lenient.format) {
                check_text(lenient.format, &lenient.manifest);
            }
        }
        (Err(error), Ok(_)) => panic!("only strictly: {error}"),
        (Err(_), Err(error)) => {
            // Whatever is said is said without a panic.
            let _ = error.to_string();
        }
    }
}

/// What was read is written, and what was written is read as the same.
fn check_text(format: Format, manifest: &Manifest) {
    let written = match format {
        Format::Draft2025_12_04 => Format::V2025_12,
        format => format,
    };
    let text = encode(manifest, written).expect("what was read can be written");
    let (again, read) = decode(&text).expect("what was written can be read");
    assert_eq!(again, written);
    let text_again = encode(&read, written).expect("what was read can be written");
    assert_eq!(text, text_again);
    if let (Manifest::Snapshot(read), Manifest::Snapshot(manifest)) = (&read, manifest) {
        // The formats list the directories above a link's target, so more may be read than was written.
        assert!(read.len() >= manifest.len() || written == Format::V2023_03_03);
        assert_eq!(read.total_size(), manifest.total_size());
    }
}
