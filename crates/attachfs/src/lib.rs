//! What attachfs does, as functions with typed options and results: the program, bindings and other
//! programs call these.
//!
//! - [`take_snapshot`] makes a manifest of a folder and fills a store;
//! - [`upload_manifests`] uploads the files of manifests that there are;
//! - [`Mount`] is a mounted manifest; [`run`] mounts, runs a command, unmounts and commits;
//! - [`sessions`] finds what was written and not yet committed; [`session`] commits or discards it;
//! - [`download_manifests`] places the files of manifests in folders;
//! - [`inspect`], [`list`] and [`cat`] look at a manifest without a mount;
//! - [`bulk`] looks after whole stores.
//!
//! Nothing here reads the environment or writes to a terminal: the caller says where things are
//! ([`Places`]) and hears of progress ([`Progress`]).

pub mod bulk;
mod client;
mod download;
mod ended;
mod error;
mod exposed;
mod holder;
mod index;
mod inspect;
mod live;
mod logs;
pub mod manifest;
mod manifests;
mod message;
mod mount;
#[cfg(test)]
mod ordering;
mod places;
mod probe;
mod registry;
mod remote;
mod run;
mod served;
mod service;
pub mod session;
mod snapshot;
mod store;
mod uploading;

pub use attachfs_commit::{Account, CommitOptions, Links, Observer, Outcome, Published, Step};
pub use attachfs_durable::{
    CacheDir, OpenFiles, Stop, StopSignal, create_log, is_file_at, open_to_append, path_bytes,
    path_of_bytes, raise_open_files, signal_of, user_numbers,
};
pub use attachfs_jobs::{
    ActionTime, FarmId, JobId, OutputKey, OutputMetadata, OutputPlace, QueueId, SessionActionId,
    StepId, TaskId,
};
pub use attachfs_manifest::wire::{Format, decode_globs};
pub use attachfs_manifest::{
    By, Changes, ChunkSize, ContentHash, DiffOptions, EscapedBytes, GlobConfig, Losses, Lost,
    ManifestPath, PathFilter,
};
pub use attachfs_mount::{StandardStream, StarterLink, leave_terminal, redirect, start_linked};
pub use attachfs_scan::{CrossMounts, FileList, SymlinkPolicy};
pub use attachfs_session::{
    Failure, FailureClass, SessionId, SessionMeta, StoreSettings, path_json,
};
pub use attachfs_store::{
    AccountId, Addressing, Encryption, KmsKey, ManifestAddress, ManifestKey, Metadata,
    ParseKeyError, S3Access, StoreAddress,
};
pub use attachfs_store_s3::uploads_ended;
pub use attachfs_transfer::{
    Cancelled, Conflict, Copied, Failed, Permissions, Phase, Progress, ProgressEvent, Remark,
    Silent, Summary, Tally, error_chain,
};
pub use attachfs_tree::{LayerOptions, ParseRootError, Root};
pub use attachfs_vfs::Counters;
pub use download::{
    DownloadRequest, DownloadedRoot, Downloads, PlacedManifests, download_manifests, real_folder,
};
pub use ended::{EndedCommit, EndedSession, ended_sessions, find_ended};
pub use error::Error;
pub use exposed::Exposed;
pub use inspect::{Inspection, ListedPath, cat, inspect, list};
pub use logs::LogPlace;
pub use manifests::{
    ManifestBytes, ManifestSource, check_place_of_manifest, parse_path, read_manifest,
    write_manifest,
};
pub use mount::{Mount, MountPoint, MountRequest, MountSession, Owner};
pub use places::Places;
pub use registry::{Pruned, SessionEntry, SessionState, find, forget, prune, session_in, sessions};
pub use remote::{
    ChangedLine, CommitArguments, CommitReport, DiffArguments, DiffReport, Fetched, LastError,
    PublishedManifest, StatusReport, UnmountArguments, UnmountReport,
};
pub use run::{RunError, RunReport, RunRequest, run};
pub use service::StepHook;
pub use snapshot::{
    Announce, SkippedPath, SnapshotOptions, SnapshotReport, TakenSnapshot, publish_snapshot,
    take_embedded_snapshot, take_snapshot,
};
pub use store::{OpenStore, create_directory_store, open_store};
pub use uploading::{SeenPlaces, Uploading, upload_manifests};
