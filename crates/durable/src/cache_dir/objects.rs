//! Objects of one store as files.
//!
//! Files are renamed into place and never synced. They need not be: whoever reads one hashes it, so one that is
//! torn, damaged or not what its name says is removed and fetched again. Several processes of one user may share a
//! partition.
//!
//! Everything is reached from the partition, which is held open, by single names that are not followed: whatever
//! is put into a cache, nothing is read, written or removed outside of it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::incoming::{self, Incoming};
use super::large::UNITS;
use super::{CacheDir, CacheDirError, HashBytes, hex, trust};
use crate::error::At as _;
use crate::own::{Wanted, why_not};
use crate::{DurableError, Facts, Follow, Kind, Opening, OwnDir};

/// The objects of one partition of a cache directory. Cheap to clone; clones share the open partition.
#[derive(Debug, Clone)]
pub struct ObjectFiles {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    cache: CacheDir,
    name: HashBytes,
    partition: PathBuf,
    /// Opened when it is first needed, and again after it was deleted.
    held: RwLock<Option<Arc<OwnDir>>>,
}

impl ObjectFiles {
    pub(super) fn create(cache: &CacheDir, name: HashBytes) -> Result<Self, CacheDirError> {
        let objects = Self::of(cache, name);
        objects.prepare()?;
        Ok(objects)
    }

    /// As [`create`](Self::create), also if the disk is full or fails: whoever writes tries again.
    pub(super) fn create_or_wait(
        cache: &CacheDir,
        name: HashBytes,
    ) -> Result<(Self, Option<DurableError>), CacheDirError> {
        let objects = Self::of(cache, name);
        match objects.prepare() {
            Ok(()) => Ok((objects, None)),
            Err(CacheDirError::Io(error)) if may_pass(error.kind()) => Ok((objects, Some(error))),
            Err(error) => Err(error),
        }
    }

    pub(super) fn there(cache: &CacheDir, name: HashBytes) -> Result<Option<Self>, CacheDirError> {
        const DOING: &str = "look at";
        let objects = Self::of(cache, name);
        for part in [cache.path(), &objects.places.partition] {
            if !part.try_exists().at(DOING, part)? {
                return Ok(None);
            }
            trust::check(part)?;
        }
        Ok(Some(objects))
    }

    fn of(cache: &CacheDir, name: HashBytes) -> Self {
        let places = Places {
            cache: cache.clone(),
            name,
            partition: cache.path().join(super::OBJECTS).join(hex(name)),
            held: RwLock::new(None),
        };
        Self {
            places: Arc::new(places),
        }
    }

    /// Makes the directories, and refuses those that others can change.
    fn prepare(&self) -> Result<(), CacheDirError> {
        let incoming = self.places.partition.join(incoming::NAME);
        trust::own(self.dir())?;
        trust::own(&incoming)?;
        *self.places.held.write() = None;
        Ok(())
    }

    /// The cache directory, for messages.
    pub fn dir(&self) -> &Path {
        self.places.cache.path()
    }

    /// The cache directory that the partition is in.
    pub fn cache(&self) -> &CacheDir {
        &self.places.cache
    }

    /// The partition's name.
    pub fn partition(&self) -> HashBytes {
        self.places.name
    }

    /// The file that holds an object if the cache has it, for messages.
    pub fn path(&self, object: HashBytes) -> PathBuf {
        let (shelf, name) = names(object);
        self.places.partition.join(shelf).join(name)
    }

    pub(super) fn held(&self) -> io::Result<Arc<OwnDir>> {
        if let Some(held) = &*self.places.held.read() {
            return Ok(Arc::clone(held));
        }
        let held = Arc::new(OwnDir::open(&self.places.partition)?);
        *self.places.held.write() = Some(Arc::clone(&held));
        Ok(held)
    }

    /// The directory that an object lies in.
    pub(super) fn shelf(&self, object: HashBytes) -> io::Result<OwnDir> {
        Ok(self.held()?.dir(&names(object).0)?)
    }

