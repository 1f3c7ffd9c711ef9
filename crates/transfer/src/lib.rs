//! The one pipeline that hashes files and puts their bytes into a store, and the one that fetches them.
//!
//! - [`snapshot`] turns a scan into a manifest, and uploads what the store lacks on the way;
//! - [`upload_named`] uploads the files of a manifest that there is already;
//! - [`publish_manifest`] puts a manifest where others find it, once all of that is done;
//! - [`hash_source`] and [`Uploader::upload_missing`] are the same two steps for a caller that has its
//!   own plan (a commit), and [`Uploader::confirm`] asks whether objects are there;
//! - [`download`] places a manifest's files in a folder;
//! - [`check_objects`] says which objects of a list a store lacks, and reads them if it is told to;
//! - [`copy_objects`] brings to one store what another has.
//!
//! The promise of all of them: an object is stored only under the hash of the bytes that it has, and
//! what is reported as stored was confirmed by the store, by a PUT that succeeded or a HEAD that gave the
//! right length; only the first two may take an earlier confirmation for it ([`SeenObjects`]). A file that changes while it is read is found out by its stamp, and read again or
//! reported. Memory, requests and threads are bounded whatever the number and length of the files.

mod check;
mod copy;
mod download;
mod error;
mod flush;
#[cfg(test)]
mod golden;
mod hash;
mod meter;
mod publish;
mod refusals;
mod run;
mod snapshot;
mod source;
mod summary;
mod upload;

pub use attachfs_scan::{Cancelled, Phase, Progress, ProgressEvent, Reporter, Silent};
pub use check::{ObjectFault, check_objects};
pub use copy::{CopyReport, copy_objects};
pub use download::{
    Conflict, Copied, DownloadError, DownloadOptions, DownloadReport, DownloadStopped, Nearby,
    Permissions, Remark, Sources, Wanted, download,
};
pub use error::TransferError;
pub use hash::{
    LONGEST_OBJECT, MOST_CHUNKS, hash_file, hash_file_until, hash_of_zeros, hash_source,
    hash_whole_source,
};
pub use publish::{PublishError, publish_manifest};
pub use snapshot::{HashOptions, HashReport, NamedFile, Unreadable, snapshot, upload_named};
pub use source::{ChunkSource, FileToStore, SourceFile};
pub use summary::{Failed, Summary, Tally, error_chain};
pub use upload::{LackingObject, SeenObjects, UploadOptions, UploadReport, Uploader};
