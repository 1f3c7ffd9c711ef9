//! Large objects, which come in units: a data file with holes, and a file beside it about the units.
//!
//! ```text
//!     <hash>.part    the bytes that are there, at their place; the rest is a hole     until all of it is right
//!     <hash>         the same file, afterwards
//!     <hash>.units   what is known of its units; what is in it its writer knows
//! ```
//!
//! The bytes of a chunk may lie in a joined file instead (`joined.rs`).
//!
//! Whoever has the two open has a shared lock on both, so they are not removed to make room. Both appear empty
//! under their names and are never replaced by other bytes in place: an object of which the store has another
//! version begins with two new files.

use std::fs::{File, TryLockError};
use std::io;

use super::incoming::{Incoming, StagedIn};
use super::joined::Place;
use super::objects::{check_is, names};
use super::stock::touch;
use super::{CacheDirError, HashBytes, ObjectFiles, ObjectWriter};
use crate::error::At as _;
use crate::own::Wanted;
use crate::steps::Step;
use crate::{DurableError, Facts, FileStamp, OwnDir, platform, write_all_at};

pub(super) const PART: &str = ".part";
pub(super) const UNITS: &str = ".units";

/// Whether all of a large object is there and was found right once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargeForm {
    /// Some of it is there.
    Part,
    /// It has its own name.
    Whole,
}

/// The two files of a large object, open for reading and writing.
#[derive(Debug)]
pub struct LargeFiles {
    /// The object's bytes.
    pub data: File,
    /// About its units.
    pub units: File,
    /// The joined file that its bytes lie in, if they do.
    pub joined: Option<InJoined>,
}

/// A chunk in a joined file.
#[derive(Debug)]
pub struct InJoined {
    /// Where in which one.
    pub place: Place,
    /// The file about that one.
    pub about: File,
}

impl LargeFiles {
    /// Where the object's bytes begin in the data file.
    pub fn at(&self) -> u64 {
        self.joined.as_ref().map_or(0, |joined| joined.place.at)
    }

    /// How many bytes of the data file are the object's. Blocks.
    pub fn data_len(&self) -> io::Result<u64> {
        match &self.joined {
            Some(joined) => Ok(joined.place.len),
            None => Ok(self.data.metadata()?.len()),
        }
    }

    /// The file about the data file: about its units, or about the chunks in it.
    pub fn about_data(&self) -> &File {
        self.joined
            .as_ref()
            .map_or(&self.units, |joined| &joined.about)
    }
}

impl ObjectFiles {
    /// Opens the files of a large object, if they are there. They are not removed to make room as long as they are
    /// open, and do not count as used by that. Blocks.
    pub fn open_large(&self, object: HashBytes) -> io::Result<Option<(LargeFiles, LargeForm)>> {
        let Some(shelf) = found(self.shelf(object).map(Some))? else {
            return Ok(None);
        };
        let name = names(object).1;
        let open = |ending: &str| found(open_in_use(&shelf, &format!("{name}{ending}")));
        let Some(units) = open(UNITS)? else {
            return Ok(None);
        };
        // First, so that nobody keeps a file of its own open which is to go.
        if let Some((place, joined)) = self.in_joined(object, &units)? {
            let files = LargeFiles {
                data: joined.data,
                units,
                joined: Some(InJoined {
                    place,
                    about: joined.about,
                }),
            };
            return Ok(Some((files, LargeForm::Whole)));
        }
        for (ending, form) in [("", LargeForm::Whole), (PART, LargeForm::Part)] {
            if let Some(data) = open(ending)? {
                let files = LargeFiles {
                    data,
                    units,
                    joined: None,
                };
                return Ok(Some((files, form)));
            }
        }
        Ok(None)
    }

