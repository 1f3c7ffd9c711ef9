//! Reading a 2025-12 manifest.
//!
//! A link's target can lead through another link (`cur -> latest/scene`, `latest -> v2`). Writers
//! list the directories above the target all the same, so `latest` is then in `dirs` *and* in
//! `files`. Such a directory, which a link's target refers to, gives way to the file or link.
//! Any other path in both lists is an error.

use std::collections::HashSet;
use std::num::NonZeroU64;

use super::entry::passes_over;
use super::paths::{Before, DIRS, Directory, FILES, Paths, Put};
use super::{Dialect, Kind, Style};
use crate::path::{PathRef, utf16_order};
use crate::table::{Table, TooLarge};
use crate::wire::error::{DecodeError, EntryError, EntryPlace, FieldError, Note};
use crate::wire::in_order::InOrder;
use crate::wire::reader::Reader;
use crate::wire::{Manifest, Rules, read_hash, read_hash_algorithm, read_total_size};
use crate::{Change, ChunkSize, ContentHash, Diff, Node, Snapshot, SnapshotError};

/// What a text says.
pub(in crate::wire) struct Decoded {
    /// In `specificationVersion`.
    pub(in crate::wire) version: Option<Vec<u8>>,
    pub(in crate::wire) manifest: Manifest,
    pub(in crate::wire) note: Option<Note>,
}

/// Reads a text of a known dialect.
pub(in crate::wire) fn decode(
    text: &str,
    dialect: Dialect,
    rules: Rules,
) -> Result<Decoded, DecodeError> {
    let mut table = Table::default();
    let mut too_large = None;
    let header = walk(text, dialect, rules, |_, path, put| {
        let change = put.map_or(Change::DeleteFile, Change::Put);
        if let Err(TooLarge) = table.push(path, change) {
            too_large.get_or_insert_with(|| path.to_owned());
        }
    })?;
    let hidden = header.hidden_directories(&table);
    for (place, directory) in header.directories.iter().enumerate() {
        let Some(path) = directory.path.as_ref().filter(|_| !hidden[place]) else {
            continue;
        };
        let change = if directory.is_deleted {
            Change::DeleteDir
        } else {
            Change::Put(Node::Dir)
        };
        if let Err(TooLarge) = table.push(path.borrowed(), change) {
            too_large.get_or_insert_with(|| path.clone());
        }
    }
    if let Some(path) = too_large {
        return Err(DecodeError::Tree(SnapshotError::TooLarge { path }));
    }
    let decoded = match dialect.kind {
        // A deletion was refused where it was read.
        Kind::Snapshot => {
            Snapshot::from_table(header.chunk_size, header.parent, table).map(Manifest::Snapshot)
        }
        Kind::Diff => Diff::from_table(header.chunk_size, header.parent, table).map(Manifest::Diff),
    };
    match decoded {
        Ok(manifest) => Ok(Decoded {
            version: header.version,
            manifest,
            note: header.note,
        }),
        Err(error) => Err(header.misfit(text, dialect, rules, error)),
    }
}

