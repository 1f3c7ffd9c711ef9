//! Makes files that can be taken over of an overlay's that cannot, and deletes nothing.
//!
//! ```text
//!     a damaged journal          aside/journal    the whole of it, as it was
//!                                journal          its records up to the first one that cannot be used; then all written files count as
//!                                                 open at a kill, since their last writes may be lost: a commit asks about them;
//!                                                 then the commits behind the damage
//!     its scratch files          aside/<inode>    those that no file needs any more
//!     a missing scratch file     an empty one, which counts as open at a kill, too
//! ```
//!
//! Each step leaves files that [`check`](super::check) finds the same in, until the new journal has its name. So what is interrupted can be begun again.

use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{OwnDir, Staged, open_own_file_to_read, sweep_abandoned};
use attachfs_manifest::ContentHash;

use super::error::failed;
use super::format::{Secret, encode, sound_records};
use super::successor::dir_of;
use super::{
    Checked, CommitRecord, Journal, OverlayFiles, Record, RecoveryError, Scratch, SyncError,
};

/// The name of a damaged journal among what was set aside. More of them get numbers, as `journal.1`.
const JOURNAL_ASIDE: &str = "journal";

/// What was done.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// Where the damaged journal is now, if there was one.
    pub journal: Option<PathBuf>,
    /// Where the scratch files are that no file needs any more.
    pub aside: Vec<PathBuf>,
    /// How many files count as incomplete from now on.
    pub incomplete: usize,
    /// How many files are empty now.
    pub emptied: usize,
    /// How many commits were found behind the damage.
    pub commits: usize,
}

/// Makes an overlay that was checked fit to be taken over, if it [can be](Checked::can_be_salvaged). The caller has had the session's lock since
/// before [`check`](super::check). `has_commit` says whether the session has the files of a commit, with the manifest's hash. What is interrupted
/// can be begun again, with a check.
pub fn salvage(
    files: &OverlayFiles,
    checked: &Checked,
    has_commit: &dyn Fn(u32, ContentHash) -> bool,
) -> Result<Salvaged, RecoveryError> {
    let mut done = Salvaged::default();
    if !checked.can_be_salvaged() {
        return Ok(done);
    }
    let scratch = files.scratch.as_it_is()?;
    sweep_abandoned(dir_of(&files.journal))?;
    let mut incomplete = &checked.without_bytes;
    let mut records = Vec::new();
    if checked.damage.is_some() {
        let aside = OwnDir::create(&scratch.aside())?;
        sweep_abandoned(aside.path())?;
        done.journal = keep_journal(&files.journal, &aside)?;
        let commits = commits_behind(files, checked, has_commit)?;
        let intents = commits.iter();
        done.commits = intents
            .filter(|step| matches!(step, CommitRecord::Intent { .. }))
            .count();
        records.extend(commits.into_iter().map(Record::Commit));
        done.aside = scratch.set_aside(&checked.unneeded)?;
        incomplete = &checked.with_bytes;
    }
    let opened = incomplete.iter().filter(|ino| !checked.open.contains(*ino));
    records.extend(opened.map(|&ino| Record::Opened(ino)));
    done.incomplete = incomplete.len();
    if checked.damage.is_some() || !records.is_empty() {
        sync_bytes(&scratch, checked)?;
        replace_journal(&files.journal, checked, &records)?;
    }
    // An empty file that counted as whole would be committed: the records come first.
    for &ino in &checked.without_bytes {
        scratch.create_new(ino).map_err(RecoveryError::Scratch)?;
    }
    scratch.sync_names()?;
    done.emptied = checked.without_bytes.len();
    Ok(done)
}

/// Copies a journal among what was set aside, durably, and says where it is. `None` if there is no journal.
fn keep_journal(journal: &Path, aside: &OwnDir) -> Result<Option<PathBuf>, RecoveryError> {
    let mut from = match open_own_file_to_read(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        from => from?,
    };
    let of_journals = |name: &&str| {
        let more = name.strip_prefix(JOURNAL_ASIDE);
        more.is_some_and(|more| more.is_empty() || more.starts_with('.'))
    };
    let names = aside.names()?;
    for name in names.iter().filter_map(|name| name.to_str()) {
        // A repair that was interrupted may have copied it.
        if of_journals(&name) && is_same(&mut from, &mut aside.open_file(name)?, journal)? {
            return Ok(Some(aside.path().join(name)));
        }
    }
    let to = aside.path().join(aside.free_name(JOURNAL_ASIDE)?);
    let staged = Staged::create_in(aside.path())?;
    let mut copy = || {
        from.seek(SeekFrom::Start(0))?;
        io::copy(&mut from, &mut staged.file())
    };
    copy().map_err(failed("copy", journal))?;
    staged.publish(&to)?;
    Ok(Some(to))
}

