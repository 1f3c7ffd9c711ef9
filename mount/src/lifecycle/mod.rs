//! A mount from its beginning to its end.
//!
//! ```text
//!     mount():  look at the directory -> mount -> greet the kernel -> serve -> first answer
//!     Mounted:  somebody unmounts it, here or outside -> the kernel lets go -> End
//! ```
//!
//! The end is what the kernel says it is: when [`End`] is known, no request is being answered and
//! nothing is open, however it came about. What fuser does for unmounting is not used: it cannot tell
//! its own mount from another at the same place.

mod device;
mod error;
mod holders;
mod mountinfo;
mod point;
mod read_ahead;
mod source;
mod unmount;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_vfs::{SessionId, Vfs};
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::device::DeviceOptions;
pub use self::error::{MountError, UnmountError};
pub use self::holders::{Holder, Use};
use self::mountinfo::MountEntry;
use self::point::Finding;
use self::source::Source;
use self::unmount::Refusal;
pub use self::unmount::{ActiveMount, Unmount, active_mounts, detach_dead};
use crate::fuse::{Connection, chain};

/// How long a mount may be found busy before that is believed: a process that is just ending, or
/// starting another, still has what it had open.
const GRACE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(20);

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// An empty directory.
    pub mount_point: PathBuf,
    /// Whether other users may use the mount, as far as permissions let them.
    pub allow_other: bool,
    /// Where reads that need the store run; with time enabled.
    pub runtime: Handle,
    /// The session, which the kernel's table of mounts then shows. This process has its lock.
    pub session: Option<SessionId>,
}

/// How a mount ended.
#[derive(Debug, Clone)]
pub enum End {
    /// It was unmounted.
    Unmounted,
    /// The connection to the kernel broke, or was aborted. The mount was detached.
    Broken(Arc<io::Error>),
}

/// A mounted file system. Dropping it detaches the mount.
#[derive(Debug)]
pub struct Mounted {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    entry: MountEntry,
    end: Mutex<Option<End>>,
    ended: Condvar,
    ended_async: watch::Sender<bool>,
}

/// Mounts a file system. When it returns, the mount answers.
pub fn mount(vfs: Arc<Vfs>, options: &MountOptions) -> Result<Mounted, MountError> {
    let session = options.session.as_ref();
    let mut finding = point::look(&options.mount_point, session)?;
    if let Finding::OwnDead(entry) = &finding {
        unmount::detach(entry).map_err(|error| MountError::Io {
            doing: "remove the dead mount at",
            mount_point: entry.mount_point.clone(),
            source: io::Error::other(error),
        })?;
        finding = point::look(&options.mount_point, session)?;
    }
    let point = match finding {
        Finding::Free(point) => point,
        // Several of them, one over the other.
        Finding::OwnDead(entry) => {
            return Err(MountError::Dead {
                mount_point: entry.mount_point,
                source_name: Source::display(&entry.source),
                session: options.session.clone(),
            });
        }
    };
    let device_options = DeviceOptions {
        source: Source::new(session),
        read_only: vfs.is_read_only(),
        allow_other: options.allow_other,
    };
    let device = device::mount(&point, &device_options)?;
    let guard = DetachOnDrop(Some(&point.path));
    let failed = |doing, source| MountError::Io {
        doing,
        mount_point: point.path.clone(),
        source,
    };
    let connection = Connection::greet(vfs, device, options.runtime.clone())
        .map_err(|error| failed("greet the kernel at", error))?;
    let entry = mountinfo::at(&point.path)
        .and_then(|entry| entry.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|error| failed("see what is mounted at", error))?;
    let mounted = serve(connection, entry).map_err(|error| failed("serve", error))?;
    guard.keep();
    if let Err(error) = rustix::fs::statvfs(&point.path) {
        let cause = match mounted.wait_for(Duration::from_secs(1)) {
            Some(End::Broken(cause)) => io::Error::other(cause),
            Some(End::Unmounted) | None => error.into(),
        };
        return Err(failed("serve", cause));
    }
    read_ahead::raise(&mounted.shared.entry.device);
    Ok(mounted)
}

/// Takes the name of a mount away that did not come about.
struct DetachOnDrop<'a>(Option<&'a Path>);

impl DetachOnDrop<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for DetachOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(refusal) = unmount::unmount(path, Unmount::Detach)
        {
            tracing::warn!("after a failure to mount: {}", chain(&refusal.at(path)));
        }
    }
}

