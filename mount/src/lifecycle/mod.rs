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
//!
//! What all this asks of the system is in `kernel`; on a platform without mounts that is `absent.rs`, which makes none and
//! finds none.

mod copies;
#[cfg(unix)]
mod device;
mod error;
mod holders;
#[cfg(unix)]
mod kernel;
#[cfg(not(unix))]
#[path = "absent.rs"]
mod kernel;
mod mountinfo;
mod open_files;
mod place;
#[cfg(unix)]
mod point;
mod process;
#[cfg(unix)]
mod read_ahead;
mod source;
mod unmount;
#[cfg(unix)]
mod walk;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_session::SessionId;
use attachfs_vfs::FileSystem;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use self::copies::{Copies, Elsewhere};
pub use self::error::{MountError, UnmountError};
pub use self::holders::{Holder, Use};
use self::mountinfo::MountEntry;
pub use self::open_files::{OpenBy, open_by};
pub use self::place::{FuseMount, MountOf, Place};
pub use self::process::Process;
use self::source::MountSource;
use self::unmount::Refusal;
pub use self::unmount::{
    ActiveMount, TakenAway, Unmount, active_mounts, active_mounts_of, detach_dead, take_away,
};
use crate::chain::chain;

/// How long a mount may be found busy before that is believed: a process that is just ending, or
/// starting another, still has what it had open.
const GRACE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(20);
/// How long the kernel may take to let go before it is looked for what keeps it from that.
const NOTICE: Duration = Duration::from_secs(1);

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// An empty directory.
    pub mount_point: PathBuf,
    /// Whether other users may use the mount, as far as permissions let them.
    pub allow_other: bool,
    /// What the kernel may do without asking.
    pub fast_path: FastPath,
    /// Where answers are worked out that have to wait; with time enabled.
    pub runtime: Handle,
    /// The session, which the kernel's table of mounts then shows. This process has its lock.
    pub session: Option<SessionId>,
}

/// What the kernel may do without asking this process, where it can. It can do one of these at a time: to open nothing holds for all
/// files of a mount, and only an open can hand over a local file; and a kernel that keeps what is written takes no local files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastPath {
    /// Nothing.
    None,
    /// Read complete files of the disk cache. This process hears nothing of what is read so: not for a mount of which every read
    /// is to be known.
    Passthrough,
    /// Open files and directories of a read-only file system. This process hears of the first read only, and not of the end; a
    /// file system that refuses to open a file refuses its reads instead. Ignored where it can be written.
    NoOpen,
    /// Keep what is written, and hand it to this process later: when the file is synced or closed at the latest. Until then it is lost
    /// if this process dies. Ignored where nothing can be written.
    WriteBack,
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

/// Whether this platform has mounts: fails with [`MountError::NotHere`] where it has none. For who is about to make
/// something that only a mount has a use for.
pub fn supported() -> Result<(), MountError> {
    kernel::supported()
}

/// Mounts a file system. When it returns, the mount answers.
pub fn mount<F: FileSystem>(fs: Arc<F>, options: &MountOptions) -> Result<Mounted, MountError> {
    let (connection, entry) = kernel::connect(fs, options)?;
    let mount_point = entry.mount_point.clone();
    let failed = |source| MountError::Io {
        doing: "serve",
        mount_point: mount_point.clone(),
        source,
    };
    let mounted = serve(connection, entry).map_err(|error| {
        kernel::give_up(&mount_point);
        failed(error)
    })?;
    if let Err(error) = kernel::first_answer(&mounted.shared.entry) {
        let cause = match mounted.wait_for(Duration::from_secs(1)) {
            Some(End::Broken(cause)) => io::Error::other(cause),
            Some(End::Unmounted) | None => error,
        };
        return Err(failed(cause));
    }
    Ok(mounted)
}

