//! Reading manifests, wherever they are.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use attachfs_durable::Reserved;
use attachfs_manifest::wire::{Format, Manifest, decode};
use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_session::{BaseManifest, FailureClass, StoreSettings};
use attachfs_store::{LARGEST_MANIFEST, ManifestAddress, ManifestKey, StoreError, StoredManifest};
use attachfs_tree::{Layer, LayerError, Root, RootError};
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::error::{Classified as _, Doing as _, Error, classified};
use crate::output_file::OutputFile;
use crate::store::{OpenStore, open_store};

/// Where a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestSource {
    /// A file.
    File(PathBuf),
    /// `s3://bucket/prefix/Manifests/key`.
    S3(ManifestAddress),
    /// Standard input.
    Stdin,
}

impl fmt::Display for ManifestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::S3(address) => address.fmt(f),
            Self::Stdin => f.write_str("-"),
        }
    }
}

/// A manifest's bytes, and what it is called.
#[derive(Debug, Clone)]
pub struct ManifestBytes {
    /// For messages.
    pub name: String,
    /// As they are stored.
    pub bytes: Vec<u8>,
    /// Where it is placed; the root if `None`.
    pub at: Option<ManifestPath>,
}

impl ManifestBytes {
    /// What the manifest says.
    pub fn decode(&self) -> Result<(Format, Manifest), Error> {
        decode(&self.bytes).doing(|| unusable(&self.name))
    }

    /// The part of the manifest that is shown: all of it, or the paths below `root` of a manifest of absolute
    /// paths, which must have one.
    pub(crate) fn decode_shown(&self, root: Option<&Root>) -> Result<Manifest, Error> {
        let (format, manifest) = self.decode()?;
        Ok(match (format.is_absolute(), root) {
            (false, None) => manifest,
            (false, Some(_)) => return Err(RootError::Relative.into()),
            (true, None) => return Err(RootError::Missing(Root::common([&manifest])).into()),
            (true, Some(root)) => root.show(manifest)?,
        })
    }

    /// The manifest as a layer of a tree.
    pub(crate) fn layer(&self) -> Result<Layer, Error> {
        layer(&self.name, &self.bytes, self.at.clone())
    }

    /// What a session writes down of it.
    pub(crate) fn describe(&self) -> BaseManifest {
        let hash = ContentHash::of(&self.bytes);
        BaseManifest {
            source: self.name.clone(),
            hash,
            at: self.at.clone(),
        }
    }
}

/// A manifest's bytes as a layer of a tree.
pub(crate) fn layer(name: &str, bytes: &[u8], at: Option<ManifestPath>) -> Result<Layer, Error> {
    Layer::decode(bytes, at).map_err(|error| match error {
        LayerError::Decode(source) => Error::new(source.class(), unusable(name)).because(source),
        error => error.into(),
    })
}

/// The error message for a manifest that cannot be decoded or composed.
pub(crate) fn unusable(name: &str) -> String {
    format!("{name} is no manifest that can be used")
}

/// A manifest is not where it was said to be, or cannot be read from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadManifestError {
    /// A file.
    #[error("cannot read the manifest {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that somebody wrote to.
    #[error("the manifest {} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A manifest in a store.
    #[error("cannot fetch the manifest {address}")]
    Store {
        /// Where it should be.
        address: String,
        /// Why.
        source: StoreError,
    },
}

classified! {
    ReadManifestError => |error| match error {
        ReadManifestError::File { .. } | ReadManifestError::Changed { .. } => FailureClass::Other,
        ReadManifestError::Store { source, .. } => source.class(),
    };
}

/// Reads a manifest into memory. `access` says how to reach S3; its address is not used.
pub async fn read_manifest(
    source: &ManifestSource,
    at: Option<ManifestPath>,
    access: &StoreSettings,
    cancel: &CancellationToken,
) -> Result<ManifestBytes, Error> {
    let failed = |path: PathBuf| |source| ReadManifestError::File { path, source };
    let bytes = match source {
        ManifestSource::File(path) => {
            let file = File::open(path).map_err(failed(path.clone()))?;
            // What is known to be too long is not read first; a pipe has no length.
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            if len > LARGEST_MANIFEST {
                return Err(failed(path.clone())(too_long(LARGEST_MANIFEST)).into());
            }
            read_all(file, LARGEST_MANIFEST).map_err(failed(path.clone()))?
        }
        ManifestSource::Stdin => {
            let stdin = std::io::stdin().lock();
            let bytes = read_all(stdin, LARGEST_MANIFEST).map_err(failed("-".into()))?;
            if bytes.is_empty() {
                return Err(is_nothing());
            }
            bytes
        }
        ManifestSource::S3(address) => {
            let settings = StoreSettings {
                address: address.store.to_string(),
                ..access.clone()
            };
            let store = open_store(&settings, cancel).await?;
            let found = unless_cancelled(cancel, stored(&address.key, &store));
            Vec::from(found.await?.bytes)
        }
    };
    Ok(ManifestBytes {
        name: source.to_string(),
        bytes,
        at,
    })
}

