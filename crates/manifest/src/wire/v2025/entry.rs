//! One entry of `files`, field by field.

use std::borrow::Cow;
use std::sync::Arc;

use crate::wire::error::{EntryError, FieldError};
use crate::wire::fast::Canonical;
use crate::wire::reader::Reader;
use crate::wire::{Rules, parse_hash, read_hash, read_mtime, read_size};
use crate::{Content, ContentHash, File, Mtime};

/// What an entry is called, and whether it is deleted.
#[derive(Default)]
pub(super) struct Naming<'a> {
    pub(super) name: Option<Cow<'a, [u8]>>,
    delete: Option<bool>,
    /// The name as later writers of the draft spell it.
    path: Option<Cow<'a, [u8]>>,
    /// The same of what is deleted.
    deleted: Option<bool>,
}

impl<'a> Naming<'a> {
    /// Reads the field that comes next, if it is one of these.
    pub(super) fn read(
        &mut self,
        key: &[u8],
        reader: &mut Reader<'a>,
    ) -> Option<(&'static str, Result<(), FieldError>)> {
        let rules = reader.rules();
        Some(match key {
            b"name" => ("name", rules.once(&mut self.name, reader.string())),
            b"delete" => ("delete", rules.once(&mut self.delete, reader.boolean())),
            b"path" => ("path", rules.once(&mut self.path, reader.string())),
            b"deleted" => ("deleted", rules.once(&mut self.deleted, reader.boolean())),
            _ => return None,
        })
    }

    /// Whether it is spelled as in the draft, though the manifest says that it is 2025-12.
    pub(super) fn is_path(&self) -> bool {
        self.name.is_none() && self.path.is_some()
    }

    pub(super) fn is_deleted(&self) -> bool {
        let said = if self.is_path() {
            self.deleted
        } else {
            self.delete
        };
        said == Some(true)
    }

    pub(super) fn text(&self) -> Result<&[u8], EntryError> {
        let text = self.name.as_deref().or(self.path.as_deref());
        text.ok_or(EntryError::field("name", FieldError::Missing))
    }
}

/// Where a link leads, as it is said.
pub(super) enum Target<'a> {
    /// By a name, as entries have one.
    Name(Cow<'a, [u8]>),
    /// By the text of the link itself.
    Text(Cow<'a, [u8]>),
}

/// The fields of an entry of `files`, before they make sense together.
#[derive(Default)]
pub(super) struct RawFile<'a> {
    pub(super) naming: Naming<'a>,
    pub(super) target: Option<Target<'a>>,
    hash: Option<ContentHash>,
    chunk_hashes: Option<Arc<[ContentHash]>>,
    size: Option<u64>,
    mtime: Option<Mtime>,
    runnable: Option<bool>,
}

