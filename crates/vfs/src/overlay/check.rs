//! Checks the files of an overlay that no process has.
//!
//! [`check`] reads everything and changes nothing. Unlike [`look`](super::look), which stops at the first thing that it cannot use, it tells of all.
//! What can be repaired is repaired by [`salvage`](super::salvage).

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_tree::{BaseTree, Ino};

use super::format::Torn;
use super::recovery::{Bytes, bytes_of, name_of, open_or_missing, unreadable, unsaved_since};
use super::replay::Replay;
use super::{
    CommitRecord, Journal, JournalError, OverlayFiles, ReadJournal, RecoveryError, Scratch,
};

/// What is in the files of an overlay.
#[derive(Debug)]
pub struct Checked {
    /// How many records of the journal can be used.
    pub records: u64,
    /// The bytes after the last record, of an operation that never returned: the next process cuts them off.
    pub torn: Option<Torn>,
    /// The first record of the journal that cannot be used, or why none can. What comes after it is lost.
    pub damage: Option<RecoveryError>,
    /// Something that the journal needs and that is not there, or cannot be read: a layer, or the directory of the written
    /// files. Nothing is known of what depends on it, and nothing is repaired before it is back.
    pub needed: Option<RecoveryError>,
    /// How many files have written bytes.
    pub written: u64,
    /// Files whose written bytes are missing.
    pub missing: Vec<RecoveryError>,
    /// Files whose written bytes are there and cannot be read. Nothing is repaired before they can be.
    pub unreadable: Vec<RecoveryError>,
    /// Files that may be incomplete: they were open when the last process ended, or may have lost bytes with the power.
    pub left_open: Vec<String>,
    /// Scratch files that no record mentions: the next process sets them aside.
    pub unknown: Vec<PathBuf>,
    /// The steps of commits, in order.
    pub commits: Vec<CommitRecord>,
    /// How many layers were added over the base.
    pub layers: u32,
    /// How long the part of the journal is that can be used.
    pub(super) sound: u64,
    /// The files with written bytes, and those of them that are missing.
    pub(super) with_bytes: Vec<Ino>,
    pub(super) without_bytes: Vec<Ino>,
    /// The files that count as open for writing already.
    pub(super) open: HashSet<Ino>,
    /// Scratch files that no file needs.
    pub(super) unneeded: Vec<Ino>,
    /// Files whose bytes have to be durable before the records.
    pub(super) first: Vec<Ino>,
}

impl Checked {
    /// Whether a process can take the overlay over as it is.
    pub fn is_sound(&self) -> bool {
        self.is_readable() && !self.can_be_salvaged()
    }

    /// Whether everything is there that has to be read.
    pub fn is_readable(&self) -> bool {
        self.needed.is_none() && self.unreadable.is_empty()
    }

    /// Whether there is something that [`salvage`](super::salvage) repairs.
    pub fn can_be_salvaged(&self) -> bool {
        self.is_readable() && (self.damage.is_some() || !self.missing.is_empty())
    }
}

/// Reads the files of an overlay over its base, and changes nothing. Fails if the system does not let it read them, or if
/// another version of the program wrote the journal.
pub fn check(files: &OverlayFiles, base: Arc<BaseTree>) -> Result<Checked, RecoveryError> {
    let scratch = files.scratch.as_it_is()?;
    let found: HashSet<Ino> = scratch
        .inodes()
        .map_err(RecoveryError::Scratch)?
        .into_iter()
        .collect();
    let mut read = Read::of(files, &scratch, &found, base)?;
    let mut needed = read
        .stopped
        .take_if(|error| matches!(error, RecoveryError::Layer { .. }));
    let is_whole = needed.is_none();
    if scratch.is_missing() && read.was_begun {
        // It is made before the journal.
        let missing = || RecoveryError::MissingScratchDir(scratch.dir().to_owned());
        needed.get_or_insert_with(missing);
    }
    let Read { mut replay, .. } = read;
    replay.forget(|_| true);
    let in_doubt = match (&replay.boot, &files.boot) {
        (Some(then), Some(now)) if then != now => {
            let unsaved = std::mem::take(&mut replay.unsaved);
            unsaved_since(&replay.namespace, &replay.commits, unsaved, &scratch)
        }
        _ => HashSet::new(),
    };
    let mut checked = Checked {
        records: read.records,
        torn: read.torn,
        damage: read.stopped,
        needed,
        written: 0,
        missing: Vec::new(),
        unreadable: Vec::new(),
        left_open: Vec::new(),
        unknown: Vec::new(),
        layers: u32::try_from(replay.layers.len()).unwrap_or(u32::MAX),
        commits: std::mem::take(&mut replay.commits),
        sound: read.sound,
        with_bytes: Vec::new(),
        without_bytes: Vec::new(),
        open: HashSet::new(),
        unneeded: Vec::new(),
        first: Vec::new(),
    };
    if is_whole {
        checked.look_at_bytes(replay, &found, &in_doubt, &scratch);
    }
    Ok(checked)
}

