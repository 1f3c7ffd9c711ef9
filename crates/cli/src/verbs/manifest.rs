//! `manifest`: operations on manifests.

mod choosing;
mod reporting;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use attachfs::manifest::{
    CheckRequest, CollectedFrom, FolderDiff, MadeManifest, OpenedManifest, check_manifest,
    collect_manifest, compare, compose_manifests, convert_manifest, diff_folder, filter_manifest,
    hash_manifest, join_manifest, merge_manifests, open_manifest, partition_manifest,
    subtree_manifest,
};
use attachfs::{By as Comparison, ChunkSize, DiffOptions, Format, PathFilter, SymlinkPolicy};
use serde_json::json;

pub(super) use choosing::{deadline, hashing, only_of_a_folder, selection};
pub(super) use reporting::skipped;

use super::publishing;
use super::reading::{read, source};
use super::stores::open_store;
use crate::args::Globals;
use crate::args::manifest::{
    By, Check, Collect, Combine, Compose, Convert, Diff, Filter, Hash, Input, Join, ManifestVerb,
    Partition, Reading, Subtree, Symlinks,
};
use crate::args::values::FormatName;
use crate::exit::{Failure, INCOMPLETE, INTEGRITY};
use crate::output::{self, remark};
use crate::progress::Shown;

pub(super) async fn manifest(globals: &Globals, verb: ManifestVerb) -> Result<(), Failure> {
    match verb {
        ManifestVerb::Collect(args) => collect(globals, args),
        ManifestVerb::Hash(args) => hash(globals, args).await,
        ManifestVerb::Diff(args) => diff(globals, args).await,
        ManifestVerb::Compose(args) => compose(globals, args).await,
        ManifestVerb::Merge(args) => merge(globals, args).await,
        ManifestVerb::Filter(args) => filter(globals, args).await,
        ManifestVerb::Subtree(args) => subtree(globals, args).await,
        ManifestVerb::Join(args) => join(globals, args).await,
        ManifestVerb::Partition(args) => partition(globals, args).await,
        ManifestVerb::Convert(args) => convert(globals, args).await,
        ManifestVerb::Check(args) => check(globals, args).await,
        ManifestVerb::Upload(args) => publishing::upload(globals, args).await,
        ManifestVerb::Download(args) => publishing::download(globals, args).await,
    }
}

/// Reads a manifest. Prints the faults of a manifest that is read leniently.
async fn open(
    globals: &Globals,
    manifest: &OsStr,
    reading: Reading,
) -> Result<OpenedManifest, Failure> {
    let bytes = read(globals, &source(manifest)?, None).await?;
    let opened = open_manifest(&bytes, reading.lenient)?;
    if let Some(fault) = &opened.fault {
        let fault = crate::exit::chain(&anyhow::Error::new(fault.clone()));
        remark(&format!(
            "{}: {fault}; it is read all the same",
            opened.name
        ));
    }
    if let Some(note) = &opened.note {
        remark(&format!("{}: {note}; it is passed over", opened.name));
    }
    Ok(opened)
}

async fn open_input(globals: &Globals, input: &Input) -> Result<OpenedManifest, Failure> {
    open(globals, &input.manifest, input.reading).await
}

async fn open_all(
    globals: &Globals,
    manifests: &[OsString],
    reading: Reading,
) -> Result<Vec<OpenedManifest>, Failure> {
    let mut opened = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        opened.push(open(globals, manifest, reading).await?);
    }
    Ok(opened)
}

/// Writes the bytes; durably, if it is a file.
fn write(output: &Path, made: &MadeManifest) -> anyhow::Result<()> {
    if output == Path::new("-") {
        let mut out = std::io::stdout().lock();
        return out
            .write_all(&made.bytes)
            .and_then(|()| out.flush())
            .context("cannot write to standard output");
    }
    attachfs::write_manifest(output, &made.bytes)
        .with_context(|| format!("cannot write {}", output.display()))
}

/// Writes the manifest to the file and prints a description; with `-`, prints the manifest itself.
fn finish(globals: &Globals, output: &Path, made: &MadeManifest) -> Result<(), Failure> {
    finish_with(globals, output, made, json!({}), "")
}

