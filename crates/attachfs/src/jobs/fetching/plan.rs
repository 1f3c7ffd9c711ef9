//! Where each root goes, what of it cannot be here, and what is there already.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use attachfs_durable::{Facts, Kind, path_of_bytes};
use attachfs_jobs::StorageProfileId;
use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    CaseOptions, DownloadFilter, EscapedBytes, LinkTarget, ManifestPath, NameProblem, Node,
    PathRef, Snapshot, SymlinkPolicy, case_report,
};
use attachfs_paths::PathFormat;
use attachfs_scan::mtime_of;
use attachfs_transfer::Tally;
use serde::Serialize;

use super::finding::FoundRoot;
use crate::download::{DownloadRequest, as_text, chosen, real_folder};
use crate::error::Error;
use crate::jobs::{Placed, PlacedParts, Placing, PlacingOptions};

/// Where the files of a job go.
#[derive(Debug, Clone)]
pub enum FetchTo {
    /// Into this folder: one root itself, of several each into a folder of its own there.
    Folder(PathBuf),
    /// Each root to its place on this machine.
    Places {
        /// What was said of that.
        options: PlacingOptions,
        /// The storage profile of the job, if it is known.
        profile: Option<StorageProfileId>,
    },
}

/// Who chose a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// Who runs this: with a folder, a mapping, or storage profiles.
    User,
    /// The job: it is the root that its manifests say.
    Job,
}

/// What is to be placed in one folder.
#[derive(Debug, Serialize)]
pub struct PlannedPlace {
    /// The root, as the job has it.
    #[serde(rename = "asset_root")]
    pub root: String,
    /// The directory below the root for which a rule of its own counts; empty for the root.
    pub below: String,
    /// The file-system location that the root is in.
    #[serde(rename = "file_system_location")]
    pub location: Option<String>,
    /// The folder, as an absolute path.
    #[serde(serialize_with = "as_text")]
    pub folder: PathBuf,
    /// Who chose it.
    pub chosen_by: ChosenBy,
    /// Files and links.
    #[serde(flatten)]
    pub files: Counted,
    /// The folder without `..` and links.
    #[serde(skip)]
    pub(super) real: PathBuf,
    #[serde(skip)]
    pub(super) snapshot: Snapshot,
}

/// Files, and what is in their places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// How many files and links there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them have something in their places.
    pub there: u64,
    /// How many of these have another length or time, or are no files: the others are believed to be the same until they are read.
    pub there_differing: u64,
}

/// A root of which nobody said where it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnmappedRoot {
    /// The root, as the job has it.
    #[serde(rename = "asset_root")]
    pub root: String,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something that cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnmappedPath {
    /// The root, as the job has it.
    #[serde(rename = "asset_root")]
    pub root: String,
    /// The path below it, as text for people and JSON.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Where everything goes.
#[derive(Debug, Default, Serialize)]
pub struct FetchPlan {
    /// The folders. Those in which nothing is to be placed are left out.
    pub places: Vec<PlannedPlace>,
    /// Roots that are not placed.
    pub unmapped_roots: Vec<UnmappedRoot>,
    /// Paths that are not placed, of roots that are.
    pub unmapped: Vec<UnmappedPath>,
}

impl FetchPlan {
    /// All files that are to be placed.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for place in &self.places {
            total += Tally {
                count: place.files.files,
                bytes: place.files.bytes,
            };
        }
        total
    }

    /// Whether a place was chosen by the job alone.
    pub fn has_places_of_the_job(&self) -> bool {
        self.places.iter().any(|of| of.chosen_by == ChosenBy::Job)
    }
}

struct Planning<'a> {
    filter: DownloadFilter,
    root: &'a FoundRoot,
    plan: &'a mut FetchPlan,
}

pub(super) fn plan(
    roots: &[FoundRoot],
    to: &FetchTo,
    request: &DownloadRequest,
) -> Result<FetchPlan, Error> {
    let mut plan = FetchPlan::default();
    let placings = match to {
        FetchTo::Folder(_) => None,
        FetchTo::Places { options, .. } => {
            let said = PlacingOptions {
                own_roots: false,
                ..options.clone()
            };
            Some((Placing::new(options)?, Placing::new(&said)?))
        }
    };
    for root in roots {
        let mut planning = Planning {
            filter: DownloadFilter::new(&request.include, &request.exclude),
            root,
            plan: &mut plan,
        };
        match (to, &placings) {
            (FetchTo::Places { profile, .. }, Some((placing, said))) => {
                planning.place(profile.as_ref(), placing, said)?;
            }
            (FetchTo::Folder(folder), _) if roots.len() == 1 => planning.all_into(folder)?,
            (FetchTo::Folder(folder), _) => planning.all_into(&folder.join(&root.name))?,
            (FetchTo::Places { .. }, None) => {}
        }
    }
    Ok(plan)
}

