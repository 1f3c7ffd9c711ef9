//! Writing a 2025-12 manifest.

use std::collections::{HashMap, HashSet};

use super::{Dialect, Kind, Style};
use crate::path::{PathRef, ancestors_of, code_point_order, is_drive, parent_of};
use crate::wire::{EncodeError, writer};
use crate::{Change, ChunkSize, Content, ContentHash, Diff, File, LinkTarget, Node, Snapshot};

pub(in crate::wire) fn encode_snapshot(
    snapshot: &Snapshot,
    is_absolute: bool,
) -> Result<Vec<u8>, EncodeError> {
    let mut directories = Directories::default();
    for (path, node) in snapshot.entries() {
        if node.is_dir() {
            // The parents of entries are entries.
            directories.list(path, false);
        }
    }
    let files = snapshot.entries().filter_map(|(path, node)| match node {
        Node::Dir => None,
        node => Some((path, Some(node))),
    });
    let head = Head {
        dialect: Dialect::new(Kind::Snapshot, style(is_absolute)),
        chunk_size: snapshot.chunk_size(),
        parent: snapshot.parent(),
        total_size: snapshot.total_size(),
        entries: snapshot.len(),
        targets: snapshot.targets(),
    };
    encode(&head, directories, files)
}

pub(in crate::wire) fn encode_diff(diff: &Diff, is_absolute: bool) -> Result<Vec<u8>, EncodeError> {
    let mut directories = Directories::default();
    for (path, change) in diff.changes() {
        directories.infer_above(path);
        match change {
            Change::Put(Node::Dir) => directories.list(path, false),
            Change::DeleteDir => directories.list(path, true),
            Change::Put(Node::Symlink(_) | Node::File(_)) | Change::DeleteFile => {}
        }
    }
    directories.delete_below_files(diff);
    let files = diff.changes().filter_map(|(path, change)| match change {
        Change::Put(Node::Dir) | Change::DeleteDir => None,
        Change::Put(node) => Some((path, Some(node))),
        Change::DeleteFile => Some((path, None)),
    });
    let head = Head {
        dialect: Dialect::new(Kind::Diff, style(is_absolute)),
        chunk_size: diff.chunk_size(),
        parent: diff.parent(),
        total_size: diff.total_size(),
        entries: diff.len(),
        targets: diff.targets(),
    };
    encode(&head, directories, files)
}

fn style(is_absolute: bool) -> Style {
    if is_absolute {
        Style::Absolute
    } else {
        Style::Relative
    }
}

struct Head<'a> {
    dialect: Dialect,
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    total_size: u64,
    entries: usize,
    /// Of all links.
    targets: &'a [LinkTarget],
}

/// What `dirs` will list.
#[derive(Default)]
struct Directories<'a> {
    /// Path, and whether it is deleted: what is listed because it is an entry.
    listed: Vec<(&'a [u8], bool)>,
    inferred: HashSet<&'a [u8]>,
}

impl<'a> Directories<'a> {
    fn list(&mut self, path: PathRef<'a>, is_deleted: bool) {
        self.listed.push((path.as_bytes(), is_deleted));
    }

    fn infer_above(&mut self, path: PathRef<'a>) {
        for directory in ancestors_of(path.as_bytes()) {
            if !self.inferred.insert(directory) {
                break;
            }
        }
    }

    /// Lists as deleted what lies between a directory that became a file or link and a deletion. A
    /// diff need not say so, but nobody can read a directory below a file. One that a link's target
    /// lies below is left to the reader, who passes over it.
    fn delete_below_files(&mut self, diff: &'a Diff) {
        let mut replaced: HashSet<&[u8]> = HashSet::new();
        let mut deletions: Vec<&[u8]> = Vec::new();
        let mut said: HashSet<&[u8]> = HashSet::new();
        for (path, change) in diff.changes() {
            let path = path.as_bytes();
            match change {
                Change::Put(Node::File(_) | Node::Symlink(_)) => {
                    replaced.insert(path);
                }
                Change::DeleteDir | Change::DeleteFile => deletions.push(path),
                Change::Put(Node::Dir) => {}
            }
            if change == Change::DeleteDir {
                said.insert(path);
            }
        }
        if replaced.is_empty() {
            return;
        }
        for target in diff.targets() {
            if let LinkTarget::Below(target) = target {
                said.extend(ancestors_of(target.as_bytes()));
            }
        }
        // Every directory above a deletion, and whether it is gone.
        let mut looked_at: HashMap<&[u8], bool> = HashMap::new();
        for path in deletions {
            let mut between = Vec::new();
            let mut is_gone = false;
            for above in ancestors_of(path) {
                if replaced.contains(above) {
                    is_gone = true;
                    break;
                }
                if let Some(&known) = looked_at.get(above) {
                    is_gone = known;
                    break;
                }
                between.push(above);
            }
            for above in between {
                looked_at.insert(above, is_gone);
                if is_gone && !said.contains(above) {
                    self.listed.push((above, true));
                }
            }
        }
    }

