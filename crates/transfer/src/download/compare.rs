//! Whether a file that is there is the one that is wanted.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_durable::{Facts, FileStamp, HeldDir, Kind, set_modified, share_file};
use attachfs_manifest::{ChunkSize, PathRef};
use attachfs_scan::mtime_of;

use super::failure::{FileResult, disk};
use super::remembered::Remembered;
use super::report::Outcome;
use super::stamps::is_near;
use super::states::{Proof, READING, SETTING_TIME};
use super::step::FileStep;
use crate::meter::Meter;

/// What a file that is there is to one that is wanted.
#[derive(Debug)]
pub(super) enum Likeness {
    Other,
    Same,
    /// The same, but for something that cannot be set.
    Nearly(String),
}

impl Likeness {
    /// What becomes of a file for which this is there, if it is not another.
    pub(super) fn outcome(self, step: &FileStep) -> Option<Outcome> {
        match self {
            Self::Other => None,
            Self::Same => Some(Outcome::Skipped),
            Self::Nearly(why) => Some(Outcome::left(&step.path, &why)),
        }
    }
}

/// Compares files that are there with those that are wanted.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) remembered: Remembered,
    pub(super) chunk_size: ChunkSize,
    pub(super) meter: Arc<Meter>,
}

impl Comparison {
    /// Whether the file at `path` has the bytes that the manifest says. If so, gives it the time that it
    /// should have, and makes it runnable if it should be. `known` is its stamp, if it was looked at before.
    pub(super) fn likeness(
        &self,
        dir: &HeldDir,
        path: PathRef<'_>,
        step: &FileStep,
        known: Option<FileStamp>,
    ) -> FileResult<Likeness> {
        let failed = |error| disk(&step.path, READING, error);
        let is_in_time = |stamp: &FileStamp| mtime_of(stamp) == step.file.mtime;
        let is_known = known.is_some_and(|stamp| self.remembered.is_known(path, stamp, step));
        if is_known && !step.file.runnable && known.as_ref().is_some_and(is_in_time) {
            return Ok(Likeness::Same);
        }
        let seen = SystemTime::now();
        let file = match dir.open_file(path.name()) {
            // Unreadable, so it cannot be proven the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Likeness::Other);
            }
            opened => opened.map_err(failed)?,
        };
        let facts = Facts::of(&file).map_err(failed)?;
        if facts.stamp.size != step.file.size {
            return Ok(Likeness::Other);
        }
        let is_same =
            is_known && known == Some(facts.stamp) || self.proof_of(&file, step)?.is_some();
        if !is_same {
            return Ok(Likeness::Other);
        }
        let after = Facts::of(&file).map_err(failed)?;
        if after.stamp != facts.stamp {
            return Ok(Likeness::Other);
        }
        let remember = || {
            if !is_known {
                self.remembered.keep(path, &facts, step, seen);
            }
        };
        let wants_execute = step.file.runnable && facts.mode & 0o111 == 0;
        let wants_time = !is_in_time(&facts.stamp);
        let wants = wants_execute || wants_time;
        if wants && facts.names > 1 {
            // Its other names may lie outside of the folder, so nothing is set.
            remember();
            let is_near = is_near(mtime_of(&facts.stamp), step.file.mtime);
            return Ok(if wants_execute || !is_near {
                Likeness::Other
            } else {
                Likeness::Same
            });
        }
        Ok(match set(&file, &facts, step, wants_execute, wants_time) {
            Ok(()) if wants => {
                let now = FileStamp::of(&file).map_err(failed)?;
                self.remembered
                    .placed(&file, path.to_owned(), step, now.mtime_ns);
                Likeness::Same
            }
            Ok(()) => {
                remember();
                Likeness::Same
            }
            Err((doing, error)) => {
                remember();
                Likeness::Nearly(format!("cannot {doing}: {error}"))
            }
        })
    }

    /// The same of whatever is at `path` by now, if `facts` of it say that it may be.
    pub(super) fn likeness_of(
        &self,
        facts: &Facts,
        dir: &HeldDir,
        path: PathRef<'_>,
        step: &FileStep,
    ) -> FileResult<Likeness> {
        if facts.kind == Kind::File && facts.stamp.size == step.file.size {
            self.likeness(dir, path, step, None)
        } else {
            Ok(Likeness::Other)
        }
    }

    /// Reads a file. Gives the proof that it has all bytes that a step wants, if it has. Blocks.
    pub(super) fn proof_of(&self, file: &File, step: &FileStep) -> FileResult<Option<Proof>> {
        Proof::of_file(file, step, self.chunk_size, &self.meter)
    }
}

/// Sets what a file with the right bytes lacks. Says what failed.
fn set(
    file: &File,
    facts: &Facts,
    step: &FileStep,
    execute: bool,
    time: bool,
) -> Result<(), (&'static str, io::Error)> {
    if execute {
        let bits = (facts.mode & 0o444) >> 2;
        share_file(file, bits, None).map_err(|error| ("make it executable", error))?;
    }
    if time {
        let (seconds, nanoseconds) = step.file.mtime.to_unix();
        set_modified(file, seconds, nanoseconds).map_err(|error| (SETTING_TIME, error))?;
    }
    Ok(())
}
