//! The programs under test, as they are built: `attachfs` and the example's `render`.
//!
//! `ATTACHFS_BIN` and `ATTACHFS_RENDER_BIN` name programs that are there already; without them the debug build is made, once for each
//! run of the suite.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());

/// The path of `attachfs` or `render`.
pub(crate) fn program(name: &'static str) -> PathBuf {
    let (variable, package) = match name {
        "attachfs" => ("ATTACHFS_BIN", "attachfs-cli"),
        "render" => ("ATTACHFS_RENDER_BIN", "attachfs-example-renderer"),
        _ => panic!("the suite knows no program {name}"),
    };
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    // A build that failed in another test fails in this one too, with its own message.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built
        .entry(name)
        .or_insert_with(|| build(package, name))
        .clone()
}

fn build(package: &str, name: &str) -> PathBuf {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", package, "--bin", name])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo, which runs this test, starts");
    assert!(
        output.status.success(),
        "cannot build {package}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the program that it built")
}
