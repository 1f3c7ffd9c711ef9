//! The FUSE adapter: the kernel's requests as operations of a [`FileSystem`].
//!
//! ```text
//!     /dev/fuse --> event loops --> one method an operation --> FileSystem
//!         ^                                                         |
//!         +------------- Completion (fuser's reply, errno) <--------+  on any thread
//! ```
//!
//! Nothing of fuser is visible outside this module, and nothing outside knows an errno. An event loop is free again when
//! the file system's method returns, whether or not the answer was given by then. A panic is caught, logged and answered
//! EIO: it would end the event loop otherwise.

mod answer;
mod asker;
mod attr;
mod connection;
mod errno;
mod greeting;
mod invalidate;
mod operations;
mod pages;
mod passthrough;
mod report;
mod unopened;
mod xattr;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use attachfs_vfs::{FileSystem, FsErrorKind, NodeId, Passthrough, Reply};
use fuser::INodeNo;
use tokio::runtime::Handle;

use self::answer::{Answer, Completion, Refuse, Terms};
use self::asker::Askers;
pub(crate) use self::connection::Connection;
use self::pages::Pages;
use self::unopened::Unopened;

#[derive(Debug)]
struct Adapter<F: FileSystem> {
    fs: Arc<F>,
    pages: Arc<Pages>,
    runtime: Handle,
    /// Whether passthrough is to be asked for.
    wants_passthrough: bool,
    /// Whether it is used.
    passthrough: Passthrough,
    /// Whether the kernel is to keep what is written for a while.
    wants_write_back: bool,
    /// If the kernel is to open nothing.
    unopened: Option<Arc<Unopened<F>>>,
    askers: Askers,
    terms: Terms,
}

impl<F: FileSystem> Adapter<F> {
    /// What is kept open for the kernel, if that opens nothing.
    fn unopened(&self) -> Option<&Arc<Unopened<F>>> {
        self.unopened.as_ref().filter(|unopened| unopened.is_used())
    }

    /// Hands a request to the file system. Nothing is lost by a panic but the answer.
    fn ask<R: Refuse>(
        &self,
        operation: &'static str,
        number: INodeNo,
        reply: R,
        perform: impl FnOnce(&F, Completion<R>),
    ) {
        let completion = Completion::new(operation, number, reply, self.terms);
        guarded(operation, number, || perform(&self.fs, completion));
    }

    /// Answers a request about a file after the kernel has written back its mapped pages.
    fn after_write_back<T, R: Answer<T>>(
        &self,
        operation: &'static str,
        number: INodeNo,
        reply: Completion<R>,
        perform: impl FnOnce(&F, Completion<R>) + Send + 'static,
    ) {
        // Weak, so that this task does not keep the file system alive after an unmount.
        let (fs, pages) = (Arc::downgrade(&self.fs), Arc::clone(&self.pages));
        self.runtime.spawn_blocking(move || {
            pages.write_back(number);
            match fs.upgrade() {
                Some(fs) => guarded(operation, number, || perform(&fs, reply)),
                None => Reply::<T>::fail(reply, FsErrorKind::Ended.into()),
            }
        });
    }
}

/// Runs the code that answers a request. If it panics, its reply is dropped, and that answers EIO.
fn guarded(operation: &'static str, number: INodeNo, perform: impl FnOnce()) {
    // A panic leaves no state that other threads could not have seen before: shared state is behind
    // locks, and mutations are checked before they are applied.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(perform)) {
        report::panicked(operation, NodeId(number.0), &*panic);
    }
}

#[cfg(test)]
mod tests;