/// Reads all that there is, unless it is longer than a manifest may be: a device or a file of another kind that is
/// named by mistake must not take all memory.
fn read_all(from: impl Read, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(too_long(longest));
    }
    Ok(bytes)
}

pub(crate) fn too_long(longest: u64) -> io::Error {
    let text = format!("it is longer than a manifest may be here, {longest} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// The error that standard input has no manifest.
pub(crate) fn is_nothing() -> Error {
    Error::usage("there is no manifest on standard input: it is empty, or `-` was given twice")
}

/// What a store has under a key.
pub(crate) async fn stored(key: &ManifestKey, store: &OpenStore) -> Result<StoredManifest, Error> {
    let failed = |source| ReadManifestError::Store {
        address: store.address_of(key),
        source,
    };
    Ok(store.store.get_manifest(key).await.map_err(failed)?)
}

/// Files with manifests that a person asked for by name.
const OUTPUT: OutputFile = OutputFile {
    what: "manifest",
    instead: "name a file, or - for standard output",
    is_one: names_version,
};

/// Writes a manifest to a file, durably; nobody ever sees half of it. Others can use it as the process's umask
/// lets them. It takes the place of another manifest and of an empty file, and of nothing else: no link is followed or lost.
pub fn write_manifest(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    OUTPUT.write(path, bytes)
}

/// A file for a manifest that is made later, with room for it on the disk: that it cannot be written is known before the work.
#[derive(Debug)]
pub struct ManifestFile {
    path: PathBuf,
    reserved: Reserved,
}

impl ManifestFile {
    /// How much room is taken: a manifest of some 7,000 changed files.
    const ROOM: u64 = 1 << 20;

    /// Takes room for a manifest at `path`, where one may be already. Dropping this leaves everything as it was.
    pub fn reserve(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            reserved: OUTPUT.reserve(path, Self::ROOM)?,
        })
    }

    /// Writes the manifest there, as [`write_manifest`] does.
    pub fn write(self, bytes: &[u8]) -> Result<(), Error> {
        // Somebody may have put something else there meanwhile.
        OUTPUT.check_replaced(&self.path)?;
        Ok(self.reserved.publish(bytes)?)
    }
}

/// Whether a file looks like a manifest: its beginning or its end names a version of the formats. That is what keeps
/// a mistyped path from costing the user a file; nothing is decoded.
fn names_version(path: &Path, len: u64) -> io::Result<bool> {
    const PART: u64 = 64 << 10;
    const NAMES: [&[u8]; 2] = [b"\"manifestVersion\"", b"\"specificationVersion\""];
    let mut file = File::open(path)?;
    for from in [0, len.saturating_sub(PART)] {
        file.seek(io::SeekFrom::Start(from))?;
        let mut part = Vec::new();
        (&mut file).take(PART).read_to_end(&mut part)?;
        let found = |name: &&[u8]| part.windows(name.len()).any(|at| at == *name);
        if NAMES.iter().any(found) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A path in a manifest, as a person writes it: a leading `./` or a slash at the end do not matter.
/// `None` is the root.
pub fn parse_path(text: &str) -> Result<Option<ManifestPath>, Error> {
    let trimmed = text.trim_end_matches('/');
    let trimmed = trimmed.strip_prefix("./").unwrap_or(trimmed);
    if trimmed.is_empty() || trimmed == "." {
        return Ok(None);
    }
    let path = ManifestPath::new(trimmed.as_bytes());
    path.map(Some)
        .doing(|| format!("\"{text}\" is no path in a manifest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_no_manifest() {
        let error = read_all(io::repeat(0), 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_all(&[7; 1000][..], 1000).unwrap(), [7; 1000]);
    }
}