fn serve(connection: Connection, entry: MountEntry) -> io::Result<Mounted> {
    let shared = Arc::new(Shared {
        entry,
        end: Mutex::new(None),
        ended: Condvar::new(),
        ended_async: watch::Sender::new(false),
    });
    std::thread::Builder::new().name("mount".to_owned()).spawn({
        let shared = shared.clone();
        move || {
            let ended = connection.serve().and_then(|()| match shared.is_mounted() {
                // It still has its name: someone aborted the connection.
                Ok(true) => Err(io::ErrorKind::ConnectionAborted.into()),
                Ok(false) | Err(_) => Ok(()),
            });
            let end = match ended {
                Ok(()) => End::Unmounted,
                Err(error) => {
                    tracing::error!(%error, mount_point = %shared.entry.mount_point.display(), "the connection to the kernel broke");
                    shared.abandon();
                    End::Broken(Arc::new(error))
                }
            };
            *shared.end.lock() = Some(end);
            shared.ended.notify_all();
            shared.ended_async.send_replace(true);
        }
    })?;
    Ok(Mounted { shared })
}

impl Mounted {
    /// Where it is: absolute, without symbolic links.
    pub fn mount_point(&self) -> &Path {
        &self.shared.entry.mount_point
    }

    /// Unmounts and waits until the kernel has let go: nothing is open then, and the session can be
    /// sealed. Waits for `patience` at most, which matters where another mount namespace has a copy
    /// of the mount, or for [`Unmount::Detach`]. Success if it has ended already.
    pub fn unmount(&self, how: Unmount, patience: Duration) -> Result<(), UnmountError> {
        let path = &self.shared.entry.mount_point;
        if self.shared.end.lock().is_some() {
            return Ok(());
        }
        let until = Instant::now() + GRACE;
        while self.shared.is_mounted()? {
            match unmount::unmount(path, how) {
                Ok(()) => break,
                Err(Refusal::Busy) if Instant::now() < until => std::thread::sleep(RETRY),
                Err(Refusal::Busy) => {
                    let (mount_point, holders) = (path.clone(), self.holders());
                    return Err(UnmountError::Busy {
                        mount_point,
                        holders,
                    });
                }
                Err(refusal) => return Err(refusal.at(path)),
            }
        }
        match self.wait_for(patience) {
            Some(_) => Ok(()),
            None => Err(UnmountError::StillUsed {
                mount_point: path.clone(),
                after: patience,
                holders: self.holders(),
            }),
        }
    }

    /// Who uses it, as far as can be found out in a short time.
    pub fn holders(&self) -> Vec<Holder> {
        holders::find(&self.shared.entry.mount_point, &self.shared.entry.device)
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.shared.end.lock().clone()
    }

    /// Blocks until it has ended, whoever unmounts it.
    pub fn wait(&self) -> End {
        let mut end = self.shared.end.lock();
        loop {
            if let Some(end) = &*end {
                return end.clone();
            }
            self.shared.ended.wait(&mut end);
        }
    }

    /// Like [`wait`](Self::wait), for `patience` at most.
    pub fn wait_for(&self, patience: Duration) -> Option<End> {
        let mut end = self.shared.end.lock();
        self.shared
            .ended
            .wait_while_for(&mut end, |end| end.is_none(), patience);
        end.clone()
    }

    /// Like [`wait`](Self::wait), for async code. The future does not borrow the mount.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.shared.ended_async.subscribe();
        // The sender goes with the thread that reports the end, after it has done so.
        async move {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.shared.end.lock().is_none() {
            self.shared.detach();
        }
    }
}

impl Shared {
    /// Whether the mount still has its name in this process's mount namespace, and nothing covers it.
    fn is_mounted(&self) -> Result<bool, UnmountError> {
        let path = &self.entry.mount_point;
        let table = mountinfo::read().map_err(|source| UnmountError::Io {
            doing: "see what is mounted at",
            mount_point: path.clone(),
            source,
        })?;
        if !table.contains(&self.entry) {
            return Ok(false);
        }
        match table.into_iter().rfind(|entry| entry.mount_point == *path) {
            Some(entry) if entry != self.entry => Err(UnmountError::Covered {
                mount_point: path.clone(),
                source_name: Source::display(&entry.source),
            }),
            _ => Ok(true),
        }
    }

    fn detach(&self) {
        let path = &self.entry.mount_point;
        let detached = match self.is_mounted() {
            Ok(true) => unmount::unmount(path, Unmount::Detach).map_err(|refusal| refusal.at(path)),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = detached {
            tracing::warn!("a mount stays behind: {}", chain(&error));
        }
    }

    /// Gives up a connection that broke: its name goes, and whoever waits for an answer gets an error
    /// instead of waiting for ever.
    fn abandon(&self) {
        if matches!(self.is_mounted(), Ok(true)) && unmount::abort(&self.entry.mount_point).is_ok()
        {
            return;
        }
        self.detach();
        let Some((_, minor)) = self.entry.device.split_once(':') else {
            return;
        };
        let abort = Path::new("/sys/fs/fuse/connections")
            .join(minor)
            .join("abort");
        if let Err(error) = std::fs::write(&abort, "1") {
            // It has ended by itself, or this user may not: closing the device ends it as well.
            tracing::debug!(%error, path = %abort.display(), "the connection was not aborted");
        }
    }
}

#[cfg(test)]
mod tests;
