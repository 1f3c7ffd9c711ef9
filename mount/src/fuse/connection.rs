//! The connection to the kernel, from its greeting to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use attachfs_vfs::{Attachment, FileSystem, Passthrough};
use fuser::{Config, Session, SessionACL};
use tokio::runtime::Handle;

use super::Adapter;
use super::asker::Askers;
use super::invalidate::Invalidator;
use super::pages::Pages;
use crate::chain::chain;

/// Event loops: each answers one request at a time, and each has a buffer of 16 MiB of address space.
const FEWEST_LOOPS: usize = 4;
const MOST_LOOPS: usize = 32;

/// A mounted file system that has greeted the kernel and does not answer requests yet.
#[derive(Debug)]
pub(crate) struct Connection<F: FileSystem> {
    session: Session<Adapter<F>>,
    fs: Arc<F>,
    pages: Arc<Pages>,
    runtime: Handle,
    passthrough: Passthrough,
}

impl<F: FileSystem> Connection<F> {
    /// Agrees with the kernel on what both can do. `device` is `/dev/fuse`, opened and mounted.
    pub(crate) fn greet(
        fs: Arc<F>,
        device: OwnedFd,
        runtime: Handle,
        wants_passthrough: bool,
    ) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut config = Config::default();
        config.n_threads = Some(cores.clamp(FEWEST_LOOPS, MOST_LOOPS));
        config.clone_fd = true;
        let pages = Arc::default();
        let passthrough = Passthrough::default();
        let adapter = Adapter {
            fs: Arc::clone(&fs),
            pages: Arc::clone(&pages),
            runtime: runtime.clone(),
            wants_passthrough,
            passthrough: passthrough.clone(),
            askers: Askers::default(),
        };
        // The kernel checks who may use the mount (allow_other). fuser's own check would also refuse
        // what the kernel does on its own behalf.
        let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
        Ok(Self {
            session,
            fs,
            pages,
            runtime,
            passthrough,
        })
    }

    /// Answers the kernel until the mount has ended. Afterwards nothing is open any more: where the
    /// kernel did not say so, because it gave up the connection, it is closed here.
    pub(crate) fn serve(self) -> io::Result<()> {
        let Self {
            session,
            fs,
            pages,
            runtime,
            passthrough,
        } = self;
        pages.connect(session.notifier());
        let (invalidator, invalidations) = Invalidator::start(session.notifier())?;
        fs.attach(Attachment {
            invalidations,
            runtime,
            backing: passthrough,
        });
        let ended = session.run();
        let detached = fs.detach();
        invalidator.join();
        if let Err(error) = detached {
            tracing::error!(
                "files that were open when the mount ended: {}",
                chain(&error)
            );
        }
        match ended {
            // What reads a request at the moment of the unmount is told so: no failure.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            ended => ended,
        }
    }
}
