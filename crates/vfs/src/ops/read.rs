//! read: from the scratch file, or from the base by the handle's [`FileReader`].
//!
//! ```text
//!     Vfs::read     the namespace says where the file's bytes are
//!       all base        FileReader::read: at once if the bytes are on this machine, else a future
//!       all scratch     the scratch file, at once
//!       mapped          plan: which parts are where; begin: reads each part as above; outcome: puts them together
//! ```
//!
//! Nothing here waits for the store: a read that needs it is answered with a future.

use std::fs::File;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use attachfs_durable::read_range;
use attachfs_fetch::{FetchError, Fetcher, FileRead, FileReader};
use attachfs_store::data_key;
use attachfs_tree::{FileContent, Ino, LayeredBase, SegmentSource};
use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;

use crate::handles::OpenFile;
use crate::inputs::OfBase;
use crate::vfs::Tally;
use crate::{Blame, FsError, FsErrorKind, HandleId, Vfs};

/// How often a read is planned again because the scratch file was shortened meanwhile.
const MOST_PLANS: u32 = 3;

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

impl Vfs {
    /// Reads from an open file.
    pub fn read(&self, handle: HandleId, offset: u64, len: u32) -> Result<ReadOutcome, FsError> {
        let open = self.handles.file(handle)?;
        let outcome = self.read_open(&open, offset, len);
        if let Err(error) = &outcome
            && error.has_cause()
        {
            let (ino, failed) = (open.ino(), &self.tally.failed);
            failed.note(ino, self.describe(ino), error);
        }
        outcome
    }

    /// Finds out where the file's bytes are, and reads them: all from the base, all from scratch, or part by part.
    fn read_open(
        &self,
        open: &Arc<OpenFile>,
        offset: u64,
        len: u32,
    ) -> Result<ReadOutcome, FsError> {
        let range = offset..offset.saturating_add(u64::from(len));
        for _ in 0..MOST_PLANS {
            let (content, base) = {
                let namespace = self.namespace.read();
                let content = namespace.content(open.ino()).cloned();
                let content = content.ok_or(FsError::plain(FsErrorKind::BadHandle))?;
                (content, namespace.base().clone())
            };
            let scratch = match content {
                FileContent::Base => {
                    let reader = self.reader(open, &base, open.ino())?;
                    return Ok(self.read_base(open, &reader, range));
                }
                FileContent::Scratch => {
                    let bytes = read_scratch(&*self.open_scratch_of(open)?, range)?;
                    return Ok(ReadOutcome::Ready(bytes));
                }
                FileContent::Mapped(_) => self.open_scratch_of(open)?,
            };
            let plan = plan(open.ino(), &content, range.clone(), |ino| {
                self.reader(open, &base, ino)
            })?;
            // The scratch file may be cut meanwhile, and then the plan is not that of the file any more.
            if let Some(parts) = begin(plan, Some(&*scratch))? {
                for of_base in parts.iter().filter_map(BegunPart::of_base) {
                    self.inputs.asked(&open.used, of_base);
                }
                return Ok(self.outcome(open, parts));
            }
        }
        Err(short_scratch())
    }

    /// Reads from a file whose bytes are all the base's. The first such read of a handle is also noted by `siblings`,
    /// which may begin to fetch the files that follow this one in the manifest.
    fn read_base(
        &self,
        open: &Arc<OpenFile>,
        reader: &FileReader,
        range: Range<u64>,
    ) -> ReadOutcome {
        let of_base = OfBase::new(open.ino(), reader, &range);
        self.inputs.asked(&open.used, &of_base);
        let read = reader.read(range);
        if !open.begun.swap(true, Ordering::Relaxed) {
            let missed = matches!(read, FileRead::Pending(_));
            self.siblings
                .note(open.ino(), missed, &self.namespace, &self.fetcher);
        }
        match read {
            FileRead::Ready(bytes) => {
                self.answered(open, &[of_base]);
                ReadOutcome::Ready(bytes)
            }
            pending @ FileRead::Pending(_) => {
                self.pending(open, vec![BegunPart::Base(pending, of_base)])
            }
        }
    }

