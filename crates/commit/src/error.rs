//! Why a commit stopped. Then nothing is published, and nothing is lost.

use std::error::Error as _;
use std::fmt;

use attachfs_durable::Writer;
use attachfs_fetch::FetchError;
use attachfs_manifest::wire::{DecodeError, EncodeError};
use attachfs_manifest::{
    ChunkSize, ContentHash, DiffError, DowngradeError, ManifestPath, PathError, SnapshotError,
};
use attachfs_session::{SessionError, Taint};
use attachfs_store::{ManifestKey, ParseKeyError};
use attachfs_transfer::{MOST_CHUNKS, PublishError, TransferError};
use attachfs_tree::LayerError;
use attachfs_vfs::FsError;
use attachfs_vfs::overlay::LayerFileError;

use crate::collapse::CollapseError;
use crate::size::LargeFile;

/// A file that is or was open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Its path.
    pub path: ManifestPath,
    /// Who writes to it without the file system hearing of it, as far as can be told.
    pub by: Vec<Writer>,
}

impl From<ManifestPath> for OpenFile {
    fn from(path: ManifestPath) -> Self {
        let by = Vec::new();
        Self { path, by }
    }
}

impl fmt::Display for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.path)?;
        if self.by.is_empty() {
            return Ok(());
        }
        let by: Vec<String> = self.by.iter().map(ToString::to_string).collect();
        write!(f, " (by {})", by.join("; "))
    }
}

/// A symbolic link that leads out of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingLink {
    /// Its path.
    pub path: ManifestPath,
    /// Its text.
    pub text: Vec<u8>,
}

/// An object that a commit names, that the store has lost, and of which the session does not have the bytes any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostObject {
    /// The file that it is of.
    pub path: ManifestPath,
    /// Its hash.
    pub object: ContentHash,
}

impl fmt::Display for LostObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of \"{}\"", self.object, self.path)
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    const SHOWN: usize = 10;
    let mut text: Vec<String> = items.iter().take(SHOWN).map(show).collect();
    if items.len() > SHOWN {
        text.push(format!("and {} more", items.len() - SHOWN));
    }
    text.join(", ")
}

fn shown_link(link: &OutgoingLink) -> String {
    let text = attachfs_manifest::EscapedBytes(&link.text);
    format!("\"{}\" -> \"{text}\"", link.path)
}

fn tainted(taint: &Taint) -> String {
    let files = list(&taint.files, |file| format!("\"{file}\""));
    format!("{} in {files} has the hash {}", taint.object, taint.found)
}

/// Whether a file could not be read because it is not there.
fn is_missing(error: &FsError) -> bool {
    error
        .source()
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}

