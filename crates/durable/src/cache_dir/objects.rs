//! Objects of one store as files.
//!
//! Files are renamed into place and never synced. They need not be: whoever reads one hashes it, so one that is
//! torn, damaged or not what its name says is removed and fetched again. Several processes of one user may share a
//! partition.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CacheDirError, HashBytes, hex, trust};
use crate::error::At as _;
use crate::{DurableError, Space, Staged, platform, space, sweep_abandoned};

/// The objects of one partition of a cache directory. Cheap to clone; nothing is open.
#[derive(Debug, Clone)]
pub struct ObjectFiles {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    /// The cache directory.
    dir: PathBuf,
    partition: PathBuf,
}

impl ObjectFiles {
    pub(super) fn create(dir: &Path, partition: PathBuf) -> Result<Self, CacheDirError> {
        let objects = Self::of(dir, partition);
        objects.prepare()?;
        Ok(objects)
    }

    pub(super) fn there(dir: &Path, partition: PathBuf) -> Result<Option<Self>, CacheDirError> {
        const DOING: &str = "look at";
        for part in [dir, &partition] {
            if !part.try_exists().at(DOING, part)? {
                return Ok(None);
            }
            trust::check(part)?;
        }
        Ok(Some(Self::of(dir, partition)))
    }

    fn of(dir: &Path, partition: PathBuf) -> Self {
        let places = Places {
            dir: dir.to_owned(),
            partition,
        };
        Self {
            places: Arc::new(places),
        }
    }

    /// Makes the directories, and refuses those that others can change.
    fn prepare(&self) -> Result<(), CacheDirError> {
        trust::own(&self.places.dir)?;
        trust::own(&self.incoming())
    }

    fn incoming(&self) -> PathBuf {
        self.places.partition.join("incoming")
    }

    /// The cache directory, for messages.
    pub fn dir(&self) -> &Path {
        &self.places.dir
    }

    /// The file that holds an object, if the cache has it.
    pub fn path(&self, object: HashBytes) -> PathBuf {
        let hex = hex(object);
        let partition = &self.places.partition;
        let mut path = PathBuf::with_capacity(partition.as_os_str().len() + 40);
        path.push(partition);
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    /// The file of an object and its length. Nobody has looked at its bytes. A link is not followed, and nothing
    /// that is there is waited for. Blocks.
    pub fn open(&self, object: HashBytes) -> io::Result<(File, u64)> {
        let file = platform::open_to_read(&self.path(object))?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((file, meta.len()))
    }

    /// The file that should hold an object of this length, as far as its name and length say. Blocks.
    pub fn find(&self, object: HashBytes, len: u64) -> Option<File> {
        let (file, found) = self.open(object).ok()?;
        (found == len).then_some(file)
    }

    /// Removes the file of an object that is not what its name says. Blocks.
    pub fn remove(&self, object: HashBytes) -> io::Result<()> {
        std::fs::remove_file(self.path(object))
    }

    /// Begins to write objects. What writers left that have ended is removed. Blocks.
    pub fn writer(&self) -> ObjectWriter {
        match sweep_abandoned(&self.incoming()) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "removed unfinished files from the disk cache"),
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot remove unfinished files from the disk cache"
            ),
        }
        ObjectWriter {
            objects: self.clone(),
            is_made: [false; 256],
        }
    }

    /// The room on the disk; `None` if the partition is gone. Blocks.
    pub fn space(&self) -> Option<Result<Space, DurableError>> {
        let partition = &self.places.partition;
        match space(partition) {
            Err(_) if !partition.exists() => None,
            space => Some(space),
        }
    }
}

/// Writes objects, one after the other.
#[derive(Debug)]
pub struct ObjectWriter {
    objects: ObjectFiles,
    /// Which of the 256 directories are known to exist.
    is_made: [bool; 256],
}

impl ObjectWriter {
    /// Writes an object, which the caller has verified. A cache that was deleted is begun anew. Blocks.
    pub fn write(&mut self, object: HashBytes, bytes: &[u8]) -> Result<(), CacheDirError> {
        match self.place(object, bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.is_made = [false; 256];
                self.objects.prepare()?;
                Ok(self.place(object, bytes)?)
            }
            written => Ok(written?),
        }
    }

    fn place(&mut self, object: HashBytes, bytes: &[u8]) -> Result<(), DurableError> {
        let path = self.objects.path(object);
        let made = &mut self.is_made[usize::from(object[0])];
        if !*made {
            let dir = crate::dir::parent_of(&path);
            match platform::create_dir(dir, 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DurableError::new("create", dir, error));
                }
                Ok(()) | Err(_) => *made = true,
            }
        }
        let staged = Staged::create_in(&self.objects.incoming())?;
        staged.file().write_all(bytes).at("write", &path)?;
        staged.place(&path).map(drop)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use crate::CacheDir;

    const OBJECT: [u8; 16] = [7; 16];

    fn cache() -> (TempDir, CacheDir) {
        let temp = TempDir::new().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        (temp, cache)
    }

    #[test]
    fn who_only_looks_makes_nothing() {
        let (_temp, cache) = cache();
        assert!(cache.objects_there([1; 16]).unwrap().is_none());
        assert!(!cache.path().exists());
        cache.objects([1; 16]).unwrap();
        assert!(cache.objects_there([2; 16]).unwrap().is_none());
        let (made, seen) = (
            cache.objects([1; 16]).unwrap(),
            cache.objects_there([1; 16]),
        );
        let seen = seen.unwrap().unwrap();
        made.writer().write(OBJECT, b"bytes").unwrap();
        assert!(seen.find(OBJECT, 5).is_some());
        assert!(seen.find(OBJECT, 6).is_none());
    }

    #[test]
    fn who_only_looks_refuses_what_others_can_change_too() {
        let (_temp, cache) = cache();
        cache.objects([1; 16]).unwrap();
        fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o770)).unwrap();
        cache.objects_there([1; 16]).unwrap_err();
    }

    #[test]
    fn a_link_in_the_place_of_an_object_is_not_followed() {
        let (temp, cache) = cache();
        let objects = cache.objects([1; 16]).unwrap();
        objects.writer().write(OBJECT, b"bytes").unwrap();
        let outside = temp.path().join("outside");
        fs::rename(objects.path(OBJECT), &outside).unwrap();
        symlink(&outside, objects.path(OBJECT)).unwrap();
        objects.open(OBJECT).unwrap_err();
    }

    #[test]
    fn an_object_is_for_its_owner_alone() {
        let (_temp, cache) = cache();
        let objects = cache.objects([1; 16]).unwrap();
        objects.writer().write(OBJECT, b"bytes").unwrap();
        let path = objects.path(OBJECT);
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o600);
        for dir in path.ancestors().skip(1).take(4) {
            assert_eq!(mode(dir) & 0o777, 0o700, "{}", dir.display());
        }
    }

    #[test]
    fn a_partition_that_was_deleted_is_begun_anew() {
        let (_temp, cache) = cache();
        let objects = cache.objects([1; 16]).unwrap();
        let mut writer = objects.writer();
        writer.write(OBJECT, b"one").unwrap();
        fs::remove_dir_all(cache.path()).unwrap();
        writer.write(OBJECT, b"two").unwrap();
        assert_eq!(fs::read(objects.path(OBJECT)).unwrap(), b"two");
    }
}
