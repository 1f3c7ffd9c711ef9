//! Looking at manifests without mounting them.

use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{Change, ChunkLayout, ChunkSize, ContentHash, ManifestPath, Node, PathRef};
use attachfs_tree::Root;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::error::{Doing as _, Error};
use crate::manifests::ManifestBytes;
use crate::store::OpenStore;

/// What a manifest is, in a few numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// `2023-03-03`, `2025-12`, `2025-12 absolute` or `2025-12-04-beta`.
    pub format: String,
    /// `snapshot` or `diff`.
    pub kind: &'static str,
    /// The hash of its bytes.
    #[serde(serialize_with = "crate::snapshot::as_text")]
    pub hash: ContentHash,
    /// What a diff was made from.
    pub parent: Option<String>,
    /// How large files are cut, in bytes; `None` if they are not.
    pub chunk_size: Option<u64>,
    /// Directories.
    pub dirs: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// What a diff deletes.
    pub deleted: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files without a hash.
    pub unhashed: u64,
    /// Objects that the files need, each counted once.
    pub objects: u64,
}

/// One line of a listing.
#[derive(Debug, Clone, Serialize)]
pub struct ListedPath {
    /// Where, from the root of the manifest.
    pub path: String,
    /// `dir`, `file`, `symlink` or, in a diff, `deleted`.
    pub kind: &'static str,
    /// Length of a file in bytes.
    pub size: Option<u64>,
    /// Modification time of a file, microseconds since 1970.
    pub mtime: Option<i64>,
    /// Whether a file has execute bits.
    pub runnable: bool,
    /// The hash of a file that is one object.
    pub hash: Option<String>,
    /// How many objects a file is.
    pub objects: Option<usize>,
    /// What a link points to, from its own directory.
    pub target: Option<String>,
}

