//! Files that appear under their name complete, or not at all.
//!
//! A [`Staged`] file has an unpredictable name that begins with `.staged-` and an advisory lock
//! that its process holds while it lives. Dropping it removes it; the files of a killed process are
//! not locked any more, and [`sweep_abandoned`] finds them.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::dir::{Sharing, parent_of, sync_parent};
use crate::error::At as _;
use crate::own::{Standing, Wanted, open_to_append, why_not};
use crate::steps::{Step, perform};
use crate::{DurableError, GroupSync, platform};

pub(crate) const PREFIX: &str = ".staged-";
/// How many random characters follow.
const RANDOM: usize = 12;

/// Whether a file of this name can be a [`Staged`] one.
pub fn is_staged_name(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX);
    random.is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// A file that is being filled and has no name of its own yet. Removed when dropped.
#[derive(Debug)]
pub struct Staged {
    inner: NamedTempFile,
}

impl Staged {
    /// Creates an empty file in `dir` that only its owner can use (0600). To be renamed, it must be
    /// on the file system of its later name: take the directory of that name, or one in it.
    pub fn create_in(dir: &Path) -> Result<Self, DurableError> {
        Self::with_mode(dir, 0o600)
    }

    /// Creates an empty file in `dir` that others can use as the process's umask lets them: for
    /// files that a person asked for by name.
    pub(crate) fn create_shared_in(dir: &Path) -> Result<Self, DurableError> {
        Self::with_mode(dir, 0o666)
    }

    fn with_mode(dir: &Path, mode: u32) -> Result<Self, DurableError> {
        const DOING: &str = "create a file in";
        loop {
            let inner = tempfile::Builder::new()
                .prefix(PREFIX)
                .rand_bytes(RANDOM)
                .make_in(dir, |path| platform::create_new(path, mode))
                .at(DOING, dir)?;
            // On a file system without locks nothing is swept, so failing to lock does no harm.
            let locked = inner.as_file().try_lock();
            let swept = matches!(locked, Err(std::fs::TryLockError::WouldBlock))
                || platform::is_unlinked(inner.as_file()).at(DOING, dir)?;
            if !swept {
                return Ok(Self { inner });
            }
        }
    }

    /// Lets others read the file as far as `sharing` says.
    pub fn share(&self, sharing: Sharing) -> Result<(), DurableError> {
        platform::set_mode(self.file(), sharing.file_mode())
            .at("set the permissions of", self.path())
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        self.inner.as_file()
    }

    /// Its present name, for messages.
    pub fn path(&self) -> &Path {
        self.inner.path()
    }

    /// Makes the content durable, gives the file its name, replacing a file that has it, and makes
    /// the name durable. Returns the open file. After an error either file may have the name; each
    /// is complete.
    pub fn publish(self, to: &Path) -> Result<File, DurableError> {
        self.sync()?;
        let file = self.place(to)?;
        sync_parent(to, Step::StagedName)?;
        Ok(file)
    }

    /// As [`Staged::publish`], sharing the sync of the directory with others.
    pub fn publish_grouped(self, to: &Path, group: &GroupSync) -> Result<File, DurableError> {
        debug_assert_eq!(parent_of(to), group.dir(), "another directory is synced");
        self.sync()?;
        let file = self.place(to)?;
        group.sync()?;
        Ok(file)
    }

