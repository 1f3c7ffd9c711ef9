//! Joins the chunks of a file to one that the kernel can read by itself, and looks whether one that was changed is still right.
//!
//! ```text
//!     an open finds no joined file -----> Duty::Join -----> Joining, a step at a time, on the keeper's thread
//!                                                             each chunk: cloned or copied, hashed, compared
//!                                                             the file gets its name, then the stamp that says it is right
//!                                                             the chunks are said to lie in it, and lose their own files
//! ```
//!
//! Between two steps the keeper does whatever else is asked of it. Nobody waits for a file to be joined, and no lock is held. Where a
//! copy finds no room, nothing is joined, and nothing is evicted for it; a clone takes no room.

use std::error::Error;
use std::io;
use std::sync::{Arc, Weak};

use attachfs_durable::{
    CacheDirError, Chunk, ChunkList, DurableError, FileStamp, JoinedFiles, LargeForm, ObjectWriter,
    Place, Removal, StagedJoined, boot_id, read_range, reflink, write_all_at,
};
use attachfs_manifest::{ContentHash, Hasher};
use bytes::Bytes;

use super::HASHED_AT_ONCE;
use super::large::{LargeFile, is_stamped};
use super::open_cache::OpenCache;
use super::units::{Stamp, UNIT};

/// Bytes of a step: a whole number of units.
const STEP: u64 = 32 * UNIT;

/// A file that is to be joined, or looked at.
pub(super) struct Wanted {
    pub(super) list: ChunkList,
    /// Its chunks, as far as somebody had them open.
    pub(super) open: Vec<Weak<LargeFile>>,
}

/// A file that is being joined, or looked at.
pub(super) struct Joining {
    wanted: Wanted,
    target: Target,
    chunks: Vec<(Chunk, Place)>,
    /// How many chunks are done.
    next: usize,
    /// Bytes of the next one that are.
    done: u64,
    source: Option<Source>,
    hasher: Hasher,
    /// Room that it has.
    reserved: u64,
    copied: u64,
    cloned: u64,
}

enum Target {
    New(StagedJoined),
    /// With its stamp from before anybody hashed it.
    There(JoinedFiles, FileStamp),
}

/// Where the bytes of a chunk come from.
enum Source {
    Large(Arc<LargeFile>),
    Small(Bytes),
    /// They are where they belong; cloned from this one, if there is one.
    Target(Option<Arc<LargeFile>>),
}

/// What came of a step.
pub(super) enum Stepped {
    More,
    /// There is nothing more to do.
    Ended,
    /// The file was joined. Chunks that somebody has open have files of their own still.
    Joined(Vec<Leftover>),
}

/// A chunk that lies in a joined file and has a file of its own, too.
pub(super) struct Leftover {
    chunk: ContentHash,
    place: Place,
}

