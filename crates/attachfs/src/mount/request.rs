//! The options of a mount.

use std::path::PathBuf;

use attachfs_mount::FastPath;
use attachfs_tree::LayerOptions;

use crate::Places;
use crate::ReadOptions;
use crate::copying::GivenManifest;
use crate::early::EarlyUploads;
use crate::error::Error;
use crate::logs::LogPlace;
use crate::metrics::MetricsAddress;
use crate::report::Reports;
use crate::service::StepHook;
use crate::store::OpenStore;
use crate::traces::TraceOptions;

/// Who owns what a mount shows, and with which permissions.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// Owner of files and directories without an owner of their own.
    pub uid: u32,
    /// Group likewise.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
}

/// The session that is mounted.
#[derive(Debug, Clone)]
pub enum MountSession {
    /// Manifests, in a new session.
    New {
        /// The lowest first.
        manifests: Vec<GivenManifest>,
        /// How they are put together.
        layers: LayerOptions,
        /// Read-only.
        read_only: bool,
        /// A name that is missing leads to one that differs only in case.
        case_insensitive: bool,
        /// What the manifests have cannot be changed, renamed or deleted.
        protect_inputs: bool,
        /// The session's directory; below [`Places::sessions`] if `None`.
        session_dir: Option<PathBuf>,
        /// Where scratch files go; into the session if `None`.
        scratch_dir: Option<PathBuf>,
        /// How many bytes scratch files may take on their disk. Without a bound, as many as it has.
        max_scratch: Option<u64>,
        /// Commit when it is unmounted.
        commit: bool,
        /// Commit only changes in or below these directories, and make them.
        output_dirs: Vec<String>,
    },
    /// A session that another process left.
    Resume {
        /// Its directory.
        dir: PathBuf,
        /// How many bytes scratch files may take during this mount. What the session began with, if `None`.
        max_scratch: Option<u64>,
    },
}

/// Where a new mount goes.
#[derive(Debug, Clone)]
pub enum MountPoint {
    /// An empty directory.
    At(PathBuf),
    /// A directory in the session's own.
    InSession,
}

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// The session that is mounted.
    pub session: MountSession,
    /// Where.
    pub mount_point: MountPoint,
    /// Owner and modes.
    pub owner: Owner,
    /// Whether other users may use it.
    pub allow_other: bool,
    /// The store.
    pub store: OpenStore,
    /// Prove first that the store can be read.
    pub probe: bool,
    /// How it is read.
    pub reading: ReadOptions,
    /// The kernel opens files by itself, and tells of none that it has read before: for a session that is mounted read-only. It gets no
    /// file of the disk cache then.
    pub no_open: bool,
    /// What is sent of the outputs before the commit.
    pub early_uploads: EarlyUploads,
    /// The kernel keeps what is written for a while, which is faster where this process gets each write otherwise. What was neither synced
    /// nor closed is lost if this process dies. The kernel gets no local file then.
    pub writeback_cache: bool,
    /// What is recorded of the reads, and fetched ahead because of earlier recordings.
    pub traces: TraceOptions,
    /// Where the caller lets the log go.
    pub log: LogPlace,
    /// Give metrics at this address for as long as it is mounted.
    pub metrics: Option<MetricsAddress>,
    /// The reports of what was used to write when it ends.
    pub reports: Reports,
    /// This machine.
    pub places: Places,
    /// Called at each step of a commit that is asked for through the control socket.
    pub step_hook: Option<StepHook>,
    /// Called when nothing is made yet. Until then the process may simply end.
    pub before_making: Option<fn()>,
}

impl MountRequest {
    /// What the kernel may do without asking.
    pub(super) fn fast_path(&self) -> FastPath {
        // The kernel would not tell what it reads by itself.
        let may_pass_through = !self.traces.records() && !self.reading.no_passthrough;
        if self.no_open {
            FastPath::NoOpen
        } else if self.writeback_cache {
            FastPath::WriteBack
        } else if may_pass_through {
            FastPath::Passthrough
        } else {
            FastPath::None
        }
    }
}

/// Fails if the kernel is to open files by itself and somebody can write.
pub(super) fn check_no_open(no_open: bool, read_only: bool) -> Result<(), Error> {
    if !no_open || read_only {
        return Ok(());
    }
    let sentence = "--no-open is for mounts that nobody can write to: this process would not hear when a written file is closed";
    Err(Error::usage(sentence).advise("mount with --read-only as well"))
}
