//! What the fuzzer found worth keeping is held against the same laws by every run of the tests (`cargo xtask soak --fuzz`
//! finds more).

use std::fs;
use std::path::Path;
use std::process::Command;

use attachfs_manifest::wire::Format;
use tempfile::TempDir;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library of its own for the fuzzer")]
mod laws;

/// The inputs of one fuzz target.
fn kept(target: &str) -> Vec<Vec<u8>> {
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
    let inputs = fs::read_dir(folder.path()).unwrap();
    let inputs: Vec<_> = inputs
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(
        inputs.len() > 50,
        "{target} has only {} inputs",
        inputs.len()
    );
    inputs
}

#[test]
fn manifests_that_were_found_by_fuzzing_are_refused_or_read_and_written_again() {
    let wanted = |_: Format| true;
    for target in ["decode_2023", "decode_2025", "decode_draft"] {
        for bytes in kept(target) {
            laws::check_manifest(&bytes, wanted);
        }
    }
}

#[test]
fn patterns_that_were_found_by_fuzzing_choose_only_where_a_walk_goes() {
    for bytes in kept("globs") {
        laws::check_globs(&bytes);
    }
}

#[test]
fn forged_trees_that_were_found_by_fuzzing_are_looked_at_without_a_panic() {
    for bytes in kept("index") {
        laws::check_index(&bytes);
    }
}
