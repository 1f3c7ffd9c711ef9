//! What stands at each name now: the base with the mutations on top.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use attachfs_manifest::{ManifestPath, Name};

use crate::mutation::AttributeChange;
use crate::{
    Attributes, BaseKind, BaseTree, ExtentSet, FileContent, Ino, Inode, InodeKind, Kind, Listing,
    Mapping, Mutation, MutationError, Timestamp,
};

/// Directories, names and inodes, as the base and all mutations so far make them.
///
/// Cloning copies what the mutations made, not the base.
#[derive(Debug, Clone)]
pub struct Namespace {
    base: Arc<BaseTree>,
    /// Inodes that mutations made, and base inodes whose attributes they changed.
    inodes: HashMap<Ino, Inode>,
    /// For each directory whose entries changed: the changed names; `None` hides a base name.
    entries: HashMap<Ino, BTreeMap<Name, Option<Ino>>>,
    /// The names of each inode whose names are not just its base name. A directory has one, or none
    /// once it is removed.
    names: HashMap<Ino, Vec<(Ino, Name)>>,
    /// Base files whose names went to a copy.
    copied_up: HashMap<Ino, Ino>,
    next: u64,
}

impl Namespace {
    /// The base, unchanged.
    pub fn new(base: Arc<BaseTree>) -> Self {
        Self {
            base,
            inodes: HashMap::new(),
            entries: HashMap::new(),
            names: HashMap::new(),
            copied_up: HashMap::new(),
            next: 0,
        }
    }

    /// The base under this namespace.
    pub fn base(&self) -> &Arc<BaseTree> {
        &self.base
    }

    /// A number that no inode ever had.
    pub fn next_ino(&self) -> Ino {
        Ino::from_overlay(self.next)
    }

