//! A file of a directory of this user's own that is filled piece by piece, and gets its name when it is whole.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::OwnDir;
use crate::error::At as _;
use crate::staged::PREFIX;
use crate::steps::{Step, perform};
use crate::{DurableError, platform, random_name, reserve_beyond};

/// So many bytes wait in memory before the disk is told to begin with them. Otherwise it would begin with all of them at the
/// sync, which then waits for as long as the writing took.
const BEGUN_AT_ONCE: u64 = 8 << 20;

/// A file (0600) under a name that nobody can guess ([`is_staged_name`](crate::is_staged_name)). It is removed when this is dropped before it is whole; a
/// process that is killed leaves it under that name.
#[derive(Debug)]
pub struct Filling<'a> {
    dir: &'a OwnDir,
    /// What messages call it: the name that it is to have.
    path: PathBuf,
    name: String,
    staged: String,
    file: File,
    written: u64,
    /// How many bytes the disk was told to begin with.
    begun: u64,
    is_whole: bool,
}

impl OwnDir {
    /// A new file that is to have this name, replacing the file or link that has it.
    pub fn fill(&self, name: &str) -> Result<Filling<'_>, DurableError> {
        let path = self.at(name);
        let staged = format!("{PREFIX}{}", random_name().at("name", &path)?);
        let file = self.create_file(&staged)?;
        Ok(Filling {
            dir: self,
            path,
            name: name.to_owned(),
            staged,
            file,
            written: 0,
            begun: 0,
            is_whole: false,
        })
    }
}

impl Filling<'_> {
    /// Takes room on the disk for a file of so many bytes, so that a full disk is known at once. It may get more or fewer.
    pub fn reserve(&self, len: u64) -> Result<(), DurableError> {
        if len == 0 {
            return Ok(());
        }
        reserve_beyond(&self.file, 0, len).at("write", &self.path)
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DurableError> {
        self.file.write_all(bytes).at("write", &self.path)?;
        self.written += bytes.len() as u64;
        let waiting = self.written - self.begun;
        if waiting >= BEGUN_AT_ONCE {
            platform::begin_writing(&self.file, self.begun, waiting);
            self.begun = self.written;
        }
        Ok(())
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.written
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Makes the bytes durable, gives the file its name, and makes that durable.
    pub fn publish(mut self) -> Result<(), DurableError> {
        self.sync()?;
        self.is_whole = true;
        self.dir.name_staged(&self.staged, &self.name)
    }

    /// Makes the bytes durable, and leaves the file under the name that it has, which is returned.
    pub(super) fn stage(mut self) -> Result<String, DurableError> {
        self.sync()?;
        self.is_whole = true;
        Ok(std::mem::take(&mut self.staged))
    }

    fn sync(&self) -> Result<(), DurableError> {
        let about = || self.dir.at(&self.staged);
        let synced = perform(Step::OwnContent, about, || self.file.sync_all());
        synced.at("write", &self.path)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            // A file that stays behind is known by its name.
            let _ = self.dir.held.remove_file(self.staged.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::is_staged_name;

    fn own_dir() -> (tempfile::TempDir, OwnDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::create(&temp.path().join("dir")).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_file_has_no_name_before_it_is_whole() {
        let (_temp, dir) = own_dir();
        dir.publish("f", b"before").unwrap();
        let mut filling = dir.fill("f").unwrap();
        filling.reserve(1 << 20).unwrap();
        let piece = vec![7; 3 << 20];
        for _ in 0..4 {
            filling.write(&piece).unwrap();
        }
        assert_eq!(filling.len(), 12 << 20);
        assert_eq!(dir.read("f").unwrap(), b"before");
        let names = dir.names().unwrap();
        assert!(
            is_staged_name(names[0].to_str().unwrap()) && names.len() == 2,
            "{names:?}"
        );
        filling.publish().unwrap();
        assert_eq!(dir.names().unwrap(), ["f"]);
        assert!(dir.read("f").unwrap().iter().all(|&byte| byte == 7));
        assert_eq!(fs::metadata(dir.path().join("f")).unwrap().len(), 12 << 20);
    }

    #[test]
    fn a_file_that_does_not_become_whole_is_removed() {
        let (_temp, dir) = own_dir();
        let mut filling = dir.fill("f").unwrap();
        filling.write(b"half").unwrap();
        assert_eq!(dir.names().unwrap().len(), 1);
        drop(filling);
        assert!(dir.names().unwrap().is_empty());
    }

    #[test]
    fn room_that_is_not_used_does_not_lengthen_a_file() {
        let (_temp, dir) = own_dir();
        let mut filling = dir.fill("f").unwrap();
        filling.reserve(1 << 20).unwrap();
        filling.write(b"short").unwrap();
        filling.publish().unwrap();
        assert_eq!(dir.read("f").unwrap(), b"short");
    }
}
