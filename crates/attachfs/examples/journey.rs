//! The whole journey through the library, twice: from blocking code, and on a runtime of the caller's. A folder becomes
//! a manifest, the manifest is mounted, a file is read and another one written in the mount, what was written is
//! committed, and the commit is read back from the store.
//!
//! ```text
//!     cargo run -p attachfs --example journey -- /tmp/journey
//! ```
//!
//! The directory is made. Everything is kept in it: the folders, the stores, the sessions and the caches.

use std::error::Error;
use std::path::{Path, PathBuf};

use attachfs::{
    Announce, CacheDir, CancellationToken, CommitArguments, CommitReport, CommitStep, Exposed,
    LayerOptions, LogPlace, ManifestBytes, ManifestPath, ManifestSource, Mount, MountPoint,
    MountRequest, MountSession, Observer, OpenStore, Owner, Places, Progress, ProgressEvent,
    ReadOptions, Reports, Runtime, SnapshotOptions, TraceOptions, cat, create_directory_store,
    parse_path, read_manifest, take_snapshot,
};

/// Hears how far a use case is, and says nothing. A program with a window would draw it.
pub(crate) struct Quiet;

impl Progress for Quiet {
    fn update(&self, _: &ProgressEvent) -> std::ops::ControlFlow<()> {
        std::ops::ControlFlow::Continue(())
    }
}

impl Observer for Quiet {
    fn step(&self, _: CommitStep) {}
}

impl Announce for Quiet {
    fn copying(&self, _: u64, _: &Path) {}

    fn exposing(&self, _: &Exposed) {}
}

/// What the journey saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The input, as the mount showed it.
    pub(crate) read: Vec<u8>,
    /// The output, as it was read back from the store.
    pub(crate) read_back: Vec<u8>,
    /// Where it was mounted.
    pub(crate) mount_point: PathBuf,
}

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The journey from blocking code: each use case is waited for, and the runtime serves the mount meanwhile.
pub(crate) fn blocking(dir: &Path) -> Result<Seen> {
    // A program keeps a clone of it where it hears of Ctrl-C, and cancels that.
    let cancel = CancellationToken::new();
    let runtime = Runtime::new()?;
    let (folder, places, store) = prepare(dir)?;
    let options = SnapshotOptions::default();
    let taken = take_snapshot(&folder, Some(&store), &Quiet, &options, &Quiet, &cancel);
    let snapshot = runtime.wait(taken)?;

    let request = mount_request(snapshot.bytes, &store, places);
    let mount = runtime.wait(Mount::start(request, &cancel))?;
    let mount_point = mount.mount_point();
    let read = work_in(&mount_point)?;
    runtime.wait(mount.unmount(false))?;
    let arguments = CommitArguments::default();
    let report = runtime.wait(mount.commit(&arguments, &Quiet, &cancel))?;
    runtime.wait(async {
        mount.mark_done().await;
        mount.finish().await
    })?;

    let (source, output) = published(report)?;
    let diff = runtime.wait(read_manifest(&source, None, &store.settings, &cancel))?;
    let mut read_back = Vec::new();
    let keep = |bytes: &[u8]| {
        read_back.extend_from_slice(bytes);
        Ok(())
    };
    runtime.wait(cat(&diff, None, &output, &store, keep, &cancel))?;
    Ok(Seen {
        read,
        read_back,
        mount_point,
    })
}

/// The journey on a runtime of the caller's, which serves the mount.
pub(crate) async fn on_a_runtime(dir: &Path) -> Result<Seen> {
    let cancel = CancellationToken::new();
    let (folder, places, store) = prepare(dir)?;
    let options = SnapshotOptions::default();
    let snapshot = take_snapshot(&folder, Some(&store), &Quiet, &options, &Quiet, &cancel).await?;

    let request = mount_request(snapshot.bytes, &store, places);
    let mount = Mount::start(request, &cancel).await?;
    let mount_point = mount.mount_point();
    let at = mount_point.clone();
    // The mount is served by this runtime: its own threads must not wait for files in it.
    let read = tokio::task::spawn_blocking(move || work_in(&at)).await??;
    mount.unmount(false).await?;
    let arguments = CommitArguments::default();
    let report = mount.commit(&arguments, &Quiet, &cancel).await?;
    mount.mark_done().await;
    mount.finish().await?;

    let (source, output) = published(report)?;
    let diff = read_manifest(&source, None, &store.settings, &cancel).await?;
    let mut read_back = Vec::new();
    let keep = |bytes: &[u8]| {
        read_back.extend_from_slice(bytes);
        Ok(())
    };
    cat(&diff, None, &output, &store, keep, &cancel).await?;
    Ok(Seen {
        read,
        read_back,
        mount_point,
    })
}

/// The folder, where things are kept, and the store.
pub(crate) fn prepare(dir: &Path) -> Result<(PathBuf, Places, OpenStore)> {
    let folder = dir.join("scene");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("input.txt"), "what the job reads")?;
    let places = Places {
        state: dir.join("state"),
        cache: CacheDir::new(dir.join("cache")),
        data: dir.join("data"),
    };
    let (_, store) = create_directory_store(&places.embedded_store())?;
    Ok((folder, places, store))
}

pub(crate) fn mount_request(manifest: Vec<u8>, store: &OpenStore, places: Places) -> MountRequest {
    let base = ManifestBytes {
        name: "scene".to_owned(),
        bytes: manifest,
        at: None,
    };
    MountRequest {
        session: MountSession::New {
            manifests: vec![base.into()],
            layers: LayerOptions::default(),
            read_only: false,
            case_insensitive: false,
            protect_inputs: false,
            session_dir: None,
            scratch_dir: None,
            max_scratch: None,
            commit: false,
            output_dirs: Vec::new(),
        },
        mount_point: MountPoint::InSession,
        owner: Owner {
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
        },
        allow_other: false,
        store: store.clone(),
        probe: true,
        reading: ReadOptions::default(),
        no_open: false,
        traces: TraceOptions::default(),
        log: LogPlace::Elsewhere("nowhere".to_owned()),
        metrics: None,
        reports: Reports::default(),
        places,
        step_hook: None,
        before_making: None,
    }
}

/// What a job does in a mount.
fn work_in(mount: &Path) -> std::io::Result<Vec<u8>> {
    let read = std::fs::read(mount.join("input.txt"))?;
    std::fs::write(mount.join("output.txt"), "what the job wrote")?;
    Ok(read)
}

/// Where a commit published its manifest, and the file in it that is wanted.
fn published(report: CommitReport) -> Result<(ManifestSource, ManifestPath)> {
    let published = report.manifest.ok_or("nothing was committed")?;
    let output = parse_path("output.txt")?.ok_or("the root is no file")?;
    Ok((ManifestSource::File(published.address.into()), output))
}

#[allow(dead_code, reason = "a test makes the journey without this")]
fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).ok_or("name a directory")?;
    let dir = Path::new(&dir);
    let threads = tokio::runtime::Runtime::new()?;
    for seen in [
        blocking(&dir.join("blocking"))?,
        threads.block_on(on_a_runtime(&dir.join("on-a-runtime")))?,
    ] {
        assert_eq!(seen.read, b"what the job reads");
        assert_eq!(seen.read_back, b"what the job wrote");
        assert!(seen.mount_point.is_absolute());
    }
    Ok(())
}
