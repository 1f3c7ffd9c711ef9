//! Where things come from, in extended attributes that are read by name and not listed, as those of mounts.
//!
//! ```text
//!     user.attachfs.hash         of a file: the hash of each chunk, one a line
//!     user.attachfs.manifest     of a file: the key of the manifest that has it
//!     user.attachfs.asset_root   of a root and all below it: the root as the job has it
//!     user.attachfs.location     its file-system location, if it has one
//! ```

use attachfs_vfs::{FsError, FsErrorKind};

use crate::engine::Engine;
use crate::nodes::{Node, What};
use crate::place::Place;

const OWN: &[u8] = b"user.";

const ABSENT: FsError = FsError::plain(FsErrorKind::NoAttribute);

/// The value of an extended attribute.
pub(crate) fn xattr(engine: &Engine, node: &Node, name: &[u8]) -> Result<Vec<u8>, FsError> {
    let place = match &node.what {
        What::Dir(dir) => &dir.place,
        What::File(_, place) | What::Link(_, place) => place,
    };
    let said = || match place {
        Place::In(content, _) => engine.root(content)?.said,
        _ => None,
    };
    let value = match (name, &node.what) {
        (b"user.attachfs.hash", What::File(file, _)) => {
            let hashes: Vec<_> = file
                .content
                .hashes()
                .iter()
                .map(ToString::to_string)
                .collect();
            Some(hashes.join("\n"))
        }
        (b"user.attachfs.manifest", What::File(file, _)) => Some(file.from.to_string()),
        (b"user.attachfs.asset_root", _) => said().map(|said| said.asset_root),
        (b"user.attachfs.location", _) => said().and_then(|said| said.location),
        _ if name.starts_with(OWN) => None,
        // `ls` asks for labels of all files unless it is told that there are none on this file system.
        _ => return Err(FsErrorKind::NotSupported.into()),
    };
    value.map(String::into_bytes).ok_or(ABSENT)
}
