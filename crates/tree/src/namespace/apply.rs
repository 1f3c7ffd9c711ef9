//! What a mutation does to the namespace, once it was checked.

use std::sync::Arc;

use attachfs_manifest::Name;
use imbl::OrdMap;

use super::{Checked, Namespace};
use crate::mutation::AttributeChange;
use crate::{
    Attributes, BaseKind, ExtentSet, FileContent, Ino, Inode, InodeKind, Kind, Mapping, Mutation,
    MutationError, Timestamp,
};

/// What a name of a directory leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leads {
    To(Ino),
    Nowhere,
    AsInBase,
}

impl Namespace {
    /// Applies a mutation, or changes nothing. Returns the inode that lost its last name by it, if
    /// one did: it can be used as long as it is open; after that the caller has to
    /// [forget](Self::forget) it.
    pub fn apply(&mut self, mutation: &Mutation) -> Result<Option<Ino>, MutationError> {
        let checked = self.check(mutation.clone())?;
        Ok(self.apply_checked(checked))
    }

    /// As [`apply`](Self::apply), for a mutation that was checked against the namespace as it is now: the
    /// caller prevents other changes between the check and this.
    pub fn apply_checked(&mut self, checked: Checked) -> Option<Ino> {
        match checked.into_mutation() {
            Mutation::CreateFile {
                parent,
                name,
                ino,
                attributes,
                time,
            } => {
                let kind = InodeKind::File(FileContent::Scratch);
                self.create(parent, name, ino, kind, attributes, time);
            }
            Mutation::CreateDir {
                parent,
                name,
                ino,
                attributes,
                time,
            } => {
                self.create(parent, name, ino, InodeKind::Dir, attributes, time);
                self.entries.insert(ino, OrdMap::new());
            }
            Mutation::CreateSymlink {
                parent,
                name,
                ino,
                text,
                attributes,
                time,
            } => {
                self.create(
                    parent,
                    name,
                    ino,
                    InodeKind::Symlink(Some(text)),
                    attributes,
                    time,
                );
            }
            Mutation::CreateSpecial {
                parent,
                name,
                ino,
                special,
                attributes,
                time,
            } => {
                let kind = InodeKind::Special(special);
                self.create(parent, name, ino, kind, attributes, time);
            }
            Mutation::Link {
                ino,
                parent,
                name,
                time,
            } => {
                self.add_name(ino, parent, name);
                self.record(ino).attributes.ctime = Some(time);
                self.touch_dir(parent, time);
            }
            Mutation::Unlink { parent, name, time }
            | Mutation::RemoveDir { parent, name, time } => {
                let ino = self.lookup(parent, name.as_bytes());
                self.touch_dir(parent, time);
                if let Some(ino) = ino {
                    return self.remove_name(ino, parent, &name, time);
                }
            }
            Mutation::Rename {
                from_parent,
                from_name,
                to_parent,
                to_name,
                time,
            } => {
                let ino = self.lookup(from_parent, from_name.as_bytes());
                let target = self.lookup(to_parent, to_name.as_bytes());
                if ino == target {
                    // Two names of one file: rename(2) does nothing.
                    return None;
                }
                let mut orphan = None;
                if let Some(target) = target {
                    orphan = self.remove_name(target, to_parent, &to_name, time);
                }
                if let Some(ino) = ino {
                    self.add_name(ino, to_parent, to_name);
                    self.remove_name(ino, from_parent, &from_name, time);
                }
                self.touch_dir(from_parent, time);
                self.touch_dir(to_parent, time);
                return orphan;
            }
            Mutation::Exchange {
                from_parent,
                from_name,
                to_parent,
                to_name,
                time,
            } => self.exchange((from_parent, from_name), (to_parent, to_name), time),
            Mutation::SetAttributes { ino, change, time } => self.set_attributes(ino, change, time),
            Mutation::SetXattr {
                ino,
                name,
                value,
                time,
            } => {
                let all = self.xattrs.entry(ino).or_default();
                Arc::make_mut(all).insert(name, value);
                self.record(ino).attributes.ctime = Some(time);
            }
            Mutation::RemoveXattr { ino, name, time } => {
                let all = self.xattrs.entry(ino).or_default();
                Arc::make_mut(all).remove(&name);
                if all.is_empty() {
                    self.xattrs.remove(&ino);
                }
                self.record(ino).attributes.ctime = Some(time);
            }
            Mutation::CopyUp { ino, keep, time } => self.copy_up(ino, keep, time),
            Mutation::Write {
                ino,
                offset,
                len,
                time,
            } => {
                if let Some(mapping) = self.mapping(ino, time) {
                    let end = offset.saturating_add(len);
                    mapping.written.insert(offset..end);
                    mapping.size = mapping.size.max(end);
                }
            }
            Mutation::Resize { ino, size, time } => {
                if let Some(mapping) = self.mapping(ino, time) {
                    mapping.size = size;
                    mapping.base_limit = mapping.base_limit.min(size);
                    mapping.written.truncate(size);
                }
            }
        }
        None
    }

