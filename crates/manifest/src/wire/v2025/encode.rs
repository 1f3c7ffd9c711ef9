//! Writing a 2025-12 manifest.

use std::collections::{HashMap, HashSet};

use super::Kind;
use crate::path::{ancestors_of, code_point_order, parent_of};
use crate::wire::writer;
use crate::{
    Change, ChunkSize, Content, ContentHash, Diff, File, LinkTarget, ManifestPath, Node, Snapshot,
};

pub(in crate::wire) fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let mut directories = Directories::default();
    for (path, node) in snapshot.entries() {
        match node {
            // The parents of entries are entries.
            Node::Dir => directories.list(path, false),
            Node::Symlink(target) => directories.infer_above_target(target),
            Node::File(_) => {}
        }
    }
    let files = snapshot.entries().filter_map(|(path, node)| match node {
        Node::Dir => None,
        node => Some((path, Some(node))),
    });
    let head = Head {
        kind: Kind::Snapshot,
        chunk_size: snapshot.chunk_size(),
        parent: snapshot.parent(),
        total_size: snapshot.total_size(),
    };
    encode(head, directories, files)
}

pub(in crate::wire) fn encode_diff(diff: &Diff) -> Vec<u8> {
    let mut directories = Directories::default();
    for (path, change) in diff.changes() {
        directories.infer_above(path);
        match change {
            Change::Put(Node::Dir) => directories.list(path, false),
            Change::DeleteDir => directories.list(path, true),
            Change::Put(Node::Symlink(target)) => directories.infer_above_target(target),
            Change::Put(Node::File(_)) | Change::DeleteFile => {}
        }
    }
    let files = diff.changes().filter_map(|(path, change)| match change {
        Change::Put(Node::Dir) | Change::DeleteDir => None,
        Change::Put(node) => Some((path, Some(node))),
        Change::DeleteFile => Some((path, None)),
    });
    let head = Head {
        kind: Kind::Diff,
        chunk_size: diff.chunk_size(),
        parent: diff.parent(),
        total_size: diff.total_size(),
    };
    encode(head, directories, files)
}

struct Head {
    kind: Kind,
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    total_size: u64,
}

/// What `dirs` will list.
#[derive(Default)]
struct Directories<'a> {
    /// Path, and whether it is deleted: what is listed because it is an entry.
    listed: Vec<(&'a [u8], bool)>,
    inferred: HashSet<&'a [u8]>,
}

impl<'a> Directories<'a> {
    fn list(&mut self, path: &'a ManifestPath, is_deleted: bool) {
        self.listed.push((path.as_bytes(), is_deleted));
    }

    fn infer_above(&mut self, path: &'a ManifestPath) {
        for directory in ancestors_of(path.as_bytes()) {
            if !self.inferred.insert(directory) {
                break;
            }
        }
    }

    fn infer_above_target(&mut self, target: &'a LinkTarget) {
        if let LinkTarget::Below(path) = target {
            self.infer_above(path);
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
struct Places<'a>(HashMap<&'a [u8], usize>);

impl Places<'_> {
    /// Appends the name of an entry: bare at the root, else below a reference.
    fn name(&self, out: &mut Vec<u8>, path: &[u8]) {
        out.push(b'"');
        match parent_of(path) {
            None => writer::characters(out, path),
            Some(parent) => {
                out.push(b'$');
                writer::unsigned(out, self.0[parent] as u64);
                out.push(b'/');
                writer::characters(out, &path[parent.len() + 1..]);
            }
        }
        out.push(b'"');
    }

    fn target(&self, out: &mut Vec<u8>, target: &LinkTarget) {
        match target {
            LinkTarget::Root => out.extend_from_slice(br#"".""#),
            LinkTarget::Below(path) => self.name(out, path.as_bytes()),
        }
    }
}

/// `files` are paths in order with what is put there, or nothing for a deletion.
fn encode<'a>(
    head: Head,
    directories: Directories<'a>,
    files: impl Iterator<Item = (&'a ManifestPath, Option<&'a Node>)>,
) -> Vec<u8> {
    let directories = directories.sorted();
    let paths = directories.iter().enumerate();
    let places = Places(paths.map(|(place, &(path, _))| (path, place)).collect());
    let mut out = Vec::new();
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
    for (i, (path, node)) in files.enumerate() {
        separate(&mut out, i);
        match node {
            Some(Node::File(file)) => encode_file(&mut out, &places, path, file),
            Some(Node::Symlink(target)) => {
                out.extend_from_slice(br#"{"name":"#);
                places.name(&mut out, path.as_bytes());
                out.extend_from_slice(br#","symlink":{"name":"#);
                places.target(&mut out, target);
                out.extend_from_slice(b"}}");
            }
            Some(Node::Dir) | None => {
                out.extend_from_slice(br#"{"delete":true,"name":"#);
                places.name(&mut out, path.as_bytes());
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
    writer::string(&mut out, head.kind.version().as_bytes());
    out.extend_from_slice(br#","totalSize":"#);
    writer::unsigned(&mut out, head.total_size);
    out.push(b'}');
    out
}

fn encode_file(out: &mut Vec<u8>, places: &Places<'_>, path: &ManifestPath, file: &File) {
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
    places.name(out, path.as_bytes());
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
