//! Version 2023-03-03: one list of files.
//!
//! ```text
//! {"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[
//!   {"hash":"<32 hex>","mtime":<us>,"path":"a/b","size":<bytes>},...],"totalSize":<sum>}
//! ```
//!
//! Source: `deadline-job-attachments` 0.1.5, `asset_manifests/v2023_03_03/asset_manifest.py` and
//! `_canonical_json.py`.

use std::borrow::Cow;

use super::error::{DecodeError, EncodeError, EntryError, EntryPlace, FieldError};
use super::fast::Canonical;
use super::in_order::InOrder;
use super::reader::Reader;
use super::{
    Format, Rules, peek_string, read_hash, read_hash_algorithm, read_mtime, read_size,
    read_total_size, writer,
};
use crate::path::{PathRef, check_path_after};
use crate::table::{Table, TooLarge};
use crate::{
    Change, ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, Node, PathError, Snapshot,
    SnapshotError,
};

pub(super) const VERSION: &str = "2023-03-03";
const PATHS: &str = "paths";
/// About how many bytes an entry takes.
const TYPICAL_ENTRY: usize = 144;

pub(super) fn decode(text: &str, rules: Rules) -> Result<Snapshot, DecodeError> {
    let mut table = Table::default();
    let mut too_large = None;
    let said = walk(text, rules, |path, file| {
        if let Err(TooLarge) = table.push(path, Change::Put(Node::File(file))) {
            too_large.get_or_insert_with(|| path.to_owned());
        }
    })?;
    if let Some(path) = too_large {
        return Err(DecodeError::Tree(SnapshotError::TooLarge { path }));
    }
    if rules == Rules::Lenient {
        table.keep_last();
    }
    let snapshot =
        Snapshot::from_table(ChunkSize::WholeFile, None, table).map_err(
            |error| match last_entry(text, rules, error.path()) {
                Some(place) => DecodeError::Entry(place, error.into()),
                None => DecodeError::Tree(error),
            },
        )?;
    let sum = snapshot.total_size();
    match said {
        Some(said) if said != sum && rules == Rules::Strict => Err(DecodeError::field(
            "totalSize",
            FieldError::TotalSize { said, sum },
        )),
        _ => Ok(snapshot),
    }
}