    /// As [`Staged::publish`] if nothing has the name yet, atomically. Otherwise leaves the
    /// existing entry alone, drops this file and returns `None`. The name is durable in both cases.
    pub fn publish_if_absent(self, to: &Path) -> Result<Option<File>, DurableError> {
        self.sync()?;
        let (file, name) = self.inner.into_parts();
        let placed = perform(
            Step::StagedLink,
            || to.to_owned(),
            || name.persist_noclobber(to).map_err(|failed| failed.error),
        );
        let placed = match placed {
            Ok(()) => Some(unlocked(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(DurableError::new("create", to, error)),
        };
        sync_parent(to, Step::StagedName)?;
        Ok(placed)
    }

    /// Gives the file its name atomically, but not durably: after a power loss the name may be
    /// missing, or have only part of the content. For files that can be checked and made again.
    pub fn place(self, to: &Path) -> Result<File, DurableError> {
        let (file, name) = self.inner.into_parts();
        let placed = perform(
            Step::StagedRename,
            || to.to_owned(),
            || platform::persist(name, to),
        );
        placed.at("rename a new file to", to)?;
        Ok(unlocked(file))
    }

    fn sync(&self) -> Result<(), DurableError> {
        let synced = perform(
            Step::StagedContent,
            || self.path().to_owned(),
            || self.file().sync_all(),
        );
        synced.at("sync", self.path())
    }
}

/// The lock only says that the file is still being filled. Where there are no locks there is none
/// to release, so a failure means nothing.
fn unlocked(file: File) -> File {
    let _ = file.unlock();
    file
}

/// Writes a whole file (0600) durably under `path`, replacing an existing file.
pub fn publish(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), DurableError> {
    let staged = Staged::create_in(parent_of(path))?;
    written(staged, path, write)?.publish(path).map(drop)
}

/// As [`publish`], for a file that a person asked for by name: others can use it as the process's umask lets
/// them. A character device such as `/dev/null` is written to, and never replaced. Fails for anything else
/// that is no file, and for links, `/dev/stdout` among them: a link would be lost, and somebody made it.
pub fn publish_shared(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), DurableError> {
    if let Ok(standing) = Standing::at(path) {
        if standing.is_device {
            let mut device = open_to_append(path)?;
            return write(&mut device).at("write", path);
        }
        if let Some(why) = why_not(standing.kind, Wanted::File) {
            return Err(DurableError::new("replace", path, why));
        }
    }
    let staged = Staged::create_shared_in(parent_of(path))?;
    written(staged, path, write)?.publish(path).map(drop)
}

/// Writes a whole file (0600) durably under `path` unless something has the name. Returns whether
/// it wrote.
pub fn publish_if_absent(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<bool, DurableError> {
    let staged = Staged::create_in(parent_of(path))?;
    let staged = written(staged, path, write)?;
    Ok(staged.publish_if_absent(path)?.is_some())
}

/// Fills the file that is to be at `path`.
fn written(
    mut staged: Staged,
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<Staged, DurableError> {
    write(staged.inner.as_file_mut()).at("write", path)?;
    Ok(staged)
}

/// Removes the staged files in `dir` whose process has ended, and returns their number.
pub fn sweep_abandoned(dir: &Path) -> Result<usize, DurableError> {
    const DOING: &str = "remove abandoned files in";
    let mut removed = 0;
    for entry in dir.read_dir().at(DOING, dir)? {
        let entry = entry.at(DOING, dir)?;
        let is_staged = entry.file_name().to_str().is_some_and(is_staged_name);
        // What cannot be looked at is gone, or not to be removed.
        let is_file = || entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_staged || !is_file() {
            continue;
        }
        let path = entry.path();
        let file = match platform::open_lock_file_if_exists(&path) {
            Ok(file) => file,
            // It was published or removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(DurableError::new("open", &path, error)),
        };
        // Still being filled, or on a file system that cannot tell.
        if file.try_lock().is_err() {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DurableError::new("remove", &path, error)),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = dir
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_published_file_is_complete_private_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        publish(&path, |file| file.write_all(b"one")).unwrap();
        publish(&path, |file| file.write_all(b"two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        #[cfg(unix)]
        assert_eq!(crate::Facts::at(&path).unwrap().mode, 0o600);
        crate::check_own_file(&path).unwrap();
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        publish(&path, |file| file.write_all(b"one")).unwrap();
        let error = publish(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(
            error.to_string(),
            format!("cannot write {}", path.display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn publishing_if_absent_keeps_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(publish_if_absent(&path, |file| file.write_all(b"first")).unwrap());
        assert!(!publish_if_absent(&path, |file| file.write_all(b"second")).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn of_many_that_publish_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let wins = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u8)
                .map(|i| {
                    let path = &path;
                    scope.spawn(move || {
                        publish_if_absent(path, |file| file.write_all(&[i; 4096])).unwrap()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(wins, 1);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, [bytes[0]; 4096]);
    }

    #[test]
    fn a_dropped_staged_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Staged::create_in(dir.path()).unwrap());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_grouped_publish_needs_no_sync_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let group = GroupSync::new(dir.path().to_owned());
        let staged = Staged::create_in(dir.path()).unwrap();
        staged.file().write_all(b"x").unwrap();
        staged
            .publish_grouped(&dir.path().join("f"), &group)
            .unwrap();
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_for_others_takes_the_place_of_a_file_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str| publish_shared(&at(name), |file| file.write_all(b"new"));
        fs::write(at("file"), "old").unwrap();
        fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        for (name, why) in [
            ("dir", "it is no regular file"),
            ("link", "it is a symbolic link"),
            ("dangling", "it is a symbolic link"),
        ] {
            assert_eq!(write(name).unwrap_err().source.to_string(), why, "{name}");
        }
        assert_eq!(at("link").read_link().unwrap(), Path::new("file"));
        assert_eq!(at("dangling").read_link().unwrap(), Path::new("nothing"));
        assert_eq!(fs::read(at("file")).unwrap(), b"old");
        write("file").unwrap();
        assert_eq!(fs::read(at("link")).unwrap(), b"new");
        publish_shared(Path::new("/dev/null"), |file| file.write_all(b"new")).unwrap();
        assert_eq!(names(dir.path()), ["dangling", "dir", "file", "link"]);
    }

    #[test]
    fn sweeping_takes_what_the_dead_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Staged::create_in(dir.path()).unwrap();
        fs::write(dir.path().join(".staged-ofTheDead000"), "half").unwrap();
        let others = [".staged-ofSomebody", ".staged-ofSomebody.txt", "other"];
        for other in others {
            fs::write(dir.path().join(other), "").unwrap();
        }
        fs::create_dir(dir.path().join(".staged-aDirectory00")).unwrap();
        assert_eq!(sweep_abandoned(dir.path()).unwrap(), 1);
        assert!(alive.path().exists());
        alive.publish(&dir.path().join("done")).unwrap();
        let mut left = vec![".staged-aDirectory00"];
        left.extend(others);
        left.insert(3, "done");
        assert_eq!(names(dir.path()), left);
    }
}
