//! The files of a job without a mount: listed, printed, described, or handed to a mount. A job with one root has its files at the top; of
//! several each has a folder with the name that `browse` gives it.

use attachfs_manifest::ManifestPath;
use attachfs_manifest::wire::{Format, Manifest, encode_snapshot};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Doing as _, Error};
use crate::inspect::{ListedPath, cat_in, list_in};
use crate::jobs::fetching::{FoundFiles, FoundRoot};
use crate::manifests::ManifestBytes;
use crate::store::OpenStore;

/// A root of a job, described.
#[derive(Debug, Clone, Serialize)]
pub struct JobRoot {
    /// The name of its folder where a job has several roots.
    pub folder: String,
    /// The root, as the job has it.
    pub root: String,
    /// The file-system location that it is in.
    pub location: Option<String>,
    /// How many manifests were put together.
    pub manifests: usize,
    /// How many paths it has.
    pub entries: usize,
    /// The bytes of all files.
    pub bytes: u64,
}

/// A job's files, described.
#[derive(Debug, Clone, Serialize)]
pub struct JobInspection {
    /// The job, or the part of it.
    pub address: String,
    /// Its roots that have files.
    pub roots: Vec<JobRoot>,
    /// How many manifests of earlier runs are passed over.
    pub older: u64,
    /// How many keys below the job are not those of outputs.
    pub foreign: u64,
}

impl FoundFiles {
    /// What is below each root.
    pub fn inspect(&self) -> JobInspection {
        let describe = |of: &FoundRoot| JobRoot {
            folder: of.name.clone(),
            root: of.merged.root.clone(),
            location: of.merged.location.clone(),
            manifests: of.merged.manifests,
            entries: of.merged.snapshot.len(),
            bytes: of.merged.snapshot.total_size(),
        };
        JobInspection {
            address: self.address.clone(),
            roots: self.roots.iter().map(describe).collect(),
            older: self.older,
            foreign: self.foreign,
        }
    }

    /// Only one root: as the job has it, or by the name of its folder.
    pub fn only(mut self, root: &str) -> Result<Self, Error> {
        let found = self.roots.iter();
        let found = found.filter(|of| of.merged.root == root || of.name == root);
        if found.count() == 0 {
            return Err(self.no_such(root));
        }
        let exact = self.roots.iter().any(|of| of.merged.root == root);
        self.roots.retain(|of| {
            if exact {
                of.merged.root == root
            } else {
                of.name == root
            }
        });
        Ok(self)
    }

    fn no_such(&self, what: &str) -> Error {
        let roots = self
            .roots
            .iter()
            .map(|of| format!("\"{}\" ({})", of.name, of.merged.root));
        let roots = roots.collect::<Vec<_>>().join(", ");
        let advice = if roots.is_empty() {
            "it has no files at all".to_owned()
        } else {
            format!("it has {roots}")
        };
        Error::usage(format!("{} has no \"{what}\"", self.address)).advise(advice)
    }

    /// The root that a path lies in, and the path below that.
    fn place(&self, path: &ManifestPath) -> Result<(&FoundRoot, Option<ManifestPath>), Error> {
        let text = path.to_string();
        if let [root] = &self.roots[..] {
            return Ok((root, Some(path.clone())));
        }
        let (folder, rest) = match text.split_once('/') {
            Some((folder, rest)) => (folder, Some(rest)),
            None => (&*text, None),
        };
        let root = self.roots.iter().find(|of| of.name == folder);
        let root = root.ok_or_else(|| self.no_such(folder))?;
        let rest = rest
            .map(|rest| ManifestPath::new(rest.as_bytes()))
            .transpose();
        Ok((root, rest.doing(|| format!("\"{text}\" is no path"))?))
    }

    /// Lists a directory, or everything below it, or a single file; roots are folders if there are several.
    pub fn list(
        &self,
        at: Option<&ManifestPath>,
        recursive: bool,
    ) -> Result<Vec<ListedPath>, Error> {
        let of_root = |root: &FoundRoot, at: Option<&ManifestPath>| {
            let mut listed = list_in(
                &Manifest::Snapshot(root.merged.snapshot.clone()),
                at,
                recursive,
            )?;
            if self.roots.len() > 1 {
                for path in &mut listed {
                    path.path = format!("{}/{}", root.name, path.path);
                }
            }
            Ok::<_, Error>(listed)
        };
        if let Some(at) = at {
            let (root, rest) = self.place(at)?;
            return of_root(root, rest.as_ref());
        }
        let mut listed = Vec::new();
        for root in &self.roots {
            if self.roots.len() > 1 {
                listed.push(ListedPath::dir(root.name.clone()));
            }
            if self.roots.len() == 1 || recursive {
                listed.extend(of_root(root, None)?);
            }
        }
        Ok(listed)
    }

    /// Reads a file, as [`cat`](crate::cat) does.
    pub async fn cat(
        &self,
        path: &ManifestPath,
        store: &OpenStore,
        write: impl FnMut(&[u8]) -> std::io::Result<()>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let (root, rest) = self.place(path)?;
        let Some(rest) = rest else {
            return Err(Error::usage(format!("\"{path}\" is a directory")));
        };
        let manifest = Manifest::Snapshot(root.merged.snapshot.clone());
        cat_in(&manifest, &rest, store, write, cancel).await
    }

    /// The manifests to mount: each root in its folder, one root at the top.
    pub fn manifests(&self) -> Result<Vec<ManifestBytes>, Error> {
        if self.roots.is_empty() {
            let sentence = format!("{} has no files to mount", self.address);
            return Err(Error::usage(sentence).advise("`attachfs jobs` lists what is there"));
        }
        let roots = self.roots.iter().map(|root| {
            let at = if self.roots.len() > 1 {
                let folder = ManifestPath::new(root.name.as_bytes());
                Some(folder.doing(|| format!("\"{}\" is no name", root.name))?)
            } else {
                None
            };
            Ok(ManifestBytes {
                name: format!("{} below {}", self.address, root.merged.root),
                bytes: encode_snapshot(&root.merged.snapshot, Format::V2025_12)?,
                at,
            })
        });
        roots.collect()
    }
}
