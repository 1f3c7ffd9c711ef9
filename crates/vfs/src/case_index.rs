//! The names of directories without regard to case, for look-ups that found no name as it was written.
//!
//! ```text
//!     directory -> folded name -> the names that are so without regard to case, in the order of their bytes
//! ```
//!
//! The table of a directory is made when a name is missed in it for the first time, and follows each change after
//! that. So a mount in which programs write all names as they are has none. Tables that nobody used for long make
//! room for others.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use attachfs_manifest::{FoldedName, Name};
use attachfs_tree::{Ino, Kind, Mutation, Namespace};
use parking_lot::Mutex;

use crate::{FsError, FsErrorKind, Invalidation, Vfs};

/// How many names all tables have at most, unless one directory has more: each takes 200 bytes or so.
const MOST_NAMES: usize = 500_000;

/// The tables of directories. Locked under the namespace, which does not change meanwhile.
#[derive(Debug, Default)]
pub(crate) struct CaseIndex {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    of: HashMap<Ino, Table>,
    /// How many names they have together.
    names: usize,
    /// Counts the look-ups.
    now: u64,
}

#[derive(Debug)]
struct Table {
    names: HashMap<FoldedName, BTreeSet<Name>>,
    used: u64,
}

impl CaseIndex {
    /// The name in a directory that is this one without regard to case; of several the first in the order of their bytes.
    pub(crate) fn find(&self, namespace: &Namespace, dir: Ino, name: &[u8]) -> Option<Name> {
        let mut tables = self.tables.lock();
        tables.now += 1;
        let now = tables.now;
        if !tables.of.contains_key(&dir) {
            tables.make(namespace, dir);
        }
        let table = tables.of.get_mut(&dir)?;
        table.used = now;
        table.names.get(&FoldedName::of(name))?.first().cloned()
    }

    /// Follows a mutation that was applied to the namespace.
    pub(crate) fn follow(&self, namespace: &Namespace, mutation: &Mutation) {
        let mut tables = self.tables.lock();
        if tables.of.is_empty() {
            return;
        }
        for (dir, name) in changed_names(mutation) {
            let is_there = namespace.lookup(dir, name.as_bytes()).is_some();
            tables.set(dir, name, is_there);
        }
    }

    /// Forgets everything: another layer changed any names.
    pub(crate) fn clear(&self) {
        *self.tables.lock() = Tables::default();
    }
}

/// The names that a mutation gives or takes away.
fn changed_names(mutation: &Mutation) -> Vec<(Ino, &Name)> {
    match mutation {
        Mutation::CreateFile { parent, name, .. }
        | Mutation::CreateDir { parent, name, .. }
        | Mutation::CreateSymlink { parent, name, .. }
        | Mutation::CreateSpecial { parent, name, .. }
        | Mutation::Link { parent, name, .. }
        | Mutation::Unlink { parent, name, .. }
        | Mutation::RemoveDir { parent, name, .. } => vec![(*parent, name)],
        Mutation::Rename {
            from_parent,
            from_name,
            to_parent,
            to_name,
            ..
        }
        | Mutation::Exchange {
            from_parent,
            from_name,
            to_parent,
            to_name,
            ..
        } => vec![(*from_parent, from_name), (*to_parent, to_name)],
        Mutation::CopyUp { .. }
        | Mutation::SetAttributes { .. }
        | Mutation::SetXattr { .. }
        | Mutation::RemoveXattr { .. }
        | Mutation::Write { .. }
        | Mutation::Resize { .. } => Vec::new(),
    }
}

impl Tables {
    fn make(&mut self, namespace: &Namespace, dir: Ino) {
        let mut names: HashMap<FoldedName, BTreeSet<Name>> = HashMap::new();
        let mut count = 0;
        for entry in namespace.list(dir).iter() {
            let Ok(name) = Name::new(entry.name) else {
                continue;
            };
            let same = names.entry(FoldedName::of(entry.name)).or_default();
            count += usize::from(same.insert(name));
        }
        while !self.of.is_empty() && self.names + count > MOST_NAMES {
            self.drop_oldest();
        }
        self.names += count;
        let used = self.now;
        self.of.insert(dir, Table { names, used });
    }

    fn drop_oldest(&mut self) {
        let oldest = self.of.iter().min_by_key(|(_, table)| table.used);
        let Some(dir) = oldest.map(|(&dir, _)| dir) else {
            return;
        };
        if let Some(table) = self.of.remove(&dir) {
            self.names -= table.names.values().map(BTreeSet::len).sum::<usize>();
        }
    }

    fn set(&mut self, dir: Ino, name: &Name, is_there: bool) {
        let Some(table) = self.of.get_mut(&dir) else {
            return;
        };
        let folded = FoldedName::of(name.as_bytes());
        if is_there {
            let same = table.names.entry(folded).or_default();
            self.names += usize::from(same.insert(name.clone()));
        } else if let Some(same) = table.names.get_mut(&folded) {
            self.names -= usize::from(same.remove(name.as_bytes()));
            if same.is_empty() {
                table.names.remove(&folded);
            }
        }
    }
}

impl Vfs {
    /// What is at a name, and how the name is written if it is not written so.
    pub(crate) fn at_name(
        &self,
        namespace: &Namespace,
        parent: Ino,
        name: &[u8],
    ) -> Option<(Ino, Option<Name>)> {
        if let Some(ino) = namespace.lookup(parent, name) {
            return Some((ino, None));
        }
        let index = self.case_index.as_ref()?;
        if namespace.kind(parent) != Some(Kind::Dir) {
            return None;
        }
        let written = index.find(namespace, parent, name)?;
        let ino = namespace.lookup(parent, written.as_bytes())?;
        Some((ino, Some(written)))
    }

    /// The spelling that a name has in its directory; the given spelling if the directory has no such name.
    pub(crate) fn as_written(&self, namespace: &Namespace, parent: Ino, given: Name) -> Name {
        if self.case_index.is_none() {
            return given;
        }
        match self.at_name(namespace, parent, given.as_bytes()) {
            Some((_, Some(written))) => written,
            Some((_, None)) | None => given,
        }
    }

    /// Fails if a name is taken by one that differs in case. That it is not taken as it is given, the namespace checks.
    pub(crate) fn check_case(
        &self,
        namespace: &Namespace,
        parent: Ino,
        name: &Name,
    ) -> Result<(), FsError> {
        if self.case_index.is_none() {
            return Ok(());
        }
        match self.at_name(namespace, parent, name.as_bytes()) {
            Some((_, Some(_))) => Err(FsErrorKind::Exists.into()),
            Some((_, None)) | None => Ok(()),
        }
    }

    /// After a change under another spelling than a name's own: the adapter does not know that the two are one, and drops both.
    pub(crate) fn told_otherwise(&self, parent: Ino, given: &[u8], written: &Name) {
        if written.as_bytes() == given {
            return;
        }
        let given = Name::new(given).ok();
        let names = given.into_iter().chain([written.clone()]);
        self.invalidate(names.map(|name| Invalidation::Name {
            parent: parent.into(),
            name,
            after: Duration::ZERO,
        }));
    }
}
