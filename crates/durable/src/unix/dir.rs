//! Directories held open, on Linux: openat2 and the calls that take a directory's descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{facts_of, standing_of};
use crate::own::Standing;
use crate::{Facts, Follow, Kind, Names, Opening};

/// How often the kernel is asked again when it says that a rename came between (`EAGAIN`).
const ATTEMPTS: u32 = 16;

/// A directory that is held open. Only those that are to be listed are open for reading.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    is_readable: bool,
}

impl Dir {
    /// No component of the path may be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let bytes = path.as_os_str().as_bytes();
        let fd = match resolved(CWD, bytes, flags, ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
            }
            opened => opened,
        }?;
        Ok(Self::unreadable(fd))
    }

    pub(crate) fn open_last(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self::unreadable(fd))
    }

    pub(crate) fn open_following_links(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self::unreadable(fd))
    }

    fn unreadable(fd: OwnedFd) -> Self {
        Self {
            fd,
            is_readable: false,
        }
    }

    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            is_readable: self.is_readable,
        })
    }

    pub(crate) fn facts(&self) -> io::Result<Facts> {
        Ok(facts_of(&rustix::fs::fstat(&self.fd)?))
    }

    pub(crate) fn standing(&self) -> io::Result<Standing> {
        Ok(standing_of(&rustix::fs::fstat(&self.fd)?))
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(
            self.readable()?,
            Mode::from_raw_mode(mode),
        )?)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(self.readable()?) {
            // The file system does not support syncing a directory (some network ones).
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn space(&self) -> io::Result<crate::Space> {
        Ok(super::space_of(&rustix::fs::fstatvfs(&self.fd)?))
    }

    fn readable(&self) -> Result<OwnedFd, Errno> {
        self.open_flags(b"", OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// No component may be a link.
    fn open_flags(&self, below: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let below = if below.is_empty() { b"." } else { below };
        let flags = flags | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match resolved(self.fd.as_fd(), below, flags, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => step_by_step(self.fd.as_fd(), below, flags),
            opened => opened,
        }
    }

    /// Without openat2 no link is followed.
    fn open_flags_following(
        &self,
        below: &[u8],
        flags: OFlags,
        follow: Follow,
    ) -> Result<OwnedFd, Errno> {
        let below = if below.is_empty() { b"." } else { below };
        let resolve = match follow {
            Follow::None => return self.open_flags(below, flags),
            Follow::Below => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Follow::FromRoot => ResolveFlags::IN_ROOT,
        };
        match resolved(self.fd.as_fd(), below, flags, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => step_by_step(self.fd.as_fd(), below, flags),
            opened => opened,
        }
    }

    pub(crate) fn open_below(
        &self,
        below: &[u8],
        opening: Opening,
        follow: Follow,
    ) -> io::Result<File> {
        let flags = match opening {
            Opening::Look => OFlags::PATH,
            Opening::Read => OFlags::RDONLY | OFlags::NONBLOCK,
        };
        Ok(File::from(self.open_flags_following(below, flags, follow)?))
    }

    pub(crate) fn dir(&self, below: &[u8]) -> io::Result<Self> {
        let fd = self.open_flags(below, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self::unreadable(fd))
    }

    pub(crate) fn dir_to_list(&self, below: &[u8], follow: Follow) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Self {
            fd: self.open_flags_following(below, flags, follow)?,
            is_readable: true,
        })
    }

    pub(crate) fn facts_at(&self, name: &[u8]) -> io::Result<Facts> {
        Ok(facts_of(&self.stat(name)?))
    }

    pub(crate) fn standing_at(&self, name: &[u8]) -> io::Result<Standing> {
        Ok(standing_of(&self.stat(name)?))
    }

    pub(crate) fn look_at(&self, name: &[u8]) -> io::Result<(Facts, Standing)> {
        let stat = self.stat(name)?;
        Ok((facts_of(&stat), standing_of(&stat)))
    }

    fn stat(&self, name: &[u8]) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(crate) fn list(&self) -> io::Result<Names> {
        let opened;
        let fd = if self.is_readable {
            self.fd.as_fd()
        } else {
            opened = self.readable()?;
            opened.as_fd()
        };
        let mut names = Names::default();
        for entry in rustix::fs::Dir::read_from(fd)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                FileType::Unknown => None,
                known => Some(super::kind_of(known)),
            };
            names.add(entry.file_name().to_bytes(), kind);
        }
        Ok(names)
    }

    pub(crate) fn open_file(&self, name: &[u8]) -> io::Result<File> {
        self.open_regular(name, OFlags::RDONLY)
    }

    pub(crate) fn open_file_to_write(&self, name: &[u8]) -> io::Result<File> {
        self.open_regular(name, OFlags::RDWR)
    }

    /// Linux syncs whatever is open.
    pub(crate) fn open_file_to_sync(&self, name: &[u8]) -> io::Result<File> {
        self.open_file(name)
    }

    pub(crate) fn tells_writers(&self) -> bool {
        super::lease::tells_writers(&self.fd)
    }

    fn open_regular(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        let file = File::from(self.open_flags(name, flags | OFlags::NONBLOCK)?);
        match super::facts(&file)?.kind {
            Kind::File => Ok(file),
            Kind::Dir => Err(Errno::ISDIR.into()),
            Kind::Link | Kind::Other => Err(Errno::INVAL.into()),
        }
    }

    pub(crate) fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode);
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, mode)?;
        Ok(File::from(fd))
    }

    pub(crate) fn create_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::mkdirat(&self.fd, name, mode)?)
    }

    pub(crate) fn create_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, name)?)
    }

    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new())?;
        Ok(target.into_bytes())
    }

    pub(crate) fn rename(&self, from: &[u8], directory: &Self, to: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &directory.fd, to)?)
    }

    /// Whether the name was free.
    pub(crate) fn rename_to_free(
        &self,
        from: &[u8],
        directory: &Self,
        to: &[u8],
    ) -> io::Result<bool> {
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
        if FileType::from_raw_mode(self.stat(from)?.st_mode) == FileType::Directory {
            // It has no second name; a rename puts it over an empty directory at most.
            return match directory.stat(to) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(&self.fd, from, &directory.fd, to),
                Err(error) => Err(error),
            };
        }
        // A second name is never put over another.
        rustix::fs::linkat(&self.fd, from, &directory.fd, to, AtFlags::empty())?;
        rustix::fs::unlinkat(&self.fd, from, AtFlags::empty())
    }

    pub(crate) fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    pub(crate) fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    pub(crate) fn share(&self, add_mode: u32, group: Option<u32>) -> io::Result<()> {
        share(self.readable()?.as_fd(), add_mode, group)
    }

    pub(crate) fn longest_name(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstatvfs(&self.fd)?.f_namemax)
    }

    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.readable()?)?)
    }
}