/// Why a file is not joined.
enum Failed {
    /// A chunk is not there, or not whole; there is no room; or what is there is wrong, which was told.
    NotNow,
    Disk(io::Error),
    Cache(CacheDirError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<CacheDirError> for Failed {
    fn from(error: CacheDirError) -> Self {
        Self::Cache(error)
    }
}

impl Joining {
    /// Begins, if all chunks are there, or the file is and nobody knows whether it is right.
    pub(super) fn begin(
        cache: &OpenCache,
        writer: &mut ObjectWriter,
        wanted: Wanted,
    ) -> Option<Self> {
        let begun = Self::try_begin(cache, writer, &wanted);
        let target = match begun {
            Ok(target) => target,
            Err(failed) => {
                failed.tell(cache);
                return None;
            }
        };
        Some(Self {
            target,
            chunks: wanted.list.places().collect(),
            wanted,
            next: 0,
            done: 0,
            source: None,
            hasher: Hasher::new(),
            reserved: 0,
            copied: 0,
            cloned: 0,
        })
    }

    fn try_begin(
        cache: &OpenCache,
        writer: &mut ObjectWriter,
        wanted: &Wanted,
    ) -> Result<Target, Failed> {
        match cache.objects.open_joined(wanted.list.name())? {
            Some(joined) if is_stamped(&joined.data, &joined.about) => return Err(Failed::NotNow),
            Some(joined) => {
                let before = FileStamp::of(&joined.data)?;
                return Ok(Target::There(joined, before));
            }
            None => {}
        }
        let mut places = wanted.list.places();
        // Chunks that are small for the cache keep files of their own: they would be there twice.
        let (first, _) = places.next().ok_or(Failed::NotNow)?;
        match cache.objects.open_large(first.object)? {
            Some((_, LargeForm::Whole)) => {}
            Some((_, LargeForm::Part)) | None => return Err(Failed::NotNow),
        }
        let is_there = |(chunk, _): (Chunk, Place)| {
            let is_wrong = cache.wrong(ContentHash::from_bytes(chunk.object)).is_some();
            !is_wrong && cache.objects.find(chunk.object, chunk.len).is_some()
        };
        if !cache.health.may_write() || !places.all(is_there) {
            return Err(Failed::NotNow);
        }
        Ok(Target::New(writer.stage_joined(&wanted.list)?))
    }

    /// The name of the joined file.
    pub(super) fn name(&self) -> [u8; 16] {
        self.wanted.list.name()
    }

    /// Takes the next step. Reads and writes a few MiB.
    pub(super) fn step(
        mut self,
        cache: &Arc<OpenCache>,
        writer: &mut ObjectWriter,
    ) -> (Option<Self>, Stepped) {
        let stepped = match self.chunks.get(self.next).copied() {
            Some((chunk, place)) => self.join_some(cache, chunk, place).map(|()| Stepped::More),
            None => {
                let (reserved, written) = (self.reserved, self.copied);
                let finished = self.finish(cache, writer);
                cache.give_back(reserved, written);
                return (
                    None,
                    finished.unwrap_or_else(|failed| {
                        failed.tell(cache);
                        Stepped::Ended
                    }),
                );
            }
        };
        match stepped {
            Ok(stepped) => (Some(self), stepped),
            Err(failed) => {
                failed.tell(cache);
                self.give_up(cache);
                (None, Stepped::Ended)
            }
        }
    }

    /// Leaves it unfinished.
    pub(super) fn give_up(self, cache: &OpenCache) {
        cache.give_back(self.reserved, self.copied);
    }

    fn join_some(
        &mut self,
        cache: &Arc<OpenCache>,
        chunk: Chunk,
        place: Place,
    ) -> Result<(), Failed> {
        if self.source.is_none() {
            self.source = Some(self.source_of(cache, chunk, place)?);
        }
        let range = self.done..chunk.len.min(self.done + STEP);
        let len = range.end - range.start;
        let (at, end) = (place.at + range.start, place.at + range.end);
        let bytes = match (&self.source, &self.target) {
            (Some(Source::Large(large)), _) => {
                let units = range.start / UNIT..range.end.div_ceil(UNIT);
                large.read_aside(units).ok_or(Failed::NotNow)?
            }
            (Some(Source::Small(bytes)), _) => {
                bytes.slice(range.start as usize..range.end as usize)
            }
            (_, Target::New(staged)) => read_range(staged.file(), at..end)?,
            (_, Target::There(joined, _)) => read_range(&joined.data, at..end)?,
        };
        if let (Some(Source::Large(_) | Source::Small(_)), Target::New(staged)) =
            (&self.source, &self.target)
        {
            write_all_at(staged.file(), &bytes, at).map_err(|error| not_written(cache, error))?;
            self.copied += len;
            cache.reserved_is_written(len);
        }
        self.hasher.update(&bytes);
        self.done = range.end;
        if self.done == chunk.len {
            self.end_chunk(cache, ContentHash::from_bytes(chunk.object))?;
        }
        Ok(())
    }

    /// Finds the bytes of a chunk, and clones them if that can be done; else sees to it that there is room for them and the rest.
    fn source_of(
        &mut self,
        cache: &Arc<OpenCache>,
        chunk: Chunk,
        place: Place,
    ) -> Result<Source, Failed> {
        let Target::New(staged) = &self.target else {
            return Ok(Source::Target(None));
        };
        self.check_first(cache)?;
        let hash = ContentHash::from_bytes(chunk.object);
        let open = self.wanted.open[self.next].upgrade();
        let large = open.unwrap_or_else(|| LargeFile::open(Arc::clone(cache), hash, chunk.len));
        let source = if large.is_whole() {
            let is_cloned =
                large.give_to(|data, range| reflink(data, range, staged.file(), place.at));
            if is_cloned {
                self.cloned += chunk.len;
                return Ok(Source::Target(Some(large)));
            }
            Source::Large(large)
        } else if self.next + 1 == self.chunks.len() && chunk.len <= HASHED_AT_ONCE {
            // It keeps its file.
            let (file, at) = cache
                .objects
                .find(chunk.object, chunk.len)
                .ok_or(Failed::NotNow)?;
            Source::Small(read_range(&file, at..at + chunk.len)?)
        } else {
            return Err(Failed::NotNow);
        };
        if self.reserved == 0 {
            let rest = self.wanted.list.size() - place.at;
            if !cache.reserve(rest) {
                tracing::debug!("there is no room to join a file of the disk cache");
                return Err(Failed::NotNow);
            }
            self.reserved = rest;
        }
        Ok(source)
    }

    fn end_chunk(&mut self, cache: &OpenCache, hash: ContentHash) -> Result<(), Failed> {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new());
        let found = hasher.finish();
        let source = self.source.take();
        if found == hash {
            self.next += 1;
            self.done = 0;
            return Ok(());
        }
        match (&self.target, source) {
            (Target::There(joined, _), _) => {
                cache.counts.damaged.add(1);
                let name = self.wanted.list.name();
                let path = cache.objects.path(name);
                tracing::warn!(path = %path.display(), chunk = %hash, %found,
                    "a joined file of the disk cache is damaged; it is removed");
                cache.objects.remove_joined(name, &joined.data)?;
            }
            (_, Some(Source::Large(large) | Source::Target(Some(large)))) => {
                large.doubt(&mut || {
                    cache.step();
                    !cache.is_ending()
                });
            }
            (_, Some(Source::Small(_))) => {
                cache.counts.damaged.add(1);
                let path = cache.objects.path(*hash.as_bytes());
                tracing::warn!(path = %path.display(), expected = %hash, %found,
                    "a file of the disk cache is damaged; it is deleted and fetched again");
                cache.objects.remove(*hash.as_bytes())?;
            }
            (_, Some(Source::Target(None)) | None) => {}
        }
        Err(Failed::NotNow)
    }

    /// Fails if another process has joined the file meanwhile.
    fn check_first(&self, cache: &OpenCache) -> Result<(), Failed> {
        match cache.objects.open_joined(self.name())? {
            Some(_) => Err(Failed::NotNow),
            None => Ok(()),
        }
    }

    /// All chunks are right.
    fn finish(self, cache: &OpenCache, writer: &mut ObjectWriter) -> Result<Stepped, Failed> {
        if matches!(self.target, Target::New(_)) {
            self.check_first(cache)?;
        }
        let joined = match self.target {
            Target::There(joined, before) => {
                stamp(&joined, before)?;
                cache.counts.verified.add(1);
                return Ok(Stepped::Ended);
            }
            Target::New(staged) => writer.place_joined(staged, &self.wanted.list)?,
        };
        stamp(&joined, FileStamp::of(&joined.data)?)?;
        cache.counts.joined.add(1);
        cache.counts.joined_copied.add(self.copied);
        cache.counts.joined_cloned.add(self.cloned);
        let mut leftovers = Vec::new();
        for ((chunk, place), open) in self.chunks.iter().zip(&self.wanted.open) {
            let hash = ContentHash::from_bytes(chunk.object);
            match cache.objects.note_place(chunk.object, place) {
                Ok(true) => {}
                // A small one, which keeps its file.
                Ok(false) => continue,
                Err(error) => {
                    tracing::debug!(%hash, %error, "a chunk keeps its own file");
                    continue;
                }
            }
            if let Some(large) = open.upgrade() {
                large.look_again();
            }
            let leftover = Leftover {
                chunk: hash,
                place: *place,
            };
            if leftover.is_in_use(cache) {
                leftovers.push(leftover);
            }
        }
        Ok(Stepped::Joined(leftovers))
    }

    /// The shelves on which it changes something.
    pub(super) fn shelves(&self) -> Vec<u8> {
        let chunks = self.chunks.iter().map(|(chunk, _)| chunk.object[0]);
        chunks.chain([self.name()[0]]).collect()
    }
}

/// Says that a joined file is right as long as it has this stamp.
fn stamp(joined: &JoinedFiles, file: FileStamp) -> io::Result<()> {
    if let Some(boot) = boot_id() {
        Stamp { file, boot }.write(&joined.about)?;
    }
    Ok(())
}

fn not_written(cache: &OpenCache, source: io::Error) -> Failed {
    let error = DurableError {
        doing: "write a joined file in",
        path: cache.objects.dir().to_owned(),
        source,
    };
    Failed::Cache(error.into())
}

impl Leftover {
    /// Removes the chunk's own file, unless somebody has it open.
    pub(super) fn is_in_use(&self, cache: &OpenCache) -> bool {
        let object = *self.chunk.as_bytes();
        match cache.objects.leave_to_joined(object, self.place.joined) {
            Ok(removal) => removal == Removal::InUse,
            Err(error) => {
                tracing::debug!(hash = %self.chunk, %error, "a chunk keeps its own file");
                false
            }
        }
    }

    pub(super) fn shelf(&self) -> u8 {
        self.chunk.as_bytes()[0]
    }
}

impl Failed {
    fn tell(&self, cache: &OpenCache) {
        match self {
            Self::NotNow => {}
            Self::Disk(error) => {
                cache.counts.failed.add(1);
                tracing::warn!(dir = %cache.objects.dir().display(), error = error as &dyn Error,
                    "files of the disk cache cannot be joined");
            }
            Self::Cache(CacheDirError::Io(error))
                if error.kind() == io::ErrorKind::AlreadyExists =>
            {
                // Each open of the file may come here.
                tracing::debug!(
                    error = error as &(dyn Error + 'static),
                    "something that attachfs did not make is in the disk cache; a file is not joined"
                );
            }
            Self::Cache(error) => {
                cache.counts.failed.add(1);
                cache.health.failed(error as &(dyn Error + 'static));
            }
        }
    }
}

#[cfg(test)]
mod tests;
