//! A directory that is held open, and what lies below it.
//!
//! Everything is reached from the open directory, with openat2's `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`: a symbolic link on the way is refused by the kernel, wherever it leads and
//! whenever it was put there. Where there is no openat2 (Linux before 5.6, some sandboxes) a path is
//! opened component by component, each without following links.
//!
//! Whoever works on a name opens the directory that holds it first ([`HeldDir::dir`]) and then uses the
//! methods that take a single name. None of those follows a link at that name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec,
};
use rustix::io::Errno;

use crate::FileStamp;

/// How often the kernel is asked again when it says that a rename came between (`EAGAIN`).
const TRIES: u32 = 16;

/// A directory that is held open.
#[derive(Debug)]
pub struct HeldDir {
    fd: OwnedFd,
}

/// Which links on the way to a file are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Those that stay below the directory.
    Below,
    /// All, as if the directory were `/`: for the directory `/` itself.
    FromRoot,
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket, a device.
    Other,
}

/// The metadata of what stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, those for setuid, setgid and the sticky bit too.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
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
        Ok(Self::from_stat(&rustix::fs::fstat(file)?))
    }

    fn from_stat(stat: &Stat) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Kind::Dir,
                FileType::RegularFile => Kind::File,
                FileType::Symlink => Kind::Link,
                _ => Kind::Other,
            },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            names: stat.st_nlink,
            // In units of 512 bytes, whatever the file system's block is (`stat(3type)`).
            allocated: (stat.st_blocks as u64).saturating_mul(512),
            stamp: FileStamp {
                dev: stat.st_dev,
                ino: stat.st_ino,
                size: stat.st_size as u64,
                mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
                ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
            },
        }
    }
}