impl Planning<'_> {
    fn format(&self) -> PathFormat {
        PathFormat::of_root(&self.root.merged.root)
    }

    fn unmapped(&mut self, path: PathRef<'_>, why: impl Into<String>) {
        self.plan.unmapped.push(UnmappedPath {
            root: self.root.merged.root.clone(),
            path: path.to_string(),
            why: why.into(),
        });
    }

    /// The files and links whose names can be here.
    fn possible(&mut self) -> Snapshot {
        let snapshot = &self.root.merged.snapshot;
        let impossible = impossible(snapshot, self.format(), PathFormat::HOST);
        if impossible.is_empty() {
            return snapshot.clone();
        }
        snapshot.filter(|path, _| {
            let mut at_or_above = std::iter::once(path).chain(path.ancestors());
            let found = at_or_above.find_map(|at| impossible.get(at.as_bytes()));
            if let Some(why) = found {
                self.unmapped(path, why.as_str());
            }
            found.is_none()
        })
    }

    fn all_into(&mut self, folder: &Path) -> Result<(), Error> {
        let snapshot = self.possible();
        let folder = std::path::absolute(folder).map_err(|error| {
            let shown = folder.display();
            Error::usage(format!("{shown} is no folder")).because(error)
        })?;
        self.add(snapshot, "", folder, ChosenBy::User)
    }

    fn place(
        &mut self,
        profile: Option<&StorageProfileId>,
        placing: &Placing,
        said: &Placing,
    ) -> Result<(), Error> {
        let merged = &self.root.merged;
        let location = merged.location.as_deref();
        let parts = placing.parts(&merged.root, location, profile);
        let said = said.parts(&merged.root, location, profile);
        let snapshot = self.possible();
        if parts.parts().len() == 1 {
            return self.part(snapshot, &parts, &said, 0);
        }
        for part in 0..parts.parts().len() {
            let of_part = snapshot.filter(|path, node| {
                if parts.part_of(path) != part {
                    return false;
                }
                let stays = match node {
                    Node::Symlink(LinkTarget::Below(target)) => {
                        parts.part_of(target.borrowed()) == part
                    }
                    Node::Symlink(LinkTarget::Root) => parts.parts()[part].below.is_empty(),
                    Node::File(_) | Node::Dir => true,
                };
                if !stays {
                    self.unmapped(path, "it is a link to what a rule puts elsewhere");
                }
                stays
            });
            self.part(of_part, &parts, &said, part)?;
        }
        Ok(())
    }

    /// Places what lies in one part of the root.
    fn part(
        &mut self,
        snapshot: Snapshot,
        parts: &PlacedParts,
        said: &PlacedParts,
        number: usize,
    ) -> Result<(), Error> {
        let part = &parts.parts()[number];
        let Placed::At(folder) = &part.placed else {
            let files = count(&snapshot);
            if files.count > 0 {
                self.plan.unmapped_roots.push(UnmappedRoot {
                    root: self.root.merged.root.clone(),
                    files: files.count,
                    bytes: files.bytes,
                });
            }
            return Ok(());
        };
        let is_said = said
            .parts()
            .iter()
            .any(|of| of.below == part.below && of.placed != Placed::Unmapped);
        let by = if is_said {
            ChosenBy::User
        } else {
            ChosenBy::Job
        };
        if part.below.is_empty() {
            return self.add(snapshot, "", folder.clone(), by);
        }
        // On Windows one directory may have several spellings.
        let depth = part.below.split(|&byte| byte == b'/').count();
        let mut spellings: Vec<ManifestPath> = Vec::new();
        for (path, node) in snapshot.entries() {
            let names: Vec<&[u8]> = path.components().take(depth).collect();
            let Ok(spelling) = ManifestPath::new(&names.join(&b'/')) else {
                continue;
            };
            if path == spelling && !node.is_dir() {
                // The rule is for this file alone.
                self.unmapped(path, "a rule puts it elsewhere, as if it were a directory");
            } else if names.len() == depth && !spellings.contains(&spelling) {
                spellings.push(spelling);
            }
        }
        for spelling in spellings {
            // Links that lead out of the part were left out above.
            let cut = snapshot.subtree(Some(&spelling), SymlinkPolicy::ExcludeEscaping);
            let cut = cut.map_err(|error| {
                let root = &self.root.merged.root;
                Error::usage(format!("cannot take {spelling} out of {root:?}")).because(error)
            })?;
            let below = spelling.to_string();
            self.add(cut, &below, folder.clone(), by)?;
        }
        Ok(())
    }

    /// Adds a folder, if there is something to place in it.
    fn add(
        &mut self,
        snapshot: Snapshot,
        below: &str,
        folder: PathBuf,
        chosen_by: ChosenBy,
    ) -> Result<(), Error> {
        let real = real_folder(&folder)?;
        let chosen = chosen(Manifest::Snapshot(snapshot), &self.filter, &folder)?;
        let Manifest::Snapshot(snapshot) = chosen else {
            unreachable!("patterns make no diff of a snapshot");
        };
        if snapshot.is_empty() {
            return Ok(());
        }
        let merged = &self.root.merged;
        self.plan.places.push(PlannedPlace {
            root: merged.root.clone(),
            below: below.to_owned(),
            location: merged.location.clone(),
            files: look(&snapshot, &real),
            folder,
            chosen_by,
            real,
            snapshot,
        });
        Ok(())
    }
}

