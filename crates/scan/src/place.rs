//! A directory that is to be read, and one that is being read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::{HeldDir, Kind, path_bytes, path_of_bytes};
use attachfs_manifest::{FilterState, ManifestPath, Name, PathError};

use crate::anchor::{Anchor, Folder, opening_failed};
use crate::links::{Base, Reach, normalize};
use crate::os::{Facts, Identity};
use crate::walk::PartialScan;
use crate::{EntryKind, ScanError, ScanOptions, ScannedFile};

/// The folder of a scan whose paths are relative to it.
pub(crate) struct Root {
    /// Absolute, without links.
    pub(crate) real: PathBuf,
    /// The given name, made absolute as text.
    pub(crate) named: Vec<u8>,
    pub(crate) place: Place,
}

impl Root {
    pub(crate) fn open(root: &Path, options: &ScanOptions) -> Result<Self, ScanError> {
        if !options.symlinks.fits_below_a_root() {
            return Err(ScanError::NeedsAbsolute(options.symlinks));
        }
        let named = std::path::absolute(root).map_err(|e| ScanError::io("find", root, e))?;
        let named = normalize(path_bytes(&named));
        let real = root
            .canonicalize()
            .map_err(|e| ScanError::io("find", root, e))?;
        let (kind, identity) = look(&real)?;
        if kind != Kind::Dir {
            return Err(ScanError::NotADirectory(root.to_owned()));
        }
        let base = Base {
            reach: Reach::Folder {
                real: path_bytes(&real).to_vec(),
                alias: Some(named.clone()),
                place: None,
            },
            outer: None,
        };
        let place = Place {
            anchor: Arc::new(Anchor::new(real.clone())?),
            below: Box::default(),
            path: None,
            base: Arc::new(base),
            inside: Inside::first(identity),
            state: options.filter.start(),
            is_taken: false,
        };
        Ok(Self { real, named, place })
    }
}

/// What is at a path that has no link in it.
pub(crate) fn look(path: &Path) -> Result<(Kind, Identity), ScanError> {
    let found = facts_at(path)?;
    Ok((found.kind, Identity::of(&found)))
}

pub(crate) fn facts_at(path: &Path) -> Result<attachfs_durable::Facts, ScanError> {
    attachfs_durable::Facts::at(path).map_err(|error| ScanError::io("look at", path, error))
}

/// A directory that is to be read.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) anchor: Arc<Anchor>,
    /// Relative to the anchor, without links.
    pub(crate) below: Box<[u8]>,
    /// Where it is in the manifest; `None` is the root.
    pub(crate) path: Option<ManifestPath>,
    pub(crate) base: Arc<Base>,
    pub(crate) inside: Arc<Inside>,
    pub(crate) state: FilterState,
    /// Whether the filter chooses the directory itself.
    pub(crate) is_taken: bool,
}

impl Place {
    pub(crate) fn real(&self) -> PathBuf {
        self.anchor.path(&self.below)
    }

    /// The path of an entry, for messages and for following links.
    pub(crate) fn real_child(&self, name: &[u8]) -> PathBuf {
        self.real().join(path_of_bytes(name))
    }

    pub(crate) fn child_path(&self, name: &[u8]) -> Result<ManifestPath, PathError> {
        match &self.path {
            None => Name::new(name).map(|name| ManifestPath::from_name(&name)),
            Some(parent) => ManifestPath::new(&[parent.as_bytes(), b"/", name].concat()),
        }
    }

    pub(crate) fn child_below(&self, name: &[u8]) -> Box<[u8]> {
        match &*self.below {
            b"" => name.into(),
            below => [below, b"/", name].concat().into(),
        }
    }

    /// The directory that the texts of its links are relative to.
    pub(crate) fn origin_of_links(&self) -> Vec<u8> {
        match (&self.base.reach, &self.path) {
            (Reach::Folder { .. }, _) => path_bytes(&self.real()).to_vec(),
            (Reach::Collected(_) | Reach::Everywhere, None) => Vec::new(),
            (Reach::Collected(_) | Reach::Everywhere, Some(path)) => {
                [b"/", path.as_bytes()].concat()
            }
        }
    }