    /// The reader of a handle for the file of the base that it stands on.
    fn reader(
        &self,
        open: &OpenFile,
        tree: &LayeredBase,
        base: Ino,
    ) -> Result<Arc<FileReader>, FsError> {
        if let Some((ino, reader)) = open.reader.get()
            && *ino == base
        {
            return Ok(Arc::clone(reader));
        }
        let layout = tree.layout(base).ok_or(FsError::plain(FsErrorKind::Io))?;
        let reader = Arc::new(self.fetcher.open(&layout));
        // A second reader, should it ever be needed, is for this read alone.
        let (ino, kept) = open.reader.get_or_init(|| (base, Arc::clone(&reader)));
        Ok(if *ino == base {
            Arc::clone(kept)
        } else {
            reader
        })
    }

    /// The answer that is put together from these parts, or the wait for those that come from the store.
    fn outcome(&self, open: &Arc<OpenFile>, parts: Vec<BegunPart>) -> ReadOutcome {
        if parts.iter().any(BegunPart::is_pending) {
            return self.pending(open, parts);
        }
        let of_base: Vec<_> = parts
            .iter()
            .filter_map(BegunPart::of_base)
            .cloned()
            .collect();
        self.answered(open, &of_base);
        let here = parts.into_iter().filter_map(|part| match part {
            BegunPart::Written(bytes) | BegunPart::Base(FileRead::Ready(bytes), _) => Some(bytes),
            BegunPart::Base(FileRead::Pending(_), _) => None,
        });
        ReadOutcome::Ready(join(here))
    }

    /// A read of which something has to come from the store.
    fn pending(&self, open: &Arc<OpenFile>, parts: Vec<BegunPart>) -> ReadOutcome {
        let path = self.describe(open.ino());
        let (tally, inputs) = (Arc::clone(&self.tally), Arc::clone(&self.inputs));
        let open = Arc::clone(open);
        ReadOutcome::Pending(Box::pin(async move {
            let of_base: Vec<_> = parts
                .iter()
                .filter_map(BegunPart::of_base)
                .cloned()
                .collect();
            let read = fetched(parts, &path).await;
            match &read {
                Ok(_) => {
                    tally.read(&open, &of_base);
                    inputs.answered(&open.used, &of_base);
                    // The handle may have been closed meanwhile, and then nobody else would keep it.
                    inputs.keep(&open.used);
                }
                Err(error) => tally.failed.note(open.ino(), path, error),
            }
            read
        }))
    }

    /// Counts what was read of the base: bytes that were given out, and no others.
    fn answered(&self, open: &OpenFile, of_base: &[OfBase]) {
        self.tally.read(open, of_base);
        self.inputs.answered(&open.used, of_base);
    }

    /// An inode as messages name it.
    pub fn describe(&self, ino: Ino) -> String {
        let namespace = self.namespace.read();
        let path = namespace.path(ino).or_else(|| namespace.base().path(ino));
        path.map_or_else(|| format!("inode {ino}"), |path| path.to_string())
    }
}

/// Where one part of a range of an open file is: bytes of the scratch file, so many zeros, or bytes of the base.
enum PlannedPart {
    Scratch(Range<u64>),
    Zero(u64),
    Base(Arc<FileReader>, Ino, Range<u64>),
}

/// Where the bytes of a range of a file are. Reads nothing.
fn plan(
    ino: Ino,
    content: &FileContent,
    range: Range<u64>,
    reader: impl Fn(Ino) -> Result<Arc<FileReader>, FsError>,
) -> Result<Vec<PlannedPart>, FsError> {
    match content {
        FileContent::Base => Ok(vec![PlannedPart::Base(reader(ino)?, ino, range)]),
        FileContent::Scratch => Ok(vec![PlannedPart::Scratch(range)]),
        FileContent::Mapped(mapping) => mapping
            .plan_read(range)
            .into_iter()
            .map(|segment| {
                Ok(match segment.source {
                    SegmentSource::Scratch => PlannedPart::Scratch(segment.range),
                    SegmentSource::Zero => {
                        PlannedPart::Zero(segment.range.end - segment.range.start)
                    }
                    SegmentSource::Base => {
                        let reader = reader(mapping.base)?;
                        PlannedPart::Base(reader, mapping.base, segment.range)
                    }
                })
            })
            .collect(),
    }
}

