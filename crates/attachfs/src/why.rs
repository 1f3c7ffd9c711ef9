//! Why a mount shows what it shows at a path, or nothing.
//!
//! The process that serves the mount is asked, and looks at its own state: nothing in the mount is opened or looked
//! at, so it also answers for a name that is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_commit::is_uncommitted;
use attachfs_manifest::ManifestPath;
use attachfs_mount::Place;
use attachfs_session::Request;
use attachfs_tree::{Ino, Kind, Said, Special};
use attachfs_vfs::{Removed, Walk, Written};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::error::{Doing as _, Error};
use crate::layering::blocking;
use crate::list::find;
use crate::message::value;
use crate::places::Places;
use crate::remote::LastError;
use crate::served::ServedMount;
use crate::session::ask_if_served;
use crate::sources::ShownManifest;

/// The request to the process that serves the mount.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WhyArguments {
    /// Relative to the mount point; empty for the root.
    #[serde(with = "attachfs_session::path_json")]
    path: PathBuf,
}

/// How much of something the job made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenPart {
    /// Nothing: it is as a manifest says.
    Nothing,
    /// Some bytes of a file.
    Part,
    /// All of it.
    All,
}

impl From<Written> for WrittenPart {
    fn from(written: Written) -> Self {
        match written {
            Written::Nothing => Self::Nothing,
            Written::Part => Self::Part,
            Written::All => Self::All,
        }
    }
}

/// What is at a path, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPath {
    /// `dir`, `file` or `symlink`.
    pub kind: String,
    /// How much of it the job made.
    pub written: WrittenPart,
    /// The manifest that it comes from; `None` for the root and for what the job made.
    pub manifest: Option<ShownManifest>,
    /// Its path in the manifests, if the job gave it another one.
    pub renamed_from: Option<String>,
    /// What is known of a file's content.
    pub content: Option<ShownContent>,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownContent {
    /// Length in bytes.
    pub size: u64,
    /// The hash of each chunk, in order; none if the job wrote to the file: then it is hashed by a commit.
    pub hashes: Vec<String>,
    /// How many of its bytes are on this machine: written by the job or in the disk cache. `None` if the disk of the cache does
    /// not answer.
    pub bytes_here: Option<u64>,
    /// How many chunks are in the disk cache, as far as the file needs any.
    pub chunks_here: Option<u64>,
    /// How many chunks the file needs, all or part of them.
    pub chunks: u64,
    /// The last read of it that failed since the mount, if there was one.
    #[serde(default)]
    pub failed: Option<LastError>,
}

/// Why nothing is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPath {
    /// The first part of the path that is missing, or that leads no further.
    pub at: String,
    /// What is there that leads no further: `file` or `symlink`.
    pub blocked_by: Option<String>,
    /// Whether a manifest has it and the job took it away.
    pub removed_by_job: bool,
    /// Where it is now, if the job renamed it.
    pub renamed_to: Option<String>,
    /// What each manifest says of that part of the path, or of all of it if something is in the way; the lowest first.
    pub manifests: Vec<ManifestSaid>,
}

/// What a manifest says of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSaid {
    /// The manifest.
    pub manifest: ShownManifest,
    /// `lacks`, `has`, `deletes`, or `blocks`: it has a file or a link where a directory would have to lead there.
    pub says: String,
    /// What it has.
    pub kind: Option<String>,
}

impl From<(ShownManifest, Said)> for ManifestSaid {
    fn from((manifest, said): (ShownManifest, Said)) -> Self {
        let (says, kind) = match said {
            Said::Nothing => ("lacks", None),
            Said::Puts(kind) => ("has", Some(kind)),
            Said::Deletes => ("deletes", None),
            Said::Blocks => ("blocks", None),
        };
        Self {
            manifest,
            says: says.to_owned(),
            kind: kind.map(kind_text),
        }
    }
}

/// Why a mount shows what it shows at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReport {
    /// The session.
    pub session: String,
    /// Where it is mounted.
    #[serde(with = "attachfs_session::path_json")]
    pub mount_point: PathBuf,
    /// The path in the mount, with the names as the mount has them; empty for the root.
    pub path: String,
    /// What is there.
    pub shown: Option<ShownPath>,
    /// Why nothing is there.
    pub missing: Option<MissingPath>,
    /// Whether this path differs from the last commit, or from the manifests if there was none.
    pub uncommitted: bool,
}

