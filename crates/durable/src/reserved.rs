//! Room for a file that is written at the end of long work: whether it can be written is known before that work begins.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::DurableError;
use crate::dir::parent_of;
use crate::error::At as _;
use crate::held::reserve;
use crate::own::{Standing, Wanted, why_not};
use crate::staged::{Staged, publish_shared};

/// A file that a person asked for by name and that is written later. Until then there is a file without a name of its own beside
/// the place, with room on the disk. Dropping this removes that file.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    /// `None` for a device such as `/dev/null`, which needs no room.
    staged: Option<Staged>,
}

impl Reserved {
    /// Takes room of so many bytes for a file at `path`, which may be there already. Fails if no file can be made beside it, if
    /// the disk is full, and where [`publish_shared`] would fail because of what is at `path`.
    pub fn at(path: &Path, room: u64) -> Result<Self, DurableError> {
        let found = Standing::at(path).ok();
        if found.as_ref().is_some_and(|standing| standing.is_device) {
            return Ok(Self {
                path: path.to_owned(),
                staged: None,
            });
        }
        if let Some(why) = found.and_then(|standing| why_not(standing.kind, Wanted::File)) {
            return Err(DurableError::new("replace", path, why));
        }
        let staged = Staged::create_shared_in(parent_of(path))?;
        reserve(staged.file(), room).at("take room on the disk for", path)?;
        Ok(Self {
            path: path.to_owned(),
            staged: Some(staged),
        })
    }

    /// Writes the file, whole and durably, in place of one that is there. What is longer than the room may fail on a full disk.
    pub fn publish(self, bytes: &[u8]) -> Result<(), DurableError> {
        let Self { path, staged } = self;
        let Some(staged) = staged else {
            return publish_shared(&path, |file| file.write_all(bytes));
        };
        fill(staged.file(), bytes).at("write", &path)?;
        staged.publish(&path).map(drop)
    }
}

fn fill(mut file: &File, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(dir: &Path) -> usize {
        dir.read_dir().unwrap().count()
    }

    #[test]
    fn what_was_reserved_is_there_as_it_was_written_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "before").unwrap();
        for bytes in [&b"short"[..], &[b'x'; 10_000]] {
            let reserved = Reserved::at(&path, 4096).unwrap();
            assert_ne!(fs::read(&path).unwrap(), bytes);
            reserved.publish(bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(names(dir.path()), 1);
        }
        drop(Reserved::at(&path, 4096).unwrap());
        assert_eq!(names(dir.path()), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_stays() {
        let null = Path::new("/dev/null");
        Reserved::at(null, 4096).unwrap().publish(b"x").unwrap();
        assert!(!fs::metadata(null).unwrap().is_file());
    }

    #[test]
    fn where_no_file_can_be_made_that_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Reserved::at(&dir.path().join("no/f"), 1).is_err());
        // More than any disk has.
        let path = dir.path().join("f");
        assert!(Reserved::at(&path, 1 << 60).is_err());
        assert_eq!(names(dir.path()), 0);
    }
}
