//! `download`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use attachfs::causes::StoppedDownload;
use attachfs::{
    Conflict, DownloadRequest, DownloadedRoot, Downloads, Error, LayerOptions, ManifestSource,
    Permissions, PlacedManifests, Summary, download_manifests,
};
use serde_json::{Value, json};

use super::manifest::hashing;
use super::reading::{read, source};
use super::stores::store_of;
use crate::args::Globals;
use crate::args::download::{Download, OnConflict};
use crate::exit::{self, Failure};
use crate::output;
use crate::places::places_with;
use crate::progress::Shown;

pub(super) async fn download(globals: &Globals, args: Download) -> Result<(), Failure> {
    require_manifests(&args)?;
    let places = places_with(args.hashing.remembering.cache_dir.clone())?;
    let named = named(&args)?;
    let sources: Vec<_> = named.iter().map(|(source, _)| source.clone()).collect();
    let stdin = sources.iter().filter(|of| **of == ManifestSource::Stdin);
    if stdin.count() > 1 {
        return Err(usage("standard input is named twice"));
    }
    let store = store_of(globals, args.store.as_deref(), &sources, &places).await?;
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut placed: Vec<PlacedManifests> = Vec::new();
    for (source, root) in named {
        let manifest = read(globals, &source, None).await?;
        let folder = attachfs::real_folder(&root)?;
        if let Some(at) = folders.iter().position(|known| *known == folder) {
            placed[at].manifests.push(manifest);
            continue;
        }
        folders.push(folder);
        placed.push(PlacedManifests {
            manifests: vec![manifest],
            root,
        });
    }
    let request = request(&args)?;
    let shown = Shown::cancellable(globals.json);
    let downloads = download_manifests(placed, &request, &store, &places, &shown, shown.cancel());
    let downloads = downloads.await;
    shown.clear();
    match downloads {
        Ok(downloads) => {
            print(globals, &downloads)?;
            exit::of_summary(&downloads.total)
        }
        Err(error) => {
            if let Some(stopped) = error.cause::<StoppedDownload>() {
                print(globals, &stopped.downloads)?;
            }
            Err(error.into())
        }
    }
}

/// What is said where patterns choose nothing.
pub(super) const NOTHING_MATCHES: &str = "nothing matches the patterns";

/// How files are placed, as it was typed.
pub(super) fn request(args: &Download) -> Result<DownloadRequest, Failure> {
    let bytes = |patterns: &[OsString]| {
        let patterns = patterns.iter();
        patterns
            .map(|pattern| pattern.as_encoded_bytes().to_vec())
            .collect()
    };
    Ok(DownloadRequest {
        layers: LayerOptions {
            root: args.from.clone(),
            ignore_parent: args.ignore_parent,
        },
        conflict: match args.conflict {
            OnConflict::CreateCopy => Conflict::CreateCopy,
            OnConflict::Skip => Conflict::Skip,
            OnConflict::Overwrite => Conflict::Overwrite,
        },
        no_deletes: args.no_deletes,
        permissions: Permissions {
            group: args.group.as_deref().map(group_id).transpose()?,
            add_file_mode: args.add_file_mode,
            add_dir_mode: args.add_dir_mode,
        },
        hashing: hashing(&args.hashing)?,
        sync: args.sync,
        include: bytes(&args.include),
        exclude: bytes(&args.exclude),
    })
}

/// Whether it is said which manifests go where, and nothing that only a job has.
fn require_manifests(args: &Download) -> Result<(), Failure> {
    let Download {
        manifests,
        root,
        map,
        fetching,
        ..
    } = args;
    if manifests.is_empty() && map.is_empty() {
        return Err(usage(
            "nothing is named to download: manifests with --root or --map, or a job",
        ));
    }
    match (manifests.is_empty(), root) {
        (false, None) => {
            return Err(usage(
                "the manifests have no folder: say with --root which it is",
            ));
        }
        (true, Some(_)) => {
            return Err(usage("--root has no manifests: --map names its own folder"));
        }
        (false, Some(_)) | (true, None) => {}
    }
    let placing = &fetching.placing;
    let of_jobs = [
        ("--inputs", fetching.of_job.inputs),
        ("--dry-run", fetching.dry_run),
        ("--map-root", !placing.map_root.is_empty()),
        ("--path-mapping-rules", placing.path_mapping_rules.is_some()),
        (
            "--local-storage-profile-json",
            placing.local_storage_profile_json.is_some(),
        ),
    ];
    match of_jobs.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(usage(&format!(
            "{option} is for the files of a job, and manifests are named"
        ))),
    }
}

