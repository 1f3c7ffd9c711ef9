//! Hashing the written files.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use attachfs_durable::{FileStamp, Writer, WrittenFile, writers_of};
use attachfs_manifest::{ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, Node};
use attachfs_transfer::{
    ChunkSource, FileToStore, Phase, ProgressEvent, Reporter, TransferError, hash_source,
};
use attachfs_tree::{FileContent, Ino, Mapping, Namespace};
use attachfs_vfs::NotQuiescent;
use attachfs_vfs::overlay::CleanFile;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::account::Account;
use crate::assemble::{Assembly, Building};
use crate::collapse::{Collapsed, collapse};
use crate::error::{CommitError, OpenFile};
use crate::node::base_at;
use crate::open::OpenSession;
use crate::plan::{LOOK_AGAIN, Left, Planned, Unhashed, leave_out, put};
use crate::quiet::{quiesce, whole};
use crate::size::{check, check_sizes};
use crate::states::{Commit, Observer, unless_stopped};

/// Files hashed at once.
pub(crate) const AT_ONCE: usize = 4;

/// The state of a commit that knows every hash.
#[derive(Debug)]
pub struct Hashed {
    pub(crate) changes: Vec<(ManifestPath, Option<Node>)>,
    pub(crate) left: Left,
    pub(crate) account: Account,
    pub(crate) clean: Vec<CleanFile>,
    /// Objects to be sent.
    pub(crate) written: Vec<ChunkSource>,
    /// The hashed files, by their scratch files.
    pub(crate) scratch: HashMap<PathBuf, HashedFile>,
    /// Assembled files, which are removed when the commit ends.
    pub(crate) assemblies: Vec<Assembly>,
}

/// Which file a scratch file holds.
#[derive(Debug)]
pub(crate) struct HashedFile {
    pub(crate) ino: Ino,
    pub(crate) paths: Vec<ManifestPath>,
}

/// The stamp of what has no scratch file.
const NO_SCRATCH: FileStamp = FileStamp {
    dev: 0,
    ino: 0,
    size: 0,
    mtime_ns: 0,
    ctime_ns: 0,
};

/// The purpose of hashing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The file is sent afterwards.
    Commit,
    /// The hash is only shown. Nothing is written to the session.
    Preview,
}

/// How hashing a file ended.
enum Ended {
    Done(Box<Done>),
    /// The file with these names is being written to.
    Busy(Ino, Vec<OpenFile>),
}

/// A hashed file.
struct Done {
    file: Unhashed,
    scratch: PathBuf,
    node: File,
    clean: CleanFile,
    written: Vec<ChunkSource>,
    assembly: Option<Assembly>,
}

/// The objects of a written file, hashed again.
pub(crate) enum Rehashed {
    Done {
        /// Those that are not the base's.
        objects: Vec<ChunkSource>,
        /// The file that they are in, if they had to be put together.
        assembly: Option<Assembly>,
    },
    /// The file with these names is being written to.
    Busy(Vec<OpenFile>),
}

/// Hashes a written file as it is now, to send objects of it.
pub(crate) async fn rehash(
    session: &OpenSession,
    namespace: &Namespace,
    file: Unhashed,
) -> Result<Rehashed, CommitError> {
    let work = Work {
        session,
        namespace,
        purpose: Purpose::Commit,
    };
    Ok(match work.hash(file).await? {
        Ended::Busy(_, files) => Rehashed::Busy(files),
        Ended::Done(done) => Rehashed::Done {
            objects: done.written,
            assembly: done.assembly,
        },
    })
}

