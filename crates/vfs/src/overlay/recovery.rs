//! Rebuilds a namespace from its journal.
//!
//! [`look`] reads, and changes nothing on disk. [`Seen::take_over`] makes the session ready for more: it cuts off a
//! torn record, removes an unfinished compaction and the scratch files of deleted files, and moves aside scratch
//! files that no record mentions.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{DurableError, sweep_abandoned};
use attachfs_manifest::ContentHash;
use attachfs_tree::{BaseTree, FileContent, Ino, InodeKind, MutationError, Namespace};

use super::journal::JournalEnd;
use super::replay::Replay;
use super::successor::dir_of;
use super::{
    BaseSource, CommitRecord, Disk, Journal, JournalError, LayerFileError, OverlayFiles,
    ReadJournal, Record, Scratch, ScratchDir, SyncError,
};

/// The state of a session when its process ended.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The result of all operations that had returned success.
    pub(crate) namespace: Namespace,
    base: BaseSource,
    /// The hashes of the layers over the base, in their order.
    pub(crate) layers: Vec<ContentHash>,
    /// The steps of commits, in order.
    pub(crate) commits: Vec<CommitRecord>,
    /// The files that may be incomplete: those that were open and written to when the process ended, and those that
    /// lost bytes in a power loss.
    pub(crate) left_open: HashSet<Ino>,
    /// The end of the journal; `None` if there is no journal.
    journal: Option<JournalEnd>,
    path: PathBuf,
    /// Scratch files of files that were deleted.
    deleted: Vec<Ino>,
    /// Scratch files that no record mentions.
    pub(crate) unknown: Vec<Ino>,
    /// Files whose last bytes are missing, and the length that they should have.
    short: Vec<(Ino, u64)>,
    /// Files whose bytes an earlier start of the machine wrote and did not save.
    unsaved: Vec<Ino>,
    /// The present start of the machine, if the journal does not have it yet.
    boot: Option<String>,
    /// Files whose bytes may not be durable yet, and have to be durable before the records.
    first: HashSet<Ino>,
    /// Inodes that lost their last name.
    forgotten: HashSet<Ino>,
}