/// Why a commit stopped.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Files are open for writing, or were written to while they were being committed.
    #[error("open for writing: {}", list(.0, ToString::to_string))]
    Busy(Vec<OpenFile>),
    /// Files were open for writing when an earlier process of the session ended: they may be
    /// incomplete.
    #[error(
        "open for writing when the process that had the session died, or cut its users off, or written before the machine was \
         started again, or bytes of which were lost on a full disk, and perhaps half written: {}; look at them, then --accept-open publishes them as they are, --skip-open \
         leaves them out, and closing them again after writing makes them whole",
        list(.0, ToString::to_string)
    )]
    LeftOpen(Vec<OpenFile>),
    /// The session's journal was damaged and repaired: what is known of its changes may be a part that never was by itself.
    #[error(
        "nothing was published: the session's journal was damaged, and what was done after the damage is lost (`attachfs fsck --repair` cut it off); look \
         at the changes (`attachfs diff`), or run the job again; --accept-open publishes them as they are"
    )]
    Cut,
    /// The job was given bytes that are not the manifest's: its outputs may be wrong.
    #[error(
        "nothing was published and the session is kept: programs read wrong bytes of objects before that was \
         known: {}; if the store has them wrong (`attachfs store verify`), mend it; then run the job again, or look at the outputs, and then --accept-tainted publishes them",
        list(.0, tainted)
    )]
    Tainted(Vec<Taint>),
    /// Links lead out of the mount.
    #[error("symbolic links lead out of the mount: {}", list(.0, shown_link))]
    OutgoingLinks(Vec<OutgoingLink>),
    /// Links lead out of the mount, and are to be kept as they are.
    #[error(
        "nothing was published and the session is kept: a manifest of relative paths cannot hold links that lead out of it: {}",
        list(.0, shown_link)
    )]
    UnheldLinks(Vec<OutgoingLink>),
    /// A link that leads out cannot be replaced by what it shows.
    #[error("nothing was published and the session is kept: {} cannot be replaced by what it shows", shown_link(.link))]
    Collapse {
        /// The link.
        link: OutgoingLink,
        /// Why.
        #[source]
        source: Box<CollapseError>,
    },
    /// Paths are too long for a manifest.
    #[error(
        "nothing was published and the session is kept: no manifest can hold a path of more than 4,095 bytes; shorten or remove {}",
        list(.0, |path| format!("\"{}\"", attachfs_manifest::EscapedBytes(path)))
    )]
    TooLong(Vec<Vec<u8>>),
    /// Files are too large for one commit, or for any.
    #[error(
        "nothing was published and the session is kept: {}; one object has 48.8 TiB at most, and the files of a commit {MOST_CHUNKS} chunks (here of {chunk_size}) \
         together; shorten or remove what is too large, or leave it out (--exclude)",
        list(files, ToString::to_string)
    )]
    TooLarge {
        /// Those without which the others can be committed.
        files: Vec<LargeFile>,
        /// How files are cut.
        chunk_size: ChunkSize,
    },
    /// A path of the base cannot be in a manifest.
    #[error("\"{}\" cannot be in a manifest", attachfs_manifest::EscapedBytes(.path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The file system is read-only: there is nothing to commit.
    #[error("the mount is read-only")]
    ReadOnly,
    /// The overlay could not be read.
    #[error("cannot read the written files")]
    Overlay(#[from] FsError),
    /// The bytes of a written file are not in scratch, or cannot be read there.
    #[error("the bytes that were written to \"{path}\" {}", if is_missing(source) {
        "are missing from the session"
    } else {
        "cannot be read"
    })]
    Written {
        /// The file in the mount.
        path: ManifestPath,
        /// Why.
        #[source]
        source: FsError,
    },
    /// Bytes of the base that an output keeps could not be read.
    #[error("cannot read the bytes of the base that \"{path}\" keeps")]
    Base {
        /// The output.
        path: ManifestPath,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// The session's directory could not be used.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A layer that was added to the base has been altered.
    #[error(transparent)]
    Layer(#[from] Box<LayerFileError>),
    /// A file of the session could not be used.
    #[error("cannot {doing} {path}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Hashing or uploading failed. Running the commit again continues where it stopped.
    #[error("the outputs could not be uploaded")]
    Transfer(#[from] TransferError),
    /// An interrupted commit cannot be finished: the store has lost objects that it names, and the session does not have their bytes any more.
    #[error(
        "the store has lost objects of the commit that was interrupted, and the session does not have their bytes, because they are an input's or the file was \
         changed since: {}; the manifest of that commit, \"{key}\", {}",
        list(objects, ToString::to_string),
        if *may_be_public { "is in the store or may be" } else { "was not published" }
    )]
    Lost {
        /// The objects that are nowhere.
        objects: Vec<LostObject>,
        /// The key of the commit's manifest.
        key: ManifestKey,
        /// Whether readers may have the manifest. If not, the session can be committed anew.
        may_be_public: bool,
    },
    /// The manifest could not be published, or its state in the store is unknown. Running the commit again
    /// finds out.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No diff can hold the changes.
    #[error("the changes make no valid manifest")]
    Diff(#[from] DiffError),
    /// No snapshot can hold the changes.
    #[error("the changes make no valid snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The diff cannot be written.
    #[error("the diff cannot be written as a manifest")]
    Encode(#[from] EncodeError),
    /// A manifest that the session keeps cannot be read.
    #[error("a manifest of the session cannot be read")]
    Decode(#[from] DecodeError),
    /// The manifests that the session keeps do not fit together.
    #[error("the session's manifests do not fit together")]
    Layers(#[from] LayerError),
    /// The manifest does not apply to those below it, so no reader could use it.
    #[error(
        "nothing was published and the session is kept: the manifest that was made cannot be read \
         over those below it"
    )]
    Unreadable(#[source] LayerError),
    /// The manifest does not give what was to be committed at these paths.
    #[error(
        "nothing was published and the session is kept: readers of the manifest that was made would \
         see something else than this session shows at {}", list(.0, |path| format!("\"{path}\""))
    )]
    Differs(Vec<ManifestPath>),
    /// The session's record of an earlier commit is not what was written.
    #[error("the session is damaged: {path} is not what was written")]
    Total {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// The key of an earlier commit is invalid.
    #[error("the session is damaged: \"{key}\" is no valid key of a manifest")]
    Key {
        /// The text.
        key: String,
        /// Why.
        #[source]
        source: ParseKeyError,
    },
    /// The diff would go over something else than was expected.
    #[error(
        "nothing was sent and the session is kept: the diff goes over {found}, not over {expected}"
    )]
    Parent {
        /// What was expected.
        expected: ContentHash,
        /// What is so.
        found: ContentHash,
    },
    /// The changes cannot be handed over as 2023-03-03.
    #[error(
        "nothing was published and the session is kept: the changes cannot be written as 2023-03-03"
    )]
    Files(#[from] DowngradeError),
    /// There is no file to hand over as 2023-03-03.
    #[error(
        "nothing was published and the session is kept: no file is new or changed, and 2023-03-03 holds nothing but files"
    )]
    NoFiles,
    /// The session's files contradict each other.
    #[error("the session is damaged: {0}")]
    Damaged(String),
}

impl CommitError {
    /// Whether bytes that were written are not in the session any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Written { source, .. } if is_missing(source))
    }

    /// Whether a disk was full.
    pub(crate) fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let full = error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded));
            if full {
                return true;
            }
            cause = error.source();
        }
        false
    }
}
