//! What is there, of all that is wanted: names and metadata, no bytes.

use std::collections::HashSet;
use std::io;

use attachfs_durable::{HeldDir, Kind, Refusal};
use attachfs_manifest::{Change, LinkTarget, ManifestPath};

use super::leading::RootNames;
use super::leftovers::Leftovers;
use super::names::key_of_part;
use super::paths::parent_bytes;
use super::plan::{PathState, SurveyedChange};
use crate::error::TransferError;
use crate::meter::Meter;

#[derive(Debug)]
pub(super) struct Survey {
    pub(super) entries: Vec<SurveyedChange>,
    pub(super) leftovers: Leftovers,
}

/// A directory, or what is to be said of everything in it.
enum Looked {
    Open(HeldDir),
    Not(PathState),
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
                    leftovers.add_from(dir, parent);
                }
                &open.insert((parent.to_vec(), looked)).1
            }
        };
        let found = match looked {
            Looked::Open(dir) => found(dir, &path, |text| names.destination(root, &path, text)),
            Looked::Not(found) => found.clone(),
        };
        meter.finished(|| path.to_string());
        entries.push(SurveyedChange {
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

fn look(root: &HeldDir, dir: &[u8]) -> Looked {
    match root.dir(dir) {
        Ok(dir) => Looked::Open(dir),
        Err(error) => match Refusal::of(&error) {
            Some(Refusal::NotThere) => Looked::Not(PathState::Nothing),
            Some(Refusal::Link | Refusal::NotADirectory) => Looked::Not(barrier(root, dir)),
            _ => Looked::Not(PathState::Unreachable(unreadable(&error))),
        },
    }
}

/// What stands in the way of a directory: a link, or something else that is no directory. The kernel says
/// the one or the other of a link, by where on the path it is.
fn barrier(root: &HeldDir, dir: &[u8]) -> PathState {
    let slashes = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let ends = slashes.map(|(at, _)| at).chain([dir.len()]);
    for above in ends.map(|end| &dir[..end]) {
        let name_at = above.iter().rposition(|&byte| byte == b'/');
        let (holding, name) =
            name_at.map_or((&b""[..], above), |at| (&above[..at], &above[at + 1..]));
        match root.dir(holding).and_then(|holding| holding.look(name)) {
            Ok(Some(facts)) if facts.kind == Kind::Dir => {}
            Ok(Some(facts)) if facts.kind == Kind::Link => return PathState::BehindLink,
            Ok(_) => break,
            Err(error) => return PathState::Unreachable(unreadable(&error)),
        }
    }
    PathState::InNoDirectory
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot look at what is there: {error}")
}

/// `leading` says where a link with such a text leads.
fn found(
    dir: &HeldDir,
    path: &ManifestPath,
    leading: impl FnOnce(&[u8]) -> Option<LinkTarget>,
) -> PathState {
    let name = path.borrowed().name();
    let looked = dir.look(name).and_then(|facts| {
        Ok(match facts {
            None => PathState::Nothing,
            Some(facts) => match facts.kind {
                Kind::Dir => PathState::Dir(facts.stamp),
                Kind::File => PathState::File(facts.stamp, facts.names),
                Kind::Link => {
                    PathState::Link(leading(&dir.read_link(name)?), facts.stamp, facts.names)
                }
                Kind::Other => PathState::Other,
            },
        })
    });
    looked.unwrap_or_else(|error| match Refusal::of(&error) {
        // No file here can have such a name; it is reported as too long.
        Some(Refusal::NameTooLong) => PathState::Nothing,
        _ => PathState::Unreachable(unreadable(&error)),
    })
}
