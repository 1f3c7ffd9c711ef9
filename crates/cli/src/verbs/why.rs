//! `why`.

use attachfs::{
    CancellationToken, ManifestSaid, MissingPath, ShownContent, ShownManifest, ShownPath,
    WhyReport, WrittenPart,
};

use super::stores::require_used;
use crate::args::Globals;
use crate::args::why::Why;
use crate::exit::Failure;
use crate::output;
use crate::places::places;

/// Hashes that are shown of a file; `--json` has all.
const SHOWN_HASHES: usize = 8;

pub(super) async fn why(globals: &Globals, args: Why) -> Result<(), Failure> {
    // Looked for only if something was typed. That it is in no mount is told below.
    if globals.s3.typed()? != attachfs::S3Access::default()
        && let Ok(found) = attachfs::find(&places(), &args.path)
    {
        require_used(globals, &found).await?;
    }
    let report = attachfs::why(&places(), &args.path, &CancellationToken::new()).await?;
    if globals.json {
        return Ok(output::print_json(&report)?);
    }
    Ok(output::print(&text(&report))?)
}

fn text(report: &WhyReport) -> String {
    let path = match report.path.as_str() {
        "" => "the root",
        path => path,
    };
    let mut text = format!("path       {path}\n");
    if let Some(shown) = &report.shown {
        text += &there(shown);
    }
    if let Some(missing) = &report.missing {
        text += &nothing(missing);
    }
    let is_of_job = match (&report.shown, &report.missing) {
        (Some(shown), _) => shown.written != WrittenPart::Nothing || shown.renamed_from.is_some(),
        (None, Some(missing)) => missing.removed_by_job,
        (None, None) => false,
    };
    if report.uncommitted {
        text += "committed  no: `attachfs diff` lists what is not\n";
    } else if is_of_job {
        text += "committed  yes\n";
    }
    text += &format!("session    {}\n", report.session);
    text
}

fn there(shown: &ShownPath) -> String {
    let kind = match shown.kind.as_str() {
        "dir" => "a directory",
        "symlink" => "a symbolic link",
        _ => "a file",
    };
    let size = shown.content.as_ref().map(|content| content.size);
    let size = size.map(|size| format!(", {}", output::bytes(size)));
    let mut text = format!("is         {kind}{}\n", size.unwrap_or_default());
    text += &match (&shown.manifest, shown.written) {
        (Some(manifest), WrittenPart::Part) => {
            format!(
                "from       {}, partly written by the job\n",
                named(manifest)
            )
        }
        (Some(manifest), _) => format!("from       {}\n", named(manifest)),
        (None, WrittenPart::Nothing) => "from       all manifests\n".to_owned(),
        (None, _) => "from       the job, which wrote it\n".to_owned(),
    };
    if let Some(before) = &shown.renamed_from {
        text += &format!("renamed    by the job, from {before}\n");
    }
    if let Some(content) = &shown.content {
        text += &of_content(content);
    }
    text
}

fn of_content(content: &ShownContent) -> String {
    let mut text = String::new();
    for (number, hash) in content.hashes.iter().take(SHOWN_HASHES).enumerate() {
        let label = if number == 0 { "hash" } else { "" };
        text += &format!("{label:<11}{hash}\n");
    }
    if content.hashes.len() > SHOWN_HASHES {
        let more = content.hashes.len() - SHOWN_HASHES;
        text += &format!("{:>11}and {more} more, which --json shows\n", "");
    }
    let here = match content.bytes_here {
        None => "unknown: the disk of the cache does not answer".to_owned(),
        Some(here) if here == content.size => "all of it".to_owned(),
        Some(0) => "nothing of it".to_owned(),
        Some(here) => format!("{} of {}", output::bytes(here), output::bytes(content.size)),
    };
    text += &format!("here       {here}");
    if let (Some(here), 2..) = (content.chunks_here, content.chunks) {
        text += &format!(", {here} of {} chunks", content.chunks);
    }
    text += "\n";
    if let Some(failed) = &content.failed {
        text += &format!("failed     {}\n", output::last_error(failed));
    }
    text
}

fn nothing(missing: &MissingPath) -> String {
    let at = &missing.at;
    let mut text = match missing.blocked_by.as_deref() {
        Some("symlink") => {
            format!("is         not there: {at} is a symbolic link, which is not followed here\n")
        }
        Some(_) => format!("is         not there: {at} is a file\n"),
        None => format!("is         not there: {at} is missing\n"),
    };
    text += match (&missing.renamed_to, missing.removed_by_job) {
        (Some(_), _) => "because    the job renamed it",
        (None, true) => "because    the job deleted it",
        (None, false) => because(&missing.manifests),
    };
    if let Some(to) = &missing.renamed_to {
        text += &format!(", to {to}");
    }
    text += "\n";
    for said in &missing.manifests {
        text += &format!("{:>11}{}\n", "", says(said));
    }
    text
}

/// Why the manifests together have nothing there.
fn because(manifests: &[ManifestSaid]) -> &'static str {
    if manifests.iter().any(|said| said.says == "has") {
        "because    a manifest hides what another one has"
    } else {
        "because    no manifest has it"
    }
}

fn says(said: &ManifestSaid) -> String {
    let says = match (said.says.as_str(), said.kind.as_deref()) {
        ("has", Some("dir")) => "has a directory there",
        ("has", Some("symlink")) => "has a symbolic link there",
        ("has", _) => "has a file there",
        ("deletes", _) => "deletes it",
        ("blocks", _) => "has a file or a link in the place of a directory above it",
        _ => "lacks it",
    };
    format!("{} {says}", named(&said.manifest))
}

fn named(manifest: &ShownManifest) -> String {
    let at = manifest.at.as_ref().map(|at| format!(" in {at}"));
    format!(
        "manifest {}, {}{}",
        manifest.number,
        output::line_of(&manifest.source),
        at.unwrap_or_default()
    )
}
