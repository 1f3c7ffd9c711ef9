//! Directories, links and deletions: the quick acts of a download.

use std::io;

use attachfs_durable::{HeldDir, Kind, Refusal};
use attachfs_manifest::{ContentHash, ManifestPath, PathRef};

use super::conflict::{Conflict, Occupant, Resolution, occupant_of, resolve};
use super::leading::RootNames;
use super::names::new_part_name;
use super::options::Permissions;
use super::paths::parent_bytes;
use super::stamps::{is_same_inode, is_unchanged};
use super::step::{Deletion, LinkStep};

/// How often something unfinished is made again that another download took for left behind.
const TRIES: u32 = 3;

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
    pub(super) fn holding(&mut self, path: PathRef<'_>) -> io::Result<&HeldDir> {
        let parent = parent_bytes(path);
        if self.open.as_ref().is_none_or(|(dir, _)| dir != parent) {
            self.open = Some((parent.to_vec(), self.root.dir(parent)?));
        }
        match &self.open {
            Some((_, dir)) => Ok(dir),
            None => Err(Refusal::NotThere.into()),
        }
    }

    /// Makes a directory, if none is there by now.
    pub(super) fn make(&mut self, path: &ManifestPath, share: Permissions) -> io::Result<()> {
        make_dir(
            self.holding(path.borrowed())?,
            path.borrowed().name(),
            share,
        )
    }

    /// Makes a link. `copies` are the names that it may have beside what has its own.
    pub(super) fn link(
        &mut self,
        step: &LinkStep,
        conflict: Conflict,
        names: &RootNames,
        copies: impl Iterator<Item = io::Result<(Vec<u8>, ManifestPath)>>,
    ) -> io::Result<Linked> {
        let text = step.target.relative_to(&step.path);
        let root = self.root;
        let leads_there = |path: &ManifestPath, text: &[u8]| {
            names.destination(root, path, text).as_ref() == Some(&step.target)
        };
        let holding = self.holding(step.path.borrowed())?;
        let name = step.path.borrowed().name();
        let mut taken = step.taken;
        loop {
            let Some(occupant) = taken else {
                match holding.create_link(name, &text) {
                    // It came since.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        taken = Some(occupant_of(holding, name)?.unwrap_or(Occupant::Other));
                        // Another download of the same was faster.
                        if taken == Some(Occupant::Link)
                            && leads_there(&step.path, &holding.read_link(name)?)
                        {
                            return Ok(Linked::There);
                        }
                        continue;
                    }
                    made => return made.map(|()| Linked::Made),
                }
            };
            return match resolve(conflict, occupant) {
                Resolution::Leave(why) => Ok(Linked::Left(why)),
                Resolution::Refuse(why) => Err(io::Error::new(io::ErrorKind::AlreadyExists, why)),
                Resolution::Replace => replace_by_link(holding, name, &text),
                Resolution::Copy => copy_link(holding, &text, leads_there, copies),
            };
        }
    }

    /// Deletes what the plan says. `None` if it is gone; what is left, and why, otherwise.
    pub(super) fn delete(&mut self, deletion: &Deletion) -> io::Result<Option<&'static str>> {
        let name = deletion.path.borrowed().name();
        let deleted = self
            .holding(deletion.path.borrowed())
            .and_then(|holding| delete_at(holding, name, deletion));
        match deleted {
            Ok(left) => Ok(left),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Ok(Some(
                    "there is something in it that the manifest does not know",
                )),
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                    Ok(Some(SOMETHING_ELSE))
                }
                _ => Err(error),
            },
        }
    }
}

const SOMETHING_ELSE: &str = "it is something else now";

fn delete_at(
    holding: &HeldDir,
    name: &[u8],
    deletion: &Deletion,
) -> io::Result<Option<&'static str>> {
    let Some(facts) = holding.look(name)? else {
        return Ok(None);
    };
    match (deletion.is_dir, facts.kind) {
        (true, Kind::Dir) if is_same_inode(&facts.stamp, &deletion.stamp) => {
            holding.remove_dir(name)?;
        }
        (false, Kind::File | Kind::Link) if is_unchanged(&facts.stamp, &deletion.stamp) => {
            holding.remove_file(name)?;
        }
        (true, Kind::Dir) | (false, Kind::File | Kind::Link) => {
            return Ok(Some("it was changed while everything else was placed"));
        }
        _ => return Ok(Some(SOMETHING_ELSE)),
    }
    Ok(None)
}

/// Makes a directory, if none is there by now. One that is to be shared is before it gets its name, so
/// that whoever finds one need not ask.
pub(super) fn make_dir(holding: &HeldDir, name: &[u8], share: Permissions) -> io::Result<()> {
    let made = if share.add_dir_mode != 0 || share.group.is_some() {
        beside(ContentHash::of(name), |other| {
            make_shared(holding, other, name, share)
        })
    } else {
        holding.create_dir(name, 0o777)
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match holding.look(name)? {
            Some(facts) if facts.kind == Kind::Dir => Ok(()),
            _ => Err(error),
        },
        made => made,
    }
}

fn make_shared(holding: &HeldDir, other: &[u8], name: &[u8], share: Permissions) -> io::Result<()> {
    holding.create_dir(other, 0o777)?;
    let named = holding
        .dir(other)
        .and_then(|dir| dir.share(share.add_dir_mode, share.group))
        .and_then(|()| holding.rename_to_free(other, holding, name));
    let error = match named {
        Ok(true) => return Ok(()),
        Ok(false) => io::ErrorKind::AlreadyExists.into(),
        Err(error) => error,
    };
    removed(holding.remove_dir(other));
    Err(error)
}

/// Does it under a name that nobody can guess, and again if that was taken for left behind meanwhile.
fn beside(key: ContentHash, mut make: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match make(&new_part_name(key)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
            made => return made,
        }
    }
}

/// What cannot be removed now, the next download removes.
fn removed(removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::debug!(%error, "something unfinished stays behind");
    }
}

/// What became of a link.
pub(super) enum Linked {
    Made,
    /// Made under this name, beside what has its own.
    Copied(Vec<u8>),
    /// It, or a copy of it, is there.
    There,
    /// Not made, since this is in its place.
    Left(&'static str),
}

/// Puts a link over a file or link, which is there until the link is.
fn replace_by_link(dir: &HeldDir, name: &[u8], text: &[u8]) -> io::Result<Linked> {
    beside(ContentHash::of(text), |other| {
        dir.create_link(other, text)?;
        dir.rename(other, dir, name)
            .inspect_err(|_| removed(dir.remove_file(other)))
    })?;
    Ok(Linked::Made)
}

/// Makes a link under the first name of a copy that is free, unless one of those before leads
/// to the same place.
fn copy_link(
    dir: &HeldDir,
    text: &[u8],
    leads_there: impl Fn(&ManifestPath, &[u8]) -> bool,
    copies: impl Iterator<Item = io::Result<(Vec<u8>, ManifestPath)>>,
) -> io::Result<Linked> {
    for copy in copies {
        let (name, path) = copy?;
        match dir.create_link(&name, text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_same = occupant_of(dir, &name)? == Some(Occupant::Link)
                    && leads_there(&path, &dir.read_link(&name)?);
                if is_same {
                    return Ok(Linked::There);
                }
            }
            made => return made.map(|()| Linked::Copied(name)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
