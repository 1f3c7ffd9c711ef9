//! A list of files in place of a walk.
//!
//! Each path is followed from the root, name by name. A link on the way is treated as a walk would treat
//! it: if it stays a link, it becomes an entry and the file one at the place where the link leads; if it
//! is replaced, the file is an entry below it. A list is finite, so circles of links are not cut: a file
//! behind a link to a directory above is found however often its path passes the link.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::{Kind, Refusal, path_bytes};
use attachfs_manifest::{LinkTarget, ManifestPath};

use crate::finish::finish;
use crate::links::normalize;
use crate::os::Identity;
use crate::place::{Inside, Place, Reading, Root};
use crate::walk::{Fate, Followed, PartialScan, Walk};
use crate::{EntryKind, Progress, Scan, ScanError, ScanOptions, SkipReason};

/// Links that stay links on the way to one file; the kernel follows as many.
const MOST_LINKS: u32 = 40;

/// A list of files. A directory in the list is taken without its content, unless it replaces a link.
#[derive(Debug, Clone, Default)]
pub struct FileList {
    /// It is an error if one of them does not exist.
    pub required: Vec<PathBuf>,
    /// Those that do not exist are listed in [`Scan::skipped`].
    pub optional: Vec<PathBuf>,
}

/// Finds the files of a list: paths relative to `root`, or absolute ones below it.
///
/// Whatever [`ScanOptions::filter`] does not choose is left out, as in a walk, and what lies at or behind a
/// link that the policy leaves out is in [`Scan::skipped`]. Every other file of the list is an entry, or an
/// error. Fails as [`scan`](crate::scan) does.
pub fn scan_listed(
    root: &Path,
    list: &FileList,
    options: &ScanOptions,
    progress: &dyn Progress,
) -> Result<Scan, ScanError> {
    let root = Root::open(root, options)?;
    let walk = Walk::new(options, &[&root.real], progress)?;
    let mut lister = Lister {
        picker: Picker::new(&walk),
        root: Arc::new(root.place),
        names: [path_bytes(&root.real).to_vec(), root.named],
        steps: HashMap::new(),
    };
    for path in &list.required {
        lister.take(path, false)?;
    }
    for path in &list.optional {
        lister.take(path, true)?;
    }
    let (found, more) = lister.picker.end();
    let mut all = walk.run(more)?;
    all.push(found);
    finish(root.real, all, false)
}

/// Adds single entries of directories, keeping the directory open as long as the next name is in it
/// too.
pub(crate) struct Picker<'a, 'w> {
    pub(crate) walk: &'a Walk<'w>,
    pub(crate) found: PartialScan,
    more: Vec<Place>,
    reading: Option<Reading>,
}

impl<'a, 'w> Picker<'a, 'w> {
    pub(crate) fn new(walk: &'a Walk<'w>) -> Self {
        Self {
            walk,
            found: PartialScan::default(),
            more: Vec::new(),
            reading: None,
        }
    }

    fn reading(&mut self, place: &Arc<Place>) -> Result<&mut Reading, ScanError> {
        let reading = match self.reading.take() {
            Some(reading) if Arc::ptr_eq(&reading.place, place) => reading,
            other => {
                if let Some(last) = other {
                    last.end(&mut self.found);
                }
                Reading::open(place)?
            }
        };
        Ok(self.reading.insert(reading))
    }

    /// Adds a name in a directory that was asked for. It is in the result afterwards, or left out because of
    /// the filter or the policy for links, or an error.
    pub(crate) fn pick(&mut self, place: &Arc<Place>, name: &[u8]) -> Result<(), ScanError> {
        let walk = self.walk;
        let reading = self.reading(place)?;
        let kind = reading.facts_at(name)?.kind;
        if kind == Kind::Dir {
            let path = reading.path(name)?;
            if walk.filter().takes_dir(&place.state, name) {
                self.found.add(path, EntryKind::Dir);
            }
            return Ok(());
        }
        let Some(reading) = &mut self.reading else {
            return Ok(());
        };
        let told = self.found.skipped.len();
        walk.entry(reading, name, Some(kind), &mut self.found, &mut self.more)?;
        match self.found.skipped.get(told) {
            Some(skipped) if !skipped.reason.is_as_asked() => {
                let reason = skipped.reason;
                self.found.skipped.truncate(told);
                let path = place.real_child(name);
                Err(ScanError::NotTaken { path, reason })
            }
            _ => Ok(()),
        }
    }

    /// Decides what an error on the way to a listed file means.
    pub(crate) fn settle(
        &mut self,
        error: ScanError,
        path: &ManifestPath,
        is_optional: bool,
    ) -> Result<(), ScanError> {
        if is_optional && let Some(reason) = why_missing(&error) {
            self.found.skip(path.clone(), reason);
            return Ok(());
        }
        self.walk.excuse(error, Some(path), &mut self.found)
    }

    /// Ends the picking, and returns the entries and the directories that replace links.
    pub(crate) fn end(mut self) -> (PartialScan, Vec<Place>) {
        if let Some(last) = self.reading.take() {
            last.end(&mut self.found);
        }
        (self.found, self.more)
    }
}

/// Why there is no such file, if there is none.
fn why_missing(error: &ScanError) -> Option<SkipReason> {
    match error {
        // The parent of the file is no directory.
        ScanError::NotADirectory(_) => Some(SkipReason::Missing),
        ScanError::NotTaken { reason, .. } => Some(*reason),
        ScanError::Io { source, .. } => match Refusal::of(source) {
            Some(Refusal::NotThere | Refusal::NotADirectory) => Some(SkipReason::Missing),
            _ => None,
        },
        _ => None,
    }
}

