//! A job's outputs or inputs become folders of this machine.
//!
//! ```text
//!     find_job_files    lists and reads manifests, and puts them together root by root       fetching/finding.rs
//!     plan_fetch        where each root goes, what of it cannot be here, what is there       fetching/plan.rs
//!                       already, and whether two roots want one path                         fetching/clashes.rs
//!     fetch_planned     places it, folder by folder, as any download does
//! ```
//!
//! Between the plan and the last step a person may be asked: a plan changes nothing.

mod clashes;
mod finding;
mod manifests;
mod plan;
#[cfg(test)]
mod tests;

use attachfs_manifest::wire::Manifest;
use attachfs_transfer::Progress;
use tokio_util::sync::CancellationToken;

use self::clashes::check_clashes;
use crate::cancel::Cancellable;
use crate::download::{DownloadRequest, Downloads, place_all};
use crate::error::Error;
use crate::places::Places;
use crate::store::OpenStore;

pub(in crate::jobs) use self::finding::FoundRoot;
pub use self::finding::{FoundFiles, JobFiles, find_job_files};
pub use self::manifests::{RootManifest, find_root_manifests};
pub use self::plan::{ChosenBy, FetchPlan, FetchTo, PlannedPlace, UnmappedPath, UnmappedRoot};

/// Says where everything goes, and what is there. Changes nothing. Two roots that want one path for different things are an
/// error. Blocks while it looks at what is there.
pub fn plan_fetch(
    found: &FoundFiles,
    to: &FetchTo,
    request: &DownloadRequest,
) -> Result<FetchPlan, Error> {
    let plan = plan::plan(&found.roots, to, request)?;
    check_clashes(&plan.places)?;
    Ok(plan)
}

/// Places what was planned, one folder after the other. What was done before it stopped is in the error's cause, as that of
/// [`download_manifests`](crate::download_manifests).
pub async fn fetch_planned(
    plan: FetchPlan,
    request: &DownloadRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Downloads, Error> {
    let planned = plan.places.into_iter();
    let wanted = planned.map(|place| (Manifest::Snapshot(place.snapshot), place.folder));
    let wanted = wanted.collect();
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(place_all(wanted, request, store, places, &progress))
        .await
}
