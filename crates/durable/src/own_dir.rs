//! A directory that belongs to this user alone, held open.
//!
//! Its entries are reached through the open directory and by single names, so changes to the path that it
//! was opened by (a parent that others can write to, a link put in its place) do not lead anywhere else. A
//! symbolic link at a name is never followed, and nothing waits for the other end of a pipe; new files are
//! created only at free names.

mod by_path;
mod filling;
mod mapped;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::dir::parent_of;
use crate::error::At as _;
use crate::own::{Distrust, Wanted, because, check, why_not};
use crate::staged::{PREFIX, is_staged_name};
use crate::steps::{Step, perform};
use crate::{
    DurableError, Facts, FileLock, HeldDir, Kind, create_private_dir, path_of_bytes, platform,
};

pub use by_path::{
    create_own_file, open_own_file, open_own_file_to_read, publish_own_file, read_own_file,
};
pub use filling::Filling;
pub use mapped::Mapped;

/// How many bytes of a long file are read at once.
const PIECE: usize = 1 << 20;

/// A directory of this user's own, held open.
#[derive(Debug)]
pub struct OwnDir {
    path: PathBuf,
    held: HeldDir,
}

/// What was at the path before [`OwnDir::claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeforeClaim {
    /// Nothing: the directory was made.
    Nothing,
    /// An empty directory of this user, with these permission bits. They were taken from everybody else.
    EmptyDir {
        /// Its permission bits before.
        mode: u32,
    },
}

impl OwnDir {
    /// The directory into which unknown files are moved.
    pub const ASIDE: &str = "aside";