    fn create(
        &mut self,
        parent: Ino,
        name: Name,
        ino: Ino,
        kind: InodeKind,
        attributes: Attributes,
        time: Timestamp,
    ) {
        let attributes = Attributes {
            mtime: Some(time),
            ctime: Some(time),
            ..attributes
        };
        self.take_number(ino);
        self.inodes.insert(ino, Inode { kind, attributes });
        self.set_entry(parent, name.clone(), Leads::To(ino));
        self.names.insert(ino, vec![(parent, name)]);
        self.touch_dir(parent, time);
    }

    /// Says what a name of a directory leads to. All that changes names comes here, so that directories are counted.
    pub(super) fn set_entry(&mut self, parent: Ino, name: Name, leads: Leads) {
        let was = self.is_dir(self.lookup(parent, name.as_bytes()));
        let is = self.is_dir(match leads {
            Leads::To(ino) => Some(ino),
            Leads::Nowhere => None,
            Leads::AsInBase => self.base.child(parent, name.as_bytes()),
        });
        if was != is {
            let count = self.subdirectories(parent) + u32::from(is);
            let count = count.saturating_sub(was.into());
            self.subdirectories.insert(parent, count);
        }
        let entries = self.entries.entry(parent).or_default();
        match leads {
            Leads::To(ino) => entries.insert(name, Some(ino)),
            Leads::Nowhere => entries.insert(name, None),
            Leads::AsInBase => entries.remove(&name),
        };
    }

    fn take_number(&mut self, ino: Ino) {
        if let Some(counter) = ino.overlay_counter() {
            self.next = self.next.max(counter + 1);
        }
    }

    fn add_name(&mut self, ino: Ino, parent: Ino, name: Name) {
        self.set_entry(parent, name.clone(), Leads::To(ino));
        let base_name = self.base_name(ino);
        self.names
            .entry(ino)
            .or_insert_with(|| base_name.into_iter().collect())
            .push((parent, name));
    }

    fn exchange(&mut self, from: (Ino, Name), to: (Ino, Name), time: Timestamp) {
        let at = |(parent, name): &(Ino, Name)| self.lookup(*parent, name.as_bytes());
        let (Some(one), Some(other)) = (at(&from), at(&to)) else {
            return;
        };
        if one == other {
            // Two names of one file: rename(2) does nothing.
            return;
        }
        for (ino, was, is) in [(one, &from, &to), (other, &to, &from)] {
            let (parent, name) = is.clone();
            self.set_entry(parent, name, Leads::To(ino));
            let base_name = self.base_name(ino);
            let names = self.names.entry(ino);
            let names = names.or_insert_with(|| base_name.into_iter().collect());
            for place in names.iter_mut().filter(|place| *place == was) {
                place.clone_from(is);
            }
            self.record(ino).attributes.ctime = Some(time);
        }
        self.touch_dir(from.0, time);
        self.touch_dir(to.0, time);
    }

