//! Logs that outlive their sessions, because reads failed in them: `logs/<session>.log` in the state directory, and
//! `.log.1` for what is older. The newest [`MOST`] sessions' are kept; nothing is touched that is not
//! named so.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{check_own_dir, create_private_dir, publish_if_absent, sync_dir};
use attachfs_session::SessionId;
use attachfs_transfer::error_chain;

use crate::error::{Doing as _, Error};
use crate::places::Places;

/// Sessions whose logs are kept.
const MOST: usize = 32;
/// More of a log is not copied, where it cannot be moved.
const LONGEST: u64 = 64 << 20;

/// Where the log of a mount goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPlace {
    /// Into the session, as `log` and `log.1`.
    Session,
    /// Somewhere else, as people call it.
    Elsewhere(String),
}

/// The log in a session's directory, if it has one.
pub(crate) fn of_session(session: &Path) -> Option<PathBuf> {
    Some(session.join("log")).filter(|log| is_file(log))
}

/// Moves a session's log to where logs are kept, and says where that is. `None` if it has none, or nothing is
/// in it.
pub(crate) fn keep(
    places: &Places,
    session: &Path,
    id: &SessionId,
) -> Result<Option<PathBuf>, Error> {
    let is_written = |log: &PathBuf| log.metadata().is_ok_and(|meta| meta.len() > 0);
    let Some(log) = of_session(session).filter(is_written) else {
        return Ok(None);
    };
    let dir = places.state.join("logs");
    create_private_dir(&dir)?;
    check_own_dir(&dir)?;
    let kept = dir.join(format!("{id}.log"));
    let older = session.join("log.1");
    if is_file(&older) {
        place(&older, &dir.join(format!("{id}.log.1")))?;
    }
    place(&log, &kept)?;
    sync_dir(&dir, Step::LogNames)?;
    if let Err(error) = remove_old(&dir) {
        tracing::warn!(%error, path = %dir.display(), "old logs stay");
    }
    Ok(Some(kept))
}

/// As [`keep`]. A log that cannot be kept is no reason to keep its session: that is told, and nothing kept.
pub(crate) fn keep_if_possible(places: &Places, session: &Path, id: &SessionId) -> Option<PathBuf> {
    keep(places, session, id).unwrap_or_else(|error| {
        tracing::warn!(error = error_chain(&error), "the log is not kept");
        None
    })
}

/// Gives a log another name, which is free. It is copied to another file system; there it ends with what it
/// holds now.
fn place(log: &Path, kept: &Path) -> Result<(), Error> {
    let doing = || format!("cannot keep the log {}", log.display());
    // Ids are never used twice: what has the name is not of this session.
    if kept.symlink_metadata().is_ok() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists)).doing(doing);
    }
    let rename = || std::fs::rename(log, kept);
    match perform(Step::LogRename, || kept.to_owned(), rename) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let from = File::open(log).doing(doing)?;
            publish_if_absent(kept, |file| {
                io::copy(&mut io::Read::take(&from, LONGEST), file).map(drop)
            })?;
            Ok(())
        }
        renamed => renamed.doing(doing),
    }
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

/// Removes the logs of all but the newest sessions.
fn remove_old(dir: &Path) -> io::Result<()> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if is_name(&entry.file_name()) && meta.is_file() {
            let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            logs.push((modified, entry.path()));
        }
    }
    logs.sort();
    let many = logs.len().saturating_sub(MOST);
    for (_, log) in &logs[..many] {
        for path in [log.clone(), log.with_extension("log.1")] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a name is the one that a session's log gets here.
fn is_name(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_suffix(".log"));
    id.is_some_and(|id| id.parse::<SessionId>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Setup {
        _dir: tempfile::TempDir,
        places: Places,
        session: PathBuf,
    }

    fn setup() -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let places = Places {
            state: at("state"),
            cache: attachfs_durable::CacheDir::new(at("cache")),
            data: at("data"),
        };
        fs::create_dir(at("session")).unwrap();
        Setup {
            session: at("session"),
            places,
            _dir: dir,
        }
    }

    fn keep_one(setup: &Setup, number: u8) -> PathBuf {
        fs::write(setup.session.join("log"), [number]).unwrap();
        fs::write(setup.session.join("log.1"), "older").unwrap();
        let id = SessionId::from_random([number; 16]);
        keep(&setup.places, &setup.session, &id).unwrap().unwrap()
    }

    #[test]
    fn the_newest_logs_are_kept_and_nothing_else_is_touched() {
        let setup = setup();
        let first = keep_one(&setup, 0);
        assert_eq!(fs::read(&first).unwrap(), [0]);
        let older = first.with_extension("log.1");
        assert_eq!(fs::read_to_string(&older).unwrap(), "older");
        assert!(!setup.session.join("log").exists());
        File::open(&first)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        let mine = [
            "notes.log",
            "0123.log",
            "0123456789abcdef0123456789abcdef.txt",
        ];
        let mine = mine.map(|name| first.with_file_name(name));
        for path in &mine {
            fs::write(path, "mine").unwrap();
            File::open(path)
                .unwrap()
                .set_modified(SystemTime::UNIX_EPOCH)
                .unwrap();
        }
        for number in 1..MOST as u8 {
            keep_one(&setup, number);
        }
        assert!(first.exists());
        let last = keep_one(&setup, MOST as u8);
        assert!(!first.exists() && !older.exists());
        assert!(last.exists() && mine.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_session_without_a_log_keeps_none_and_makes_no_directory() {
        let setup = setup();
        let id = SessionId::from_random([7; 16]);
        assert_eq!(keep(&setup.places, &setup.session, &id).unwrap(), None);
        assert!(!setup.places.state.exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_not_kept() {
        let setup = setup();
        let other = setup.session.with_file_name("other");
        fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, setup.session.join("log")).unwrap();
        let id = SessionId::from_random([7; 16]);
        assert_eq!(keep(&setup.places, &setup.session, &id).unwrap(), None);
        assert!(other.exists());
    }
}