/// One part of an answer that was begun.
enum BegunPart {
    /// Bytes from scratch, or zeros.
    Written(Bytes),
    /// From the base: bytes that are here or come, and which.
    Base(FileRead, OfBase),
}

impl BegunPart {
    fn of_base(&self) -> Option<&OfBase> {
        match self {
            Self::Written(_) => None,
            Self::Base(_, of_base) => Some(of_base),
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Self::Base(FileRead::Pending(_), _))
    }
}

/// Reads what is in scratch, and begins to read what is the base's. `None` if the scratch file is shorter than when
/// it was planned.
fn begin(
    plan: Vec<PlannedPart>,
    scratch: Option<&File>,
) -> Result<Option<Vec<BegunPart>>, FsError> {
    let mut parts = Vec::with_capacity(plan.len());
    for part in plan {
        parts.push(match part {
            PlannedPart::Scratch(range) => {
                let scratch = scratch.ok_or(FsError::plain(FsErrorKind::Io))?;
                let bytes = read_scratch(scratch, range.clone())?;
                if bytes.len() as u64 != range.end - range.start {
                    return Ok(None);
                }
                BegunPart::Written(bytes)
            }
            PlannedPart::Zero(len) => BegunPart::Written(Bytes::from(vec![0; len as usize])),
            PlannedPart::Base(reader, ino, range) => {
                let of_base = OfBase::new(ino, &reader, &range);
                BegunPart::Base(reader.read(range), of_base)
            }
        });
    }
    Ok(Some(parts))
}

/// Waits for what has to come from the store.
async fn fetched(parts: Vec<BegunPart>, path: &str) -> Result<Bytes, FsError> {
    // All at once: a fetch that this read is to make, and others wait for, is not held up by one that hangs.
    let parts = parts.into_iter().map(|part| async move {
        match part {
            BegunPart::Written(bytes) | BegunPart::Base(FileRead::Ready(bytes), _) => Ok(bytes),
            BegunPart::Base(FileRead::Pending(read), _) => {
                let bytes = read.bytes().await;
                bytes.map_err(|error| read_failed(path, error))
            }
        }
    });
    Ok(join(try_join_all(parts).await?))
}

pub(crate) fn read_failed(path: &str, error: FetchError) -> FsError {
    let blame = if error.is_of_the_store() {
        Blame::Store
    } else {
        Blame::Object(data_key(error.object()).into())
    };
    FsError::caused(FsErrorKind::Io, format!("read \"{path}\""), error).blaming(blame)
}

impl Tally {
    /// Counts what was read of the base through a handle.
    fn read(&self, open: &OpenFile, of_base: &[OfBase]) {
        let from_base = of_base.iter().map(OfBase::len).sum();
        if from_base > 0 && !open.counted.swap(true, Ordering::Relaxed) {
            self.files_read.add(1);
        }
        self.bytes_read.add(from_base);
    }
}

fn short_scratch() -> FsError {
    FsError::io(
        "read a scratch file",
        std::io::ErrorKind::UnexpectedEof.into(),
    )
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

/// Reads a range of a frozen file up to its end, wherever its bytes are: for a commit that puts together what is
/// partly written and partly the base's. `path` is what messages call the file.
pub async fn read_content(
    fetcher: &Fetcher,
    tree: &LayeredBase,
    ino: Ino,
    content: &FileContent,
    scratch: Option<&File>,
    range: Range<u64>,
    path: &str,
) -> Result<Bytes, FsError> {
    let reader = |base| {
        let layout = tree.layout(base).ok_or(FsError::plain(FsErrorKind::Io))?;
        Ok(Arc::new(fetcher.open(&layout)))
    };
    let plan = plan(ino, content, range, reader)?;
    let parts = begin(plan, scratch)?.ok_or_else(short_scratch)?;
    fetched(parts, path).await
}
