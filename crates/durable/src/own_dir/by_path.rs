//! Files of this user's own by their paths: the directory is opened for each.

use std::fs::File;
use std::io;
use std::path::Path;

use super::OwnDir;
use crate::DurableError;
use crate::dir::parent_of;
use crate::error::At as _;

/// Creates a file (0600), open for reading and writing, in a directory of this user's own. Fails if
/// anything has the name.
pub fn create_own_file(path: &Path) -> Result<File, DurableError> {
    let (dir, name) = split(path)?;
    dir.create_file(&name)
}

/// Opens a file that is this user's alone, in a directory of this user's own, for reading and writing.
pub fn open_own_file(path: &Path) -> Result<File, DurableError> {
    let (dir, name) = split(path)?;
    dir.open_file_to_write(&name)
}

/// Opens a file that is this user's alone, in a directory of this user's own, for reading.
pub fn open_own_file_to_read(path: &Path) -> Result<File, DurableError> {
    let (dir, name) = split(path)?;
    dir.open_file(&name)
}

/// The content of a file that is this user's alone, in a directory of this user's own.
pub fn read_own_file(path: &Path) -> Result<Vec<u8>, DurableError> {
    let (dir, name) = split(path)?;
    dir.read(&name)
}

/// Writes a whole file (0600) durably in a directory of this user's own, replacing what had the name.
pub fn publish_own_file(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let (dir, name) = split(path)?;
    dir.publish(&name, bytes)
}

fn split(path: &Path) -> Result<(OwnDir, String), DurableError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename));
    let name = name.at("open", path)?.to_owned();
    Ok((OwnDir::open(parent_of(path))?, name))
}
