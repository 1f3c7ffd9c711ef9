//! read: from scratch, from what was fetched, or as a future from the store.

use std::fs::File;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use attachfs_durable::read_range;
use attachfs_fetch::{FetchError, Fetcher};
use attachfs_manifest::Piece;
use attachfs_store::data_key;
use attachfs_tree::{BaseTree, FileContent, Ino, Source};
use bytes::{Bytes, BytesMut};

use crate::handles::OpenFile;
use crate::vfs::Tally;
use crate::{Blame, FsError, FsErrorKind, HandleId, Vfs};

/// The answer to a read.
pub enum ReadOutcome {
    /// The bytes; fewer than asked for only at the end of the file.
    Ready(Bytes),
    /// The store is needed. Needs a tokio runtime with time enabled.
    Pending(Pin<Box<dyn Future<Output = Result<Bytes, FsError>> + Send>>),
}

impl std::fmt::Debug for ReadOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready(bytes) => write!(f, "Ready({} bytes)", bytes.len()),
            Self::Pending(_) => write!(f, "Pending"),
        }
    }
}

/// One part of an answer, in order.
enum Part {
    Here(Bytes),
    Fetch(Piece),
}

impl Vfs {
    /// Reads from an open file.
    pub fn read(&self, handle: HandleId, offset: u64, len: u32) -> Result<ReadOutcome, FsError> {
        let open = self.handles.file(handle)?;
        let outcome = self.read_open(&open, offset, len);
        if let Err(error) = &outcome
            && error.has_cause()
        {
            self.tally.failed.note(self.describe(open.ino), error);
        }
        outcome
    }

    fn read_open(
        &self,
        open: &Arc<OpenFile>,
        offset: u64,
        len: u32,
    ) -> Result<ReadOutcome, FsError> {
        let range = offset..offset.saturating_add(u64::from(len));
        let plan = {
            let namespace = self.namespace.read();
            let content = namespace.content(open.ino);
            match (content, &open.scratch) {
                (Some(FileContent::Scratch), Some(scratch)) => {
                    drop(namespace);
                    let bytes = read_scratch(scratch, range)?;
                    return Ok(ReadOutcome::Ready(bytes));
                }
                (Some(content), scratch) => plan(
                    namespace.base(),
                    open.ino,
                    content,
                    range,
                    scratch.as_deref(),
                )?,
                (None, _) => return Err(FsErrorKind::BadHandle.into()),
            }
        };
        let from_base: u64 = plan.iter().map(Planned::base_len).sum();
        let mut parts = Vec::with_capacity(plan.len());
        let mut missing = false;
        for part in plan {
            parts.push(match part {
                Planned::Here(bytes) => Part::Here(bytes),
                Planned::Base(piece) => match self.fetcher.read_cached(&piece) {
                    Some(bytes) => Part::Here(bytes),
                    None => {
                        missing = true;
                        Part::Fetch(piece)
                    }
                },
            });
        }
        if !missing {
            self.tally.read(open, from_base);
            return Ok(ReadOutcome::Ready(join(parts.into_iter().filter_map(
                |part| match part {
                    Part::Here(bytes) => Some(bytes),
                    Part::Fetch(_) => None,
                },
            ))));
        }
        let path = self.describe(open.ino);
        let (fetcher, tally, open) = (self.fetcher.clone(), self.tally.clone(), open.clone());
        Ok(ReadOutcome::Pending(Box::pin(async move {
            let read = fetch(&fetcher, parts, &path).await;
            match &read {
                Ok(_) => tally.read(&open, from_base),
                Err(error) => tally.failed.note(path, error),
            }
            read
        })))
    }

    /// An inode as messages name it.
    pub fn describe(&self, ino: Ino) -> String {
        let namespace = self.namespace.read();
        let path = namespace.path(ino).or_else(|| namespace.base().path(ino));
        path.map_or_else(|| format!("inode {ino}"), |path| path.to_string())
    }
}