impl<'a> RawFile<'a> {
    /// A regular file in one piece as writers of the canonical form spell it, or nothing at all.
    pub(super) fn read_canonical(reader: &mut Reader<'a>) -> Option<Self> {
        let mut text = Canonical::new(reader.rest());
        text.skip(br#"{"hash":""#)?;
        let hash = text.hash()?;
        text.skip(br#"","mtime":"#)?;
        let mtime = text.mtime()?;
        text.skip(br#","name":""#)?;
        let name = text.string()?;
        let runnable = text.skip(br#","runnable":true"#);
        text.skip(br#","size":"#)?;
        let size = text.number()?;
        text.skip(b"}")?;
        reader.advance(text.len());
        Some(Self {
            naming: Naming {
                name: Some(Cow::Borrowed(name)),
                ..Naming::default()
            },
            hash: Some(hash),
            mtime: Some(mtime),
            size: Some(size),
            runnable: runnable.map(|()| true),
            ..Self::default()
        })
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, EntryError> {
        let rules = reader.rules();
        let mut raw = Self::default();
        let mut entry = reader.open_object()?;
        while let Some(key) = reader.next_key(&mut entry)? {
            let start = reader.clone();
            let (field, read) = match &*key {
                b"hash" => ("hash", rules.once(&mut raw.hash, read_hash(reader))),
                b"mtime" => ("mtime", rules.once(&mut raw.mtime, read_mtime(reader))),
                b"size" => ("size", rules.once(&mut raw.size, read_size(reader))),
                b"runnable" => ("runnable", rules.once(&mut raw.runnable, reader.boolean())),
                b"symlink" => ("symlink", rules.once(&mut raw.target, read_target(reader))),
                // As one of the writers of the draft spelled it.
                b"symlink_target" => (
                    "symlink_target",
                    rules.once(&mut raw.target, reader.string().map(Target::Text)),
                ),
                b"chunkhashes" => {
                    let read = read_chunk_hashes(reader);
                    ("chunkhashes", rules.once(&mut raw.chunk_hashes, read))
                }
                key => match raw.naming.read(key, reader) {
                    Some(read) => read,
                    None => {
                        reader.skip()?;
                        continue;
                    }
                },
            };
            if let Err(error) = read
                && !passes_over(reader, start, field, &error)?
            {
                return Err(EntryError::field(field, error));
            }
        }
        Ok(raw)
    }

    /// Checks that nothing is said of a file's content where there is no file; leniently only that
    /// there is no hash.
    pub(super) fn refuse_content(
        &self,
        place: &'static str,
        rules: Rules,
    ) -> Result<(), EntryError> {
        refuse("hash", self.hash.is_some(), place)?;
        refuse("chunkhashes", self.chunk_hashes.is_some(), place)?;
        if rules == Rules::Lenient {
            return Ok(());
        }
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

/// Whether a field that could not be read counts as missing: leniently, if it is an optional one of
/// the wrong type, as in the reference. Then the reader stands behind it. A list of chunks is not
/// passed over: the file would look like one that nobody hashed.
pub(super) fn passes_over<'a>(
    reader: &mut Reader<'a>,
    start: Reader<'a>,
    field: &str,
    error: &FieldError,
) -> Result<bool, EntryError> {
    let is_passed = reader.rules() == Rules::Lenient
        && !matches!(field, "name" | "path" | "chunkhashes")
        && matches!(error, FieldError::Json(_));
    if is_passed {
        *reader = start;
        reader.skip()?;
    }
    Ok(is_passed)
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

/// `{"name":TARGET}`, or `{"target":TEXT}`.
fn read_target<'a>(reader: &mut Reader<'a>) -> Result<Target<'a>, FieldError> {
    let rules = reader.rules();
    let (mut name, mut text) = (None, None);
    let mut symlink = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut symlink)? {
        match &*key {
            b"name" => rules.once(&mut name, reader.string())?,
            b"target" => rules.once(&mut text, reader.string())?,
            _ => reader.skip()?,
        }
    }
    let target = name.map(Target::Name).or(text.map(Target::Text));
    let missing = EntryError::field("name", FieldError::Missing);
    target.ok_or_else(|| FieldError::Target(Box::new(missing)))
}

fn read_chunk_hashes(reader: &mut Reader<'_>) -> Result<Arc<[ContentHash]>, FieldError> {
    let mut hashes = Vec::new();
    let mut list = reader.open_array()?;
    while reader.next_item(&mut list)? {
        let index = hashes.len();
        let hash = parse_hash(&reader.string()?);
        hashes.push(hash.map_err(|source| FieldError::ChunkHash { index, source })?);
    }
    Ok(hashes.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::fast::spellings;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn a_file_that_is_read_quickly_is_what_the_general_reader_makes_of_it(
            (hash, mtime, name, size) in spellings(),
            runnable in "|,\"runnable\":(true|false|1)",
            end in "[} ,]{1,3}"
        ) {
            let text = format!(
                r#"{{"hash":"{hash}","mtime":{mtime},"name":"{name}"{runnable},"size":{size}{end}"#
            );
            for rules in [Rules::Strict, Rules::Lenient] {
                let mut quick = Reader::new(&text, rules);
                let mut general = quick.clone();
                if let Some(raw) = RawFile::read_canonical(&mut quick) {
                    let read = RawFile::read(&mut general).unwrap();
                    prop_assert!(!raw.naming.is_deleted() && raw.target.is_none());
                    prop_assert!(!read.naming.is_deleted() && read.target.is_none());
                    prop_assert_eq!(&raw.naming.name, &read.naming.name);
                    prop_assert_eq!(raw.into_file(), read.into_file());
                    prop_assert_eq!(quick.rest(), general.rest());
                }
            }
        }
    }
}
