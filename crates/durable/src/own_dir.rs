//! A directory that belongs to this user alone, held open.
//!
//! What it holds is reached through the open directory and by single names, so nothing that happens to the
//! path it was opened by (a parent that others can write to, a link put in its place) leads anywhere
//! else. No name is ever followed if it is a symbolic link, and nothing waits for the other end of a
//! pipe; what is created is created at a name that is free.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::dir::parent_of;
use crate::error::At as _;
use crate::own::{Distrust, Wanted, because, check, why_not};
use crate::staged::PREFIX;
use crate::steps::{Step, perform};
use crate::{
    DurableError, FileLock, HeldDir, Kind, create_private_dir, path_of_bytes, platform, random_name,
};

/// A directory of this user's own, held open.
#[derive(Debug)]
pub struct OwnDir {
    path: PathBuf,
    held: HeldDir,
}

/// What [`OwnDir::claim`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the directory was made.
    Nothing,
    /// An empty directory of this user, with these permission bits. They were taken from everybody else.
    Empty {
        /// Its permission bits before.
        mode: u32,
    },
}

impl OwnDir {
    /// The directory in which things are put aside of which nobody knows what they are.
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
        // What ends in a slash would be followed.
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

    /// Takes a directory for something new: one that is made, with its missing parents, or one of this
    /// user's that is empty. Both are for this user alone (0700) from then on. `None`, with nothing
    /// changed, if there is something in it.
    pub fn claim(path: &Path) -> Result<Option<(Self, Found)>, DurableError> {
        const DOING: &str = "create the directory";
        let path: PathBuf = path.components().collect();
        // `/` and `..` are nobody's to make.
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
                // In a directory that others can write to they may have put another one there since.
                dir.check()?;
                return Ok(dir.names()?.is_empty().then_some((dir, Found::Nothing)));
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
        // Others could write to it until now.
        if !dir.names()?.is_empty() {
            dir.set_mode(mode)?;
            return Ok(None);
        }
        Ok(Some((dir, Found::Empty { mode })))
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

    /// Where something in it is, for messages.
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

    /// What stands at a name; `None` if nothing does.
    pub fn kind(&self, name: &OsStr) -> Result<Option<Kind>, DurableError> {
        let facts = self.held.look(name.as_encoded_bytes());
        let facts = facts.at("look at", &self.path.join(name))?;
        Ok(facts.map(|facts| facts.kind))
    }

    /// The content of a file that is this user's alone.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, DurableError> {
        let mut file = self.open_file(name)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &self.at(name))?;
        Ok(bytes)
    }

    /// Opens a file that is this user's alone, for reading.
    pub fn open_file(&self, name: &str) -> Result<File, DurableError> {
        self.own(name, self.held.open_file(name.as_bytes()))
    }

    /// Opens a file that is this user's alone, for reading and writing.
    pub fn open_file_to_write(&self, name: &str) -> Result<File, DurableError> {
        self.own(name, self.held.open_file_to_write(name.as_bytes()))
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

    /// Says what stands in the way, if that is why a name could not be opened.
    fn because(&self, name: &str, wanted: Wanted, error: io::Error) -> io::Error {
        let facts = self.held.look(name.as_bytes()).ok().flatten();
        let why = facts.and_then(|facts| why_not(facts.kind, wanted));
        why.map_or(error, io::Error::from)
    }

    /// Creates a file (0600), open for reading and writing. Fails if the name is taken, by whatever.
    pub fn create_file(&self, name: &str) -> Result<File, DurableError> {
        let created = self.held.create_file(name.as_bytes(), 0o600);
        created.at("create", &self.at(name))
    }

    /// Writes a whole file (0600) durably, replacing the file or link that had the name.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), DurableError> {
        let path = self.at(name);
        let staged = format!("{PREFIX}{}", random_name().at("name", &path)?);
        let mut file = self.create_file(&staged)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| perform(Step::OwnContent, || self.at(&staged), || file.sync_all()));
        let rename = || {
            self.held
                .rename(staged.as_bytes(), &self.held, name.as_bytes())
        };
        let placed = written.and_then(|()| perform(Step::OwnRename, || path.clone(), rename));
        if let Err(error) = placed {
            // The first error is what counts; what stays behind is known by its name.
            let _ = self.held.remove_file(staged.as_bytes());
            return Err(DurableError::new("write", &path, error));
        }
        self.sync(Step::OwnName)
    }

    /// Moves what has a name in it into another directory, replacing the file that has the name there.
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

    /// Removes a file or link. That there is none is fine.
    pub fn remove_file(&self, name: &str) -> Result<(), DurableError> {
        let remove = || self.held.remove_file(name.as_bytes());
        gone(perform(Step::OwnRemove, || self.at(name), remove)).at("remove", &self.at(name))
    }

    /// Removes an empty directory. That there is none is fine.
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

    /// Takes the lock on a file in it, which is created (0600) if need be. `None` if someone has it.
    pub fn lock(&self, name: &str) -> Result<Option<FileLock>, DurableError> {
        let file = match self.held.create_file(name.as_bytes(), 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.open_file_to_write(name)?
            }
            created => created.at("create the lock", &self.at(name))?,
        };
        FileLock::take(&self.at(name), file)
    }

    /// Whether somebody has the lock on a file in it.
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

/// Creates a file (0600), open for reading and writing, in a directory of this user's own. Fails if the
/// name is taken, by whatever.
pub fn create_own_file(path: &Path) -> Result<File, DurableError> {
    let (dir, name) = split(path)?;
    dir.create_file(&name)
}

/// Opens a file that is this user's alone, in a directory of this user's own, for reading and writing.
pub fn open_own_file(path: &Path) -> Result<File, DurableError> {
    let (dir, name) = split(path)?;
    dir.open_file_to_write(&name)
}

