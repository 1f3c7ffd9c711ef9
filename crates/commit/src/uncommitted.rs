//! How much is not committed, without hashing anything.

use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::{File, Mtime, Node};
use attachfs_tree::FileContent;
use attachfs_vfs::Vfs;

use crate::generations::Before;
use crate::hash::micros;
use crate::plan::Unhashed;
use crate::{Commit, CommitError, CommitOptions, Links};

/// How many paths differ from what the last commit left, or from the base if there was none. A file
/// that was written to since counts, even if its bytes should be the same.
pub async fn uncommitted(vfs: &Arc<Vfs>) -> Result<u64, CommitError> {
    let session = vfs.session().ok_or(CommitError::ReadOnly)?;
    let options = CommitOptions {
        skip_open: true,
        links: Links::Skip,
        mount_point: Some(session.meta().mount_point.clone()),
        ..CommitOptions::default()
    };
    let Commit {
        vfs,
        frozen,
        generation,
        state,
        ..
    } = Commit::plan(vfs.clone(), &options).await?;
    let session = vfs.session().ok_or(CommitError::ReadOnly)?;
    let tree = frozen.namespace().base();
    let before = Before::load(session, generation - 1)?;
    let mut known = state.changes;
    let mut left = state.left;
    let mut unknown = state.account.open.len() + state.account.links.len();
    for file in state.files {
        match clean_node(&vfs, &file)? {
            Some(node) => {
                known.extend(
                    file.paths
                        .into_iter()
                        .map(|(path, _)| (path, Some(node.clone()))),
                );
            }
            None => {
                unknown += file.paths.len();
                left.paths
                    .extend(file.paths.into_iter().map(|(path, _)| path));
            }
        }
    }
    // What is counted already must not count again as being gone.
    let now = before.keep(known, &left);
    Ok((before.steps(tree, &now).len() + unknown) as u64)
}

/// The file as an earlier commit hashed it, if it was not written to since.
fn clean_node(vfs: &Vfs, file: &Unhashed) -> Result<Option<Node>, CommitError> {
    if file.clean.is_none() {
        return Ok(None);
    }
    let (scratch, path) = vfs.open_scratch(file.ino)?;
    let failed = |source| CommitError::Io {
        doing: "look at",
        path: path.display().to_string(),
        source,
    };
    let stamp = FileStamp::of(&scratch).map_err(failed)?;
    let Some(content) = file.known(stamp.into()).cloned() else {
        return Ok(None);
    };
    let (size, mtime) = match &file.content {
        FileContent::Mapped(mapping) => (mapping.size, file.mtime.unwrap_or(Mtime(0))),
        FileContent::Base | FileContent::Scratch => (stamp.size, Mtime(micros(stamp.mtime_ns))),
    };
    Ok(Some(Node::File(File {
        size,
        mtime,
        runnable: file.runnable,
        content,
    })))
}
