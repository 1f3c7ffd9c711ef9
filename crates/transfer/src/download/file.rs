//! One file of a download, from the look at what is in its place to its name.
//!
//! ```text
//!     free      fetch -- verify -- name it, if the name is still free
//!     alike     hash what is there: the same is skipped, anything else is a conflict
//!     taken     conflict: skip it | fetch and replace | fetch and name it "stem (N).suffix"
//! ```

use std::fs::File as OsFile;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_durable::{Facts, FileStamp, HeldDir, Kind, set_modified, share_file};
use attachfs_manifest::{ChunkLayout, ChunkSize, Content, Hasher, ManifestPath, PathRef};

use super::error::{Attempt, FileError, Trouble, disk};
use super::names::copy_name;
use super::part::Part;
use super::plan::{FileStep, Occupant, Place, Resolution, is_same_time, mtime_of, resolve};
use super::run::Run;
use super::survey::parent_bytes;
use super::tree::occupant_of;
use super::{Copied, Remark};
use crate::{Failed, TransferError};

/// How much is read at once.
const BUFFER_LEN: u64 = 1 << 20;

const READING: &str = "read what is there";
const NAMING: &str = "give it its name";

/// What became of a file.
#[derive(Debug)]
pub(super) enum Outcome {
    Fetched,
    /// Fetched, under another name.
    Copied(Copied),
    Skipped,
    /// Not fetched, since something else is in its place.
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

/// What is to be done where something is in the way.
enum Then {
    Skip,
    Leave(&'static str),
    Fetch(Target),
}

/// A file and its path, as they are asked for.
pub(super) struct Done {
    pub(super) size: u64,
    pub(super) outcome: Outcome,
}

impl Run {
    /// Does what the plan says of a file. Fails only with what concerns everything.
    pub(super) async fn file(self: Arc<Self>, step: FileStep) -> Result<Done, TransferError> {
        let size = step.file.size;
        let step = Arc::new(step);
        let outcome = match self.attempt(&step).await {
            Ok(outcome) => outcome,
            Err(Trouble::Stop(error)) => return Err(error),
            Err(Trouble::File(error)) => Outcome::Failed(Failed {
                path: step.path.to_string(),
                error: crate::error_chain(&error),
            }),
        };
        match &outcome {
            Outcome::Skipped | Outcome::Left(_) => self.meter.known(size, 0),
            Outcome::Fetched | Outcome::Copied(_) | Outcome::Failed(_) => {
                self.meter.finished(|| step.path.to_string());
            }
        }
        Ok(Done { size, outcome })
    }

    async fn attempt(self: &Arc<Self>, step: &Arc<FileStep>) -> Attempt<Outcome> {
        let target = match step.place {
            Place::Free => Target::Free,
            Place::Taken(occupant) => match self.at_conflict(step, occupant).await? {
                Then::Skip => return Ok(Outcome::Skipped),
                Then::Leave(why) => return Ok(left(step, why)),
                Then::Fetch(target) => target,
            },
            Place::Alike(stamp) => {
                let is_same = self.in_place(step, move |run, dir, step| {
                    run.is_same(&dir, step.path.borrowed(), step, Some(stamp))
                });
                if is_same.await? {
                    return Ok(Outcome::Skipped);
                }
                match self.at_conflict(step, Occupant::File).await? {
                    Then::Skip => return Ok(Outcome::Skipped),
                    Then::Leave(why) => return Ok(left(step, why)),
                    Then::Fetch(target) => target,
                }
            }
        };
        self.fetch(step, target).await
    }

    /// Runs a step that blocks in the directory of a file.
    pub(super) async fn in_place<T: Send + 'static>(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        work: impl FnOnce(&Self, HeldDir, &FileStep) -> Attempt<T> + Send + 'static,
    ) -> Attempt<T> {
        let (run, step) = (Arc::clone(self), Arc::clone(step));
        self.blocking(move || {
            let dir = run.root.dir(parent_bytes(step.path.borrowed()));
            let dir = dir.map_err(|error| disk(&step.path, "open the directory of it", error));
            dir.and_then(|dir| work(&run, dir, &step))
        })
        .await?
    }

    async fn at_conflict(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        occupant: Occupant,
    ) -> Attempt<Then> {
        Ok(match resolve(self.options.conflict, occupant) {
            Resolution::Leave(why) => Then::Leave(why),
            Resolution::Replace => Then::Fetch(Target::Replace),
            Resolution::Refuse(why) => return Err(FileError::InTheWay(why.to_owned()).into()),
            Resolution::Copy => {
                let has_copy = self.in_place(step, Self::has_copy);
                if has_copy.await? {
                    Then::Skip
                } else {
                    Then::Fetch(Target::Copy)
                }
            }
        })
    }

