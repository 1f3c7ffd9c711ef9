//! Checks the files of an overlay that no process has, and makes files that can be taken over of ones that cannot.
//!
//! [`check`] reads everything and changes nothing. Unlike [`look`](super::look), which stops at the first thing that it cannot use, it tells of all.
//! [`salvage`] keeps what is sound, and deletes nothing:
//!
//! ```text
//!     a damaged journal          aside/journal    the whole of it, as it was
//!                                journal          its records up to the first one that cannot be used
//!     a missing scratch file     an empty one, which counts as open at a kill: a commit asks about it
//! ```

use std::collections::HashSet;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::{OwnDir, Staged, open_own_file_to_read};
use attachfs_tree::{BaseTree, Ino};

use super::error::failed;
use super::format::{MAGIC, Torn};
use super::recovery::{Bytes, bytes_of, name_of, open_or_missing};
use super::replay::Replay;
use super::scratch::free_name;
use super::successor::dir_of;
use super::{CommitRecord, Journal, JournalError, OverlayFiles, Record, RecoveryError};

/// The name of a damaged journal among what was set aside. More of them get numbers, as `journal.1`.
const JOURNAL_ASIDE: &str = "journal";

/// What is in the files of an overlay.
#[derive(Debug)]
pub struct Checked {
    /// How many records of the journal can be used.
    pub records: u64,
    /// The bytes after the last record, of an operation that never returned: the next process cuts them off.
    pub torn: Option<Torn>,
    /// The first record of the journal that cannot be used, or why none can. What comes after it is lost.
    pub damage: Option<RecoveryError>,
    /// How many files have written bytes.
    pub written: u64,
    /// Files whose written bytes are missing.
    pub missing: Vec<RecoveryError>,
    /// Files that may be incomplete: they were open when the last process ended, or lost their end with the power.
    pub left_open: Vec<String>,
    /// Scratch files that no record mentions: the next process sets them aside.
    pub unknown: Vec<PathBuf>,
    /// The steps of commits, in order.
    pub commits: Vec<CommitRecord>,
    /// How many layers were added over the base.
    pub layers: u32,
    /// How long the part of the journal is that can be used.
    sound: u64,
    without_bytes: Vec<Ino>,
}

impl Checked {
    /// Whether a process can take the overlay over as it is.
    pub fn is_sound(&self) -> bool {
        self.damage.is_none() && self.missing.is_empty()
    }
}

/// Reads the files of an overlay over its base, and changes nothing. Fails if the system does not let it read them.
pub fn check(files: &OverlayFiles, base: Arc<BaseTree>) -> Result<Checked, RecoveryError> {
    let path = files.journal.as_path();
    let scratch = files.scratch.as_it_is()?;
    let found: HashSet<Ino> = scratch
        .inodes()
        .map_err(RecoveryError::Scratch)?
        .into_iter()
        .collect();
    let mut replay = Replay::new(files.over(base));
    let (journal, mut damage) = match open_or_missing(files, &scratch, &found) {
        Ok(journal) => (journal, None),
        Err(error) => (None, Some(unless_unreadable(error)?)),
    };
    let (mut records, mut sound, mut torn) = (0, 0, None);
    if let Some(mut journal) = journal {
        sound = journal.position();
        damage = loop {
            match replay.next(&mut journal, path) {
                Ok(true) => (records, sound) = (journal.count(), journal.position()),
                Ok(false) => break None,
                Err(error) => break Some(unless_unreadable(error)?),
            }
        };
        if damage.is_none() {
            torn = journal.end().torn();
        }
    }
    replay.forget(|_| true);
    let mut checked = Checked {
        records,
        torn,
        damage,
        written: 0,
        missing: Vec::new(),
        left_open: Vec::new(),
        unknown: Vec::new(),
        layers: u32::try_from(replay.layers.len()).unwrap_or(u32::MAX),
        commits: replay.commits,
        sound,
        without_bytes: Vec::new(),
    };
    let mut wanted = HashSet::new();
    for (ino, bytes) in bytes_of(&replay.namespace, &found, &scratch)? {
        wanted.insert(ino);
        checked.written += 1;
        match bytes {
            Bytes::Missing(error) => {
                checked.missing.push(error);
                checked.without_bytes.push(ino);
            }
            Bytes::Short(_) => checked.left_open.push(name_of(&replay.namespace, ino)),
            Bytes::There if replay.open.contains(&ino) => {
                checked.left_open.push(name_of(&replay.namespace, ino));
            }
            Bytes::There => {}
        }
    }
    let unknown = found
        .iter()
        .filter(|ino| !wanted.contains(*ino) && !replay.made.contains(*ino));
    checked.unknown = unknown.map(|&ino| scratch.path(ino)).collect();
    checked.unknown.sort();
    checked.left_open.sort();
    Ok(checked)
}

/// What is wrong with the files. That they cannot be read now says nothing about them.
fn unless_unreadable(error: RecoveryError) -> Result<RecoveryError, RecoveryError> {
    match error {
        RecoveryError::Journal(JournalError::Io { .. } | JournalError::Durable(_))
        | RecoveryError::Scratch(_)
        | RecoveryError::Durable(_) => Err(error),
        damage => Ok(damage),
    }
}

/// Makes an overlay that was checked fit to be taken over: afterwards it [is sound](Checked::is_sound). Says where the damaged journal is now, if
/// there is one. The caller has had the session's lock since before [`check`]. What is interrupted can be begun again.
pub fn salvage(files: &OverlayFiles, checked: &Checked) -> Result<Option<PathBuf>, RecoveryError> {
    let scratch = files.scratch.make()?;
    let mut set_aside = None;
    if checked.damage.is_some() {
        let aside = OwnDir::create(&scratch.aside())?;
        set_aside = keep_journal(&files.journal, &aside)?;
        shorten_journal(&files.journal, checked.sound)?;
    }
    if !checked.without_bytes.is_empty() {
        let mut journal = Journal::read(&files.journal)?;
        while journal.next_record()?.is_some() {}
        let journal = journal.end().go_on()?;
        for &ino in &checked.without_bytes {
            journal.append(&Record::Opened(ino))?;
        }
        // An empty file that counts as whole would be committed.
        journal.sync()?;
        for &ino in &checked.without_bytes {
            scratch.create(ino).map_err(RecoveryError::Scratch)?;
        }
        scratch.sync_names()?;
    }
    Ok(set_aside)
}

/// Copies a journal among what was set aside, durably, and says where it is. `None` if there is no journal.
fn keep_journal(journal: &Path, aside: &OwnDir) -> Result<Option<PathBuf>, RecoveryError> {
    let mut from = match open_own_file_to_read(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        from => from?,
    };
    let to = aside.path().join(free_name(aside, JOURNAL_ASIDE)?);
    let staged = Staged::create_in(aside.path())?;
    io::copy(&mut from, &mut staged.file()).map_err(failed("copy", journal))?;
    staged.publish(&to)?;
    Ok(Some(to))
}

/// Replaces a journal by its first bytes, which are whole records; 0 if there are none.
fn shorten_journal(journal: &Path, sound: u64) -> Result<(), RecoveryError> {
    let staged = Staged::create_in(dir_of(journal))?;
    if sound == 0 {
        io::Write::write_all(&mut staged.file(), MAGIC).map_err(failed("write", journal))?;
    } else {
        let mut from = open_own_file_to_read(journal)?;
        let mut copy = || {
            from.seek(SeekFrom::Start(0))?;
            io::copy(&mut from.by_ref().take(sound), &mut staged.file())
        };
        copy().map_err(failed("copy", journal))?;
    }
    staged.publish(journal)?;
    Ok(())
}
