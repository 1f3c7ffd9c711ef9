//! Places the files of a manifest in a folder.
//!
//! ```text
//!     survey      names and metadata of what is there
//!     plan        pure: what is to be made, fetched, compared, deleted
//!     check       paths too long, room on the disk; until here nothing was changed, but for what earlier
//!                 runs left and nobody needs any more
//!     act         directories, files, links; what deletes anything last, and only if nothing failed
//! ```
//!
//! The folder is opened once, and everything in it is reached from there without following a symbolic
//! link (`attachfs_durable::HeldDir`): whatever others put there, nothing outside is written, renamed,
//! deleted or given other times and permissions. A file appears under its name when all of its bytes were
//! verified, never before; what an interrupted run fetched of a large one is used by the next
//! ([`part`](self::part)).
//!
//! What concerns one file is in the account, and the others go on. What concerns everything (the store is
//! gone or refuses, the disk is full) ends the call.

mod acts;
mod error;
mod file;
mod large;
mod leading;
mod leftovers;
mod names;
mod naming;
mod part;
mod plan;
mod remembered;
mod run;
mod small;
mod supply;
mod survey;
#[cfg(test)]
mod tests;
mod tree;
mod waiting;
mod wanted;

use std::collections::HashSet;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use attachfs_durable::{HeldDir, share_file};
use attachfs_manifest::{ContentHash, EscapedBytes, ManifestPath};
use attachfs_scan::Ground;
use attachfs_scan::cache::HashCaches;
use attachfs_store::ChunkStore;

use crate::flush::Flushing;
use crate::meter::Meter;
use crate::run::{blocking, run_one};
use crate::{Phase, Progress, Summary, TransferError};

use leading::RootNames;
use leftovers::Leftovers;
use names::may_be_copy_name;
use part::Part;
use plan::{Entry, Plan};
use run::Run;
use survey::Survey;

pub use error::DownloadError;
pub use plan::Conflict;
pub use wanted::Wanted;

/// How many paths an error names.
const LISTED: usize = 20;

/// Objects that are files on this machine.
pub trait Nearby: Send + Sync + Debug {
    /// A file that holds this object and nothing else, as far as its name and length say. Whoever takes
    /// bytes of it hashes them. Blocks.
    fn find(&self, object: ContentHash, len: u64) -> Option<File>;
}

/// Where bytes come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The store.
    pub store: Arc<dyn ChunkStore>,
    /// Asked first.
    pub nearby: Option<Arc<dyn Nearby>>,
}

/// What the files and directories that are made are given beside what the umask leaves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Their group.
    pub group: Option<u32>,
    /// Permission bits that files get in addition.
    pub add_file_mode: u32,
    /// Permission bits that directories get in addition.
    pub add_dir_mode: u32,
}

/// How to download.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// What becomes of a file whose place is taken by something else.
    pub conflict: Conflict,
    /// Whether a diff deletes.
    pub deletes: bool,
    /// Of what is made.
    pub permissions: Permissions,
    /// Hashes of what is there, from an earlier time.
    pub caches: Option<Arc<HashCaches>>,
    /// Read what is there, whatever the caches say.
    pub force_rehash: bool,
    /// Have everything on the disk before it returns.
    pub sync: bool,
    /// Requests for small files at once.
    pub max_in_flight: usize,
    /// Files longer than a block at once: few, so that an interrupted download leaves whole files.
    pub max_large_in_flight: usize,
    /// Longer files are fetched in ranges of this many bytes.
    pub block_bytes: u64,
    /// Bytes that are fetched and not yet written, at most.
    pub memory_bytes: u64,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            conflict: Conflict::default(),
            deletes: true,
            permissions: Permissions::default(),
            caches: None,
            force_rehash: false,
            sync: false,
            max_in_flight: 32,
            max_large_in_flight: 4,
            block_bytes: 8 << 20,
            memory_bytes: 48 << 20,
        }
    }
}

/// Something that was left as it is, which is no failure.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Remark {
    /// Where, as text for people and JSON.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Remark {
    fn new(path: &ManifestPath, why: &str) -> Self {
        Self {
            path: path.to_string(),
            why: why.to_owned(),
        }
    }
}

