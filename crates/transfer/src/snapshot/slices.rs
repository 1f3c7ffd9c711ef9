//! Many files, gone through in slices: one step that blocks for thousands of them.

use std::sync::Arc;

use attachfs_scan::Progress;

use super::shared::Shared;
use crate::error::TransferError;
use crate::run::{blocking, run_all};

/// How many files are looked up in the caches at once.
const SLICE: usize = 4096;

/// Does a step that blocks with slices of files, several at once. Gives what it gives, in the order of the files.
pub(super) async fn in_slices<T, R>(
    files: Vec<T>,
    shared: &Arc<Shared>,
    progress: &dyn Progress,
    step: impl Fn(&Shared, Vec<T>) -> Result<Vec<R>, TransferError> + Send + Sync + 'static,
) -> Result<Vec<R>, TransferError>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let mut found: Vec<Vec<R>> = Vec::new();
    found.resize_with(files.len().div_ceil(SLICE), Vec::new);
    let mut files = files.into_iter();
    let slices = std::iter::from_fn(move || {
        let slice: Vec<T> = files.by_ref().take(SLICE).collect();
        (!slice.is_empty()).then_some(slice)
    });
    let step = Arc::new(step);
    let jobs = slices.enumerate().map(|(at, slice)| {
        let (step, shared) = (Arc::clone(&step), Arc::clone(shared));
        async move {
            let meter = Arc::clone(&shared.reading.meter);
            blocking(&meter, move || Ok((at, step(&shared, slice)?))).await
        }
    });
    let meter = shared.reading.meter.anew();
    let keep = |(at, slice)| found[at] = slice;
    run_all(jobs, shared.reading.reader_count, &meter, progress, keep).await?;
    Ok(found.into_iter().flatten().collect())
}