    /// Opens a directory. Links on the way to it are followed, one at its name is refused, and so is a
    /// directory of another user or one that others may write to, with
    /// [`io::ErrorKind::PermissionDenied`].
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let dir = Self::open_any(path)?;
        dir.check()?;
        Ok(dir)
    }

    fn open_any(path: &Path) -> Result<Self, DurableError> {
        // A link with a slash after it would be followed.
        let path: PathBuf = path.components().collect();
        let held = HeldDir::open_last(&path).map_err(|error| because(&path, Wanted::Dir, error));
        let held = held.at("open the directory", &path)?;
        Ok(Self { path, held })
    }

    fn check(&self) -> Result<(), DurableError> {
        let standing = self.held.standing().at("look at", &self.path)?;
        check(&standing, Wanted::Dir).at("trust", &self.path)
    }

    /// Opens a directory and creates it (0700) if need be, with its missing parents.
    pub fn create(path: &Path) -> Result<Self, DurableError> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_private_dir(path)?;
                Self::open(path)
            }
            opened => opened,
        }
    }

    /// Claims a directory for new content: makes it, with its missing parents, or takes an empty
    /// directory of this user. It is for this user alone (0700) afterwards. `None`, with nothing
    /// changed, if the directory is not empty.
    pub fn claim(path: &Path) -> Result<Option<(Self, BeforeClaim)>, DurableError> {
        const DOING: &str = "create the directory";
        let path: PathBuf = path.components().collect();
        // `/` and `..` cannot be made.
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let (above, name) = (parent_of(&path), name.as_encoded_bytes());
        if !above.is_dir() {
            create_private_dir(above)?;
        }
        let parent = HeldDir::open_following_links(above).at("open the directory", above)?;
        match parent.create_dir(name, 0o700) {
            Ok(()) => {
                let synced = perform(Step::ClaimName, || above.to_owned(), || parent.sync());
                synced.at("sync the directory", above)?;
                let held = parent.dir(name).at("open the directory", &path)?;
                let dir = Self { path, held };
                // In a parent that others can write to, they may have replaced the new directory
                // since.
                dir.check()?;
                return Ok(dir
                    .names()?
                    .is_empty()
                    .then_some((dir, BeforeClaim::Nothing)));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(DurableError::new(DOING, &path, error)),
        }
        let dir = Self::open_any(&path)?;
        let standing = dir.held.standing().at("look at", &path)?;
        match check(&standing, Wanted::Dir) {
            Ok(()) | Err(Distrust::Writers(_)) => {}
            distrusted => distrusted.at("trust", &path)?,
        }
        if !dir.names()?.is_empty() {
            return Ok(None);
        }
        let mode = dir.held.facts().at("look at", &path)?.mode;
        dir.set_mode(0o700)?;
        // Until now others could write to it, so it may not be empty any more.
        if !dir.names()?.is_empty() {
            dir.set_mode(mode)?;
            return Ok(None);
        }
        Ok(Some((dir, BeforeClaim::EmptyDir { mode })))
    }

    /// The same directory once more.
    pub fn again(&self) -> Result<Self, DurableError> {
        Ok(Self {
            path: self.path.clone(),
            held: self.held.again().at("open the directory", &self.path)?,
        })
    }

    /// The directory itself.
    pub(crate) fn held(&self) -> &HeldDir {
        &self.held
    }

    /// Where it was when it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives the directory these permission bits.
    pub fn set_mode(&self, mode: u32) -> Result<(), DurableError> {
        let set = self.held.set_mode(mode);
        set.at("set the permissions of", &self.path)
    }

    /// A directory in it, which is this user's alone as well.
    pub fn dir(&self, name: &str) -> Result<Self, DurableError> {
        let path = self.at(name);
        let held = self.held.dir(name.as_bytes());
        let held = held.map_err(|error| self.because(name, Wanted::Dir, error));
        let held = held.at("open the directory", &path)?;
        let dir = Self { path, held };
        dir.check()?;
        Ok(dir)
    }

    /// A new directory in it (0700), durably. Fails if the name is taken.
    pub fn create_dir(&self, name: &str) -> Result<Self, DurableError> {
        let made = self.held.create_dir(name.as_bytes(), 0o700);
        made.at("create the directory", &self.at(name))?;
        self.sync(Step::OwnDirName)?;
        self.dir(name)
    }

    /// A directory in it, which is made (0700), durably, if need be.
    pub fn make_dir(&self, name: &str) -> Result<Self, DurableError> {
        match self.create_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.dir(name),
            made => made,
        }
    }

    /// All names in it, in order.
    pub fn names(&self) -> Result<Vec<OsString>, DurableError> {
        let names = self.held.names().at("read the directory", &self.path)?;
        let mut names: Vec<_> = names
            .into_iter()
            .map(|name| path_of_bytes(name).into())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The kind of the entry at a name; `None` if there is none.
    pub fn kind(&self, name: &OsStr) -> Result<Option<Kind>, DurableError> {
        let facts = self.held.look(name.as_encoded_bytes());
        let facts = facts.at("look at", &self.path.join(name))?;
        Ok(facts.map(|facts| facts.kind))
    }

    /// This name, or the first free one with a number after it, as `name.1`. The caller knows that nobody else makes names here.
    pub fn free_name(&self, name: &str) -> Result<String, DurableError> {
        let mut free = name.to_owned();
        let mut number = 0;
        while self.kind(free.as_ref())?.is_some() {
            number += 1;
            free = format!("{name}.{number}");
        }
        Ok(free)
    }

    /// The content of a file that is this user's alone.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, DurableError> {
        let mut file = self.open_file(name)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &self.at(name))?;
        Ok(bytes)
    }

    /// As [`read`](Self::read), a file of at most so many bytes; a longer one is an error.
    pub fn read_at_most(&self, name: &str, most: u64) -> Result<Vec<u8>, DurableError> {
        let mut bytes = Vec::new();
        let mut file = self.open_file(name)?.take(most + 1);
        file.read_to_end(&mut bytes).at("read", &self.at(name))?;
        if bytes.len() as u64 > most {
            let error = io::Error::from(io::ErrorKind::FileTooLarge);
            return Err(DurableError::new("read", &self.at(name), error));
        }
        Ok(bytes)
    }

    /// Reads a file that is this user's alone from its beginning to its end, and shows each piece.
    pub fn read_through(
        &self,
        name: &str,
        mut show: impl FnMut(&[u8]),
    ) -> Result<(), DurableError> {
        let mut file = self.open_file(name)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(len) => show(&piece[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DurableError::new("read", &self.at(name), error)),
            }
        }
    }

    /// The metadata of a file that is this user's alone. It is not opened, which takes a fraction of the time.
    pub fn file_facts(&self, name: &str) -> Result<Facts, DurableError> {
        // Its path is put together for an error only.
        let failed = |doing, error| DurableError::new(doing, &self.at(name), error);
        let looked = self.held.look_at(name.as_bytes());
        let (facts, standing) = looked.map_err(|error| failed("look at", error))?;
        let checked = check(&standing, Wanted::File);
        checked.map_err(|distrust| failed("trust", distrust.into()))?;
        Ok(facts)
    }

    /// Opens a file that is this user's alone, for reading.
    pub fn open_file(&self, name: &str) -> Result<File, DurableError> {
        self.own(name, self.held.open_file(name.as_bytes()))
    }

    /// Opens a file that is this user's alone, for reading and writing.
    pub fn open_file_to_write(&self, name: &str) -> Result<File, DurableError> {
        self.own(name, self.held.open_file_to_write(name.as_bytes()))
    }

    /// Opens a file that is this user's alone to make its bytes durable: for reading where that is enough.
    pub fn open_file_to_sync(&self, name: &str) -> Result<File, DurableError> {
        self.own(name, self.held.open_file_to_sync(name.as_bytes()))
    }

    /// Whether a [`ReadLease`](crate::ReadLease) tells who writes to a file in this directory, in any process, and the file's
    /// times tell of writes to a mapping. A file without a name is made for it and gone when this returns.
    pub fn tells_writers(&self) -> bool {
        self.held.tells_writers()
    }

    fn own(&self, name: &str, opened: io::Result<File>) -> Result<File, DurableError> {
        let path = self.at(name);
        let opened = opened.map_err(|error| self.because(name, Wanted::File, error));
        let file = opened.at("open", &path)?;
        check(
            &platform::standing(&file).at("look at", &path)?,
            Wanted::File,
        )
        .at("trust", &path)?;
        Ok(file)
    }

    /// Replaces the error of a failed opening by the reason, if it failed because of the entry's
    /// kind or owner.
    fn because(&self, name: &str, wanted: Wanted, error: io::Error) -> io::Error {
        let facts = self.held.look(name.as_bytes()).ok().flatten();
        let why = facts.and_then(|facts| why_not(facts.kind, wanted));
        why.map_or(error, io::Error::from)
    }

    /// Creates a file (0600), open for reading and writing. Fails if anything has the name.
    pub fn create_file(&self, name: &str) -> Result<File, DurableError> {
        let created = self.held.create_file(name.as_bytes(), 0o600);
        created.at("create", &self.at(name))
    }

    /// Writes a whole file (0600) durably, replacing the file or link that had the name.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), DurableError> {
        let mut filling = self.fill(name)?;
        filling.write(bytes)?;
        filling.publish()
    }

    /// Writes a whole file (0600), whose bytes are durable when this returns, under a name that nobody can guess, and returns
    /// that ([`is_staged_name`](crate::is_staged_name)). It is given another name with [`name_staged`](Self::name_staged), or removed.
    pub fn stage(&self, bytes: &[u8]) -> Result<String, DurableError> {
        let mut filling = self.fill(PREFIX)?;
        filling.write(bytes)?;
        filling.stage()
    }

    /// Gives a staged file its name, durably, replacing the file or link that had it. After an error the staged file is gone.
    pub fn name_staged(&self, staged: &str, name: &str) -> Result<(), DurableError> {
        let path = self.at(name);
        let rename = || {
            self.held
                .rename(staged.as_bytes(), &self.held, name.as_bytes())
        };
        if let Err(error) = perform(Step::OwnRename, || path.clone(), rename) {
            return Err(self.without(staged, DurableError::new("write", &path, error)));
        }
        self.sync(Step::OwnName)
    }

    /// Removes a staged file because of an error.
    fn without(&self, staged: &str, error: DurableError) -> DurableError {
        // The first error counts; a staged file that stays behind is known by its name.
        let _ = self.held.remove_file(staged.as_bytes());
        error
    }

    /// Removes the staged files in it, and returns their number: files with the names that attachfs gives them, and nothing
    /// else. The caller knows that no other process is writing one here: the files of [`stage`](Self::stage) are not locked.
    pub fn sweep(&self) -> Result<usize, DurableError> {
        let mut removed = 0;
        for name in self.names()? {
            let Some(staged) = name.to_str().filter(|name| is_staged_name(name)) else {
                continue;
            };
            if self.kind(&name)? != Some(Kind::File) {
                continue;
            }
            let file = match self.held.open_file(staged.as_bytes()) {
                // It was named or removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.at("open", &self.at(staged))?,
            };
            // This process is filling it, or the file system cannot tell.
            if file.try_lock_shared().is_err() {
                continue;
            }
            // With the lock held: who makes one and locks it would otherwise have it removed.
            self.remove_file(staged)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Moves an entry into another directory, replacing a file of the same name there.
    pub fn rename_into(
        &self,
        name: &str,
        to: &Self,
        new: &str,
        step: Step,
    ) -> Result<(), DurableError> {
        let rename = || self.held.rename(name.as_bytes(), &to.held, new.as_bytes());
        let moved = perform(step, || to.at(new), rename);
        moved.at("move", &self.at(name))
    }

    /// Removes a file or link. A missing one is fine.
    pub fn remove_file(&self, name: &str) -> Result<(), DurableError> {
        let remove = || self.held.remove_file(name.as_bytes());
        gone(perform(Step::OwnRemove, || self.at(name), remove)).at("remove", &self.at(name))
    }

    /// Removes an empty directory. A missing one is fine.
    pub fn remove_dir(&self, name: &str) -> Result<(), DurableError> {
        gone(self.held.remove_dir(name.as_bytes())).at("remove", &self.at(name))
    }

    /// Removes the directory itself, which is empty, if it still is where it was.
    pub fn remove(&self) -> Result<(), DurableError> {
        let Some(name) = self.path.file_name() else {
            return Ok(());
        };
        let removed = || -> io::Result<()> {
            let parent = HeldDir::open_following_links(parent_of(&self.path))?;
            if parent.is_at(name.as_encoded_bytes(), &self.held)? {
                parent.remove_dir(name.as_encoded_bytes())?;
            }
            Ok(())
        };
        gone(removed()).at("remove", &self.path)
    }

    /// Takes the lock on a file in it, which is created (0600) if need be. `None` if another process
    /// has it.
    pub fn lock(&self, name: &str) -> Result<Option<FileLock>, DurableError> {
        let file = match self.held.create_file(name.as_bytes(), 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.open_file_to_write(name)?
            }
            created => created.at("create the lock", &self.at(name))?,
        };
        FileLock::take(&self.at(name), file)
    }

    /// Whether a process has the lock on a file in it.
    pub fn is_locked(&self, name: &str) -> Result<bool, DurableError> {
        match self.open_file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            file => FileLock::is_taken(&self.at(name), &file?),
        }
    }

    /// The names in it are durable when this returns.
    pub fn sync(&self, step: Step) -> Result<(), DurableError> {
        let synced = perform(step, || self.path.clone(), || self.held.sync());
        synced.at("sync the directory", &self.path)
    }

    /// All files in it, and whatever else is on its file system, are durable when this returns.
    pub fn sync_file_system(&self, step: Step) -> Result<(), DurableError> {
        let synced = perform(step, || self.path.clone(), || self.held.sync_file_system());
        synced.at("sync the file system of", &self.path)
    }

    /// The room for more on its file system.
    pub fn space(&self) -> Result<crate::Space, DurableError> {
        self.held.space().at("look at", &self.path)
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
