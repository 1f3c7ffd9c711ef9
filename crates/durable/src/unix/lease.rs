//! Leases of Linux, see `fcntl(2)`, and the file systems that can be relied on for them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::lease::Leasing;

/// The file systems that count who has a file open for writing on this machine alone, and that note a write to a mapping in
/// the file's times: ext4, XFS, Btrfs and F2FS (`linux/magic.h`). Memory (tmpfs) does not note it, and of a network file system others may write.
const RELIED_ON: [u64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];

/// A new process has the open files of the one that starts it, until it runs its own program: for this long at most.
const BEING_STARTED: Duration = Duration::from_secs(1);

/// Chooses the signal, see `asm-generic/fcntl.h`.
const F_SETSIG: i32 = 10;

#[derive(Debug)]
pub(crate) struct ReadLease {
    file: File,
    is_given_up: AtomicBool,
}

impl ReadLease {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            is_given_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn take(&self) -> io::Result<Leasing> {
        // Who breaks a lease sends its holder a signal. SIGIO, which it would be, ends a process; this one is ignored by who
        // knows nothing of it.
        let asked = set(&self.file, F_SETSIG, libc::SIGURG)
            .and_then(|()| set(&self.file, libc::F_SETLEASE, libc::F_RDLCK));
        if self.is_given_up.load(Ordering::SeqCst) {
            // Who gave it up may have done so before it was granted.
            self.give_up();
        }
        match asked {
            Ok(()) => Ok(Leasing::Granted),
            Err(Errno::AGAIN) => Ok(Leasing::Written),
            // The file is another user's, or nobody here has leases.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => {
                Ok(Leasing::Unknown)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn holds(&self) -> bool {
        // While somebody waits to write, the kernel tells what the lease has to become: none.
        !self.is_given_up.load(Ordering::SeqCst)
            && control(&self.file, libc::F_GETLEASE, 0) == Ok(libc::F_RDLCK)
    }

    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::SeqCst);
        // It fails if the kernel has taken it away.
        let _ = set(&self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        // Not with the descriptor alone: a process that is being started may have that, too.
        self.give_up();
    }
}

fn set(file: &File, command: i32, value: i32) -> Result<(), Errno> {
    control(file, command, value).map(|_| ())
}

fn control(file: &File, command: i32, value: i32) -> Result<i32, Errno> {
    #[allow(unsafe_code, reason = "no library offers leases")]
    // SAFETY: the descriptor is open, and these commands take a number.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, value) };
    match result {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
        result => Ok(result),
    }
}

/// Whether the file system of a directory is one that is relied on, and leases are not switched off
/// (`/proc/sys/fs/leases-enable`). Makes a file without a name, which is gone when this returns.
pub(crate) fn tells_writers(dir: impl AsFd) -> bool {
    let Ok(system) = rustix::fs::fstatfs(&dir) else {
        return false;
    };
    RELIED_ON.contains(&(system.f_type as u64 & 0xFFFF_FFFF)) && grants(dir)
}

fn grants(dir: impl AsFd) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(nameless) = rustix::fs::openat(&dir, ".", flags, Mode::RUSR | Mode::WUSR) else {
        return false;
    };
    let again = |nameless: &OwnedFd| {
        let path = PathBuf::from(format!("/proc/self/fd/{}", nameless.as_raw_fd()));
        File::open(path)
    };
    let Ok(reader) = again(&nameless) else {
        return false;
    };
    let Ok(refused) = reader.try_clone().map(ReadLease::new) else {
        return false;
    };
    if !matches!(refused.take(), Ok(Leasing::Written)) {
        return false;
    }
    drop(nameless);
    let granted = ReadLease::new(reader);
    let since = Instant::now();
    loop {
        match granted.take() {
            // A process that another thread is just starting may have the file open for writing, too.
            Ok(Leasing::Written) if since.elapsed() < BEING_STARTED => {
                std::thread::sleep(Duration::from_millis(1));
            }
            leasing => return matches!(leasing, Ok(Leasing::Granted)),
        }
    }
}