/// Hands out the entries of a snapshot in order, see [`read_in_order`](crate::wire::read_in_order).
pub(in crate::wire) fn read_in_order(
    text: &str,
    dialect: Dialect,
    take: impl FnMut(ChunkSize, PathRef<'_>, &Node) -> Option<()>,
) -> Option<ChunkSize> {
    if dialect != Dialect::new(Kind::Snapshot, Style::Relative) {
        return None;
    }
    let mut entries = InOrder::new(ChunkSize::DEFAULT, take);
    let mut directories: Option<SortedDirectories> = None;
    let header = walk(text, dialect, Rules::Strict, |before, path, put| {
        let directories = directories.get_or_insert_with(|| {
            entries.chunk_size = before.chunk_size;
            SortedDirectories::of(before.directories)
        });
        directories.hand_out(before.directories, Some(path), &mut entries);
        match put {
            Some(node) => entries.next(path, &node),
            None => entries.refuse(),
        }
    });
    let header = header.ok()?;
    let all = &header.directories;
    let mut directories = directories.unwrap_or_else(|| {
        entries.chunk_size = header.chunk_size;
        SortedDirectories::of(all)
    });
    directories.hand_out(all, None, &mut entries);
    // What was cut in another way than the files were taken for was said too late.
    let is_right = entries.is_right()
        && header.version.as_deref() == Some(dialect.version().as_bytes())
        && entries.chunk_size == header.chunk_size;
    is_right.then_some(header.chunk_size)
}

/// The places of directories in the order of their paths in a snapshot: `dirs` has another one.
struct SortedDirectories {
    places: Vec<usize>,
    handed_out: usize,
}

impl SortedDirectories {
    fn of(directories: &[Directory]) -> Self {
        let mut places: Vec<_> = (0..directories.len()).collect();
        places.sort_by(|&a, &b| utf16_order(directories[a].bytes(), directories[b].bytes()));
        Self {
            places,
            handed_out: 0,
        }
    }

    /// Hands out the directories that come before a path, or all that are left.
    fn hand_out(
        &mut self,
        directories: &[Directory],
        before: Option<PathRef<'_>>,
        entries: &mut InOrder<impl FnMut(ChunkSize, PathRef<'_>, &Node) -> Option<()>>,
    ) {
        while let Some(&place) = self.places.get(self.handed_out) {
            let directory = &directories[place];
            let is_before =
                before.is_none_or(|path| utf16_order(directory.bytes(), path.as_bytes()).is_le());
            if !is_before {
                break;
            }
            match &directory.path {
                Some(path) => entries.next(path.borrowed(), &Node::Dir),
                None => entries.refuse(),
            }
            self.handed_out += 1;
        }
    }
}

/// Everything in a text but its files.
struct Header {
    version: Option<Vec<u8>>,
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    directories: Vec<Directory>,
    note: Option<Note>,
}

impl Header {
    /// For each directory, whether it is there only for the sake of a link's target, and is, or
    /// lies below, something else.
    fn hidden_directories(&self, files: &Table) -> Vec<bool> {
        let leading = self
            .directories
            .iter()
            .filter(|found| found.leads_to_target);
        let leading: HashSet<&[u8]> = leading.map(Directory::bytes).collect();
        // Whatever is above such a directory leads to the target too, so this finds all.
        let looked_at = if leading.is_empty() { 0 } else { files.len() };
        let taken: HashSet<&[u8]> = (0..looked_at)
            .filter(|&index| !files.is_deletion(index))
            .map(|index| files.path(index).as_bytes())
            .filter(|path| leading.contains(path))
            .collect();
        let mut gone: Vec<bool> = Vec::with_capacity(self.directories.len());
        for found in &self.directories {
            let is_below = found.parent.is_some_and(|parent| gone[parent]);
            let is_gone = is_below || taken.contains(found.bytes());
            gone.push(found.leads_to_target && is_gone);
        }
        for (gone, found) in gone.iter_mut().zip(&self.directories) {
            *gone &= !found.is_deleted;
        }
        gone
    }

    /// The error for entries that do not fit together, with the last place of the one at fault.
    fn misfit(
        &self,
        text: &str,
        dialect: Dialect,
        rules: Rules,
        error: SnapshotError,
    ) -> DecodeError {
        let wanted = error.path();
        let (mut index, mut last) = (0, None);
        // It was read without an error before.
        let _ = walk(text, dialect, rules, |_, path, _| {
            if path == *wanted {
                last = Some((FILES, index));
            }
            index += 1;
        });
        let directory = self
            .directories
            .iter()
            .rposition(|found| found.path.as_ref() == Some(wanted));
        match last.or(directory.map(|place| (DIRS, place))) {
            Some((list, index)) => {
                let path = Some(wanted.as_bytes().into());
                DecodeError::Entry(EntryPlace { list, index, path }, error.into())
            }
            None => DecodeError::Tree(error),
        }
    }
}

/// Reads every entry of `files` in turn, after all of `dirs`.
fn walk(
    text: &str,
    dialect: Dialect,
    rules: Rules,
    mut take: impl FnMut(&Before<'_>, PathRef<'_>, Put),
) -> Result<Header, DecodeError> {
    let mut reader = Reader::new(text, rules);
    let mut paths = Paths::new(dialect, rules, text.len());
    let (mut algorithm, mut version, mut total_size) = (None, None, None);
    let (mut chunk_size, mut parent, mut dirs, mut files) = (None, None, None, None);
    let mut manifest = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut manifest)? {
        let start = reader.clone();
        let (field, read) = match &*key {
            b"dirs" => {
                paths.read_directories(&mut reader)?;
                (DIRS, Rules::Strict.once(&mut dirs, Ok::<_, FieldError>(())))
            }
            b"files" => {
                if dirs.is_some() {
                    let chunk_size = chunk_size.unwrap_or(ChunkSize::DEFAULT);
                    paths.read_files(&mut reader, chunk_size, &mut take)?;
                } else {
                    reader.skip()?;
                }
                let waiting = dirs.is_none().then(|| start.clone());
                (
                    FILES,
                    Rules::Strict.once(&mut files, Ok::<_, FieldError>(waiting)),
                )
            }
            b"fileChunkSizeBytes" => {
                let read = read_chunk_size(&mut reader);
                ("fileChunkSizeBytes", rules.once(&mut chunk_size, read))
            }
            b"hashAlg" => {
                let read = read_hash_algorithm(&mut reader);
                ("hashAlg", rules.once(&mut algorithm, read))
            }
            b"parentManifestHash" if dialect.style == Style::Draft && reader.is_null() => {
                reader.skip()?;
                continue;
            }
            b"parentManifestHash" => {
                let read = read_hash(&mut reader);
                ("parentManifestHash", rules.once(&mut parent, read))
            }
            b"specificationVersion" if dialect.style != Style::Draft => {
                let read = reader.string();
                (
                    "specificationVersion",
                    Rules::Strict.once(&mut version, read),
                )
            }
            b"manifestVersion" if dialect.style == Style::Draft => {
                let read = reader.string();
                ("manifestVersion", Rules::Strict.once(&mut version, read))
            }
            b"totalSize" => {
                let read = read_total_size(&mut reader, Rules::Strict);
                ("totalSize", rules.once(&mut total_size, read))
            }
            b"manifestVersion" => return Err(out_of_place("manifestVersion")),
            b"specificationVersion" => return Err(out_of_place("specificationVersion")),
            _ => {
                reader.skip()?;
                continue;
            }
        };
        if let Err(error) = read {
            let is_optional = matches!(field, "fileChunkSizeBytes" | "parentManifestHash");
            let passed = is_optional.then(|| passes_over(&mut reader, start, field, &error));
            match passed {
                Some(Ok(true)) => {}
                Some(Err(EntryError::Json(error))) => return Err(error.into()),
                _ => return Err(DecodeError::field(field, error)),
            }
        }
    }
    reader.end()?;
    let has_files = files.is_some().then_some(());
    if let Some(Some(mut waiting)) = files {
        let chunk_size = chunk_size.unwrap_or(ChunkSize::DEFAULT);
        paths.read_files(&mut waiting, chunk_size, &mut take)?;
    }
    algorithm.ok_or(DecodeError::field("hashAlg", FieldError::Missing))?;
    total_size.ok_or(DecodeError::field("totalSize", FieldError::Missing))?;
    if dialect.style == Style::Draft {
        dirs.ok_or(DecodeError::field(DIRS, FieldError::Missing))?;
        has_files.ok_or(DecodeError::field(FILES, FieldError::Missing))?;
    }
    Ok(Header {
        version: version.map(|version: std::borrow::Cow<'_, [u8]>| version.into_owned()),
        chunk_size: chunk_size.unwrap_or(ChunkSize::DEFAULT),
        parent,
        note: paths.note(),
        directories: paths.into_directories(),
    })
}

fn out_of_place(field: &'static str) -> DecodeError {
    DecodeError::field(field, FieldError::OutOfPlace("a manifest of this version"))
}

fn read_chunk_size(reader: &mut Reader<'_>) -> Result<ChunkSize, FieldError> {
    let bytes = i64::try_from(reader.integer()?).ok();
    let whole = bytes == Some(-1);
    let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
    match bytes.and_then(NonZeroU64::new) {
        _ if whole => Ok(ChunkSize::WholeFile),
        Some(bytes) => Ok(ChunkSize::Bytes(bytes)),
        None => Err(FieldError::Range("-1 or 1 to 2^63 - 1")),
    }
}
