//! lookup, getattr, setattr, readlink, statfs.

use std::time::Duration;

use attachfs_durable::{Facts, Space};
use attachfs_tree::{
    AttributeChange, BaseKind, FileContent, Ino, Kind, Mutation, Namespace, Timestamp,
};

use super::directory::{checked, kept_mode};
use crate::vfs::{Overlay, now};
use crate::{FileAttr, FsError, FsErrorKind, Invalidation, Vfs};

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
    /// Modification time.
    pub mtime: Option<SetTime>,
}

impl Vfs {
    /// What is at a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<FileAttr, FsError> {
        let namespace = self.namespace.read();
        match namespace.lookup(parent, name) {
            Some(ino) => self.attr_in(&namespace, ino),
            None => match namespace.kind(parent) {
                Some(Kind::Dir) => {
                    checked(name)?;
                    Err(FsErrorKind::NotFound.into())
                }
                Some(_) => Err(FsErrorKind::NotADirectory.into()),
                None => Err(FsErrorKind::NotFound.into()),
            },
        }
    }

    /// The attributes of an inode.
    pub fn getattr(&self, ino: Ino) -> Result<FileAttr, FsError> {
        self.attr_in(&self.namespace.read(), ino)
    }

    pub(crate) fn attr_in(&self, namespace: &Namespace, ino: Ino) -> Result<FileAttr, FsError> {
        let kind = namespace
            .kind(ino)
            .ok_or(FsError::plain(FsErrorKind::NotFound))?;
        let attributes = namespace.attributes(ino);
        let mtime = attributes.mtime.unwrap_or(self.settings.created);
        let mut attr = FileAttr {
            ino,
            kind,
            size: 0,
            blocks: 0,
            mtime,
            ctime: attributes.ctime.unwrap_or(mtime),
            perm: self.settings.perm(kind, &attributes),
            nlink: namespace.link_count(ino),
            uid: attributes.uid.unwrap_or(self.settings.uid),
            gid: attributes.gid.unwrap_or(self.settings.gid),
        };
        match kind {
            Kind::Dir => {}
            Kind::Symlink => {
                attr.size = namespace.link_text(ino).map_or(0, |text| text.len() as u64);
            }
            Kind::File => match namespace.content(ino) {
                Some(FileContent::Mapped(mapping)) => attr.size = mapping.size,
                Some(FileContent::Scratch) => {
                    let overlay = self.writable()?;
                    let facts = match self.handles.scratch(ino) {
                        Some(file) => Facts::of(&file),
                        None => overlay.disk.scratch.facts(ino),
                    };
                    let facts =
                        facts.map_err(|error| FsError::io("look at a scratch file", error))?;
                    let changed = timestamp(facts.stamp.changed());
                    attr.size = facts.stamp.size;
                    attr.blocks = facts.allocated / 512;
                    attr.mtime = timestamp(facts.stamp.modified());
                    attr.ctime = attr.ctime.max(changed);
                    return Ok(attr);
                }
                Some(FileContent::Base) | None => {
                    if let Some(BaseKind::File { size, .. }) = namespace.base().kind(ino) {
                        attr.size = size;
                    }
                }
            },
        }
        attr.blocks = attr.size.div_ceil(512);
        Ok(attr)
    }

    /// Changes attributes. A new size for a base file answers [`Stale`](FsErrorKind::Stale): the
    /// name has moved to an inode that can be written, and the call is to be made again there. Other
    /// attributes of a base file whose names have moved go to where they are now, and the kernel is told
    /// to look those names up again.
    pub fn setattr(&self, ino: Ino, set: SetAttr) -> Result<FileAttr, FsError> {
        let (overlay, _changing) = self.begin_change()?;
        if let Some(size) = set.size {
            self.truncate(ino, size)?;
        }
        let mut namespace = self.namespace.write();
        let time = now();
        let change = AttributeChange {
            mode: set.mode.map(|mode| kept_mode(namespace.kind(ino), mode)),
            uid: set.uid,
            gid: set.gid,
            mtime: set.mtime.map(|to| match to {
                SetTime::Now => time,
                SetTime::To(time) => time,
            }),
        };
        self.change(&mut namespace, overlay, ino, change, time)?;
        let mut names = Vec::new();
        if let Some(copy) = namespace.copied_up(ino)
            && namespace.kind(copy).is_some()
        {
            // Whoever still has the old number means the file.
            self.change(&mut namespace, overlay, copy, change, time)?;
            names = namespace.names(copy);
        }
        let attr = self.attr_in(&namespace, ino);
        let settle = self.listings_settle();
        drop(namespace);
        // The answer is about the old number: what the kernel has of the new one is out of date.
        for after in std::iter::once(Duration::ZERO).chain(settle) {
            let told = names.iter().cloned();
            self.invalidate(told.map(|(parent, name)| Invalidation {
                parent,
                name,
                after,
            }));
        }
        attr
    }

    fn change(
        &self,
        namespace: &mut Namespace,
        overlay: &Overlay,
        ino: Ino,
        mut change: AttributeChange,
        time: Timestamp,
    ) -> Result<(), FsError> {
        if namespace.content(ino) == Some(&FileContent::Scratch)
            && let Some(mtime) = change.mtime.take()
        {
            // The scratch file's time is the file's.
            let file = self.scratch_file(overlay, ino)?;
            let times = std::fs::FileTimes::new().set_modified(system_time(mtime)?);
            file.set_times(times)
                .map_err(|error| FsError::io("set the time of a file", error))?;
        }
        if change == AttributeChange::default() {
            return Ok(());
        }
        let set = Mutation::SetAttributes { ino, change, time };
        self.mutate(namespace, overlay, set)
    }

    /// The text of a symbolic link.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        self.namespace
            .read()
            .link_text(ino)
            .ok_or(FsError::plain(FsErrorKind::Invalid))
    }

    /// The room for writing: that of the scratch directory. `None` if nobody can write.
    pub fn space(&self) -> Result<Option<Space>, FsError> {
        match &self.overlay {
            Some(overlay) => Ok(Some(overlay.disk.scratch.space()?)),
            None => Ok(None),
        }
    }

    /// How many inodes the base has.
    pub fn base_len(&self) -> u64 {
        self.namespace.read().base().len() as u64
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
