//! Scratch files: the bytes that a job wrote, one file an inode, at the offsets of the file.
//!
//! ```text
//!     <scratch>/4000000000000000          one for each inode: 16 hexadecimal digits
//!     <scratch>/aside/4000000000000001    what nothing is known of, kept for a person to look at
//!     <scratch>/aside/4000000000000001.1
//! ```

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use attachfs_durable::steps::Step;
use attachfs_durable::{DurableError, Facts, Leasing, OwnDir, Space};
use attachfs_tree::Ino;

use super::bound::Bound;
use super::leases::{Lease, Leases};

/// A disk with less room is nearly full, if that is less than a sixteenth of it.
const TIGHT: u64 = 256 << 20;
/// Within this time the kernel takes a lease from another process that does not give it up (45 s, `/proc/sys/fs/lease-break-time`).
const BROKEN_WITHIN: Duration = Duration::from_mins(1);
/// How often is looked whether it has.
const BROKEN_TICK: Duration = Duration::from_millis(1);

/// The directory of scratch files: `<dir>/<inode number, 16 hex digits>`. It is held open, and this user's
/// alone.
#[derive(Debug)]
pub struct Scratch {
    place: PathBuf,
    /// `None` if it is missing and only looked at.
    dir: Option<OwnDir>,
    /// Whether leases tell who writes to the files; asked when somebody needs it.
    tells_writers: OnceLock<bool>,
    leases: Arc<Leases>,
    /// If the files may only take so much room.
    bound: Option<Bound>,
    /// While this is true, looking at an open file fails, as it does on a network disk that is gone.
    #[cfg(test)]
    pub(crate) is_gone: std::sync::atomic::AtomicBool,
    /// While this is true, the system does not tell who writes to a file, although it did.
    #[cfg(test)]
    pub(crate) tells_no_more: std::sync::atomic::AtomicBool,
    /// How often the disk was asked for its room.
    #[cfg(test)]
    pub(crate) asked_for_room: std::sync::atomic::AtomicU32,
}

/// What came of asking for a lease on a scratch file.
#[derive(Debug)]
pub(crate) enum Leased {
    /// Nobody has it open for writing. Broken when this process opens it so.
    Granted(Lease),
    /// Somebody has.
    Written,
    /// Nothing is known.
    Unknown,
}

impl Scratch {
    /// Uses a directory.
    pub fn new(dir: OwnDir) -> Self {
        Self {
            place: dir.path().to_owned(),
            dir: Some(dir),
            tells_writers: OnceLock::new(),
            leases: Arc::default(),
            bound: None,
            #[cfg(test)]
            is_gone: false.into(),
            #[cfg(test)]
            tells_no_more: false.into(),
            #[cfg(test)]
            asked_for_room: 0.into(),
        }
    }

    /// Bounds the room that the files take on their disk, in bytes.
    pub(crate) fn bounded(mut self, limit: u64) -> io::Result<Self> {
        let allocated = |ino| match self.facts(ino) {
            Ok(facts) => (ino, facts.allocated),
            Err(error) => {
                tracing::warn!(%error, path = %self.path(ino).display(), "it is not known how much room a scratch file takes");
                (ino, 0)
            }
        };
        let files: Vec<_> = self.inodes()?.into_iter().map(allocated).collect();
        self.bound = Some(Bound::new(limit, files));
        Ok(self)
    }