/// A file or link that was placed under another name, since something else has its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Where it should be, as text for people and JSON.
    pub path: String,
    /// Its name in the same directory.
    #[serde(rename = "as")]
    pub name: String,
}

impl Copied {
    fn new(path: &ManifestPath, name: &[u8]) -> Self {
        Self {
            path: path.to_string(),
            name: EscapedBytes(name).to_string(),
        }
    }
}

/// Why a download stopped, and how far it came.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct DownloadStopped {
    /// What was done until then.
    pub report: Box<DownloadReport>,
    /// Why.
    #[source]
    pub source: TransferError,
}

/// What a download did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownloadReport {
    /// Files, and links as files without bytes.
    pub summary: Summary,
    /// How many files, links and directories a diff deleted.
    pub deleted: u64,
    /// What a diff means to delete and is still there, and what was not placed since something else is in
    /// its place and [`Conflict::Skip`] leaves it there. In the order of paths.
    pub left: Vec<Remark>,
    /// What was placed under another name, in the order of paths.
    pub copied: Vec<Copied>,
}

/// Places what is wanted in the folder `root`, which is made if it is missing.
///
/// Files that are there with the right bytes are left alone, but for their time and execute bit. Directories
/// that hold something that the manifest does not know are never deleted.
pub async fn download(
    root: &Path,
    wanted: Wanted<'_>,
    sources: Sources,
    options: &DownloadOptions,
    progress: &dyn Progress,
) -> Result<DownloadReport, DownloadStopped> {
    let began = Instant::now();
    let mut report = DownloadReport::default();
    let placed = place(root, wanted, sources, options, progress, &mut report).await;
    report.summary.errors.sort_by(|a, b| a.path.cmp(&b.path));
    report.left.sort_by(|a, b| a.path.cmp(&b.path));
    report.copied.sort_by(|a, b| a.path.cmp(&b.path));
    report.summary.elapsed = began.elapsed();
    match placed {
        Ok(()) => Ok(report),
        Err(source) => Err(DownloadStopped {
            report: Box::new(report),
            source,
        }),
    }
}

/// Does it, and notes what was done.
async fn place(
    root: &Path,
    wanted: Wanted<'_>,
    sources: Sources,
    options: &DownloadOptions,
    progress: &dyn Progress,
    report: &mut DownloadReport,
) -> Result<(), TransferError> {
    let place = Opened::new(root, options.permissions)?;
    let chunk_size = wanted.chunk_size();
    let changes = wanted.changes();
    let meter = Meter::new(Phase::Scan, changes.len() as u64, 0);
    let (counted, asked) = (Arc::clone(&meter), options.clone());
    let looking = async move {
        let looked = Arc::clone(&counted);
        blocking(&looked, move || {
            let survey = survey::survey(&place.dir, &place.names, changes, &counted)?;
            let Survey { entries, leftovers } = survey;
            let reserved = reserved(&entries);
            let plan = plan::plan(entries, asked.deletes);
            // First, since their room may be needed.
            leftovers.remove_unwanted(&place.dir, &plan.files);
            check(&place, &plan, &leftovers, &asked)?;
            Ok((place, leftovers, reserved, plan))
        })
        .await
    };
    let (place, leftovers, reserved, plan) = run_one(looking, &meter, progress).await?;
    let files = plan.files.iter().map(|step| step.file.size);
    let failed = plan.failed.iter().filter_map(|(_, size, _)| *size);
    for size in files.chain(failed) {
        report.summary.total.add(size);
    }
    let links = plan.all_links().count() as u64 + plan.links_there;
    report.summary.total.count += links;
    report.summary.skipped.count += plan.links_there;
    let total = report.summary.total;
    let meter = Meter::new(Phase::Download, total.count, total.bytes);
    let caches = options.caches.clone();
    let _flushing = caches.map(|caches| Flushing::of(Some(caches), None));
    let run = Run::new(
        place, leftovers, reserved, sources, options, chunk_size, meter,
    );
    run.act(plan, progress, report).await
}

/// The paths that a copy could be given and that the manifest puts or deletes itself.
fn reserved(entries: &[Entry]) -> HashSet<ManifestPath> {
    let paths = entries.iter().map(|entry| &entry.path);
    let may_be = paths.filter(|path| may_be_copy_name(path.borrowed().name()));
    may_be.cloned().collect()
}

