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

/// What is not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncommitted {
    /// How many paths differ from the result of the last commit, or from the base if there was none. A file that was written to since counts, even
    /// if its bytes may be the same.
    pub paths: u64,
    /// Whether there are some, and all of them lie outside of the output directories: a commit leaves them out again.
    pub all_outside: bool,
}

/// What is not committed, of a session with these output directories; with none, everything is output.
pub async fn uncommitted(
    session: &OpenSession,
    output_dirs: &[ManifestPath],
) -> Result<Uncommitted, CommitError> {
    let Preview { changes, account } = touched(session, &everything(session)).await?;
    let outputs = CommitOptions {
        output_dirs: output_dirs.to_vec(),
        ..CommitOptions::default()
    };
    // Names in an account are escaped, character by character: so they begin alike where paths do.
    let dirs: Vec<String> = output_dirs.iter().map(Account::name).collect();
    let is_named_in = |name: &String| {
        let is_in = |dir: &String| {
            let rest = name.strip_prefix(dir);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        dirs.is_empty() || dirs.iter().any(is_in)
    };
    let left = [&account.open, &account.links, &account.too_long];
    let paths = changes.len() + left.iter().map(|names| names.len()).sum::<usize>();
    let has_output = changes
        .iter()
        .any(|changed| outputs.is_output(changed.path.as_bytes()))
        || left.into_iter().flatten().any(is_named_in);
    Ok(Uncommitted {
        paths: paths as u64,
        all_outside: paths > 0 && !has_output,
    })
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
