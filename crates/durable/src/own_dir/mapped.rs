//! The bytes of a file without reading them into memory.

use super::OwnDir;
use crate::error::At as _;
use crate::{DurableError, platform};

/// The bytes of a file, mapped: they are in the page cache, which gives them up where memory is short, and not in the memory of
/// this process.
///
/// What is in the file shows at each moment, and a file that is cut off kills the process that looks behind its end. So this is for files in
/// directories of this user's own alone, which were written whole and which nobody has a reason to change, and for the moments in which a failing disk
/// may end the process: not while it serves a mount.
#[derive(Debug)]
pub struct Mapped(platform::Mapping);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl OwnDir {
    /// Maps a file that is this user's alone.
    pub fn map(&self, name: &str) -> Result<Mapped, DurableError> {
        let file = self.open_file(name)?;
        let mapping = platform::map(&file).at("read", &self.at(name))?;
        Ok(Mapped(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_bytes_of_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::create(&temp.path().join("dir")).unwrap();
        for bytes in [&b""[..], b"x", &[7; 100_000]] {
            dir.publish("f", bytes).unwrap();
            let mapped = dir.map("f").unwrap();
            assert_eq!(mapped.as_ref(), bytes);
            // Another file takes its name: these are still the bytes of this one.
            dir.publish("f", b"another").unwrap();
            assert_eq!(mapped.as_ref(), bytes);
        }
        assert!(dir.map("none").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_write_to_is_not_mapped() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::create(&temp.path().join("dir")).unwrap();
        dir.publish("f", b"bytes").unwrap();
        symlink("f", dir.path().join("link")).unwrap();
        assert!(dir.map("link").is_err());
        let others = std::fs::Permissions::from_mode(0o620);
        std::fs::set_permissions(dir.path().join("f"), others).unwrap();
        let error = dir.map("f").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