pub(crate) fn share_file(file: &File, add_mode: u32, group: Option<u32>) -> io::Result<()> {
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

fn resolved(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < ATTEMPTS => attempts += 1,
            opened => return opened,
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

    type Open = fn(&Dir, &[u8]) -> Result<OwnedFd, Errno>;

    fn held() -> (TempDir, Dir) {
        let temp = TempDir::new().unwrap();
        let held = Dir::open(&temp.path().canonicalize().unwrap()).unwrap();
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
            |held, path| held.open_flags(path, OFlags::RDONLY),
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
    fn without_the_flag_nothing_is_replaced_either() {
        let (temp, held) = held();
        for name in ["new/in", "taken/in"] {
            let at = temp.path().join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, name).unwrap();
        }
        let (new, taken) = (held.dir(b"new").unwrap(), held.dir(b"taken").unwrap());
        let rename =
            |from: &Dir, name: &[u8], to: &[u8]| from.rename_without_flags(name, &held, to);
        assert_eq!(rename(&held, b"new", b"taken"), Err(Errno::EXIST));
        rename(&new, b"in", b"file").unwrap();
        assert_eq!(rename(&taken, b"in", b"file"), Err(Errno::EXIST));
        rename(&held, b"new", b"moved").unwrap();
        assert_eq!(held.list().unwrap().len(), 3);
        assert_eq!(
            fs::read_to_string(temp.path().join("file")).unwrap(),
            "new/in"
        );
    }
}