    /// Sorted, each once; what an entry says of a directory wins.
    fn sorted(self) -> Vec<(&'a [u8], bool)> {
        let mut sorted = self.listed;
        sorted.extend(self.inferred.into_iter().map(|path| (path, false)));
        // Stable: the entry stays before what was inferred.
        sorted.sort_by(|(a, _), (b, _)| code_point_order(a, b));
        sorted.dedup_by(|(later, _), (earlier, _)| later == earlier);
        sorted
    }
}

/// The places of directories in `dirs`.
struct Places<'a> {
    places: HashMap<&'a [u8], usize>,
    style: Style,
}

impl<'a> Places<'a> {
    /// Appends the name of an entry: at the root as the style wants it, else below a reference.
    fn name(&self, out: &mut Vec<u8>, path: &[u8]) {
        self.name_in(out, path, parent_of(path).map(|parent| self.places[parent]));
    }

    /// [`name`](Self::name), where the place of the directory is known.
    fn name_in(&self, out: &mut Vec<u8>, path: &[u8], parent: Option<usize>) {
        out.push(b'"');
        match (parent, parent_of(path)) {
            (Some(place), Some(parent)) => {
                out.push(b'$');
                writer::unsigned(out, place as u64);
                out.push(b'/');
                writer::characters(out, &path[parent.len() + 1..]);
            }
            _ => {
                if self.style == Style::Absolute && !is_drive(path) {
                    out.push(b'/');
                }
                writer::characters(out, path);
            }
        }
        out.push(b'"');
    }

