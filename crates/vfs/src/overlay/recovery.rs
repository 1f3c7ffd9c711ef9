//! Rebuilds a namespace from its journal.
//!
//! [`look`] reads, and changes nothing on disk. [`Seen::take_over`] makes the session ready for more:
//! it cuts off a torn record, removes the scratch files of which the records say that they are deleted,
//! and moves aside those that no record speaks of.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::DurableError;
use attachfs_tree::{BaseTree, FileContent, Ino, InodeKind, Mutation, MutationError, Namespace};

use crate::session::RESERVE;

use super::journal::ReadJournal;
use super::{CommitRecord, Disk, Journal, JournalError, Record, Scratch, SyncError};

/// What a session held when its process ended.
#[derive(Debug)]
pub struct Seen {
    /// Everything that had returned success.
    pub namespace: Namespace,
    /// The steps of commits, in order.
    pub commits: Vec<CommitRecord>,
    /// The files of which nobody knows whether they are whole: those that were open and written to when the process
    /// ended, and those that lost bytes with the power.
    pub left_open: HashSet<Ino>,
    /// `None` if there is none.
    journal: Option<ReadJournal>,
    path: PathBuf,
    /// Scratch files of files that were deleted.
    deleted: Vec<Ino>,
    /// Scratch files that no record speaks of.
    pub(crate) unknown: Vec<Ino>,
    /// Files of which the last bytes are missing, and how long they should be.
    short: Vec<(Ino, u64)>,
    /// Files whose bytes are perhaps not durable, and come before the records.
    first: HashSet<Ino>,
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
        record: usize,
        /// Why.
        #[source]
        source: MutationError,
    },
    /// The scratch directory cannot be read.
    #[error("cannot read the scratch directory")]
    Scratch(#[source] io::Error),
    /// The scratch directory cannot be opened.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// What was left cannot be made durable.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The session was begun, but nothing says what was done in it.
    #[error("the journal {} is missing, but {} shows that the session had one: what it said is lost", journal.display(), trace.display())]
    MissingJournal {
        /// Where it should be.
        journal: PathBuf,
        /// What is made after the journal: the scratch directory with files in it, or the reserve.
        trace: PathBuf,
    },
    /// A file's bytes are gone.
    #[error("the scratch file {} of \"{name}\" is missing", scratch.display())]
    MissingScratch {
        /// Where it should be.
        scratch: PathBuf,
        /// The file it belongs to.
        name: String,
    },
}

/// What the records say, one after the other.
struct Replay {
    namespace: Namespace,
    commits: Vec<CommitRecord>,
    open: HashSet<Ino>,
    /// Every inode that was given a scratch file.
    made: HashSet<Ino>,
    /// Files whose bytes come before the records that speak of them, see [`Disk`].
    first: HashSet<Ino>,
}

impl Replay {
    /// What a mutation says beside what it does.
    fn note(&mut self, mutation: &Mutation) {
        match *mutation {
            Mutation::CreateFile { ino, .. } => {
                self.made.insert(ino);
                self.open.insert(ino);
            }
            Mutation::CopyUp { to, keep, .. } => {
                self.made.insert(to);
                if keep == 0 {
                    self.first.insert(to);
                }
            }
            Mutation::Write { ino, .. } => {
                self.first.insert(ino);
            }
            _ => self.first.extend(replacing(&self.namespace, mutation)),
        }
    }

    fn records(&mut self, records: Vec<Record>, path: &Path) -> Result<(), RecoveryError> {
        let mut orphans = HashSet::new();
        for (number, record) in records.into_iter().enumerate() {
            match record {
                Record::Mutation(mutation) => {
                    self.note(&mutation);
                    let orphan = self.namespace.apply(&mutation).map_err(|source| {
                        RecoveryError::Mutation {
                            path: path.to_owned(),
                            record: number + 1,
                            source,
                        }
                    })?;
                    orphans.extend(orphan);
                }
                Record::Commit(step) => self.commits.push(step),
                Record::Sealed { .. } => {}
                Record::Opened(ino) => {
                    self.open.insert(ino);
                }
                Record::Closed(ino) => {
                    self.open.remove(&ino);
                }
            }
        }
        for orphan in orphans {
            if self.namespace.link_count(orphan) == 0 {
                self.namespace.forget(orphan);
            }
        }
        Ok(())
    }
}

