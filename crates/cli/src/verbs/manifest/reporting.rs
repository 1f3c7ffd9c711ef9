//! What operations on manifests print.

use std::path::Path;

use attachfs::manifest::{CheckReport, MadeManifest, PartManifest, SkippedPath};
use attachfs::{Changes, Losses, Lost, ManifestPath};
use serde_json::{Value, json};

use crate::args::Globals;
use crate::exit::Failure;
use crate::output;

/// How many paths of a list are shown to a person.
const SHOWN: usize = 20;

pub(super) fn entries(made: &MadeManifest) -> u64 {
    made.entries() as u64
}

pub(super) fn made(output: &Path, made: &MadeManifest) -> String {
    format!(
        "manifest   {}\n           {} of format {}, hash {}\n",
        output::shown(output),
        described(made),
        made.format,
        made.hash()
    )
}

fn described(made: &MadeManifest) -> String {
    format!(
        "{}, {}",
        output::count(entries(made), "entry"),
        output::bytes(made.manifest.total_size())
    )
}

pub(super) fn part(file: &Path, part: &PartManifest) -> String {
    format!(
        "part       {}\n           {}, {}\n",
        part.root,
        output::shown(file),
        described(&part.made)
    )
}

pub(in crate::verbs) fn skipped(skipped: &[SkippedPath]) -> String {
    let lines = skipped
        .iter()
        .take(SHOWN)
        .map(|skipped| format!("left out   {}: {}\n", skipped.path, skipped.reason));
    lines.collect::<String>() + &more(skipped.len())
}

fn more(count: usize) -> String {
    match count.checked_sub(SHOWN) {
        None | Some(0) => String::new(),
        Some(more) => format!("           and {more} more\n"),
    }
}

/// How many of these paths have a name that begins with a dot.
pub(super) fn hidden(paths: &[ManifestPath]) -> u64 {
    let is_hidden = |path: &&ManifestPath| path.components().any(|name| name.starts_with(b"."));
    paths.iter().filter(is_hidden).count() as u64
}

/// What changed, as `deadline manifest diff --json` prints it, with more beside.
pub(super) fn changes(
    globals: &Globals,
    changes: &Changes,
    left_out: &[SkippedPath],
    output: Option<&Path>,
) -> Result<(), Failure> {
    if globals.json {
        let text =
            |paths: &[ManifestPath]| -> Vec<String> { paths.iter().map(json_text).collect() };
        let value = json!({
            "new": text(&changes.new),
            "modified": text(&changes.modified),
            "deleted": text(&changes.deleted),
            "new_directories": text(&changes.new_directories),
            "deleted_directories": text(&changes.deleted_directories),
            "unchanged": changes.unchanged,
            "new_bytes": changes.new_bytes,
            "deleted_bytes": changes.deleted_bytes,
            "skipped": left_out,
            "manifest": output.map(|output| output.display().to_string()),
        });
        return Ok(output::print_json(&value)?);
    }
    let mut text = String::new();
    for (paths, word) in [
        (&changes.new, "new"),
        (&changes.modified, "modified"),
        (&changes.deleted, "deleted"),
        (&changes.new_directories, "new dir"),
        (&changes.deleted_directories, "gone dir"),
    ] {
        for path in paths {
            text += &format!("{word:<10} {path}\n");
        }
    }
    text += &format!(
        "in all     {} new, {} modified, {} deleted, {} unchanged\n",
        changes.new.len(),
        changes.modified.len(),
        changes.deleted.len(),
        changes.unchanged
    );
    if let Some(output) = output {
        text += &format!("diff       {}\n", output::shown(output));
    }
    Ok(output::print(&(text + &skipped(left_out)))?)
}

/// A path in JSON: as it is, where that is text.
fn json_text(path: &ManifestPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

/// What a conversion drops.
pub(super) fn losses(losses: &Losses) -> (Value, String) {
    let all: [(&str, &str, &str, &Lost); 4] = [
        (
            "empty_directories",
            "empty directory",
            "",
            &losses.empty_directories,
        ),
        ("runnable", "execute bit", "", &losses.runnable),
        (
            "links",
            "link",
            ", replaced by what it points to",
            &losses.links,
        ),
        ("deletions", "deletion", "", &losses.deletions),
    ];
    let mut value = json!({ "parent_dropped": losses.parent });
    let mut text = String::new();
    for (key, noun, how, lost) in all {
        value[key] = lost.count.into();
        if lost.count > 0 {
            let first: Vec<_> = lost.first.iter().map(ToString::to_string).collect();
            let dots = if lost.count > first.len() as u64 {
                ", ..."
            } else {
                ""
            };
            text += &format!(
                "dropped    {}{how}: {}{dots}\n",
                output::count(lost.count, noun),
                first.join(", ")
            );
        }
    }
    if losses.parent {
        text += "dropped    the hash of the parent\n";
    }
    (value, text)
}

pub(super) fn check(report: &CheckReport) -> String {
    let mut text = format!(
        "manifest   {} of format {}, hash {}\n",
        output::count(report.entries, "entry"),
        report.format,
        report.hash
    );
    if let Some(fault) = &report.fault {
        text += &format!("fault      {fault}\n");
    }
    if report.unhashed > 0 {
        text += &format!(
            "no hash    {}: {}; `attachfs manifest hash` fills them in\n",
            output::count(report.unhashed, "file"),
            report.first_unhashed.join(", ")
        );
    }
    for name in report.names.iter().take(SHOWN) {
        text += &format!("name       {}: {}\n", name.path, name.reason);
    }
    text += &more(report.names.len());
    for object in report.bad_objects.iter().take(SHOWN) {
        text += &format!(
            "object     {} of {}: {}\n",
            object.object, object.path, object.reason
        );
    }
    text += &more(report.bad_objects.len());
    if report.asked {
        text += &format!(
            "store      {} asked for, {} not as they should be\n",
            output::count(report.objects, "object"),
            report.bad_objects.len()
        );
    }
    text + if report.is_sound() {
        "sound\n"
    } else {
        "not sound\n"
    }
}
