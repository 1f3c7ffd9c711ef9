//! One entry of `files`, field by field.

use std::borrow::Cow;

use crate::wire::error::{EntryError, FieldError};
use crate::wire::reader::Reader;
use crate::wire::{once, parse_hash, read_hash, read_mtime, read_size};
use crate::{Content, ContentHash, File, Mtime};

/// The fields of an entry of `files`, before they make sense together.
#[derive(Default)]
pub(super) struct RawFile<'a> {
    pub(super) name: Option<Cow<'a, [u8]>>,
    pub(super) delete: Option<bool>,
    pub(super) target: Option<Cow<'a, [u8]>>,
    hash: Option<ContentHash>,
    chunk_hashes: Option<Box<[ContentHash]>>,
    size: Option<u64>,
    mtime: Option<Mtime>,
    runnable: Option<bool>,
}

impl<'a> RawFile<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, EntryError> {
        let mut raw = Self::default();
        let mut entry = reader.open_object()?;
        while let Some(key) = reader.next_key(&mut entry)? {
            let (field, read) = match &*key {
                b"name" => ("name", once(&mut raw.name, reader.string())),
                b"hash" => ("hash", once(&mut raw.hash, read_hash(reader))),
                b"mtime" => ("mtime", once(&mut raw.mtime, read_mtime(reader))),
                b"size" => ("size", once(&mut raw.size, read_size(reader))),
                b"runnable" => ("runnable", once(&mut raw.runnable, reader.boolean())),
                b"delete" => ("delete", once(&mut raw.delete, reader.boolean())),
                b"symlink" => ("symlink", once(&mut raw.target, read_target(reader))),
                b"chunkhashes" => {
                    let read = read_chunk_hashes(reader);
                    ("chunkhashes", once(&mut raw.chunk_hashes, read))
                }
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            read.map_err(|error| EntryError::field(field, error))?;
        }
        Ok(raw)
    }

    /// Checks that nothing is said of a file's content where there is no file.
    pub(super) fn refuse_content(&self, place: &'static str) -> Result<(), EntryError> {
        refuse("hash", self.hash.is_some(), place)?;
        refuse("chunkhashes", self.chunk_hashes.is_some(), place)?;
        refuse("size", self.size.is_some(), place)?;
        refuse("mtime", self.mtime.is_some(), place)?;
        refuse("runnable", self.runnable.is_some(), place)
    }

    pub(super) fn into_file(self) -> Result<File, EntryError> {
        let missing = |field| EntryError::field(field, FieldError::Missing);
        let content = match (self.hash, self.chunk_hashes) {
            (Some(_), Some(_)) => {
                let out_of_place = FieldError::OutOfPlace("an entry that has \"hash\" too");
                return Err(EntryError::field("chunkhashes", out_of_place));
            }
            (Some(hash), None) => Content::Whole(hash),
            (None, Some(hashes)) => Content::Chunks(hashes),
            (None, None) => Content::Unhashed,
        };
        Ok(File {
            size: self.size.ok_or_else(|| missing("size"))?,
            mtime: self.mtime.ok_or_else(|| missing("mtime"))?,
            runnable: self.runnable == Some(true),
            content,
        })
    }
}

/// Checks that a field is not there.
pub(super) fn refuse(
    field: &'static str,
    is_there: bool,
    place: &'static str,
) -> Result<(), EntryError> {
    if is_there {
        return Err(EntryError::field(field, FieldError::OutOfPlace(place)));
    }
    Ok(())
}

/// `{"name":TARGET}`.
fn read_target<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, FieldError> {
    let mut name = None;
    let mut symlink = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut symlink)? {
        match &*key {
            b"name" => once(&mut name, reader.string())?,
            _ => reader.skip()?,
        }
    }
    let missing = EntryError::field("name", FieldError::Missing);
    name.ok_or_else(|| FieldError::Target(Box::new(missing)))
}

fn read_chunk_hashes(reader: &mut Reader<'_>) -> Result<Box<[ContentHash]>, FieldError> {
    let mut hashes = Vec::new();
    let mut list = reader.open_array()?;
    while reader.next_item(&mut list)? {
        let index = hashes.len();
        let hash = parse_hash(&reader.string()?);
        hashes.push(hash.map_err(|source| FieldError::ChunkHash { index, source })?);
    }
    Ok(hashes.into())
}
