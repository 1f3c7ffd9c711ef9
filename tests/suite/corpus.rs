//! What the fuzzer found worth keeping is read again by every run of the tests (`cargo xtask soak --fuzz` finds more).

use std::fs;
use std::path::Path;
use std::process::Command;

use attachfs_manifest::wire::{Format, decode, decode_lenient, encode};
use tempfile::TempDir;

/// The inputs of one fuzz target, unpacked.
fn kept(target: &str) -> (TempDir, Vec<(String, Vec<u8>)>) {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/corpus/{target}.tar.gz"));
    let folder = TempDir::new().unwrap();
    let mut unpack = Command::new("tar");
    let status = unpack
        .arg("-xzf")
        .arg(&packed)
        .arg("-C")
        .arg(folder.path())
        .status();
    assert!(
        status.unwrap().success(),
        "cannot unpack {}",
        packed.display()
    );
    let inputs = fs::read_dir(folder.path()).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.display().to_string(), fs::read(&path).unwrap())
    });
    let inputs: Vec<_> = inputs.collect();
    assert!(
        inputs.len() > 50,
        "{target} has only {} inputs",
        inputs.len()
    );
    (folder, inputs)
}

#[test]
fn what_was_found_by_fuzzing_the_decoders_is_refused_or_written_again() {
    let mut taken = 0;
    for target in ["decode_2023", "decode_2025", "decode_draft"] {
        let (_folder, inputs) = kept(target);
        for (name, bytes) in &inputs {
            let Ok(read) = decode_lenient(bytes) else {
                decode(bytes).expect_err(name);
                continue;
            };
            taken += 1;
            let format = match read.format {
                Format::Draft2025_12_04 => Format::V2025_12,
                format => format,
            };
            let text = encode(&read.manifest, format).expect(name);
            let (_, again) = decode(&text).expect(name);
            assert_eq!(encode(&again, format).expect(name), text, "{name}");
        }
    }
    assert!(taken > 100, "only {taken} inputs are manifests");
}
