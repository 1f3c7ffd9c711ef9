//! Version 2023-03-03: one list of files.
//!
//! ```text
//! {"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[
//!   {"hash":"<32 hex>","mtime":<us>,"path":"a/b","size":<bytes>},...],"totalSize":<sum>}
//! ```
//!
//! Source: `deadline-job-attachments` 0.1.5, `asset_manifests/v2023_03_03/asset_manifest.py` and
//! `_canonical_json.py`.

use super::error::{DecodeError, EncodeError, EntryError, EntryPlace, FieldError};
use super::reader::Reader;
use super::{
    Format, once, peek_string, read_hash, read_hash_algorithm, read_mtime, read_size,
    read_total_size, writer,
};
use crate::{ChunkSize, Content, File, ManifestPath, Node, Snapshot};

pub(super) const VERSION: &str = "2023-03-03";
const PATHS: &str = "paths";

pub(super) fn decode(text: &str) -> Result<Snapshot, DecodeError> {
    let mut entries = Vec::new();
    let said = walk(text, |path, file| entries.push((path, Node::File(file))))?;
    let snapshot = Snapshot::new(ChunkSize::WholeFile, None, entries).map_err(|error| {
        match last_entry(text, error.path()) {
            Some(place) => DecodeError::Entry(place, error.into()),
            None => DecodeError::Tree(error),
        }
    })?;
    let sum = snapshot.total_size();
    if said != sum {
        return Err(DecodeError::field(
            "totalSize",
            FieldError::TotalSize { said, sum },
        ));
    }
    Ok(snapshot)
}

/// Reads every entry in turn. Gives `totalSize`.
fn walk(text: &str, mut take: impl FnMut(ManifestPath, File)) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(text);
    let (mut algorithm, mut version, mut paths, mut total_size) = (None, None, None, None);
    let mut manifest = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut manifest)? {
        let (field, read) = match &*key {
            b"hashAlg" => {
                let read = read_hash_algorithm(&mut reader);
                ("hashAlg", once(&mut algorithm, read))
            }
            b"manifestVersion" => {
                let read = reader.string();
                ("manifestVersion", once(&mut version, read))
            }
            b"totalSize" => {
                let read = read_total_size(&mut reader);
                ("totalSize", once(&mut total_size, read))
            }
            b"paths" => {
                let list = reader.open_array();
                let mut list = list.map_err(|error| DecodeError::field(PATHS, error))?;
                let mut index = 0;
                while reader.next_item(&mut list)? {
                    let start = reader.clone();
                    let (path, file) = read_entry(&mut reader).map_err(|error| {
                        let path = peek_string(start, b"path").map(Into::into);
                        let list = PATHS;
                        DecodeError::Entry(EntryPlace { list, index, path }, error)
                    })?;
                    take(path, file);
                    index += 1;
                }
                (PATHS, once(&mut paths, Ok::<_, FieldError>(())))
            }
            b"specificationVersion" => {
                let out_of_place = FieldError::OutOfPlace("a manifest of version 2023-03-03");
                return Err(DecodeError::field("specificationVersion", out_of_place));
            }
            _ => {
                reader.skip()?;
                continue;
            }
        };
        read.map_err(|error| DecodeError::field(field, error))?;
    }
    reader.end()?;
    algorithm.ok_or(DecodeError::field("hashAlg", FieldError::Missing))?;
    paths.ok_or(DecodeError::field(PATHS, FieldError::Missing))?;
    total_size.ok_or(DecodeError::field("totalSize", FieldError::Missing))
}

fn read_entry(reader: &mut Reader<'_>) -> Result<(ManifestPath, File), EntryError> {
    let (mut hash, mut mtime, mut path, mut size) = (None, None, None, None);
    let mut entry = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut entry)? {
        let (field, read) = match &*key {
            b"hash" => ("hash", once(&mut hash, read_hash(reader))),
            b"mtime" => ("mtime", once(&mut mtime, read_mtime(reader))),
            b"path" => ("path", once(&mut path, reader.string())),
            b"size" => ("size", once(&mut size, read_size(reader))),
            _ => {
                reader.skip()?;
                continue;
            }
        };
        read.map_err(|error| EntryError::field(field, error))?;
    }
    let missing = |field| EntryError::field(field, FieldError::Missing);
    let path = ManifestPath::new(&path.ok_or_else(|| missing("path"))?)?;
    let file = File {
        size: size.ok_or_else(|| missing("size"))?,
        mtime: mtime.ok_or_else(|| missing("mtime"))?,
        runnable: false,
        content: Content::Whole(hash.ok_or_else(|| missing("hash"))?),
    };
    Ok((path, file))
}

/// Where a path is listed for the last time.
fn last_entry(text: &str, wanted: &ManifestPath) -> Option<EntryPlace> {
    let (mut index, mut last) = (0, None);
    walk(text, |path, _| {
        if path == *wanted {
            last = Some(index);
        }
        index += 1;
    })
    .ok()?;
    Some(EntryPlace {
        list: PATHS,
        index: last?,
        path: Some(wanted.as_bytes().into()),
    })
}

pub(super) fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    out.extend_from_slice(br#"{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":["#);
    let mut is_first = true;
    for (path, node) in snapshot.entries() {
        let refuse = |reason| EncodeError {
            format: Format::V2023_03_03,
            path: path.clone(),
            reason,
        };
        let file = match node {
            Node::Dir => continue,
            Node::Symlink(_) => return Err(refuse("it has no symbolic links")),
            Node::File(file) => file,
        };
        let hash = match &file.content {
            Content::Whole(hash) => hash,
            Content::Chunks(_) => return Err(refuse("it has no files in chunks")),
            Content::Unhashed => return Err(refuse("it has no files without a hash")),
        };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"hash":""#);
        out.extend_from_slice(&hash.to_hex());
        out.extend_from_slice(br#"","mtime":"#);
        writer::signed(&mut out, file.mtime.0);
        out.extend_from_slice(br#","path":"#);
        writer::string(&mut out, path.as_bytes());
        out.extend_from_slice(br#","size":"#);
        writer::unsigned(&mut out, file.size);
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"totalSize":"#);
    writer::unsigned(&mut out, snapshot.total_size());
    out.push(b'}');
    Ok(out)
}
