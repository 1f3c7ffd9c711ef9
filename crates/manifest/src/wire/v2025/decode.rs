//! Reading a 2025-12 manifest.
//!
//! A link's target can lead through another link (`cur -> latest/scene`, `latest -> v2`). Writers
//! list the directories above the target all the same, so `latest` is then in `dirs` *and* in
//! `files`. Such a directory, which a link's target refers to, gives way to the file or link.
//! Any other path in both lists is an error.

use std::collections::HashSet;
use std::num::NonZeroU64;

use super::Kind;
use super::paths::{DIRS, Directory, FILES, Paths, Put};
use crate::wire::error::{DecodeError, EntryPlace, FieldError};
use crate::wire::reader::Reader;
use crate::wire::{Manifest, once, read_hash, read_hash_algorithm, read_total_size};
use crate::{Change, ChunkSize, ContentHash, Diff, ManifestPath, Node, Snapshot, SnapshotError};

pub(in crate::wire) fn decode(text: &str, kind: Kind) -> Result<Manifest, DecodeError> {
    let mut files = Vec::new();
    let found = walk(text, kind, |path, put| files.push((path, put)))?;
    let hidden = found.hidden_directories(&files);
    let directories = found.directories.iter().enumerate();
    let directories = directories.filter(|(place, _)| !hidden[*place]);
    let decoded = match kind {
        Kind::Snapshot => {
            let directories = directories.map(|(_, found)| (found.path.clone(), Node::Dir));
            // A deletion was refused where it was read.
            let files = files
                .into_iter()
                .filter_map(|(path, put)| put.map(|node| (path, node)));
            Snapshot::new(found.chunk_size, found.parent, files.chain(directories))
                .map(Manifest::Snapshot)
        }
        Kind::Diff => {
            let directories = directories.map(|(_, found)| {
                let change = if found.is_deleted {
                    Change::DeleteDir
                } else {
                    Change::Put(Node::Dir)
                };
                (found.path.clone(), change)
            });
            let files = files
                .into_iter()
                .map(|(path, put)| (path, put.map_or(Change::DeleteFile, Change::Put)));
            Diff::build(found.chunk_size, found.parent, files.chain(directories))
                .map(Manifest::Diff)
        }
    };
    decoded.map_err(|error| found.misfit(text, kind, error))
}

/// Everything but the files.
struct Found {
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    directories: Vec<Directory>,
}

impl Found {
    /// For each directory, whether it is there only for the sake of a link's target, and is, or
    /// lies below, something else.
    fn hidden_directories(&self, files: &[(ManifestPath, Put)]) -> Vec<bool> {
        let leading = self
            .directories
            .iter()
            .filter(|found| found.leads_to_target);
        let leading: HashSet<&[u8]> = leading.map(|found| found.path.as_bytes()).collect();
        // Whatever is above such a directory leads to the target too, so this finds all.
        let taken: HashSet<&[u8]> = files
            .iter()
            .filter(|(_, put)| put.is_some() && !leading.is_empty())
            .map(|(path, _)| path.as_bytes())
            .filter(|path| leading.contains(path))
            .collect();
        let mut gone: Vec<bool> = Vec::with_capacity(self.directories.len());
        for found in &self.directories {
            let is_below = found.parent.is_some_and(|parent| gone[parent]);
            let is_gone = is_below || taken.contains(found.path.as_bytes());
            gone.push(found.leads_to_target && is_gone);
        }
        for (gone, found) in gone.iter_mut().zip(&self.directories) {
            *gone &= !found.is_deleted;
        }
        gone
    }

    /// The error for entries that do not fit together, with the last place of the one at fault.
    fn misfit(&self, text: &str, kind: Kind, error: SnapshotError) -> DecodeError {
        let wanted = error.path();
        let (mut index, mut last) = (0, None);
        // It was read without an error before.
        let _ = walk(text, kind, |path, _| {
            if path == *wanted {
                last = Some((FILES, index));
            }
            index += 1;
        });
        let directory = self
            .directories
            .iter()
            .rposition(|found| found.path == *wanted);
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
    kind: Kind,
    mut take: impl FnMut(ManifestPath, Put),
) -> Result<Found, DecodeError> {
    let mut reader = Reader::new(text);
    let mut paths = Paths::new(kind, text.len());
    let (mut algorithm, mut version, mut total_size) = (None, None, None);
    let (mut chunk_size, mut parent, mut dirs, mut files) = (None, None, None, None);
    let mut manifest = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut manifest)? {
        let (field, read) = match &*key {
            b"dirs" => {
                paths.read_directories(&mut reader)?;
                (DIRS, once(&mut dirs, Ok::<_, FieldError>(())))
            }
            b"files" => {
                let start = reader.clone();
                if dirs.is_some() {
                    paths.read_files(&mut reader, &mut take)?;
                } else {
                    reader.skip()?;
                }
                let waiting = dirs.is_none().then_some(start);
                (FILES, once(&mut files, Ok::<_, FieldError>(waiting)))
            }
            b"fileChunkSizeBytes" => {
                let read = read_chunk_size(&mut reader);
                ("fileChunkSizeBytes", once(&mut chunk_size, read))
            }
            b"hashAlg" => {
                let read = read_hash_algorithm(&mut reader);
                ("hashAlg", once(&mut algorithm, read))
            }
            b"parentManifestHash" => {
                let read = read_hash(&mut reader);
                ("parentManifestHash", once(&mut parent, read))
            }
            b"specificationVersion" => {
                let read = reader.string();
                ("specificationVersion", once(&mut version, read))
            }
            b"totalSize" => {
                let read = read_total_size(&mut reader);
                ("totalSize", once(&mut total_size, read))
            }
            b"manifestVersion" => {
                let out_of_place = FieldError::OutOfPlace("a manifest of version 2025-12");
                return Err(DecodeError::field("manifestVersion", out_of_place));
            }
            _ => {
                reader.skip()?;
                continue;
            }
        };
        read.map_err(|error| DecodeError::field(field, error))?;
    }
    reader.end()?;
    if let Some(Some(mut waiting)) = files {
        paths.read_files(&mut waiting, &mut take)?;
    }
    algorithm.ok_or(DecodeError::field("hashAlg", FieldError::Missing))?;
    total_size.ok_or(DecodeError::field("totalSize", FieldError::Missing))?;
    Ok(Found {
        chunk_size: chunk_size.unwrap_or(ChunkSize::DEFAULT),
        parent,
        directories: paths.into_directories(),
    })
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
