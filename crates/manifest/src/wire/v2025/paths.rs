//! Names to paths: `$N/name` is a name in directory N.

use std::borrow::Cow;

use super::entry::{Naming, RawFile, Target, passes_over, refuse};
use super::{Dialect, Kind, Style};
use crate::path::{PathRef, check_length, check_name, check_path, is_drive};
use crate::wire::error::{DecodeError, EntryError, EntryPlace, FieldError, Note};
use crate::wire::reader::Reader;
use crate::wire::{Rules, peek_string};
use crate::{ChunkSize, LinkTarget, ManifestPath, Node, PathError};

pub(super) const DIRS: &str = "dirs";
pub(super) const FILES: &str = "files";

/// An entry of `files`: what is put, or nothing for a deletion.
pub(super) type Put = Option<Node>;

/// An entry of `dirs`.
pub(super) struct Directory {
    /// `None` is the root of an absolute manifest, which needs no entry.
    pub(super) path: Option<ManifestPath>,
    /// The place of the directory that holds it, before its own.
    pub(super) parent: Option<usize>,
    pub(super) is_deleted: bool,
    /// Whether the target of a link lies below it.
    pub(super) leads_to_target: bool,
}

impl Directory {
    /// The path; empty for the root.
    pub(super) fn bytes(&self) -> &[u8] {
        self.path.as_ref().map_or(b"", ManifestPath::as_bytes)
    }
}

/// What was read before the files.
pub(super) struct Before<'a> {
    pub(super) directories: &'a [Directory],
    pub(super) chunk_size: ChunkSize,
}

/// The directories read so far, and what they make of names.
pub(super) struct Paths {
    dialect: Dialect,
    rules: Rules,
    directories: Vec<Directory>,
    /// How many bytes of paths may still come.
    left: usize,
    /// In an absolute manifest: whether its paths are those of a drive, as soon as that is known.
    on_drive: Option<bool>,
    /// The path that was put together last.
    path: Vec<u8>,
}

