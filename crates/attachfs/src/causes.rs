//! The errors of the libraries below, for callers that look for one with [`Error::cause`](crate::Error::cause).

pub use attachfs_commit::CommitError;
pub use attachfs_durable::{CacheDirError, DurableError};
pub use attachfs_fetch::{FetchError, TraceError};
pub use attachfs_jobs::OutputMetadataError;
pub use attachfs_manifest::wire::{DecodeError, EncodeError, GlobConfigError};
pub use attachfs_manifest::{GlobError, LayoutError, ParseHashError, PathError, SnapshotError};
pub use attachfs_mount::{MountError, UnmountError};
pub use attachfs_scan::ScanError;
pub use attachfs_session::{ControlError, SessionError, SessionListError};
pub use attachfs_store::{ParseAddressError, ParseKeyError, StoreError};
pub use attachfs_transfer::{DownloadError, PublishError, TransferError};
pub use attachfs_tree::{BuildError, LayerError, ParseRootError, RootError};
pub use attachfs_vfs::{FsError, OpenError};

pub use crate::download::StoppedDownload;
pub use crate::jobs::StoppedSync;
pub use crate::manifest::OperationError;
pub use crate::manifests::ReadManifestError;
pub use crate::run::CommandError;
pub use crate::traces::ReadTraceError;
