//! A submission on this disk: its document, or all of it for somebody to look at.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use attachfs_transfer::Progress;
use tokio_util::sync::CancellationToken;

use super::gathering::GatheredAssets;
use super::report::Submission;
use super::sending::{SubmitOptions, submit_assets};
use crate::error::{Doing as _, Error};
use crate::output_file::OutputFile;
use crate::snapshot::Announce;
use crate::store::create_directory_store;

/// Files with attachments documents that a person asked for by name.
const OUTPUT: OutputFile = OutputFile {
    what: "attachments document",
    instead: "name a file, or leave --output out for standard output",
    is_one: names_manifests,
};

/// What the document is called in a debug snapshot.
const DOCUMENT: &str = "attachments.json";

/// Whether a file begins as an attachments document does.
fn names_manifests(path: &Path, _len: u64) -> io::Result<bool> {
    const BEGINNING: &[u8] = b"{\"manifests\"";
    let mut start = Vec::new();
    let file = fs::File::open(path)?;
    file.take(BEGINNING.len() as u64).read_to_end(&mut start)?;
    Ok(start == BEGINNING)
}

/// Writes an attachments document to a file, durably; nobody ever sees half of it. It takes the place of another attachments
/// document and of an empty file, and of nothing else.
pub fn write_attachments(path: &Path, document: &str) -> Result<(), Error> {
    OUTPUT.write(path, document.as_bytes())
}

/// Fails if no attachments document can be written there: before any work.
pub fn check_place_of_attachments(path: &Path) -> Result<(), Error> {
    OUTPUT.check_place(path)
}

/// Puts a submission into a directory instead of the store of a queue: the data and the manifests as a directory store has them, the
/// document as `attachments.json`, and the files of the bundle beside it. The directory is made if it is missing, and has to be empty.
/// Gives the account and the document's path.
pub async fn save_debug_snapshot(
    assets: &GatheredAssets,
    directory: &Path,
    announce: &dyn Announce,
    options: &SubmitOptions,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<(Submission, PathBuf), Error> {
    assets.require_usable()?;
    require_empty(directory)?;
    let (_, store) = create_directory_store(directory)?;
    let submission = submit_assets(assets, &store, announce, options, progress, cancel).await?;
    for file in &assets.bundle_files {
        let bytes = fs::read(file).doing(|| format!("cannot read {}", file.display()))?;
        if let Some(name) = file.file_name() {
            write(&directory.join(name), &bytes)?;
        }
    }
    let path = directory.join(DOCUMENT);
    // It is last: who finds it finds everything.
    write(
        &path,
        submission
            .document
            .as_deref()
            .unwrap_or_default()
            .as_bytes(),
    )?;
    Ok((submission, path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    Ok(attachfs_durable::publish_shared(path, |file| {
        file.write_all(bytes)
    })?)
}

fn require_empty(directory: &Path) -> Result<(), Error> {
    let mut entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let sentence = format!("cannot use the directory {}", directory.display());
            return Err(Error::usage(sentence).because(error));
        }
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            let sentence = format!("the directory {} is not empty", directory.display());
            Err(Error::usage(sentence).advise("name a directory that is empty or not there yet"))
        }
    }
}
