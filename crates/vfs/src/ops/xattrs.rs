//! Extended attributes: where a file comes from, for scripts.
//!
//! ```text
//!     user.attachfs.hash     of a file as its manifest says: the hash of each chunk, one a line
//!     user.attachfs.cached   of a file: all, none, or how many of its bytes are on this machine, as "4096/10000"
//!     user.attachfs.layer    the number of the manifest and its name, as `attachfs layers` lists them; or local
//! ```
//!
//! They are read by their names and not listed: programs that copy whatever is listed (`cp -a`, `rsync -X`, `tar
//! --xattrs`) would give them to copies, of which they are not true. Nobody can set them, or others.

use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_tree::{Ino, Kind};

use super::origin::{Presence, Whereabouts, Written};
use crate::{FsError, FsErrorKind, Vfs};

const HASH: &[u8] = b"user.attachfs.hash";
const CACHED: &[u8] = b"user.attachfs.cached";
const LAYER: &[u8] = b"user.attachfs.layer";

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
            _ if name.starts_with(b"user.") => Err(ABSENT),
            // Capabilities, access control lists and labels, which the kernel and programs ask for of their own accord.
            // `ls` asks for those of all files unless it is told that there are none on this file system.
            _ => Err(FsErrorKind::NotSupported.into()),
        }
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