    /// Whether one of the copies before the first free name is what the file should be.
    fn has_copy(&self, dir: HeldDir, step: &FileStep) -> Attempt<bool> {
        for number in 1.. {
            let name = copy_name(step.path.borrowed().name(), number);
            let looked = dir.look(&name);
            let looked = looked.map_err(|error| disk(&step.path, "look for a copy", error))?;
            let Some(facts) = looked else { break };
            let path = beside(&step.path, &name)?;
            if is_alike(&facts, step) && self.is_same(&dir, path.borrowed(), step, None)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether what came to `path` since it was looked at is what the file should be: another download of
    /// the same may have been faster.
    fn came(&self, dir: &HeldDir, path: PathRef<'_>, step: &FileStep) -> Attempt<bool> {
        let looked = dir.look(path.name());
        let looked = looked.map_err(|error| disk(&step.path, NAMING, error))?;
        match looked {
            Some(facts) if is_alike(&facts, step) => self.is_same(dir, path, step, None),
            _ => Ok(false),
        }
    }

    /// Whether the file at `path` has the bytes that the manifest says. Makes it runnable if it should be.
    fn is_same(
        &self,
        dir: &HeldDir,
        path: PathRef<'_>,
        step: &FileStep,
        known: Option<FileStamp>,
    ) -> Attempt<bool> {
        let failed = |error| disk(&step.path, READING, error);
        let cut = cut_of(step, self.chunk_size);
        let is_known = known.is_some_and(|stamp| self.is_known(path, stamp, step));
        if is_known && !step.file.runnable {
            return Ok(true);
        }
        let seen = SystemTime::now();
        let file = dir.open_file(path.name()).map_err(failed)?;
        let facts = Facts::of(&file).map_err(failed)?;
        if facts.stamp.size != step.file.size {
            return Ok(false);
        }
        let is_same = is_known && known == Some(facts.stamp) || self.has_bytes(&file, step)?;
        if !is_same {
            return Ok(false);
        }
        let after = Facts::of(&file).map_err(failed)?;
        if after.stamp != facts.stamp {
            return Ok(false);
        }
        if let Some(caches) = &self.options.caches
            && !is_known
        {
            let scanned = self.ground.file(path, facts.stamp, facts.mode & 0o111 != 0);
            caches.remember(&scanned, cut, step.file.content.hashes(), seen);
        }
        if step.file.runnable && facts.mode & 0o111 == 0 {
            let execute = (facts.mode & 0o444) >> 2;
            share_file(&file, execute, None)
                .map_err(|error| disk(&step.path, "make it executable", error))?;
        }
        Ok(true)
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
                match file.read_at(&mut buffer[..want], at) {
                    Ok(0) => return Ok(false),
                    Ok(read) => {
                        hasher.update(&buffer[..read]);
                        at += read as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(disk(&step.path, READING, error)),
                }
            }
            if hasher.finish() != *expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn fetch(self: &Arc<Self>, step: &Arc<FileStep>, target: Target) -> Attempt<Outcome> {
        match &step.file.content {
            Content::Whole(object) if step.file.size <= self.options.block_bytes => {
                self.small(step, *object, target).await
            }
            Content::Whole(_) | Content::Chunks(_) => self.large(step, target).await,
            Content::Unhashed => Err(FileError::InTheWay("it has no hash".to_owned()).into()),
        }
    }

    /// Gives a whole and verified part its times, permissions and name. Blocks.
    pub(super) fn finish(&self, part: &Part, step: &FileStep, target: Target) -> Attempt<Outcome> {
        let failed = |doing| move |error| disk(&step.path, doing, error);
        let share = self.options.permissions;
        if share.add_file_mode != 0 || share.group.is_some() {
            share_file(part.file(), share.add_file_mode, share.group)
                .map_err(failed("set its permissions"))?;
        }
        part.cut().map_err(failed("write it"))?;
        let (seconds, nanoseconds) = step.file.mtime.to_unix();
        set_modified(part.file(), seconds, nanoseconds).map_err(failed("set its time"))?;
        let name = step.path.borrowed().name();
        let mut target = target;
        loop {
            match target {
                Target::Free => {
                    self.make_room(&step.path);
                    if part.place_if_free(name).map_err(failed(NAMING))? {
                        self.placed(part, step.path.clone(), step);
                        return Ok(Outcome::Fetched);
                    }
                    if self.came(part.dir(), step.path.borrowed(), step)? {
                        return Ok(Outcome::Skipped);
                    }
                    let occupant = occupant_of(part.dir(), name).map_err(failed(NAMING))?;
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
                    part.place_over(name).map_err(failed(NAMING))?;
                    self.placed(part, step.path.clone(), step);
                    return Ok(Outcome::Fetched);
                }
                Target::Copy => {
                    for number in 1.. {
                        let copy = copy_name(name, number);
                        let path = beside(&step.path, &copy)?;
                        let placed = part.place_if_free(&copy);
                        if placed.map_err(failed("give a copy its name"))? {
                            tracing::info!(path = %step.path, copy = %path, "made a copy");
                            self.placed(part, path, step);
                            return Ok(Outcome::Copied(Copied::new(&step.path, &copy)));
                        }
                        if self.came(part.dir(), path.borrowed(), step)? {
                            return Ok(Outcome::Skipped);
                        }
                    }
                }
            }
        }
    }
}

/// Whether what is there is a file that may be the same, by its length and time.
pub(super) fn is_alike(facts: &Facts, step: &FileStep) -> bool {
    facts.kind == Kind::File
        && facts.stamp.size == step.file.size
        && is_same_time(mtime_of(&facts.stamp), step.file.mtime)
}

fn left(step: &FileStep, why: &str) -> Outcome {
    Outcome::Left(Remark::new(&step.path, why))
}

/// The path of something in the same directory.
fn beside(path: &ManifestPath, name: &[u8]) -> Attempt<ManifestPath> {
    let path = match parent_bytes(path.borrowed()) {
        b"" => ManifestPath::new(name),
        parent => ManifestPath::new(&[parent, b"/", name].concat()),
    };
    path.map_err(|error| FileError::InTheWay(format!("a copy cannot be named: {error}")).into())
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
