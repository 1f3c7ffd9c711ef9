//! One file of a download, from the look at what is in its place to its name.
//!
//! ```text
//!     free      fetch -- verify -- name it, if the name is still free
//!     alike     of the same length: hash what is there; the same is skipped, and has its time and execute
//!               bit set if need be; anything else is a conflict
//!     taken     conflict: skip it | fetch and replace | fetch and name it "stem (N).suffix"
//! ```

use std::fs::File as OsFile;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_durable::{Facts, FileStamp, HeldDir, Kind, fill_at, set_modified, share_file};
use attachfs_manifest::{ChunkLayout, ChunkSize, Content, Hasher, ManifestPath, PathRef};
use attachfs_scan::mtime_of;

use super::error::{Attempt, FileError, Trouble, disk};
use super::naming::{NAMING, NAMING_COPY};
use super::part::Part;
use super::plan::{FileStep, Occupant, Place, Resolution, is_near, resolve};
use super::run::Run;
use super::small::acquired;
use super::{Copied, Remark, may_give};
use crate::{Failed, TransferError};

/// How much is read at once.
const BUFFER_LEN: u64 = 1 << 20;

const READING: &str = "read what is there";
pub(super) const SETTING_TIME: &str = "set its time";

/// What became of a file.
#[derive(Debug)]
pub(super) enum Outcome {
    Fetched,
    /// Fetched, under another name.
    Copied(Copied),
    /// Fetched, and it gets its name when something else is deleted.
    Waits,
    Skipped,
    /// Not fetched, since something else is in its place, or not all of it could be set.
    Left(Remark),
    Failed(Failed),
}

/// Where the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Under its own name, if nothing has it by then.
    Free,
    /// Under its own name, in place of what has it.
    Replace,
    /// Under the first name of a copy that is free.
    Copy,
}

/// What a file that is there is to one that is wanted.
#[derive(Debug)]
pub(super) enum Likeness {
    Other,
    Same,
    /// The same, but for something that cannot be set.
    Nearly(String),
}

/// What is to be done where something is in the way.
enum Then {
    Skip,
    Leave(String),
    Fetch(Target),
}

/// A file that nothing is left to do for by now.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) size: u64,
    /// How many of its bytes were left by an earlier run.
    pub(super) resumed: u64,
    pub(super) outcome: Outcome,
}

impl Run {
    /// Does what the plan says of a file. Fails only with what concerns everything.
    pub(super) async fn file(self: Arc<Self>, step: FileStep) -> Result<Done, TransferError> {
        let size = step.file.size;
        let step = Arc::new(step);
        let (outcome, resumed) = match self.attempt(&step).await {
            Ok(done) => done,
            Err(Trouble::Stop(error)) => return Err(error),
            Err(Trouble::File(error)) => (failed_by(&step.path, &error), None),
        };
        match (&outcome, resumed) {
            (Outcome::Waits, _) => {}
            (Outcome::Skipped | Outcome::Left(_), None) => self.meter.known(size, 0),
            // What was fetched is counted.
            _ => self.meter.finished(|| step.path.to_string()),
        }
        Ok(Done {
            size,
            resumed: resumed.unwrap_or(0),
            outcome,
        })
    }

    /// Says what became of it and, if it was fetched, how many bytes of it were left by an earlier run.
    async fn attempt(self: &Arc<Self>, step: &Arc<FileStep>) -> Attempt<(Outcome, Option<u64>)> {
        let then = match step.place {
            Place::Free => Then::Fetch(Target::Free),
            Place::Taken(occupant) => self.at_conflict(step, occupant).await?,
            Place::Alike(stamp) => {
                let likeness = self.reading(step, move |run, dir, step| {
                    run.likeness(&dir, step.path.borrowed(), step, Some(stamp))
                });
                match likeness.await?.then() {
                    Some(then) => then,
                    None => {
                        let then = self.at_conflict(step, Occupant::File).await?;
                        if matches!(then, Then::Fetch(_)) {
                            self.ask_for_group().await?;
                        }
                        then
                    }
                }
            }
        };
        Ok(match then {
            Then::Skip => (Outcome::Skipped, None),
            Then::Leave(why) => (left(step, &why), None),
            Then::Fetch(target) => {
                let (outcome, resumed) = self.fetch(step, target).await?;
                (outcome, Some(resumed))
            }
        })
    }

