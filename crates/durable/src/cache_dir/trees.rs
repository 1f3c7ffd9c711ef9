//! Saved indexes of trees: at most 64 files, at most 1 GiB, each changed last when it was used last.

use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{HashBytes, hex, parse_hex};
use crate::{OwnFile, check_own_dir, create_private_dir, publish, sweep_abandoned};

const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 1 << 30;
const SUFFIX: &str = "tree";

/// The saved indexes of a cache directory.
#[derive(Debug, Clone)]
pub struct TreeFiles {
    dir: PathBuf,
}

impl TreeFiles {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory that holds them.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of an index, if there is one.
    pub fn path(&self, name: HashBytes) -> PathBuf {
        self.dir.join(hex(name)).with_extension(SUFFIX)
    }

    /// Opens an index, which counts as used now. `None` if there is none; an error if it is not trusted or
    /// cannot be read. Blocks.
    pub fn open(&self, name: HashBytes) -> io::Result<Option<OwnFile>> {
        let path = self.path(name);
        let opened = check_own_dir(&self.dir).and_then(|()| OwnFile::open(&path));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if let Err(error) = file.touch() {
            tracing::debug!(path = %path.display(), %error, "a saved tree will count as unused");
        }
        Ok(Some(file))
    }

    /// Saves an index of this length durably, and removes those that were not used for longest until all are
    /// within the bounds. Blocks.
    pub fn save(
        &self,
        name: HashBytes,
        len: u64,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        if len > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        create_private_dir(&self.dir)?;
        check_own_dir(&self.dir)?;
        sweep_abandoned(&self.dir)?;
        publish(&self.path(name), write)?;
        self.trim()
    }

    fn trim(&self) -> io::Result<()> {
        let entries = self.dir.read_dir()?.collect::<io::Result<Vec<_>>>()?;
        let mut kept: Vec<_> = entries.iter().filter_map(saved).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let mut bytes = 0;
        for (number, (_, len, path)) in kept.into_iter().enumerate() {
            bytes += len;
            if number >= MOST_FILES || bytes > MOST_BYTES {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// When an index was last used, its length and its path; nothing for any other file.
fn saved(entry: &DirEntry) -> Option<(SystemTime, u64, PathBuf)> {
    let path = entry.path();
    let meta = entry.metadata().ok()?;
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let is_named = path.extension().is_some_and(|suffix| suffix == SUFFIX)
        && stem.and_then(parse_hex).is_some();
    let is_tree = meta.is_file() && is_named;
    is_tree.then_some((meta.modified().ok()?, meta.len(), path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;
    use crate::CacheDir;

    #[test]
    fn what_was_used_last_is_kept_and_nothing_else_is_touched() {
        let temp = tempfile::tempdir().unwrap();
        let trees = CacheDir::new(temp.path()).trees();
        let save = || trees.save([0xab; 16], 4, |file| file.write_all(b"tree"));
        save().unwrap();
        let old = |number: usize| trees.dir().join(format!("{number:032x}.tree"));
        for number in 1..=MOST_FILES {
            let file = File::create(old(number)).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64);
            file.set_modified(time).unwrap();
        }
        let others = ["other", "notes.tree"].map(|name| trees.dir().join(name));
        for other in &others {
            let file = File::create(other).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        save().unwrap();
        assert!(!old(1).exists() && old(2).exists());
        // Longer than all that may be kept, and used before the tree was.
        let file = File::options().write(true).open(old(3)).unwrap();
        file.set_len(MOST_BYTES).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(file);
        save().unwrap();
        assert!(!old(3).exists() && others.iter().all(|other| other.exists()));
        assert_eq!(fs::read(trees.path([0xab; 16])).unwrap(), b"tree");
    }

    #[test]
    fn an_index_that_is_too_long_is_not_saved() {
        let temp = tempfile::tempdir().unwrap();
        let trees = CacheDir::new(temp.path().join("c")).trees();
        let saved = trees.save([0; 16], MOST_BYTES + 1, |_| Ok(()));
        assert_eq!(saved.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(!trees.dir().exists());
    }
}
