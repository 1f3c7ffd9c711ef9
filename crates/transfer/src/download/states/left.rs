//! Files under made-up names that no process has any more.

use std::io;

use attachfs_durable::{Facts, HeldDir, Kind};
use attachfs_manifest::ContentHash;

use super::staged::{is_in_use, lock_left};
use super::waiting::mark_key;
use crate::download::names::key_of_part;

/// The names and keys of what interrupted runs left in a directory and nobody uses. Blocks.
pub(in crate::download) fn left_in(dir: &HeldDir) -> io::Result<Vec<(ContentHash, Vec<u8>)>> {
    let parts = || -> io::Result<Vec<_>> {
        let names = dir.names()?.into_iter();
        Ok(names
            .filter_map(|name| Some((key_of_part(&name)?, name)))
            .collect())
    };
    let mut left = parts()?;
    left.retain(|(_, name)| !is_in_use(dir, name));
    if left.is_empty() {
        return Ok(left);
    }
    // Looked for after that: who puts something by marks the directory first.
    let is_marked = parts()?
        .iter()
        .any(|(key, name)| *key == mark_key() && is_in_use(dir, name));
    if is_marked {
        left.clear();
    }
    Ok(left)
}

/// The room that a file which an interrupted run left has already, if it can be gone on with; at most
/// `most` bytes.
pub(in crate::download) fn room_of_left(dir: &HeldDir, name: &[u8], most: u64) -> Option<u64> {
    let file = lock_left(dir, name).ok().flatten()?;
    Some(Facts::of(&file).ok()?.allocated.min(most))
}

/// Removes what an interrupted run left, if nobody uses it: a file, or a link or an empty directory that
/// did not get its name.
pub(in crate::download) fn remove_left(dir: &HeldDir, name: &[u8]) -> io::Result<()> {
    let Some(facts) = dir.look(name)? else {
        return Ok(());
    };
    let is_ours = dir.is_mine(name)?;
    match facts.kind {
        Kind::Link if is_ours => dir.remove_file(name),
        Kind::Dir if is_ours => dir.remove_dir(name),
        Kind::File => match lock_left(dir, name)? {
            Some(_locked) => dir.remove_file(name),
            None => Ok(()),
        },
        Kind::Link | Kind::Dir | Kind::Other => Ok(()),
    }
}
