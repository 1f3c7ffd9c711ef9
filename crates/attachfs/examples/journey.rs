//! The whole journey through the library: a folder becomes a manifest, the manifest is mounted, a file is read and
//! another one written in the mount, what was written is committed, and the commit is read back from the store.
//!
//! ```text
//!     cargo run -p attachfs --example journey -- /tmp/journey
//! ```
//!
//! The directory is made. Everything is kept in it: the folder, the store, the session and the cache.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use attachfs::{
    Announce, CommitArguments, Exposed, LayerOptions, LogPlace, ManifestBytes, ManifestSource,
    Mount, MountPoint, MountRequest, MountSession, Observer, Owner, Places, Progress,
    ProgressEvent, ReadOptions, SnapshotOptions, Step, cat, create_directory_store, parse_path,
    read_manifest, take_snapshot,
};

/// What a commit reports while it runs. `Break` would cancel it.
struct Quiet;

impl Progress for Quiet {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Observer for Quiet {
    fn step(&self, _: Step) {}
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

/// Makes the journey in a directory that is empty or not there yet.
pub(crate) async fn journey(dir: &Path) -> Result<Seen, Box<dyn Error>> {
    let folder = dir.join("scene");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("input.txt"), "what the job reads")?;
    let places = Places {
        state: dir.join("state"),
        cache: attachfs::CacheDir::new(dir.join("cache")),
        data: dir.join("data"),
    };
    let (_, store) = create_directory_store(&places.embedded_store())?;

    let options = SnapshotOptions::default();
    let snapshot = take_snapshot(&folder, Some(&store), &Quiet, &options, &Quiet).await?;

    let base = ManifestBytes {
        name: "scene".to_owned(),
        bytes: snapshot.bytes,
        at: None,
    };
    let mount = Mount::start(MountRequest {
        session: MountSession::New {
            manifests: vec![base],
            layers: LayerOptions::default(),
            read_only: false,
            session_dir: None,
            scratch_dir: None,
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
        log: LogPlace::Elsewhere("nowhere".to_owned()),
        places,
        step_hook: None,
        before_making: None,
    })
    .await?;
    let mount_point = mount.mount_point();

    let at = mount_point.clone();
    // The mount is served by this runtime: its files are not to be waited for on the runtime's own threads.
    let read = tokio::task::spawn_blocking(move || {
        let read = std::fs::read(at.join("input.txt"))?;
        std::fs::write(at.join("output.txt"), "what the job wrote")?;
        std::io::Result::Ok(read)
    })
    .await??;

    mount.unmount(false).await?;
    let report = mount.commit(&CommitArguments::default(), &Quiet).await?;
    mount.mark_done().await;
    mount.finish().await?;

    let published = report.manifest.ok_or("nothing was committed")?;
    let source = ManifestSource::File(published.address.into());
    let diff = read_manifest(&source, None, &store.settings).await?;
    let mut read_back = Vec::new();
    let output = parse_path("output.txt")?.ok_or("the root is no file")?;
    let keep = |bytes: &[u8]| {
        read_back.extend_from_slice(bytes);
        Ok(())
    };
    cat(&diff, None, &output, &store, keep).await?;
    Ok(Seen {
        read,
        read_back,
        mount_point,
    })
}

#[tokio::main]
#[allow(dead_code, reason = "a test makes the journey without this")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("name a directory")?;
    let seen = journey(Path::new(&dir)).await?;
    assert_eq!(seen.read, b"what the job reads");
    assert_eq!(seen.read_back, b"what the job wrote");
    assert!(seen.mount_point.is_absolute());
    Ok(())
}