    /// Opens the file of an object for reading, and the one about its units if there is one. Not to be removed from then
    /// on, as long as the first is open. That counts as use, which may change the times of the first: its stamp is from
    /// before that. Blocks.
    pub fn open_whole(
        &self,
        object: HashBytes,
    ) -> io::Result<Option<(File, FileStamp, Option<File>)>> {
        let (shelf, name) = (self.shelf(object)?, names(object).1);
        let data = shelf.open_file(&name)?;
        if !stays(&data)? {
            return Ok(None);
        }
        let units = match shelf.open_file(&format!("{name}{UNITS}")) {
            Ok(units) => Some(units),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let before = Facts::of(&data)?;
        match &units {
            Some(units) => touch(units, &Facts::of(units)?)?,
            None => touch(&data, &before)?,
        }
        Ok(Some((data, before.stamp, units)))
    }

    /// Whether these are the files that the names of the object lead to.
    pub fn is_in_place(&self, object: HashBytes, files: &LargeFiles, form: LargeForm) -> bool {
        let name = names(object).1;
        let data = match form {
            LargeForm::Part => format!("{name}{PART}"),
            LargeForm::Whole => name.clone(),
        };
        self.shelf(object).is_ok_and(|shelf| {
            files.joined.is_none()
                && is_at(&shelf, &data, &files.data)
                && is_at(&shelf, &format!("{name}{UNITS}"), &files.units)
        })
    }

    /// Gives the data file the object's own name: its bytes are what the hash says. `None` if others took its place, or
    /// something that attachfs did not make has that name.
    /// Gives the file's stamp. Blocks.
    pub fn complete_large(
        &self,
        object: HashBytes,
        files: &LargeFiles,
    ) -> io::Result<Option<FileStamp>> {
        let (shelf, name) = (self.shelf(object)?, names(object).1);
        if !self.is_in_place(object, files, LargeForm::Part)
            || check_is(&shelf, &name, Wanted::File).is_err()
        {
            return Ok(None);
        }
        shelf.rename_into(&format!("{name}{PART}"), &shelf, &name, Step::StagedRename)?;
        // Between the look and the rename another process may have put a file there. It has the wrong name now, and
        // nobody believes it without its hash; it goes all the same.
        if !is_at(&shelf, &name, &files.data) {
            shelf.remove_file(&name)?;
            return Ok(None);
        }
        Ok(Some(FileStamp::of(&files.data)?))
    }

    /// Removes the files of a large object, if they are these; with it all that lies in the same joined file. Blocks.
    pub fn remove_large(&self, object: HashBytes, files: &LargeFiles) -> io::Result<()> {
        let (shelf, name) = (self.shelf(object)?, names(object).1);
        if let Some(joined) = &files.joined {
            self.remove_joined(joined.place.joined, &files.data)?;
        }
        let data = [name.clone(), format!("{name}{PART}")];
        for data in data.iter().filter(|name| is_at(&shelf, name, &files.data)) {
            shelf.remove_file(data)?;
        }
        let units = format!("{name}{UNITS}");
        if is_at(&shelf, &units, &files.units) {
            shelf.remove_file(&units)?;
        }
        Ok(())
    }

    /// Notes that an open file of an object is used now. It is noted once in a minute. Blocks.
    pub fn use_file(&self, file: &File, facts: &Facts) -> io::Result<()> {
        touch(file, facts)
    }
}

impl ObjectWriter {
    /// Makes the files of a large object of `len` bytes, none of which is there; `units` is what the other file begins
    /// with and `units_len` its length. Other files of the object lose their names; fails if something that is no file has
    /// one. Blocks.
    pub fn create_large(
        &mut self,
        object: HashBytes,
        len: u64,
        units: &[u8],
        units_len: u64,
    ) -> Result<LargeFiles, CacheDirError> {
        let create = |incoming: &Incoming, objects: &ObjectFiles| {
            let name = names(object).1;
            let data = staged(incoming, len, &[])?;
            let side = staged(incoming, units_len, units)?;
            let shelf = objects.shelf_to_fill(object)?;
            check_is(&shelf, &name, Wanted::File)?;
            let files = LargeFiles {
                data: again(data.file(), &shelf)?,
                units: again(side.file(), &shelf)?,
                joined: None,
            };
            data.place(&shelf, &format!("{name}{PART}"))?;
            side.place(&shelf, &format!("{name}{UNITS}"))?;
            // Nobody else has the whole file any more, by which to tell whether it is right.
            shelf.remove_file(&name)?;
            for file in [&files.data, &files.units] {
                // Where there are no locks nobody asks for one.
                let _ = file.try_lock_shared();
            }
            Ok(files)
        };
        self.with_incoming(create)
    }
}

fn again(file: &File, shelf: &OwnDir) -> Result<File, DurableError> {
    file.try_clone().at("open a file for", shelf.path())
}

fn staged(incoming: &Incoming, len: u64, begin: &[u8]) -> Result<StagedIn, DurableError> {
    let staged = incoming.stage()?;
    staged.file().set_len(len).at("write", staged.path())?;
    write_all_at(staged.file(), begin, 0).at("write", staged.path())?;
    Ok(staged)
}

/// `None` for what is not there.
pub(super) fn found<T>(opened: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened,
    }
}

