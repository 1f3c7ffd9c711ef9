//! Links that lead out of the mount, replaced by what they show.
//!
//! What a link shows is looked up as the user who commits sees it, on the paths of this machine: a file gives its bytes, a directory
//! everything in it. Nothing is looked up through a mount of attachfs, least of all through the mount of this session: its process would
//! wait for itself, and after an unmount something else is there. So each step of the way is held against the kernel's table of mounts
//! before it is taken. How much one commit takes in by links is bounded, and how long it waits for a disk.
//!
//! The process that commits may read what the user who made a link may not, and a link that came with a manifest was made by anybody. So what links
//! show that are not its own user's is looked up, and opened once, by a thread that acts as the user who made them: the kernel says what that
//! one may read, also through links in directories that are shown. Where the process may not act as another user, only what all may read is taken.
//! The stamps say that what is hashed later is what that thread has opened.

use std::io;
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use attachfs_durable::{
    Facts, FileStamp, Kind, Mounted, act_as, may_all_read, mounted, open_file_through_links,
    path_of_bytes, user_numbers,
};
use attachfs_manifest::{ChunkSize, File, ManifestPath, Mtime, Node, PathError};
use attachfs_scan::{
    CrossMounts, EntryKind, Progress, ScanError, ScanOptions, SkipReason, SymlinkPolicy, scan,
};
use attachfs_transfer::{ChunkSource, FileToStore, SourceFile, TransferError, hash_whole_source};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::error::{CommitError, OutgoingLink};
use crate::hash::{AT_ONCE, chunks, micros};
use crate::plan::Outgoing;
use crate::size::check;

/// So many files and bytes are taken in by the links of one commit.
const MOST_FILES: u64 = 100_000;
const MOST_BYTES: u64 = 256 << 30;
/// So deep may a directory be that is taken in.
const DEEPEST: usize = 64;
/// How long the disks of other places may take to say what is there.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);
/// A disk that gives a file more slowly, in bytes a second, counts as one that does not answer.
const LEAST_RATE: u64 = 1 << 20;
/// As many links as the kernel follows on one way.
const MOST_LINKS: u32 = 40;
/// What the kernel's table calls a mount of attachfs.
const OWN_KIND: &str = "fuse.attachfs";

/// Why a link cannot be replaced by what it shows.
#[derive(Debug, thiserror::Error)]
pub enum CollapseError {
    /// It leads into a mount of attachfs.
    #[error("it leads into {}, a mount of attachfs", .0.display())]
    OwnMount(PathBuf),
    /// It is relative, and the mount has no place.
    #[error("it is relative, and the session was mounted nowhere")]
    NoPlace,
    /// What it shows is no file and no directory.
    #[error("{} is a FIFO, a socket or a device", .0.display())]
    Special(PathBuf),
    /// Something in the directory that it shows cannot be in a manifest.
    #[error("\"{path}\" in it cannot be taken: {reason}")]
    Skipped {
        /// What.
        path: ManifestPath,
        /// Why.
        reason: SkipReason,
    },
    /// Who made the link may not read it.
    #[error(
        "{} may not be read by the user who made the link; the user who commits may, and would publish it",
        .0.display()
    )]
    NotTheirs(PathBuf),
    /// It is not known who made the link and may read this, and not all may.
    #[error(
        "{} may not be read by all; what the user who made the link may read can be told by root only",
        .0.display()
    )]
    NotForAll(PathBuf),
    /// The user who made the link is not known.
    #[error("what the user may read who made the link cannot be told")]
    Maker(#[source] io::Error),
    /// There is no thread to look it up.
    #[error("no thread can be started to look it up")]
    Thread(#[source] io::Error),
    /// The links lead in a circle.
    #[error("it leads in a circle")]
    Circle,
    /// More than is taken in.
    #[error("the links show more than {MOST_FILES} files or {} GiB together", MOST_BYTES >> 30)]
    TooMuch,
    /// The directory is too deep.
    #[error("\"{0}\" in it is more than {DEEPEST} directories deep")]
    TooDeep(ManifestPath),
    /// The path of what is in it is too long for a manifest.
    #[error("no manifest can hold the path of \"{path}\" in it")]
    TooLong {
        /// What.
        path: ManifestPath,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The disk did not answer.
    #[error("what is there cannot be told: no answer within {} s", ANSWERS_WITHIN.as_secs())]
    Silent,
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// What links show, in their places.
#[derive(Debug, Default)]
pub(crate) struct Collapsed {
    pub(crate) nodes: Vec<(ManifestPath, Node)>,
    pub(crate) written: Vec<ChunkSource>,
}

/// A file that takes a place, and what is known of it before it is hashed.
struct Shown {
    at: ManifestPath,
    file: FileToStore,
    mtime: Mtime,
    runnable: bool,
}

/// The user who made a link; `None` is somebody of whom nothing is known.
type Maker = Option<u32>;

/// How it is known what the user who made a link may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// That is the user who commits.
    Nobody,
    /// This thread acts as that user: the kernel is asked.
    Kernel,
    /// Nothing says it: what all may read is taken.
    Bits,
}

impl Asked {
    /// Has this thread act as the user who made a link, if that is another one.
    fn about(maker: Maker) -> Result<Self, CollapseError> {
        if maker == Some(user_numbers().0) {
            Ok(Self::Nobody)
        } else if act_as(maker).map_err(CollapseError::Maker)? {
            Ok(Self::Kernel)
        } else {
            Ok(Self::Bits)
        }
    }

    /// Fails unless that user may read what a path leads to. Of a file the stamp has to be this one.
    fn require_readable(self, path: &Path, stamp: Option<&FileStamp>) -> Result<(), CollapseError> {
        let denied = || CollapseError::NotTheirs(path.to_owned());
        match self {
            Self::Nobody => Ok(()),
            Self::Kernel => {
                let Some(stamp) = stamp else {
                    // Its entries were read already.
                    return Ok(());
                };
                let file = open_file_through_links(path).map_err(failed(path))?;
                let is_same = FileStamp::of(&file).map_err(failed(path))? == *stamp;
                is_same.then_some(()).ok_or_else(denied)
            }
            Self::Bits => {
                let (found, may) = may_all_read(path).map_err(failed(path))?;
                let may = may && stamp.is_none_or(|stamp| *stamp == found);
                let denied = || CollapseError::NotForAll(path.to_owned());
                may.then_some(()).ok_or_else(denied)
            }
        }
    }

    /// An error that says who is not permitted to read something.
    fn explain(self, error: CollapseError) -> CollapseError {
        match error {
            CollapseError::Io { path, source }
                if self == Self::Kernel && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                CollapseError::NotTheirs(path)
            }
            CollapseError::Scan(ScanError::Io { path, source, .. })
                if self == Self::Kernel && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                CollapseError::NotTheirs(path)
            }
            other => other,
        }
    }
}

