//! `manifest upload` and `manifest download`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use attachfs::manifest::{Publication, PublishRequest, fetch_manifest, publish_manifest};
use attachfs::{
    CancellationToken, ManifestAddress, ManifestKey, Metadata, OutputKey, OutputMetadata,
    OutputPlace,
};
use serde_json::json;

use super::job_manifests;
use super::naming::is_job_address;
use super::reading::{read, source};
use super::stores::open_store;
use crate::args::Globals;
use crate::args::publishing::{Download, Upload};
use crate::exit::{Failure, INCOMPLETE};
use crate::output;
use crate::progress::Shown;

pub(super) async fn upload(globals: &Globals, args: Upload) -> Result<(), Failure> {
    let bytes = read(globals, &source(&args.manifest)?, None).await?;
    let store = open_store(globals, &args.store).await?;
    let request = PublishRequest {
        key: key(&args)?,
        metadata: metadata(&args)?,
        unchecked: args.unchecked,
    };
    let shown = Shown::cancellable(globals.json);
    let published = publish_manifest(&bytes, &store, &request, &shown, shown.cancel()).await;
    shown.clear();
    let published = published?;
    if globals.json {
        output::print_json(&published)?;
    } else {
        output::print(&told(&published))?;
    }
    if published.bad_objects.is_empty() {
        Ok(())
    } else {
        Err(Failure::Code(INCOMPLETE))
    }
}

fn metadata(args: &Upload) -> Result<Metadata, attachfs::Error> {
    match &args.asset_root {
        Some(root) => Ok(output_metadata(root, args).encode()?),
        None => Ok(Metadata::new()),
    }
}

fn output_metadata(root: &str, args: &Upload) -> OutputMetadata {
    OutputMetadata {
        asset_root: root.to_owned(),
        location: args.file_system_location.clone(),
    }
}

/// The key that was given, or that of the output whose ids were.
fn key(args: &Upload) -> Result<ManifestKey, Failure> {
    let of = &args.output;
    if let (Some(farm), Some(queue), Some(job), Some(step), Some(action), Some(time), Some(root)) = (
        of.farm,
        of.queue,
        of.job,
        of.step,
        of.session_action,
        of.time,
        &args.asset_root,
    ) {
        let place = OutputPlace {
            farm,
            queue,
            job,
            step,
            task: of.task,
        };
        let location = args.file_system_location.as_deref();
        let key = OutputKey::new(place, time, action, location, root);
        return Ok(key.manifest_key().map_err(attachfs::Error::from)?);
    }
    let key = args.key.clone();
    Ok(key.context("neither a key nor the ids of an output were given")?)
}

fn told(published: &Publication) -> String {
    let mut text = String::new();
    for bad in &published.bad_objects {
        text += &format!(
            "object     {} of {}: {}\n",
            bad.object, bad.path, bad.reason
        );
    }
    if !text.is_empty() {
        return text + "the manifest was not uploaded: its objects have to be there first\n";
    }
    let existed = if published.existed {
        " (was there already)"
    } else {
        ""
    };
    text += &format!(
        "manifest   {}{existed}\n           {}\n",
        published.hash, published.address
    );
    text + &said(&published.metadata)
}

/// The metadata of a manifest, a line each.
fn said(metadata: &Metadata) -> String {
    let lines = metadata
        .iter()
        .map(|(name, value)| format!("says       {name}: {value}\n"));
    lines.collect()
}

pub(super) async fn download(globals: &Globals, args: Download) -> Result<(), Failure> {
    let Some(output_file) = &args.output else {
        return job_manifests::download(globals, args).await;
    };
    let (address, key) = place(&args)?;
    let store = open_store(globals, &address).await?;
    let fetched = fetch_manifest(&key, &store, &CancellationToken::new()).await?;
    if output_file == Path::new("-") {
        std::io::stdout()
            .write_all(&fetched.bytes.bytes)
            .context("cannot write to standard output")?;
        return Ok(());
    }
    attachfs::write_manifest(output_file, &fetched.bytes.bytes)?;
    let output = OutputMetadata::decode(&fetched.metadata);
    if let Err(error) = &output
        && !fetched.metadata.is_empty()
    {
        tracing::info!(
            error = error as &dyn std::error::Error,
            "the manifest's metadata is not that of a job's outputs"
        );
    }
    let output = output.ok();
    let hash = attachfs::ContentHash::of(&fetched.bytes.bytes);
    if globals.json {
        return Ok(output::print_json(&json!({
            "manifest": output_file.display().to_string(),
            "address": fetched.bytes.name,
            "hash": hash.to_string(),
            "metadata": fetched.metadata,
            "asset_root": output.as_ref().map(|output| &output.asset_root),
            "file_system_location": output.as_ref().and_then(|output| output.location.as_ref()),
            "modified": fetched.modified,
        }))?);
    }
    let mut text = format!(
        "manifest   {}\n           hash {hash}\n{}",
        output::shown(output_file),
        said(&fetched.metadata)
    );
    if let Some(output) = output {
        text += &format!("root       {}\n", output.asset_root);
    }
    Ok(output::print(&text)?)
}

/// The store and the key. An address names both.
fn place(args: &Download) -> Result<(String, ManifestKey), Failure> {
    let named = args.key.as_deref();
    if args.job.is_given() || named.is_some_and(|at| is_job_address(at.as_ref())) {
        let sentence = "a job has manifests of several roots: say with --output-dir where they go";
        return Err(attachfs::Error::usage(sentence).into());
    }
    let Some(named) = named else {
        return Err(attachfs::Error::usage("no manifest is named: give its key").into());
    };
    if ManifestAddress::is_s3(named).map_err(attachfs::Error::from)? {
        let address: ManifestAddress = named.parse().map_err(attachfs::Error::from)?;
        let store = args.store.clone();
        return Ok((
            store.unwrap_or_else(|| address.store.to_string()),
            address.key,
        ));
    }
    let key = named.parse().map_err(attachfs::Error::from)?;
    let Some(store) = args.store.clone() else {
        return Err(attachfs::Error::usage("a key needs --store").into());
    };
    Ok((store, key))
}
