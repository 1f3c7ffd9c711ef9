//! Checks a session that no process has, and makes a damaged one fit to be used again.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_commit::{check_total, finished, overlay_files};
use attachfs_session::{Session, SessionEntry};
use attachfs_transfer::error_chain;
use attachfs_tree::BaseTree;
use attachfs_vfs::OpenError;
use attachfs_vfs::overlay::{Checked, CommitRecord, Salvaged, check, salvage};
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
    /// Whether `repair` mends something that is wrong. After a repair, whether it would mend more.
    pub repairable: bool,
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
    /// What is wrong after a repair.
    pub left: Vec<String>,
}

impl FsckReport {
    fn of(session: &Session) -> Self {
        Self {
            session: session.meta().id.to_string(),
            dir: session.dir().to_owned(),
            sound: true,
            repairable: false,
            records: 0,
            written: 0,
            commits: 0,
            problems: Vec::new(),
            notes: Vec::new(),
            repaired: Vec::new(),
            left: Vec::new(),
        }
    }

    fn problem(&mut self, error: &dyn StdError) {
        self.sound = false;
        self.problems.push(error_chain(error));
    }

    /// Tells what was found in the overlay, and of the manifests and commits that its journal names.
    fn tell(&mut self, session: &Session, checked: &Checked) {
        self.records = checked.records;
        self.written = checked.written;
        self.repairable = checked.can_be_salvaged();
        let wrong = checked.damage.iter().chain(&checked.needed);
        for wrong in wrong.chain(&checked.missing).chain(&checked.unreadable) {
            self.problem(wrong);
        }
        for wrong in session.check_manifests(checked.layers) {
            self.problem(&wrong);
        }
        if let Err(wrong) = session.taints() {
            self.problem(&wrong);
        }
        self.tell_commits(session, &checked.commits);
        if !checked.is_readable() {
            self.notes
                .push("nothing is repaired before all of that can be read again".to_owned());
        }
        if let Some(torn) = checked.torn {
            self.notes.push(format!(
                "the last record of the journal is torn ({} bytes from byte {} on): its operation never returned; the next mount or commit cuts it off",
                torn.len, torn.offset
            ));
        }
        for name in &checked.left_open {
            self.notes.push(format!(
                "\"{name}\" was open for writing when the mount's process ended, or may have lost bytes with the power or a damaged journal: a commit asks about it"
            ));
        }
        // A repair moves all that it does not need.
        let unknown = checked.unknown.iter();
        for path in unknown.filter(|_| checked.damage.is_none()) {
            self.notes.push(format!(
                "no record speaks of {}: the next mount or commit sets it aside",
                path.display()
            ));
        }
    }

    /// A commit goes on from the last one that came to its end, and an interrupted one is finished first.
    fn tell_commits(&mut self, session: &Session, records: &[CommitRecord]) {
        let ended: Vec<_> = finished(records).collect();
        let interrupted = match records.last() {
            Some(&CommitRecord::Intent {
                generation, hash, ..
            }) => Some((generation, hash)),
            _ => None,
        };
        let intents = records.iter();
        let intents = intents.filter(|step| matches!(step, CommitRecord::Intent { .. }));
        self.commits = intents.count() as u64;
        let ended_ones = ended.iter().map(|commit| (commit.generation, commit.hash));
        for (generation, hash) in ended_ones.chain(interrupted) {
            if let Err(wrong) = session.check_commit(generation, hash) {
                self.problem(&wrong);
            }
        }
        let last = ended.last().map(|commit| commit.generation);
        for generation in last
            .into_iter()
            .chain(interrupted.map(|(number, _)| number))
        {
            if let Err(wrong) = check_total(session, generation) {
                self.problem(&wrong);
            }
        }
        if let Some((generation, _)) = interrupted {
            self.notes.push(format!(
                "commit {generation} was interrupted: `attachfs commit {}` finishes it",
                self.session
            ));
        }
    }

    fn tell_repairs(&mut self, checked: &Checked, done: &Salvaged) {
        if checked.damage.is_some() {
            let old = done.journal.as_ref().map_or_else(
                || "a new journal was made".to_owned(),
                |path| format!("the damaged journal was copied to {}", path.display()),
            );
            self.repaired.push(format!(
                "{old}; the journal has the {} records before the damage",
                checked.records
            ));
            if done.commits > 0 {
                let commits = counted(done.commits, "commit");
                self.repaired
                    .push(format!("{commits} behind the damage stay known"));
            }
            self.repaired
                .push("what was done after that is lost: a commit asks (--accept-open)".to_owned());
            if done.incomplete > 0 {
                self.repaired.push(format!(
                    "{} may have lost their last writes, and count as incomplete: a commit asks about them",
                    counted(done.incomplete, "written file")
                ));
            }
            if let Some(dir) = done.aside.first().and_then(|path| path.parent()) {
                self.repaired.push(format!(
                    "{} that no record before the damage needs were moved to {}",
                    counted(done.aside.len(), "file"),
                    dir.display()
                ));
            }
        }
        if done.emptied > 0 {
            self.repaired.push(format!(
                "{} without their bytes are empty now, and count as incomplete: a commit asks about them",
                counted(done.emptied, "file")
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
    let checked = checked(&session, &base)?;
    report.tell(&session, &checked);
    if repair {
        mend(&session, &base, &checked, &mut report)?;
    }
    Ok(report)
}

fn checked(session: &Session, base: &Arc<BaseTree>) -> Result<Checked, Error> {
    let files = overlay_files(session)?;
    Ok(check(&files, Arc::clone(base)).map_err(OpenError::Recovery)?)
}

/// Repairs what can be, and looks at everything again.
fn mend(
    session: &Session,
    base: &Arc<BaseTree>,
    found: &Checked,
    report: &mut FsckReport,
) -> Result<(), Error> {
    if found.can_be_salvaged() {
        let files = overlay_files(session)?;
        let has_commit = |generation, hash| {
            session.check_commit(generation, hash).is_ok()
                && check_total(session, generation).is_ok()
        };
        if found.damage.is_some() {
            // The records that are kept may be half of a change, or none: then what earlier commits published would go.
            session.note_cut()?;
        }
        let done = salvage(&files, found, &has_commit).map_err(OpenError::Recovery)?;
        report.tell_repairs(found, &done);
    }
    if found.is_readable() && session.has_set_aside_journal()? {
        // A repair that was interrupted may have ended here: this one goes on.
        let moved = session.set_layers_aside(found.layers)?;
        if moved > 0 {
            report.repaired.push(format!(
                "{} of added manifests that the journal does not have were moved to `aside` in {}",
                counted(moved, "file"),
                session.layers_path().display()
            ));
        }
    }
    if !report.repaired.is_empty() {
        let mut after = FsckReport::of(session);
        after.tell(session, &checked(session, base)?);
        report.sound = after.sound;
        report.repairable = after.repairable;
        report.left = after.problems;
    }
    Ok(())
}

/// `1 file`, `2 files`.
fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        more => format!("{more} {noun}s"),
    }
}