/// Why a session cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record does not fit those before it.
    #[error("record {record} of the journal {} does not apply", path.display())]
    Mutation {
        /// The journal.
        path: PathBuf,
        /// 1 for the first.
        record: u64,
        /// Why.
        #[source]
        source: MutationError,
    },
    /// A compacted journal has only a part of the state that it was compacted to.
    #[error("the journal {} ends within the state that it was compacted to: the rest of its records is lost", .0.display())]
    CutOffState(PathBuf),
    /// A part of a state is missing, or comes where it cannot.
    #[error("record {record} of the journal {} comes in the middle of the state that it was compacted to, or after its end", path.display())]
    State {
        /// The journal.
        path: PathBuf,
        /// 1 for the first.
        record: u64,
    },
    /// A layer of the base cannot be used.
    #[error("record {record} of the journal {} adds a layer that cannot be used", path.display())]
    Layer {
        /// The journal.
        path: PathBuf,
        /// 1 for the first.
        record: u64,
        /// Why.
        #[source]
        source: Box<LayerFileError>,
    },
    /// The scratch directory cannot be read.
    #[error("cannot read the scratch directory")]
    Scratch(#[source] io::Error),
    /// The scratch directory cannot be opened.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The recovered state cannot be made durable.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The session was used, but its journal is missing.
    #[error("the journal {} is missing, but {} shows that the session had one: its records are lost", journal.display(), trace.display())]
    MissingJournal {
        /// Its path.
        journal: PathBuf,
        /// The evidence of a journal: scratch files, or the reserve, which are made after it.
        trace: PathBuf,
    },
    /// The scratch directory is missing, with all that was written.
    #[error("the scratch directory {} is missing, and what was written is in it: is its disk mounted?", .0.display())]
    MissingScratchDir(PathBuf),
    /// The scratch file of a file cannot be opened.
    #[error("the scratch file {} of \"{name}\" cannot be read", scratch.display())]
    UnreadableScratch {
        /// Its path.
        scratch: PathBuf,
        /// The file it belongs to.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The scratch file of a file is missing.
    #[error("the scratch file {} of \"{name}\" is missing", scratch.display())]
    MissingScratch {
        /// Its path.
        scratch: PathBuf,
        /// The file it belongs to.
        name: String,
    },
}

/// Replays a journal over a base. Changes nothing. If the journal is missing, the reserve shows that there was
/// one.
pub(crate) fn look(files: &OverlayFiles, base: Arc<BaseTree>) -> Result<Seen, RecoveryError> {
    let path = files.journal.as_path();
    let scratch = files.scratch.as_it_is()?;
    let base = files.over(base);
    let found: HashSet<Ino> = scratch
        .inodes()
        .map_err(RecoveryError::Scratch)?
        .into_iter()
        .collect();
    let mut journal = open_or_missing(files, &scratch, &found)?;
    let mut replay = Replay::new(base.clone());
    if let Some(journal) = &mut journal {
        while replay.next(journal, path)? {}
    }
    // Nothing is open any more.
    let forgotten = replay.forget(|_| true);
    let Replay {
        namespace,
        layers,
        commits,
        open,
        made,
        first,
        boot,
        unsaved,
        ..
    } = replay;
    let unknown_bytes = match (&boot, &files.boot) {
        (Some(then), Some(now)) if then != now => {
            unsaved_since(&namespace, &commits, unsaved, &scratch)
        }
        _ => HashSet::new(),
    };
    let mut wanted = HashSet::new();
    let mut short = Vec::new();
    for (ino, bytes) in bytes_of(&namespace, &found, &scratch) {
        wanted.insert(ino);
        match bytes {
            Bytes::There => {}
            Bytes::Short(written) => short.push((ino, written)),
            Bytes::Missing(_) if scratch.is_missing() => {
                return Err(RecoveryError::MissingScratchDir(scratch.dir().to_owned()));
            }
            Bytes::Missing(error) | Bytes::Unreadable(error) => return Err(error),
        }
    }
    let mut left_open: HashSet<Ino> = open
        .into_iter()
        .filter(|ino| wanted.contains(ino))
        .collect();
    left_open.extend(short.iter().map(|(ino, _)| ino));
    let unsaved: Vec<Ino> = unknown_bytes.difference(&left_open).copied().collect();
    left_open.extend(&unsaved);
    let (deleted, unknown) = found
        .difference(&wanted)
        .partition(|ino| made.contains(ino));
    Ok(Seen {
        namespace,
        base,
        layers,
        commits,
        left_open,
        journal: journal.map(ReadJournal::end),
        path: path.to_owned(),
        deleted,
        unknown,
        short,
        unsaved,
        boot: files.boot.clone().filter(|now| boot.as_ref() != Some(now)),
        first: &first & &wanted,
        forgotten,
    })
}

/// The files whose bytes may have been lost with the power, without any sign of it: those that are all in scratch. Of others the journal knows
/// how long they are, and their bytes are durable before that. Nor is a file in doubt that is as it was when it was committed.
pub(super) fn unsaved_since(
    namespace: &Namespace,
    commits: &[CommitRecord],
    unsaved: HashSet<Ino>,
    scratch: &Scratch,
) -> HashSet<Ino> {
    let mut clean = HashMap::new();
    for step in commits {
        if let CommitRecord::Intent { clean: files, .. } = step {
            clean.extend(files.iter().map(|file| (file.ino, file.stamp)));
        }
    }
    let is_clean = |ino: &Ino| {
        let stamp = clean.get(ino).zip(scratch.facts(*ino).ok());
        stamp.is_some_and(|(then, now)| *then == now.stamp.into())
    };
    let mut unsaved = unsaved;
    unsaved.retain(|ino| namespace.content(*ino) == Some(&FileContent::Scratch) && !is_clean(ino));
    unsaved
}

/// Begins to read the journal; `None` if there was none yet. The reserve and scratch files, which are made after it, show that there was one.
pub(super) fn open_or_missing(
    files: &OverlayFiles,
    scratch: &Scratch,
    found: &HashSet<Ino>,
) -> Result<Option<ReadJournal>, RecoveryError> {
    let (path, reserve) = (files.journal.as_path(), files.reserve.as_path());
    match Journal::read(path) {
        Err(JournalError::Durable(error)) if error.kind() == io::ErrorKind::NotFound => {
            let trace = if found.is_empty() {
                reserve
                    .symlink_metadata()
                    .is_ok()
                    .then(|| reserve.to_owned())
            } else {
                Some(scratch.dir().to_owned())
            };
            match trace {
                Some(trace) => Err(RecoveryError::MissingJournal {
                    journal: path.to_owned(),
                    trace,
                }),
                // The process died before it created a journal: nothing was written.
                None => Ok(None),
            }
        }
        journal => Ok(Some(journal?)),
    }
}

/// The path of an inode, for messages.
pub(super) fn name_of(namespace: &Namespace, ino: Ino) -> String {
    let path = namespace.path(ino);
    path.map_or_else(|| ino.to_string(), |path| path.to_string())
}

/// The written bytes of a file.
pub(super) enum Bytes {
    /// They are there.
    There,
    /// Those up to this length should be there, and the last ones are not.
    Short(u64),
    /// The scratch file is missing.
    Missing(RecoveryError),
    /// The scratch file cannot be opened.
    Unreadable(RecoveryError),
}

/// The files with written bytes, and whether these are among the scratch files that were found.
pub(super) fn bytes_of(
    namespace: &Namespace,
    found: &HashSet<Ino>,
    scratch: &Scratch,
) -> Vec<(Ino, Bytes)> {
    let mut all = Vec::new();
    for (ino, inode) in namespace.touched() {
        let content = match &inode.kind {
            InodeKind::File(content) if *content != FileContent::Base => content,
            _ => continue,
        };
        let bytes = if !found.contains(&ino) {
            let (scratch, name) = (scratch.path(ino), name_of(namespace, ino));
            Bytes::Missing(RecoveryError::MissingScratch { scratch, name })
        } else if let FileContent::Mapped(mapping) = content {
            let written = mapping.written.end();
            match scratch.facts(ino) {
                Ok(facts) if facts.stamp.size < written => Bytes::Short(written),
                Ok(_) => Bytes::There,
                Err(error) => Bytes::Unreadable(unreadable(namespace, scratch, ino, error)),
            }
        } else {
            Bytes::There
        };
        all.push((ino, bytes));
    }
    all
}

/// Why the bytes of a file cannot be read.
pub(super) fn unreadable(
    namespace: &Namespace,
    scratch: &Scratch,
    ino: Ino,
    source: io::Error,
) -> RecoveryError {
    RecoveryError::UnreadableScratch {
        scratch: scratch.path(ino),
        name: name_of(namespace, ino),
        source,
    }
}

impl Seen {
    /// The session as it is. Nothing changes on disk.
    pub(crate) fn leave(&self, scratch: Scratch) -> Arc<Disk> {
        let journal = Journal::looked_at(&self.path);
        Disk::new(journal, scratch, self.base.clone(), HashSet::new())
    }

    /// Makes the session ready for more changes. The caller has had the session's lock since before
    /// [`look`].
    pub(crate) fn take_over(&self, files: &OverlayFiles) -> Result<Arc<Disk>, RecoveryError> {
        if let (ScratchDir::Missing(path), Some(_)) = (&files.scratch, &self.journal) {
            // It was made before the journal. A new one would be hidden once its disk is mounted.
            return Err(RecoveryError::MissingScratchDir(path.clone()));
        }
        let scratch = files.scratch_to_write()?;
        sweep_abandoned(dir_of(&self.path))?;
        let journal = match &self.journal {
            Some(read) => read.go_on()?,
            None => Journal::create(&self.path)?,
        };
        // The length is all that shows it, and is mended below; or the boot, which is the present one from here on.
        let in_doubt = self.short.iter().map(|(ino, _)| ino);
        for &ino in in_doubt.chain(&self.unsaved) {
            journal.append(&Record::Opened(ino))?;
        }
        if let Some(boot) = &self.boot {
            journal.append(&Record::Boot(boot.clone()))?;
        }
        if !self.short.is_empty() || !self.unsaved.is_empty() {
            journal.sync()?;
        }
        for &(ino, len) in &self.short {
            // The power was lost after the record and before the bytes. The missing bytes read as
            // zeros, and the file counts as possibly incomplete.
            tracing::warn!(path = %scratch.path(ino).display(), "a scratch file has lost its last bytes");
            let file = scratch.open_file(ino).map_err(RecoveryError::Scratch)?;
            let lengthen = || file.set_len(len);
            perform(Step::ScratchLengthen, || scratch.path(ino), lengthen)
                .map_err(RecoveryError::Scratch)?;
        }
        for aside in scratch.set_aside(&self.unknown)? {
            tracing::warn!(path = %aside.display(), "a scratch file that no record mentions was set aside");
        }
        let disk = Disk::new(journal, scratch, self.base.clone(), self.first.clone());
        disk.forgot(self.forgotten.iter().copied());
        if !self.deleted.is_empty() {
            // The records of their deletion may not be durable yet, and neither the bytes of the files that
            // replaced them.
            disk.sync()?;
        }
        for &ino in &self.deleted {
            disk.remove(ino);
        }
        Ok(disk)
    }
}