/// Hands out the entries of a snapshot in order, see [`read_in_order`](super::read_in_order).
pub(super) fn read_in_order(
    text: &str,
    take: impl FnMut(ChunkSize, PathRef<'_>, &Node) -> Option<()>,
) -> Option<ChunkSize> {
    let mut entries = InOrder::new(ChunkSize::WholeFile, take);
    let said = walk(text, Rules::Strict, |path, file| {
        entries.next(path, &Node::File(file));
    });
    let is_right = entries.is_right() && said.ok()? == Some(entries.total_size);
    is_right.then_some(ChunkSize::WholeFile)
}

/// Reads every entry in turn. Gives `totalSize`.
fn walk(
    text: &str,
    rules: Rules,
    mut take: impl FnMut(PathRef<'_>, File),
) -> Result<Option<u64>, DecodeError> {
    let mut reader = Reader::new(text, rules);
    let (mut algorithm, mut version, mut paths, mut total_size) = (None, None, None, None);
    let mut manifest = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut manifest)? {
        let (field, read) = match &*key {
            b"hashAlg" => {
                let read = read_hash_algorithm(&mut reader);
                ("hashAlg", rules.once(&mut algorithm, read))
            }
            b"manifestVersion" => {
                let read = reader.string();
                ("manifestVersion", Rules::Strict.once(&mut version, read))
            }
            b"totalSize" => {
                let read = read_total_size(&mut reader, rules);
                ("totalSize", rules.once(&mut total_size, read))
            }
            b"paths" => {
                read_entries(&mut reader, &mut take)?;
                (
                    PATHS,
                    Rules::Strict.once(&mut paths, Ok::<_, FieldError>(())),
                )
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

fn read_entries(
    reader: &mut Reader<'_>,
    take: &mut impl FnMut(PathRef<'_>, File),
) -> Result<(), DecodeError> {
    let list = reader.open_array();
    let mut list = list.map_err(|error| DecodeError::field(PATHS, error))?;
    let mut index = 0;
    let mut before: &[u8] = b"";
    while reader.next_item(&mut list)? {
        let start = reader.clone();
        let entry = match RawEntry::read_canonical(reader) {
            Some(entry) => entry,
            None => RawEntry::read(reader).map_err(|error| misread(index, start.clone(), error))?,
        };
        let wrong = |error: PathError| misread(index, start.clone(), error.into());
        match &entry.path {
            Cow::Borrowed(path) if check_path_after(before, path).is_ok() => {
                take(PathRef::from_checked(path), entry.file);
                before = *path;
            }
            path => {
                let path = reader.rules().path(path).map_err(wrong)?;
                take(PathRef::from_checked(&path), entry.file);
            }
        }
        index += 1;
    }
    Ok(())
}

fn misread(index: usize, start: Reader<'_>, error: EntryError) -> DecodeError {
    let path = peek_string(start, b"path").map(Into::into);
    let list = PATHS;
    DecodeError::Entry(EntryPlace { list, index, path }, error)
}

/// An entry whose path was not looked at.
struct RawEntry<'a> {
    path: Cow<'a, [u8]>,
    file: File,
}

impl<'a> RawEntry<'a> {
    fn new(path: Cow<'a, [u8]>, hash: ContentHash, mtime: Mtime, size: u64) -> Self {
        let file = File {
            size,
            mtime,
            runnable: false,
            content: Content::Whole(hash),
        };
        Self { path, file }
    }

    /// The entry as writers of the canonical form spell it, or nothing at all.
    fn read_canonical(reader: &mut Reader<'a>) -> Option<Self> {
        let mut text = Canonical::new(reader.rest());
        text.skip(br#"{"hash":""#)?;
        let hash = text.hash()?;
        text.skip(br#"","mtime":"#)?;
        let mtime = text.mtime()?;
        text.skip(br#","path":""#)?;
        let path = text.string()?;
        text.skip(br#","size":"#)?;
        let size = text.number()?;
        text.skip(b"}")?;
        reader.advance(text.len());
        Some(Self::new(Cow::Borrowed(path), hash, mtime, size))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, EntryError> {
        let rules = reader.rules();
        let (mut hash, mut mtime, mut path, mut size) = (None, None, None, None);
        let mut entry = reader.open_object()?;
        while let Some(key) = reader.next_key(&mut entry)? {
            let (field, read) = match &*key {
                b"hash" => ("hash", rules.once(&mut hash, read_hash(reader))),
                b"mtime" => ("mtime", rules.once(&mut mtime, read_mtime(reader))),
                b"path" => ("path", rules.once(&mut path, reader.string())),
                b"size" => ("size", rules.once(&mut size, read_size(reader))),
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            read.map_err(|error| EntryError::field(field, error))?;
        }
        let missing = |field| EntryError::field(field, FieldError::Missing);
        Ok(Self::new(
            path.ok_or_else(|| missing("path"))?,
            hash.ok_or_else(|| missing("hash"))?,
            mtime.ok_or_else(|| missing("mtime"))?,
            size.ok_or_else(|| missing("size"))?,
        ))
    }
}

/// Where a path is listed for the last time.
fn last_entry(text: &str, rules: Rules, wanted: &ManifestPath) -> Option<EntryPlace> {
    let (mut index, mut last) = (0, None);
    walk(text, rules, |path, _| {
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
    let mut out = Vec::with_capacity(snapshot.len().saturating_mul(TYPICAL_ENTRY));
    out.extend_from_slice(br#"{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":["#);
    let mut is_first = true;
    for (path, node) in snapshot.entries() {
        let refuse = |reason| EncodeError::Entry {
            format: Format::V2023_03_03,
            path: path.to_owned(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::fast::spellings;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn an_entry_that_is_read_quickly_is_what_the_general_reader_makes_of_it(
            (hash, mtime, path, size) in spellings(), end in "[} ,]{1,3}"
        ) {
            let text = format!(r#"{{"hash":"{hash}","mtime":{mtime},"path":"{path}","size":{size}{end}"#);
            for rules in [Rules::Strict, Rules::Lenient] {
                let mut quick = Reader::new(&text, rules);
                let mut general = quick.clone();
                if let Some(entry) = RawEntry::read_canonical(&mut quick) {
                    let read = RawEntry::read(&mut general).unwrap();
                    prop_assert_eq!((entry.path, entry.file), (read.path, read.file));
                    prop_assert_eq!(quick.rest(), general.rest());
                }
            }
        }
    }
}
