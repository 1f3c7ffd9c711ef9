//! The whole journey in one call: a folder becomes a manifest, a command runs in the mount, what it
//! wrote becomes a diff.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use attachfs_commit::{CommitError, Observer};
use attachfs_durable::OpenFiles;
use attachfs_mount::UnmountError;
use attachfs_session::SessionId;
use attachfs_store::ManifestKey;
use attachfs_transfer::{Cancelled, Phase, ProgressEvent, TransferError};
use attachfs_tree::LayerOptions;
use attachfs_vfs::Counters;
use tokio::process::Command;

use crate::logs::LogPlace;
use crate::mount::{Mount, MountPoint, MountRequest, MountSession, Owner};
use crate::remote::{CommitArguments, CommitReport, Fetched, LastError};
use crate::store::OpenStore;
use crate::{Error, ManifestBytes, Places};

/// What to run where.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The manifests to mount, the lowest first.
    pub manifests: Vec<ManifestBytes>,
    /// How they are put together.
    pub layers: LayerOptions,
    /// Directories to make before the command runs; only what is in or below them is committed. All
    /// is if there are none.
    pub output_dirs: Vec<String>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Owner and modes.
    pub owner: Owner,
    /// The store.
    pub store: OpenStore,
    /// Prove first that the store can be read.
    pub probe: bool,
    /// This machine.
    pub places: Places,
    /// Where the manifest of what was committed is put, too.
    pub publish: Option<ManifestKey>,
    /// The file that gets the manifest's bytes.
    pub output: Option<PathBuf>,
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
    /// What was read and written.
    pub counters: Counters,
    /// What was asked of the store.
    pub fetched: Fetched,
    /// The last read that failed.
    pub last_error: Option<LastError>,
    /// Why the store cannot be read, if all that was needed of it is in the disk cache.
    pub without_store: Option<String>,
    /// What was committed; `None` if the command failed.
    pub commit: Option<CommitReport>,
    /// Who still used the mount when the command had ended, and was cut off. Files that they had open for
    /// writing are not committed.
    pub held: Vec<String>,
}

/// Why a run did not come to its end. A session that was begun is kept, and named.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct RunError {
    /// The session, if there is one to be committed or discarded.
    pub session: Option<SessionId>,
    /// What happened.
    pub source: Error,
}

/// How long processes that the command left behind may keep the mount busy.
const PATIENCE: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Mounts, runs, unmounts, commits. `signals` ends when the command is to be told to stop; what `give_up`
/// makes, when to stop before the command was started, or to leave the commit to later. It is called at
/// the beginning of both, and hears of what comes from its call on.
pub async fn run<G: Future<Output = ()>>(
    request: RunRequest,
    observer: &dyn Observer,
    signals: impl Future<Output = ()>,
    give_up: impl Fn() -> G,
) -> Result<RunReport, RunError> {
    let before = |source| RunError {
        session: None,
        source,
    };
    let RunRequest {
        manifests,
        layers,
        output_dirs,
        command,
        owner,
        store,
        probe,
        places,
        publish,
        output,
        open_files,
    } = request;
    let Some((program, arguments)) = command.split_first() else {
        return Err(before(Error::Usage(
            "there is no command to run".to_owned(),
        )));
    };
    let what = MountSession::New {
        manifests,
        layers,
        read_only: false,
        session_dir: None,
        scratch_dir: None,
        commit: false,
        output_dirs: output_dirs.clone(),
    };
    let mount_point = MountPoint::InSession;
    let mount = MountRequest {
        session: what,
        mount_point,
        owner,
        allow_other: false,
        store,
        probe,
        log: LogPlace::Elsewhere("standard error".to_owned()),
        places,
        step_hook: None,
        before_making: None,
    };
    let cancelled = || TransferError::from(Cancelled::after(ProgressEvent::of(Phase::Commit)));
    // Heard before anything waits.
    let given_up = give_up();
    let mount = tokio::select! {
        mount = Mount::start(mount) => mount.map_err(before)?,
        () = given_up => return Err(before(Error::Transfer(cancelled()))),
    };
    let session = mount.session_id().clone();
    let failed = |source| RunError {
        session: Some(session.clone()),
        source,
    };
    let root = mount.mount_point();
    let started = make_dirs(&root, &output_dirs).await.and_then(|()| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&root);
        open_files
            .as_given(|| command.spawn())
            .map_err(|source| Error::Command {
                command: program.display().to_string(),
                source,
            })
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            // Nothing was written: nothing is kept.
            let_go(&mount).await.map_err(failed)?;
            mount.mark_done().await;
            mount.finish().await.map_err(failed)?;
            return Err(before(error));
        }
    };
    let waiting = |source| Error::Io {
        doing: "wait for",
        path: PathBuf::from(program),
        source,
    };
    let status = tokio::select! {
        status = child.wait() => status.map_err(waiting).map_err(failed)?,
        () = signals => {
            terminate(&child);
            child.wait().await.map_err(waiting).map_err(failed)?
        }
    };
    let held = let_go(&mount).await.map_err(failed)?;
    let (counters, fetched) = mount.counters();
    let mut ran = RunReport {
        status,
        session: session.clone(),
        kept: true,
        counters,
        fetched,
        last_error: mount.last_error(),
        without_store: mount.without_store().map(str::to_owned),
        commit: None,
        held,
    };
    if status.success() {
        let arguments = CommitArguments {
            // Nobody can close them any more: what was written to them may be half of something.
            skip_open: true,
            publish,
            ..CommitArguments::default()
        };
        let committed = tokio::select! {
            committed = mount.commit(&arguments, observer) => committed,
            // A commit may be interrupted anywhere.
            () = give_up() => Err(CommitError::Transfer(cancelled()).into()),
        };
        let report = committed.map_err(failed)?;
        if let (Some(output), Some(manifest)) = (&output, &report.manifest) {
            // Before the session goes.
            let bytes = crate::session::committed_bytes(mount.session_dir(), manifest);
            let written = bytes.and_then(|bytes| crate::write_manifest(output, &bytes));
            written.map_err(failed)?;
        }
        if !report.account.is_partial() {
            mount.mark_done().await;
            ran.kept = false;
        }
        ran.commit = Some(report);
    } else if mount.status().await.map_err(failed)?.uncommitted == 0 {
        // It wrote nothing.
        mount.mark_done().await;
        ran.kept = false;
    }
    mount.finish().await.map_err(failed)?;
    Ok(ran)
}

async fn make_dirs(root: &Path, dirs: &[String]) -> Result<(), Error> {
    for dir in dirs {
        if let Some(path) = crate::parse_path(dir)? {
            let path = root.join(String::from_utf8_lossy(path.as_bytes()).as_ref());
            let made = tokio::fs::create_dir_all(&path).await;
            made.map_err(|source| Error::Io {
                doing: "create",
                path,
                source,
            })?;
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
        let Error::Unmount(
            UnmountError::Busy { holders, .. } | UnmountError::StillUsed { holders, .. },
        ) = error
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