/// Opens a file that is not removed as long as it is open; `None` if it is being removed.
pub(super) fn open_in_use(dir: &OwnDir, name: &str) -> io::Result<Option<File>> {
    let file = dir.open_file_to_write(name)?;
    Ok(stays(&file)?.then_some(file))
}

/// Has a file not removed as long as it is open. `false` if it is being removed.
pub(super) fn stays(file: &File) -> io::Result<bool> {
    if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
        return Ok(false);
    }
    Ok(!platform::is_unlinked(file)?)
}

pub(super) fn is_at(dir: &OwnDir, name: &str, file: &File) -> bool {
    let at = dir.held().facts_at(name.as_bytes());
    at.is_ok_and(|at| FileStamp::of(file).is_ok_and(|stamp| stamp.is_same_file(&at.stamp)))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CacheDir, Completeness, Removal};

    const OBJECT: HashBytes = [7; 16];

    fn cache() -> (tempfile::TempDir, CacheDir, ObjectFiles) {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        let objects = cache.objects([1; 16]).unwrap();
        (temp, cache, objects)
    }

    #[test]
    fn a_large_object_is_a_part_until_it_is_complete() {
        let (_temp, cache, objects) = cache();
        assert!(objects.open_large(OBJECT).unwrap().is_none());
        let files = objects.writer().create_large(OBJECT, 1 << 20, b"head", 100);
        let files = files.unwrap();
        let stock = cache.stock().unwrap().unwrap();
        let (found, _) = stock.shelf(7).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].completeness, Completeness::Part);
        assert!(found[0].bytes < 100_000, "nothing of it is there");
        let (opened, form) = objects.open_large(OBJECT).unwrap().unwrap();
        assert_eq!(form, LargeForm::Part);
        assert_eq!(crate::read_range(&opened.units, 0..4).unwrap(), "head");
        let stamp = objects.complete_large(OBJECT, &files).unwrap().unwrap();
        assert_eq!(stamp, FileStamp::of(&opened.data).unwrap());
        let (_, form) = objects.open_large(OBJECT).unwrap().unwrap();
        assert_eq!(form, LargeForm::Whole);
        assert!(objects.find(OBJECT, 1 << 20).is_some());
        objects.remove_large(OBJECT, &files).unwrap();
        assert!(stock.shelf(7).unwrap().0.is_empty());
    }

    #[test]
    fn what_attachfs_did_not_make_keeps_the_name_of_a_large_object() {
        let (_temp, _, objects) = cache();
        let name = objects.path(OBJECT);
        let files = objects.writer().create_large(OBJECT, 10, b"head", 100);
        let files = files.unwrap();
        std::fs::create_dir(&name).unwrap();
        assert!(objects.complete_large(OBJECT, &files).unwrap().is_none());
        std::fs::remove_dir(&name).unwrap();
        std::os::unix::fs::symlink("elsewhere", &name).unwrap();
        assert!(objects.complete_large(OBJECT, &files).unwrap().is_none());
        let again = objects.writer().create_large(OBJECT, 10, b"head", 100);
        let Err(CacheDirError::Io(error)) = again else {
            panic!("{again:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(std::fs::read_link(&name).is_ok());
    }

    #[test]
    fn a_large_object_that_is_open_is_not_removed() {
        let (_temp, cache, objects) = cache();
        let files = objects.writer().create_large(OBJECT, 1 << 20, b"head", 100);
        let stock = cache.stock().unwrap().unwrap();
        let (found, _) = stock.shelf(7).unwrap();
        assert_eq!(stock.remove(&found[0]).unwrap(), Removal::InUse);
        drop(files);
        let (opened, _) = objects.open_large(OBJECT).unwrap().unwrap();
        assert_eq!(stock.remove(&found[0]).unwrap(), Removal::InUse);
        drop(opened);
        assert_eq!(stock.remove(&found[0]).unwrap(), Removal::Removed);
        assert!(objects.open_large(OBJECT).unwrap().is_none());
    }

    #[test]
    fn files_that_others_replaced_are_neither_completed_nor_removed() {
        let (_temp, _, objects) = cache();
        let mut writer = objects.writer();
        let old = writer.create_large(OBJECT, 10, b"old", 3).unwrap();
        let new = writer.create_large(OBJECT, 10, b"new", 3).unwrap();
        assert!(objects.complete_large(OBJECT, &old).unwrap().is_none());
        objects.remove_large(OBJECT, &old).unwrap();
        assert!(objects.is_in_place(OBJECT, &new, LargeForm::Part));
        assert!(!objects.is_in_place(OBJECT, &old, LargeForm::Part));
    }
}
