//! The manifests that a verb is given.

use std::ffi::OsStr;

use attachfs::{CancellationToken, ManifestAddress, ManifestBytes, ManifestPath, ManifestSource};

use super::stores::access;
use crate::args::Globals;

/// Where a manifest is, as it was typed: `-`, an address, or a file.
pub(super) fn source(text: &OsStr) -> Result<ManifestSource, attachfs::Error> {
    match text.to_str() {
        Some("-") => Ok(ManifestSource::Stdin),
        Some(text) if ManifestAddress::is_s3(text)? => Ok(ManifestSource::S3(text.parse()?)),
        _ => Ok(ManifestSource::File(text.into())),
    }
}

/// Reads it.
pub(super) async fn read(
    globals: &Globals,
    source: &ManifestSource,
    at: Option<ManifestPath>,
) -> Result<ManifestBytes, attachfs::Error> {
    attachfs::read_manifest(source, at, &access(globals)?, &CancellationToken::new()).await
}