impl Paths {
    /// A few bytes, `$9/a`, can stand for a path of 4095: all paths together may be 16 times as long
    /// as the text, and 64 MiB in any case. Real manifests stay below twice.
    pub(super) fn new(dialect: Dialect, rules: Rules, text_len: usize) -> Self {
        Self {
            dialect,
            rules,
            directories: Vec::new(),
            left: text_len.saturating_mul(16).saturating_add(64 << 20),
            on_drive: None,
            path: Vec::new(),
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
        chunk_size: ChunkSize,
        mut take: impl FnMut(&Before<'_>, PathRef<'_>, Put),
    ) -> Result<(), DecodeError> {
        let list = reader.open_array();
        let mut list = list.map_err(|error| DecodeError::field(FILES, error))?;
        let mut index = 0;
        while reader.next_item(&mut list)? {
            let start = reader.clone();
            let raw = match RawFile::read_canonical(reader) {
                Some(raw) => Ok(raw),
                None => RawFile::read(reader),
            };
            let put = raw
                .and_then(|raw| self.resolve_file(raw))
                .map_err(|error| self.misread(FILES, index, start, error))?;
            let before = Before {
                directories: &self.directories,
                chunk_size,
            };
            take(&before, PathRef::from_checked(&self.path), put);
            index += 1;
        }
        Ok(())
    }

    /// What was ignored.
    pub(super) fn note(&self) -> Option<Note> {
        let index = self
            .directories
            .iter()
            .position(|found| found.path.is_none())?;
        Some(Note::RootEntry(EntryPlace {
            list: DIRS,
            index,
            path: Some(b"/".as_slice().into()),
        }))
    }

    pub(super) fn into_directories(self) -> Vec<Directory> {
        self.directories
    }

    fn misread(
        &mut self,
        list: &'static str,
        index: usize,
        start: Reader<'_>,
        error: EntryError,
    ) -> DecodeError {
        let name = peek_string(start.clone(), b"name");
        let name = name.or_else(|| peek_string(start, b"path"));
        let path = name.map(|name| match self.find(&name, false) {
            Ok(_) => self.path.as_slice().into(),
            Err(_) => name.into(),
        });
        DecodeError::Entry(EntryPlace { list, index, path }, error)
    }

    fn read_directory(&mut self, reader: &mut Reader<'_>) -> Result<Directory, EntryError> {
        let mut naming = Naming::default();
        let mut entry = reader.open_object()?;
        while let Some(key) = reader.next_key(&mut entry)? {
            let start = reader.clone();
            let Some((field, read)) = naming.read(&key, reader) else {
                reader.skip()?;
                continue;
            };
            if let Err(error) = read
                && !passes_over(reader, start, field, &error)?
            {
                return Err(EntryError::field(field, error));
            }
        }
        let is_deleted = naming.is_deleted();
        if is_deleted && self.dialect.kind == Kind::Snapshot {
            return Err(EntryError::DeleteInSnapshot);
        }
        let name = naming.text()?;
        let has_root = || self.directories.iter().any(|found| found.path.is_none());
        if name == b"/" && self.dialect.style == Style::Absolute && !has_root() {
            if is_deleted {
                return Err(EntryError::RootDeleted);
            }
            return Ok(Directory {
                path: None,
                parent: None,
                is_deleted: false,
                leads_to_target: false,
            });
        }
        let parent = self.resolve(name, naming.is_path())?;
        Ok(Directory {
            path: Some(PathRef::from_checked(&self.path).to_owned()),
            parent,
            is_deleted,
            leads_to_target: false,
        })
    }

    /// What an entry puts at [`Paths::path`].
    fn resolve_file(&mut self, raw: RawFile<'_>) -> Result<Put, EntryError> {
        let (name, whole) = (raw.naming.text()?, raw.naming.is_path());
        if raw.naming.is_deleted() {
            if self.dialect.kind == Kind::Snapshot {
                return Err(EntryError::DeleteInSnapshot);
            }
            raw.refuse_content("a deletion", Rules::Strict)?;
            refuse("symlink", raw.target.is_some(), "a deletion")?;
            self.resolve(name, whole)?;
            return Ok(None);
        }
        let Some(target) = &raw.target else {
            self.resolve(name, whole)?;
            return Ok(Some(Node::File(raw.into_file()?)));
        };
        raw.refuse_content("a symbolic link", self.rules)?;
        let in_target = |error| EntryError::field("symlink", FieldError::Target(Box::new(error)));
        let is_draft = whole || self.dialect.style == Style::Draft;
        let target = match target {
            Target::Name(text) | Target::Text(text) if is_draft => {
                self.resolve(name, whole)?;
                return Ok(Some(Node::Symlink(
                    self.resolve_text(text).map_err(in_target)?,
                )));
            }
            Target::Name(target) => self.resolve_target(target).map_err(in_target)?,
            Target::Text(_) => {
                return Err(in_target(EntryError::field("name", FieldError::Missing)));
            }
        };
        self.resolve(name, whole)?;
        Ok(Some(Node::Symlink(target)))
    }

    /// Where the text of the link at [`Paths::path`] leads. Writers of the draft put `$N/` for directories that
    /// they list into the text too.
    fn resolve_text(&self, text: &[u8]) -> Result<LinkTarget, EntryError> {
        let mut full = Cow::Borrowed(text);
        if let Some(rest) = text.strip_prefix(b"$")
            && let Some(slash) = rest.iter().position(|&byte| byte == b'/')
        {
            let directory = &self.directories[self.index(&rest[..slash])?];
            let root = match self.dialect.style {
                Style::Absolute => &b"/"[..],
                Style::Relative | Style::Draft => b"",
            };
            full = Cow::Owned([root, directory.bytes(), &rest[slash..]].concat());
        }
        if let (Style::Absolute, Some(below)) = (self.dialect.style, full.strip_prefix(b"/")) {
            return Ok(match below {
                b"" => LinkTarget::Root,
                below => LinkTarget::Below(ManifestPath::new(below)?),
            });
        }
        let link = PathRef::from_checked(&self.path).to_owned();
        LinkTarget::resolve(&link, &full).ok_or(EntryError::LeadsOut)
    }

    fn resolve_target(&mut self, target: &[u8]) -> Result<LinkTarget, EntryError> {
        match (target, self.dialect.style) {
            (b".", Style::Relative | Style::Draft) | (b"/", Style::Absolute) => {
                return Ok(LinkTarget::Root);
            }
            _ => {}
        }
        let mut directory = self.resolve(target, false)?;
        while let Some(place) = directory {
            let above = &mut self.directories[place];
            if std::mem::replace(&mut above.leads_to_target, true) {
                break;
            }
            directory = above.parent;
        }
        let target = PathRef::from_checked(&self.path).to_owned();
        Ok(LinkTarget::Below(target))
    }

    /// Makes [`Paths::path`] the path that a name stands for, and gives the place of the directory it
    /// refers to. In the draft, and where it says so, a name may spell its whole path.
    fn resolve(&mut self, name: &[u8], whole: bool) -> Result<Option<usize>, EntryError> {
        let directory = self.find(name, whole)?;
        self.left = self
            .left
            .checked_sub(self.path.len())
            .ok_or(EntryError::TooMuchText)?;
        Ok(directory)
    }

    fn find(&mut self, name: &[u8], whole: bool) -> Result<Option<usize>, EntryError> {
        let whole = whole || self.dialect.style == Style::Draft;
        let slash = name.iter().position(|&byte| byte == b'/');
        let (before, after) = match slash {
            None => (None, name),
            Some(slash) => (Some(&name[..slash]), &name[slash + 1..]),
        };
        match (before, self.dialect.style) {
            (None, Style::Relative | Style::Draft) => self.at_root(name),
            (None, Style::Absolute) if is_drive(name) => self.at_absolute_root(name, true, whole),
            (None, Style::Absolute) => Err(EntryError::Style("absolute")),
            (Some(b""), Style::Absolute) => self.at_absolute_root(after, false, whole),
            (Some(b""), Style::Relative | Style::Draft) => Err(PathError::Absolute.into()),
            (Some(reference), style) => match (reference.strip_prefix(b"$"), style) {
                (Some(number), _) => self.in_directory(number, after),
                (None, Style::Relative | Style::Draft) if whole => self.at_root(name),
                (None, Style::Absolute) if whole && is_drive(reference) => {
                    self.at_absolute_root(name, true, whole)
                }
                (None, _) => Err(EntryError::NotAReference),
            },
        }
    }

    fn at_root(&mut self, path: &[u8]) -> Result<Option<usize>, EntryError> {
        let path = self.rules.path(path)?;
        self.path.clear();
        self.path.extend_from_slice(&path);
        Ok(None)
    }

    fn at_absolute_root(
        &mut self,
        name: &[u8],
        on_drive: bool,
        whole: bool,
    ) -> Result<Option<usize>, EntryError> {
        let first = name.split(|&byte| byte == b'/').next().unwrap_or(name);
        // "/C:" would be held like the drive, and written as it.
        if *self.on_drive.get_or_insert(on_drive) != on_drive || is_drive(first) != on_drive {
            return Err(EntryError::TwoRoots);
        }
        if name.contains(&b'/') && self.rules == Rules::Strict && !whole {
            return Err(EntryError::NotAReference);
        }
        self.at_root(name)
    }

    /// The place of the directory that a reference says.
    fn index(&self, number: &[u8]) -> Result<usize, EntryError> {
        let place = place(number, self.rules).ok_or(EntryError::BadReference)?;
        let index = usize::try_from(place).ok();
        index
            .filter(|&index| index < self.directories.len())
            .ok_or(EntryError::NoSuchDirectory(place))
    }

    fn in_directory(&mut self, number: &[u8], name: &[u8]) -> Result<Option<usize>, EntryError> {
        let index = self.index(number)?;
        let Some(directory) = &self.directories[index].path else {
            // What is in the root is spelled "/name".
            return match self.rules {
                Rules::Strict => Err(EntryError::NoSuchDirectory(index as u64)),
                Rules::Lenient => self.at_absolute_root(name, false, false),
            };
        };
        self.path.clear();
        self.path.extend_from_slice(directory.as_bytes());
        self.path.push(b'/');
        match self.rules {
            Rules::Strict => check_name(name)?,
            Rules::Lenient => {}
        }
        self.path.extend_from_slice(name);
        match (check_length(&self.path), self.rules) {
            (checked, Rules::Strict) => checked?,
            (_, Rules::Lenient) => {
                let path = self.rules.path(&self.path)?.into_owned();
                self.path = path;
            }
        }
        debug_assert_eq!(check_path(&self.path), Ok(()));
        Ok(Some(index))
    }
}

/// The place in `dirs` that a reference says: decimal digits without a sign or leading zeros, which are
/// passed over leniently.
fn place(digits: &[u8], rules: Rules) -> Option<u64> {
    let is_plain =
        digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    let text = std::str::from_utf8(digits).ok();
    let text = text.filter(|_| is_plain || rules == Rules::Lenient)?;
    text.parse().ok()
}
