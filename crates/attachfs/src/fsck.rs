//! Checks a session that no process has, and makes a damaged one fit to be used again.

use std::error::Error as StdError;
use std::path::PathBuf;

use attachfs_commit::overlay_files;
use attachfs_session::{Session, SessionEntry};
use attachfs_transfer::error_chain;
use attachfs_vfs::OpenError;
use attachfs_vfs::overlay::{Checked, CommitRecord, check, salvage};
use serde::Serialize;

use crate::error::Error;
use crate::holder::take;
use crate::index::base_of;
use crate::places::Places;

/// What was found in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// Its id.
    pub session: String,
    /// Its directory.
    #[serde(with = "attachfs_session::path_json")]
    pub dir: PathBuf,
    /// Whether it can be used: mounted, looked at and committed.
    pub sound: bool,
    /// The records of its journal that can be used.
    pub records: u64,
    /// The files that the job wrote to.
    pub written: u64,
    /// The commits that were begun.
    pub commits: u64,
    /// What is wrong. If the session was repaired, what was wrong.
    pub problems: Vec<String>,
    /// What is not wrong, and worth knowing.
    pub notes: Vec<String>,
    /// What was done about the problems. Nothing is ever deleted.
    pub repaired: Vec<String>,
}

impl FsckReport {
    fn of(session: &Session) -> Self {
        Self {
            session: session.meta().id.to_string(),
            dir: session.dir().to_owned(),
            sound: true,
            records: 0,
            written: 0,
            commits: 0,
            problems: Vec::new(),
            notes: Vec::new(),
            repaired: Vec::new(),
        }
    }

    fn problem(&mut self, error: &dyn StdError) {
        self.sound = false;
        self.problems.push(error_chain(error));
    }

    fn tell(&mut self, checked: &Checked) {
        self.records = checked.records;
        self.written = checked.written;
        if let Some(damage) = &checked.damage {
            self.problem(damage);
        }
        for missing in &checked.missing {
            self.problem(missing);
        }
        if let Some(torn) = checked.torn {
            self.notes.push(format!(
                "the last record of the journal is torn ({} bytes from byte {} on): its operation never returned; the next mount or commit cuts it off",
                torn.len, torn.offset
            ));
        }
        for name in &checked.left_open {
            self.notes.push(format!(
                "\"{name}\" was open for writing when the mount's process ended, or lost its end with the power: a commit asks about it"
            ));
        }
        for path in &checked.unknown {
            self.notes.push(format!(
                "no record speaks of {}: the next mount or commit sets it aside",
                path.display()
            ));
        }
    }
}

/// Checks the files of a session: its manifests, journal, written files and commits. Nothing is asked of a store, and nothing changes unless `repair`. Then
/// the damaged part of a journal and files without their bytes are dealt with as [`salvage`] says. Fails if a process has the session, or if it is damaged so
/// far that it cannot be opened.
pub fn fsck(found: &SessionEntry, places: &Places, repair: bool) -> Result<FsckReport, Error> {
    let session = take(&found.dir)?;
    let mut report = FsckReport::of(&session);
    for path in session.foreign()? {
        report.notes.push(format!(
            "{} is not of this session, which cannot be discarded as long as that is there",
            path.display()
        ));
    }
    if session.meta().read_only {
        for wrong in session.check_manifests(0) {
            report.problem(&wrong);
        }
        return Ok(report);
    }
    let base = match base_of(&session, places) {
        Ok(base) => base.tree,
        Err(error) => {
            for wrong in session.check_manifests(0) {
                report.problem(&wrong);
            }
            if report.sound {
                report.problem(&error);
            }
            report.notes.push(
                "without its manifests the journal and the written files were not checked; put the manifests back, with the same bytes".to_owned(),
            );
            return Ok(report);
        }
    };
    let files = overlay_files(&session)?;
    let checked = check(&files, base.clone()).map_err(OpenError::Recovery)?;
    report.tell(&checked);
    for wrong in session.check_manifests(checked.layers) {
        report.problem(&wrong);
    }
    for step in &checked.commits {
        if let CommitRecord::Intent {
            generation, hash, ..
        } = step
        {
            report.commits += 1;
            if let Err(wrong) = session.check_commit(*generation, *hash) {
                report.problem(&wrong);
            }
        }
    }
    if let Some(CommitRecord::Intent { generation, .. }) = checked.commits.last() {
        report.notes.push(format!(
            "commit {generation} was interrupted: `attachfs commit {}` finishes it",
            report.session
        ));
    }
    if repair && !checked.is_sound() {
        let set_aside = salvage(&files, &checked).map_err(OpenError::Recovery)?;
        if checked.damage.is_some() {
            let old = set_aside.map_or_else(
                || "a new journal was made".to_owned(),
                |path| format!("the damaged journal was copied to {}", path.display()),
            );
            report.repaired.push(format!(
                "{old}; the journal has the {} records before the damage",
                checked.records
            ));
        }
        if !checked.missing.is_empty() {
            report.repaired.push(format!(
                "{} without their bytes are empty now, and count as incomplete: a commit asks about them",
                files_of(checked.missing.len())
            ));
        }
        let after = check(&files, base).map_err(OpenError::Recovery)?;
        report.sound = after.is_sound() && session.check_manifests(after.layers).is_empty();
        for path in &after.unknown {
            if !checked.unknown.contains(path) {
                report.notes.push(format!(
                    "no record before the damage speaks of {}: the next mount or commit sets it aside",
                    path.display()
                ));
            }
        }
    }
    Ok(report)
}

fn files_of(count: usize) -> String {
    match count {
        1 => "1 file".to_owned(),
        more => format!("{more} files"),
    }
}