/// What a component of a path on the way to a file is.
#[derive(Clone)]
enum Component {
    Dir(Arc<Place>),
    Link(LinkTarget),
    /// Nothing below it is taken.
    LeftOut(SkipReason),
}

struct Lister<'a, 'w> {
    picker: Picker<'a, 'w>,
    root: Arc<Place>,
    /// The absolute paths of the root: without links, and as it was named.
    names: [Vec<u8>; 2],
    steps: HashMap<ManifestPath, Component>,
}

impl Lister<'_, '_> {
    fn take(&mut self, listed: &Path, is_optional: bool) -> Result<(), ScanError> {
        let Some(path) = self.below_root(listed)? else {
            return Ok(());
        };
        match self.go(&path) {
            Err(error) => self.picker.settle(error, &path, is_optional),
            Ok(()) => Ok(()),
        }
    }

    /// The path from the root; `None` is the root itself.
    fn below_root(&self, listed: &Path) -> Result<Option<ManifestPath>, ScanError> {
        let bytes = path_bytes(listed);
        let full = if bytes.starts_with(b"/") {
            normalize(bytes)
        } else {
            normalize(&[&self.names[0], b"/".as_slice(), bytes].concat())
        };
        let below = |name: &Vec<u8>| match full.strip_prefix(name.as_slice())? {
            b"" => Some(b"".as_slice()),
            rest if name.ends_with(b"/") => Some(rest),
            rest => rest.strip_prefix(b"/"),
        };
        match self.names.iter().find_map(below) {
            Some(b"") => Ok(None),
            Some(rest) => ManifestPath::new(rest)
                .map(Some)
                .map_err(|error| ScanError::unrepresentable(listed, error)),
            None => Err(ScanError::Outside {
                path: listed.to_owned(),
                root: self.root.real(),
            }),
        }
    }

    fn go(&mut self, path: &ManifestPath) -> Result<(), ScanError> {
        let mut place = Arc::clone(&self.root);
        let mut rest: Vec<Box<[u8]>> = path.components().rev().map(Box::from).collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if rest.is_empty() {
                return self.picker.pick(&place, &name);
            }
            match self.step(&place, &name)? {
                Component::Dir(inner) => place = inner,
                Component::LeftOut(SkipReason::LinkExcluded) => {
                    let found = &mut self.picker.found;
                    found.skip(path.clone(), SkipReason::LinkExcluded);
                    return Ok(());
                }
                Component::LeftOut(reason) => return Err(self.not_taken(path, reason)),
                Component::Link(_) if links == MOST_LINKS => {
                    return Err(self.not_taken(path, SkipReason::LinkCycle));
                }
                Component::Link(target) => {
                    links += 1;
                    place = Arc::clone(&self.root);
                    if let LinkTarget::Below(target) = target {
                        rest.extend(target.components().rev().map(Box::from));
                    }
                }
            }
        }
        Ok(())
    }

    fn not_taken(&self, path: &ManifestPath, reason: SkipReason) -> ScanError {
        let path = self.root.real_child(path.as_bytes());
        ScanError::NotTaken { path, reason }
    }

    fn step(&mut self, place: &Arc<Place>, name: &[u8]) -> Result<Component, ScanError> {
        let failed = |error| ScanError::unrepresentable(&place.real(), error);
        let path = place.child_path(name).map_err(failed)?;
        if let Some(step) = self.steps.get(&path) {
            return Ok(step.clone());
        }
        let step = self.first_step(place, name, &path)?;
        self.steps.insert(path, step.clone());
        Ok(step)
    }

    fn first_step(
        &mut self,
        place: &Arc<Place>,
        name: &[u8],
        path: &ManifestPath,
    ) -> Result<Component, ScanError> {
        let walk = self.picker.walk;
        let reading = self.picker.reading(place)?;
        let facts = reading.facts_at(name)?;
        let no_directory = || {
            let real = place.anchor.path(&place.child_below(name));
            ScanError::io("look into", &real, Refusal::NotADirectory)
        };
        let inner = match facts.kind {
            Kind::Dir => Place {
                anchor: Arc::clone(&place.anchor),
                below: place.child_below(name),
                path: Some(path.clone()),
                base: Arc::clone(&place.base),
                inside: Inside::first(Identity::of(&facts)),
                state: walk.filter().enter(&place.state, name),
                is_taken: false,
            },
            Kind::Link => match walk.fate(reading, name)? {
                Fate::Kept(target) => {
                    if walk.filter().takes_file(&place.state, name) {
                        let kind = EntryKind::Symlink(target.clone());
                        self.picker.found.add(path.clone(), kind);
                    }
                    return Ok(Component::Link(target));
                }
                Fate::LeftOut(reason) => return Ok(Component::LeftOut(reason)),
                Fate::Replaced => match walk.follow(place, name)? {
                    Followed::Dir(identity, real) => {
                        let inside = Inside::first(identity);
                        walk.replacing(place, name, path.clone(), inside, &real)?
                    }
                    Followed::Nothing(
                        reason @ (SkipReason::LinkCycle | SkipReason::LinkTooLong),
                    ) => {
                        return Ok(Component::LeftOut(reason));
                    }
                    Followed::File(_) | Followed::Nothing(_) => return Err(no_directory()),
                },
            },
            Kind::File | Kind::Other => return Err(no_directory()),
        };
        Ok(Component::Dir(Arc::new(inner)))
    }
}
