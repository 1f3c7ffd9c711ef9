//! Rebuilds a namespace from its journal.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::DurableError;
use attachfs_tree::{BaseTree, FileContent, Ino, InodeKind, MutationError, Namespace};

use super::{CommitRecord, Journal, JournalError, Record, Scratch};

/// What a session held when its process ended.
#[derive(Debug)]
pub struct Recovered {
    /// The journal, ready for more.
    pub journal: Journal,
    /// Everything that had returned success.
    pub namespace: Namespace,
    /// The steps of commits, in order.
    pub commits: Vec<CommitRecord>,
    /// Whether the session was unmounted in order and not changed since.
    pub sealed: bool,
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
    /// There are scratch files, but nothing that says what they are.
    #[error("the journal {} is missing, but {} holds files of this session", journal.display(), scratch.display())]
    MissingJournal {
        /// Where it should be.
        journal: PathBuf,
        /// The scratch directory.
        scratch: PathBuf,
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

/// Replays a journal over a base. Scratch files that no record speaks of are removed: the
/// operations that made them never returned, or those that deleted them did. After an error nothing
/// was removed.
pub fn recover(
    journal: &Path,
    scratch: &Scratch,
    base: Arc<BaseTree>,
) -> Result<Recovered, RecoveryError> {
    let found: HashSet<Ino> = scratch
        .inodes()
        .map_err(RecoveryError::Scratch)?
        .into_iter()
        .collect();
    let (opened, records) = match Journal::open(journal) {
        Err(JournalError::Durable(error)) if error.kind() == io::ErrorKind::NotFound => {
            if !found.is_empty() {
                return Err(RecoveryError::MissingJournal {
                    journal: journal.to_owned(),
                    scratch: scratch.dir().to_owned(),
                });
            }
            // It died between its first two steps: nothing was written.
            (Journal::create(journal)?, Vec::new())
        }
        opened => opened?,
    };
    let mut namespace = Namespace::new(base);
    let mut orphans = HashSet::new();
    let mut commits = Vec::new();
    let mut sealed = false;
    for (number, record) in records.into_iter().enumerate() {
        sealed = false;
        match record {
            Record::Mutation(mutation) => {
                let orphan =
                    namespace
                        .apply(&mutation)
                        .map_err(|source| RecoveryError::Mutation {
                            path: journal.to_owned(),
                            record: number + 1,
                            source,
                        })?;
                orphans.extend(orphan);
            }
            Record::Commit(step) => commits.push(step),
            Record::Sealed { .. } => sealed = true,
        }
    }
    for orphan in orphans {
        if namespace.link_count(orphan) == 0 {
            namespace.forget(orphan);
        }
    }
    let mut wanted = HashSet::new();
    for (ino, inode) in namespace.touched() {
        if let InodeKind::File(FileContent::Scratch | FileContent::Mapped(_)) = inode.kind {
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
        }
    }
    if found.difference(&wanted).next().is_some() {
        // The records that deleted them may be in the kernel only.
        opened.sync()?;
    }
    for ino in found.difference(&wanted) {
        scratch.remove(*ino).map_err(RecoveryError::Scratch)?;
    }
    Ok(Recovered {
        journal: opened,
        namespace,
        commits,
        sealed,
    })
}
