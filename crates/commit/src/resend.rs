//! Objects that an interrupted commit names and the store has lost: they are sent again from the files that they were hashed from.
//!
//! A written file is kept as long as the session, so it has these bytes unless the job has changed or deleted it since. It is hashed again, and what has
//! the name of a lost object is sent; the same goes for what is found behind links that were replaced by what they show. An input's object is nowhere but in the store.

use std::collections::HashSet;

use attachfs_manifest::{Change, ContentHash, Diff, ManifestPath, Node};
use attachfs_transfer::{ChunkSource, LackingObject, UploadReport, Uploader};
use attachfs_tree::{FileContent, Ino, Kind, Namespace};
use attachfs_vfs::overlay::CleanFile;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::assemble::Assembly;
use crate::collapse::collapse;
use crate::error::{CommitError, LostObject, OpenFile, OutgoingLink};
use crate::hash::{AT_ONCE, Rehashed, rehash};
use crate::open::OpenSession;
use crate::plan::{Outgoing, Unhashed};
use crate::publish::objects;
use crate::states::{CommitOptions, Observer};

/// What came of sending lost objects again.
pub(crate) struct Resent {
    /// What the store was given.
    pub(crate) report: UploadReport,
    /// What nobody has the bytes of any more.
    pub(crate) lost: Vec<LostObject>,
}

/// What lost objects are looked for in.
struct Search<'a> {
    open: &'a OpenSession,
    namespace: &'a Namespace,
    diff: &'a Diff,
    options: &'a CommitOptions,
    wanted: HashSet<ContentHash>,
    found: Vec<ChunkSource>,
    /// Files that exist as long as the objects in them are sent.
    assemblies: Vec<Assembly>,
    /// Somebody writes to them, so what is in them cannot be told.
    busy: Vec<OpenFile>,
}

/// Sends the objects of a commit's diff that the store lacks, as far as the files still have them that the commit had hashed. Fails as busy if
/// the others may be in a file that somebody writes to.
pub(crate) async fn send_again(
    open: &OpenSession,
    diff: &Diff,
    lacking: &[LackingObject],
    clean: &[CleanFile],
    options: &CommitOptions,
    uploader: &Uploader,
    observer: &dyn Observer,
) -> Result<Resent, CommitError> {
    // No file that is deleted meanwhile goes as long as this is held.
    let frozen = open.vfs().freeze().ok_or(CommitError::ReadOnly)?;
    let mut search = Search {
        open,
        namespace: frozen.namespace(),
        diff,
        options,
        wanted: lacking.iter().map(|object| object.hash).collect(),
        found: Vec::new(),
        assemblies: Vec::new(),
        busy: Vec::new(),
    };
    search.in_files(clean).await?;
    if !search.wanted.is_empty() {
        search.behind_links(clean).await?;
    }
    let Search {
        wanted,
        found,
        assemblies,
        busy,
        ..
    } = search;
    let report = uploader.upload_missing(found, observer).await?;
    drop(assemblies);
    if !wanted.is_empty() && !busy.is_empty() {
        return Err(CommitError::Busy(busy));
    }
    let lost = named(diff, &wanted);
    let lost = lost.map(|(path, object)| LostObject { path, object });
    Ok(Resent {
        report,
        lost: lost.collect(),
    })
}

/// Where a diff names some objects.
fn named(
    diff: &Diff,
    wanted: &HashSet<ContentHash>,
) -> impl Iterator<Item = (ManifestPath, ContentHash)> {
    diff.changes().flat_map(|(path, change)| {
        let of_file = match change {
            Change::Put(Node::File(file)) => objects(&file, diff.chunk_size())
                .map(|(hash, _)| hash)
                .filter(|hash| wanted.contains(hash))
                .collect(),
            _ => Vec::new(),
        };
        let path = path.to_owned();
        of_file.into_iter().map(move |hash| (path.clone(), hash))
    })
}

impl Search<'_> {
    /// Takes what is wanted of these objects.
    fn take(&mut self, objects: Vec<ChunkSource>) {
        for object in objects {
            if self.wanted.remove(&object.hash) {
                self.found.push(object);
            }
        }
    }

    /// Looks in the files that the commit had hashed.
    async fn in_files(&mut self, clean: &[CleanFile]) -> Result<(), CommitError> {
        let has_wanted = |file: &&CleanFile| {
            let mut hashes = file.content.hashes().iter();
            hashes.any(|hash| self.wanted.contains(hash))
        };
        let files = clean.iter().filter(has_wanted);
        let files: Vec<Unhashed> = files.filter_map(|file| self.file(file.ino)).collect();
        let (open, namespace) = (self.open, self.namespace);
        let mut hashed = futures::stream::iter(files)
            .map(|file| rehash(open, namespace, file))
            .buffer_unordered(AT_ONCE);
        while let Some(file) = hashed.try_next().await? {
            match file {
                Rehashed::Done { objects, assembly } => {
                    self.take(objects);
                    self.assemblies.extend(assembly);
                }
                Rehashed::Busy(files) => self.busy.extend(files),
            }
        }
        Ok(())
    }

    /// A file as it is now, if it has a name and bytes of its own.
    fn file(&self, ino: Ino) -> Option<Unhashed> {
        let content = self.namespace.content(ino)?.clone();
        let paths: Vec<_> = self.namespace.paths(ino).map(|path| (path, None)).collect();
        let is_written = !matches!(content, FileContent::Base);
        (is_written && !paths.is_empty()).then_some(Unhashed {
            paths,
            ino,
            content,
            mtime: None,
            changed: None,
            runnable: false,
            clean: None,
        })
    }

    /// Looks behind the links that the commit had replaced by what they show.
    async fn behind_links(&mut self, clean: &[CleanFile]) -> Result<(), CommitError> {
        let replaced: HashSet<Ino> = clean.iter().map(|file| file.ino).collect();
        let mut looked_at = HashSet::new();
        for (path, hash) in named(self.diff, &self.wanted.clone()) {
            let Some(link) = self.link_above(&path) else {
                continue;
            };
            if !self.wanted.contains(&hash)
                || !replaced.contains(&link.ino)
                || !looked_at.insert(link.ino)
            {
                continue;
            }
            let mount_point = self.options.mount_point.as_deref();
            match collapse(&[link], mount_point, self.diff.chunk_size()).await {
                Ok(shown) => self.take(shown.written),
                // What it showed is gone, say. Which objects are lost by that is told.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, %path, "what a link shows cannot be sent again");
                }
            }
        }
        Ok(())
    }

    /// The link that is at a path or above it.
    fn link_above(&self, path: &ManifestPath) -> Option<Outgoing> {
        let mut ino = Ino::ROOT;
        for name in path.components() {
            ino = self.namespace.lookup(ino, name)?;
            if self.namespace.kind(ino) == Some(Kind::Symlink) {
                let link = OutgoingLink {
                    path: self.namespace.path(ino)?,
                    text: self.namespace.link_text(ino)?,
                };
                return Some(Outgoing::new(self.namespace, link, ino, None));
            }
        }
        None
    }
}
