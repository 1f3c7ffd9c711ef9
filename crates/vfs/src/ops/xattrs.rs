//! Extended attributes: where a file comes from, for scripts, and those that programs set.
//!
//! ```text
//!     user.attachfs.hash     of a file as its manifest says: the hash of each chunk, one a line
//!     user.attachfs.cached   of a file: all, none, or how many of its bytes are on this machine, as "4096/10000"
//!     user.attachfs.layer    the number of the manifest and its name, as `attachfs layers` lists them; or local
//! ```
//!
//! They are read by their names and not listed: programs that copy whatever is listed (`cp -a`, `rsync -X`, `tar
//! --xattrs`) would give them to copies, of which they are not true. Nobody can set them.
//!
//! Others are kept with the inode, in memory and in the journal. No manifest has them. What the kernel and its security modules read
//! some meaning into is not among them: access control lists, capabilities and labels.

use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_tree::{Ino, Kind, Mutation};

use super::origin::{Presence, Whereabouts, Written};
use crate::vfs::now;
use crate::{FsError, FsErrorKind, NodeId, Vfs};

const HASH: &[u8] = b"user.attachfs.hash";
const CACHED: &[u8] = b"user.attachfs.cached";
const LAYER: &[u8] = b"user.attachfs.layer";

/// The attributes that are not listed and cannot be set.
const OWN: &[u8] = b"user.attachfs.";
const TRUSTED: &[u8] = b"trusted.";
/// What belongs to the kernel, and what its names begin with. It asks for some of these of its own accord.
const KERNELS: [&[u8]; 6] = [
    b"security.capability",
    b"security.selinux",
    b"security.SMACK64",
    b"security.apparmor",
    b"security.ima",
    b"security.evm",
];

/// The longest value (`XATTR_SIZE_MAX` of Linux).
const LONGEST_VALUE: usize = 64 << 10;
/// The names of one file are listed in so many bytes at most (`XATTR_LIST_MAX` of Linux).
const LONGEST_LIST: usize = 64 << 10;
/// All names and values of one file have so many bytes at most.
const MOST: usize = 128 << 10;

/// What to do where an attribute is or is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetXattr {
    /// Set it in either case.
    Always,
    /// Fail if it is there.
    Create,
    /// Fail if it is not there.
    Replace,
}

/// Whether programs can set attributes of such a name.
fn is_kept(name: &[u8]) -> bool {
    let begins_with = |start: &&[u8]| name.starts_with(start);
    let spaces: [&[u8]; 3] = [b"user.", TRUSTED, b"security."];
    spaces.iter().any(begins_with) && !name.starts_with(OWN) && !KERNELS.iter().any(begins_with)
}

/// The value of an extended attribute, as far as it is known without waiting.
#[derive(Debug)]
pub(crate) enum Xattr {
    Known(Vec<u8>),
    /// The value comes from the manifests: see [`Vfs::set_sources`].
    Layer(ManifestPath),
    /// [`cached`] of what the disk cache says.
    Cached(Whereabouts),
}

const ABSENT: FsError = FsError::plain(FsErrorKind::NoAttribute);

/// The value that says how much is on this machine.
pub(crate) fn cached(presence: &Presence) -> String {
    match (presence.here, presence.size) {
        (here, size) if here == size => "all".to_owned(),
        (0, _) => "none".to_owned(),
        (here, size) => format!("{here}/{size}"),
    }
}

fn lines(hashes: &[ContentHash]) -> String {
    let hashes: Vec<_> = hashes.iter().map(ToString::to_string).collect();
    hashes.join("\n")
}

