//! The whole journey in one call: manifests are mounted, a command runs in the mount, what it wrote becomes a diff.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use attachfs_commit::Observer;
use attachfs_durable::OpenFiles;
use attachfs_mount::UnmountError;
use attachfs_session::{FailureClass, SessionId};
use attachfs_store::ManifestKey;
use attachfs_tree::LayerOptions;
use attachfs_vfs::Counters;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::arguments::{ChosenPaths, CommitArguments, OutgoingLinks};
use crate::copying::GivenManifest;
use crate::early::EarlyUploads;
use crate::error::{Doing as _, Error, classified};
use crate::logs::LogPlace;
use crate::manifests::{parse_path, write_manifest};
use crate::metrics::MetricsAddress;
use crate::mount::{Mount, MountPoint, MountRequest, MountSession, Owner};
use crate::places::Places;
use crate::prefetching::PrefetchStats;
use crate::reading::ReadOptions;
use crate::remote::{CommitReport, Fetched, LastError};
use crate::report::{Reports, WrittenReport};
use crate::session::committed_bytes;
use crate::store::OpenStore;
use crate::traces::TraceOptions;

/// What to run where.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The manifests to mount, the lowest first.
    pub manifests: Vec<GivenManifest>,
    /// How they are put together.
    pub layers: LayerOptions,
    /// A name that is missing leads to one that differs only in case.
    pub case_insensitive: bool,
    /// What the manifests have cannot be changed, renamed or deleted.
    pub protect_inputs: bool,
    /// How many bytes what the command writes may take on the disk. Without a bound, as many as it has.
    pub max_scratch: Option<u64>,
    /// Directories to make before the command runs; only changes in or below them are committed. All changes
    /// is if there are none.
    pub output_dirs: Vec<String>,
    /// Of these changes only what the patterns choose is committed.
    pub chosen: ChosenPaths,
    /// What becomes of symbolic links that lead out of the mount.
    pub links: OutgoingLinks,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Owner and modes.
    pub owner: Owner,
    /// The store.
    pub store: OpenStore,
    /// Prove first that the store can be read.
    pub probe: bool,
    /// How it is read.
    pub reading: ReadOptions,
    /// What is sent of the outputs before the commit. The patterns are those of [`chosen`](Self::chosen).
    pub early_uploads: EarlyUploads,
    /// The kernel keeps what is written for a while, as in [`MountRequest::writeback_cache`].
    pub writeback_cache: bool,
    /// What is recorded of the reads, and fetched ahead because of earlier recordings.
    pub traces: TraceOptions,
    /// This machine.
    pub places: Places,
    /// A further key for the manifest of the commit.
    pub publish: Option<ManifestKey>,
    /// That key and the file get only new and changed files, in the format of AWS's library.
    pub files_only: bool,
    /// The file that gets the manifest's bytes.
    pub output: Option<PathBuf>,
    /// Give metrics at this address for as long as it is mounted.
    pub metrics: Option<MetricsAddress>,
    /// The reports of what was used to write when it has ended.
    pub reports: Reports,
    /// The limit that the command has.
    pub open_files: OpenFiles,
}

/// How it went.
#[derive(Debug)]
pub struct RunReport {
    /// How the command ended.
    pub status: ExitStatus,
    /// The session.
    pub session: SessionId,
    /// Whether the session is kept, because the command failed or not all was committed.
    pub kept: bool,
    /// The counts of bytes read and written.
    pub counters: Counters,
    /// The requests to the store.
    pub fetched: Fetched,
    /// What was fetched ahead of all reads.
    pub prefetch: PrefetchStats,
    /// The last read that failed.
    pub last_error: Option<LastError>,
    /// Why the store cannot be read, if all that was needed of it is in the disk cache.
    pub without_store: Option<String>,
    /// The commit; `None` if the command failed.
    pub commit: Option<CommitReport>,
    /// Who still used the mount when the command had ended, and was cut off. Files that they had open for
    /// writing are not committed.
    pub held: Vec<String>,
    /// The reports that were asked for.
    pub reports: Vec<WrittenReport>,
}

/// Why a run did not come to its end. A session that was begun is kept, and named.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
#[non_exhaustive]
pub struct RunError {
    /// The session, if there is one to be committed or discarded.
    pub session: Option<SessionId>,
    /// What happened.
    pub source: Error,
}

impl From<Error> for RunError {
    fn from(source: Error) -> Self {
        Self {
            session: None,
            source,
        }
    }
}

/// The command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {command}")]
#[non_exhaustive]
pub struct CommandError {
    /// Which.
    pub command: String,
    /// Why.
    pub source: io::Error,
}

classified! {
    CommandError => |_| FailureClass::Other;
}

