//! The layers that were added while the base was mounted: diff manifests, one file each.
//!
//! ```text
//!     <layers>/1      the bytes of a diff, which the journal names by their hash
//!     <layers>/2
//! ```
//!
//! A file is durable before its record. A file without a record was left by a process that died before it
//! appended one; the next layer of that number replaces it.

use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::{DurableError, OwnDir, read_own_file};
use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::{DecodeError, Manifest, decode};
use attachfs_tree::{AddLayerError, BaseTree, BuildError, DiffLayer};

/// The directory of the layers' files. It is made with the first of them.
#[derive(Debug, Clone)]
pub(crate) struct LayerFiles(pub(crate) PathBuf);

/// The base that a journal's records are about.
#[derive(Debug, Clone)]
pub(crate) struct BaseSource {
    /// The tree that the mount began with.
    pub(crate) first: Arc<BaseTree>,
    /// The layers over it.
    pub(crate) layers: LayerFiles,
}

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerFileError {
    /// The file cannot be used.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// Its bytes have changed since it was added.
    #[error("the layer {} has been altered: its hash is {found}, not {expected}", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// Its hash in the journal.
        expected: ContentHash,
        /// Its hash now.
        found: ContentHash,
    },
    /// The file is no manifest.
    #[error("the layer {} cannot be read", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<DecodeError>,
    },
    /// The file is a manifest, but no diff.
    #[error("the layer {} is not a diff", .0.display())]
    NotADiff(PathBuf),
    /// The diff makes no tree.
    #[error("the layer {} makes no tree", path.display())]
    Build {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// It does not fit the base.
    #[error(transparent)]
    Add(#[from] AddLayerError),
}

impl LayerFiles {
    /// Writes the file of a layer, durably.
    pub(crate) fn write(&self, number: u32, bytes: &[u8]) -> Result<(), DurableError> {
        OwnDir::create(&self.0)?.publish(&number.to_string(), bytes)
    }

    /// The bytes of a layer.
    pub(crate) fn bytes(
        &self,
        number: u32,
        expected: ContentHash,
    ) -> Result<Vec<u8>, LayerFileError> {
        let path = self.0.join(number.to_string());
        let bytes = read_own_file(&path)?;
        let found = ContentHash::of(&bytes);
        if found != expected {
            return Err(LayerFileError::Altered {
                path,
                expected,
                found,
            });
        }
        Ok(bytes)
    }

    /// The layer itself.
    pub(crate) fn read(
        &self,
        number: u32,
        expected: ContentHash,
    ) -> Result<DiffLayer, LayerFileError> {
        let bytes = self.bytes(number, expected)?;
        self.decode(number, &bytes)
    }

    /// The layer that these bytes are. Encoding adds the directories above each path, which have numbers too, so a
    /// layer is always made from bytes: in a file system in use as after a kill.
    pub(crate) fn decode(&self, number: u32, bytes: &[u8]) -> Result<DiffLayer, LayerFileError> {
        let path = self.0.join(number.to_string());
        let diff = match decode(bytes) {
            Ok((_, Manifest::Diff(diff))) => diff,
            Ok(_) => return Err(LayerFileError::NotADiff(path)),
            Err(error) => {
                let source = Box::new(error);
                return Err(LayerFileError::Decode { path, source });
            }
        };
        DiffLayer::new(&diff).map_err(|source| LayerFileError::Build { path, source })
    }
}
