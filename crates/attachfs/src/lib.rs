//! What attachfs does, as functions with typed options and results: the program, bindings and other
//! programs call these.
//!
//! - [`take_snapshot`] makes a manifest of a folder and fills a store;
//! - [`upload_manifests`] uploads the files of manifests that there are;
//! - [`Mount`] is a mounted manifest; [`run`] mounts, runs a command, unmounts and commits;
//! - [`BrowseMount`] is a mounted view of the outputs of jobs;
//! - [`add`] shows more manifests in a mount that is used; [`layers`] lists them;
//! - [`stats()`] tells what is counted of a mount;
//! - [`unmount()`] ends a mount, whatever became of its process;
//! - [`sessions`] finds the sessions with uncommitted changes; [`session`] commits or discards them;
//! - [`download_manifests`] places the files of manifests in folders;
//! - [`inspect`], [`list`] and [`cat`] look at a manifest without a mount;
//! - [`bulk`] looks after whole stores, [`cache`] after the cache on this machine.
//!
//! # Calling it
//!
//! What waits for a disk full of files, a store or another process is an `async` function; what only computes is a plain
//! one. Code that has a tokio runtime (with its timers and I/O on) awaits the functions there; on a runtime with one
//! thread, a walk through a folder keeps that busy. Code that blocks makes a [`Runtime`] and waits with that, which is
//! also possible on a thread of another tokio runtime. `examples/journey.rs` does the same work in both ways.
//!
//! Each of them can be awaited on any thread, takes plain data, and keeps nothing of the caller's when it has ended. It
//! tells how far it is to a [`Progress`], and is stopped with a [`CancellationToken`]: then it ends within seconds, with
//! an error of the class [`FailureClass::Cancelled`], and the same call goes on from there.
//!
//! Nothing here reads the environment or writes to a terminal: the caller says where things are ([`Places`]). A failure
//! is an [`Error`] with its class, its causes and advice.

mod arguments;
mod browse;
pub mod bulk;
pub mod cache;
mod cancel;
pub mod causes;
mod client;
mod copying;
mod counts;
mod doubts;
mod download;
mod early;
mod error;
mod exposed;
mod fsck;
mod holder;
mod index;
mod inspect;
mod jobs;
mod joining;
mod layering;
mod left;
mod letting_go;
mod list;
mod logs;
pub mod manifest;
mod manifests;
mod message;
mod metrics;
mod mount;
mod opened;
#[cfg(test)]
mod ordering;
mod output_file;
mod outputs;
mod places;
mod prefetching;
mod presence;
mod probe;
mod reachable;
mod reading;
mod remembering;
mod remote;
mod report;
mod run;
mod runtime;
mod served;
mod service;
pub mod session;
mod snapshot;
mod sources;
mod stats;
mod store;
mod traces;
mod unmounting;
mod uploading;
mod why;

