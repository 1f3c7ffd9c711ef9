//! Scans of real trees.

mod absolute;
mod globs;
mod listing;
mod models;

mod unreadable;
mod walking;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_manifest::LinkTarget;
use tempfile::TempDir;

use crate::{
    EntryKind, Progress, ProgressEvent, Scan, ScanOptions, ScannedEntry, ScannedFile, Silent,
    SkipReason, SymlinkPolicy, scan,
};

fn policy(symlinks: SymlinkPolicy) -> ScanOptions {
    ScanOptions {
        symlinks,
        ..ScanOptions::default()
    }
}

fn scanned(root: &Path, symlinks: SymlinkPolicy) -> Scan {
    scan(root, &policy(symlinks), &Silent).unwrap()
}

fn line(entry: &ScannedEntry) -> String {
    match &entry.kind {
        EntryKind::Dir => format!("{}/", entry.path),
        EntryKind::File(_) => entry.path.to_string(),
        EntryKind::Symlink(LinkTarget::Root) => format!("{} -> .", entry.path),
        EntryKind::Symlink(LinkTarget::Below(target)) => format!("{} -> {target}", entry.path),
    }
}

/// One line an entry: `d/`, `f` or `l -> target`.
fn lines(scan: &Scan) -> Vec<String> {
    scan.entries.iter().map(line).collect()
}

fn skipped(scan: &Scan) -> Vec<(String, SkipReason)> {
    scan.skipped
        .iter()
        .map(|skipped| (skipped.path.to_string(), skipped.reason))
        .collect()
}

fn file<'a>(scan: &'a Scan, path: &str) -> &'a ScannedFile {
    let entry = scan
        .entries
        .iter()
        .find(|entry| entry.path.to_string() == path);
    match entry.map(|entry| &entry.kind) {
        Some(EntryKind::File(file)) => file,
        other => panic!("{path}: {other:?}"),
    }
}

/// A folder `root` with a neighbour `out`.
fn folder() -> (TempDir, PathBuf) {
    let temp = TempDir::new().unwrap();
    let root = temp.path().join("root");
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/f"), "f").unwrap();
    fs::create_dir_all(temp.path().join("out/sub")).unwrap();
    fs::write(temp.path().join("out/x"), "x").unwrap();
    fs::write(temp.path().join("out/sub/y"), "y").unwrap();
    (temp, root)
}

/// Runs a function once, after the first directory was listed and before any other is opened.
struct During<F>(F, AtomicBool);

impl<F: Fn() + Send + Sync> During<F> {
    fn new(action: F) -> Self {
        Self(action, AtomicBool::new(false))
    }
}

impl<F: Fn() + Send + Sync> Progress for During<F> {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        if !self.1.swap(true, Ordering::Relaxed) {
            (self.0)();
        }
        ControlFlow::Continue(())
    }
}
