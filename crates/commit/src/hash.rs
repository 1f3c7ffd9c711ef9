//! Hashing what was written.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use attachfs_durable::FileStamp;
use attachfs_manifest::{ChunkSize, Content, File, ManifestPath, Mtime, Node};
use attachfs_transfer::{ChunkSource, Phase, ProgressEvent, Source, TransferError, hash_source};
use attachfs_tree::{FileContent, Ino, Mapping};
use attachfs_vfs::overlay::CleanFile;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::assemble::Assembly;
use crate::plan::{Left, Planned, Unhashed, put};
use crate::{Account, Commit, CommitError, Observer, OpenFile};

/// Files hashed at once.
const AT_ONCE: usize = 4;

/// The state of a commit that knows every hash.
#[derive(Debug)]
pub struct Hashed {
    pub(crate) changes: Vec<(ManifestPath, Option<Node>)>,
    pub(crate) left: Left,
    pub(crate) account: Account,
    pub(crate) clean: Vec<CleanFile>,
    /// Objects to be sent.
    pub(crate) written: Vec<ChunkSource>,
    /// Files that were put together for it; they go when the commit ends.
    pub(crate) assemblies: Vec<Assembly>,
}

/// A write this soon after another one may leave a file's times as they are: kernels count them in
/// ticks of up to 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// A hashed file.
struct Done {
    file: Unhashed,
    node: File,
    clean: CleanFile,
    written: Vec<ChunkSource>,
    assembly: Option<Assembly>,
}

impl Commit<Planned> {
    /// Hashes what was written. A file that changes meanwhile stops the commit as busy.
    pub async fn hash(self, observer: &dyn Observer) -> Result<Commit<Hashed>, CommitError> {
        let Self {
            vfs,
            frozen,
            generation,
            state,
        } = self;
        let Planned {
            changes,
            files,
            left,
            account,
        } = state;
        let total = files.len() as u64;
        let mut planned = Planned {
            changes,
            files: Vec::new(),
            left,
            account,
        };
        let mut hashed = Hashed {
            changes: Vec::new(),
            left: Left::default(),
            account: Account::default(),
            clean: Vec::new(),
            written: Vec::new(),
            assemblies: Vec::new(),
        };
        {
            let work = Work {
                vfs: &vfs,
                namespace: frozen.namespace(),
            };
            let mut done = futures::stream::iter(files)
                .map(|file| work.hash(file))
                .buffer_unordered(AT_ONCE);
            let mut count = 0;
            let mut bytes = 0;
            while let Some(done) = done.try_next().await? {
                let Done {
                    file,
                    node,
                    clean,
                    written,
                    assembly,
                } = done;
                count += 1;
                bytes += node.size;
                let event = ProgressEvent {
                    phase: Phase::Hash,
                    items_done: count,
                    items_total: Some(total),
                    bytes_done: bytes,
                    bytes_total: None,
                    item: file.paths.first().map(|(path, _)| path.to_string()),
                };
                if observer.update(&event) == ControlFlow::Break(()) {
                    return Err(TransferError::Cancelled.into());
                }
                hashed.clean.push(clean);
                hashed.written.extend(written);
                hashed.assemblies.extend(assembly);
                for (path, base) in file.paths {
                    put(&mut planned, path, Node::File(node.clone()), base);
                }
            }
        }
        hashed.changes = planned.changes;
        hashed.left = planned.left;
        hashed.account = planned.account;
        Ok(Commit {
            vfs,
            frozen,
            generation,
            state: hashed,
        })
    }
}

struct Work<'a> {
    vfs: &'a attachfs_vfs::Vfs,
    namespace: &'a attachfs_tree::Namespace,
}

impl Work<'_> {
    async fn hash(&self, file: Unhashed) -> Result<Done, CommitError> {
        let busy = || {
            let open = file
                .paths
                .iter()
                .map(|(path, _)| OpenFile { path: path.clone() });
            CommitError::Busy(open.collect())
        };
        let (scratch, path) = self.vfs.open_scratch(file.ino)?;
        let failed = |source| CommitError::Io {
            doing: "look at",
            path: path.display().to_string(),
            source,
        };
        let mut stamp = FileStamp::of(&scratch).map_err(failed)?;
        if is_recent(&stamp) {
            tokio::time::sleep(TICK).await;
            stamp = FileStamp::of(&scratch).map_err(failed)?;
        }
        // A file that is partly the base's may have been written to since it was frozen: its scratch
        // file then goes with another map.
        let is_mapped = matches!(file.content, FileContent::Mapped(_));
        if self.vfs.has_writer(file.ino)
            || (is_mapped && !self.vfs.has_content(file.ino, &file.content))
        {
            return Err(busy());
        }
        let source = Source {
            path: path.clone(),
            file: scratch,
            stamp,
            size: stamp.size,
        };
        let known = file.known(stamp.into()).cloned();
        let chunk_size = self.namespace.base().chunk_size();
        let hashed = match (&file.content, known) {
            (FileContent::Mapped(mapping), known) => {
                self.hash_mapped(file.ino, mapping, &source, known).await
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
        // Whoever opened it since may have written: then these are not the bytes of one moment.
        let now = FileStamp::of(&source.file).map_err(failed)?;
        if now != stamp || self.vfs.has_writer(file.ino) {
            return Err(busy());
        }
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
        Ok(Done {
            file,
            node,
            clean,
            written,
            assembly,
        })
    }

    /// Hashes the chunks that were written to; the others keep the hashes of the base.
    async fn hash_mapped(
        &self,
        ino: Ino,
        mapping: &Mapping,
        scratch: &Source,
        known: Option<Content>,
    ) -> Result<(Content, Vec<ChunkSource>, Option<Assembly>), CommitError> {
        if let Some(content) = known {
            return Ok((content, Vec::new(), None));
        }
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
        let mut assembly = None;
        let mut hashes = Vec::new();
        let mut written = Vec::new();
        for (number, range) in tree.chunk_size().ranges(mapping.size).enumerate() {
            match base.get(number) {
                Some((kept, hash)) if *kept == range && !mapping.touches(range.clone()) => {
                    hashes.push(**hash);
                    continue;
                }
                _ => {}
            }
            let assembly = match &mut assembly {
                Some(assembly) => assembly,
                none => none.insert(Assembly::new(self.vfs, ino)?),
            };
            let content = FileContent::Mapped(mapping.clone());
            let hash = assembly
                .add(
                    self.vfs.fetcher(),
                    tree,
                    ino,
                    &content,
                    &scratch.file,
                    range.clone(),
                )
                .await?;
            hashes.push(hash);
            written.push((hash, range));
        }
        let written = match &assembly {
            None => Vec::new(),
            Some(assembly) => {
                let source = assembly.source()?;
                let chunk = |(hash, range)| ChunkSource {
                    hash,
                    source: source.clone(),
                    range,
                };
                written.into_iter().map(chunk).collect()
            }
        };
        let content = match hashes[..] {
            [whole] => Content::Whole(whole),
            _ => Content::Chunks(hashes.into()),
        };
        Ok((content, written, assembly))
    }
}

/// Whether a file changed so lately that the next change may not show. One that changed far in the
/// future did so before the clock was set back.
fn is_recent(stamp: &FileStamp) -> bool {
    let tick = TICK.as_nanos() as i128;
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(now) => (-tick..tick).contains(&(now.as_nanos() as i128 - stamp.ctime_ns)),
        Err(_) => false,
    }
}

fn chunks(content: &Content, chunk_size: ChunkSize, source: &Source) -> Vec<ChunkSource> {
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
