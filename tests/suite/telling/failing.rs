//! What is told of reads that failed.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::machine::{Machine, args, mounting_from_both_stores};

mounting_from_both_stores![a_report_does_not_count_what_a_failed_read_asked_for];

/// A manifest of two files, of which one has no object any more.
fn base_with_a_missing_object(machine: &Machine) -> PathBuf {
    machine.file("input/missing", "x".repeat(17_376));
    machine.file("input/sound", "sound");
    let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
    let listed = machine.json(args!["ls", &manifest, "missing"]);
    let hash = listed[0]["hash"].as_str().unwrap();
    fs::remove_file(machine.object(hash)).unwrap();
    manifest
}

fn a_report_does_not_count_what_a_failed_read_asked_for(machine: &Machine) {
    let manifest = base_with_a_missing_object(machine);
    let mount = machine.mount(args!["--prefetch", "off", &manifest], "mnt");
    let well = machine.ok(args!["report", &mount.dir]);
    assert!(!well.out.contains("failed"), "{well:?}");
    fs::read(mount.dir.join("missing")).unwrap_err();
    assert_eq!(fs::read(mount.dir.join("sound")).unwrap(), b"sound");
    let told = machine.json(args!["report", &mount.dir]);
    let of = |path: &str| {
        let mut all = told["read"].as_array().unwrap().iter();
        all.find(|file| file["path"] == path).unwrap()
    };
    let failed = of("missing");
    assert_eq!(failed["bytes_read"], 0, "{told}");
    assert_eq!(failed["ranges"], json!([]), "{told}");
    assert_eq!(failed["opens"], 1, "{told}");
    assert_eq!(of("sound")["ranges"], json!([[0, 5]]), "{told}");
    assert_eq!(told["inputs"]["bytes_read"], 5, "{told}");
    let reads = told["reads_failed"].as_u64().unwrap();
    assert!(reads >= 1, "{told}");
    let text = machine.ok(args!["report", &mount.dir]);
    let text = text.printing(&format!("failed     {reads} read"));
    text.printing("an object was missing ")
        .printing("failed of   17.38 kB  missing\n");
    let page = machine.ok(args!["report", "--html", "-", &mount.dir]).out;
    assert!(
        page.contains("times an object was missing or damaged"),
        "{page}"
    );
}