impl HeldDir {
    /// Opens a directory. Fails if any component of its path is a symbolic link.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let bytes = path.as_os_str().as_bytes();
        let fd = match resolved(CWD, bytes, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
            }
            other => other,
        }?;
        Ok(Self { fd })
    }

    /// Opens a directory. Links on the way to it are followed, one at its name is not.
    pub(crate) fn open_last(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens a directory as any program does: links are followed.
    pub(crate) fn open_following_links(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// The same directory once more.
    pub(crate) fn again(&self) -> io::Result<Self> {
        let fd = self.fd.try_clone()?;
        Ok(Self { fd })
    }

    /// The directory's own metadata.
    pub(crate) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        File::from(self.again()?.fd).metadata()
    }

    /// Whether `other` is what stands at a name.
    pub(crate) fn is_at(&self, name: &[u8], other: &Self) -> io::Result<bool> {
        let held = rustix::fs::fstat(&other.fd)?;
        let found = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((held.st_dev, held.st_ino) == (found.st_dev, found.st_ino))
    }

    /// Gives the directory these permission bits.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let readable = self.open_below(b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::fchmod(readable, Mode::from_raw_mode(mode))?)
    }

    /// The names in the directory are durable when this returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let readable = self.open_below(b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
        match rustix::fs::fsync(readable) {
            // The file system does not know what syncing a directory is (some network ones).
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The room on its file system.
    pub(crate) fn space(&self) -> io::Result<crate::Space> {
        Ok(crate::platform::space_of(&rustix::fs::fstatvfs(&self.fd)?))
    }

    /// Opens what lies at `below`, a path relative to this directory; empty means the directory. Fails
    /// with `ELOOP` if a component is a symbolic link, with `ENOTDIR` if one on the way is no directory.
    pub fn open_below(&self, below: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let below = if below.is_empty() { b"." } else { below };
        let flags = flags | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match resolved(self.fd.as_fd(), below, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => step_by_step(self.fd.as_fd(), below, flags),
            other => other,
        }
    }

    /// As [`open_below`](Self::open_below), but follows links as far as `follow` says. Without openat2 none is
    /// followed.
    pub fn open_following(
        &self,
        below: &[u8],
        flags: OFlags,
        follow: Follow,
    ) -> Result<OwnedFd, Errno> {
        let below = if below.is_empty() { b"." } else { below };
        let resolve = match follow {
            Follow::Below => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Follow::FromRoot => ResolveFlags::IN_ROOT,
        };
        match resolved(self.fd.as_fd(), below, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => step_by_step(self.fd.as_fd(), below, flags),
            other => other,
        }
    }

    /// The directory at `below`, a path relative to this one; empty means this one.
    pub fn dir(&self, below: &[u8]) -> io::Result<Self> {
        let fd = self.open_below(below, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self { fd })
    }

    /// What stands at a name; `None` if nothing does.
    pub fn look(&self, name: &[u8]) -> io::Result<Option<Facts>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Facts::from_stat(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All names in the directory.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let readable = self.open_below(b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&readable)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// Opens the regular file at a name for reading. Never waits for the other end of a pipe.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// Opens the regular file at a name for reading and writing.
    pub fn open_file_to_write(&self, name: &[u8]) -> io::Result<File> {
        self.open_regular(name, OFlags::RDWR)
    }

    fn open_regular(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        let file = File::from(self.open_below(name, flags | OFlags::NONBLOCK)?);
        match Facts::of(&file)?.kind {
            Kind::File => Ok(file),
            Kind::Dir => Err(Errno::ISDIR.into()),
            Kind::Link | Kind::Other => Err(Errno::INVAL.into()),
        }
    }

    /// Creates a file at a name that is free, open for reading and writing. The umask takes bits from
    /// `mode`.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode);
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, mode)?;
        Ok(File::from(fd))
    }

    /// Creates a directory at a name that is free. The umask takes bits from `mode`.
    pub fn create_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(
            &self.fd,
            name,
            Mode::from_raw_mode(mode),
        )?)
    }

    /// Creates a symbolic link at a name that is free.
    pub fn create_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, name)?)
    }

    /// What a symbolic link says.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new())?;
        Ok(target.into_bytes())
    }

    /// Renames a file or link to a name in `directory`, which is on the same file system. A file or link
    /// that has the new name is replaced, a directory is not.
    pub fn rename(&self, from: &[u8], directory: &Self, to: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &directory.fd, to)?)
    }

    /// Renames to a name in `directory`, which is on the same file system, if that name is free; says
    /// whether it was. Nothing is ever replaced; atomic.
    pub fn rename_to_free(&self, from: &[u8], directory: &Self, to: &[u8]) -> io::Result<bool> {
        let flags = RenameFlags::NOREPLACE;
        let renamed = match rustix::fs::renameat_with(&self.fd, from, &directory.fd, to, flags) {
            // A file system or kernel that knows no such flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.rename_without_flags(from, directory, to)
            }
            renamed => renamed,
        };
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn rename_without_flags(&self, from: &[u8], directory: &Self, to: &[u8]) -> Result<(), Errno> {
        let stat = rustix::fs::statat(&self.fd, from, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // It has no second name; a rename puts it over an empty directory at most.
            return match rustix::fs::statat(&directory.fd, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(&self.fd, from, &directory.fd, to),
                Err(error) => Err(error),
            };
        }
        // A second name is never put over another.
        rustix::fs::linkat(&self.fd, from, &directory.fd, to, AtFlags::empty())?;
        rustix::fs::unlinkat(&self.fd, from, AtFlags::empty())
    }

    /// Removes a file or link. Fails for a directory.
    pub fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes a directory that is empty. Fails for anything else.
    pub fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Gives the directory these permission bits beside its own, and a group.
    pub fn share(&self, add_mode: u32, group: Option<u32>) -> io::Result<()> {
        let readable = self.open_below(b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
        share(readable.as_fd(), add_mode, group)
    }

    /// The longest name that a file in this directory can have, in bytes.
    pub fn longest_name(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstatvfs(&self.fd)?.f_namemax)
    }

    /// Writes everything of this file system to the disk, names too.
    pub fn sync_file_system(&self) -> io::Result<()> {
        let readable = self.open_below(b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::syncfs(readable)?)
    }
}

/// Gives an open file these permission bits beside its own, and a group.
pub fn share_file(file: &File, add_mode: u32, group: Option<u32>) -> io::Result<()> {
    share(file.as_fd(), add_mode, group)
}