/// The file that takes the place of another one in a mutation that is not applied yet.
pub(crate) fn replacing(namespace: &Namespace, mutation: &Mutation) -> Option<Ino> {
    let Mutation::Rename {
        from_parent,
        from_name,
        to_parent,
        to_name,
        ..
    } = mutation
    else {
        return None;
    };
    let ino = namespace.lookup(*from_parent, from_name.as_bytes())?;
    let replaced = namespace.lookup(*to_parent, to_name.as_bytes())?;
    let content = namespace.content(ino)?;
    (replaced != ino && *content != FileContent::Base).then_some(ino)
}

/// Replays a journal over a base. Changes nothing.
pub fn look(path: &Path, scratch: &Scratch, base: Arc<BaseTree>) -> Result<Seen, RecoveryError> {
    let found: HashSet<Ino> = scratch
        .inodes()
        .map_err(RecoveryError::Scratch)?
        .into_iter()
        .collect();
    let mut journal = match Journal::read(path) {
        Err(JournalError::Durable(error)) if error.kind() == io::ErrorKind::NotFound => {
            let reserve = path.with_file_name(RESERVE);
            let trace = if found.is_empty() {
                reserve.symlink_metadata().is_ok().then_some(reserve)
            } else {
                Some(scratch.dir().to_owned())
            };
            if let Some(trace) = trace {
                return Err(RecoveryError::MissingJournal {
                    journal: path.to_owned(),
                    trace,
                });
            }
            // Its process died before it made one: nothing was written.
            None
        }
        journal => Some(journal?),
    };
    let mut replay = Replay {
        namespace: Namespace::new(base),
        commits: Vec::new(),
        open: HashSet::new(),
        made: HashSet::new(),
        first: HashSet::new(),
    };
    if let Some(journal) = &mut journal {
        replay.records(journal.take_records(), path)?;
    }
    let Replay {
        namespace,
        commits,
        open,
        made,
        first,
    } = replay;
    let mut wanted = HashSet::new();
    let mut short = Vec::new();
    for (ino, inode) in namespace.touched() {
        let content = match &inode.kind {
            InodeKind::File(content) if *content != FileContent::Base => content,
            _ => continue,
        };
        if !found.contains(&ino) {
            let name = namespace
                .path(ino)
                .map_or_else(|| ino.to_string(), |path| path.to_string());
            return Err(RecoveryError::MissingScratch {
                scratch: scratch.path(ino),
                name,
            });
        }
        wanted.insert(ino);
        if let FileContent::Mapped(mapping) = content {
            let written = mapping.written.end();
            let facts = scratch.facts(ino).map_err(RecoveryError::Scratch)?;
            if facts.stamp.size < written {
                short.push((ino, written));
            }
        }
    }
    let mut left_open: HashSet<Ino> = open
        .into_iter()
        .filter(|ino| wanted.contains(ino))
        .collect();
    left_open.extend(short.iter().map(|(ino, _)| ino));
    let (deleted, unknown) = found
        .difference(&wanted)
        .partition(|ino| made.contains(ino));
    Ok(Seen {
        namespace,
        commits,
        left_open,
        journal,
        path: path.to_owned(),
        deleted,
        unknown,
        short,
        first: &first & &wanted,
    })
}

impl Seen {
    /// Makes the session ready for more. Whoever calls this has the session for itself since before
    /// [`look`].
    pub(crate) fn take_over(&self, scratch: Scratch) -> Result<Arc<Disk>, RecoveryError> {
        let journal = match &self.journal {
            Some(read) => read.go_on()?,
            None => Journal::create(&self.path)?,
        };
        for &(ino, len) in &self.short {
            // The power was lost between the record and the bytes. What is missing reads as zeros, and
            // the file is one of those of which nobody knows whether they are whole.
            tracing::warn!(path = %scratch.path(ino).display(), "a scratch file has lost its last bytes");
            let file = scratch.open_file(ino).map_err(RecoveryError::Scratch)?;
            file.set_len(len).map_err(RecoveryError::Scratch)?;
        }
        for &ino in &self.unknown {
            let aside = scratch.set_aside(ino)?;
            tracing::warn!(path = %aside.display(), "a scratch file that no record speaks of was set aside");
        }
        let disk = Disk::new(journal, scratch, self.first.clone());
        if !self.deleted.is_empty() {
            // The records that deleted them may be in the kernel only, and so may be the bytes of what took
            // their place.
            disk.sync()?;
        }
        for &ino in &self.deleted {
            disk.remove(ino);
        }
        Ok(disk)
    }
}
