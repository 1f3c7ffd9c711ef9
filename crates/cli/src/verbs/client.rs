//! What manifests have from AWS's `deadline`, or for it: names of files, and the folders that rules have for these.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use attachfs::manifest::{FolderDiff, Selection, diff_folder, open_manifest};
use attachfs::{Error, FileList, MappingRule, Metadata, OutputMetadata, parse_rules};

use super::manifest::hashing;
use super::naming::document;
use super::reading::{read, source};
use crate::args::Globals;
use crate::args::client::{ClientSnapshot, ClientUpload};
use crate::args::manifest::Hashing;
use crate::exit::Failure;
use crate::progress::Shown;

/// Where the manifest of a folder goes, under the client's name. The folder is named by its absolute path, so that it is found again.
pub(super) fn destination(args: &ClientSnapshot, root: &Path) -> Result<Option<PathBuf>, Error> {
    let Some(destination) = &args.destination else {
        return Ok(None);
    };
    let unfit = |why: &str| Error::usage(format!("{} {why}", root.display()));
    let root =
        std::path::absolute(root).map_err(|error| unfit("has no absolute path").because(error))?;
    let Some(root) = root.to_str() else {
        return Err(unfit(
            "is not UTF-8, and the deadline client has no name for it",
        ));
    };
    let name = attachfs::snapshot_file_name(args.name.as_deref(), root, local_time());
    Ok(Some(destination.join(name)))
}

/// The time as the client has it in names of files.
pub(super) fn local_time() -> impl std::fmt::Display {
    jiff::ZonedDateTime::now()
        .strftime("%Y-%m-%dT%H-%M-%S")
        .to_string()
}

/// The files among those of a selection that are new or changed since a manifest.
pub(super) async fn changed(
    globals: &Globals,
    since: &OsStr,
    root: &Path,
    selection: &Selection,
    args: &Hashing,
) -> Result<Vec<PathBuf>, Failure> {
    let bytes = read(globals, &source(since)?, None).await?;
    let old = open_manifest(&bytes, false)?;
    let options = FolderDiff {
        selection: selection.clone(),
        by_hash: args.force_rehash,
        hashing: hashing(args)?,
    };
    let shown = Shown::cancellable(globals.json);
    let found = diff_folder(&old, root, &options, &shown, shown.cancel()).await;
    shown.clear();
    let changes = found?.changes;
    let paths = changes.new.iter().chain(&changes.modified);
    Ok(paths
        .map(|path| attachfs::path_of_bytes(path.as_bytes()))
        .collect())
}

/// A selection of these files alone.
pub(super) fn only(selection: Selection, required: Vec<PathBuf>) -> Selection {
    let optional = Vec::new();
    Selection {
        files: Some(FileList { required, optional }),
        ..selection
    }
}

/// The rules by which manifests are uploaded, if any were given.
pub(super) fn rules(args: &ClientUpload) -> Result<Option<Vec<MappingRule>>, Error> {
    document(args.path_mapping_rules.as_deref(), parse_rules)
}

/// The rule for a manifest: the first whose source its file name has the hash of.
pub(super) fn rule<'a>(
    rules: &'a [MappingRule],
    manifest: &OsStr,
) -> Result<&'a MappingRule, Error> {
    let shown = manifest.to_string_lossy();
    let name = shown.rsplit('/').next().unwrap_or_default();
    let found = rules
        .iter()
        .find(|rule| name.contains(&rule.source_hash().to_string()));
    found.ok_or_else(|| {
        Error::usage(format!("no rule is for {shown}: the hash of none of their sources is in its name"))
            .advise("`attachfs snapshot --destination` makes such names; or say with --root where the files are")
    })
}

/// What a published manifest says of its root.
pub(super) fn metadata(root: Option<&str>) -> Result<Metadata, Error> {
    match root {
        None => Ok(Metadata::new()),
        Some(root) => Ok(OutputMetadata {
            asset_root: root.to_owned(),
            location: None,
        }
        .encode()?),
    }
}