/// The folder, open.
struct Opened {
    /// Absolute and without symbolic links.
    real: PathBuf,
    names: RootNames,
    dir: HeldDir,
    ground: Ground,
}

impl Opened {
    fn new(root: &Path, share: Permissions) -> Result<Self, TransferError> {
        let failed = |doing| {
            move |source: io::Error| DownloadError::Root {
                doing,
                path: root.to_owned(),
                source,
            }
        };
        let is_there = root.try_exists().map_err(failed("find"))?;
        if !is_there {
            make_root(root, share).map_err(failed("make"))?;
        }
        let real = root.canonicalize().map_err(failed("find"))?;
        let dir = HeldDir::open(&real).map_err(failed("open"))?;
        let ground = Ground::open(real.clone())?;
        let names = RootNames::new(&real, root);
        Ok(Self {
            real,
            names,
            dir,
            ground,
        })
    }
}

/// Fails if files and directories in the folder `root`, which is at `real`, cannot be given their group:
/// every one of them would, files after their bytes were fetched. Blocks.
fn may_give(root: &HeldDir, real: &Path, share: Permissions) -> Result<(), DownloadError> {
    if share.group.is_none() {
        return Ok(());
    }
    let probe = root.dir(b"").and_then(|dir| {
        let key = ContentHash::of(b"");
        Part::create(dir, key, 0, false)
    });
    // Who may make no file in the folder itself may still make some further down.
    let Ok(probe) = probe else { return Ok(()) };
    share_file(probe.file(), 0, share.group).map_err(|source| DownloadError::Root {
        doing: "give their group to files in",
        path: real.to_owned(),
        source,
    })
}

/// Makes a folder, and what is missing above it. It has its name before it is shared: under another, nobody
/// would look for it beside the folder.
fn make_root(root: &Path, share: Permissions) -> io::Result<()> {
    let (Some(above), Some(name)) = (root.parent(), root.file_name()) else {
        return std::fs::create_dir_all(root);
    };
    let above = if above.as_os_str().is_empty() {
        Path::new(".")
    } else {
        above
    };
    std::fs::create_dir_all(above)?;
    let holding = HeldDir::open(&above.canonicalize()?)?;
    let name = name.as_encoded_bytes();
    match holding.create_dir(name, 0o777) {
        // Another download was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    if share.add_dir_mode == 0 && share.group.is_none() {
        return Ok(());
    }
    let shared = holding.dir(name);
    let shared = shared.and_then(|dir| dir.share(share.add_dir_mode, share.group));
    shared.inspect_err(|_| {
        if let Err(error) = holding.remove_dir(name) {
            tracing::debug!(%error, "a folder that cannot be shared stays");
        }
    })
}

/// Fails if the plan cannot be carried out here. Blocks.
fn check(
    place: &Opened,
    plan: &Plan,
    leftovers: &Leftovers,
    options: &DownloadOptions,
) -> Result<(), TransferError> {
    let root = || place.real.clone();
    let longest_name = place.dir.longest_name();
    let longest_name = longest_name.map_err(|source| DownloadError::Root {
        doing: "look at",
        path: root(),
        source,
    })?;
    let too_long = plan.too_long(place.real.as_os_str().len(), longest_name);
    if !too_long.is_empty() {
        return Err(DownloadError::TooLong {
            root: root(),
            count: too_long.len(),
            paths: too_long.into_iter().take(LISTED).cloned().collect(),
        }
        .into());
    }
    let mut fetched = plan.fetched(options.conflict);
    if plan.all_dirs().next().is_some() || fetched.next().is_some() {
        may_give(&place.dir, &place.real, options.permissions)?;
    }
    let space = attachfs_durable::space(&place.real).map_err(DownloadError::from)?;
    // What was left has its room already.
    let fetched = plan.fetched(options.conflict);
    let taken: u64 = fetched
        .map(|step| leftovers.room_of(&place.dir, step, space.block_size))
        .sum();
    let needed = plan.bytes_to_write(options.conflict, space.block_size);
    let needed = needed.saturating_sub(taken);
    if needed > space.available {
        return Err(DownloadError::NoRoom {
            root: root(),
            needed,
            available: space.available,
        }
        .into());
    }
    Ok(())
}
