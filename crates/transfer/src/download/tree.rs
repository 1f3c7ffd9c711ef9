//! Directories, links and deletions: the quick acts of a download, in the order of the plan.

use std::io;

use attachfs_durable::{HeldDir, Kind};
use attachfs_manifest::{ManifestPath, PathRef};
use rustix::io::Errno;

use super::names::copy_name;
use super::plan::{Conflict, Deletion, LinkStep, Occupant, Resolution, resolve};
use super::survey::parent_bytes;
use super::{Permissions, Remark};
use crate::Failed;

/// Directories of one root, opened one after the other.
pub(super) struct Dirs<'a> {
    root: &'a HeldDir,
    open: Option<(Vec<u8>, HeldDir)>,
}

impl<'a> Dirs<'a> {
    pub(super) fn new(root: &'a HeldDir) -> Self {
        Self { root, open: None }
    }

    /// The directory that holds `path`.
    fn holding(&mut self, path: PathRef<'_>) -> io::Result<&HeldDir> {
        let parent = parent_bytes(path);
        if self.open.as_ref().is_none_or(|(dir, _)| dir != parent) {
            self.open = Some((parent.to_vec(), self.root.dir(parent)?));
        }
        match &self.open {
            Some((_, dir)) => Ok(dir),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Makes a directory, if none is there by now.
    pub(super) fn make(&mut self, path: &ManifestPath, share: Permissions) -> io::Result<()> {
        let holding = self.holding(path.borrowed())?;
        let name = path.borrowed().name();
        match holding.create_dir(name, 0o777) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return match holding.look(name)? {
                    Some(facts) if facts.kind == Kind::Dir => Ok(()),
                    _ => Err(error),
                };
            }
            made => made?,
        }
        if share.add_dir_mode != 0 || share.group.is_some() {
            holding.dir(name)?.share(share.add_dir_mode, share.group)?;
        }
        Ok(())
    }

    /// Makes a link.
    pub(super) fn link(&mut self, step: &LinkStep, conflict: Conflict) -> io::Result<Linked> {
        let text = step.target.relative_to(&step.path);
        let holding = self.holding(step.path.borrowed())?;
        let name = step.path.borrowed().name();
        let mut taken = step.taken;
        loop {
            let Some(occupant) = taken else {
                match holding.create_link(name, &text) {
                    // It came since.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        taken = Some(occupant_of(holding, name)?.unwrap_or(Occupant::Other));
                        continue;
                    }
                    made => return made.map(|()| Linked::Made),
                }
            };
            return match resolve(conflict, occupant) {
                Resolution::Leave(why) => Ok(Linked::Left(why)),
                Resolution::Refuse(why) => Err(io::Error::new(io::ErrorKind::AlreadyExists, why)),
                Resolution::Replace => replace_by_link(holding, name, &text),
                Resolution::Copy => copy_link(holding, name, &text),
            };
        }
    }

    /// Deletes what the plan says. `None` if it is gone; what is left, and why, otherwise.
    pub(super) fn delete(&mut self, deletion: &Deletion) -> io::Result<Option<&'static str>> {
        let holding = self.holding(deletion.path.borrowed());
        let name = deletion.path.borrowed().name();
        let deleted = holding.and_then(|holding| {
            if deletion.is_dir {
                holding.remove_dir(name)
            } else {
                holding.remove_file(name)
            }
        });
        match deleted {
            Ok(()) => Ok(None),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Ok(None),
                Some(Errno::NOTEMPTY | Errno::EXIST) => Ok(Some(
                    "there is something in it that the manifest does not know",
                )),
                Some(Errno::NOTDIR | Errno::ISDIR) => Ok(Some("it is something else now")),
                _ => Err(error),
            },
        }
    }
}

/// What became of a link.
pub(super) enum Linked {
    Made,
    /// Made under this name, beside what has its own.
    Copied(Vec<u8>),
    /// A copy of it was there.
    There,
    /// Not made, since this is in its place.
    Left(&'static str),
}

/// What stands at a name, if anything does.
pub(super) fn occupant_of(dir: &HeldDir, name: &[u8]) -> io::Result<Option<Occupant>> {
    Ok(dir.look(name)?.map(|facts| match facts.kind {
        Kind::Dir => Occupant::Dir,
        Kind::File => Occupant::File,
        Kind::Link => Occupant::Link,
        Kind::Other => Occupant::Other,
    }))
}

/// Puts a link over a file or link, which is there until the link is.
fn replace_by_link(dir: &HeldDir, name: &[u8], text: &[u8]) -> io::Result<Linked> {
    let key = attachfs_manifest::ContentHash::of(text);
    let beside = super::part::new_name(key)?;
    dir.create_link(&beside, text)?;
    if let Err(error) = dir.rename(&beside, name) {
        dir.remove_file(&beside)?;
        return Err(error);
    }
    Ok(Linked::Made)
}

/// Makes a link under the first name of a copy that is free, unless one of those before is the same.
fn copy_link(dir: &HeldDir, name: &[u8], text: &[u8]) -> io::Result<Linked> {
    let mut number = 1;
    loop {
        let copy = copy_name(name, number);
        match dir.create_link(&copy, text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_same = occupant_of(dir, &copy)? == Some(Occupant::Link)
                    && dir.read_link(&copy)? == text;
                if is_same {
                    return Ok(Linked::There);
                }
            }
            made => return made.map(|()| Linked::Copied(copy)),
        }
        number += 1;
    }
}

/// What became of deletions.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    pub(super) count: u64,
    pub(super) left: Vec<Remark>,
    pub(super) failed: Vec<Failed>,
}

impl Deleted {
    /// Deletes all of these, as far as they can be.
    pub(super) fn delete(&mut self, root: &HeldDir, deletions: &[Deletion]) {
        let mut dirs = Dirs::new(root);
        for deletion in deletions {
            match dirs.delete(deletion) {
                Ok(None) => self.count += 1,
                Ok(Some(why)) => self.leave(deletion, why),
                Err(error) => self.failed.push(Failed {
                    path: deletion.path.to_string(),
                    error: format!("cannot delete it: {error}"),
                }),
            }
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.count += more.count;
        self.left.extend(more.left);
        self.failed.extend(more.failed);
    }

    /// Notes that it is not deleted.
    pub(super) fn leave(&mut self, deletion: &Deletion, why: &str) {
        self.left.push(Remark {
            path: deletion.path.to_string(),
            why: why.to_owned(),
        });
    }
}