/// Whether two files have the same bytes.
fn is_same(
    one: &mut std::fs::File,
    other: &mut std::fs::File,
    journal: &Path,
) -> Result<bool, RecoveryError> {
    let mut compare = || -> io::Result<bool> {
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        one.seek(SeekFrom::Start(0))?;
        let (mut one, mut other) = (BufReader::new(&*one), BufReader::new(&*other));
        loop {
            let (left, right) = (one.fill_buf()?, other.fill_buf()?);
            let len = left.len().min(right.len());
            if left[..len] != right[..len] {
                return Ok(false);
            }
            if len == 0 {
                return Ok(true);
            }
            one.consume(len);
            other.consume(len);
        }
    };
    Ok(compare().map_err(failed("compare", journal))?)
}

/// The commits behind the damage whose records can be read and whose files are there, of a journal that has its first line. What files they found clean is not taken over: what
/// became of these files is not known. None if a layer may be lost: they may be about that.
fn commits_behind(
    files: &OverlayFiles,
    checked: &Checked,
    has_commit: &dyn Fn(u32, ContentHash) -> bool,
) -> Result<Vec<CommitRecord>, RecoveryError> {
    let next_layer = files.layers.join((checked.layers + 1).to_string());
    if next_layer.symlink_metadata().is_ok() {
        return Ok(Vec::new());
    }
    if checked.sound == 0 {
        // Nothing tells the records of a journal without its first line from bytes that a job chose.
        return Ok(Vec::new());
    }
    let secret = Journal::read(&files.journal)?.secret();
    let mut journal = open_own_file_to_read(&files.journal)?;
    let mut rest = Vec::new();
    let read = journal
        .seek(SeekFrom::Start(checked.sound))
        .and_then(|_| journal.read_to_end(&mut rest));
    read.map_err(failed("read", &files.journal))?;
    let mut behind: Vec<CommitRecord> = Vec::new();
    for record in sound_records(&rest, checked.records, secret) {
        match record {
            Record::Layer { .. } => return Ok(Vec::new()),
            Record::Commit(CommitRecord::Intent {
                generation,
                key,
                hash,
                ..
            }) if has_commit(generation, hash) => behind.push(CommitRecord::Intent {
                generation,
                key,
                hash,
                clean: Vec::new(),
            }),
            Record::Commit(CommitRecord::Published { generation }) => {
                let last = behind.last().or(checked.commits.last());
                let is_its_end = matches!(last, Some(CommitRecord::Intent { generation: begun, .. }) if *begun == generation);
                if is_its_end {
                    behind.push(CommitRecord::Published { generation });
                }
            }
            _ => {}
        }
    }
    Ok(behind)
}

/// Makes the bytes durable that have to be so before the records, and the names of scratch files.
fn sync_bytes(scratch: &Scratch, checked: &Checked) -> Result<(), RecoveryError> {
    for &ino in &checked.first {
        let path = || scratch.path(ino);
        let file = scratch.open_to_sync(ino);
        let synced = file.and_then(|file| perform(Step::ScratchFirst, path, || file.sync_data()));
        synced.map_err(|source| SyncError::Bytes {
            path: path(),
            source,
        })?;
    }
    Ok(scratch.sync_names()?)
}

/// Replaces a journal by its sound records and some more.
fn replace_journal(
    journal: &Path,
    checked: &Checked,
    more: &[Record],
) -> Result<(), RecoveryError> {
    let staged = Staged::create_in(dir_of(journal))?;
    let mut to = io::BufWriter::new(staged.file());
    let secret = if checked.sound == 0 {
        let secret = Secret::new().map_err(failed("choose a secret of", journal))?;
        to.write_all(&secret.first_line())
            .map_err(failed("write", journal))?;
        secret
    } else {
        let mut from = open_own_file_to_read(journal)?.take(checked.sound);
        io::copy(&mut from, &mut to).map_err(failed("copy", journal))?;
        Journal::read(journal)?.secret()
    };
    let mut bytes = Vec::new();
    for (number, record) in (checked.records..).zip(more) {
        encode(record, number, secret, &mut bytes)?;
        to.write_all(&bytes).map_err(failed("write", journal))?;
    }
    to.flush().map_err(failed("write", journal))?;
    drop(to);
    staged.publish(journal)?;
    Ok(())
}
