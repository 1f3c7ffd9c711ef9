//! Which files changed lately: for who looks at them while the job goes on, and does not want to look at all of them again and again.
//!
//! A file is noted when its last writer closes it, when it gets another length, time or name, and when it is gone; a directory when it gets
//! another name. Nothing is noted before somebody asks ([`Vfs::watch_changes`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use attachfs_tree::{Ino, Mutation, Namespace};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Vfs;

/// The inodes that changed since somebody took them, and when each did last.
#[derive(Debug, Default)]
pub(crate) struct ChangedFiles {
    is_watched: AtomicBool,
    inodes: Mutex<HashMap<Ino, Instant>>,
    /// Told when there is the first of them.
    news: Notify,
}

impl ChangedFiles {
    /// Notes a change. Costs some instructions if nobody watches.
    pub(crate) fn note(&self, ino: Ino) {
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let is_first = {
            let mut inodes = self.inodes.lock();
            inodes.insert(ino, Instant::now());
            inodes.len() == 1
        };
        if is_first {
            self.news.notify_one();
        }
    }

    /// The inodes to which a mutation, which is about to be applied, gives another name.
    pub(crate) fn renamed_by(
        &self,
        namespace: &Namespace,
        mutation: &Mutation,
    ) -> [Option<Ino>; 2] {
        if !self.is_watched.load(Ordering::Relaxed) {
            return [None, None];
        }
        match mutation {
            Mutation::Link { ino, .. } => [Some(*ino), None],
            Mutation::Rename {
                from_parent,
                from_name,
                ..
            } => [namespace.lookup(*from_parent, from_name.as_bytes()), None],
            Mutation::Exchange {
                from_parent,
                from_name,
                to_parent,
                to_name,
                ..
            } => [
                namespace.lookup(*from_parent, from_name.as_bytes()),
                namespace.lookup(*to_parent, to_name.as_bytes()),
            ],
            _ => [None, None],
        }
    }
}

impl Vfs {
    /// From now on notes which files change. One caller may take them.
    pub fn watch_changes(&self) {
        self.changed_files.is_watched.store(true, Ordering::Relaxed);
    }

    /// The files and directories that changed since this was called last, and when each did last. Of a directory only
    /// that it has another name.
    pub fn take_changes(&self) -> HashMap<Ino, Instant> {
        std::mem::take(&mut *self.changed_files.inodes.lock())
    }

    /// Waits until something has changed that was not taken.
    pub async fn some_changes(&self) {
        while self.changed_files.inodes.lock().is_empty() {
            self.changed_files.news.notified().await;
        }
    }
}
