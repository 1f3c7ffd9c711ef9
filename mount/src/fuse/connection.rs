//! The connection to the kernel, from its greeting to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use attachfs_vfs::Vfs;
use fuser::{Config, Session, SessionACL};
use tokio::runtime::Handle;

use super::invalidate::Invalidator;
use super::{Adapter, chain};

/// Event loops: each answers one request at a time, and each has a buffer of 16 MiB of address space.
const FEWEST_LOOPS: usize = 4;
const MOST_LOOPS: usize = 32;

/// A mounted file system that has greeted the kernel and does not answer requests yet.
#[derive(Debug)]
pub(crate) struct Connection {
    session: Session<Adapter>,
    vfs: Arc<Vfs>,
}

impl Connection {
    /// Agrees with the kernel on what both can do. `device` is `/dev/fuse`, opened and mounted.
    pub(crate) fn greet(vfs: Arc<Vfs>, device: OwnedFd, runtime: Handle) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut config = Config::default();
        config.n_threads = Some(cores.clamp(FEWEST_LOOPS, MOST_LOOPS));
        config.clone_fd = true;
        let adapter = Adapter {
            vfs: vfs.clone(),
            runtime,
        };
        // The kernel checks who may use the mount (allow_other). fuser's own check would also refuse
        // what the kernel does on its own behalf.
        let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
        Ok(Self { session, vfs })
    }

    /// Answers the kernel until the mount has ended. Afterwards nothing is open any more: where the
    /// kernel did not say so, because it gave up the connection, it is closed here.
    pub(crate) fn serve(self) -> io::Result<()> {
        let Self { session, vfs } = self;
        let invalidator = Invalidator::start(&vfs, session.notifier())?;
        let ended = session.run();
        invalidator.stop(&vfs);
        if let Err(error) = vfs.close_all() {
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
