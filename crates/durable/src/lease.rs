//! Read leases: whether somebody has a file open for writing, or can write to a mapping of it, in any process.
//!
//! ```text
//!     take     refused while the file is open for writing; a mapping that can be written counts, after its descriptor was closed too
//!     holds    until somebody opens the file for writing or cuts it: the system has them wait until the lease is given up
//!     drop     gives it up
//! ```
//!
//! Who opens the file waits 45 seconds at most (`/proc/sys/fs/lease-break-time`), and then has it; who opens it without waiting, as
//! [`OwnDir`](crate::OwnDir) does, is refused. That goes for the process that has the lease, too: it gives it up first.

use std::fs::File;
use std::io;

use crate::platform;

/// A read lease on a file, or the wish for one. Given up when it is dropped.
#[derive(Debug)]
pub struct ReadLease(platform::ReadLease);

/// What came of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leasing {
    /// Nobody has the file open for writing.
    Granted,
    /// Somebody has: a process here or elsewhere on this machine, this one too.
    Written,
    /// The file system has no leases, or does not give them to this user: nothing is known. So it is on Windows.
    Unknown,
}

impl ReadLease {
    /// A lease on a file that is open for reading only. It is not asked for yet.
    pub fn new(file: File) -> Self {
        Self(platform::ReadLease::new(file))
    }

    /// Asks for it. Waits for nobody. If it was [given up](Self::give_up) before or meanwhile, it is given up when this returns.
    pub fn take(&self) -> io::Result<Leasing> {
        self.0.take()
    }

    /// Whether nobody has opened the file for writing, or cut it, since the lease was granted.
    pub fn holds(&self) -> bool {
        self.0.holds()
    }

    /// Gives it up, whichever thread has it: from now on it does not hold, and nobody waits for it.
    pub fn give_up(&self) {
        self.0.give_up();
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::OwnDir;

    /// A lease, if it is granted.
    fn take(dir: &OwnDir) -> Option<ReadLease> {
        let lease = ReadLease::new(dir.open_file("f").unwrap());
        let leasing = lease.take().unwrap();
        assert_ne!(leasing, Leasing::Unknown);
        (leasing == Leasing::Granted).then_some(lease)
    }

    /// A lease on a file that this process does not have open for writing any more. A process that another test starts has what is
    /// open here for a moment.
    fn take_soon(dir: &OwnDir) -> ReadLease {
        let since = Instant::now();
        loop {
            if let Some(lease) = take(dir) {
                return lease;
            }
            assert!(since.elapsed() < Duration::from_mins(1), "nobody writes");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A directory of this machine's, if its file system has leases.
    fn leasing() -> Option<(tempfile::TempDir, OwnDir, File)> {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::open(temp.path()).unwrap();
        let file = dir.create_file("f").unwrap();
        if !dir.tells_writers() {
            println!("skipped: the file system of temporary files does not tell who writes");
            return None;
        }
        Some((temp, dir, file))
    }

    #[test]
    fn it_is_granted_once_nobody_has_the_file_open_for_writing_and_readers_do_not_matter() {
        let Some((_temp, dir, writer)) = leasing() else {
            return;
        };
        let _reader = dir.open_file("f").unwrap();
        assert!(take(&dir).is_none());
        drop(writer);
        let lease = take_soon(&dir);
        assert!(lease.holds());
        let Some(second) = take(&dir) else {
            panic!("two may have one");
        };
        drop(lease);
        assert!(second.holds());
    }

    #[test]
    fn who_opens_the_file_for_writing_breaks_it_and_waits_until_it_is_given_up() {
        let Some((temp, dir, writer)) = leasing() else {
            return;
        };
        drop(writer);
        let lease = take_soon(&dir);
        // Who does not want to wait is refused.
        let refused = dir.open_file_to_write("f").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!lease.holds());
        lease.give_up();
        let lease = take_soon(&dir);
        let path = temp.path().join("f");
        let since = Instant::now();
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| File::options().write(true).open(&path).unwrap());
            while lease.holds() {
                assert!(since.elapsed() < Duration::from_mins(1));
                std::thread::sleep(Duration::from_millis(1));
            }
            // The signal that says so has ended nobody.
            assert!(!opening.is_finished());
            lease.give_up();
            opening.join().unwrap();
        });
        assert!(since.elapsed() < Duration::from_mins(1));
        assert!(!lease.holds());
    }

    #[test]
    fn what_was_given_up_keeps_nobody_waiting() {
        let Some((_temp, dir, writer)) = leasing() else {
            return;
        };
        drop(writer);
        let lease = take_soon(&dir);
        lease.give_up();
        assert!(!lease.holds());
        dir.open_file_to_write("f").unwrap();
    }
}