impl Commit<Planned> {
    /// Hashes the written files. A file that changes meanwhile stops the commit as busy, or is left
    /// out if open files are. `purpose` says whether the files will be sent.
    pub(crate) async fn hash(
        self,
        purpose: Purpose,
        observer: &dyn Observer,
    ) -> Result<Commit<Hashed>, CommitError> {
        let Self {
            session,
            frozen,
            generation,
            terms,
            state,
        } = self;
        let Planned {
            changes,
            files,
            collapse: links,
            left,
            account,
        } = state;
        let chunk_size = frozen.namespace().base().chunk_size();
        check_sizes(session.vfs(), &files, chunk_size)?;
        let total = files.len() as u64;
        let mut planned = Planned {
            changes,
            files: Vec::new(),
            collapse: Vec::new(),
            left,
            account,
        };
        let mut hashed = Hashed {
            changes: Vec::new(),
            left: Left::default(),
            account: Account::default(),
            clean: Vec::new(),
            written: Vec::new(),
            scratch: HashMap::new(),
            assemblies: Vec::new(),
        };
        {
            let work = Work {
                session: &session,
                namespace: frozen.namespace(),
                purpose,
            };
            let mut done = futures::stream::iter(files)
                .map(|file| work.hash(file))
                .buffer_unordered(AT_ONCE);
            let mut reporter = Reporter::new(observer, Instant::now());
            let so_far = |items_done, bytes_done| ProgressEvent {
                items_done,
                items_total: Some(total),
                bytes_done,
                ..ProgressEvent::of(Phase::Hash)
            };
            let mut count = 0;
            let mut bytes = 0;
            while let Some(ended) = done.try_next().await? {
                let Done {
                    file,
                    scratch,
                    node,
                    clean,
                    written,
                    assembly,
                } = match ended {
                    Ended::Done(done) => *done,
                    Ended::Busy(ino, files) => {
                        // As long as the commit waits for it: all that was hashed by now will be hashed again.
                        let quiet = async {
                            while !terms.remaining().is_zero()
                                && session.vfs().quiesce(ino).is_err()
                            {
                                tokio::time::sleep(LOOK_AGAIN.min(terms.remaining())).await;
                            }
                        };
                        unless_stopped(observer, session.early().meanwhile(quiet)).await?;
                        if !terms.leaves_out() {
                            return Err(CommitError::Busy(files));
                        }
                        let paths = files.into_iter().map(|file| file.path).collect();
                        leave_out(paths, &mut planned.left, &mut planned.account);
                        continue;
                    }
                };
                count += 1;
                bytes += node.size;
                let polled = reporter.poll(Instant::now(), count, || ProgressEvent {
                    item: file.paths.first().map(|(path, _)| path.to_string()),
                    ..so_far(count, bytes)
                });
                polled.map_err(TransferError::from)?;
                hashed.clean.push(clean);
                hashed.written.extend(written);
                hashed.assemblies.extend(assembly);
                let (ino, paths) = (file.ino, file.paths().collect());
                hashed.scratch.insert(scratch, HashedFile { ino, paths });
                for (path, base) in file.paths {
                    put(&mut planned, path, Node::File(node.clone()), base);
                }
            }
            let told = reporter.tell(Instant::now(), so_far(count, bytes));
            told.map_err(TransferError::from)?;
        }
        if !links.is_empty() {
            let tree = frozen.namespace().base();
            let mount_point = terms.options.mount_point.as_deref();
            let Collapsed { nodes, written } = collapse(&links, mount_point, chunk_size).await?;
            // So the next process knows that what the link shows was committed.
            hashed.clean.extend(links.iter().map(|out| CleanFile {
                ino: out.ino,
                stamp: NO_SCRATCH.into(),
                changed: out.changed,
                content: Content::Unhashed,
            }));
            let replaced: HashSet<&ManifestPath> = nodes.iter().map(|(path, _)| path).collect();
            // What was in a directory in whose place the link is may be there again.
            planned.changes.retain(|(path, _)| !replaced.contains(path));
            for (path, node) in nodes {
                let base = base_at(tree, &path);
                put(&mut planned, path, node, base);
            }
            hashed.written.extend(written);
        }
        hashed.changes = planned.changes;
        hashed.left = planned.left;
        hashed.account = planned.account;
        Ok(Commit {
            session,
            frozen,
            generation,
            terms,
            state: hashed,
        })
    }
}

struct Work<'a> {
    session: &'a OpenSession,
    namespace: &'a Namespace,
    purpose: Purpose,
}