fn share(fd: BorrowedFd<'_>, add_mode: u32, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        rustix::fs::fchown(fd, None, Some(rustix::fs::Gid::from_raw(group)))?;
    }
    if add_mode != 0 {
        let mode = rustix::fs::fstat(fd)?.st_mode & 0o7777 | add_mode;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// Sets the modification time of an open file: seconds since 1970, and nanoseconds beyond them.
pub fn set_modified(file: &File, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    let times = rustix::fs::Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Takes room on the disk for the first `len` bytes of a file, which becomes that long. A file system
/// that cannot only makes it that long.
pub fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
        Err(error) => Err(error.into()),
    }
}

fn resolved(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(directory, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Opens a path whose components are not links, without openat2.
fn step_by_step(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let always = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut current: Option<OwnedFd> = None;
    let mut rest = path;
    while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
        let from = current.as_ref().map_or(directory, AsFd::as_fd);
        let through = OFlags::PATH | OFlags::DIRECTORY | always;
        current = Some(rustix::fs::openat(
            from,
            &rest[..slash],
            through,
            Mode::empty(),
        )?);
        rest = &rest[slash + 1..];
    }
    let from = current.as_ref().map_or(directory, AsFd::as_fd);
    rustix::fs::openat(from, rest, flags | always, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    type Open = fn(&HeldDir, &[u8]) -> Result<OwnedFd, Errno>;

    fn held() -> (TempDir, HeldDir) {
        let temp = TempDir::new().unwrap();
        let held = HeldDir::open(&temp.path().canonicalize().unwrap()).unwrap();
        (temp, held)
    }

    #[test]
    fn both_ways_of_opening_refuse_links_and_find_the_rest() {
        let (temp, held) = held();
        fs::create_dir_all(temp.path().join("d/e")).unwrap();
        fs::write(temp.path().join("d/e/f"), "f").unwrap();
        symlink("d", temp.path().join("link")).unwrap();
        symlink("f", temp.path().join("d/e/link")).unwrap();
        let ways: [Open; 2] = [
            |held, path| held.open_below(path, OFlags::RDONLY),
            |held, path| step_by_step(held.fd.as_fd(), path, OFlags::RDONLY),
        ];
        for open in ways {
            assert!(open(&held, b"d/e/f").is_ok());
            assert!(open(&held, b"d").is_ok());
            assert_eq!(open(&held, b"d/e/link").unwrap_err(), Errno::LOOP);
            let through = open(&held, b"link/e/f").unwrap_err();
            assert!(matches!(through, Errno::LOOP | Errno::NOTDIR), "{through}");
            assert_eq!(open(&held, b"d/none").unwrap_err(), Errno::NOENT);
        }
    }

    #[test]
    fn a_directory_is_not_reached_through_a_link() {
        let (temp, _) = held();
        let real = temp.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("d/e")).unwrap();
        symlink("d", real.join("link")).unwrap();
        assert_eq!(
            HeldDir::open(&real.join("link/e")).unwrap_err(),
            Errno::LOOP
        );
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

    #[test]
    fn without_the_flag_nothing_is_replaced_either() {
        let (temp, held) = held();
        for name in ["new/in", "taken/in"] {
            let at = temp.path().join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, name).unwrap();
        }
        let (new, taken) = (held.dir(b"new").unwrap(), held.dir(b"taken").unwrap());
        let rename =
            |from: &HeldDir, name: &[u8], to: &[u8]| from.rename_without_flags(name, &held, to);
        assert_eq!(rename(&held, b"new", b"taken"), Err(Errno::EXIST));
        rename(&new, b"in", b"file").unwrap();
        assert_eq!(rename(&taken, b"in", b"file"), Err(Errno::EXIST));
        rename(&held, b"new", b"moved").unwrap();
        assert_eq!(held.names().unwrap().len(), 3);
        assert_eq!(
            fs::read_to_string(temp.path().join("file")).unwrap(),
            "new/in"
        );
    }

    #[test]
    fn a_link_at_a_name_is_replaced_or_removed_and_not_what_it_points_to() {
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
}
