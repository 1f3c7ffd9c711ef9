//! Where a file has data and where it has holes: lseek(2) with SEEK_DATA and SEEK_HOLE, in terms of no platform.
//!
//! What the base has is data: nobody has looked for zeros in it, and nothing is fetched for the answer.

use std::fs::File;
use std::ops::Range;

use attachfs_durable::data_in;
use attachfs_tree::{FileContent, Mapping, Segment, SegmentSource};

use super::attributes::facts_of;
use crate::{FsError, FsErrorKind, HandleId, Vfs};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// A byte that is no part of a hole.
    Data,
    /// A hole; the end of the file is one.
    Hole,
}

impl Vfs {
    /// The first place from an offset on where an open file has data, or a hole.
    /// [`BeyondEnd`](FsErrorKind::BeyondEnd) if the offset is not within the file, or no data follows.
    pub fn seek(&self, handle: HandleId, offset: u64, to: SeekTo) -> Result<u64, FsError> {
        let open = self.handles.file(handle)?;
        let (ino, node) = (open.ino(), open.inode.node());
        let content = {
            let namespace = self.namespace.read();
            let content = namespace.content(ino).cloned();
            content.ok_or(FsError::plain(FsErrorKind::BadHandle))?
        };
        let found = match content {
            // Who reads the local file of a node that was left has the bytes of the base.
            _ if self.is_left(node) => Ok(all_data(self.attr_of(node)?.size, offset, to)),
            FileContent::Base => Ok(all_data(self.getattr(ino)?.size, offset, to)),
            FileContent::Scratch => {
                let scratch = self.open_scratch_of(&open)?;
                let size = facts_of(self.writable()?, &scratch)?.stamp.size;
                in_scratch(&scratch, offset..size, to).map(|found| {
                    // The end of a file is a hole.
                    found.or((to == SeekTo::Hole && offset < size).then_some(size))
                })
            }
            FileContent::Mapped(mapping) => {
                in_mapped(&mapping, &*self.open_scratch_of(&open)?, offset, to)
            }
        };
        found?.ok_or(FsError::plain(FsErrorKind::BeyondEnd))
    }
}

type Answer = Result<Option<u64>, FsError>;

fn all_data(size: u64, offset: u64, to: SeekTo) -> Option<u64> {
    (offset < size).then_some(match to {
        SeekTo::Data => offset,
        SeekTo::Hole => size,
    })
}

/// Looks within a range of a scratch file.
fn in_scratch(scratch: &File, range: Range<u64>, to: SeekTo) -> Answer {
    if range.is_empty() {
        return Ok(None);
    }
    let data = data_in(scratch, range.clone());
    let data = data.map_err(|error| FsError::io("look for holes in a scratch file", error))?;
    Ok(match to {
        SeekTo::Data => (!data.is_empty()).then_some(data.start),
        SeekTo::Hole if data.is_empty() || data.start > range.start => Some(range.start),
        SeekTo::Hole => (data.end < range.end).then_some(data.end),
    })
}

fn in_mapped(mapping: &Mapping, scratch: &File, offset: u64, to: SeekTo) -> Answer {
    for Segment { range, source } in mapping.segments(offset..mapping.size) {
        let found = match (source, to) {
            (SegmentSource::Scratch, _) => in_scratch(scratch, range, to)?,
            (SegmentSource::Base, SeekTo::Data) | (SegmentSource::Zero, SeekTo::Hole) => {
                Some(range.start)
            }
            (SegmentSource::Base, SeekTo::Hole) | (SegmentSource::Zero, SeekTo::Data) => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok((to == SeekTo::Hole && offset < mapping.size).then_some(mapping.size))
}
