//! Gives a verified file its name, or that of a copy, whatever came to its place meanwhile.

use std::io;

use attachfs_durable::HeldDir;
use attachfs_manifest::PathRef;

use super::compare::{Comparison, Likeness};
use super::conflict::{Conflict, Occupant, Resolution, occupant_of, resolve};
use super::copies::CopyNames;
use super::failure::{FileError, FileResult, disk};
use super::report::{Copied, Outcome};
use super::states::{Named, Verified};
use super::step::FileStep;

pub(super) const NAMING: &str = "give it its name";
const NAMING_COPY: &str = "give a copy its name";

/// Under which name a file is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Its own, if nothing has it by then.
    Free,
    /// Its own, in place of what has it.
    Replace,
    /// The first name of a copy that is free.
    Copy,
}

/// Names files.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) conflict: Conflict,
    pub(super) copies: CopyNames,
    pub(super) comparison: Comparison,
}

impl Naming {
    /// Gives a file its name. `time` is the one that was set, in nanoseconds, as the file system holds it. If
    /// something else has the name and stays, the file is removed. Blocks.
    pub(super) fn place(
        &self,
        verified: Verified,
        step: &FileStep,
        target: Target,
        time: i128,
    ) -> FileResult<Outcome> {
        let failed = |error| disk(&step.path, NAMING, error);
        let name = step.path.borrowed().name();
        let remembered = &self.comparison.remembered;
        let (mut verified, mut target) = (verified, target);
        loop {
            match target {
                Target::Free => {
                    match verified.place_if_free(name).map_err(failed)? {
                        Named::Placed(placed) => {
                            remembered.placed(placed.file(), step.path.clone(), step, time);
                            return Ok(Outcome::Fetched);
                        }
                        Named::Taken(still) => verified = still,
                    }
                    let came = self.came(verified.place(), step.path.borrowed(), step)?;
                    if let Some(outcome) = came.outcome(step) {
                        verified.discard();
                        return Ok(outcome);
                    }
                    let occupant = occupant_of(verified.place(), name).map_err(failed)?;
                    let occupant = occupant.unwrap_or(Occupant::Other);
                    target = match resolve(self.conflict, occupant) {
                        Resolution::Leave(why) => {
                            verified.discard();
                            return Ok(Outcome::left(&step.path, why));
                        }
                        Resolution::Replace => Target::Replace,
                        Resolution::Copy => Target::Copy,
                        Resolution::Refuse(why) => {
                            return Err(FileError::InTheWay(why.to_owned()).into());
                        }
                    };
                }
                Target::Replace => {
                    let placed = verified.place_over(name).map_err(failed)?;
                    remembered.placed(placed.file(), step.path.clone(), step, time);
                    return Ok(Outcome::Fetched);
                }
                Target::Copy => return self.place_copy(verified, step, time),
            }
        }
    }

    fn place_copy(&self, verified: Verified, step: &FileStep, time: i128) -> FileResult<Outcome> {
        let failed = |error| disk(&step.path, NAMING_COPY, error);
        let mut verified = verified;
        for copy in self.copies.of(&step.path) {
            let (name, path) = copy.map_err(failed)?;
            match verified.place_if_free(&name).map_err(failed)? {
                Named::Placed(placed) => {
                    tracing::info!(path = %step.path, copy = %path, "made a copy");
                    let remembered = &self.comparison.remembered;
                    remembered.placed(placed.file(), path, step, time);
                    return Ok(Outcome::Copied(Copied::new(&step.path, &name)));
                }
                Named::Taken(still) => verified = still,
            }
            let came = self.came(verified.place(), path.borrowed(), step)?;
            if let Some(outcome) = came.outcome(step) {
                verified.discard();
                return Ok(outcome);
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// What came to `path` since it was looked at: another download of the same may have been faster.
    fn came(&self, dir: &HeldDir, path: PathRef<'_>, step: &FileStep) -> FileResult<Likeness> {
        let looked = dir.look(path.name());
        match looked.map_err(|error| disk(&step.path, NAMING, error))? {
            Some(facts) => self.comparison.likeness_of(&facts, dir, path, step),
            None => Ok(Likeness::Other),
        }
    }

    /// Looks among the copies before the first free name for what the file should be. Blocks.
    pub(super) fn copied_before(&self, dir: &HeldDir, step: &FileStep) -> FileResult<Likeness> {
        for copy in self.copies.of(&step.path) {
            let (name, path) = copy.map_err(|error| disk(&step.path, NAMING_COPY, error))?;
            let looked = dir.look(&name);
            let looked = looked.map_err(|error| disk(&step.path, "look for a copy", error))?;
            let Some(facts) = looked else { break };
            let likeness = self
                .comparison
                .likeness_of(&facts, dir, path.borrowed(), step)?;
            if !matches!(likeness, Likeness::Other) {
                return Ok(likeness);
            }
        }
        Ok(Likeness::Other)
    }
}