    fn remove_name(&mut self, ino: Ino, parent: Ino, name: &Name, time: Timestamp) -> Option<Ino> {
        let hides = self.base.child(parent, name.as_bytes()).is_some();
        let leads = if hides {
            Leads::Nowhere
        } else {
            Leads::AsInBase
        };
        self.set_entry(parent, name.clone(), leads);
        let base_name = self.base_name(ino);
        let names = self
            .names
            .entry(ino)
            .or_insert_with(|| base_name.into_iter().collect());
        names.retain(|(dir, known)| (*dir, known) != (parent, name));
        let orphan = names.is_empty();
        self.record(ino).attributes.ctime = Some(time);
        orphan.then_some(ino)
    }

    /// The overlay's record of an inode, made now if it has none.
    fn record(&mut self, ino: Ino) -> &mut Inode {
        if !self.inodes.contains_key(&ino)
            && self.base.plain_kind(ino) == Some(Kind::File)
            && self.base.place(ino).is_none()
        {
            // A layer took its name while somebody had it open: the record goes with the last who does.
            self.names.entry(ino).or_default();
        }
        let base = &self.base;
        self.inodes.entry(ino).or_insert_with(|| {
            let kind = match base.plain_kind(ino) {
                Some(Kind::File) => InodeKind::File(FileContent::Base),
                Some(Kind::Symlink) => InodeKind::Symlink(None),
                Some(Kind::Special(special)) => InodeKind::Special(special),
                Some(Kind::Dir) | None => InodeKind::Dir,
            };
            Inode {
                kind,
                attributes: Attributes::default(),
            }
        })
    }

    fn touch_dir(&mut self, dir: Ino, time: Timestamp) {
        let attributes = &mut self.record(dir).attributes;
        attributes.mtime = Some(time);
        attributes.ctime = Some(time);
    }

    fn set_attributes(&mut self, ino: Ino, change: AttributeChange, time: Timestamp) {
        let attributes = &mut self.record(ino).attributes;
        attributes.mode = change.mode.or(attributes.mode);
        attributes.uid = change.uid.or(attributes.uid);
        attributes.gid = change.gid.or(attributes.gid);
        attributes.mtime = change.mtime.or(attributes.mtime);
        attributes.ctime = Some(time);
    }

    fn copy_up(&mut self, ino: Ino, keep: u64, time: Timestamp) {
        let Some(BaseKind::File { size, .. }) = self.base.kind(ino) else {
            return;
        };
        let keep = keep.min(size);
        let content = if keep == 0 && size > 0 {
            FileContent::Scratch
        } else {
            FileContent::Mapped(Arc::new(Mapping {
                base: ino,
                base_limit: keep,
                size: keep,
                written: ExtentSet::default(),
            }))
        };
        let inode = self.record(ino);
        inode.kind = InodeKind::File(content);
        if keep < size {
            inode.attributes.mtime = Some(time);
            inode.attributes.ctime = Some(time);
        }
    }

    fn mapping(&mut self, ino: Ino, time: Timestamp) -> Option<&mut Mapping> {
        let inode = self.inodes.get_mut(&ino)?;
        inode.attributes.mtime = Some(time);
        inode.attributes.ctime = Some(time);
        match &mut inode.kind {
            // A commit that is running keeps the copy that it froze.
            InodeKind::File(FileContent::Mapped(mapping)) => Some(Arc::make_mut(mapping)),
            _ => None,
        }
    }

    /// Drops the record of an inode that has no name and is not open any more.
    pub fn forget(&mut self, ino: Ino) {
        if self.is_removed(ino) {
            self.inodes.remove(&ino);
            self.entries.remove(&ino);
            self.subdirectories.remove(&ino);
            self.xattrs.remove(&ino);
            if !self.base.contains(ino) {
                self.names.remove(&ino);
            }
        }
    }
}