/// Why a mount of this user shows what it shows at a path in it, or nothing. Nothing in the mount is looked at.
pub async fn why(
    places: &Places,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<WhyReport, Error> {
    let place = Place::of(path).doing(|| format!("cannot find {}", path.display()))?;
    let Some(mount) = &place.mount else {
        let sentence = format!("{} is in no mount", path.display());
        return Err(Error::usage(sentence).advise("`attachfs list` shows what is mounted"));
    };
    let found = find(places, &place.path)?;
    let within = place.path.strip_prefix(&mount.mount_point);
    let within = within.map_err(|error| {
        let sentence = format!("cannot find {} in its mount", path.display());
        Error::usage(sentence).because(error)
    })?;
    unless_cancelled(cancel, async {
        let path = within.to_owned();
        let options = value(&WhyArguments { path })?;
        let asked = ask_if_served(&found, Request::Why { options }, None);
        asked.await?.ok_or_else(|| {
            let sentence = format!("no process serves the mount of session {}", found.meta.id);
            Error::usage(sentence).advise("take it up first, with `mount --session`")
        })
    })
    .await
}

fn kind_text(kind: Kind) -> String {
    let text = match kind {
        Kind::Dir => "dir",
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Special(Special::Fifo) => "fifo",
        Kind::Special(Special::Socket) => "socket",
    };
    text.to_owned()
}

/// The path in the mount that is asked about; `None` is the root.
fn in_mount(path: &Path) -> Result<Option<ManifestPath>, Error> {
    let bytes = attachfs_durable::slashed_bytes(path);
    if bytes.is_empty() {
        return Ok(None);
    }
    let path = ManifestPath::new(&bytes);
    path.map(Some).map_err(|error| {
        Error::usage("no manifest and no mount can have such a path").because(error)
    })
}

fn text(path: Option<&ManifestPath>) -> String {
    path.map(ToString::to_string).unwrap_or_default()
}

impl ServedMount {
    /// What is at a path, and why.
    pub(crate) async fn why(&self, arguments: WhyArguments) -> Result<WhyReport, Error> {
        let asked = in_mount(&arguments.path)?;
        let walk = match &asked {
            Some(path) => self.session.vfs().walk(path),
            None => Walk::Found {
                ino: Ino::ROOT,
                path: None,
            },
        };
        let path = match &walk {
            Walk::Found { path, .. } => path.clone(),
            Walk::Missing { .. } | Walk::Blocked { .. } => asked,
        };
        let uncommitted = match &path {
            Some(path) if !self.session.meta.read_only => {
                is_uncommitted(&self.session.session, path).await?
            }
            _ => false,
        };
        let (shown, missing) = match walk {
            Walk::Found { ino, .. } => (Some(self.shown(ino, path.as_ref()).await?), None),
            Walk::Missing { at, removed } => {
                let manifests = self.said(&at).await?;
                (None, Some(missing(&at, None, removed.as_ref(), manifests)))
            }
            Walk::Blocked { at, kind, removed } => {
                let manifests = self.said(path.as_ref().unwrap_or(&at)).await?;
                (
                    None,
                    Some(missing(&at, Some(kind), removed.as_ref(), manifests)),
                )
            }
        };
        Ok(WhyReport {
            session: self.session.meta.id.to_string(),
            mount_point: self.mounted.mount_point(),
            path: text(path.as_ref()),
            shown,
            missing,
            uncommitted,
        })
    }

    async fn shown(&self, ino: Ino, path: Option<&ManifestPath>) -> Result<ShownPath, Error> {
        let vfs = self.session.vfs();
        let failed = || format!("cannot look at \"{}\"", text(path));
        let origin = vfs.origin(ino).doing(failed)?;
        let manifest = match &origin.path {
            Some(named) if origin.written != Written::All => {
                let (layers, named) = (vfs.layer_count(), named.clone());
                let sources = Arc::clone(&self.sources);
                blocking(move || sources.source_of(layers, &named)).await?
            }
            _ => None,
        };
        let content = if origin.kind == Kind::File {
            let content = vfs.whereabouts(ino).doing(failed)?;
            let (size, chunks) = (content.size, content.chunk_count());
            let presence = content.presence(vfs.fetcher()).await;
            let is_here = |&&(len, here): &&(u64, u64)| len == here;
            let hashes = vfs.hashes(ino).unwrap_or_default();
            Some(ShownContent {
                size,
                hashes: hashes.iter().map(ToString::to_string).collect(),
                bytes_here: presence.as_ref().map(|presence| presence.here),
                chunks_here: presence
                    .map(|presence| presence.chunks.iter().filter(is_here).count() as u64),
                chunks,
                failed: vfs.failed_read_of(ino).as_ref().map(LastError::from),
            })
        } else {
            None
        };
        let renamed_from = origin.path.as_ref().filter(|named| Some(*named) != path);
        Ok(ShownPath {
            kind: kind_text(origin.kind),
            written: origin.written.into(),
            manifest,
            renamed_from: renamed_from.map(ToString::to_string),
            content,
        })
    }

    /// What each manifest says of a path.
    async fn said(&self, path: &ManifestPath) -> Result<Vec<ManifestSaid>, Error> {
        let (sources, path) = (Arc::clone(&self.sources), path.clone());
        let layers = self.session.vfs().layer_count();
        let said = blocking(move || sources.said(layers, &path)).await?;
        Ok(said.into_iter().map(ManifestSaid::from).collect())
    }
}

fn missing(
    at: &ManifestPath,
    blocked_by: Option<Kind>,
    removed: Option<&Removed>,
    manifests: Vec<ManifestSaid>,
) -> MissingPath {
    let now_at = removed.and_then(|removed| removed.now_at.as_ref());
    MissingPath {
        at: at.to_string(),
        blocked_by: blocked_by.map(kind_text),
        removed_by_job: removed.is_some(),
        renamed_to: now_at.map(ToString::to_string),
        manifests,
    }
}
