//! A platform that has no mounts yet: it mounts nothing and says so, and it finds no mounts.

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_vfs::FileSystem;

use super::MountOptions;
use super::error::MountError;
use super::mountinfo::MountEntry;
use super::place::Place;
use super::unmount::{Refusal, Unmount};

/// A connection to a kernel: there is none.
#[derive(Debug)]
pub(super) struct Connection<F>(Infallible, PhantomData<F>);

impl<F> Connection<F> {
    pub(super) fn serve(self) -> io::Result<()> {
        match self.0 {}
    }
}

pub(super) fn supported() -> Result<(), MountError> {
    Err(MountError::NotHere)
}

pub(super) fn connect<F: FileSystem>(
    _fs: Arc<F>,
    _options: &MountOptions,
) -> Result<(Connection<F>, MountEntry), MountError> {
    Err(MountError::NotHere)
}

pub(super) fn give_up(_path: &Path) {}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, MountError::NotHere)
}

pub(super) fn first_answer(_entry: &MountEntry) -> io::Result<()> {
    Err(unsupported())
}

/// Nobody answers.
pub(super) fn ask(_mount_point: &Path) {}

pub(super) fn unmount(_path: &Path, _how: Unmount) -> Result<(), Refusal> {
    Err(Refusal::Io(unsupported()))
}

pub(super) fn cut_off(_entry: &MountEntry) -> Result<bool, Refusal> {
    Err(Refusal::Io(unsupported()))
}

pub(super) fn abort_connection(_entry: &MountEntry) -> bool {
    false
}

pub(super) fn is_own(_entry: &MountEntry) -> bool {
    false
}

/// Links on the way are followed; what is missing is taken as it is written.
pub(super) fn place_of(given: &Path) -> io::Result<Place> {
    let given = std::path::absolute(given)?;
    let (there, real) = given
        .ancestors()
        .find_map(|above| Some((above, above.canonicalize().ok()?)))
        .unwrap_or((&given, given.clone()));
    let below = given.strip_prefix(there).unwrap_or(Path::new(""));
    let mut path = as_people_write_it(real);
    path.extend(below.components());
    Ok(Place { path, mount: None })
}

/// `C:\a` for `\\?\C:\a`, which is what the system makes of it.
fn as_people_write_it(path: PathBuf) -> PathBuf {
    let plain = path.to_str().and_then(|text| text.strip_prefix(r"\\?\"));
    match plain {
        Some(plain) if plain.as_bytes().get(1) == Some(&b':') => plain.into(),
        _ => path,
    }
}