    /// Opens the directory, if it still is the same one.
    fn open(&self) -> Result<HeldDir, ScanError> {
        let failed = |error| opening_failed("read the folder", &self.real(), error);
        let dir = self.anchor.dir_to_list(&self.below).map_err(failed)?;
        let found = dir.facts().map_err(failed)?;
        if Identity::of(&found) == self.inside.identity {
            Ok(dir)
        } else {
            Err(ScanError::Replaced(self.real()))
        }
    }
}

/// The directories that the walk is in, the innermost first.
#[derive(Debug)]
pub(crate) struct Inside {
    identity: Identity,
    /// The link that the directory replaces.
    link: Option<Identity>,
    outer: Option<Arc<Inside>>,
}

impl Inside {
    /// For the directory in which a walk begins.
    pub(crate) fn first(identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            identity,
            link: None,
            outer: None,
        })
    }

    /// For a directory in this one, which may replace a link.
    pub(crate) fn enter(self: &Arc<Self>, identity: Identity, link: Option<Identity>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            link,
            outer: Some(Arc::clone(self)),
        })
    }

    /// Whether following this link to this directory would only repeat the walk: it followed the same link to
    /// get here, or is in the directory for the second time already. Each circle is walked once, so files
    /// that are named behind a link to a directory above are found.
    pub(crate) fn repeats(&self, directory: Identity, link: Identity) -> bool {
        let mut times = 0;
        std::iter::successors(Some(self), |inside| inside.outer.as_deref()).any(|inside| {
            times += usize::from(inside.identity == directory);
            inside.link == Some(link) || times == 2
        })
    }
}

/// An absolute path from `/` on.
pub(crate) fn below_slash(path: &Path) -> &[u8] {
    let bytes = path_bytes(path);
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}

/// A directory while its entries are examined.
pub(crate) struct Reading {
    pub(crate) place: Arc<Place>,
    pub(crate) dir: HeldDir,
    files: Vec<(ManifestPath, Facts, (usize, u8))>,
    names: Vec<u8>,
    /// The path of the directory with a slash, and room for a name.
    path: Vec<u8>,
    prefix: usize,
}

impl Reading {
    pub(crate) fn open(place: &Arc<Place>) -> Result<Self, ScanError> {
        let mut path = Vec::new();
        if let Some(parent) = &place.path {
            path.extend_from_slice(parent.as_bytes());
            path.push(b'/');
        }
        Ok(Self {
            place: Arc::clone(place),
            dir: place.open()?,
            files: Vec::new(),
            names: Vec::new(),
            prefix: path.len(),
            path,
        })
    }

    /// The metadata of an entry.
    pub(crate) fn facts_at(&self, name: &[u8]) -> Result<attachfs_durable::Facts, ScanError> {
        let failed = |error| ScanError::io("look at", &self.place.real_child(name), error);
        self.dir.facts_at(name).map_err(failed)
    }

    /// The path of an entry in the manifest.
    pub(crate) fn path(&mut self, name: &[u8]) -> Result<ManifestPath, ScanError> {
        self.path.truncate(self.prefix);
        self.path.extend_from_slice(name);
        ManifestPath::new(&self.path)
            .map_err(|error| ScanError::unrepresentable(&self.place.real_child(name), error))
    }

    pub(crate) fn file(&mut self, name: &[u8], facts: &Facts) -> Result<(), ScanError> {
        let path = self.path(name)?;
        // A path's component has at most 255 bytes.
        let range = (self.names.len(), name.len() as u8);
        self.names.extend_from_slice(name);
        self.files.push((path, *facts, range));
        Ok(())
    }

    /// Hands over the files, once all their names are known.
    pub(crate) fn end(self, found: &mut PartialScan) {
        let folder = Arc::new(Folder {
            anchor: Arc::clone(&self.place.anchor),
            below: self.place.below.clone(),
            names: self.names.into(),
        });
        for (path, facts, name) in self.files {
            let file = ScannedFile::new(Arc::clone(&folder), name, &facts);
            found.add(path, EntryKind::File(file));
        }
    }
}