/// The account for programs.
pub(super) fn account(downloads: &Downloads) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(&downloads.total)?;
    value["roots"] = json!(downloads.roots);
    Ok(value)
}

fn print(globals: &Globals, downloads: &Downloads) -> anyhow::Result<()> {
    if downloads.nothing_matched {
        output::remark(NOTHING_MATCHES);
    }
    if globals.json {
        output::print_json(&account(downloads)?)
    } else {
        output::print(&text(downloads))
    }
}

fn usage(text: &str) -> Failure {
    Error::usage(text).into()
}

/// Each manifest, and the folder that it goes to.
fn named(args: &Download) -> Result<Vec<(ManifestSource, PathBuf)>, Failure> {
    let mut named = Vec::new();
    if let Some(root) = &args.root {
        for manifest in &args.manifests {
            named.push((source(manifest)?, root.clone()));
        }
    }
    for mapped in &args.map {
        let bytes = mapped.as_encoded_bytes();
        let equals = bytes.iter().rposition(|&byte| byte == b'=');
        let Some((manifest, root)) = equals.map(|at| (&bytes[..at], &bytes[at + 1..])) else {
            return Err(usage("--map wants a manifest, `=` and a folder"));
        };
        if root.is_empty() {
            return Err(usage("there is no folder after the `=` of --map"));
        }
        let root = attachfs::path_of_bytes(root);
        let manifest = attachfs::path_of_bytes(manifest);
        named.push((source(manifest.as_os_str())?, root));
    }
    Ok(named)
}

/// The number of a group. `getent` looks it up, because groups may be kept elsewhere than in /etc/group.
fn group_id(name: &str) -> Result<u32, Failure> {
    let id = match name.parse() {
        Ok(id) => id,
        Err(_) => looked_up(name)?,
    };
    // This number means "no change" where a group is given.
    if id == u32::MAX {
        return Err(usage(&format!("{id} is the number of no group")));
    }
    Ok(id)
}

fn looked_up(name: &str) -> Result<u32, Failure> {
    /// The exit code of `getent` if it looked, and the name does not exist.
    const NOT_FOUND: i32 = 2;
    let doing = || format!("cannot look up the group \"{name}\" with getent; its number will do");
    let found = Command::new("getent").args(["group", "--", name]).output();
    let found = found.with_context(doing)?;
    if found.status.code() == Some(NOT_FOUND) {
        return Err(usage(&format!("there is no group \"{name}\"")));
    }
    let line = String::from_utf8_lossy(&found.stdout);
    let id = line.trim_end().split(':').nth(2);
    let id = id.and_then(|id| id.parse().ok()).with_context(|| {
        let said = String::from_utf8_lossy(&found.stderr);
        format!(
            "getent ended with {}: {}{}",
            found.status,
            line.trim(),
            said.trim()
        )
    });
    Ok(id.with_context(doing)?)
}

fn text(downloads: &Downloads) -> String {
    if let [root] = &downloads.roots[..] {
        return text_of_root(root, false);
    }
    let roots = downloads.roots.iter();
    let text: String = roots.map(|root| text_of_root(root, true)).collect();
    text + &total(downloads)
}

/// What was done in one folder, which is named if there are several.
pub(super) fn text_of_root(root: &DownloadedRoot, named: bool) -> String {
    let shown = attachfs::EscapedBytes(attachfs::path_bytes(&root.root));
    let name = if named {
        format!("folder     {shown}\n")
    } else {
        String::new()
    };
    name + &output::summary("fetched", &root.summary) + &remarks(root)
}

/// What was done in all folders together. The files that failed are printed folder by folder.
pub(super) fn total(downloads: &Downloads) -> String {
    let total = Summary {
        errors: Vec::new(),
        ..downloads.total.clone()
    };
    "all folders\n".to_owned() + &output::summary("fetched", &total)
}

fn remarks(root: &DownloadedRoot) -> String {
    let mut text = String::new();
    if root.deleted > 0 {
        text += &format!("deleted    {}\n", output::count(root.deleted, "path"));
    }
    text += &output::listed(&root.copied, |copied| {
        format!("copied     {}: {}\n", copied.path, copied.name)
    });
    if !root.copied.is_empty() {
        text +=
            "           since other files have their names; --conflict overwrite replaces those\n";
    }
    text += &output::listed(&root.left, |remark| {
        format!("left       {}: {}\n", remark.path, remark.why)
    });
    text
}
