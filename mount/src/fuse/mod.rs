//! The FUSE adapter: the kernel's requests as operations of [`Vfs`].
//!
//! ```text
//!     /dev/fuse --> event loops --> one method an operation --> Vfs
//!                                         | a read that needs the store
//!                                         +--> a task on the runtime, which replies when it can
//! ```
//!
//! Nothing of fuser is visible outside this module. Every method answers on the thread that asked,
//! from memory and local files; only reads that need the store are moved away, so that a slow store
//! never blocks another request. A panic is caught, logged and answered EIO: it would end the event
//! loop otherwise.

mod answer;
mod attr;
mod connection;
mod errno;
mod invalidate;
mod operations;
mod report;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use attachfs_tree::Ino;
use attachfs_vfs::{FsError, Vfs};
use fuser::{Errno, INodeNo};
use tokio::runtime::Handle;

use self::answer::Answer;
use self::attr::ino;
pub(crate) use self::connection::Connection;
use self::errno::errno;
pub(crate) use self::report::chain;

#[derive(Debug)]
struct Adapter {
    vfs: Arc<Vfs>,
    runtime: Handle,
}

impl Adapter {
    /// Does an operation and replies with what came of it.
    fn answer<T, A: Answer<T>>(
        &self,
        operation: &'static str,
        number: INodeNo,
        reply: A,
        perform: impl FnOnce(&Vfs) -> Result<T, FsError>,
    ) {
        guarded(operation, number, || match perform(&self.vfs) {
            Ok(value) => reply.success(value),
            Err(error) => reply.failure(self.failed(operation, ino(number), &error)),
        });
    }

    fn failed(&self, operation: &'static str, ino: Ino, error: &FsError) -> Errno {
        report::failed(&self.vfs, operation, ino, error);
        errno(error.kind())
    }
}

/// Runs what answers a request. If it panics, its reply is dropped, and that answers EIO.
fn guarded(operation: &'static str, number: INodeNo, perform: impl FnOnce()) {
    // What a panic left half done is what another thread could have seen at that moment too: shared
    // state is behind locks, and mutations are checked before they are applied.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(perform)) {
        report::panicked(operation, ino(number), &*panic);
    }
}

#[cfg(test)]
mod tests;
