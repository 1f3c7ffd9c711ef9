//! Inodes: their numbers, attributes and where a file's bytes are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::Mtime;
use serde::{Deserialize, Serialize};

use crate::ExtentSet;

/// An inode number, never reused within a session.
///
/// ```text
///     1                          the root
///     layer * 2^33 + 1 + index   node `index` of the base's layer `layer`; layer 0 is what the mount began with
///     2^62 + n                   the overlay's n-th inode; the counter is rebuilt from the journal
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ino(u64);

/// A layer has 2^32 nodes at most, and no number is 0.
const LAYER_BITS: u32 = 33;
const FIRST_OVERLAY: u64 = 1 << 62;
/// Numbers from here on are not used: file systems use some of them as marks.
const BEYOND_OVERLAY: u64 = 1 << 63;

impl Ino {
    /// The root directory, in every tree.
    pub const ROOT: Self = Self(1);

    /// How many layers a base can have.
    pub(crate) const MOST_LAYERS: u32 = 1 << (62 - LAYER_BITS);

    pub(crate) fn from_base(layer: u32, index: u32) -> Self {
        Self((u64::from(layer) << LAYER_BITS) + u64::from(index) + 1)
    }

    pub(crate) fn from_overlay(counter: u64) -> Self {
        Self(FIRST_OVERLAY + counter)
    }

    /// The number as the kernel sees it, whether or not such an inode exists.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number as the kernel sees it.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The layer of the base that this number belongs to, and the index in its tree; `None` if it is no base
    /// number.
    pub(crate) fn in_base(self) -> Option<(u32, u32)> {
        if self.0 >= FIRST_OVERLAY {
            return None;
        }
        let layer = (self.0 >> LAYER_BITS) as u32;
        let index = (self.0 & ((1 << LAYER_BITS) - 1)).checked_sub(1)?;
        Some((layer, u32::try_from(index).ok()?))
    }

    pub(crate) fn overlay_counter(self) -> Option<u64> {
        (FIRST_OVERLAY..BEYOND_OVERLAY)
            .contains(&self.0)
            .then(|| self.0 - FIRST_OVERLAY)
    }
}

impl Ino {
    /// The number as the name of a file that is kept for the inode: 16 hexadecimal digits.
    pub fn digits(self) -> String {
        format!("{:016x}", self.0)
    }

    /// The inode of a file that is called so; `None` if that is no name which [`digits`](Self::digits) gives.
    pub fn from_digits(name: &str) -> Option<Self> {
        let ino = Self(u64::from_str_radix(name, 16).ok()?);
        (ino.digits() == name).then_some(ino)
    }
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.overlay_counter() {
            Some(counter) => write!(f, "+{counter}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A point in time: seconds since the Unix epoch and nanoseconds beyond them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl From<Mtime> for Timestamp {
    fn from(mtime: Mtime) -> Self {
        let (seconds, nanoseconds) = mtime.to_unix();
        Self {
            seconds,
            nanoseconds,
        }
    }
}

impl From<Timestamp> for Mtime {
    fn from(time: Timestamp) -> Self {
        Self::from_unix(time.seconds, i64::from(time.nanoseconds))
    }
}

/// What kind of thing an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A FIFO or a socket.
    Special(Special),
}

/// A name under which processes of one machine meet. It has no content: what goes through it never comes here, and no
/// manifest can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Special {
    /// A FIFO (named pipe).
    Fifo,
    /// A local socket.
    Socket,
}

/// What can be changed about an inode without touching its content. `None` means that the mount's
/// settings decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, without setuid, and without setgid of what is no directory.
    pub mode: Option<u32>,
    /// Where the settings decide the mode: whether it has execute bits.
    pub runnable: bool,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last change of the content. Ignored for [`FileContent::Scratch`], where the time of the
    /// scratch file counts.
    pub mtime: Option<Timestamp>,
    /// Last change of anything.
    pub ctime: Option<Timestamp>,
}