fn serve<F: FileSystem>(
    connection: kernel::Connection<F>,
    entry: MountEntry,
) -> io::Result<Mounted> {
    let shared = Arc::new(Shared {
        entry,
        end: Mutex::new(None),
        ended: Condvar::new(),
        ended_async: watch::Sender::new(false),
    });
    std::thread::Builder::new().name("mount".to_owned()).spawn({
        let shared = shared.clone();
        move || {
            let ended = connection.serve().and_then(|()| match shared.current() {
                // It still has its name: someone aborted the connection.
                Ok(Some(_)) => Err(io::ErrorKind::ConnectionAborted.into()),
                Ok(None) | Err(_) => Ok(()),
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
    /// Where it is: absolute, without symbolic links. Where it was, if it is not mounted any more.
    pub fn mount_point(&self) -> PathBuf {
        match self.shared.current() {
            Ok(Some(entry)) => entry.mount_point,
            Ok(None) | Err(_) => self.shared.entry.mount_point.clone(),
        }
    }

    /// Whether it still has a name in this process's mount namespace, be it covered. Without one it ends when nobody uses it any more.
    pub fn has_name(&self) -> Result<bool, UnmountError> {
        let mut table = self.shared.table()?.into_iter();
        Ok(table.any(|entry| entry.is(&self.shared.entry)))
    }

    /// Unmounts, wherever it is now, and waits until the kernel has let go: nothing is open then, and the
    /// session can be sealed. Waits for `patience` at most, and no longer than it takes to find out that
    /// another mount namespace has a copy of the mount. Bind mounts and overlays of it here are in its
    /// way; [`Unmount::Detach`] takes the bind mounts with it. Success if it has ended already.
    pub fn unmount(&self, how: Unmount, patience: Duration) -> Result<(), UnmountError> {
        if self.shared.end.lock().is_some() {
            return Ok(());
        }
        let since = Instant::now();
        let mut mount_point = self.shared.entry.mount_point.clone();
        while let Some(entry) = self.shared.current()? {
            mount_point.clone_from(&entry.mount_point);
            let refusal = match Shared::unmount(&entry, how) {
                Ok(()) => break,
                Err(refusal) => refusal,
            };
            let again = refusal.may_pass() && since.elapsed() < GRACE;
            match refusal {
                _ if again => std::thread::sleep(RETRY),
                Refusal::Busy => {
                    let holders = holders::find(&mount_point, &entry.device);
                    let holders = self.shared.and_copies_here(holders);
                    return Err(UnmountError::Busy {
                        mount_point,
                        holders,
                    });
                }
                refusal => return Err(refusal.at(&mount_point)),
            }
        }
        if self.wait_for(patience.min(NOTICE)).is_some() {
            return Ok(());
        }
        let copies = copies::find(&self.shared.entry);
        let rest = patience.saturating_sub(NOTICE);
        if copies.found.is_empty() && self.wait_for(rest).is_some() {
            return Ok(());
        }
        Err(UnmountError::StillUsed {
            after: since.elapsed(),
            holders: holders::find(&mount_point, &self.shared.entry.device),
            mount_point,
            copies,
        })
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
    /// The mount as the table has it now, if it still has a name in this process's mount namespace and
    /// nothing covers it. It is known by its number, since its path may have changed.
    fn current(&self) -> Result<Option<MountEntry>, UnmountError> {
        let table = self.table()?;
        let Some(entry) = table.iter().find(|entry| entry.is(&self.entry)) else {
            return Ok(None);
        };
        match place::inside_of(&table, &entry.mount_point) {
            Some(other) if other.id != entry.id => Err(UnmountError::Covered {
                mount_point: entry.mount_point.clone(),
                source_name: MountSource::display(&other.source),
            }),
            _ => Ok(Some(entry.clone())),
        }
    }

    fn table(&self) -> Result<Vec<MountEntry>, UnmountError> {
        mountinfo::read().map_err(|source| UnmountError::Io {
            doing: "see what is mounted at",
            mount_point: self.entry.mount_point.clone(),
            source,
        })
    }

    /// Takes the name away, and with [`Unmount::Detach`] those of what is bound to it.
    fn unmount(entry: &MountEntry, how: Unmount) -> Result<(), Refusal> {
        let table = mountinfo::read().map_err(Refusal::Io)?;
        let others = copies::here(entry, &table);
        if how == Unmount::IfUnused && !others.is_empty() {
            return Err(Refusal::Busy);
        }
        kernel::unmount(&entry.mount_point, how)?;
        for bound in table
            .iter()
            .filter(|other| other.id != entry.id && other.is_copy_of(entry))
        {
            if let Err(refusal) = kernel::unmount(&bound.mount_point, Unmount::Detach) {
                tracing::warn!(
                    "a bind mount stays behind: {}",
                    chain(&refusal.at(&bound.mount_point))
                );
            }
        }
        Ok(())
    }

    fn and_copies_here(&self, mut holders: Vec<Holder>) -> Vec<Holder> {
        // What cannot be read is missing in the message only.
        let table = mountinfo::read().unwrap_or_default();
        let copies = copies::here(&self.entry, &table).into_iter();
        holders.extend(copies.map(Holder::Mount));
        holders
    }

    fn detach(&self) {
        let detached = self.current().and_then(|entry| match entry {
            Some(entry) => Self::unmount(&entry, Unmount::Detach)
                .map_err(|refusal| refusal.at(&entry.mount_point)),
            None => Ok(()),
        });
        if let Err(error) = detached {
            tracing::warn!("a mount stays behind: {}", chain(&error));
        }
    }

    /// Gives up a connection that broke: whoever waits for an answer gets an error instead of waiting for ever, and
    /// its name goes.
    fn abandon(&self) {
        // First, since afterwards the number of the device may be another mount's.
        // Where it is now: a directory above may have been renamed. If it cannot be found, detaching says so.
        if let Ok(Some(entry)) = self.current() {
            kernel::abort_connection(&entry);
        }
        self.detach();
    }
}

#[cfg(test)]
mod tests;
