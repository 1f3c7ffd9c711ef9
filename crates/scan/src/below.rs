//! Finds files by paths from outside, for example those of a manifest, below a folder and nowhere
//! else.
//!
//! The kernel resolves each path from the open folder (`openat2`, `RESOLVE_BENEATH`): a link on the way is
//! followed if it stays below the folder, since a manifest may name a file by the place of a link; one
//! that leads out, or is absolute, is refused. A change between the check and the opening cannot get round
//! this.

use std::path::Path;
use std::sync::Arc;

use attachfs_durable::{Kind, Opening, Refusal};
use attachfs_manifest::ManifestPath;

use crate::anchor::{Anchor, Folder, opening_failed};
use crate::os::Facts;
use crate::{ScanError, ScannedFile};

/// A folder in which files are looked for by their names.
#[derive(Debug, Clone)]
pub struct Below {
    anchor: Arc<Anchor>,
}

impl Below {
    /// Opens a folder. It may be named through links.
    pub fn open(root: &Path) -> Result<Self, ScanError> {
        let real = root
            .canonicalize()
            .map_err(|error| ScanError::io("find", root, error))?;
        if !real.is_dir() {
            return Err(ScanError::NotADirectory(root.to_owned()));
        }
        let anchor = Arc::new(Anchor::following_below(real)?);
        Ok(Self { anchor })
    }

    /// The regular file at this path, as it is now. [`ScanError::Outside`] if a link leads out of the
    /// folder, [`ScanError::Replaced`] if it is no regular file.
    pub fn find(&self, path: &ManifestPath) -> Result<ScannedFile, ScanError> {
        let bytes = path.as_bytes();
        let place = || self.anchor.path(bytes);
        let opened =
            self.anchor
                .open(bytes, Opening::Look)
                .map_err(|error| match Refusal::of(&error) {
                    Some(Refusal::Outside | Refusal::Link) => ScanError::Outside {
                        path: place(),
                        root: self.anchor.path(b""),
                    },
                    _ => opening_failed("open", &place(), error),
                })?;
        let found = attachfs_durable::Facts::of(&opened)
            .map_err(|error| ScanError::io("look at", &place(), error))?;
        if found.kind != Kind::File {
            return Err(ScanError::Replaced(place()));
        }
        let (folder, name) = Folder::of_one(&self.anchor, path.borrowed());
        Ok(ScannedFile::new(folder, name, &Facts::of(&found)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn path(text: &str) -> ManifestPath {
        ManifestPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_is_found_and_read_through_links_that_stay_below_the_folder() {
        let temp = TempDir::new().unwrap();
        fs::create_dir_all(temp.path().join("root/d")).unwrap();
        fs::write(temp.path().join("root/d/f"), "bytes").unwrap();
        symlink("d", temp.path().join("root/link")).unwrap();
        symlink("d/f", temp.path().join("root/g")).unwrap();
        let below = Below::open(&temp.path().join("root")).unwrap();
        for name in ["d/f", "link/f", "g"] {
            let found = below.find(&path(name)).unwrap();
            assert_eq!(found.size, 5);
            let (mut file, now) = found.open().unwrap();
            assert_eq!(now.stamp, found.stamp);
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "bytes");
        }
    }

    #[test]
    fn nothing_outside_of_the_folder_is_found() {
        let temp = TempDir::new().unwrap();
        fs::create_dir_all(temp.path().join("root")).unwrap();
        fs::write(temp.path().join("secret"), "").unwrap();
        symlink("..", temp.path().join("root/up")).unwrap();
        symlink("../secret", temp.path().join("root/file")).unwrap();
        symlink(temp.path(), temp.path().join("root/absolute")).unwrap();
        let below = Below::open(&temp.path().join("root")).unwrap();
        for name in ["up/secret", "file", "absolute/secret"] {
            let error = below.find(&path(name)).unwrap_err();
            assert!(matches!(error, ScanError::Outside { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_directory_or_a_missing_file_is_an_error() {
        let temp = TempDir::new().unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        let below = Below::open(temp.path()).unwrap();
        let error = below.find(&path("d")).unwrap_err();
        assert!(matches!(error, ScanError::Replaced(_)), "{error:?}");
        let error = below.find(&path("none")).unwrap_err();
        assert!(matches!(error, ScanError::Io { .. }), "{error:?}");
    }
}