impl Work<'_> {
    /// Who writes to a file unseen by the file system: it is known to them by its number in the mount, or by its scratch file. All processes
    /// are looked at for that, on another thread.
    async fn writers_of(&self, file: &Unhashed) -> Vec<Writer> {
        if self.session.vfs().has_writer(file.ino) {
            return Vec::new();
        }
        let Ok((scratch, path)) = self.session.vfs().open_scratch(file.ino) else {
            return Vec::new();
        };
        let paths: Vec<ManifestPath> = file.paths().collect();
        let names = paths.iter().map(ManifestPath::name);
        let mut names: Vec<Vec<u8>> = names.map(|name| name.as_bytes().to_vec()).collect();
        names.extend(
            path.file_name()
                .map(|name| name.as_encoded_bytes().to_vec()),
        );
        let (in_mount, on_disk) = (file.ino.raw(), FileStamp::of(&scratch).ok());
        let mount_point = self.session.session().meta().mount_point.clone();
        let look = move || {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            writers_of(&WrittenFile {
                in_mount,
                on_disk: on_disk.map(|stamp| stamp.ino),
                names: &names,
                mount_point: &mount_point,
            })
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    async fn hash(&self, file: Unhashed) -> Result<Ended, CommitError> {
        let busy = async |file: Unhashed| {
            let by = self.writers_of(&file).await;
            let files = file.paths().map(|path| OpenFile {
                path,
                by: by.clone(),
            });
            Ok(Ended::Busy(file.ino, files.collect()))
        };
        let quiescent = match quiesce(self.session.vfs(), file.ino).await {
            Ok(quiescent) => quiescent,
            Err(NotQuiescent::Open | NotQuiescent::Elsewhere) => return busy(file).await,
            Err(NotQuiescent::Failed(error)) => return Err(file.not_read(error)),
        };
        let (scratch, path, stamp) = (
            Arc::clone(quiescent.file()),
            quiescent.path().clone(),
            quiescent.stamp(),
        );
        // A file that is partly the base's may have been written to since the freeze: then its
        // scratch file belongs to another map.
        let is_mapped = matches!(file.content, FileContent::Mapped(_));
        if is_mapped && !self.session.vfs().has_content(file.ino, &file.content) {
            return busy(file).await;
        }
        let source = whole(&quiescent);
        let known = file.known(stamp.into()).cloned();
        let chunk_size = self.namespace.base().chunk_size();
        // It may have grown.
        check(
            file.paths().next().map(|path| (path, source.size)),
            chunk_size,
        )?;
        let hashed = match (&file.content, known) {
            (FileContent::Mapped(mapping), known) => {
                self.hash_mapped(&file, mapping, &scratch, known).await
            }
            (_, Some(content)) => {
                let written = chunks(&content, chunk_size, &source);
                Ok((content, written, None))
            }
            (_, None) => hash_source(source.clone(), chunk_size)
                .await
                .map(|content| {
                    let written = chunks(&content, chunk_size, &source);
                    (content, written, None)
                })
                .map_err(CommitError::from),
        };
        // A program that opened it since may have written: then these are not the bytes of one
        // moment.
        if !quiescent.still()? {
            return busy(file).await;
        }
        drop(quiescent);
        let (content, written, assembly) = hashed?;
        let (size, mtime) = match &file.content {
            FileContent::Mapped(mapping) => (mapping.size, file.mtime.unwrap_or(Mtime(0))),
            _ => (stamp.size, Mtime(micros(stamp.mtime_ns))),
        };
        let clean = CleanFile {
            ino: file.ino,
            stamp: stamp.into(),
            changed: file.changed,
            content: content.clone(),
        };
        let node = File {
            size,
            mtime,
            runnable: file.runnable,
            content,
        };
        Ok(Ended::Done(Box::new(Done {
            file,
            scratch: path,
            node,
            clean,
            written,
            assembly,
        })))
    }

    /// Hashes the chunks that were written to; the others keep the hashes of the base.
    async fn hash_mapped(
        &self,
        file: &Unhashed,
        mapping: &Arc<Mapping>,
        scratch: &fs::File,
        known: Option<Content>,
    ) -> Result<(Content, Vec<ChunkSource>, Option<Assembly>), CommitError> {
        if let Some(content) = known {
            return Ok((content, Vec::new(), None));
        }
        let ino = file.ino;
        let tree = self.namespace.base();
        let damaged = || CommitError::Damaged(format!("inode {ino} stands on no base file"));
        let base_content = tree.content(mapping.base).ok_or_else(damaged)?;
        let base_size = tree.layout(mapping.base).ok_or_else(damaged)?.size();
        let base_chunk_size = match base_content {
            Content::Whole(_) | Content::Unhashed => ChunkSize::WholeFile,
            Content::Chunks(_) => tree.chunk_size(),
        };
        let base: Vec<_> = base_chunk_size
            .ranges(base_size)
            .zip(base_content.hashes())
            .collect();
        let chunks = tree.chunk_size().ranges(mapping.size).enumerate();
        let chunks: Vec<(Range<u64>, Option<ContentHash>)> = chunks
            .map(|(number, range)| match base.get(number) {
                Some((kept, hash)) if *kept == range && !mapping.touches(range.clone()) => {
                    (range, Some(**hash))
                }
                _ => (range, None),
            })
            .collect();
        let touched = || chunks.iter().filter(|(_, kept)| kept.is_none());
        let (mut new, mut written, mut assembly) = (Vec::new(), Vec::new(), None);
        if touched().next().is_some() {
            let session = match self.purpose {
                Purpose::Commit => Some(self.session.session()),
                Purpose::Preview => None,
            };
            let mut building =
                Building::new(self.session.vfs(), session, tree, mapping, scratch, file)?;
            // Before anything else, because copying a base object overwrites bytes in the file.
            for (range, _) in touched() {
                building.lay_base(range.clone()).await?;
            }
            for (range, _) in touched() {
                new.push(building.add(range.clone()).await?);
            }
            if let Some((source, built)) = building.finish()? {
                let chunk = |(&hash, (range, _)): (_, &(Range<u64>, _))| ChunkSource {
                    hash,
                    source: source.clone(),
                    range: range.clone(),
                };
                written = new.iter().zip(touched()).map(chunk).collect();
                assembly = Some(built);
            }
        }
        let mut new = new.into_iter();
        let hashes = chunks
            .iter()
            .filter_map(|(_, kept)| kept.or_else(|| new.next()));
        let hashes: Vec<ContentHash> = hashes.collect();
        let content = match hashes[..] {
            [whole] => Content::Whole(whole),
            _ => Content::Chunks(hashes.into()),
        };
        Ok((content, written, assembly))
    }
}

pub(crate) fn chunks(
    content: &Content,
    chunk_size: ChunkSize,
    source: &FileToStore,
) -> Vec<ChunkSource> {
    let chunk = |(range, &hash)| ChunkSource {
        hash,
        source: source.clone(),
        range,
    };
    chunk_size
        .ranges(source.size)
        .zip(content.hashes())
        .map(chunk)
        .collect()
}

pub(crate) fn micros(nanoseconds: i128) -> i64 {
    i64::try_from(nanoseconds.div_euclid(1000)).unwrap_or(i64::MAX)
}
