//! The manifest of a commit in the format that its reader wants.
//!
//! A session goes on from diffs of 2025-12, so that is what is under its own key. AWS's library reads 2023-03-03, which holds files
//! and nothing else: new and changed files can be handed over in that, deletions and empty directories are dropped, and what cannot
//! be held at all (a link to nothing that is in the diff, a file in chunks) is an error before anything is sent.

use attachfs_manifest::wire::{Format, Manifest, decode, encode_snapshot};

use crate::error::CommitError;
use crate::states::HandedFormat;

/// The bytes that are handed over for these of a commit's diff.
pub fn handed_over(diff: &[u8], format: HandedFormat) -> Result<Vec<u8>, CommitError> {
    match format {
        HandedFormat::Files => of_files(&decode(diff)?.1),
        HandedFormat::Diff => Ok(diff.to_vec()),
    }
}

/// The files that a diff puts, as 2023-03-03.
pub(crate) fn of_files(diff: &Manifest) -> Result<Vec<u8>, CommitError> {
    let files = diff.downgrade()?;
    if files.is_empty() {
        return Err(CommitError::NoFiles);
    }
    Ok(encode_snapshot(&files, Format::V2023_03_03)?)
}
