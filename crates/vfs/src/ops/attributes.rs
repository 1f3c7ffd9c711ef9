//! lookup, getattr, setattr, readlink, statfs.

use std::fs::File;

use attachfs_durable::{Facts, Space};
use attachfs_tree::{
    AttributeChange, BaseKind, FileContent, Ino, Kind, Mutation, Namespace, Timestamp,
};

use super::directory::{checked, kept_mode};
use crate::vfs::{Overlay, now};
use crate::{Entry, FileAttr, FsError, FsErrorKind, NodeId, Vfs};

/// A new time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// This time.
    To(Timestamp),
}

/// What to change; `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// The length of a file in bytes.
    pub size: Option<u64>,
    /// Permission bits; setuid is dropped, and setgid of what is no directory.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time. It is told as long as the file system is served, for the files that were set last.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Whether a new length leaves the modification time as it is, if none is given: the adapter's kernel keeps the time, and shows
    /// the one that it has.
    pub keeps_mtime: bool,
}

/// The attributes of an inode as far as the namespace has them.
pub(crate) enum Shown {
    All(FileAttr),
    /// Length and times are those of the scratch file, but for an access time that was set.
    InScratch(FileAttr, Option<Timestamp>),
}

impl Shown {
    pub(crate) fn ino(&self) -> Ino {
        match self {
            Self::All(attr) | Self::InScratch(attr, _) => attr.ino,
        }
    }

    /// All attributes, with what the scratch file says if they are in it.
    pub(crate) fn with(self, facts: &Facts) -> FileAttr {
        match self {
            Self::All(attr) => attr,
            Self::InScratch(attr, accessed) => FileAttr {
                size: facts.stamp.size,
                blocks: facts.allocated / 512,
                atime: accessed.unwrap_or_else(|| timestamp(facts.stamp.modified())),
                mtime: timestamp(facts.stamp.modified()),
                ctime: attr.ctime.max(timestamp(facts.stamp.changed())),
                ..attr
            },
        }
    }
}

/// What is looked up of a node's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbered {
    /// The node, by the name ".".
    Itself,
    /// The directory it is in, by the name "..".
    Parent,
}

impl Numbered {
    /// What a name asks for; `None` if it is the name of an entry.
    pub(crate) fn by_name(name: &[u8]) -> Option<Self> {
        match name {
            b"." => Some(Self::Itself),
            b".." => Some(Self::Parent),
            _ => None,
        }
    }
}

/// What an open scratch file says of itself.
pub(crate) fn facts_of(overlay: &Overlay, file: &File) -> Result<Facts, FsError> {
    overlay.disk.scratch.facts_of(file).map_err(not_looked_at)
}

fn not_looked_at(error: std::io::Error) -> FsError {
    FsError::io("look at a scratch file", error)
}