/// How long processes that the command left behind may keep the mount busy.
const PATIENCE: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Mounts, runs, unmounts, commits. Cancelling `stop` tells the command to stop. `cancel` is called before the mount and
/// before the commit, and gives the token that cancels that: what is cancelled before the command was started leaves
/// nothing behind, and a commit that is cancelled is left to later. Two tokens, because Ctrl-C on a terminal reaches the
/// command as well: while that runs, it is not meant for the commit.
pub async fn run(
    request: RunRequest,
    observer: &dyn Observer,
    stop: &CancellationToken,
    cancel: &(dyn Fn() -> CancellationToken + Sync),
) -> Result<RunReport, RunError> {
    let RunRequest {
        manifests,
        layers,
        case_insensitive,
        protect_inputs,
        max_scratch,
        output_dirs,
        chosen,
        links,
        command,
        owner,
        store,
        probe,
        reading,
        early_uploads,
        writeback_cache,
        traces,
        places,
        publish,
        files_only,
        output,
        metrics,
        reports,
        open_files,
    } = request;
    chosen.patterns()?;
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::usage("there is no command to run").into());
    };
    let session = MountSession::New {
        manifests,
        layers,
        read_only: false,
        case_insensitive,
        protect_inputs,
        session_dir: None,
        scratch_dir: None,
        max_scratch,
        commit: false,
        output_dirs: output_dirs.clone(),
    };
    let mount_point = MountPoint::InSession;
    let mount = MountRequest {
        session,
        mount_point,
        owner,
        allow_other: false,
        store,
        probe,
        reading,
        no_open: false,
        early_uploads: EarlyUploads {
            chosen: chosen.clone(),
            ..early_uploads
        },
        writeback_cache,
        traces,
        log: LogPlace::Elsewhere("standard error".to_owned()),
        metrics,
        reports,
        places,
        step_hook: None,
        before_making: None,
    };
    let mount = Mount::start(mount, &cancel()).await?;
    let session = mount.session_id().clone();
    let failed = |source| RunError {
        session: Some(session.clone()),
        source,
    };
    let root = mount.mount_point();
    let started = make_dirs(&root, &output_dirs).await.and_then(|()| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&root);
        open_files.as_given(|| command.spawn()).map_err(|source| {
            let command = program.display().to_string();
            CommandError { command, source }.into()
        })
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            // Nothing was written: nothing is kept.
            let_go(&mount).await.map_err(failed)?;
            mount.mark_done().await;
            mount.finish().await.map_err(failed)?;
            return Err(error.into());
        }
    };
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = stop.cancelled() => {
            terminate(&child);
            child.wait().await
        }
    };
    let status = ended.doing(|| format!("cannot wait for {}", program.display()));
    let status = status.map_err(failed)?;
    let held = let_go(&mount).await.map_err(failed)?;
    let (counters, fetched) = mount.counters();
    let mut ran = RunReport {
        status,
        session: session.clone(),
        kept: true,
        counters,
        fetched,
        prefetch: mount.prefetched(),
        last_error: mount.last_error(),
        without_store: mount.without_store().map(str::to_owned),
        commit: None,
        held,
        // Before the commit, which reads too.
        reports: mount.write_reports().await,
    };
    if status.success() {
        let arguments = CommitArguments {
            // Their programs were cut off and cannot finish writing: the files may be incomplete.
            skip_open: true,
            chosen,
            links,
            publish,
            files_only,
            ..CommitArguments::default()
        };
        let committed = mount.commit(&arguments, observer, &cancel()).await;
        let report = committed.map_err(failed)?;
        if let (Some(output), Some(manifest)) = (&output, &report.manifest) {
            // Before the session goes.
            let bytes = committed_bytes(mount.session_dir(), manifest, &arguments);
            let written = bytes.and_then(|bytes| write_manifest(output, &bytes));
            let published = || format!("it is published as {}", manifest.address);
            written.map_err(|error| failed(error.advise(published())))?;
        }
        if !report.account.is_partial() {
            mount.mark_done().await;
            ran.kept = false;
        }
        ran.commit = Some(report);
    } else {
        let status = mount.status().await.map_err(failed)?;
        if status.uncommitted == 0 && !status.commit_unfinished {
            // It wrote nothing.
            mount.mark_done().await;
            ran.kept = false;
        }
    }
    mount.finish().await.map_err(failed)?;
    Ok(ran)
}

async fn make_dirs(root: &Path, dirs: &[String]) -> Result<(), Error> {
    for dir in dirs {
        if let Some(path) = parse_path(dir)? {
            let path = root.join(String::from_utf8_lossy(path.as_bytes()).as_ref());
            let made = tokio::fs::create_dir_all(&path).await;
            made.doing(|| format!("cannot create {}", path.display()))?;
        }
    }
    Ok(())
}

/// Asks the command to stop, as the signal that this process got would have.
fn terminate(child: &tokio::process::Child) {
    let Some(pid) = child.id() else {
        return;
    };
    if let Err(error) = attachfs_durable::ask_to_stop(pid) {
        tracing::warn!(%error, "cannot tell the command to stop");
    }
}

/// Unmounts, and says who still used the mount. What the command left running may take a moment to end;
/// what does not is cut off: it would be when this process ends, and until then it could change what is
/// being committed.
async fn let_go(mount: &Mount) -> Result<Vec<String>, Error> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let error = match mount.unmount(false).await {
            Ok(held) => return Ok(held),
            Err(error) => error,
        };
        let Some(UnmountError::Busy { holders, .. } | UnmountError::StillUsed { holders, .. }) =
            error.cause()
        else {
            return Err(error);
        };
        if tokio::time::Instant::now() >= deadline {
            let copies = mount.unmount(true).await?;
            let holders = holders.iter().map(ToString::to_string);
            return Ok(holders.chain(copies).collect());
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}
