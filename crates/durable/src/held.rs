//! A directory that is held open, and access to the files below it.
//!
//! Everything is reached from the open directory. On Linux that is openat2 with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`: a symbolic link on the way is refused by the kernel, wherever it leads and
//! whenever it was put there. Where there is no openat2 (Linux before 5.6, some sandboxes), and on Windows
//! always, a path is opened component by component, each without following links.
//!
//! To work on a name, open the directory that holds it ([`HeldDir::dir`]), then use the methods that take a
//! single name. None of those follows a link at that name. Names are bytes, and `/` separates those of a path.
//! On Windows a name that the system does not allow is refused with the rule that it breaks
//! ([`NameError`](crate::NameError)).

use std::fs::File;
use std::io;
use std::path::Path;

use crate::own::Standing;
use crate::{FileStamp, Names, platform};

/// A directory that is held open.
#[derive(Debug)]
pub struct HeldDir {
    dir: platform::Dir,
}

/// Which links on the way to a file are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// None: one on the way is an error ([`Refusal::Link`](crate::Refusal::Link), or that something on the way is
    /// no directory).
    None,
    /// Those that stay below the directory. On Windows none.
    Below,
    /// All, as if the directory were `/`: for the directory `/` itself. On Windows none.
    FromRoot,
}

/// The purpose for which a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// To read its metadata ([`Facts::of`]). Its content cannot be read.
    Look,
    /// To read its content. Never waits for the other end of a pipe.
    Read,
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link; on Windows a junction, too.
    Link,
    /// A FIFO, a socket, a device.
    Other,
}

/// The metadata of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits, those for setuid, setgid and the sticky bit too. On Windows 0700 for a directory, and
    /// 0600 for a file: its access control list says more than nine bits can.
    pub mode: u32,
    /// How many names it has.
    pub names: u64,
    /// Bytes that it takes on the disk: less than its size where it has holes.
    pub allocated: u64,
    /// Identity, size and times.
    pub stamp: FileStamp,
}

impl Facts {
    /// The metadata of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        platform::facts(file)
    }

    /// The metadata of the entry at a path. A link there is not followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        platform::facts_at(path)
    }
}

impl HeldDir {
    /// Opens a directory. Fails if any component of its path is a symbolic link.
    pub fn open(path: &Path) -> io::Result<Self> {
        platform::Dir::open(path).map(Self::of)
    }

    /// Opens a directory. Links on the way to it are followed, one at its name is not.
    pub(crate) fn open_last(path: &Path) -> io::Result<Self> {
        platform::Dir::open_last(path).map(Self::of)
    }

    /// Opens a directory as any program does: links are followed.
    pub(crate) fn open_following_links(path: &Path) -> io::Result<Self> {
        platform::Dir::open_following_links(path).map(Self::of)
    }

    fn of(dir: platform::Dir) -> Self {
        Self { dir }
    }

    /// The same directory once more.
    pub(crate) fn again(&self) -> io::Result<Self> {
        self.dir.again().map(Self::of)
    }

    /// The directory's own metadata. On Windows its mode is 0755 if its access control list is inherited.
    pub fn facts(&self) -> io::Result<Facts> {
        self.dir.facts()
    }

    /// Its owner, and who may write to it.
    pub(crate) fn standing(&self) -> io::Result<Standing> {
        self.dir.standing()
    }

    /// Whether the entry at a name is the directory `other`.
    pub(crate) fn is_at(&self, name: &[u8], other: &Self) -> io::Result<bool> {
        let (held, found) = (other.facts()?.stamp, self.facts_at(name)?.stamp);
        Ok(held.is_same_file(&found))
    }

