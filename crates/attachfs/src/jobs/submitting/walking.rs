//! The files of input directories, as Python's `os.walk` finds them.
//!
//! Links to files count as files, links to directories are not followed, and an empty directory is nothing that a manifest of 2023-03-03
//! can hold. Names that are in no manifest are told with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use attachfs_transfer::{Phase, Progress, ProgressEvent};

use crate::cancel::cancelled;
use crate::error::Error;

/// How many files are found between two words about them.
const EVERY: u64 = 1000;

/// What was found in the input directories.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Files, links to files, and links that lead nowhere.
    pub(super) files: Vec<PathBuf>,
    /// What is not taken, and why.
    pub(super) left_out: BTreeMap<PathBuf, &'static str>,
    /// What cannot be read, and why.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
    /// Entries so far.
    seen: u64,
}

impl Walked {
    /// Adds what is below a directory, and says whether there are any files.
    pub(super) fn walk(
        &mut self,
        directory: &Path,
        progress: &dyn Progress,
    ) -> Result<bool, Error> {
        let before = self.files.len();
        let mut open = vec![directory.to_owned()];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unreadable.push((directory, error));
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.unreadable.push((directory.clone(), error));
                        break;
                    }
                };
                self.seen += 1;
                if self.seen.is_multiple_of(EVERY) {
                    let event = ProgressEvent {
                        items_done: self.seen,
                        ..ProgressEvent::of(Phase::Scan)
                    };
                    if progress.update(&event) == ControlFlow::Break(()) {
                        return Err(cancelled());
                    }
                }
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(path),
                    Ok(kind) if kind.is_file() => self.files.push(path),
                    Ok(kind) if kind.is_symlink() => self.take_link(path),
                    Ok(_) => {
                        let why = "it is neither a file nor a directory";
                        self.left_out.insert(path, why);
                    }
                    Err(error) => self.unreadable.push((path, error)),
                }
            }
        }
        Ok(self.files.len() > before)
    }

    /// The links in a job bundle that lead out of it. The author of a bundle could send any file of the submitter's by such a link.
    pub(super) fn check_bundle(&mut self, bundle: &Path) -> Vec<PathBuf> {
        let Ok(real) = fs::canonicalize(bundle) else {
            // There is nothing to be read from it then.
            return Vec::new();
        };
        let mut leading_out = Vec::new();
        let mut open = vec![bundle.to_owned()];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unreadable.push((directory, error));
                    continue;
                }
            };
            for entry in entries.flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    Ok(kind) if kind.is_symlink() => {
                        // One that leads nowhere leads to no file that could be sent.
                        let to = fs::canonicalize(entry.path());
                        if to.is_ok_and(|to| !to.starts_with(&real)) {
                            leading_out.push(entry.path());
                        }
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        leading_out
    }

    fn take_link(&mut self, path: PathBuf) {
        match fs::metadata(&path) {
            Ok(to) if to.is_dir() => {
                let why = "it is a link to a directory, and those are not followed";
                self.left_out.insert(path, why);
            }
            Ok(to) if !to.is_file() => {
                let why = "it is a link to something that is no file";
                self.left_out.insert(path, why);
            }
            // One that leads nowhere is a missing input.
            Ok(_) | Err(_) => self.files.push(path),
        }
    }
}