/// A file whose content is partly the base's and partly written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The base file.
    pub base: Ino,
    /// Bytes of the base file that still count; what lies beyond and is not written reads as zero.
    pub base_limit: u64,
    /// The length of the file.
    pub size: u64,
    /// What the scratch file holds.
    pub written: ExtentSet,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileContent {
    /// In the store, as the base tree says.
    Base,
    /// In the scratch file of this inode, all of them. Its length and modification time are those
    /// of the scratch file.
    Scratch,
    /// In both.
    Mapped(Arc<Mapping>),
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InodeKind {
    /// A directory.
    Dir,
    /// A regular file.
    File(FileContent),
    /// A symbolic link with the text it was made with; `None` for one of the base.
    Symlink(Option<Box<[u8]>>),
    /// A FIFO or a socket. The base has none.
    Special(Special),
}

/// The overlay's record of an inode: one that it made, or a base inode that it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// What it is.
    pub kind: InodeKind,
    /// Its changed attributes.
    pub attributes: Attributes,
}

/// Where a segment of a read comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentSource {
    /// The scratch file, at the same offset.
    Scratch,
    /// The base file, at the same offset.
    Base,
    /// Nowhere: zeros.
    Zero,
}

/// A piece of a read that comes from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Which bytes of the file.
    pub range: Range<u64>,
    /// Where they are.
    pub source: SegmentSource,
}

impl Mapping {
    /// Where the bytes of `range` are, in order, without what lies beyond the file's end.
    pub fn plan_read(&self, range: Range<u64>) -> Vec<Segment> {
        self.segments(range).collect()
    }

    /// As [`plan_read`](Self::plan_read), one after the other: a file that was written to in many places has many.
    pub fn segments(&self, range: Range<u64>) -> impl Iterator<Item = Segment> {
        let (start, end) = (range.start, range.end.min(self.size));
        let written = self.written.overlapping(start..end);
        let nothing = std::iter::once(end..end);
        written
            .chain(nothing)
            .scan(start, move |at, written| {
                let before = *at..written.start;
                *at = written.end;
                Some((before, written))
            })
            .flat_map(|(gap, written)| {
                let split = self.base_limit.clamp(gap.start, gap.end.max(gap.start));
                [
                    (gap.start..split, SegmentSource::Base),
                    (split..gap.end, SegmentSource::Zero),
                    (written, SegmentSource::Scratch),
                ]
            })
            .filter(|(range, _)| !range.is_empty())
            .map(|(range, source)| Segment { range, source })
    }

    /// How many bytes it has that are not known to be a hole; all, if it was written to in very many places.
    pub fn stored(&self) -> u64 {
        const LOOKED_AT: usize = 4096;
        let mut written = self.written.overlapping(0..self.size);
        let mut stored = self.base_limit.min(self.size);
        for range in written.by_ref().take(LOOKED_AT) {
            stored += range.end.max(self.base_limit) - range.start.max(self.base_limit);
        }
        match written.next() {
            None => stored,
            Some(_) => self.size,
        }
    }

    /// Whether any byte of `range` differs from the base, as far as the map can tell.
    pub fn touches(&self, range: Range<u64>) -> bool {
        range.end > self.base_limit || self.written.overlapping(range).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, file, snapshot, time, tree};
    use crate::{Mutation, Namespace};

    /// The byte of a base file of 100 bytes at an offset, and what is written by operation `number`.
    const BASE: u8 = 1;

    fn written(number: usize) -> u8 {
        number as u8 + 2
    }

