//! `add`, `layers`.

use std::path::Path;

use attachfs::{CancellationToken, ManifestSource, ShownManifest};

use super::mounting::placed_all;
use super::reading::read;
use super::stores::require_used;
use crate::args::layering::Add;
use crate::args::{Globals, Session};
use crate::exit::Failure;
use crate::output;
use crate::places::places;

pub(super) async fn add(globals: &Globals, args: Add) -> Result<(), Failure> {
    let Some((mount_point, manifests)) = args.paths.split_last() else {
        return Err(attachfs::Error::usage("there is no mount point").into());
    };
    let found = attachfs::find(&places(), Path::new(mount_point))?;
    let mut added = Vec::new();
    let manifests = placed_all(manifests)?;
    let is_in_s3 = |(source, _): &(ManifestSource, _)| matches!(source, ManifestSource::S3(_));
    // Manifests in S3 are read here, and their options are used for that.
    if !manifests.iter().any(is_in_s3) {
        require_used(globals, &found).await?;
    }
    for (source, at) in manifests {
        added.push(read(globals, &source, at).await?);
    }
    let (probe, cancel) = (!args.no_probe, CancellationToken::new());
    let report = attachfs::add(&found, &added, args.replace.as_deref(), probe, &cancel).await?;
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    let mut text = String::new();
    if let Some(replaced) = &report.replaced {
        text += &format!("replaced   {}", line(replaced));
    }
    for manifest in &report.added {
        text += &format!("added      {}", line(manifest));
    }
    text += &format!("changed    {}\n", output::count(report.changed, "path"));
    Ok(output::print(&text)?)
}

pub(super) async fn layers(globals: &Globals, args: Session) -> Result<(), Failure> {
    let places = places();
    let found = attachfs::find(&places, &args.session)?;
    require_used(globals, &found).await?;
    let report = attachfs::layers(
        &found,
        &places,
        &globals.s3.access()?,
        &CancellationToken::new(),
    )
    .await?;
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    let lines = report.manifests.iter().map(|manifest| {
        let added = if manifest.added { " (added)" } else { "" };
        format!(
            "{:>3}  {}{added}\n",
            manifest.number,
            line(manifest).trim_end()
        )
    });
    Ok(output::print(&lines.collect::<String>())?)
}

fn line(manifest: &ShownManifest) -> String {
    let at = manifest.at.as_ref();
    let at = at.map(|at| format!(" in {at}")).unwrap_or_default();
    let source = output::line_of(&manifest.source);
    format!("{source}{at}, hash {}\n", manifest.hash)
}
