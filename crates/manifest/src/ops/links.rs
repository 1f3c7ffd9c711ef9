//! Following links inside a manifest, as a file system does it.
//!
//! A directory is its path as bytes here, and the root the empty path, so that one rule fits both.

use crate::path::{check_length, is_within};
use crate::table::Table;
use crate::{LinkTarget, ManifestPath, Node, PathError};

/// How many links in a row are followed, and how many copies may lie in one another: no path that
/// leads through more links can be opened on Linux (`MAXSYMLINKS`).
pub(super) const MOST_LINKS: usize = 40;

/// What remains of a path within a directory; empty for the directory itself.
pub(super) fn strip<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    match (is_within(path, directory), directory) {
        (false, _) => None,
        (true, b"") => Some(path),
        (true, _) => Some(path.get(directory.len() + 1..).unwrap_or_default()),
    }
}

/// The place that a target names.
pub(super) fn target_bytes(target: &LinkTarget) -> &[u8] {
    match target {
        LinkTarget::Root => b"",
        LinkTarget::Below(path) => path.as_bytes(),
    }
}

/// The target that names a place, whose components were checked.
pub(super) fn place(bytes: &[u8]) -> Result<LinkTarget, PathError> {
    if bytes.is_empty() {
        return Ok(LinkTarget::Root);
    }
    check_length(bytes)?;
    Ok(LinkTarget::Below(ManifestPath::from_ancestor(bytes)))
}

/// `rest` below `directory`; either may be empty.
pub(super) fn below(directory: &[u8], rest: &[u8]) -> Vec<u8> {
    match (directory, rest) {
        (b"", path) | (path, b"") => path.to_vec(),
        (directory, rest) => [directory, b"/", rest].concat(),
    }
}

/// What a link leads to in the end.
pub(super) enum Resolved {
    Directory(Vec<u8>),
    /// The place of a file in the table.
    File(usize),
    Nowhere,
}

/// Follows a target through every link on the way.
pub(super) fn resolve(table: &Table, target: &LinkTarget) -> Resolved {
    let mut links = 0;
    let mut pending: Vec<u8> = target_bytes(target).to_vec();
    'again: loop {
        if pending.is_empty() {
            return Resolved::Directory(pending);
        }
        // An entry has directories above it, so there is no link on the way to one.
        match table
            .find(&pending)
            .last()
            .map(|found| (found, table.node(found)))
        {
            Some((_, Some(Node::Dir))) => return Resolved::Directory(pending),
            Some((found, Some(Node::File(_)))) => return Resolved::File(found),
            _ => {}
        }
        let mut end = 0;
        loop {
            // The first component that was not looked at yet.
            end = pending[end..]
                .iter()
                .position(|&byte| byte == b'/')
                .map_or(pending.len(), |slash| end + slash);
            let is_last = end == pending.len();
            let Some(found) = table.find(&pending[..end]).last() else {
                return Resolved::Nowhere;
            };
            match table.node(found) {
                Some(Node::Dir) if !is_last => end += 1,
                Some(Node::Dir | Node::File(_)) | None => return Resolved::Nowhere,
                Some(Node::Symlink(next)) => {
                    links += 1;
                    let rest = pending.get(end + 1..).unwrap_or_default();
                    pending = below(target_bytes(&next), rest);
                    if links > MOST_LINKS || check_length(&pending).is_err() {
                        return Resolved::Nowhere;
                    }
                    continue 'again;
                }
            }
        }
    }
}
