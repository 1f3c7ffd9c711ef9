//! Replaying the records of a journal, one after the other.

use std::collections::HashSet;
use std::path::Path;

use attachfs_manifest::ContentHash;
use attachfs_tree::{FileContent, Ino, InodeKind, Mutation, Namespace, NamespacePart};

use super::{
    BaseSource, CommitRecord, LayerFileError, LayerFiles, ReadJournal, Record, RecoveryError,
};

/// How far the state is read that a compacted journal begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The journal has none so far.
    None,
    /// Parts of it. Inodes may be there and their names not: nothing can be done with that.
    Parts,
    /// All of it but extended attributes, which may follow. Also where a journal has no state, from its first change on.
    Whole,
}

/// The state that the records give.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) namespace: Namespace,
    layer_files: LayerFiles,
    /// The hashes of the layers over the base, in their order.
    pub(super) layers: Vec<ContentHash>,
    pub(super) commits: Vec<CommitRecord>,
    /// Files that are being written to.
    pub(super) open: HashSet<Ino>,
    /// Every inode that was given a scratch file.
    pub(super) made: HashSet<Ino>,
    /// Files whose bytes have to be durable before their records, see [`Disk`](super::Disk).
    pub(super) first: HashSet<Ino>,
    /// The start of the machine that wrote last.
    pub(super) boot: Option<String>,
    /// Files whose bytes are not known to be on the disk.
    pub(super) unsaved: HashSet<Ino>,
    state: State,
}

impl Replay {
    pub(super) fn new(base: BaseSource) -> Self {
        Self {
            namespace: Namespace::new(base.first),
            layer_files: base.layers,
            layers: Vec::new(),
            commits: Vec::new(),
            open: HashSet::new(),
            made: HashSet::new(),
            first: HashSet::new(),
            boot: None,
            unsaved: HashSet::new(),
            state: State::None,
        }
    }

    /// Whether the state that a compacted journal begins with is read in part: it counts as a whole, or not at all.
    pub(super) fn is_within_state(&self) -> bool {
        self.state == State::Parts
    }

    /// Notes a record of the state, or another one.
    fn note_state(&mut self, part: Option<&NamespacePart>) -> bool {
        let (is_in_order, state) = match (self.state, part) {
            // Extended attributes come last.
            (State::Whole, Some(NamespacePart::Xattrs(..))) => (true, State::Whole),
            (State::Whole, Some(_)) => (false, State::Whole),
            (_, Some(NamespacePart::Made(_))) => (true, State::Whole),
            (_, Some(_)) => (true, State::Parts),
            (State::Parts, None) => (false, State::Parts),
            (state, None) => (true, state),
        };
        self.state = state;
        is_in_order
    }

    /// Notes what a mutation implies for files and scratch files.
    fn note(&mut self, mutation: &Mutation) {
        match *mutation {
            Mutation::CreateFile { ino, .. } => {
                self.made.insert(ino);
                self.open.insert(ino);
                self.unsaved.insert(ino);
            }
            Mutation::CopyUp { ino, keep, .. } => {
                self.made.insert(ino);
                self.unsaved.insert(ino);
                if keep == 0 {
                    self.first.insert(ino);
                }
            }
            Mutation::Write { ino, .. } => {
                self.first.insert(ino);
            }
            _ => self.first.extend(replacing(&self.namespace, mutation)),
        }
    }

    /// Replays the next record of a journal; `false` after the last one.
    pub(super) fn next(
        &mut self,
        journal: &mut ReadJournal,
        path: &Path,
    ) -> Result<bool, RecoveryError> {
        let Some(record) = journal.next_record()? else {
            if self.is_within_state() {
                return Err(RecoveryError::CutOffState(path.to_owned()));
            }
            return Ok(false);
        };
        let part = match &record {
            Record::State(part) => Some(part),
            _ => None,
        };
        if !self.note_state(part) {
            return Err(RecoveryError::State {
                path: path.to_owned(),
                record: journal.count(),
            });
        }
        match record {
            Record::Mutation(mutation) => {
                self.state = State::Whole;
                self.note(&mutation);
                let applied = self.namespace.apply(&mutation);
                applied.map_err(|source| RecoveryError::Mutation {
                    path: path.to_owned(),
                    record: journal.count(),
                    source,
                })?;
            }
            Record::Commit(step) => self.commits.push(step),
            Record::Sealed { .. } => {}
            Record::Opened(ino) => {
                self.open.insert(ino);
                self.unsaved.insert(ino);
            }
            Record::Closed(ino) => {
                self.open.remove(&ino);
            }
            Record::Layer { number, diff } => {
                let failed = |source: LayerFileError| RecoveryError::Layer {
                    path: path.to_owned(),
                    record: journal.count(),
                    source: source.into(),
                };
                let layer = self.layer_files.read(number, diff).map_err(failed)?;
                let added = self.namespace.add_layer(layer);
                added.map_err(|error| failed(error.into()))?;
                self.layers.push(diff);
            }
            Record::State(part) => {
                if let NamespacePart::Inodes(inodes) = &part {
                    let files = inodes.iter().filter(|(_, inode)| has_scratch(&inode.kind));
                    self.made.extend(files.map(|(ino, _)| ino));
                    self.unsaved.extend(&self.made);
                }
                self.namespace.restore(part);
            }
            Record::Deleted(scratch) => self.made.extend(scratch),
            Record::Boot(id) => self.boot = Some(id),
            Record::Saved => self.unsaved.clear(),
        }
        Ok(true)
    }

    /// Forgets inodes that lost their last name and are not open, and returns them.
    pub(super) fn forget(&mut self, is_closed: impl Fn(&Ino) -> bool) -> HashSet<Ino> {
        let closed: HashSet<Ino> = self.namespace.nameless().filter(is_closed).collect();
        for &ino in &closed {
            self.namespace.forget(ino);
        }
        closed
    }
}

/// Whether an inode of this kind has a scratch file.
pub(super) fn has_scratch(kind: &InodeKind) -> bool {
    matches!(kind, InodeKind::File(content) if *content != FileContent::Base)
}

/// The files that take the place of others in a mutation that is not applied yet: one in a rename, two in an exchange.
pub(crate) fn replacing(
    namespace: &Namespace,
    mutation: &Mutation,
) -> impl Iterator<Item = Ino> + use<> {
    let (Mutation::Rename {
        from_parent,
        from_name,
        to_parent,
        to_name,
        ..
    }
    | Mutation::Exchange {
        from_parent,
        from_name,
        to_parent,
        to_name,
        ..
    }) = mutation
    else {
        return [None, None].into_iter().flatten();
    };
    let one = namespace.lookup(*from_parent, from_name.as_bytes());
    let other = namespace.lookup(*to_parent, to_name.as_bytes());
    let is_written = |ino: &Ino| {
        let content = namespace.content(*ino);
        content.is_some_and(|content| *content != FileContent::Base)
    };
    let is_exchange = matches!(mutation, Mutation::Exchange { .. });
    let coming = match (one, other) {
        (Some(one), Some(other)) if one != other => [Some(one), is_exchange.then_some(other)],
        _ => [None, None],
    };
    let coming = coming.map(|ino| ino.filter(is_written));
    coming.into_iter().flatten()
}