    /// Whether the room is bounded: then whatever is written to a file has to come through [`grow`](Self::grow).
    pub(crate) fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }

    /// Writes to a range of a file, or reserves room for it. Fails with [`StorageFull`](io::ErrorKind::StorageFull) if there is a
    /// bound, and no room.
    pub(crate) fn grow<T>(
        &self,
        ino: Ino,
        file: &File,
        range: Range<u64>,
        change: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.bound {
            Some(bound) => bound.grow(ino, file, range, change),
            None => change(),
        }
    }

    /// A file was cut off, or got a hole.
    pub(crate) fn shrunk(&self, ino: Ino, file: &File) {
        if let Some(bound) = &self.bound {
            bound.shrunk(ino, file);
        }
    }

    /// As [`grow`](Self::grow), for a change that reserves the range.
    pub(crate) fn reserve(
        &self,
        ino: Ino,
        file: &File,
        range: Range<u64>,
        change: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        match &self.bound {
            Some(bound) => bound.reserve(ino, file, range, change),
            None => change(),
        }
    }

    /// A file that may have been written to was closed, and this process has no descriptor of it.
    pub(crate) fn closed(&self, ino: Ino) {
        if let Some(bound) = &self.bound {
            bound.noted(ino, self.facts(ino));
        }
    }

    /// A missing directory: it has no files, and none can be made.
    pub(crate) fn missing(place: PathBuf) -> Self {
        Self {
            place,
            dir: None,
            tells_writers: OnceLock::new(),
            leases: Arc::default(),
            bound: None,
            #[cfg(test)]
            is_gone: false.into(),
            #[cfg(test)]
            tells_no_more: false.into(),
            #[cfg(test)]
            asked_for_room: 0.into(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.place
    }

    /// Whether the directory is missing.
    pub(crate) fn is_missing(&self) -> bool {
        self.dir.is_none()
    }

    fn held(&self) -> Result<&OwnDir, DurableError> {
        self.dir.as_ref().ok_or_else(|| DurableError {
            doing: "open",
            path: self.place.clone(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// The path of an inode's scratch file, whether or not it exists.
    pub fn path(&self, ino: Ino) -> PathBuf {
        self.dir().join(ino.digits())
    }

    /// Creates an empty scratch file. An existing one was left by a process that died before it
    /// recorded it, and is removed first: nothing is ever written into an existing file.
    pub fn create(&self, ino: Ino) -> io::Result<File> {
        match self.create_new(ino) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(ino)?;
                self.create_new(ino)
            }
            created => created,
        }
    }

    /// Creates an empty scratch file. Fails if there is one, which stays.
    pub(crate) fn create_new(&self, ino: Ino) -> io::Result<File> {
        let created = self.held().and_then(|dir| dir.create_file(&ino.digits()));
        created.map_err(|error| error.source)
    }

    /// Opens a scratch file for reading and writing. Leases on it are broken: those of this process at once; another process is waited for.
    pub fn open_file(&self, ino: Ino) -> io::Result<File> {
        let since = Instant::now();
        loop {
            // Again in each round: a thread may have asked for one meanwhile.
            self.leases.give_up(ino);
            let opened = self
                .held()
                .and_then(|dir| dir.open_file_to_write(&ino.digits()));
            let opened = opened.map_err(|error| error.source);
            let is_leased = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
            if !opened.as_ref().is_err_and(is_leased) || since.elapsed() > BROKEN_WITHIN {
                return opened;
            }
            std::thread::sleep(BROKEN_TICK);
        }
    }

    /// Opens a scratch file to make its bytes durable.
    pub(crate) fn open_to_sync(&self, ino: Ino) -> io::Result<File> {
        let opened = self
            .held()
            .and_then(|dir| dir.open_file_to_sync(&ino.digits()));
        opened.map_err(|error| error.source)
    }

    /// Whether leases tell who writes to scratch files, in any process.
    pub(crate) fn tells_writers(&self) -> bool {
        *self
            .tells_writers
            .get_or_init(|| self.dir.as_ref().is_some_and(OwnDir::tells_writers))
    }

    /// Asks for a lease on a scratch file.
    pub(crate) fn lease(&self, ino: Ino) -> io::Result<Leased> {
        if !self.tells_writers() {
            return Ok(Leased::Unknown);
        }
        #[cfg(test)]
        if self
            .tells_no_more
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            return Ok(Leased::Unknown);
        }
        let lease = self.leases.enter(ino, self.open_to_read(ino)?);
        Ok(match lease.take()? {
            Leasing::Granted => Leased::Granted(lease),
            Leasing::Written => Leased::Written,
            Leasing::Unknown => Leased::Unknown,
        })
    }

    /// Opens a scratch file for reading.
    pub fn open_to_read(&self, ino: Ino) -> io::Result<File> {
        let opened = self.held().and_then(|dir| dir.open_file(&ino.digits()));
        opened.map_err(|error| error.source)
    }

    /// The metadata of a scratch file that is open.
    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, reason = "a test says that the disk is gone")
    )]
    pub(crate) fn facts_of(&self, file: &File) -> io::Result<Facts> {
        #[cfg(test)]
        if self.is_gone.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::ErrorKind::StaleNetworkFileHandle.into());
        }
        Facts::of(file)
    }

    /// The metadata of a scratch file, which must be this user's alone.
    pub(crate) fn facts(&self, ino: Ino) -> io::Result<Facts> {
        #[cfg(test)]
        if self.is_gone.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::ErrorKind::StaleNetworkFileHandle.into());
        }
        let facts = self.held().and_then(|dir| dir.file_facts(&ino.digits()));
        facts.map_err(|error| error.source)
    }

    /// Removes a scratch file; a missing one is fine.
    pub fn remove(&self, ino: Ino) -> io::Result<()> {
        let removed = self.held().and_then(|dir| dir.remove_file(&ino.digits()));
        removed.map_err(|error| error.source)?;
        self.gone(ino);
        Ok(())
    }

    fn gone(&self, ino: Ino) {
        if let Some(bound) = &self.bound {
            bound.gone(ino);
        }
    }

    /// Makes the names of new scratch files durable.
    pub fn sync_names(&self) -> Result<(), DurableError> {
        self.held()?.sync(Step::ScratchNames)
    }

    /// Makes the bytes of all scratch files durable.
    pub(crate) fn sync_all(&self) -> Result<(), DurableError> {
        self.held()?.sync_file_system(Step::ScratchAll)
    }

    /// The free room, as far as the files may take it.
    pub fn space(&self) -> Result<Space, DurableError> {
        #[cfg(test)]
        (self.asked_for_room).fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let space = self.held()?.space()?;
        Ok(match &self.bound {
            Some(bound) => bound.within(space),
            None => space,
        })
    }

    /// Whether so little room is left that what is written next may need what deleted files still take.
    pub(crate) fn is_tight(&self) -> bool {
        let is_tight = |space: Space| space.available < TIGHT.min(space.total / 16);
        self.space().is_ok_and(is_tight)
    }

    /// The directory of files that were set aside.
    pub fn aside(&self) -> PathBuf {
        self.place.join(OwnDir::ASIDE)
    }

    /// Moves scratch files aside, durably, and returns their new paths.
    pub(crate) fn set_aside(&self, inodes: &[Ino]) -> Result<Vec<PathBuf>, DurableError> {
        if inodes.is_empty() {
            return Ok(Vec::new());
        }
        let dir = self.held()?;
        let aside = dir.make_dir(OwnDir::ASIDE)?;
        let mut moved = Vec::with_capacity(inodes.len());
        for ino in inodes {
            let name = ino.digits();
            let to = aside.free_name(&name)?;
            dir.rename_into(&name, &aside, &to, Step::AsideRename)?;
            self.gone(*ino);
            moved.push(aside.path().join(to));
        }
        aside.sync(Step::AsideName)?;
        dir.sync(Step::AsideGone)?;
        Ok(moved)
    }

    /// How many files were set aside.
    pub fn count_aside(&self) -> io::Result<u64> {
        let Some(dir) = &self.dir else {
            return Ok(0);
        };
        match dir.dir(OwnDir::ASIDE).and_then(|aside| aside.names()) {
            Ok(names) => Ok(names.len() as u64),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.source),
        }
    }

    /// The inodes that have a scratch file. Files with other names are not this session's.
    pub fn inodes(&self) -> io::Result<Vec<Ino>> {
        let Some(dir) = &self.dir else {
            return Ok(Vec::new());
        };
        let names = dir.names().map_err(|error| error.source)?;
        let mut inodes = Vec::new();
        for name in names.iter().filter_map(|name| name.to_str()) {
            inodes.extend(Ino::from_digits(name));
        }
        Ok(inodes)
    }
}
