//! Objects as files: which file a key is, opening it, and putting one there in one step.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::headers::ObjectHeaders;
use crate::spare::{Room, Spare};

/// How the names begin of files that are being received. No key has a component that begins so.
pub(crate) const STAGED: &str = ".fast-s3.";

/// The directory of all buckets.
#[derive(Debug)]
pub(crate) struct Objects {
    root: PathBuf,
    next: AtomicU64,
    spare: Spare,
    /// Held while a condition on what is there is checked and the object is replaced.
    replacing: Mutex<()>,
}

/// Where an object is or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

/// An object that was found.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) file: File,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    pub(crate) etag: String,
    pub(crate) headers: ObjectHeaders,
}

/// What a client knows of what is there, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition<'a> {
    Any,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Is(&'a str),
}

/// What came of putting an object there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Done {
        etag: String,
    },
    /// The condition does not hold; nothing was changed.
    Refused,
}

impl Objects {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            next: AtomicU64::new(0),
            spare: Spare::default(),
            replacing: Mutex::default(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The bucket's directory, if the name can be one's.
    pub(crate) fn bucket(&self, name: &str) -> Option<PathBuf> {
        let is_name = is_component(name) && !name.contains('/');
        Some(self.root.join(name)).filter(|dir| is_name && dir.is_dir())
    }

    /// Nothing if no file can have this key: an empty component, `.` or `..`, one that is too long.
    pub(crate) fn place(&self, bucket: &str, key: &str) -> Option<Place> {
        let fits = is_component(bucket) && key.split('/').all(is_component);
        fits.then(|| Place(self.root.join(bucket).join(key)))
    }

    /// Deletes what is below a prefix; its files are written over by later objects. Whether there was anything.
    pub(crate) fn recycle(&self, bucket: &str, prefix: &str) -> io::Result<bool> {
        let Some(Place(dir)) = self.place(bucket, prefix).filter(|Place(dir)| dir.is_dir()) else {
            return Ok(false);
        };
        self.spare.take(&self.root, &dir)?;
        Ok(true)
    }

    /// A new file beside the place, whose directories are made.
    pub(crate) fn stage(&self, place: &Place) -> io::Result<Staged> {
        self.staged(place, None)
    }

    /// The same, or a spare one that holds other bytes.
    pub(crate) fn stage_over(&self, place: &Place, room: Room) -> io::Result<Staged> {
        self.staged(place, self.spare.give(room))
    }

    fn staged(&self, place: &Place, spare: Option<PathBuf>) -> io::Result<Staged> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = place.0.with_file_name(format!("{STAGED}{number}"));
        let open = || {
            if let Some(spare) = &spare {
                fs::rename(spare, &path)?;
            }
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(spare.is_none())
                .open(&path)
        };
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                place.0.parent().map_or(Ok(()), fs::create_dir_all)?;
                open()?
            }
            opened => opened?,
        };
        if spare.is_some() {
            ObjectHeaders::detach(&file)?;
        }
        Ok(Staged {
            file,
            path,
            is_published: AtomicBool::new(false),
        })
    }

    /// Makes a staged file the object, if the condition holds.
    pub(crate) fn publish(
        &self,
        staged: &Staged,
        place: &Place,
        headers: &ObjectHeaders,
        condition: Condition<'_>,
    ) -> io::Result<Published> {
        headers.attach(&staged.file)?;
        let etag = etag(&staged.file.metadata()?);
        match condition {
            Condition::Any => fs::rename(&staged.path, &place.0)?,
            Condition::Absent => {
                match renameat_with(CWD, &staged.path, CWD, &place.0, RenameFlags::NOREPLACE) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => return Ok(Published::Refused),
                    Err(error) => return Err(error.into()),
                }
            }
            Condition::Is(expected) => {
                let _replacing = self.replacing.lock();
                let found = place.open()?;
                if found.is_none_or(|found| found.etag != expected) {
                    return Ok(Published::Refused);
                }
                fs::rename(&staged.path, &place.0)?;
            }
        }
        staged.is_published.store(true, Ordering::Release);
        Ok(Published::Done { etag })
    }
}

impl Place {
    /// Nothing if there is no such object.
    pub(crate) fn open(&self) -> io::Result<Option<Object>> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(None);
        }
        let headers = ObjectHeaders::of_file(&file)?;
        Ok(Some(Object {
            size: found.len(),
            modified: found.mtime(),
            etag: etag(&found),
            file,
            headers,
        }))
    }

    /// Whether it was there.
    pub(crate) fn delete(&self) -> io::Result<bool> {
        match fs::remove_file(&self.0) {
            Ok(()) => Ok(true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A file that is being received; deleted when dropped unless it became an object.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) file: File,
    path: PathBuf,
    is_published: AtomicBool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_published.load(Ordering::Acquire) {
            // A file that stays is left out of lists.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_component(name: &str) -> bool {
    const LONGEST: usize = 255;
    !matches!(name, "" | "." | "..")
        && name.len() <= LONGEST
        && !name.contains('\0')
        && !name.starts_with(STAGED)
}

fn is_absence(error: &io::Error) -> bool {
    let absence = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    // A directory is there because of other keys.
    absence.contains(&error.kind()) || error.kind() == io::ErrorKind::IsADirectory
}

/// Of one file with these bytes: a file that replaces it has another inode, because both are there for a moment. Without the quotes.
pub(crate) fn etag(of: &fs::Metadata) -> String {
    let (seconds, nanoseconds) = (of.mtime(), of.mtime_nsec());
    format!("{:x}-{seconds:x}{nanoseconds:08x}-{:x}", of.ino(), of.len())
}
