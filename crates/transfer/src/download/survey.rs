//! What is there, of all that is wanted: names and metadata, no bytes.

use std::collections::HashSet;
use std::io;

use attachfs_durable::{HeldDir, Kind, Refusal};
use attachfs_manifest::{Change, LinkTarget, ManifestPath, PathRef};

use super::leading::RootNames;
use super::leftovers::Leftovers;
use super::names::key_of_part;
use super::part::left_in;
use super::plan::{Entry, Found};
use crate::TransferError;
use crate::meter::Meter;

#[derive(Debug)]
pub(super) struct Survey {
    pub(super) entries: Vec<Entry>,
    pub(super) leftovers: Leftovers,
}

/// A directory, or what is to be said of everything in it.
enum Looked {
    Open(HeldDir),
    Not(Found),
}

/// Looks at the path of each change. Blocks.
pub(super) fn survey(
    root: &HeldDir,
    names: &RootNames,
    wanted: Vec<(ManifestPath, Change)>,
    meter: &Meter,
) -> Result<Survey, TransferError> {
    let mut entries = Vec::with_capacity(wanted.len());
    let mut listed: HashSet<Vec<u8>> = HashSet::new();
    let mut leftovers = Leftovers::default();
    let mut open: Option<(Vec<u8>, Looked)> = None;
    for (path, change) in wanted {
        meter.go_on()?;
        let parent = parent_bytes(path.borrowed());
        let looked = match &open {
            Some((dir, looked)) if dir == parent => looked,
            _ => {
                let looked = look(root, parent);
                if let Looked::Open(dir) = &looked
                    && listed.insert(parent.to_vec())
                {
                    list(dir, parent, &mut leftovers);
                }
                &open.insert((parent.to_vec(), looked)).1
            }
        };
        let found = match looked {
            Looked::Open(dir) => found(dir, &path, |text| names.destination(root, &path, text)),
            Looked::Not(found) => found.clone(),
        };
        meter.finished(|| path.to_string());
        entries.push(Entry {
            path,
            change,
            found,
        });
    }
    // A file of such a name that the manifest itself has is not one of ours.
    let theirs: HashSet<&[u8]> = entries
        .iter()
        .map(|entry| entry.path.as_bytes())
        .filter(|path| key_of_part(path.rsplit(|&b| b == b'/').next().unwrap_or(path)).is_some())
        .collect();
    leftovers.leave_out(|path| theirs.contains(path));
    Ok(Survey { entries, leftovers })
}

/// The path of the directory that holds a path; empty for the root.
pub(super) fn parent_bytes(path: PathRef<'_>) -> &[u8] {
    path.parent().map_or(b"", PathRef::as_bytes)
}

/// The path of a name in a directory; that may be empty for the root.
pub(super) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        b"" => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    }
}

fn look(root: &HeldDir, dir: &[u8]) -> Looked {
    match root.dir(dir) {
        Ok(dir) => Looked::Open(dir),
        Err(error) => match Refusal::of(&error) {
            Some(Refusal::NotThere) => Looked::Not(Found::Nothing),
            Some(Refusal::Link | Refusal::NotADirectory) => Looked::Not(barrier(root, dir)),
            _ => Looked::Not(Found::Unreachable(unreadable(&error))),
        },
    }
}

/// What stands in the way of a directory: a link, or something else that is no directory. The kernel says
/// the one or the other of a link, by where on the path it is.
fn barrier(root: &HeldDir, dir: &[u8]) -> Found {
    let slashes = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let ends = slashes.map(|(at, _)| at).chain([dir.len()]);
    for above in ends.map(|end| &dir[..end]) {
        let name_at = above.iter().rposition(|&byte| byte == b'/');
        let (holding, name) =
            name_at.map_or((&b""[..], above), |at| (&above[..at], &above[at + 1..]));
        match root.dir(holding).and_then(|holding| holding.look(name)) {
            Ok(Some(facts)) if facts.kind == Kind::Dir => {}
            Ok(Some(facts)) if facts.kind == Kind::Link => return Found::BehindLink,
            Ok(_) => break,
            Err(error) => return Found::Unreachable(unreadable(&error)),
        }
    }
    Found::InNoDirectory
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot look at what is there: {error}")
}

/// `leading` says where a link with such a text leads.
fn found(
    dir: &HeldDir,
    path: &ManifestPath,
    leading: impl FnOnce(&[u8]) -> Option<LinkTarget>,
) -> Found {
    let name = path.borrowed().name();
    let looked = dir.look(name).and_then(|facts| {
        Ok(match facts {
            None => Found::Nothing,
            Some(facts) => match facts.kind {
                Kind::Dir => Found::Dir(facts.stamp),
                Kind::File => Found::File(facts.stamp, facts.names),
                Kind::Link => Found::Link(leading(&dir.read_link(name)?), facts.stamp, facts.names),
                Kind::Other => Found::Other,
            },
        })
    });
    looked.unwrap_or_else(|error| match Refusal::of(&error) {
        // No file here can have such a name; it is reported as too long.
        Some(Refusal::NameTooLong) => Found::Nothing,
        _ => Found::Unreachable(unreadable(&error)),
    })
}

/// Adds what interrupted runs left in a directory. One that cannot be listed is used as it is.
fn list(dir: &HeldDir, path: &[u8], leftovers: &mut Leftovers) {
    match left_in(dir) {
        Ok(left) => {
            for (key, name) in left {
                leftovers.add(path, key, name);
            }
        }
        Err(error) => {
            tracing::debug!(%error, "a directory is not looked through for what was left");
        }
    }
}
