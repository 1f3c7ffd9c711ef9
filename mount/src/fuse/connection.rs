//! The connection to the kernel, from its greeting to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use attachfs_vfs::{Attachment, FileSystem, Passthrough};
use fuser::{Config, Session, SessionACL};
use tokio::runtime::Handle;

use super::Adapter;
use super::answer::Terms;
use super::asker::Askers;
use super::invalidate::Invalidator;
use super::pages::Pages;
use super::unopened::Unopened;
use crate::FastPath;
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
    unopened: Option<Weak<Unopened<F>>>,
}

impl<F: FileSystem> Connection<F> {
    /// Agrees with the kernel on what both can do. `device` is `/dev/fuse`, opened and mounted.
    pub(crate) fn greet(
        fs: Arc<F>,
        device: OwnedFd,
        runtime: Handle,
        fast_path: FastPath,
        generation: u32,
    ) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut config = Config::default();
        config.n_threads = Some(cores.clamp(FEWEST_LOOPS, MOST_LOOPS));
        config.clone_fd = true;
        let pages = Arc::<Pages>::default();
        let passthrough = Passthrough::default();
        let unopened = match fast_path {
            FastPath::NoOpen if fs.is_read_only() => Some(Arc::new(Unopened::new(Arc::clone(&fs)))),
            FastPath::NoOpen | FastPath::Passthrough | FastPath::WriteBack | FastPath::None => None,
        };
        let watched = unopened.as_ref().map(Arc::downgrade);
        let adapter = Adapter {
            fs: Arc::clone(&fs),
            pages: Arc::clone(&pages),
            runtime: runtime.clone(),
            wants_passthrough: fast_path == FastPath::Passthrough,
            wants_write_back: fast_path == FastPath::WriteBack && !fs.is_read_only(),
            passthrough: passthrough.clone(),
            unopened,
            askers: Askers::default(),
            terms: Terms::new(generation, fs.keeps_for()),
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
            unopened: watched,
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
            unopened,
        } = self;
        let is_used = |unopened: &Weak<Unopened<F>>| {
            let unopened = unopened.upgrade();
            unopened.is_some_and(|unopened| unopened.is_used())
        };
        let unopened = unopened.filter(is_used);
        pages.connect(session.notifier());
        let (invalidator, invalidations) = Invalidator::start(session.notifier())?;
        fs.attach(Attachment {
            invalidations,
            runtime: runtime.clone(),
            backing: passthrough,
            tells_opens: unopened.is_none(),
            writes_late: pages.are_written_late(),
        });
        // It ends with the adapter.
        if let Some(unopened) = unopened {
            runtime.spawn(Unopened::close_idle(unopened));
        }
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
