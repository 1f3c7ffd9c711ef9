//! Uncommitted changes, found without reading the content of any file.

use attachfs_manifest::{Content, File, ManifestPath, Mtime, Node};
use attachfs_tree::FileContent;
use attachfs_vfs::Vfs;

use crate::account::Account;
use crate::error::CommitError;
use crate::hash::micros;
use crate::open::OpenSession;
use crate::plan::Unhashed;
use crate::preview::{Preview, preview_of};
use crate::states::{Commit, CommitOptions, Links};

/// How many paths differ from the result of the last commit, or from the base if there was none. A
/// file that was written to since counts, even if its bytes may be the same.
pub async fn uncommitted(session: &OpenSession) -> Result<u64, CommitError> {
    let Preview { changes, account } = touched(session, &everything(session)).await?;
    let left = account.open.len() + account.links.len() + account.too_long.len();
    Ok((changes.len() + left) as u64)
}

/// Whether a path is one of these.
pub async fn is_uncommitted(
    session: &OpenSession,
    path: &ManifestPath,
) -> Result<bool, CommitError> {
    let Preview { changes, account } = touched(session, &everything(session)).await?;
    let name = Account::name(path);
    Ok(changes.iter().any(|changed| changed.path == *path)
        || account.open.contains(&name)
        || account.links.contains(&name)
        || account.too_long.contains(&name))
}

/// All changes, whatever a commit would say of them.
fn everything(session: &OpenSession) -> CommitOptions {
    CommitOptions {
        skip_open: true,
        links: Links::Skip,
        skip_long: true,
        mount_point: Some(session.session().meta().mount_point.clone()),
        ..CommitOptions::default()
    }
}

/// The changes since the last commit, as far as names, lengths and times show them: no file is read or
/// written. A file that was written to has [`Content::Unhashed`]; its bytes may be the same.
pub async fn touched(
    session: &OpenSession,
    options: &CommitOptions,
) -> Result<Preview, CommitError> {
    let Commit {
        session,
        frozen,
        state,
        ..
    } = Commit::plan(session.clone(), options).await?;
    let mut known = state.changes;
    for file in state.files {
        let node = Node::File(as_far_as_known(session.vfs(), &file)?);
        let paths = file.paths.into_iter();
        known.extend(paths.map(|(path, _)| (path, Some(node.clone()))));
    }
    preview_of(&session, &frozen, known, &state.left, state.account)
}

/// The file with the hashes of an earlier commit, if it was not written to since.
fn as_far_as_known(vfs: &Vfs, file: &Unhashed) -> Result<File, CommitError> {
    let stamp = vfs
        .scratch_stamp(file.ino)
        .map_err(|error| file.not_read(error))?;
    let content = file.known(stamp.into()).cloned();
    let (size, mtime) = match &file.content {
        FileContent::Mapped(mapping) => (mapping.size, file.mtime.unwrap_or(Mtime(0))),
        FileContent::Base | FileContent::Scratch => (stamp.size, Mtime(micros(stamp.mtime_ns))),
    };
    Ok(File {
        size,
        mtime,
        runnable: file.runnable,
        content: content.unwrap_or(Content::Unhashed),
    })
}
