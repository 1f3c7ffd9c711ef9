//! Folders and files from anywhere, as paths below `/`.
//!
//! The same as `collect_abs_snapshot` of the reference (`openjd-snapshots` 0.3.2,
//! `ops/collect.rs`). A path is made absolute as text, so the manifest has the name under which a
//! folder was given, even if that leads through a link. To open files, all links are resolved.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::{Kind, path_bytes, path_of_bytes};
use attachfs_manifest::{FilterState, ManifestPath, PathFilter};

use crate::finish::finish;
use crate::links::{Base, Collected, Reach, normalize};
use crate::listed::Picker;
use crate::place::{Inside, Place, below_slash, look};
use crate::transitive::pull_in;
use crate::walk::{PartialScan, Walk};
use crate::{Progress, Scan, ScanError, ScanOptions, SymlinkPolicy};

/// What to collect. Relative paths start at the current directory.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Folders, with everything below them.
    pub directories: Vec<PathBuf>,
    /// Single files; it is an error if one does not exist. A directory in this list is taken without
    /// its content.
    pub files: Vec<PathBuf>,
    /// Single files that need not exist: those that do not are listed in [`Scan::skipped`].
    pub optional_files: Vec<PathBuf>,
}

/// Finds everything in the collection that the filter chooses. [`Scan::root`] is `/`, and the patterns
/// of the filter are relative to `/`.
///
/// A link escapes if its text leads neither to or below a given folder, nor to a given file. With
/// [`SymlinkPolicy::TransitiveIncludeTargets`] what a link leads to is collected too, a folder with
/// everything below it, and so on for links in there; where that does not exist, the link stays. A link
/// to `/` itself collects nothing. Fails as [`scan`](crate::scan) does.
pub fn scan_absolute(
    collection: &Collection,
    options: &ScanOptions,
    progress: &dyn Progress,
) -> Result<Scan, ScanError> {
    let mut places = Vec::new();
    for directory in &collection.directories {
        places.push((place_of(directory)?, directory));
    }
    let mut roots = Vec::new();
    for (place, named) in &places {
        roots.push(real_path(place.as_ref(), named)?);
    }
    let roots: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
    let walk = Walk::new(options, &roots, progress)?;
    let reach = if options.symlinks.fits_below_a_root() {
        Reach::Collected(collected(collection)?)
    } else {
        Reach::Everywhere
    };
    let finder = DirectoryFinder {
        walk: &walk,
        base: Arc::new(Base { reach, outer: None }),
    };
    let mut directories = Vec::new();
    for (place, named) in places {
        directories.push(finder.directory(place, named)?);
    }
    let mut files = Files::new(&finder);
    for file in &collection.files {
        files.take(file, false)?;
    }
    for file in &collection.optional_files {
        files.take(file, true)?;
    }
    let (found, more) = files.picker.end();
    directories.extend(more);
    let mut all = walk.run(directories)?;
    all.push(found);
    if options.symlinks == SymlinkPolicy::TransitiveIncludeTargets {
        all = vec![pull_in(&finder, all)?];
    }
    finish(PathBuf::from("/"), all, false)
}

/// Where a path is in an absolute manifest; `None` is `/`.
fn place_of(path: &Path) -> Result<Option<ManifestPath>, ScanError> {
    let absolute = std::path::absolute(path).map_err(|e| ScanError::io("find", path, e))?;
    let text = normalize(path_bytes(&absolute));
    match &text[1..] {
        b"" => Ok(None),
        rest => ManifestPath::new(rest)
            .map(Some)
            .map_err(|error| ScanError::unrepresentable(path, error)),
    }
}

/// The path on this machine of a path in an absolute manifest.
pub(crate) fn path_of(place: Option<&ManifestPath>) -> PathBuf {
    let below = place.map_or(&b""[..], ManifestPath::as_bytes);
    Path::new("/").join(path_of_bytes(below))
}

/// The same without links. `named` is for messages.
fn real_path(place: Option<&ManifestPath>, named: &Path) -> Result<PathBuf, ScanError> {
    let found = path_of(place).canonicalize();
    found.map_err(|error| ScanError::io("find", named, error))
}

fn collected(collection: &Collection) -> Result<Collected, ScanError> {
    let mut collected = Collected::default();
    let exists = |path: &&PathBuf| std::fs::symlink_metadata(path).is_ok();
    let optional = collection.optional_files.iter().filter(exists);
    let given = collection.directories.iter().chain(&collection.files);
    for path in given.chain(optional) {
        match place_of(path)? {
            None => collected.root = true,
            Some(place) => {
                collected.paths.insert(place.as_bytes().into());
            }
        }
    }
    Ok(collected)
}

/// Turns given paths into directories to read.
pub(crate) struct DirectoryFinder<'a, 'w> {
    pub(crate) walk: &'a Walk<'w>,
    base: Arc<Base>,
}

impl DirectoryFinder<'_, '_> {
    /// The directory at a place, whatever links lead there. `named` is for messages.
    pub(crate) fn directory(
        &self,
        place: Option<ManifestPath>,
        named: &Path,
    ) -> Result<Place, ScanError> {
        let real = real_path(place.as_ref(), named)?;
        let (kind, identity) = look(&real)?;
        if kind != Kind::Dir {
            return Err(ScanError::NotADirectory(named.to_owned()));
        }
        let filter = self.walk.filter();
        Ok(Place {
            anchor: Arc::clone(&self.walk.slash),
            below: below_slash(&real).into(),
            state: state_in(filter, place.as_ref()),
            is_taken: place
                .as_ref()
                .is_some_and(|place| filter.matches_dir(place.as_bytes())),
            path: place,
            base: Arc::clone(&self.base),
            inside: Inside::first(identity),
        })
    }
}

fn state_in(filter: &PathFilter, place: Option<&ManifestPath>) -> FilterState {
    let names = place.into_iter().flat_map(ManifestPath::components);
    names.fold(filter.start(), |state, name| filter.enter(&state, name))
}

/// Adds single files.
pub(crate) struct Files<'a, 'w> {
    finder: &'a DirectoryFinder<'a, 'w>,
    picker: Picker<'a, 'w>,
    parents: HashMap<Option<ManifestPath>, Arc<Place>>,
}

impl<'a, 'w> Files<'a, 'w> {
    pub(crate) fn new(finder: &'a DirectoryFinder<'a, 'w>) -> Self {
        Self {
            finder,
            picker: Picker::new(finder.walk),
            parents: HashMap::new(),
        }
    }

    fn take(&mut self, file: &Path, is_optional: bool) -> Result<(), ScanError> {
        let Some(place) = place_of(file)? else {
            return Ok(());
        };
        match self.pick(&place) {
            Err(error) => self.picker.settle(error, &place, is_optional),
            Ok(()) => Ok(()),
        }
    }

    fn pick(&mut self, place: &ManifestPath) -> Result<(), ScanError> {
        let parent = place.parent();
        let directory = match self.parents.get(&parent) {
            Some(directory) => Arc::clone(directory),
            None => {
                let named = path_of(parent.as_ref());
                let directory = Arc::new(self.finder.directory(parent.clone(), &named)?);
                self.parents.insert(parent, Arc::clone(&directory));
                directory
            }
        };
        self.picker.pick(&directory, place.name().as_bytes())
    }

    /// Adds what is at one path. A directory does not become an entry.
    pub(crate) fn one(mut self, place: &ManifestPath) -> Result<PartialScan, ScanError> {
        self.pick(place)?;
        Ok(self.picker.end().0)
    }
}