impl Tally {
    /// Counts what was read of the base through a handle.
    fn read(&self, open: &OpenFile, from_base: u64) {
        if from_base > 0 && !open.counted.swap(true, Ordering::Relaxed) {
            self.files_read.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes_read.fetch_add(from_base, Ordering::Relaxed);
    }
}

async fn fetch(fetcher: &Fetcher, parts: Vec<Part>, path: &str) -> Result<Bytes, FsError> {
    let mut done = Vec::with_capacity(parts.len());
    for part in parts {
        done.push(match part {
            Part::Here(bytes) => bytes,
            Part::Fetch(piece) => fetcher
                .read(&piece)
                .await
                .map_err(|error| read_failed(path, error))?,
        });
    }
    Ok(join(done))
}

fn read_failed(path: &str, error: FetchError) -> FsError {
    let blame = if error.is_of_the_store() {
        Blame::Store
    } else {
        Blame::Object(data_key(error.object()).into())
    };
    FsError::caused(FsErrorKind::Io, format!("read \"{path}\""), error).blaming(blame)
}

enum Planned {
    Here(Bytes),
    Base(Piece),
}

impl Planned {
    fn base_len(&self) -> u64 {
        match self {
            Self::Here(_) => 0,
            Self::Base(piece) => piece.range.end - piece.range.start,
        }
    }
}

/// Where the bytes of a range of a file are; what is in scratch is read at once.
fn plan(
    tree: &BaseTree,
    ino: Ino,
    content: &FileContent,
    range: Range<u64>,
    scratch: Option<&File>,
) -> Result<Vec<Planned>, FsError> {
    let pieces = |base: Ino, range: Range<u64>| {
        let layout = tree.layout(base).ok_or(FsError::plain(FsErrorKind::Io))?;
        Ok::<_, FsError>(layout.pieces(range).map(Planned::Base))
    };
    match content {
        FileContent::Base => Ok(pieces(ino, range)?.collect()),
        FileContent::Scratch => {
            let scratch = scratch.ok_or(FsError::plain(FsErrorKind::Io))?;
            Ok(vec![Planned::Here(read_scratch(scratch, range)?)])
        }
        FileContent::Mapped(mapping) => {
            let scratch = scratch.ok_or(FsError::plain(FsErrorKind::Io))?;
            let mut plan = Vec::new();
            for segment in mapping.plan_read(range) {
                let len = (segment.range.end - segment.range.start) as usize;
                match segment.source {
                    Source::Scratch => {
                        let bytes = read_scratch(scratch, segment.range)?;
                        if bytes.len() != len {
                            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                            return Err(FsError::io("read a scratch file", short));
                        }
                        plan.push(Planned::Here(bytes));
                    }
                    Source::Zero => plan.push(Planned::Here(Bytes::from(vec![0; len]))),
                    Source::Base => plan.extend(pieces(mapping.base, segment.range)?),
                }
            }
            Ok(plan)
        }
    }
}

fn read_scratch(file: &File, range: Range<u64>) -> Result<Bytes, FsError> {
    read_range(file, range).map_err(|error| FsError::io("read a scratch file", error))
}

fn join(parts: impl IntoIterator<Item = Bytes>) -> Bytes {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return Bytes::new();
    };
    let mut rest = parts.peekable();
    if rest.peek().is_none() {
        return first;
    }
    let mut joined = BytesMut::from(&first[..]);
    for part in rest {
        joined.extend_from_slice(&part);
    }
    joined.freeze()
}

/// Reads a range of a frozen file, wherever its bytes are: for a commit that puts together what is
/// partly written and partly the base's. `path` is what messages call the file.
pub async fn read_content(
    fetcher: &Fetcher,
    tree: &BaseTree,
    ino: Ino,
    content: &FileContent,
    scratch: Option<&File>,
    range: Range<u64>,
    path: &str,
) -> Result<Bytes, FsError> {
    let mut done = Vec::new();
    for part in plan(tree, ino, content, range, scratch)? {
        done.push(match part {
            Planned::Here(bytes) => bytes,
            Planned::Base(piece) => fetcher
                .read(&piece)
                .await
                .map_err(|error| read_failed(path, error))?,
        });
    }
    Ok(join(done))
}