impl Vfs {
    /// The attributes of the entry at a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<FileAttr, FsError> {
        Ok(self.look_up(parent, name)?.0.attr)
    }

    /// As [`lookup`](Self::lookup), and whether the name is written so.
    pub(crate) fn look_up(&self, parent: Ino, name: &[u8]) -> Result<(Entry, bool), FsError> {
        let (node, shown, is_written_so) = {
            let namespace = self.namespace.read();
            match self.at_name(&namespace, parent, name) {
                Some((ino, written)) => {
                    let shown = self.shown(&namespace, ino)?;
                    (self.note_reference(ino), shown, written.is_none())
                }
                None => match namespace.kind(parent) {
                    Some(Kind::Dir) => {
                        checked(name)?;
                        return Err(FsErrorKind::NotFound.into());
                    }
                    Some(_) => return Err(FsErrorKind::NotADirectory.into()),
                    None => return Err(FsErrorKind::NotFound.into()),
                },
            }
        };
        let entry = self.complete_entry(node, shown)?;
        Ok((entry, is_written_so))
    }

    /// A node by its number, or the directory that a directory is in: what an adapter asks for that keeps numbers longer than
    /// references. Fails with [`NotFound`](FsErrorKind::NotFound) for a number that no name leads to.
    pub(crate) fn look_up_node(&self, node: NodeId, of: Numbered) -> Result<Entry, FsError> {
        let (node, shown) = {
            let namespace = self.namespace.read();
            let ino = match of {
                Numbered::Itself if self.node_of(node.into()) == node => Some(node.into()),
                Numbered::Itself => None,
                Numbered::Parent => namespace.parent(node.into()),
            };
            let ino = ino.filter(|&ino| namespace.is_reachable(ino));
            let ino = ino.ok_or(FsError::plain(FsErrorKind::NotFound))?;
            let shown = self.shown(&namespace, ino)?;
            (self.note_reference(ino), shown)
        };
        self.complete_entry(node, shown)
    }

    /// The attributes of an inode.
    pub fn getattr(&self, ino: Ino) -> Result<FileAttr, FsError> {
        let shown = self.shown(&self.namespace.read(), ino)?;
        self.complete(shown)
    }

    /// The attributes of an inode as far as the namespace has them.
    pub(crate) fn shown(&self, namespace: &Namespace, ino: Ino) -> Result<Shown, FsError> {
        let kind = namespace
            .kind(ino)
            .ok_or(FsError::plain(FsErrorKind::NotFound))?;
        let attributes = namespace.attributes(ino);
        let mtime = attributes.mtime.unwrap_or(self.settings.created);
        let accessed = self.accessed.of(ino);
        let mut attr = FileAttr {
            ino,
            kind,
            size: 0,
            blocks: 0,
            atime: accessed.unwrap_or(mtime),
            mtime,
            ctime: attributes.ctime.unwrap_or(mtime),
            perm: self.settings.perm(kind, &attributes),
            nlink: links(namespace, ino, kind),
            uid: attributes.uid.unwrap_or(self.settings.uid),
            gid: attributes.gid.unwrap_or(self.settings.gid),
            lasting: true,
        };
        match kind {
            Kind::Dir | Kind::Special(_) => {}
            Kind::Symlink => {
                attr.size = namespace.link_text(ino).map_or(0, |text| text.len() as u64);
            }
            Kind::File => match namespace.content(ino) {
                Some(FileContent::Mapped(mapping)) => {
                    attr.size = mapping.size;
                    // Programs look for holes where there are fewer blocks than bytes.
                    attr.blocks = mapping.stored().div_ceil(512);
                    return Ok(Shown::All(attr));
                }
                Some(FileContent::Scratch) => return Ok(Shown::InScratch(attr, accessed)),
                Some(FileContent::Base) | None => {
                    if let Some(BaseKind::File { size, .. }) = namespace.base().kind(ino) {
                        attr.size = size;
                    }
                }
            },
        }
        attr.blocks = attr.size.div_ceil(512);
        Ok(Shown::All(attr))
    }

    /// Adds the attributes that come from the scratch file. Call this without a lock of the
    /// namespace.
    pub(crate) fn complete(&self, shown: Shown) -> Result<FileAttr, FsError> {
        if let Shown::All(attr) = shown {
            return Ok(attr);
        }
        let overlay = self.writable()?;
        let ino = shown.ino();
        // Asked first: who has ended writing since is only asked for once more.
        let lasting = !self.is_written_unseen(ino);
        let facts = match self.handles.inode(ino) {
            Some(inode) => {
                let file = inode.scratch_to_read(|| Self::scratch_to_look(overlay, ino))?;
                facts_of(overlay, &file)?
            }
            // A listing asks for many that nobody has open.
            None => overlay.disk.scratch.facts(ino).map_err(not_looked_at)?,
        };
        Ok(FileAttr {
            lasting,
            ..shown.with(&facts)
        })
    }

    /// Whether all bytes of a file are in its scratch file.
    pub(crate) fn is_in_scratch(&self, ino: Ino) -> bool {
        self.namespace.read().content(ino) == Some(&FileContent::Scratch)
    }

    /// Changes attributes. A base file that gets another length is copied up.
    pub fn setattr(&self, ino: Ino, set: SetAttr) -> Result<FileAttr, FsError> {
        self.setattr_of(self.node_of(ino), set)
    }

    /// As [`setattr`](Self::setattr), by a node. A new length is refused as [`open_node`](Self::open_node) refuses to open it
    /// for writing.
    pub(crate) fn setattr_of(&self, node: NodeId, set: SetAttr) -> Result<FileAttr, FsError> {
        let ino = node.into();
        let change = self.begin_change()?;
        let keeps_mtime = set.keeps_mtime && set.size.is_some() && set.mtime.is_none();
        let kept = keeps_mtime.then(|| self.getattr(ino)).transpose()?;
        let mtime = set.mtime.or(kept.map(|before| SetTime::To(before.mtime)));
        if let Some(size) = set.size {
            self.refuse_left(node)?;
            let cut = self.handles.while_open(node, |inode| {
                self.refuse_backed(inode, size == 0 || self.is_in_scratch(ino))?;
                self.truncate(&change, ino, size)
            });
            self.drop_if_unused(ino);
            cut?;
        }
        let turn = self.turn(change.overlay);
        let time = now();
        let (is_scratch, kind) = {
            let namespace = turn.namespace();
            let is_scratch = namespace.content(ino) == Some(&FileContent::Scratch);
            (is_scratch, namespace.kind(ino))
        };
        let at = |to| match to {
            SetTime::Now => time,
            SetTime::To(time) => time,
        };
        let mut to = AttributeChange {
            mode: set.mode.map(|mode| kept_mode(kind, mode)),
            uid: set.uid,
            gid: set.gid,
            mtime: mtime.map(at),
        };
        let accessed = set.atime.is_some() && mtime.is_none();
        if is_scratch && let Some(mtime) = to.mtime.take() {
            // The modification time of the file is that of its scratch file.
            let file = self.scratch_to_write(change.overlay, ino)?;
            let times = std::fs::FileTimes::new().set_modified(system_time(mtime)?);
            file.set_times(times)
                .map_err(|error| FsError::io("set the time of a file", error))?;
        }
        if to != AttributeChange::default() || accessed {
            let change = to;
            turn.mutate(Mutation::SetAttributes { ino, change, time })?;
        }
        if let Some(atime) = set.atime.map(at) {
            self.accessed.set(ino, atime);
        }
        drop(turn);
        if set.size.is_some() || set.mtime.is_some() {
            self.changed_files.note(ino);
        }
        self.tell_other_nodes(node);
        self.attr_of(node)
    }

    /// The text of a symbolic link.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        self.namespace
            .read()
            .link_text(ino)
            .ok_or(FsError::plain(FsErrorKind::Invalid))
    }

    /// The room for writing: that of the scratch directory. What was deleted has given its own back, after a sync of that. `None` if
    /// the file system is read-only.
    pub fn space(&self) -> Result<Option<Space>, FsError> {
        match &self.overlay {
            Some(overlay) => {
                overlay.reaper.wait_for_room();
                Ok(Some(overlay.disk.scratch.space()?))
            }
            None => Ok(None),
        }
    }

    /// How many inodes the base has.
    pub fn base_len(&self) -> u64 {
        self.namespace.read().base().len() as u64
    }
}

/// How many links an inode has: a directory its name, its `.` and the `..` of each directory in it; everything else its names.
fn links(namespace: &Namespace, ino: Ino, kind: Kind) -> u32 {
    match (namespace.link_count(ino), kind) {
        (1.., Kind::Dir) => namespace.subdirectories(ino).saturating_add(2),
        (names, _) => names,
    }
}

pub(crate) fn timestamp((seconds, nanoseconds): (i64, u32)) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds,
    }
}

fn system_time(time: Timestamp) -> Result<std::time::SystemTime, FsError> {
    use std::time::{Duration, SystemTime};
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(u64::from(time.nanoseconds))))
        .ok_or(FsError::plain(FsErrorKind::Invalid))
}
