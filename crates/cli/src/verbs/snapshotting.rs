//! `snapshot`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use attachfs::{Announce, ChunkSize, Exposed, Format, Metadata, SnapshotOptions, TakenSnapshot};
use serde_json::json;

use super::client;
use super::committing::check_place;
use super::manifest::{hashing, policy, selection, skipped};
use super::stores::create_or_open;
use super::uploading::{published, unfinished, uploading};
use crate::args::values::FormatName;
use crate::args::{Globals, Snapshot};
use crate::exit::Failure;
use crate::output::{self, remark, remark_lines};
use crate::progress::Shown;

pub(super) async fn snapshot(globals: &Globals, args: Snapshot) -> Result<(), Failure> {
    let format = match args.format {
        FormatName::V2025 => Format::V2025_12,
        FormatName::V2023 => Format::V2023_03_03,
    };
    let chunk_size = args.chunk_size.unwrap_or(ChunkSize::DEFAULT);
    let mut selection = selection(&args.scanning)?;
    if let Some(since) = &args.client.diff {
        let files = client::changed(globals, since, &args.dir, &selection, &args.hashing).await?;
        if files.is_empty() {
            return nothing_changed(globals, &args.dir);
        }
        selection = client::only(selection, files);
    }
    let options = SnapshotOptions {
        format,
        chunk_size,
        symlinks: policy(args.symlinks),
        selection,
        hashing: hashing(&args.hashing)?,
        uploading: uploading(&args.publishing, &args.hashing.remembering)?,
    };
    let named = client::destination(&args.client, &args.dir)?;
    let file = named.or(args.output);
    check_place(file.as_deref())?;
    let store = match &args.store {
        Some(address) => Some(create_or_open(globals, address).await?),
        None => None,
    };
    let is_piped = file.as_deref() == Some(Path::new("-"));
    let shown = Shown::cancellable(globals.json);
    let (to, cancel) = (store.as_ref(), shown.cancel());
    let taken = attachfs::take_snapshot(&args.dir, to, &Aloud, &options, &shown, cancel).await;
    shown.clear();
    let TakenSnapshot { bytes, report, .. } = match taken {
        Ok(taken) => taken,
        // A pipe that waits for the manifest gets nothing.
        Err(error) if is_piped => return unfinished(globals, error, output::print_beside),
        Err(error) => return unfinished(globals, error, output::print),
    };
    if let Some(output) = &file
        && !is_piped
    {
        write(output, &bytes)?;
    }
    let metadata = Metadata::new();
    let published = published(
        args.publishing.publish.as_ref(),
        (&bytes, metadata),
        to,
        cancel,
    )
    .await;
    if is_piped {
        remark_lines(&skipped(&report.skipped));
        published?;
        std::io::stdout()
            .write_all(&bytes)
            .context("cannot write to standard output")?;
        return Ok(());
    }
    // The account is printed even if the manifest could not be published.
    let address = published.as_ref().ok().and_then(Option::as_deref);
    if globals.json {
        let mut value = serde_json::to_value(&report)?;
        value["manifest"] = file.map(|path| path.display().to_string()).into();
        value["published"] = address.into();
        output::print_json(&value)?;
    } else {
        let mut text = output::snapshot(&report);
        if let (Some(_), Some(output)) = (&args.client.destination, &file) {
            text += &format!("manifest   {}\n", output::shown(output));
        }
        if let Some(upload) = &report.upload {
            text += &output::summary("uploaded", upload);
        }
        output::print(&(text + &output::published(address)))?;
    }
    published?;
    Ok(())
}

/// Says that there is no manifest, because there is nothing to have in it.
fn nothing_changed(globals: &Globals, dir: &Path) -> Result<(), Failure> {
    if globals.json {
        let none =
            json!({ "root": dir.display().to_string(), "manifest": null, "files": 0, "bytes": 0 });
        return Ok(output::print_json(&none)?);
    }
    remark("nothing is new or changed; no manifest was written");
    Ok(())
}

/// Prints warnings about files that are about to be copied or uploaded.
pub(super) struct Aloud;

impl Announce for Aloud {
    fn copying(&self, bytes: u64, store: &Path) {
        remark(&format!(
            "copying up to {} into the store {}",
            output::bytes(bytes),
            store.display()
        ));
    }

    fn exposing(&self, exposed: &Exposed) {
        let more = if exposed.files > exposed.paths.len() as u64 {
            ", ..."
        } else {
            ""
        };
        remark(&format!(
            "uploading what may hold keys, passwords or history, {}: {}{more}; leave it out with --exclude, or all that \
             begins with a dot with --hidden no; if it is meant, say so with --hidden yes or --include",
            output::count(exposed.files, "file"),
            exposed.paths.join(", ")
        ));
    }
}

/// Writes a manifest as a whole: no reader sees half of it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    attachfs::write_manifest(path, bytes)
        .with_context(|| format!("cannot write {}", path.display()))
}
