//! The last step of a file: its time, its permissions, and its name, or the wait for that.

use std::io;

use attachfs_durable::{FileStamp, HeldDir, set_modified, share_file};

use super::Copied;
use super::error::{Attempt, FileError, disk};
use super::file::{Outcome, SETTING_TIME, Target, left};
use super::part::Part;
use super::plan::{FileStep, Occupant, Resolution, resolve};
use super::run::Run;
use super::survey::parent_bytes;
use super::tree::occupant_of;
use super::waiting::Waiting;

pub(super) const NAMING: &str = "give it its name";
pub(super) const NAMING_COPY: &str = "give a copy its name";

impl Run {
    /// Gives a whole and verified part its times, permissions and name; if it has to wait for that, notes
    /// that it does. `resumed` bytes of it were left by an earlier run. Blocks.
    pub(super) fn finish(
        &self,
        part: &Part,
        step: &FileStep,
        target: Target,
        resumed: u64,
    ) -> Attempt<Outcome> {
        let failed = |doing| move |error| disk(&step.path, doing, error);
        let share = self.options.permissions;
        if share.add_file_mode != 0 || share.group.is_some() {
            share_file(part.file(), share.add_file_mode, share.group)
                .map_err(failed("set its permissions"))?;
        }
        part.cut().map_err(failed("write it"))?;
        let (seconds, nanoseconds) = step.file.mtime.to_unix();
        set_modified(part.file(), seconds, nanoseconds).map_err(failed(SETTING_TIME))?;
        let stamp = FileStamp::of(part.file()).map_err(failed(SETTING_TIME))?;
        let Some(swap) = &step.swap else {
            let outcome = self.name(part, part.dir(), step, target, stamp.mtime_ns)?;
            part.discard();
            return Ok(outcome);
        };
        self.waitlist
            .mark(&self.root, step.fetched_in())
            .map_err(failed("keep it"))?;
        part.put_by();
        let file = Waiting {
            step: step.clone(),
            name: part.name().to_vec(),
            stamp,
            resumed,
        };
        self.waitlist.add(swap, file);
        Ok(Outcome::Waits)
    }

    /// Gives a file its place that has waited for it. If that fails it still waits. Blocks.
    pub(super) fn place_waiting(&self, waiting: &Waiting) -> Attempt<Outcome> {
        let step = &waiting.step;
        let failed = |error| disk(&step.path, NAMING, error);
        let part = waiting.take_up(&self.root).map_err(failed)?;
        let dir = self.root.dir(parent_bytes(step.path.borrowed()));
        let dir = dir.map_err(failed)?;
        let outcome = self.name(&part, &dir, step, Target::Free, waiting.stamp.mtime_ns)?;
        part.discard();
        Ok(outcome)
    }

    /// Gives a part a name in `dir`. `time` is the one that was set, as the file system holds it.
    fn name(
        &self,
        part: &Part,
        dir: &HeldDir,
        step: &FileStep,
        target: Target,
        time: i128,
    ) -> Attempt<Outcome> {
        let failed = |doing| move |error| disk(&step.path, doing, error);
        let name = step.path.borrowed().name();
        let mut target = target;
        loop {
            match target {
                Target::Free => {
                    if part.place_if_free(dir, name).map_err(failed(NAMING))? {
                        self.remembered
                            .placed(part.file(), step.path.clone(), step, time);
                        return Ok(Outcome::Fetched);
                    }
                    let came = self.came(dir, step.path.borrowed(), step)?;
                    if let Some(outcome) = came.outcome(step) {
                        return Ok(outcome);
                    }
                    let occupant = occupant_of(dir, name).map_err(failed(NAMING))?;
                    let occupant = occupant.unwrap_or(Occupant::Other);
                    target = match resolve(self.options.conflict, occupant) {
                        Resolution::Leave(why) => return Ok(left(step, why)),
                        Resolution::Replace => Target::Replace,
                        Resolution::Copy => Target::Copy,
                        Resolution::Refuse(why) => {
                            return Err(FileError::InTheWay(why.to_owned()).into());
                        }
                    };
                }
                Target::Replace => {
                    part.place_over(dir, name).map_err(failed(NAMING))?;
                    self.remembered
                        .placed(part.file(), step.path.clone(), step, time);
                    return Ok(Outcome::Fetched);
                }
                Target::Copy => return self.finish_copy(part, dir, step, time),
            }
        }
    }

    fn finish_copy(
        &self,
        part: &Part,
        dir: &HeldDir,
        step: &FileStep,
        time: i128,
    ) -> Attempt<Outcome> {
        let failed = |error| disk(&step.path, NAMING_COPY, error);
        for copy in self.copies(&step.path) {
            let (name, path) = copy.map_err(failed)?;
            if part.place_if_free(dir, &name).map_err(failed)? {
                tracing::info!(path = %step.path, copy = %path, "made a copy");
                self.remembered.placed(part.file(), path, step, time);
                return Ok(Outcome::Copied(Copied::new(&step.path, &name)));
            }
            let came = self.came(dir, path.borrowed(), step)?;
            if let Some(outcome) = came.outcome(step) {
                return Ok(outcome);
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }
}
