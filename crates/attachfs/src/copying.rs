//! The manifests of a mount on their way into its session.
//!
//! ```text
//!     file, pipe, store  --pieces-->  hash, base/.staged-...  --whole, durable-->  base/0  --mapped-->  tree
//! ```
//!
//! A manifest can be longer than the memory that there is for it, so it goes through in pieces and is read where it lies then. The hash is that of the
//! bytes that were written, whatever happens to the file that they come from meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use attachfs_durable::{FileStamp, Filling};
use attachfs_manifest::{ContentHash, Hasher, ManifestPath};
use attachfs_session::{BaseManifest, NewSession, StoreSettings};
use attachfs_store::LARGEST_MANIFEST;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Doing as _, Error};
use crate::manifests::{
    ManifestBytes, ManifestSource, ReadManifestError, is_nothing, read_manifest, too_long,
};

/// The longest manifest that is mounted, in bytes: 15,000,000 files as renderers name them (140 bytes each), 10,000,000 with paths three times as
/// long. Its tree takes about half as much memory. Longer than [`LARGEST_MANIFEST`] it must be one that is read entry by entry.
pub(crate) const LONGEST_MOUNTED: u64 = 2 << 30;

/// So much of a manifest is in memory at a time.
const PIECE: usize = 1 << 20;
/// How many pieces that came through a pipe wait to be written.
const WAITING: usize = 2;

/// A manifest that is to be mounted.
#[derive(Debug, Clone)]
pub enum GivenManifest {
    /// Its bytes are in memory.
    Bytes(ManifestBytes),
    /// It is copied into the session without being held in memory, unless it is in S3.
    At {
        /// Where it is.
        source: ManifestSource,
        /// Where it is placed; the root if `None`.
        at: Option<ManifestPath>,
    },
}

impl GivenManifest {
    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Bytes(manifest) => manifest.name.clone(),
            Self::At { source, .. } => source.to_string(),
        }
    }

    /// Finds it, so that one that is missing is told before anything is made. `access` says how to reach S3.
    pub(crate) async fn open(
        self,
        access: &StoreSettings,
        cancel: &CancellationToken,
    ) -> Result<OpenManifest, Error> {
        let (source, at) = match self {
            Self::Bytes(manifest) => return Ok(OpenManifest::Bytes(manifest)),
            Self::At { source, at } => (source, at),
        };
        match &source {
            ManifestSource::S3(_) => {
                let read = read_manifest(&source, at, access, cancel).await?;
                Ok(OpenManifest::Bytes(read))
            }
            ManifestSource::File(path) => {
                let Some((file, stamp)) = open_regular(path).map_err(failed(path))? else {
                    return Ok(OpenManifest::Piped { source, at });
                };
                if stamp.size > LONGEST_MOUNTED {
                    return Err(failed(path)(too_long(LONGEST_MOUNTED)).into());
                }
                let path = path.clone();
                Ok(OpenManifest::File {
                    path,
                    file,
                    stamp,
                    at,
                })
            }
            ManifestSource::Stdin => Ok(OpenManifest::Piped { source, at }),
        }
    }
}

impl From<ManifestBytes> for GivenManifest {
    fn from(manifest: ManifestBytes) -> Self {
        Self::Bytes(manifest)
    }
}

/// A regular file and its stamp; `None` for anything else, which may keep who opens it waiting.
fn open_regular(path: &Path) -> io::Result<Option<(File, FileStamp)>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let file = File::open(path)?;
    let stamp = FileStamp::of(&file)?;
    Ok(Some((file, stamp)))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ReadManifestError {
    let path = path.to_owned();
    move |source| ReadManifestError::File {
        path: path.clone(),
        source,
    }
}

/// A manifest that was found.
#[derive(Debug)]
pub(crate) enum OpenManifest {
    Bytes(ManifestBytes),
    File {
        path: PathBuf,
        file: File,
        stamp: FileStamp,
        at: Option<ManifestPath>,
    },
    /// Whatever is read comes when somebody sends it.
    Piped {
        source: ManifestSource,
        at: Option<ManifestPath>,
    },
}

impl OpenManifest {
    /// Copies it into a new session, durably, and says what it is.
    pub(crate) async fn copy_into(self, session: &mut NewSession) -> Result<BaseManifest, Error> {
        let mut copy = Copy {
            to: session.next_manifest()?,
            hasher: Hasher::new(),
        };
        match self {
            Self::Bytes(manifest) => {
                let doing = || cannot_copy(&manifest.name);
                copy.add(&manifest.bytes).doing(doing)?;
                copy.finish(manifest.name, manifest.at)
            }
            Self::File {
                path,
                file,
                stamp,
                at,
            } => {
                let name = path.display().to_string();
                let reserved = copy.to.reserve(stamp.size);
                reserved.doing(|| cannot_copy(&name))?;
                copy.all_of(file, &path, stamp).await?;
                copy.finish(name, at)
            }
            Self::Piped { source, at } => {
                let name = source.to_string();
                copy.all_that_comes(source).await?;
                copy.finish(name, at)
            }
        }
    }
}

