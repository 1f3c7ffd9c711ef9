//! Whether a plan can be carried out: asked before anything is fetched.

use super::error::DownloadError;
use super::folder::Folder;
use super::leftovers::Leftovers;
use super::options::DownloadOptions;
use super::plan::{Plan, in_blocks};

/// How many paths an error names.
const LISTED: usize = 20;

/// Fails if the plan cannot be carried out here: for the lengths of paths, a group that cannot be given, or for want
/// of room. Blocks.
pub(super) fn check(
    folder: &Folder,
    plan: &Plan,
    leftovers: &Leftovers,
    options: &DownloadOptions,
) -> Result<(), DownloadError> {
    let root = || folder.real.clone();
    let longest_name = folder.dir.longest_name();
    let longest_name = longest_name.map_err(|source| DownloadError::Root {
        doing: "look at",
        path: root(),
        source,
    })?;
    let too_long = plan.too_long(folder.real.as_os_str().len(), longest_name);
    if !too_long.is_empty() {
        return Err(DownloadError::TooLong {
            root: root(),
            count: too_long.len(),
            paths: too_long.into_iter().take(LISTED).cloned().collect(),
        });
    }
    let mut fetched = plan.fetched(options.conflict);
    if plan.all_dirs().next().is_some() || fetched.next().is_some() {
        folder.may_give(options.permissions)?;
    }
    let space = attachfs_durable::space(&folder.real)?;
    let block = space.block_size;
    // What was left has its room already.
    let fetched = plan.fetched(options.conflict);
    let taken: u64 = fetched
        .map(|step| leftovers.room_of(&folder.dir, step, in_blocks(step.file.size, block)))
        .sum();
    let needed = plan.bytes_to_write(options.conflict, block);
    let needed = needed.saturating_sub(taken);
    if needed > space.available {
        return Err(DownloadError::NoRoom {
            root: root(),
            needed,
            available: space.available,
        });
    }
    Ok(())
}
