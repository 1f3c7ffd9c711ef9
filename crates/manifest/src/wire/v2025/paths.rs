//! Names to paths: `$N/name` is a name in directory N.

use super::Kind;
use super::entry::{RawFile, refuse};
use crate::wire::error::{DecodeError, EntryError, EntryPlace, FieldError};
use crate::wire::reader::Reader;
use crate::wire::{once, peek_string};
use crate::{LinkTarget, ManifestPath, Node, PathError};

pub(super) const DIRS: &str = "dirs";
pub(super) const FILES: &str = "files";

/// An entry of `files`: what is put, or nothing for a deletion.
pub(super) type Put = Option<Node>;

/// An entry of `dirs`.
pub(super) struct Directory {
    pub(super) path: ManifestPath,
    /// The place of the directory that holds it, before its own.
    pub(super) parent: Option<usize>,
    pub(super) is_deleted: bool,
    /// Whether the target of a link lies below it.
    pub(super) leads_to_target: bool,
}

/// The directories read so far, and what they make of names.
pub(super) struct Paths {
    kind: Kind,
    directories: Vec<Directory>,
    /// How many bytes of paths may still come.
    left: usize,
}

impl Paths {
    /// A few bytes, `$9/a`, can stand for a path of 4095: all paths together may be 16 times as long
    /// as the text, and 64 MiB in any case. Real manifests stay below twice.
    pub(super) fn new(kind: Kind, text_len: usize) -> Self {
        Self {
            kind,
            directories: Vec::new(),
            left: text_len.saturating_mul(16).saturating_add(64 << 20),
        }
    }

    pub(super) fn read_directories(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let list = reader.open_array();
        let mut list = list.map_err(|error| DecodeError::field(DIRS, error))?;
        while reader.next_item(&mut list)? {
            let start = reader.clone();
            let directory = self
                .read_directory(reader)
                .map_err(|error| self.misread(DIRS, self.directories.len(), start, error))?;
            self.directories.push(directory);
        }
        Ok(())
    }

    pub(super) fn read_files(
        &mut self,
        reader: &mut Reader<'_>,
        mut take: impl FnMut(ManifestPath, Put),
    ) -> Result<(), DecodeError> {
        let list = reader.open_array();
        let mut list = list.map_err(|error| DecodeError::field(FILES, error))?;
        let mut index = 0;
        while reader.next_item(&mut list)? {
            let start = reader.clone();
            let (path, put) = RawFile::read(reader)
                .and_then(|raw| self.resolve_file(raw))
                .map_err(|error| self.misread(FILES, index, start, error))?;
            take(path, put);
            index += 1;
        }
        Ok(())
    }

    pub(super) fn into_directories(self) -> Vec<Directory> {
        self.directories
    }

    fn misread(
        &self,
        list: &'static str,
        index: usize,
        start: Reader<'_>,
        error: EntryError,
    ) -> DecodeError {
        let name = peek_string(start, b"name");
        let path = name.map(|name| match self.find(&name) {
            Ok((path, _)) => path.as_bytes().into(),
            Err(_) => name.into(),
        });
        DecodeError::Entry(EntryPlace { list, index, path }, error)
    }

    fn read_directory(&mut self, reader: &mut Reader<'_>) -> Result<Directory, EntryError> {
        let (mut name, mut delete) = (None, None);
        let mut entry = reader.open_object()?;
        while let Some(key) = reader.next_key(&mut entry)? {
            let (field, read) = match &*key {
                b"name" => ("name", once(&mut name, reader.string())),
                b"delete" => ("delete", once(&mut delete, reader.boolean())),
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            read.map_err(|error| EntryError::field(field, error))?;
        }
        let name = name.ok_or(EntryError::field("name", FieldError::Missing))?;
        let is_deleted = delete == Some(true);
        if is_deleted && self.kind == Kind::Snapshot {
            return Err(EntryError::DeleteInSnapshot);
        }
        let (path, parent) = self.resolve(&name)?;
        Ok(Directory {
            path,
            parent,
            is_deleted,
            leads_to_target: false,
        })
    }

    fn resolve_file(&mut self, raw: RawFile<'_>) -> Result<(ManifestPath, Put), EntryError> {
        let name = raw.name.as_ref();
        let name = name.ok_or(EntryError::field("name", FieldError::Missing))?;
        let (path, _) = self.resolve(name)?;
        if raw.delete == Some(true) {
            if self.kind == Kind::Snapshot {
                return Err(EntryError::DeleteInSnapshot);
            }
            raw.refuse_content("a deletion")?;
            refuse("symlink", raw.target.is_some(), "a deletion")?;
            return Ok((path, None));
        }
        let Some(target) = &raw.target else {
            return Ok((path, Some(Node::File(raw.into_file()?))));
        };
        raw.refuse_content("a symbolic link")?;
        let target = self
            .resolve_target(target)
            .map_err(|error| EntryError::field("symlink", FieldError::Target(Box::new(error))))?;
        Ok((path, Some(Node::Symlink(target))))
    }

    fn resolve_target(&mut self, target: &[u8]) -> Result<LinkTarget, EntryError> {
        if target == b"." {
            return Ok(LinkTarget::Root);
        }
        let (path, mut directory) = self.resolve(target)?;
        while let Some(place) = directory {
            let above = &mut self.directories[place];
            if std::mem::replace(&mut above.leads_to_target, true) {
                break;
            }
            directory = above.parent;
        }
        Ok(LinkTarget::Below(path))
    }

    /// The path that a name stands for, and the place of the directory it refers to.
    fn resolve(&mut self, name: &[u8]) -> Result<(ManifestPath, Option<usize>), EntryError> {
        let (path, directory) = self.find(name)?;
        self.left = self
            .left
            .checked_sub(path.as_bytes().len())
            .ok_or(EntryError::TooMuchText)?;
        Ok((path, directory))
    }

    fn find(&self, name: &[u8]) -> Result<(ManifestPath, Option<usize>), EntryError> {
        let Some(slash) = name.iter().position(|&byte| byte == b'/') else {
            return Ok((ManifestPath::new(name)?, None));
        };
        let Some(number) = name[..slash].strip_prefix(b"$") else {
            return Err(match slash {
                0 => PathError::Absolute.into(),
                _ => EntryError::NotAReference,
            });
        };
        let place = plain_number(number).ok_or(EntryError::BadReference)?;
        let directory = usize::try_from(place)
            .ok()
            .and_then(|index| Some((index, self.directories.get(index)?)));
        let (index, directory) = directory.ok_or(EntryError::NoSuchDirectory(place))?;
        let path = directory.path.join_bytes(&name[slash + 1..])?;
        Ok((path, Some(index)))
    }
}

/// Decimal digits without a sign or leading zeros.
fn plain_number(digits: &[u8]) -> Option<u64> {
    let is_plain =
        digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    let text = std::str::from_utf8(digits).ok().filter(|_| is_plain)?;
    text.parse().ok()
}
