//! Places the files of a manifest in a folder.
//!
//! ```text
//!     survey      names and metadata of what is there                                     survey.rs
//!     plan        pure: what is to be made, fetched, compared, deleted                    plan.rs
//!     check       paths too long, room on the disk; until here nothing was changed,       check.rs
//!                 but for what earlier runs left and nobody needs any more
//!     act         directories, files, links; what deletes anything last, and only if      run.rs
//!                 nothing failed
//!       a file    compared with what is in its place, fetched, verified, named            file.rs
//! ```
//!
//! The way of a file's bytes is in five files: this one, `run.rs` (all files, and what is done before and after
//! them), `file.rs` (one), `large.rs` (its blocks; `small.rs` is the same at once) and `naming.rs` (its name). What
//! they share is in `shared.rs`; the states that a file goes through are types ([`states`]).
//!
//! The folder is opened once, and everything in it is reached from there without following a symbolic
//! link (`attachfs_durable::HeldDir`): whatever others put there, nothing outside is written, renamed,
//! deleted or given other times and permissions. A file appears under its name when all of its bytes were
//! verified, never before; what an interrupted run fetched of a large one is used by the next
//! ([`leftovers`]).
//!
//! What concerns one file is in the account, and the others go on. What concerns everything (the store is
//! gone or refuses, the disk is full) ends the call.

mod acts;
mod blocks;
mod check;
mod compare;
mod conflict;
mod copies;
pub(crate) mod error;
mod failure;
mod file;
mod folder;
mod large;
mod leading;
mod leftovers;
mod names;
mod naming;
mod options;
mod paths;
mod plan;
mod remembered;
mod report;
mod run;
mod shared;
mod small;
mod stamps;
mod states;
mod step;
mod supply;
mod survey;
mod swaps;
mod sync;
#[cfg(test)]
mod tests;
mod threads;
mod tree;
mod wanted;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use attachfs_scan::{Phase, Progress};

use crate::error::TransferError;
use crate::flush::Flushing;
use crate::meter::Meter;
use crate::run::{blocking, run_one};

use check::check;
use copies::CopyNames;
use folder::Folder;
use plan::plan;
use run::Run;
use shared::Shared;
use survey::{Survey, survey};

pub use conflict::Conflict;
pub use error::DownloadError;
pub use options::{DownloadOptions, Nearby, Permissions, Sources};
pub use report::{Copied, DownloadReport, DownloadStopped, Remark};
pub use wanted::Wanted;

/// Places what is wanted in the folder `root`, which is made if it is missing.
///
/// Files that are there with the right bytes are left alone, but for their time and execute bit. Directories
/// that hold something that the manifest does not know are never deleted.
pub async fn download(
    root: &Path,
    wanted: Wanted<'_>,
    sources: Sources,
    options: &DownloadOptions,
    progress: &dyn Progress,
) -> Result<DownloadReport, DownloadStopped> {
    let began = Instant::now();
    let mut report = DownloadReport::default();
    let placed = place(root, wanted, sources, options, progress, &mut report).await;
    report.sort();
    report.summary.elapsed = began.elapsed();
    match placed {
        Ok(()) => Ok(report),
        Err(source) => Err(DownloadStopped {
            report: Box::new(report),
            source,
        }),
    }
}

/// Does it, and notes what was done.
async fn place(
    root: &Path,
    wanted: Wanted<'_>,
    sources: Sources,
    options: &DownloadOptions,
    progress: &dyn Progress,
    report: &mut DownloadReport,
) -> Result<(), TransferError> {
    let folder = Folder::open(root, options.permissions)?;
    let chunk_size = wanted.chunk_size();
    let changes = wanted.changes();
    let meter = Meter::new(Phase::Scan, changes.len() as u64, 0);
    let (counted, asked) = (Arc::clone(&meter), options.clone());
    let looking = async move {
        let looked = Arc::clone(&counted);
        blocking(&looked, move || {
            let survey = survey(&folder.dir, &folder.names, changes, &counted)?;
            let Survey { entries, leftovers } = survey;
            let copies = CopyNames::new(&folder.dir, entries.iter().map(|entry| &entry.path));
            let plan = plan(entries, asked.deletes);
            // First, since their room may be needed.
            leftovers.remove_unwanted(&folder.dir, &plan.files);
            check(&folder, &plan, &leftovers, &asked)?;
            Ok((folder, (leftovers, copies), plan))
        })
        .await
    };
    let (folder, found, plan) = run_one(looking, &meter, progress).await?;
    let files = plan.files.iter().map(|step| step.file.size);
    let failed = plan.failed.iter().filter_map(|(_, size, _)| *size);
    for size in files.chain(failed) {
        report.summary.total.add(size);
    }
    let links = plan.all_links().count() as u64 + plan.links_there;
    report.summary.total.count += links;
    report.summary.skipped.count += plan.links_there;
    let total = report.summary.total;
    let meter = Meter::new(Phase::Download, total.count, total.bytes);
    let caches = options.caches.clone();
    let _flushing = caches.map(|caches| Flushing::of(Some(caches), None));
    let shared = Shared::new(folder, found, sources, options, chunk_size, meter);
    Run::new(shared, options).act(plan, progress, report).await
}