    /// As [`shelf`](Self::shelf), which is made if it is missing.
    pub(super) fn shelf_to_fill(&self, object: HashBytes) -> Result<OwnDir, DurableError> {
        let held = self.held().at("open", &self.places.partition)?;
        let name = names(object).0;
        match held.dir(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match held.held().create_dir(name.as_bytes(), 0o700) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made.at("create", &self.places.partition.join(&name))?,
                }
                held.dir(&name)
            }
            Err(error) => {
                check_is(&held, &name, Wanted::Dir)?;
                Err(error)
            }
            opened => opened,
        }
    }

    /// The file of an object and its length. Nobody has looked at its bytes. A link is not followed, and nothing
    /// that is there is waited for. Blocks.
    pub fn open(&self, object: HashBytes) -> io::Result<(File, u64)> {
        let (file, facts) = self.open_known(object)?;
        Ok((file, facts.stamp.size))
    }

    /// As [`open`](Self::open), with all that the system says of the file.
    pub fn open_known(&self, object: HashBytes) -> io::Result<(File, Facts)> {
        let (mut path, name) = names(object);
        path.push('/');
        path.push_str(&name);
        let held = self.held()?;
        let opened = held
            .held()
            .open_below(path.as_bytes(), Opening::Read, Follow::None);
        let file = opened?;
        let facts = Facts::of(&file)?;
        if facts.kind != Kind::File {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((file, facts))
    }

    /// The file that should hold an object of this length, as far as names and lengths say, and where in it the object
    /// begins. Blocks.
    pub fn find(&self, object: HashBytes, len: u64) -> Option<(File, u64)> {
        match self.open(object) {
            Ok((file, found)) => (found == len).then_some((file, 0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.find_joined(object, len),
            Err(_) => None,
        }
    }

    /// As [`find`](Self::find), of a chunk that has no file of its own.
    pub fn find_joined(&self, chunk: HashBytes, len: u64) -> Option<(File, u64)> {
        let (shelf, name) = names(chunk);
        let path = format!("{shelf}/{name}{UNITS}");
        let held = self.held().ok()?;
        let units = held
            .held()
            .open_below(path.as_bytes(), Opening::Read, Follow::None);
        let (place, joined) = self.in_joined(chunk, &units.ok()?).ok()??;
        (place.len == len).then_some((joined.data, place.at))
    }

    /// Removes the file of an object that is not what its name says. Blocks.
    pub fn remove(&self, object: HashBytes) -> io::Result<()> {
        Ok(self.shelf(object)?.remove_file(&names(object).1)?)
    }

    /// Begins to write objects. What writers left that have ended is removed. Blocks.
    pub fn writer(&self) -> ObjectWriter {
        let mut writer = ObjectWriter {
            objects: self.clone(),
            incoming: None,
        };
        if let Err(error) = writer.open_incoming() {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the disk cache cannot be written to yet"
            );
        }
        writer
    }
}

/// Whether a directory that could not be made may be made later: the disk is full, cannot be written to now, or
/// fails. What is in somebody's way stays there.
fn may_pass(kind: io::ErrorKind) -> bool {
    !matches!(
        kind,
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
    )
}

/// Fails with [`io::ErrorKind::AlreadyExists`] if something else than is wanted has a name: attachfs did not make it,
/// and does not replace it.
pub(super) fn check_is(dir: &OwnDir, name: &str, wanted: Wanted) -> Result<(), DurableError> {
    const DOING: &str = "replace";
    let path = dir.path().join(name);
    let there = dir.held().look(name.as_bytes()).at(DOING, &path)?;
    match there.and_then(|facts| why_not(facts.kind, wanted)) {
        None => Ok(()),
        Some(why) => {
            let why = io::Error::new(io::ErrorKind::AlreadyExists, why);
            Err(DurableError::new(DOING, &path, why))
        }
    }
}

/// The directory in its partition that an object lies in, and its name there.
pub(super) fn names(object: HashBytes) -> (String, String) {
    let name = hex(object);
    (name[..2].to_owned(), name)
}

/// Writes objects, one after the other.
#[derive(Debug)]
pub struct ObjectWriter {
    objects: ObjectFiles,
    incoming: Option<Incoming>,
}

impl ObjectWriter {
    /// Writes an object, which the caller has verified. A cache that was deleted is begun anew. Blocks.
    pub fn write(&mut self, object: HashBytes, bytes: &[u8]) -> Result<(), CacheDirError> {
        let place = |incoming: &Incoming, objects: &ObjectFiles| {
            let staged = incoming.stage()?;
            staged.file().write_all(bytes).at("write", staged.path())?;
            staged.place(&objects.shelf_to_fill(object)?, &names(object).1)
        };
        self.with_incoming(place)
    }

    /// Does something that needs the directories, which are made anew if they were deleted.
    pub(super) fn with_incoming<T>(
        &mut self,
        act: impl Fn(&Incoming, &ObjectFiles) -> Result<T, DurableError>,
    ) -> Result<T, CacheDirError> {
        if let Some(incoming) = &self.incoming {
            match act(incoming, &self.objects) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.incoming = None,
                done => return Ok(done?),
            }
        }
        self.objects.prepare()?;
        self.open_incoming()?;
        match &self.incoming {
            Some(incoming) => Ok(act(incoming, &self.objects)?),
            None => {
                Err(DurableError::new("open", self.objects.dir(), io::ErrorKind::NotFound).into())
            }
        }
    }

    fn open_incoming(&mut self) -> Result<(), DurableError> {
        let partition = &self.objects.places.partition;
        let held = self.objects.held().at("open", partition)?;
        self.incoming = Some(Incoming::open(&held)?);
        Ok(())
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
    fn a_link_in_the_place_of_a_directory_leads_nowhere() {
        let (temp, cache) = cache();
        let objects = cache.objects([1; 16]).unwrap();
        let mut writer = objects.writer();
        let outside = temp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let path = objects.path(OBJECT);
        symlink(&outside, path.parent().unwrap()).unwrap();
        writer.write(OBJECT, b"bytes").unwrap_err();
        let same = outside.join(path.file_name().unwrap());
        assert!(!same.exists());
        fs::write(&same, "precious").unwrap();
        assert!(objects.find(OBJECT, 8).is_none());
        objects.remove(OBJECT).unwrap_err();
        assert!(same.exists());
        // So does one in the place of what is being written.
        let incoming = path.ancestors().nth(2).unwrap().join("incoming");
        fs::rename(&incoming, temp.path().join("moved")).unwrap();
        symlink(&outside, &incoming).unwrap();
        objects.writer().write([8; 16], b"bytes").unwrap_err();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
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
