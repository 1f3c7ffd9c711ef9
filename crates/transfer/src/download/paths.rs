//! Paths of directories, as bytes: that of the root is empty, which no [`ManifestPath`](attachfs_manifest::ManifestPath) is.

use attachfs_manifest::PathRef;

/// The path of the directory that holds a path; empty for the root.
pub(super) fn parent_bytes(path: PathRef<'_>) -> &[u8] {
    path.parent().map_or(b"", PathRef::as_bytes)
}

/// The path of a name in a directory; that may be empty for the root.
pub(super) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        b"" => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    }
}

/// The path of the directory that holds a directory; none for the root.
pub(super) fn above(dir: &[u8]) -> Option<&[u8]> {
    if dir.is_empty() {
        return None;
    }
    let end = dir.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    Some(&dir[..end])
}