    /// Runs a step that blocks in the directory where a file is fetched.
    pub(super) async fn in_place<T: Send + 'static>(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        work: impl FnOnce(&Self, HeldDir, &FileStep) -> Attempt<T> + Send + 'static,
    ) -> Attempt<T> {
        let (run, step) = (Arc::clone(self), Arc::clone(step));
        self.blocking(move || {
            let dir = run.root.dir(step.fetched_in());
            let dir = dir.map_err(|error| disk(&step.path, "open the directory of it", error));
            dir.and_then(|dir| work(&run, dir, &step))
        })
        .await?
    }

    /// [`in_place`](Self::in_place) for a step that reads what is there: as many at once as write.
    async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        work: impl FnOnce(&Self, HeldDir, &FileStep) -> Attempt<T> + Send + 'static,
    ) -> Attempt<T> {
        let _reader = acquired(&self.writers).await?;
        self.in_place(step, work).await
    }

    /// Of files that might be the same nobody has asked before.
    async fn ask_for_group(self: &Arc<Self>) -> Attempt<()> {
        let share = self.options.permissions;
        if share.group.is_some() {
            let run = Arc::clone(self);
            let asked = self.blocking(move || may_give(&run.root, &run.real, share));
            asked.await?.map_err(TransferError::from)?;
        }
        Ok(())
    }

    async fn at_conflict(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        occupant: Occupant,
    ) -> Attempt<Then> {
        Ok(match resolve(self.options.conflict, occupant) {
            Resolution::Leave(why) => Then::Leave(why.to_owned()),
            Resolution::Replace => Then::Fetch(Target::Replace),
            Resolution::Refuse(why) => return Err(FileError::InTheWay(why.to_owned()).into()),
            Resolution::Copy => {
                let copied = self.reading(step, Self::copied_before).await?;
                copied.then().unwrap_or(Then::Fetch(Target::Copy))
            }
        })
    }

    /// Looks among the copies before the first free name for what the file should be.
    fn copied_before(&self, dir: HeldDir, step: &FileStep) -> Attempt<Likeness> {
        for copy in self.copies(&step.path) {
            let (name, path) = copy.map_err(|error| disk(&step.path, NAMING_COPY, error))?;
            let looked = dir.look(&name);
            let looked = looked.map_err(|error| disk(&step.path, "look for a copy", error))?;
            let Some(facts) = looked else { break };
            if may_be(&facts, step) {
                let likeness = self.likeness(&dir, path.borrowed(), step, None)?;
                if !matches!(likeness, Likeness::Other) {
                    return Ok(likeness);
                }
            }
        }
        Ok(Likeness::Other)
    }

    /// What came to `path` since it was looked at: another download of the same may have been faster.
    pub(super) fn came(
        &self,
        dir: &HeldDir,
        path: PathRef<'_>,
        step: &FileStep,
    ) -> Attempt<Likeness> {
        let looked = dir.look(path.name());
        let looked = looked.map_err(|error| disk(&step.path, NAMING, error))?;
        match looked {
            Some(facts) if may_be(&facts, step) => self.likeness(dir, path, step, None),
            _ => Ok(Likeness::Other),
        }
    }

    /// Whether the file at `path` has the bytes that the manifest says. If so, gives it the time that it
    /// should have, and makes it runnable if it should be.
    fn likeness(
        &self,
        dir: &HeldDir,
        path: PathRef<'_>,
        step: &FileStep,
        known: Option<FileStamp>,
    ) -> Attempt<Likeness> {
        let failed = |error| disk(&step.path, READING, error);
        let is_in_time = |stamp: &FileStamp| mtime_of(stamp) == step.file.mtime;
        let is_known = known.is_some_and(|stamp| self.remembered.is_known(path, stamp, step));
        if is_known && !step.file.runnable && known.as_ref().is_some_and(is_in_time) {
            return Ok(Likeness::Same);
        }
        let seen = SystemTime::now();
        let file = match dir.open_file(path.name()) {
            // Who may not read it cannot call it the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Likeness::Other);
            }
            opened => opened.map_err(failed)?,
        };
        let facts = Facts::of(&file).map_err(failed)?;
        if facts.stamp.size != step.file.size {
            return Ok(Likeness::Other);
        }
        let is_same = is_known && known == Some(facts.stamp) || self.has_bytes(&file, step)?;
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

    /// Reads a file and compares its hashes with those that it should have. Blocks.
    pub(super) fn has_bytes(&self, file: &OsFile, step: &FileStep) -> Attempt<bool> {
        let size = step.file.size;
        let mut buffer = vec![0; BUFFER_LEN.min(size) as usize];
        let ranges = cut_of(step, self.chunk_size).ranges(size);
        for (range, expected) in ranges.zip(step.file.content.hashes()) {
            let mut hasher = Hasher::new();
            let mut at = range.start;
            while at < range.end {
                self.meter.go_on()?;
                let want = buffer.len().min((range.end - at) as usize);
                let read = fill_at(file, &mut buffer[..want], at);
                let read = read.map_err(|error| disk(&step.path, READING, error))?;
                if read == 0 {
                    return Ok(false);
                }
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            if hasher.finish() != *expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says how many bytes were left by an earlier run, too.
    async fn fetch(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        target: Target,
    ) -> Attempt<(Outcome, u64)> {
        match &step.file.content {
            Content::Whole(object) if step.file.size <= self.options.block_bytes => {
                self.small(step, *object, target).await
            }
            Content::Whole(_) | Content::Chunks(_) => self.large(step, target).await,
            Content::Unhashed => Err(FileError::InTheWay("it has no hash".to_owned()).into()),
        }
    }

    /// Whether what was left of a file is all of it. If not, it has nothing but what is recorded. Blocks.
    pub(super) fn is_all_of_it(&self, part: &Part, step: &FileStep) -> Attempt<bool> {
        if !part.is_cut().unwrap_or(false) {
            return Ok(false);
        }
        // Who is told to stop knows nothing of it.
        part.put_by();
        let is_whole = match self.has_bytes(part.file(), step) {
            Err(Trouble::File(_)) => false,
            checked => checked?,
        };
        if !is_whole {
            part.discard();
        }
        Ok(is_whole)
    }
}

impl Likeness {
    /// What is to be done, if it is not another file.
    fn then(self) -> Option<Then> {
        match self {
            Self::Other => None,
            Self::Same => Some(Then::Skip),
            Self::Nearly(why) => Some(Then::Leave(why)),
        }
    }

    /// What becomes of a file for which this is there, if it is not another.
    pub(super) fn outcome(self, step: &FileStep) -> Option<Outcome> {
        match self {
            Self::Other => None,
            Self::Same => Some(Outcome::Skipped),
            Self::Nearly(why) => Some(left(step, &why)),
        }
    }
}

/// Sets what a file with the right bytes lacks. Says what failed.
fn set(
    file: &OsFile,
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

/// Whether what is there is a file that may be the same, by its length.
fn may_be(facts: &Facts, step: &FileStep) -> bool {
    facts.kind == Kind::File && facts.stamp.size == step.file.size
}

pub(super) fn left(step: &FileStep, why: &str) -> Outcome {
    Outcome::Left(Remark::new(&step.path, why))
}

pub(super) fn failed_by(path: &ManifestPath, error: &FileError) -> Outcome {
    Outcome::Failed(Failed {
        path: path.to_string(),
        error: crate::error_chain(error),
    })
}

/// How a file is cut: one that is longer than a chunk may be one object all the same.
pub(super) fn cut_of(step: &FileStep, chunk_size: ChunkSize) -> ChunkSize {
    match &step.file.content {
        Content::Whole(_) if chunk_size.count(step.file.size) > 1 => ChunkSize::WholeFile,
        _ => chunk_size,
    }
}

/// How a file's bytes lie in objects.
pub(super) fn layout_of(step: &FileStep, chunk_size: ChunkSize) -> Attempt<ChunkLayout<'_>> {
    ChunkLayout::new(step.file.size, chunk_size, &step.file.content)
        .map_err(|error| FileError::InTheWay(error.to_string()).into())
}