pub use arguments::{ChosenPaths, CommitArguments, DiffArguments, OutgoingLinks, UnmountArguments};
pub use attachfs_browse::{JobInput, Scope as BrowseScope};
pub use attachfs_commit::{
    Account, CommitOptions, CommitStep, EarlyCounts, Links, Observer, Outcome, Published,
};
pub use attachfs_durable::steps::{Step as DurableStep, When, listen as listen_to_durable_steps};
pub use attachfs_durable::{
    CACHE_DIR, CacheDir, CacheLimits, DATA_DIR, OpenFiles, STATE_DIR, Stop, StopSignal, UserDir,
    create_log, is_file_at, keep_little_freed_memory, open_to_append, path_bytes, path_of_bytes,
    raise_open_files, signal_of, user_numbers,
};
pub use attachfs_fetch::Prefetch;
pub use attachfs_jobs::{
    ActionTime, ClientCheckpoint, DocumentError, FarmId, FileSystemKind, Job, JobAddress, JobId,
    JobPart, JobsAddress, LatestBy, LatestDiffers, OutputKey, OutputMetadata, OutputPlace,
    ParseJobAddressError, Queue, QueueId, SessionActionId, StepId, StorageProfileId, Task, TaskId,
    jobs as read_jobs, step_dependencies,
};
pub use attachfs_manifest::wire::{Format, Manifest, Note, decode_globs};
pub use attachfs_manifest::{
    By, Changes, ChunkSize, ContentHash, Diff, DiffOptions, EscapedBytes, GlobConfig, Losses, Lost,
    ManifestPath, PathFilter, Snapshot,
};
pub use attachfs_mount::{StandardStream, StarterLink, leave_terminal, redirect, start_linked};
pub use attachfs_paths::{
    Mapping, MappingRule, MixedFormats, PathFormat, ProfileError, RulesError, StorageProfile,
    UnknownPaths, downloaded_file_name, parse_rules, rules_between, snapshot_file_name,
};
pub use attachfs_scan::cache::HashCaches;
pub use attachfs_scan::{CrossMounts, FileList, SymlinkPolicy};
pub use attachfs_session::{
    BaseManifest, EndedCommit, EndedSession, EndedSessions, Failure, FailureClass, Pruned,
    SessionEntry, SessionId, SessionList, SessionMeta, SessionState, StoreSettings, path_json,
};
pub use attachfs_store::{
    AccountId, Addressing, DirectoryStore, Encryption, KmsKey, ManifestAddress, ManifestKey,
    Metadata, S3Access, Store, StoreAddress,
};
pub use attachfs_store_s3::uploads_ended;
pub use attachfs_transfer::{
    Cancelled, Conflict, Copied, Failed, Permissions, Phase, Progress, ProgressEvent, Remark,
    Silent, Summary, Tally, error_chain,
};
pub use attachfs_tree::{LayerOptions, Root, Timestamp};
pub use attachfs_vfs::Counters;
pub use browse::{
    BrowseMount, BrowseRequest, JobListError, browsed, given_inputs, mappings, parse_job_list,
};
pub use bytes::Bytes;
pub use copying::GivenManifest;
pub use download::{
    DownloadRequest, DownloadedRoot, Downloads, PlacedManifests, download_manifests, real_folder,
};
pub use early::EarlyUploads;
pub use error::Error;
pub use exposed::Exposed;
pub use fsck::{FsckReport, fsck};
pub use inspect::{Inspection, ListedPath, cat, inspect, list};
pub use jobs::{
    AssetRequest, BackgroundSubmission, Beginning, CheckFinding, ChosenBy, FetchPlan, FetchTo,
    Finding, Findings, FoundFiles, FrameRange, GatheredAssets, GatheredRoot, GivenUpManifest,
    InputFault, JobDocuments, JobFiles, JobInspection, JobNames, JobRoot, JobRun, JobsDiff,
    JobsListing, JobsRequest, JobsWith, JobsWithout, LeftOut, ListedJobs, NamedJobs, PassedKey,
    PathIsRequired, Placed, PlacedPart, PlacedParts, Placing, PlacingOptions, PlannedPlace,
    PreflightRequest, QueueInputs, RootDiff, RootManifest, SequenceDiff, SequenceFrames, Side,
    StepOutputs, StoredJob, StoredOutputs, Submission, SubmissionLock, SubmissionState,
    SubmissionStatus, SubmitOptions, SubmitPlace, SubmittedRoot, SyncReport, SyncRequest,
    SyncedJob, SyncedRoot, UnmappedPath, UnmappedRoot, check_place_of_attachments,
    check_submission, compare_jobs, create_job_call, fetch_planned, find_job_files,
    find_root_manifests, gather_assets, list_jobs, plan_fetch, save_debug_snapshot, submit_assets,
    sync_outputs, write_attachments,
};
pub use layering::{AddReport, LayersReport, add, layers};
pub use left::{Uncommitted, uncommitted_in};
pub use list::{ended_sessions, find, find_ended, forget, prune, session_in, sessions};
pub use logs::LogPlace;
pub use manifests::{
    ManifestBytes, ManifestFile, ManifestSource, parse_path, read_manifest, write_manifest,
};
pub use metrics::{MetricsAddress, ParseMetricsAddressError};
pub use mount::{Mount, MountPoint, MountRequest, MountSession, Owner};
pub use outputs::check_output_dirs;
pub use places::Places;
pub use prefetching::PrefetchStats;
pub use presence::{Presence, presence_of};
pub use reachable::{Answering, Watch, require_answers};
pub use reading::ReadOptions;
pub use remote::{
    ChangedLine, CommitReport, DiffReport, Ending, Fetched, LastError, PublishedManifest,
    RehearsalReport, StatusReport, UnmountReport,
};
pub use report::{
    Files, InputSums, MissingFile, MissingSums, Money, Prices, ReadFile, Reports, Saved, Timeline,
    Transfer, UnreadFile, UseReport, WrittenReport, check_page_is_elsewhere, check_place_of_page,
    check_place_of_report, report, report_page, write_report_page,
};
pub use run::{RunError, RunReport, RunRequest, run};
pub use runtime::Runtime;
pub use service::StepHook;
pub use snapshot::{
    Announce, SnapshotOptions, SnapshotReport, TakenSnapshot, publish_snapshot,
    take_embedded_snapshot, take_snapshot,
};
pub use sources::ShownManifest;
pub use stats::{
    ByteStats, CacheStats, FetchStats, OpenFileStats, OperationStats, PassthroughStats,
    ProcessStats, RequestStats, StatsReport, TimeStats, stats,
};
pub use store::{OpenStore, create_directory_store, open_store};
pub use tokio_util::sync::CancellationToken;
pub use traces::TraceOptions;
pub use unmounting::{Deliver, UnmountRequest, report_of_ended, unmount};
pub use uploading::{SeenPlaces, Uploading, upload_manifests};
pub use why::{ManifestSaid, MissingPath, ShownContent, ShownPath, WhyReport, WrittenPart, why};
