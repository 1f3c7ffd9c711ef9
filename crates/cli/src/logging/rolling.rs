//! A log with a bound: when it is full, it becomes `log.1`, and a new `log` is begun.
//!
//! Standard error is the file, so that what panics and libraries print is in it too. A name that somebody
//! else has taken since is left alone, and so is a log that was moved away: then the log does not
//! roll, and what comes after twice the bound is lost.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use attachfs::{StandardStream, create_log, is_file_at, redirect};

/// A file that is as long as this is full.
const FULL: u64 = 16 << 20;

static ROLLING: Mutex<Option<Rolling>> = Mutex::new(None);

/// From now on standard error, which is this file, is kept within bounds.
pub(super) fn start(path: PathBuf, log: File) {
    let rolling = Rolling {
        path,
        log,
        full: FULL,
    };
    *ROLLING.lock().unwrap_or_else(PoisonError::into_inner) = Some(rolling);
}

/// Whether one more line may be written. Begins a new file if need be.
pub(super) fn has_room() -> bool {
    let mut rolling = ROLLING.lock().unwrap_or_else(PoisonError::into_inner);
    rolling
        .as_mut()
        .is_none_or(|rolling| rolling.has_room(|log| redirect(StandardStream::Error, log)))
}

#[derive(Debug)]
struct Rolling {
    path: PathBuf,
    /// What standard error is.
    log: File,
    full: u64,
}

impl Rolling {
    fn has_room(&mut self, redirect: impl FnOnce(&File) -> io::Result<()>) -> bool {
        // Where its length cannot be found out, there is no other place to write that to.
        let Ok(len) = self.log.metadata().map(|meta| meta.len()) else {
            return true;
        };
        len < self.full || self.roll(redirect).is_ok() || len < 2 * self.full
    }

    fn roll(&mut self, redirect: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        match is_file_at(&self.log, &self.path) {
            Ok(true) => {
                let mut before = OsString::from(&self.path);
                before.push(".1");
                std::fs::rename(&self.path, before)?;
            }
            // It was moved, or became `log.1` when no new one could be begun.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(false) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => return Err(error),
        }
        let log = create_log(&self.path)?;
        redirect(&log)?;
        self.log = log;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    use super::*;

    /// Writes lines of 10 bytes into a log of 100 bytes.
    fn write(path: &Path, lines: usize) -> Rolling {
        let mut rolling = Rolling {
            path: path.to_owned(),
            log: create_log(path).unwrap(),
            full: 100,
        };
        add(&mut rolling, lines);
        rolling
    }

    fn add(rolling: &mut Rolling, lines: usize) {
        for line in 0..lines {
            if rolling.has_room(|_| Ok(())) {
                rolling
                    .log
                    .write_all(format!("line {line:4}\n").as_bytes())
                    .unwrap();
            }
        }
    }

    fn len(path: &Path) -> u64 {
        fs::metadata(path).unwrap().len()
    }

    #[test]
    fn a_log_is_bounded_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&path, 1005);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!((len(&path), len(&path.with_extension("1"))), (50, 100));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("line 1004\n"), "{text}");
    }

    #[test]
    fn a_log_whose_name_is_somebody_elses_now_leaves_it_alone_and_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut rolling = write(&path, 5);
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "mine").unwrap();
        add(&mut rolling, 1000);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(len(&moved), 200);
    }

    #[test]
    fn a_log_that_was_moved_away_stays_as_it_is_and_a_new_one_is_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut rolling = write(&path, 5);
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        add(&mut rolling, 12);
        assert_eq!((len(&moved), len(&path)), (100, 70));
    }
}