fn cannot_copy(name: &str) -> String {
    format!("cannot copy the manifest {name} into the session")
}

/// A manifest that is being copied.
struct Copy<'a> {
    to: Filling<'a>,
    hasher: Hasher,
}

impl Copy<'_> {
    fn add(&mut self, piece: &[u8]) -> Result<(), attachfs_durable::DurableError> {
        self.hasher.update(piece);
        self.to.write(piece)
    }

    /// Copies a regular file, which must not change meanwhile: half of one manifest and half of another may look like one.
    async fn all_of(
        &mut self,
        mut file: File,
        path: &Path,
        before: FileStamp,
    ) -> Result<(), Error> {
        let mut piece = vec![0; PIECE];
        loop {
            let len = read_piece(&mut file, &mut piece).map_err(failed(path))?;
            if len == 0 {
                break;
            }
            self.check_fits(len).map_err(failed(path))?;
            self.add(&piece[..len])
                .doing(|| cannot_copy(&path.display().to_string()))?;
            // The task that waits for Ctrl-C gets its turn.
            tokio::task::yield_now().await;
        }
        if FileStamp::of(&file).map_err(failed(path))? != before {
            let path = path.to_owned();
            return Err(ReadManifestError::Changed { path }.into());
        }
        Ok(())
    }

    /// Copies what comes through a pipe. What waits for it is a thread that nobody waits for: the mount can be cancelled.
    async fn all_that_comes(&mut self, source: ManifestSource) -> Result<(), Error> {
        let name = source.to_string();
        let failed = failed(Path::new(&name));
        let is_stdin = source == ManifestSource::Stdin;
        let mut pieces = pieces_of(source).map_err(&failed)?;
        while let Some(piece) = pieces.recv().await {
            let piece = piece.map_err(&failed)?;
            self.check_fits(piece.len()).map_err(&failed)?;
            self.add(&piece).doing(|| cannot_copy(&name))?;
        }
        if is_stdin && self.to.is_empty() {
            return Err(is_nothing());
        }
        Ok(())
    }

    fn check_fits(&self, piece: usize) -> io::Result<()> {
        if self.to.len() + piece as u64 > LONGEST_MOUNTED {
            return Err(too_long(LONGEST_MOUNTED));
        }
        Ok(())
    }

    fn finish(self, source: String, at: Option<ManifestPath>) -> Result<BaseManifest, Error> {
        let hash = self.hasher.finish();
        let published = self.to.publish();
        published.doing(|| cannot_copy(&source))?;
        Ok(BaseManifest { source, hash, at })
    }
}

/// Reads until a piece is full or the end has come, and says how much that is.
fn read_piece(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < piece.len() {
        match from.read(&mut piece[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// The bytes of a source that may keep its reader waiting, as they come.
fn pieces_of(source: ManifestSource) -> io::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let (send, receive) = mpsc::channel(WAITING);
    let thread = std::thread::Builder::new().name("attachfs-manifest".to_owned());
    thread.spawn(move || {
        let read = match source {
            ManifestSource::File(path) => File::open(path).and_then(|file| send_all(file, &send)),
            ManifestSource::Stdin => send_all(io::stdin().lock(), &send),
            // It is read whole where it is found.
            ManifestSource::S3(_) => Ok(()),
        };
        if let Err(error) = read {
            // Nobody may be left to hear it.
            let _ = send.blocking_send(Err(error));
        }
    })?;
    Ok(receive)
}

fn send_all(mut from: impl Read, to: &mpsc::Sender<io::Result<Vec<u8>>>) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let len = read_piece(&mut from, &mut piece)?;
        piece.truncate(len);
        if len == 0 || to.blocking_send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

/// A manifest that a session keeps, to make a tree of.
#[derive(Debug)]
pub(crate) struct KeptManifest<B> {
    pub(crate) name: String,
    pub(crate) hash: ContentHash,
    pub(crate) at: Option<ManifestPath>,
    pub(crate) bytes: B,
}

/// The manifests that are described, with their bytes in the same order.
pub(crate) fn kept<B>(described: &[BaseManifest], bytes: Vec<B>) -> Vec<KeptManifest<B>> {
    let named = described.iter().zip(bytes);
    let whole = named.map(|(manifest, bytes)| KeptManifest {
        name: manifest.source.clone(),
        hash: manifest.hash,
        at: manifest.at.clone(),
        bytes,
    });
    whole.collect()
}

impl<B: AsRef<[u8]>> KeptManifest<B> {
    /// Fails if it is too long to be read whole.
    pub(crate) fn check_len(&self) -> Result<(), Error> {
        if self.bytes.as_ref().len() as u64 <= LARGEST_MANIFEST {
            return Ok(());
        }
        let sentence = format!(
            "{} is longer than {LARGEST_MANIFEST} bytes and cannot be read entry by entry: that takes one snapshot of relative paths \
             that is right and in order, alone and at the root",
            self.name
        );
        Err(Error::usage(sentence))
    }
}

#[cfg(test)]
mod tests;