    #[derive(Debug, Clone)]
    enum Op {
        Write(u64, u64),
        Resize(u64),
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0..130u64, 0..40u64).prop_map(|(offset, len)| Op::Write(offset, len)),
            1 => (0..130u64).prop_map(Op::Resize),
        ]
    }

    fn mapped(namespace: &Namespace, ino: Ino) -> &Mapping {
        match namespace.content(ino) {
            Some(FileContent::Mapped(mapping)) => mapping,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn reading_by_a_plan_gives_what_an_array_of_bytes_gives(
            keep in prop_oneof![Just(u64::MAX), 1..100u64],
            ops in prop::collection::vec(any_op(), 0..12),
            query in (0..200u64, 0..200u64),
        ) {
            let base = tree(&snapshot([("f", file(100))]));
            let ino = at(&base, "f");
            let mut namespace = Namespace::new(base);
            namespace.apply(&Mutation::CopyUp { ino, keep, time: time(0) }).unwrap();
            let mut model = vec![BASE; keep.min(100) as usize];
            // Longer than the file ever was: what is cut off stays in a scratch file.
            let mut scratch = vec![0; 300];
            for (number, op) in ops.into_iter().enumerate() {
                let time = time(number as i64);
                match op {
                    Op::Write(offset, len) => {
                        let (start, end) = (offset as usize, (offset + len) as usize);
                        scratch[start..end].fill(written(number));
                        model.resize(model.len().max(end), 0);
                        model[start..end].fill(written(number));
                        namespace.apply(&Mutation::Write { ino, offset, len, time }).unwrap();
                    }
                    Op::Resize(size) => {
                        model.resize(size as usize, 0);
                        namespace.apply(&Mutation::Resize { ino, size, time }).unwrap();
                    }
                }
            }
            let mapping = mapped(&namespace, ino);
            prop_assert_eq!(mapping.size, model.len() as u64);
            let range = query.0..query.0 + query.1;
            let mut read = Vec::new();
            for Segment { range, source } in mapping.plan_read(range.clone()) {
                let range = range.start as usize..range.end as usize;
                match source {
                    SegmentSource::Base => read.extend(vec![BASE; range.len()]),
                    SegmentSource::Zero => read.extend(vec![0; range.len()]),
                    SegmentSource::Scratch => read.extend(&scratch[range]),
                }
            }
            let end = model.len().min(range.end as usize);
            let expected = model.get(range.start as usize..end).unwrap_or_default();
            prop_assert_eq!(&read, expected);
            let segments = mapping.plan_read(0..mapping.size);
            let known = segments.iter().filter(|segment| segment.source != SegmentSource::Zero);
            let known = known.map(|segment| segment.range.end - segment.range.start);
            prop_assert_eq!(mapping.stored(), known.sum::<u64>());
            if !mapping.touches(range.clone()) {
                prop_assert!(expected.iter().all(|&byte| byte == BASE), "untouched is the base's");
            }
        }
    }

    #[test]
    fn a_plan_past_the_end_is_empty() {
        let mapping = Mapping {
            base: Ino::ROOT,
            base_limit: 10,
            size: 10,
            written: ExtentSet::default(),
        };
        assert_eq!(mapping.plan_read(10..20), []);
        assert_eq!(mapping.plan_read(u64::MAX..u64::MAX), []);
    }

    #[test]
    fn times_survive_the_way_through_a_manifest() {
        for mtime in [0, 1, -1, 1_700_000_000_123_456, -1_700_000_000_123_456] {
            assert_eq!(Mtime::from(Timestamp::from(Mtime(mtime))), Mtime(mtime));
        }
    }

    #[test]
    fn numbers_of_the_base_and_of_the_overlay_never_meet() {
        assert_eq!(Ino::from_base(0, 0), Ino::ROOT);
        for layer in [0, 1, Ino::MOST_LAYERS - 1] {
            for index in [0, 7, u32::MAX] {
                let ino = Ino::from_base(layer, index);
                assert_eq!(ino.in_base(), Some((layer, index)));
                assert_eq!(ino.overlay_counter(), None);
            }
        }
        assert_eq!(Ino::from_overlay(0).in_base(), None);
        assert_eq!(Ino::from_overlay(5).overlay_counter(), Some(5));
        for raw in [0, (1 << 32) + 1, 1 << 33] {
            assert_eq!(Ino::from_raw(raw).in_base(), None, "{raw}");
        }
    }
}