    /// Gives the directory these permission bits. On Windows only whether others have any counts: without, the access
    /// control list names its owner alone; with, it is inherited from the directory above.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.dir.set_mode(mode)
    }

    /// The names in the directory are durable when this returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.dir.sync()
    }

    /// The room on its file system.
    pub(crate) fn space(&self) -> io::Result<crate::Space> {
        self.dir.space()
    }

    /// Opens what lies at `below`, a path relative to this directory; empty means the directory.
    pub fn open_below(&self, below: &[u8], opening: Opening, follow: Follow) -> io::Result<File> {
        self.dir.open_below(below, opening, follow)
    }

    /// The directory at `below`, a path relative to this one; empty means this one. No link is followed.
    pub fn dir(&self, below: &[u8]) -> io::Result<Self> {
        self.dir.dir(below).map(Self::of)
    }

    /// As [`dir`](Self::dir), opened so that [`list`](Self::list) needs no further opening.
    pub fn dir_to_list(&self, below: &[u8], follow: Follow) -> io::Result<Self> {
        self.dir.dir_to_list(below, follow).map(Self::of)
    }

    /// The metadata of the entry with this name; `None` if no entry has it.
    pub fn look(&self, name: &[u8]) -> io::Result<Option<Facts>> {
        match self.facts_at(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            facts => facts.map(Some),
        }
    }

    /// The metadata of the entry with this name; [`io::ErrorKind::NotFound`] if no entry has it.
    pub fn facts_at(&self, name: &[u8]) -> io::Result<Facts> {
        self.dir.facts_at(name)
    }

    /// The metadata of the entry with this name, and its owner and who may write to it, from one look.
    pub(crate) fn look_at(&self, name: &[u8]) -> io::Result<(Facts, Standing)> {
        self.dir.look_at(name)
    }

    /// Whether the entry at a name belongs to this process's user.
    pub fn is_mine(&self, name: &[u8]) -> io::Result<bool> {
        Ok(self.dir.standing_at(name)?.is_mine())
    }

    /// All names in the directory, with the kinds that the file system lists beside them.
    pub fn list(&self) -> io::Result<Names> {
        self.dir.list()
    }

    /// All names in the directory.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let names = self.list()?;
        Ok(names.iter().map(|(name, _)| name.to_vec()).collect())
    }

    /// Opens the regular file at a name for reading. Never waits for the other end of a pipe.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        self.dir.open_file(name)
    }

    /// Opens the regular file at a name for reading and writing.
    pub fn open_file_to_write(&self, name: &[u8]) -> io::Result<File> {
        self.dir.open_file_to_write(name)
    }

    /// Opens the regular file at a name to make its bytes durable: for reading where that is enough.
    pub fn open_file_to_sync(&self, name: &[u8]) -> io::Result<File> {
        self.dir.open_file_to_sync(name)
    }

    /// Whether a [`ReadLease`](crate::ReadLease) tells who writes to a file in this directory, and the file's times tell of
    /// writes to a mapping.
    pub fn tells_writers(&self) -> bool {
        self.dir.tells_writers()
    }

    /// Creates a file at a name that is free, open for reading and writing. The umask takes bits from
    /// `mode`. On Windows a mode without bits for others makes a file that only its owner can use; any other one
    /// what the directory hands down.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        self.dir.create_file(name, mode)
    }

    /// Creates a directory at a name that is free. `mode` means what it does for a file.
    pub fn create_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        self.dir.create_dir(name, mode)
    }

    /// Creates a symbolic link at a name that is free. On Windows a link says what kind of thing it leads to: a
    /// directory if there is one at that place now.
    pub fn create_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        self.dir.create_link(name, target)
    }

    /// The text of a symbolic link.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        self.dir.read_link(name)
    }

    /// Renames a file or link to a name in `directory`, which is on the same file system. A file or link
    /// that has the new name is replaced, a directory is not.
    pub fn rename(&self, from: &[u8], directory: &Self, to: &[u8]) -> io::Result<()> {
        self.dir.rename(from, &directory.dir, to)
    }

    /// Renames to a name in `directory`, which is on the same file system, if that name is free; says
    /// whether it was. Nothing is ever replaced; atomic.
    pub fn rename_to_free(&self, from: &[u8], directory: &Self, to: &[u8]) -> io::Result<bool> {
        self.dir.rename_to_free(from, &directory.dir, to)
    }

    /// Removes a file or link. Fails for a directory.
    pub fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        self.dir.remove_file(name)
    }

    /// Removes a directory that is empty. Fails for anything else.
    pub fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        self.dir.remove_dir(name)
    }

    /// Gives the directory these permission bits beside its own, and a group. Windows has neither: nothing is done.
    pub fn share(&self, add_mode: u32, group: Option<u32>) -> io::Result<()> {
        self.dir.share(add_mode, group)
    }

    /// The longest name that a file in this directory can have, in bytes; on Windows in UTF-16 units.
    pub fn longest_name(&self) -> io::Result<u64> {
        self.dir.longest_name()
    }

    /// Writes everything of this file system to the disk, names too. On Windows, where only an administrator can,
    /// this directory's.
    pub fn sync_file_system(&self) -> io::Result<()> {
        self.dir.sync_file_system()
    }
}

