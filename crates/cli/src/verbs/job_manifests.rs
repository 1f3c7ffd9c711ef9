//! `manifest download` of a job.

use std::path::Path;

use attachfs::{Error, JobFiles, find_root_manifests, step_dependencies};
use serde_json::json;

use super::client::local_time;
use super::job_files::tell;
use super::naming::{document, named};
use super::stores::open_store;
use crate::args::Globals;
use crate::args::publishing::{AssetType, Download};
use crate::exit::Failure;
use crate::output;
use crate::progress::Shown;

/// Writes a manifest for each root of the job that is meant.
pub(super) async fn download(globals: &Globals, args: Download) -> Result<(), Failure> {
    let of = &args.of_job;
    let dir = of.output_dir.as_deref().unwrap_or(Path::new("."));
    if !dir.is_dir() {
        return Err(Error::usage(format!("{} is no directory", dir.display())).into());
    }
    let named = named(args.key.as_deref(), &args.job, args.store.as_deref())?;
    let latest_by = of.latest_by.into();
    let dependencies = document(of.step_dependencies_json.as_deref(), step_dependencies)?;
    let inputs = JobFiles::Inputs {
        dependencies: dependencies.unwrap_or_default(),
        latest_by,
    };
    let outputs = JobFiles::Outputs(latest_by);
    let kinds = match of.asset_type {
        AssetType::Input => vec![inputs],
        AssetType::Output => vec![outputs],
        AssetType::All => vec![inputs, outputs],
    };
    let shown = Shown::cancellable(globals.json);
    let store = open_store(globals, &named.store).await?;
    let (roots, found) = find_root_manifests(&named, &kinds, &store, shown.cancel()).await?;
    for (found, kind) in found.iter().zip(&kinds) {
        tell(found, kind, &named.store);
    }
    let mut downloaded = Vec::with_capacity(roots.len());
    let mut text = String::new();
    for of in roots {
        let file = dir.join(attachfs::downloaded_file_name(&of.root, local_time()));
        attachfs::write_manifest(&file, &of.made.bytes)?;
        text += &format!(
            "root       {}\nmanifest   {}\n",
            of.root,
            output::shown(&file)
        );
        downloaded.push(json!({
            "manifest_root": of.root,
            "local_manifest_path": file.display().to_string(),
        }));
    }
    if globals.json {
        return Ok(output::print_json(&json!({ "downloaded": downloaded }))?);
    }
    if downloaded.is_empty() {
        output::remark("there are no manifests of it");
    }
    Ok(output::print(&text)?)
}