/// [`finish`] with more to say.
fn finish_with(
    globals: &Globals,
    output: &Path,
    made: &MadeManifest,
    mut more: serde_json::Value,
    text: &str,
) -> Result<(), Failure> {
    write(output, made)?;
    if output == Path::new("-") {
        if !text.is_empty() {
            remark(text.trim_end());
        }
        return Ok(());
    }
    if globals.json {
        more["manifest"] = output.display().to_string().into();
        more["hash"] = made.hash().to_string().into();
        more["format"] = made.format.to_string().into();
        more["entries"] = reporting::entries(made).into();
        more["bytes"] = made.manifest.total_size().into();
        return Ok(output::print_json(&more)?);
    }
    Ok(output::print(&(reporting::made(output, made) + text))?)
}

/// What becomes of links, as the library calls it.
pub(super) fn policy(symlinks: Symlinks) -> SymlinkPolicy {
    match symlinks {
        Symlinks::CollapseEscaping => SymlinkPolicy::CollapseEscaping,
        Symlinks::CollapseAll => SymlinkPolicy::CollapseAll,
        Symlinks::ExcludeEscaping => SymlinkPolicy::ExcludeEscaping,
        Symlinks::ExcludeAll => SymlinkPolicy::ExcludeAll,
        Symlinks::Preserve => SymlinkPolicy::Preserve,
        Symlinks::TransitiveIncludeTargets => SymlinkPolicy::TransitiveIncludeTargets,
    }
}

fn collect(globals: &Globals, args: Collect) -> Result<(), Failure> {
    let selection = selection(&args.scanning)?;
    let source = match (args.absolute, <[_; 1]>::try_from(args.paths)) {
        (false, Ok([folder])) => CollectedFrom::Folder(folder),
        (false, Err(_)) => {
            return Err(attachfs::Error::usage(
                "several folders make an absolute manifest only: add --absolute",
            )
            .into());
        }
        (true, Ok([path])) => CollectedFrom::Anywhere(vec![path]),
        (true, Err(paths)) => CollectedFrom::Anywhere(paths),
    };
    let chunk_size = args.chunk_size.unwrap_or(ChunkSize::DEFAULT);
    let shown = Shown::cancellable(globals.json);
    let symlinks = policy(args.symlinks);
    let cancel = shown.cancel();
    let collected = collect_manifest(&source, &selection, symlinks, chunk_size, &shown, cancel);
    shown.clear();
    let collected = collected?;
    let more = json!({ "files": collected.files, "skipped": collected.skipped });
    let text = reporting::skipped(&collected.skipped);
    finish_with(globals, &args.output.output, &collected.made, more, &text)
}

async fn hash(globals: &Globals, args: Hash) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let hashing = hashing(&args.hashing)?;
    let shown = Shown::cancellable(globals.json);
    let root = args.root.as_deref();
    let (skip, cancel) = (args.skip_unreadable, shown.cancel());
    let hashed = hash_manifest(&opened, root, &hashing, skip, &shown, cancel).await;
    shown.clear();
    let hashed = hashed?;
    let more = json!({ "hashed": hashed.files, "read": hashed.read, "skipped": hashed.skipped });
    let text = format!(
        "hashed     {}, {} of them read\n{}",
        output::count(hashed.files, "file"),
        hashed.read,
        reporting::skipped(&hashed.skipped)
    );
    finish_with(globals, &args.output.output, &hashed.made, more, &text)
}

async fn diff(globals: &Globals, args: Diff) -> Result<(), Failure> {
    let old = open(globals, &args.old, args.reading).await?;
    let Some(new) = &args.new else {
        return diff_of_folder(globals, &old, args).await;
    };
    if args.extent.is_said() {
        return Err(only_of_a_folder("--root").into());
    }
    let new = open(globals, new, args.reading).await?;
    let options = DiffOptions {
        compare: match args.by {
            By::Everything => Comparison::Everything,
            By::SizeAndMtime => Comparison::SizeAndMtime,
            By::Hash => Comparison::Hash,
        },
        preserve_runnable: args.preserve_runnable,
    };
    let found = compare(&old, &new, options)?;
    if let Some(output) = &args.output {
        write(output, &found.diff)?;
    }
    if args.output.as_deref() == Some(Path::new("-")) {
        return Ok(());
    }
    reporting::changes(globals, &found.changes, &[], args.output.as_deref())
}

