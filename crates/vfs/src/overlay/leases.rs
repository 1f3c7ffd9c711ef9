//! The leases that this process has on scratch files.
//!
//! Before the process opens a scratch file for writing it gives up its leases on it: it would wait for itself. The thread that holds a lease may have
//! a low priority and not run for long, so another thread must be able to give its lease up. A lease is in the table from before it is asked for until it is given up: the thread that
//! opens the file gives up all that are there. If a lease is granted after that, the thread that asked for it gives it up.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use attachfs_durable::{Leasing, ReadLease};
use attachfs_tree::Ino;
use parking_lot::Mutex;

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<Ino, Vec<Arc<ReadLease>>>>,
}

/// A lease on a scratch file. Given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    ino: Ino,
    read: Arc<ReadLease>,
    leases: Arc<Leases>,
}

impl Leases {
    /// A lease that is not asked for yet. `file` is the scratch file of the inode, open for reading only.
    pub(super) fn enter(self: &Arc<Self>, ino: Ino, file: File) -> Lease {
        let lease = Arc::new(ReadLease::new(file));
        let mut held = self.held.lock();
        held.entry(ino).or_default().push(Arc::clone(&lease));
        drop(held);
        Lease {
            ino,
            read: lease,
            leases: Arc::clone(self),
        }
    }

    /// Gives up all leases of this process on a scratch file.
    pub(super) fn give_up(&self, ino: Ino) {
        for lease in self.held.lock().get(&ino).into_iter().flatten() {
            lease.give_up();
        }
    }

    fn forget(&self, ino: Ino, forgotten: &Arc<ReadLease>) {
        let mut held = self.held.lock();
        if let Some(leases) = held.get_mut(&ino) {
            leases.retain(|lease| !Arc::ptr_eq(lease, forgotten));
            if leases.is_empty() {
                held.remove(&ino);
            }
        }
    }
}

impl Lease {
    /// Asks for it.
    pub(super) fn take(&self) -> io::Result<Leasing> {
        self.read.take()
    }

    /// Whether nobody has opened the file for writing since it was granted, nor cut it.
    pub(crate) fn holds(&self) -> bool {
        self.read.holds()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.read.give_up();
        self.leases.forget(self.ino, &self.read);
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use attachfs_durable::OwnDir;

    use super::*;

    const INO: Ino = Ino::ROOT;

    fn leasing() -> Option<(tempfile::TempDir, OwnDir)> {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnDir::open(temp.path()).unwrap();
        drop(dir.create_file("f").unwrap());
        dir.tells_writers().then_some((temp, dir))
    }

    #[test]
    fn who_opens_a_file_gives_up_a_lease_whose_thread_does_not_run() {
        let Some((_temp, dir)) = leasing() else {
            return;
        };
        let leases = Arc::new(Leases::default());
        // Its thread has asked for it, and now does nothing.
        let lease = leases.enter(INO, dir.open_file("f").unwrap());
        assert!(matches!(lease.take().unwrap(), Leasing::Granted));
        dir.open_file_to_write("f").unwrap_err();
        leases.give_up(INO);
        dir.open_file_to_write("f").unwrap();
        assert!(!lease.holds());
    }

    #[test]
    fn a_lease_that_is_granted_after_it_was_given_up_keeps_nobody_waiting() {
        let Some((_temp, dir)) = leasing() else {
            return;
        };
        let leases = Arc::new(Leases::default());
        // Its thread stands right before it asks.
        let lease = leases.enter(INO, dir.open_file("f").unwrap());
        leases.give_up(INO);
        lease.take().unwrap();
        assert!(!lease.holds());
        dir.open_file_to_write("f").unwrap();
    }

    #[test]
    fn nothing_is_left_of_leases_that_were_given_up() {
        let Some((_temp, dir)) = leasing() else {
            return;
        };
        let leases = Arc::new(Leases::default());
        let [one, two] = [0, 1].map(|_| leases.enter(INO, dir.open_file("f").unwrap()));
        for lease in [&one, &two] {
            assert!(matches!(lease.take().unwrap(), Leasing::Granted));
        }
        drop(one);
        assert!(two.holds());
        drop(two);
        assert!(leases.held.lock().is_empty());
        dir.open_file_to_write("f").unwrap();
    }
}