/// Gives an open file these permission bits beside its own, and a group. Windows has neither: nothing is done.
pub fn share_file(file: &File, add_mode: u32, group: Option<u32>) -> io::Result<()> {
    platform::share_file(file, add_mode, group)
}

/// Whether an open file belongs to this process's user.
pub fn is_mine(file: &File) -> io::Result<bool> {
    Ok(platform::standing(file)?.is_mine())
}

/// Sets the modification time of an open file: seconds since 1970, and nanoseconds beyond them. Windows keeps
/// units of 100 nanoseconds, and no time before 1601.
pub fn set_modified(file: &File, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    platform::set_modified(file, seconds, nanoseconds)
}

/// Takes room on the disk for the first `len` bytes of a file, which becomes that long. A file system
/// that cannot only makes it that long.
pub fn reserve(file: &File, len: u64) -> io::Result<()> {
    platform::reserve(file, len)
}

/// Takes room on the disk for bytes of a file that are to be written later. The file stays as long as it is. A file
/// system that cannot does nothing.
pub fn reserve_beyond(file: &File, offset: u64, len: u64) -> io::Result<()> {
    platform::reserve_beyond(file, offset, len)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    #[cfg(unix)]
    use crate::Refusal;

    fn held() -> (TempDir, HeldDir) {
        let temp = TempDir::new().unwrap();
        let held = HeldDir::open(&temp.path().canonicalize().unwrap()).unwrap();
        (temp, held)
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_is_not_reached_through_a_link() {
        use std::os::unix::fs::symlink;
        let (temp, _) = held();
        let real = temp.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("d/e")).unwrap();
        symlink("d", real.join("link")).unwrap();
        let error = HeldDir::open(&real.join("link/e")).unwrap_err();
        assert_eq!(Refusal::of(&error), Some(Refusal::Link));
    }

    #[test]
    fn a_name_that_is_taken_is_never_replaced_by_a_rename_to_a_free_one() {
        let (temp, held) = held();
        let text = |name: &str| fs::read_to_string(temp.path().join(name)).unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        let other = held.dir(b"d").unwrap();
        for name in ["new", "taken", "d/taken"] {
            fs::write(temp.path().join(name), name).unwrap();
        }
        assert!(!held.rename_to_free(b"new", &held, b"taken").unwrap());
        assert!(!held.rename_to_free(b"new", &other, b"taken").unwrap());
        assert!(held.rename_to_free(b"new", &held, b"free").unwrap());
        assert!(held.rename_to_free(b"free", &other, b"free").unwrap());
        assert_eq!(
            ["taken", "d/taken", "d/free"].map(text),
            ["taken", "d/taken", "new"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_at_a_name_is_replaced_or_removed_and_not_what_it_points_to() {
        use std::os::unix::fs::symlink;
        let (temp, held) = held();
        let outside = TempDir::new().unwrap();
        let target = outside.path().join("kept");
        fs::write(&target, "kept").unwrap();
        symlink(&target, temp.path().join("link")).unwrap();
        assert_eq!(held.look(b"link").unwrap().unwrap().kind, Kind::Link);
        held.open_file(b"link").unwrap_err();
        held.create_file(b"link", 0o666).unwrap_err();
        held.create_file(b"new", 0o666).unwrap();
        held.rename(b"new", &held, b"link").unwrap();
        assert_eq!(held.look(b"link").unwrap().unwrap().kind, Kind::File);
        symlink(&target, temp.path().join("other")).unwrap();
        held.remove_file(b"other").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }

    #[test]
    fn times_are_set_to_the_nanosecond() {
        let (_temp, held) = held();
        let file = held.create_file(b"f", 0o666).unwrap();
        for (seconds, nanoseconds) in [(1_700_000_000, 123_456_000), (-1, 999_999_000)] {
            set_modified(&file, seconds, nanoseconds).unwrap();
            let set = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
            assert_eq!(Facts::of(&file).unwrap().stamp.mtime_ns, set);
        }
    }

    #[test]
    fn what_is_below_a_directory_is_reached_by_names() {
        let (temp, held) = held();
        fs::create_dir_all(temp.path().join("d/e")).unwrap();
        fs::write(temp.path().join("d/e/f"), "text").unwrap();
        for follow in [Follow::None, Follow::Below] {
            let file = held.open_below(b"d/e/f", Opening::Read, follow).unwrap();
            assert_eq!(crate::read_range(&file, 0..9).unwrap(), "text");
            let looked = held.open_below(b"d/e", Opening::Look, follow).unwrap();
            assert_eq!(Facts::of(&looked).unwrap().kind, Kind::Dir);
            let listed = held.dir_to_list(b"d/e", follow).unwrap();
            assert_eq!(listed.names().unwrap(), [b"f"]);
            assert_eq!(listed.names().unwrap(), [b"f"]);
        }
        let through = held.dir(b"d/e/f/g").unwrap_err();
        assert_eq!(through.kind(), io::ErrorKind::NotADirectory);
        assert!(held.look(b"none").unwrap().is_none());
        assert_eq!(
            held.dir(b"d/e")
                .unwrap()
                .look(b"f")
                .unwrap()
                .unwrap()
                .stamp
                .size,
            4
        );
        assert!(held.is_mine(b"d").unwrap());
    }

    #[test]
    #[cfg_attr(
        windows,
        ignore = "Windows replaces a file that is open, Wine does not"
    )]
    fn a_file_is_replaced_by_a_rename_while_others_read_it() {
        let (temp, held) = held();
        for name in ["new", "old"] {
            fs::write(temp.path().join(name), name).unwrap();
        }
        let read = held.open_file(b"old").unwrap();
        held.rename(b"new", &held, b"old").unwrap();
        assert_eq!(crate::read_range(&read, 0..9).unwrap(), "old");
        assert_eq!(fs::read(temp.path().join("old")).unwrap(), b"new");
        assert_eq!(held.names().unwrap(), [b"old"]);
    }

    #[test]
    fn only_what_is_a_file_is_opened_as_one_and_removed_as_one() {
        let (temp, held) = held();
        held.create_dir(b"d", 0o777).unwrap();
        held.create_file(b"f", 0o666).unwrap();
        let taken = held.create_file(b"f", 0o666).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        for wrong in [held.open_file(b"d"), held.open_file_to_write(b"d")] {
            assert_eq!(wrong.unwrap_err().kind(), io::ErrorKind::IsADirectory);
        }
        held.remove_file(b"d").unwrap_err();
        held.remove_dir(b"f").unwrap_err();
        held.remove_file(b"f").unwrap();
        held.remove_dir(b"d").unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn reserved_room_changes_what_is_said_of_the_length_only_if_asked_for() {
        let (_temp, held) = held();
        let file = held.create_file(b"f", 0o600).unwrap();
        reserve_beyond(&file, 0, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        reserve(&file, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        assert!(Facts::of(&file).unwrap().names == 1);
    }
}