    /// What is at a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Option<Ino> {
        match self.entries.get(&parent).and_then(|entries| entries.get(name)) {
            Some(entry) => *entry,
            None => self.base.child(parent, name),
        }
    }

    /// What an inode is; `None` if there is no such inode. An inode without a name counts until it
    /// is [forgotten](Self::forget).
    pub fn kind(&self, ino: Ino) -> Option<Kind> {
        match self.inodes.get(&ino) {
            Some(inode) => Some(match inode.kind {
                InodeKind::Dir => Kind::Dir,
                InodeKind::File(_) => Kind::File,
                InodeKind::Symlink(_) => Kind::Symlink,
            }),
            None => self.base.plain_kind(ino),
        }
    }

    /// The attributes that mutations set, the base's where they set none.
    pub fn attributes(&self, ino: Ino) -> Attributes {
        let mut attributes = self.inodes.get(&ino).map(|inode| inode.attributes).unwrap_or_default();
        if let Some(BaseKind::File { mtime, runnable, .. }) = self.base.kind(ino) {
            attributes.runnable = runnable;
            attributes.mtime = attributes.mtime.or(Some(mtime.into()));
        }
        attributes
    }

    /// Where a file's bytes are; `None` if it is no file.
    pub fn content(&self, ino: Ino) -> Option<&FileContent> {
        match self.inodes.get(&ino) {
            Some(Inode { kind: InodeKind::File(content), .. }) => Some(content),
            Some(_) => None,
            None => (self.base.plain_kind(ino)? == Kind::File).then_some(&FileContent::Base),
        }
    }

    /// The text of a symbolic link.
    pub fn link_text(&self, ino: Ino) -> Option<Vec<u8>> {
        if let Some(Inode { kind: InodeKind::Symlink(Some(text)), .. }) = self.inodes.get(&ino) {
            return Some(text.to_vec());
        }
        match self.base.kind(ino)? {
            BaseKind::Symlink(target) => Some(target.relative_to(&self.base.path(ino)?)),
            _ => None,
        }
    }

    /// The copy that took over the names of a base file.
    pub fn copied_up(&self, ino: Ino) -> Option<Ino> {
        self.copied_up.get(&ino).copied()
    }

    /// Every name of an inode, as directory and name there. None for the root and for what was
    /// unlinked.
    pub fn names(&self, ino: Ino) -> Vec<(Ino, Name)> {
        match self.names.get(&ino) {
            Some(names) => names.clone(),
            None => self.base_name(ino).into_iter().collect(),
        }
    }

    fn base_name(&self, ino: Ino) -> Option<(Ino, Name)> {
        if ino == Ino::ROOT {
            return None;
        }
        let name = Name::new(self.base.name(ino)?).expect("the tree was built from valid names");
        Some((self.base.parent(ino)?, name))
    }

    /// How many names an inode has; 1 for a directory that is there, whatever lies in it.
    pub fn link_count(&self, ino: Ino) -> u32 {
        if ino == Ino::ROOT {
            return 1;
        }
        self.names.get(&ino).map_or(1, |names| names.len() as u32)
    }

    /// The directory a directory is in; the root's is the root. `None` once it is removed.
    pub fn parent(&self, dir: Ino) -> Option<Ino> {
        if dir == Ino::ROOT {
            return Some(dir);
        }
        match self.names.get(&dir) {
            Some(names) => names.first().map(|&(parent, _)| parent),
            None => self.base.parent(dir),
        }
    }

    /// The path of an inode, by its first name. `None` for the root and for what has no name, and
    /// for a path that no manifest can hold.
    pub fn path(&self, ino: Ino) -> Option<ManifestPath> {
        let mut parts = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let (parent, name) = self.names(at).into_iter().next()?;
            parts.push(name);
            at = parent;
        }
        let parts: Vec<&[u8]> = parts.iter().rev().map(Name::as_bytes).collect();
        ManifestPath::new(&parts.join(&b'/')).ok()
    }

    /// Every inode that mutations made or changed.
    pub fn touched(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        self.inodes.iter().map(|(&ino, inode)| (ino, inode))
    }

    /// The changed names of every directory; `None` hides a base name.
    pub(crate) fn changed_entries(&self) -> &HashMap<Ino, BTreeMap<Name, Option<Ino>>> {
        &self.entries
    }

    /// What a directory holds now.
    pub fn list(&self, dir: Ino) -> Listing {
        let Some(changed) = self.entries.get(&dir) else {
            return Listing::base(self.base.clone(), dir);
        };
        let kind = |ino| self.kind(ino).expect("an entry's inode is there");
        let mut merged = Vec::with_capacity(self.base.children(dir).len() + changed.len());
        let mut changed = changed.iter().peekable();
        for child in self.base.children(dir) {
            let name = self.base.name(child).expect("a child of the tree");
            while let Some((changed_name, entry)) = changed.next_if(|(new, _)| new.as_bytes() < name) {
                merged.extend(entry.map(|ino| (changed_name.clone(), ino, kind(ino))));
            }
            match changed.next_if(|(new, _)| new.as_bytes() == name) {
                Some((changed_name, entry)) => {
                    merged.extend(entry.map(|ino| (changed_name.clone(), ino, kind(ino))));
                }
                None => merged.push((
                    Name::new(name).expect("the tree was built from valid names"),
                    child,
                    kind(child),
                )),
            }
        }
        for (name, entry) in changed {
            merged.extend(entry.map(|ino| (name.clone(), ino, kind(ino))));
        }
        Listing::merged(merged)
    }

    fn is_empty_dir(&self, dir: Ino) -> bool {
        let Some(changed) = self.entries.get(&dir) else {
            return self.base.children(dir).len() == 0;
        };
        changed.values().all(Option::is_none)
            && self.base.children(dir).all(|child| {
                let name = self.base.name(child).expect("a child of the tree");
                changed.contains_key(name)
            })
    }

    /// Whether `dir` is `ancestor` or lies below it.
    pub fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.parent(at) {
                Some(parent) if parent != at => at = parent,
                _ => return false,
            }
        }
    }

    /// Checks that a mutation applies, without applying it.
    pub fn check(&self, mutation: &Mutation) -> Result<(), MutationError> {
        match mutation {
            Mutation::CreateFile { parent, name, ino, .. }
            | Mutation::CreateDir { parent, name, ino, .. }
            | Mutation::CreateSymlink { parent, name, ino, .. } => {
                self.check_free(*parent, name)?;
                self.check_new(*ino)
            }
            Mutation::Link { ino, parent, name, .. } => {
                self.check_free(*parent, name)?;
                match self.kind(*ino).ok_or(MutationError::NoInode(*ino))? {
                    Kind::Dir => Err(MutationError::IsDir(*ino)),
                    Kind::File | Kind::Symlink => Ok(()),
                }
            }
            Mutation::Unlink { parent, name, .. } => {
                let (ino, kind) = self.entry(*parent, name)?;
                if kind == Kind::Dir { Err(MutationError::IsDir(ino)) } else { Ok(()) }
            }
            Mutation::RemoveDir { parent, name, .. } => {
                let (ino, kind) = self.entry(*parent, name)?;
                self.check_empty_dir(ino, kind)
            }
            Mutation::Rename { from_parent, from_name, to_parent, to_name, .. } => {
                let (ino, kind) = self.entry(*from_parent, from_name)?;
                self.check_dir(*to_parent)?;
                if kind == Kind::Dir && self.is_within(*to_parent, ino) {
                    return Err(MutationError::BelowItself(ino));
                }
                match self.lookup(*to_parent, to_name.as_bytes()) {
                    None => Ok(()),
                    Some(target) if target == ino => Ok(()),
                    Some(target) => {
                        let target_kind = self.kind(target).ok_or(MutationError::NoInode(target))?;
                        match (kind, target_kind) {
                            (Kind::Dir, _) => self.check_empty_dir(target, target_kind),
                            (_, Kind::Dir) => Err(MutationError::IsDir(target)),
                            _ => Ok(()),
                        }
                    }
                }
            }
            Mutation::SetAttributes { ino, .. } => {
                self.kind(*ino).map(|_| ()).ok_or(MutationError::NoInode(*ino))
            }
            Mutation::CopyUp { from, to, .. } => {
                self.check_new(*to)?;
                match self.content(*from) {
                    Some(FileContent::Base) => Ok(()),
                    _ => Err(MutationError::WrongContent(*from)),
                }
            }
            Mutation::Write { ino, .. } | Mutation::Resize { ino, .. } => match self.content(*ino) {
                Some(FileContent::Mapped(_)) => Ok(()),
                _ => Err(MutationError::WrongContent(*ino)),
            },
        }
    }

    fn check_dir(&self, dir: Ino) -> Result<(), MutationError> {
        match self.kind(dir).ok_or(MutationError::NoInode(dir))? {
            Kind::Dir if self.parent(dir).is_some() => Ok(()),
            Kind::Dir => Err(MutationError::NoInode(dir)),
            _ => Err(MutationError::NotDir(dir)),
        }
    }

    fn check_free(&self, parent: Ino, name: &Name) -> Result<(), MutationError> {
        self.check_dir(parent)?;
        match self.lookup(parent, name.as_bytes()) {
            None => Ok(()),
            Some(_) => Err(MutationError::Exists { parent, name: name.clone() }),
        }
    }

    fn check_new(&self, ino: Ino) -> Result<(), MutationError> {
        match ino.overlay_counter() {
            Some(counter) if counter >= self.next => Ok(()),
            _ => Err(MutationError::InodeTaken(ino)),
        }
    }

    fn check_empty_dir(&self, ino: Ino, kind: Kind) -> Result<(), MutationError> {
        if kind != Kind::Dir {
            return Err(MutationError::NotDir(ino));
        }
        if self.is_empty_dir(ino) { Ok(()) } else { Err(MutationError::NotEmpty(ino)) }
    }

    fn entry(&self, parent: Ino, name: &Name) -> Result<(Ino, Kind), MutationError> {
        self.check_dir(parent)?;
        let ino = self
            .lookup(parent, name.as_bytes())
            .ok_or_else(|| MutationError::NoName { parent, name: name.clone() })?;
        Ok((ino, self.kind(ino).ok_or(MutationError::NoInode(ino))?))
    }

    /// Applies a mutation, or changes nothing. Returns the inode that lost its last name by it, if
    /// one did: whoever has it open may go on, then it is to be [forgotten](Self::forget).
    pub fn apply(&mut self, mutation: &Mutation) -> Result<Option<Ino>, MutationError> {
        self.check(mutation)?;
        match mutation.clone() {
            Mutation::CreateFile { parent, name, ino, attributes, time } => {
                let kind = InodeKind::File(FileContent::Scratch);
                self.create(parent, name, ino, kind, attributes, time);
            }
            Mutation::CreateDir { parent, name, ino, attributes, time } => {
                self.create(parent, name, ino, InodeKind::Dir, attributes, time);
                self.entries.insert(ino, BTreeMap::new());
            }
            Mutation::CreateSymlink { parent, name, ino, text, attributes, time } => {
                self.create(parent, name, ino, InodeKind::Symlink(Some(text)), attributes, time);
            }
            Mutation::Link { ino, parent, name, time } => {
                self.add_name(ino, parent, name);
                self.record(ino).attributes.ctime = Some(time);
                self.touch_dir(parent, time);
            }
            Mutation::Unlink { parent, name, time } | Mutation::RemoveDir { parent, name, time } => {
                let ino = self.lookup(parent, name.as_bytes());
                self.touch_dir(parent, time);
                if let Some(ino) = ino {
                    return Ok(self.remove_name(ino, parent, &name, time));
                }
            }
            Mutation::Rename { from_parent, from_name, to_parent, to_name, time } => {
                let ino = self.lookup(from_parent, from_name.as_bytes());
                let target = self.lookup(to_parent, to_name.as_bytes());
                if ino == target {
                    // Two names of one file: rename(2) does nothing.
                    return Ok(None);
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
                return Ok(orphan);
            }
            Mutation::SetAttributes { ino, change, time } => self.set_attributes(ino, change, time),
            Mutation::CopyUp { from, to, keep, time } => self.copy_up(from, to, keep, time),
            Mutation::Write { ino, offset, len, time } => {
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
        Ok(None)
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
        let attributes = Attributes { mtime: Some(time), ctime: Some(time), ..attributes };
        self.take_number(ino);
        self.inodes.insert(ino, Inode { kind, attributes });
        self.names.insert(ino, Vec::new());
        self.add_name(ino, parent, name);
        self.touch_dir(parent, time);
    }

    fn take_number(&mut self, ino: Ino) {
        if let Some(counter) = ino.overlay_counter() {
            self.next = self.next.max(counter + 1);
        }
    }

    fn add_name(&mut self, ino: Ino, parent: Ino, name: Name) {
        self.entries.entry(parent).or_default().insert(name.clone(), Some(ino));
        let base_name = self.base_name(ino);
        self.names.entry(ino).or_insert_with(|| base_name.into_iter().collect()).push((parent, name));
    }

    fn remove_name(&mut self, ino: Ino, parent: Ino, name: &Name, time: Timestamp) -> Option<Ino> {
        let entries = self.entries.entry(parent).or_default();
        if self.base.child(parent, name.as_bytes()).is_some() {
            entries.insert(name.clone(), None);
        } else {
            entries.remove(name);
        }
        let base_name = self.base_name(ino);
        let names = self.names.entry(ino).or_insert_with(|| base_name.into_iter().collect());
        names.retain(|(dir, known)| (*dir, known) != (parent, name));
        let orphan = names.is_empty();
        self.record(ino).attributes.ctime = Some(time);
        orphan.then_some(ino)
    }

    /// The overlay's record of an inode, made now if it has none.
    fn record(&mut self, ino: Ino) -> &mut Inode {
        let base = &self.base;
        self.inodes.entry(ino).or_insert_with(|| {
            let kind = match base.plain_kind(ino) {
                Some(Kind::File) => InodeKind::File(FileContent::Base),
                Some(Kind::Symlink) => InodeKind::Symlink(None),
                Some(Kind::Dir) | None => InodeKind::Dir,
            };
            Inode { kind, attributes: Attributes::default() }
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

    fn copy_up(&mut self, from: Ino, to: Ino, keep: u64, time: Timestamp) {
        let Some(BaseKind::File { size, .. }) = self.base.kind(from) else {
            return;
        };
        let mut attributes = self.attributes(from);
        attributes.ctime = Some(time);
        let keep = keep.min(size);
        let content = if keep == 0 && size > 0 {
            FileContent::Scratch
        } else {
            if keep < size {
                attributes.mtime = Some(time);
            }
            let written = ExtentSet::default();
            FileContent::Mapped(Mapping { base: from, base_limit: keep, size: keep, written })
        };
        self.take_number(to);
        let names = self.names(from);
        for (parent, name) in &names {
            self.entries.entry(*parent).or_default().insert(name.clone(), Some(to));
        }
        self.names.insert(from, Vec::new());
        self.names.insert(to, names);
        self.copied_up.insert(from, to);
        self.inodes.insert(to, Inode { kind: InodeKind::File(content), attributes });
    }

    fn mapping(&mut self, ino: Ino, time: Timestamp) -> Option<&mut Mapping> {
        let inode = self.inodes.get_mut(&ino)?;
        inode.attributes.mtime = Some(time);
        inode.attributes.ctime = Some(time);
        match &mut inode.kind {
            InodeKind::File(FileContent::Mapped(mapping)) => Some(mapping),
            _ => None,
        }
    }

    /// Drops the record of an inode that has no name and that nobody has open any more.
    pub fn forget(&mut self, ino: Ino) {
        if self.names.get(&ino).is_some_and(Vec::is_empty) && !self.base.contains(ino) {
            self.inodes.remove(&ino);
            self.names.remove(&ino);
            self.entries.remove(&ino);
        }
    }
}