impl Checked {
    fn look_at_bytes(
        &mut self,
        replay: Replay,
        found: &HashSet<Ino>,
        in_doubt: &HashSet<Ino>,
        scratch: &Scratch,
    ) {
        let namespace = &replay.namespace;
        let mut all = bytes_of(namespace, found, scratch);
        all.sort_unstable_by_key(|(ino, _)| *ino);
        for (ino, bytes) in all {
            self.with_bytes.push(ino);
            match bytes {
                Bytes::Missing(_) if scratch.is_missing() => {}
                Bytes::Missing(error) => {
                    self.missing.push(error);
                    self.without_bytes.push(ino);
                }
                Bytes::Unreadable(error) => self.unreadable.push(error),
                Bytes::Short(_) => self.left_open.push(name_of(namespace, ino)),
                Bytes::There => {
                    if let Err(error) = scratch.facts(ino) {
                        let error = unreadable(namespace, scratch, ino, error);
                        self.unreadable.push(error);
                    } else if replay.open.contains(&ino) || in_doubt.contains(&ino) {
                        self.left_open.push(name_of(namespace, ino));
                    }
                }
            }
        }
        self.written = self.with_bytes.len() as u64;
        let needed: HashSet<Ino> = self.with_bytes.iter().copied().collect();
        self.unneeded = found.difference(&needed).copied().collect();
        self.unneeded.sort();
        let is_unknown = |ino: &&Ino| !replay.made.contains(*ino);
        let unknown = self.unneeded.iter().filter(is_unknown);
        self.unknown = unknown.map(|&ino| scratch.path(ino)).collect();
        let first = replay.first.iter().copied();
        let is_there = |ino: &Ino| needed.contains(ino) && found.contains(ino);
        self.first = first.filter(is_there).collect();
        self.open = replay.open;
        self.left_open.sort();
    }
}

/// A journal, read as far as it can be used.
struct Read {
    replay: Replay,
    records: u64,
    sound: u64,
    torn: Option<Torn>,
    /// Why no more of it can be used.
    stopped: Option<RecoveryError>,
    /// Whether the session had a journal.
    was_begun: bool,
}

impl Read {
    fn of(
        files: &OverlayFiles,
        scratch: &Scratch,
        found: &HashSet<Ino>,
        base: Arc<BaseTree>,
    ) -> Result<Self, RecoveryError> {
        let base = files.over(base);
        let mut read = Self {
            replay: Replay::new(base.clone()),
            records: 0,
            sound: 0,
            torn: None,
            stopped: None,
            was_begun: true,
        };
        match open_or_missing(files, scratch, found) {
            Ok(Some(journal)) => read.go_on(journal, files)?,
            Ok(None) => read.was_begun = false,
            Err(error) => read.stopped = Some(unless_unreadable(error)?),
        }
        if read.replay.is_within_state() {
            // A part of a state is worse than none: files would be there without their names, and be taken for deleted ones.
            read.replay = Replay::new(base);
            let mut journal = Journal::read_first(&files.journal, read.sound)?;
            while read.replay.next(&mut journal, &files.journal)? {}
        }
        Ok(read)
    }

    fn go_on(
        &mut self,
        mut journal: ReadJournal,
        files: &OverlayFiles,
    ) -> Result<(), RecoveryError> {
        self.sound = journal.position();
        self.stopped = loop {
            match self.replay.next(&mut journal, &files.journal) {
                Ok(true) if self.replay.is_within_state() => {}
                Ok(true) => (self.records, self.sound) = (journal.count(), journal.position()),
                Ok(false) => break None,
                Err(error) => break Some(unless_unreadable(error)?),
            }
        };
        if self.stopped.is_none() {
            self.torn = journal.end().torn();
        }
        Ok(())
    }
}

/// What is wrong with the files. That they cannot be read, now or by this version, says nothing about them.
fn unless_unreadable(error: RecoveryError) -> Result<RecoveryError, RecoveryError> {
    match error {
        RecoveryError::Journal(
            JournalError::Io { .. } | JournalError::Durable(_) | JournalError::OtherVersion { .. },
        )
        | RecoveryError::Scratch(_)
        | RecoveryError::Durable(_) => Err(error),
        damage => Ok(damage),
    }
}