/// What links show before any file is read.
#[derive(Default)]
struct Listed {
    dirs: Vec<ManifestPath>,
    files: Vec<Shown>,
    bytes: u64,
}

/// Looks up what the links show, and hashes it. `mount_point` is where the session is or was mounted.
pub(crate) async fn collapse(
    links: &[Outgoing],
    mount_point: Option<&Path>,
    chunk_size: ChunkSize,
) -> Result<Collapsed, CommitError> {
    let mut listed = Listed::default();
    for Outgoing { link, owner, .. } in links {
        listed = list(
            link.clone(),
            *owner,
            mount_point.map(Path::to_owned),
            listed,
        )
        .await
        .map_err(|source| CommitError::Collapse {
            link: link.clone(),
            source: Box::new(source),
        })?;
    }
    let Listed { dirs, files, .. } = listed;
    let sizes = files
        .iter()
        .map(|shown| (shown.at.clone(), shown.file.size));
    check(sizes, chunk_size)?;
    let dirs = dirs.into_iter().map(|dir| (dir, Node::Dir));
    let mut collapsed = Collapsed {
        nodes: dirs.collect(),
        written: Vec::new(),
    };
    let mut hashed = futures::stream::iter(files)
        .map(|shown| hash(shown, chunk_size))
        .buffer_unordered(AT_ONCE);
    while let Some((at, file, written)) = hashed.try_next().await? {
        collapsed.nodes.push((at, Node::File(file)));
        collapsed.written.extend(written);
    }
    Ok(collapsed)
}

async fn hash(
    shown: Shown,
    chunk_size: ChunkSize,
) -> Result<(ManifestPath, File, Vec<ChunkSource>), TransferError> {
    let patience = ANSWERS_WITHIN + Duration::from_secs(shown.file.size / LEAST_RATE);
    let hashed =
        tokio::time::timeout(patience, hash_whole_source(shown.file.clone(), chunk_size)).await;
    let content = hashed.map_err(|_elapsed| {
        let source = io::Error::from(io::ErrorKind::TimedOut);
        TransferError::read(&shown.file.path, source)
    })??;
    let written = chunks(&content, chunk_size, &shown.file);
    let file = File {
        size: shown.file.size,
        mtime: shown.mtime,
        runnable: shown.runnable,
        content,
    };
    Ok((shown.at, file, written))
}

/// Adds what a link shows. On a thread of its own, which may come to act as another user, and is not waited for if a disk never answers.
async fn list(
    link: OutgoingLink,
    maker: Maker,
    mount_point: Option<PathBuf>,
    mut listed: Listed,
) -> Result<Listed, CollapseError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let look = move || {
        let looked = Asked::about(maker).and_then(|asked| {
            let added = add(&link, asked, mount_point.as_deref(), &mut listed);
            added.map_err(|error| asked.explain(error))
        });
        // Nobody waits for it any more if that took too long.
        let _ = tell.send(looked.map(|()| listed));
    };
    let thread = std::thread::Builder::new().name("links".to_owned());
    thread.spawn(look).map_err(CollapseError::Thread)?;
    match tokio::time::timeout(ANSWERS_WITHIN, told).await {
        Ok(Ok(looked)) => looked,
        Ok(Err(_panicked)) => panic!("the thread that looks up links has panicked"),
        Err(_elapsed) => Err(CollapseError::Silent),
    }
}