    fn target(&self, out: &mut Vec<u8>, target: &LinkTarget) {
        match target {
            LinkTarget::Root if self.style == Style::Absolute => out.extend_from_slice(br#""/""#),
            LinkTarget::Root => out.extend_from_slice(br#"".""#),
            LinkTarget::Below(path) => self.name(out, path.as_bytes()),
        }
    }

    /// The place of the directory that holds `path`, looked up only if it is not the one before.
    fn of_parent(
        &self,
        path: PathRef<'a>,
        before: &mut Option<(&'a [u8], usize)>,
    ) -> Option<usize> {
        let parent = path.parent()?.as_bytes();
        if let Some((last, place)) = before
            && *last == parent
        {
            return Some(*place);
        }
        let place = self.places[parent];
        *before = Some((parent, place));
        Some(place)
    }
}

/// Checks that all paths of an absolute manifest are of one root: `/`, or drives.
fn check_roots<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Result<(), EncodeError> {
    let mut on_drive = None;
    for path in paths {
        let first = path.split(|&byte| byte == b'/').next().unwrap_or(path);
        let is_on_drive = is_drive(first);
        if *on_drive.get_or_insert(is_on_drive) != is_on_drive {
            return Err(EncodeError::Entry {
                format: super::super::Format::V2025_12Absolute,
                path: PathRef::from_checked(path).to_owned(),
                reason: "paths of a drive and of \"/\" do not go together",
            });
        }
    }
    Ok(())
}

/// `files` are paths in order with what is put there, or nothing for a deletion.
fn encode<'a>(
    head: &Head<'a>,
    mut directories: Directories<'a>,
    files: impl Iterator<Item = (PathRef<'a>, Option<Node>)> + Clone,
) -> Result<Vec<u8>, EncodeError> {
    /// About how many bytes an entry takes.
    const TYPICAL_ENTRY: usize = 112;
    let of_targets = head.targets.iter().filter_map(|target| match target {
        LinkTarget::Root => None,
        LinkTarget::Below(path) => Some(path.borrowed()),
    });
    of_targets
        .clone()
        .for_each(|target| directories.infer_above(target));
    let directories = directories.sorted();
    if head.dialect.style == Style::Absolute {
        let of_directories = directories.iter().map(|&(path, _)| path);
        let of_files = files.clone().map(|(path, _)| path);
        let others = of_files.chain(of_targets).map(PathRef::as_bytes);
        check_roots(of_directories.chain(others))?;
    }
    if matches!(head.chunk_size, ChunkSize::Bytes(bytes) if i64::try_from(bytes.get()).is_err()) {
        return Err(EncodeError::ChunkSize(head.chunk_size));
    }
    let paths = directories.iter().enumerate();
    let places = Places {
        places: paths.map(|(place, &(path, _))| (path, place)).collect(),
        style: head.dialect.style,
    };
    let mut out = Vec::with_capacity(head.entries.saturating_mul(TYPICAL_ENTRY));
    out.extend_from_slice(br#"{"dirs":["#);
    for (i, (path, is_deleted)) in directories.into_iter().enumerate() {
        separate(&mut out, i);
        out.push(b'{');
        if is_deleted {
            out.extend_from_slice(br#""delete":true,"#);
        }
        out.extend_from_slice(br#""name":"#);
        places.name(&mut out, path);
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"fileChunkSizeBytes":"#);
    match head.chunk_size {
        ChunkSize::WholeFile => writer::signed(&mut out, -1),
        ChunkSize::Bytes(bytes) => writer::unsigned(&mut out, bytes.get()),
    }
    out.extend_from_slice(br#","files":["#);
    let mut before = None;
    for (i, (path, node)) in files.enumerate() {
        separate(&mut out, i);
        let parent = places.of_parent(path, &mut before);
        let name = |out: &mut Vec<u8>| places.name_in(out, path.as_bytes(), parent);
        match node {
            Some(Node::File(file)) => encode_file(&mut out, name, &file),
            Some(Node::Symlink(target)) => {
                out.extend_from_slice(br#"{"name":"#);
                name(&mut out);
                out.extend_from_slice(br#","symlink":{"name":"#);
                places.target(&mut out, &target);
                out.extend_from_slice(b"}}");
            }
            Some(Node::Dir) | None => {
                out.extend_from_slice(br#"{"delete":true,"name":"#);
                name(&mut out);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(br#"],"hashAlg":"xxh128","#);
    if let Some(parent) = head.parent {
        out.extend_from_slice(br#""parentManifestHash":""#);
        out.extend_from_slice(&parent.to_hex());
        out.extend_from_slice(br#"","#);
    }
    out.extend_from_slice(br#""specificationVersion":"#);
    writer::string(&mut out, head.dialect.version().as_bytes());
    out.extend_from_slice(br#","totalSize":"#);
    writer::unsigned(&mut out, head.total_size);
    out.push(b'}');
    Ok(out)
}

fn encode_file(out: &mut Vec<u8>, name: impl Fn(&mut Vec<u8>), file: &File) {
    out.push(b'{');
    match &file.content {
        Content::Whole(hash) => {
            out.extend_from_slice(br#""hash":""#);
            out.extend_from_slice(&hash.to_hex());
            out.extend_from_slice(br#"","#);
        }
        Content::Chunks(hashes) => {
            out.extend_from_slice(br#""chunkhashes":["#);
            for (i, hash) in hashes.iter().enumerate() {
                separate(out, i);
                out.push(b'"');
                out.extend_from_slice(&hash.to_hex());
                out.push(b'"');
            }
            out.extend_from_slice(b"],");
        }
        Content::Unhashed => {}
    }
    out.extend_from_slice(br#""mtime":"#);
    writer::signed(out, file.mtime.0);
    out.extend_from_slice(br#","name":"#);
    name(out);
    if file.runnable {
        out.extend_from_slice(br#","runnable":true"#);
    }
    out.extend_from_slice(br#","size":"#);
    writer::unsigned(out, file.size);
    out.push(b'}');
}

fn separate(out: &mut Vec<u8>, before: usize) {
    if before > 0 {
        out.push(b',');
    }
}