/// Opens a file that is this user's alone, in a directory of this user's own, for reading.
pub fn open_own_file_to_read(path: &Path) -> Result<File, DurableError> {
    let (dir, name) = split(path)?;
    dir.open_file(&name)
}

/// The content of a file that is this user's alone, in a directory of this user's own.
pub fn read_own_file(path: &Path) -> Result<Vec<u8>, DurableError> {
    let (dir, name) = split(path)?;
    dir.read(&name)
}

/// Writes a whole file (0600) durably in a directory of this user's own, replacing what had the name.
pub fn publish_own_file(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let (dir, name) = split(path)?;
    dir.publish(&name, bytes)
}

fn split(path: &Path) -> Result<(OwnDir, String), DurableError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename));
    let name = name.at("open", path)?.to_owned();
    Ok((OwnDir::open(parent_of(path))?, name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    #[cfg(unix)]
    use std::fs::Permissions;
    #[cfg(unix)]
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_is_claimed_if_it_is_missing_or_empty_and_left_alone_otherwise() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let (dir, found) = OwnDir::claim(&path).unwrap().unwrap();
        assert_eq!((found, mode(&path)), (Found::Nothing, 0o700));
        dir.remove().unwrap();
        assert!(!path.exists());

        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
        let (_, found) = OwnDir::claim(&path).unwrap().unwrap();
        assert_eq!((found, mode(&path)), (Found::Empty { mode: 0o1777 }, 0o700));

        fs::write(path.join("f"), "precious").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(OwnDir::claim(&path).unwrap().is_none());
        assert_eq!(mode(&path), 0o755);

        symlink(temp.path().join("elsewhere"), temp.path().join("link")).unwrap();
        let error = OwnDir::claim(&temp.path().join("link")).unwrap_err();
        assert_eq!(error.source.to_string(), "it is a symbolic link");
        assert!(!temp.path().join("elsewhere").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_is_held_stays_the_same_when_another_takes_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let (path, moved) = (temp.path().join("d"), temp.path().join("moved"));
        let (dir, _) = OwnDir::claim(&path).unwrap().unwrap();
        fs::rename(&path, &moved).unwrap();
        symlink(temp.path(), &path).unwrap();
        dir.publish("f", b"text").unwrap();
        dir.create_dir("below").unwrap().create_file("g").unwrap();
        assert_eq!(dir.names().unwrap(), ["below", "f"]);
        assert!(moved.join("below/g").exists());
        assert!(!temp.path().join("f").exists());
        // What has the name now is not what is to be removed.
        dir.dir("below").unwrap().remove_file("g").unwrap();
        dir.remove_dir("below").unwrap();
        dir.remove_file("f").unwrap();
        dir.remove().unwrap();
        assert!(path.is_symlink() && moved.exists());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_in_a_directory_is_reached_through_a_link_or_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, _) = OwnDir::claim(&temp.path().join("d")).unwrap().unwrap();
        let victim = temp.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, dir.at("link")).unwrap();
        symlink(temp.path(), dir.at("dir")).unwrap();
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.at("fifo"), kind, 0o600.into(), 0).unwrap();
        fs::create_dir(dir.at("real")).unwrap();
        let reason = |error: DurableError| error.source.to_string();
        for (name, why) in [
            ("link", "it is a symbolic link"),
            ("fifo", "it is no regular file"),
            ("real", "it is no regular file"),
        ] {
            assert_eq!(reason(dir.read(name).unwrap_err()), why);
            assert_eq!(reason(dir.open_file_to_write(name).unwrap_err()), why);
            assert_eq!(reason(dir.lock(name).unwrap_err()), why);
            assert_eq!(reason(dir.is_locked(name).unwrap_err()), why);
            dir.create_file(name).unwrap_err();
        }
        assert_eq!(reason(dir.dir("dir").unwrap_err()), "it is a symbolic link");
        assert_eq!(
            reason(dir.make_dir("fifo").unwrap_err()),
            "it is no directory"
        );
        dir.publish("link", b"text").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(dir.read("link").unwrap(), b"text");
    }

    #[test]
    fn what_is_put_into_an_own_directory_can_be_read_locked_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/d");
        let (dir, found) = OwnDir::claim(&path).unwrap().unwrap();
        assert_eq!(found, Found::Nothing);
        for text in ["one", "two"] {
            dir.publish("f", text.as_bytes()).unwrap();
        }
        assert_eq!(dir.read("f").unwrap(), b"two");
        let below = dir.make_dir("below").unwrap();
        dir.rename_into("f", &below, "g", Step::AsideRename)
            .unwrap();
        assert_eq!(dir.names().unwrap(), ["below"]);
        assert!(OwnDir::claim(&path).unwrap().is_none());
        let held = below.lock("lock").unwrap().unwrap();
        assert!(below.lock("lock").unwrap().is_none());
        assert!(below.is_locked("lock").unwrap());
        drop(held);
        assert!(!below.is_locked("lock").unwrap());
        for name in ["g", "lock", "none"] {
            below.remove_file(name).unwrap();
        }
        // Wine keeps the name of what is open.
        drop(below);
        dir.remove_dir("below").unwrap();
        dir.remove().unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn an_empty_directory_is_claimed_and_given_back_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("d");
        fs::create_dir(&path).unwrap();
        let (dir, found) = OwnDir::claim(&path).unwrap().unwrap();
        crate::check_own_dir(&path).unwrap();
        dir.set_mode(match found {
            Found::Empty { mode } => mode,
            Found::Nothing => panic!("it was there"),
        })
        .unwrap();
        assert!(dir.names().unwrap().is_empty());
    }
}