/// Paths that cannot be on a system, and why.
pub(super) fn impossible(
    snapshot: &Snapshot,
    of: PathFormat,
    on: PathFormat,
) -> HashMap<Box<[u8]>, String> {
    let by_path = |path: PathRef<'_>, why: String| (path.as_bytes().into(), why);
    match (of, on) {
        (_, PathFormat::Windows) => {
            let bad = case_report(snapshot, CaseOptions::default()).into_iter();
            bad.filter(|bad| !matches!(bad.problem, NameProblem::TooLong { .. }))
                .map(|bad| by_path(bad.path.borrowed(), format!("its name {}", bad.problem)))
                .collect()
        }
        (PathFormat::Posix, PathFormat::Posix) => HashMap::new(),
        (PathFormat::Windows, PathFormat::Posix) => {
            let split = snapshot
                .entries()
                .filter(|(path, _)| path.name().contains(&b'\\'));
            let why = "its name has a backslash, which is a separator on the job's system";
            split
                .map(|(path, _)| by_path(path, why.to_owned()))
                .collect()
        }
    }
}

fn count(snapshot: &Snapshot) -> Tally {
    let mut tally = Tally::default();
    for (_, node) in snapshot.entries() {
        match node {
            Node::Dir => {}
            Node::File(file) => tally.add(file.size),
            Node::Symlink(_) => tally.add(0),
        }
    }
    tally
}

/// Counts, and looks at what is in the places. What cannot be looked at is not there: the download will tell.
fn look(snapshot: &Snapshot, folder: &Path) -> Counted {
    let tally = count(snapshot);
    let mut files = Counted {
        files: tally.count,
        bytes: tally.bytes,
        ..Counted::default()
    };
    if Facts::at(folder).is_err() {
        return files;
    }
    for (path, node) in snapshot.entries() {
        if node.is_dir() {
            continue;
        }
        let Ok(facts) = Facts::at(&folder.join(path_of_bytes(path.as_bytes()))) else {
            continue;
        };
        files.there += 1;
        let same = match &node {
            Node::File(file) => {
                facts.kind == Kind::File
                    && facts.stamp.size == file.size
                    // Python sets times that are off by a microsecond.
                    && mtime_of(&facts.stamp).0.abs_diff(file.mtime.0) <= 1
            }
            Node::Symlink(_) => facts.kind == Kind::Link,
            Node::Dir => true,
        };
        files.there_differing += u64::from(!same);
    }
    files
}

impl UnmappedRoot {
    /// The root, safe to show.
    pub fn shown(&self) -> impl std::fmt::Display + '_ {
        EscapedBytes(self.root.as_bytes())
    }
}
