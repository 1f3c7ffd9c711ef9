//! Tells the kernel which names it must look up again.
//!
//! Never on an event loop: the kernel takes the directory's lock for it, and whoever has that lock may
//! be waiting for an event loop's answer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use attachfs_vfs::{Invalidation, Vfs};
use fuser::{INodeNo, Notifier};

/// The thread that tells. It ends when the file system sends its names elsewhere.
#[derive(Debug)]
pub(super) struct Invalidator {
    thread: JoinHandle<()>,
}

impl Invalidator {
    pub(super) fn start(vfs: &Vfs, kernel: Notifier) -> io::Result<Self> {
        let (sender, names) = channel();
        let thread = std::thread::Builder::new()
            .name("invalidate".to_owned())
            .spawn(move || run(&names, &kernel))?;
        vfs.send_invalidations(sender);
        Ok(Self { thread })
    }

    /// Ends the thread: the mount has ended, and the kernel remembers nothing.
    pub(super) fn stop(self, vfs: &Vfs) {
        let (nobody, _) = channel();
        vfs.send_invalidations(nobody);
        if self.thread.join().is_err() {
            tracing::error!("the thread that invalidates names panicked");
        }
    }
}

fn run(names: &Receiver<Invalidation>, kernel: &Notifier) {
    let mut waiting: BinaryHeap<Reverse<(Instant, Invalidation)>> = BinaryHeap::new();
    loop {
        let next = match waiting.peek() {
            None => names.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse((due, ..))) => {
                names.recv_timeout(due.saturating_duration_since(Instant::now()))
            }
        };
        match next {
            Ok(name) => waiting.push(Reverse((Instant::now() + name.after, name))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(Reverse((due, ..))) = waiting.peek()
            && *due <= Instant::now()
            && let Some(Reverse((_, name))) = waiting.pop()
        {
            tell(kernel, &name);
        }
    }
}

fn tell(kernel: &Notifier, Invalidation { parent, name, .. }: &Invalidation) {
    let told = kernel.inval_entry(INodeNo(parent.raw()), OsStr::from_bytes(name.as_bytes()));
    if let Err(error) = told {
        // The connection has ended, or the kernel does not know the name: either way it
        // remembers nothing of it.
        tracing::debug!(%error, directory = %parent, "a name was not invalidated");
    }
}