fn add(
    link: &OutgoingLink,
    asked: Asked,
    mount_point: Option<&Path>,
    listed: &mut Listed,
) -> Result<(), CollapseError> {
    let text = path_of_bytes(link.text.as_slice());
    let from = if text.is_absolute() {
        PathBuf::from("/")
    } else {
        let dir = link.path.parent();
        let dir = dir.map_or_else(PathBuf::new, |dir| path_of_bytes(dir.as_bytes()));
        mount_point.ok_or(CollapseError::NoPlace)?.join(dir)
    };
    let table = mounted().map_err(failed(Path::new("/proc/self/mountinfo")))?;
    // By its text out of the mount, which is never looked into.
    let real = resolve(&normal(&from.join(text)), &table)?;
    let facts = Facts::at(&real).map_err(failed(&real))?;
    match facts.kind {
        Kind::Dir => add_dir(&link.path, asked, &real, listed),
        Kind::File => {
            asked.require_readable(&real, Some(&facts.stamp))?;
            let runnable = facts.mode & 0o111 != 0;
            listed.add_file(link.path.clone(), real, facts.stamp, runnable)
        }
        _ => Err(CollapseError::Special(real)),
    }
}

fn add_dir(
    at: &ManifestPath,
    asked: Asked,
    real: &Path,
    listed: &mut Listed,
) -> Result<(), CollapseError> {
    asked.require_readable(real, None)?;
    let options = ScanOptions {
        symlinks: SymlinkPolicy::CollapseAll,
        cross_mounts: CrossMounts::Foreign,
        ..ScanOptions::default()
    };
    let left = Most(MOST_FILES.saturating_sub(listed.files.len() as u64));
    let found = match scan(real, &options, &left) {
        Err(ScanError::Cancelled(_)) => return Err(CollapseError::TooMuch),
        found => found?,
    };
    if let Some(skipped) = found.skipped.into_iter().next() {
        let (path, reason) = (skipped.path, skipped.reason);
        return Err(CollapseError::Skipped { path, reason });
    }
    listed.dirs.push(at.clone());
    for entry in found.entries {
        if entry.path.components().count() > DEEPEST {
            return Err(CollapseError::TooDeep(entry.path));
        }
        let joined = [at.as_bytes(), b"/", entry.path.as_bytes()].concat();
        let place = ManifestPath::new(&joined).map_err(|source| CollapseError::TooLong {
            path: entry.path.clone(),
            source,
        })?;
        match entry.kind {
            EntryKind::Dir => {
                asked.require_readable(&real.join(path_of_bytes(entry.path.as_bytes())), None)?;
                listed.dirs.push(place);
            }
            EntryKind::File(file) => {
                asked.require_readable(&file.source(), Some(&file.stamp))?;
                listed.add_file(place, file.source(), file.stamp, file.runnable)?;
            }
            // All of them are replaced.
            EntryKind::Symlink(_) => {}
        }
    }
    Ok(())
}

impl Listed {
    fn add_file(
        &mut self,
        at: ManifestPath,
        path: PathBuf,
        stamp: FileStamp,
        runnable: bool,
    ) -> Result<(), CollapseError> {
        self.bytes = self.bytes.saturating_add(stamp.size);
        if self.bytes > MOST_BYTES || self.files.len() as u64 >= MOST_FILES {
            return Err(CollapseError::TooMuch);
        }
        self.files.push(Shown {
            at,
            file: FileToStore {
                path,
                file: SourceFile::AtPath,
                stamp,
                size: stamp.size,
            },
            mtime: Mtime(micros(stamp.mtime_ns)),
            runnable,
        });
        Ok(())
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CollapseError {
    let path = path.to_owned();
    move |source| CollapseError::Io {
        path: path.clone(),
        source,
    }
}

/// Stops a scan that finds too much.
struct Most(u64);

impl Progress for Most {
    fn update(&self, event: &attachfs_scan::ProgressEvent) -> ControlFlow<()> {
        if event.items_done > self.0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// `.` and `..` resolved as text, as the links of a manifest are.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// Where a path leads, without links. No step is taken into a mount of attachfs.
fn resolve(path: &Path, table: &[Mounted]) -> Result<PathBuf, CollapseError> {
    let mut real = PathBuf::from("/");
    let mut rest: Vec<_> = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(&name);
        if let Some(own) = own_mount(&real, table) {
            return Err(CollapseError::OwnMount(own.to_owned()));
        }
        let meta = std::fs::symlink_metadata(&real).map_err(failed(&real))?;
        if meta.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(CollapseError::Circle);
            }
            let text = std::fs::read_link(&real).map_err(failed(&real))?;
            if text.is_absolute() {
                real = PathBuf::from("/");
            } else {
                real.pop();
            }
            rest.extend(names(&text));
        }
    }
    Ok(real)
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<std::ffi::OsString> {
    let names = path
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
    names.collect()
}

/// The mount of attachfs that is at a path.
fn own_mount<'a>(path: &Path, table: &'a [Mounted]) -> Option<&'a Path> {
    let at = table.iter().rfind(|mount| mount.mount_point == path)?;
    (at.fs_type == OWN_KIND).then_some(at.mount_point.as_path())
}