impl Vfs {
    /// The value of an extended attribute.
    pub(crate) fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Xattr, FsError> {
        match name {
            HASH => {
                let hashes = self.hashes(ino).ok_or(ABSENT)?;
                Ok(Xattr::Known(lines(&hashes).into_bytes()))
            }
            CACHED => {
                if self.origin(ino)?.kind != Kind::File {
                    return Err(ABSENT);
                }
                let content = self.whereabouts(ino)?;
                Ok(if content.is_local() {
                    Xattr::Known(b"all".to_vec())
                } else {
                    Xattr::Cached(content)
                })
            }
            LAYER => {
                let origin = self.origin(ino)?;
                Ok(match (origin.written, origin.path) {
                    (Written::Part | Written::All, _) => Xattr::Known(b"local".to_vec()),
                    (Written::Nothing, Some(path)) => Xattr::Layer(path),
                    // The root is of all manifests.
                    (Written::Nothing, None) => return Err(ABSENT),
                })
            }
            _ if name.starts_with(OWN) => Err(ABSENT),
            _ if is_kept(name) => {
                let namespace = self.namespace.read();
                let value = namespace.xattr(ino, name).ok_or(ABSENT)?;
                Ok(Xattr::Known(value.to_vec()))
            }
            // Capabilities, access control lists and labels, which the kernel and programs ask for of their own accord.
            // `ls` asks for those of all files unless it is told that there are none on this file system.
            _ => Err(FsErrorKind::NotSupported.into()),
        }
    }
}

/// Those that programs set.
impl Vfs {
    pub(crate) fn set_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
    ) -> Result<(), FsError> {
        let ino = node.into();
        let change = self.begin_change()?;
        if !is_kept(name) {
            return Err(FsErrorKind::NotSupported.into());
        }
        let turn = self.turn(change.overlay);
        {
            let namespace = turn.namespace();
            let is_there = namespace.xattr(ino, name).is_some();
            match how {
                SetXattr::Create if is_there => return Err(FsErrorKind::Exists.into()),
                SetXattr::Replace if !is_there => return Err(ABSENT),
                SetXattr::Always | SetXattr::Create | SetXattr::Replace => {}
            }
            let others = namespace.xattrs(ino).filter(|(other, _)| *other != name);
            let (mut list, mut all) = (name.len() + 1, name.len() + value.len());
            for (name, value) in others {
                list += name.len() + 1;
                all += name.len() + value.len();
            }
            if value.len() > LONGEST_VALUE || list > LONGEST_LIST || all > MOST {
                return Err(FsErrorKind::NoSpace.into());
            }
        }
        turn.mutate(Mutation::SetXattr {
            ino,
            name: name.into(),
            value: value.into(),
            time: now(),
        })?;
        drop(turn);
        self.tell_other_nodes(node);
        Ok(())
    }

    pub(crate) fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<(), FsError> {
        let change = self.begin_change()?;
        if !is_kept(name) {
            return Err(FsErrorKind::NotSupported.into());
        }
        self.turn(change.overlay).mutate(Mutation::RemoveXattr {
            ino: node.into(),
            name: name.into(),
            time: now(),
        })?;
        self.tell_other_nodes(node);
        Ok(())
    }

    /// The names that were set, each with a NUL behind it; without those that only root may see unless `all`.
    pub(crate) fn list_xattrs(&self, ino: Ino, all: bool) -> Result<Vec<u8>, FsError> {
        let namespace = self.namespace.read();
        if namespace.kind(ino).is_none() {
            return Err(FsErrorKind::NotFound.into());
        }
        let names = namespace.xattrs(ino).map(|(name, _)| name);
        let shown = names.filter(|name| all || !name.starts_with(TRUSTED));
        Ok(shown
            .flat_map(|name| [name, b"\0"])
            .flatten()
            .copied()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_all_none_or_counted() {
        let of = |here, size| {
            let chunks = Vec::new();
            cached(&Presence { size, here, chunks })
        };
        assert_eq!(of(0, 0), "all");
        assert_eq!(of(10, 10), "all");
        assert_eq!(of(0, 10), "none");
        assert_eq!(of(3, 10), "3/10");
    }

    #[test]
    fn each_hash_has_a_line_of_its_own() {
        let (a, b) = (ContentHash::of(b"a"), ContentHash::of(b"b"));
        assert_eq!(lines(&[a]), a.to_string());
        assert_eq!(lines(&[a, b]), format!("{a}\n{b}"));
    }
}