async fn diff_of_folder(
    globals: &Globals,
    old: &OpenedManifest,
    args: Diff,
) -> Result<(), Failure> {
    let root = args.root.unwrap_or_default();
    let is_by_default = args.extent.hidden.is_none();
    let options = FolderDiff {
        selection: choosing::choice(&args.choice, args.extent)?,
        by_hash: args.force_rehash,
        hashing: attachfs::manifest::Hashing::default(),
    };
    let shown = Shown::cancellable(globals.json);
    let found = diff_folder(old, &root, &options, &shown, shown.cancel()).await;
    shown.clear();
    let found = found?;
    let hidden = reporting::hidden(&found.changes.new);
    if hidden > 0 && old.format == Format::V2023_03_03 && is_by_default {
        remark(&format!(
            "of what is new, {} have names that begin with a dot, which the deadline client leaves out of its \
             manifests: --hidden no leaves them out here",
            output::count(hidden, "file")
        ));
    }
    reporting::changes(globals, &found.changes, &found.skipped, None)
}

async fn compose(globals: &Globals, args: Compose) -> Result<(), Failure> {
    let manifests = open_all(globals, &args.manifests, args.reading).await?;
    let made = compose_manifests(manifests, args.ignore_parent)?;
    finish(globals, &args.output.output, &made)
}

async fn merge(globals: &Globals, args: Combine) -> Result<(), Failure> {
    let manifests = open_all(globals, &args.manifests, args.reading).await?;
    let made = merge_manifests(&manifests)?;
    finish(globals, &args.output.output, &made)
}

async fn filter(globals: &Globals, args: Filter) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let Some(globs) = choosing::globs(&args.choice)? else {
        return Err(attachfs::Error::usage(
            "there is nothing to choose by: give --include, --exclude or --globs",
        )
        .into());
    };
    let filter = PathFilter::new(&globs.include, &globs.exclude).map_err(attachfs::Error::from)?;
    let made = filter_manifest(&opened, &filter)?;
    finish(globals, &args.output.output, &made)
}

async fn subtree(globals: &Globals, args: Subtree) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let directory = args.directory.as_encoded_bytes();
    let made = subtree_manifest(&opened, directory, policy(args.symlinks))?;
    finish(globals, &args.output.output, &made)
}

async fn join(globals: &Globals, args: Join) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let made = join_manifest(&opened, args.directory.as_encoded_bytes())?;
    finish(globals, &args.output.output, &made)
}

async fn partition(globals: &Globals, args: Partition) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let roots: Vec<Vec<u8>> = args
        .root
        .into_iter()
        .map(OsString::into_encoded_bytes)
        .collect();
    let parts = partition_manifest(&opened, &roots, policy(args.symlinks))?;
    std::fs::create_dir_all(&args.output_dir)
        .with_context(|| format!("cannot make {}", args.output_dir.display()))?;
    let mut written = Vec::new();
    let mut text = String::new();
    for (number, part) in parts.iter().enumerate() {
        let file = args.output_dir.join(format!("{number}.manifest"));
        write(&file, &part.made)?;
        text += &reporting::part(&file, part);
        written.push(json!({
            "root": part.root,
            "manifest": file.display().to_string(),
            "hash": part.made.hash().to_string(),
            "entries": reporting::entries(&part.made),
        }));
    }
    if globals.json {
        return Ok(output::print_json(&json!({ "parts": written }))?);
    }
    Ok(output::print(&text)?)
}

async fn convert(globals: &Globals, args: Convert) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let format = match (args.format, opened.format.is_absolute()) {
        (FormatName::V2025, true) => Format::V2025_12Absolute,
        (FormatName::V2025, false) => Format::V2025_12,
        (FormatName::V2023, _) => Format::V2023_03_03,
    };
    let (made, losses) = convert_manifest(&opened, format)?;
    let (more, text) = reporting::losses(&losses);
    finish_with(globals, &args.output.output, &made, more, &text)
}

async fn check(globals: &Globals, args: Check) -> Result<(), Failure> {
    let opened = open_input(globals, &args.input).await?;
    let store = match &args.store {
        Some(address) => Some(open_store(globals, address).await?),
        None => None,
    };
    let request = CheckRequest {
        store: store.as_ref(),
        deep: args.deep,
        names: args.case_report,
    };
    let shown = Shown::cancellable(globals.json);
    let report = check_manifest(&opened, &request, &shown, shown.cancel()).await;
    shown.clear();
    let report = report?;
    if globals.json {
        output::print_json(&report)?;
    } else {
        output::print(&reporting::check(&report))?;
    }
    if report.is_sound() {
        Ok(())
    } else if report.is_damaged() {
        Err(Failure::Code(INTEGRITY))
    } else {
        Err(Failure::Code(INCOMPLETE))
    }
}