/// Shows every path with its node, or with nothing for a deletion.
fn for_each(manifest: &Manifest, mut look: impl FnMut(PathRef<'_>, Option<Node>)) {
    match manifest {
        Manifest::Snapshot(snapshot) => {
            for (path, node) in snapshot.entries() {
                look(path, Some(node));
            }
        }
        Manifest::Diff(diff) => {
            for (path, change) in diff.changes() {
                match change {
                    Change::Put(node) => look(path, Some(node)),
                    Change::DeleteDir | Change::DeleteFile => look(path, None),
                }
            }
        }
    }
}

/// Counts the entries of a manifest.
pub fn inspect(manifest: &ManifestBytes) -> Result<Inspection, Error> {
    let (format, decoded) = manifest.decode()?;
    let kind = match &decoded {
        Manifest::Snapshot(_) => "snapshot",
        Manifest::Diff(_) => "diff",
    };
    let mut found = Inspection {
        format: format.to_string(),
        kind,
        hash: ContentHash::of(&manifest.bytes),
        parent: decoded.parent().map(|hash| hash.to_string()),
        chunk_size: match decoded.chunk_size() {
            ChunkSize::WholeFile => None,
            ChunkSize::Bytes(bytes) => Some(bytes.get()),
        },
        dirs: 0,
        files: 0,
        symlinks: 0,
        deleted: 0,
        bytes: 0,
        unhashed: 0,
        objects: 0,
    };
    let mut objects: std::collections::HashSet<ContentHash> = std::collections::HashSet::new();
    for_each(&decoded, |_, node| match node {
        None => found.deleted += 1,
        Some(Node::Dir) => found.dirs += 1,
        Some(Node::Symlink(_)) => found.symlinks += 1,
        Some(Node::File(file)) => {
            found.files += 1;
            found.bytes += file.size;
            found.unhashed += u64::from(file.content.hashes().is_empty());
            objects.extend(file.content.hashes());
        }
    });
    found.objects = objects.len() as u64;
    Ok(found)
}

/// Lists a directory of a manifest, or everything below it, or a single file. What a diff deletes is
/// listed too. Of a manifest of absolute paths what lies below `root` is shown.
pub fn list(
    manifest: &ManifestBytes,
    root: Option<&Root>,
    at: Option<&ManifestPath>,
    recursive: bool,
) -> Result<Vec<ListedPath>, Error> {
    list_in(&manifest.decode_shown(root)?, at, recursive)
}

/// [`list`] of a manifest that was read.
pub(crate) fn list_in(
    decoded: &Manifest,
    at: Option<&ManifestPath>,
    recursive: bool,
) -> Result<Vec<ListedPath>, Error> {
    let mut listed = Vec::new();
    let mut found = at.is_none();
    let at_ref = at.map(ManifestPath::borrowed);
    for_each(decoded, |path, node| {
        let is_it = at_ref == Some(path);
        let below = at_ref.is_none_or(|at| path.is_below(at));
        found |= is_it || below;
        let wanted = if is_it {
            !matches!(node, Some(Node::Dir))
        } else {
            below && (recursive || path.parent() == at_ref)
        };
        if wanted {
            listed.push(describe(path, node));
        }
    });
    match at {
        Some(at) if !found => Err(no_such_path(at)),
        _ => Ok(listed),
    }
}

fn no_such_path(path: &ManifestPath) -> Error {
    Error::usage(format!("there is no \"{path}\" in the manifest"))
}

impl ListedPath {
    /// A directory.
    pub(crate) fn dir(path: String) -> Self {
        Self {
            path,
            kind: "dir",
            size: None,
            mtime: None,
            runnable: false,
            hash: None,
            objects: None,
            target: None,
        }
    }
}

fn describe(path: PathRef<'_>, node: Option<Node>) -> ListedPath {
    let mut listed = ListedPath {
        kind: "deleted",
        ..ListedPath::dir(path.to_string())
    };
    match node {
        None => {}
        Some(Node::Dir) => listed.kind = "dir",
        Some(Node::Symlink(target)) => {
            listed.kind = "symlink";
            let text = target.relative_to(&path.to_owned());
            listed.target = Some(attachfs_manifest::EscapedBytes(&text).to_string());
        }
        Some(Node::File(file)) => {
            listed.kind = "file";
            listed.size = Some(file.size);
            listed.mtime = Some(file.mtime.0);
            listed.runnable = file.runnable;
            listed.objects = Some(file.content.hashes().len());
            if let [hash] = file.content.hashes() {
                listed.hash = Some(hash.to_string());
            }
        }
    }
    listed
}

/// How much of a file is handed out at once.
const STEP: u64 = 8 << 20;

/// Reads a file of a manifest from a store, in pieces and in order. Small objects are verified before
/// their first byte is handed out. The path is one below `root`, where the manifest is absolute.
pub async fn cat(
    manifest: &ManifestBytes,
    root: Option<&Root>,
    path: &ManifestPath,
    store: &OpenStore,
    write: impl FnMut(&[u8]) -> std::io::Result<()>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    cat_in(&manifest.decode_shown(root)?, path, store, write, cancel).await
}

/// [`cat`] of a manifest that was read.
pub(crate) async fn cat_in(
    decoded: &Manifest,
    path: &ManifestPath,
    store: &OpenStore,
    mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let node = match decoded {
        Manifest::Snapshot(snapshot) => snapshot.get(path),
        Manifest::Diff(diff) => diff.at(path).find_map(|change| match change {
            Change::Put(node) => Some(node),
            Change::DeleteDir | Change::DeleteFile => None,
        }),
    };
    let file = match node {
        Some(Node::File(file)) => file,
        Some(Node::Dir) => return Err(Error::usage(format!("\"{path}\" is a directory"))),
        Some(Node::Symlink(_)) => {
            return Err(Error::usage(format!("\"{path}\" is a symbolic link")));
        }
        None => return Err(no_such_path(path)),
    };
    let layout = ChunkLayout::new(file.size, decoded.chunk_size(), &file.content)
        .doing(|| format!("cannot read \"{path}\""))?;
    let chunks: std::sync::Arc<dyn attachfs_store::ChunkStore> = store.store.clone();
    let fetcher = Fetcher::new(chunks, None, FetchOptions::default());
    let reader = fetcher.open(&layout);
    let mut at = 0;
    while at < file.size {
        let end = file.size.min(at + STEP);
        let read = unless_cancelled(cancel, async {
            let read = reader.read(at..end).bytes().await;
            read.doing(|| format!("cannot read \"{path}\""))
        });
        let bytes = read.await?;
        write(&bytes).doing(|| format!("cannot write what \"{path}\" holds"))?;
        at = end;
    }
    Ok(())
}
