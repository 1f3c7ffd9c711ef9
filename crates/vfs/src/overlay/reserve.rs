//! Room on the session's disk that is kept for its commit.
//!
//! A job may fill the disk. What a commit writes into the session (its manifest, the total of its changes, its records)
//! needs little room, but needs it then: so a file holds it. It grows with what there is to be committed, and
//! is emptied when a commit writes, or when the disk is full and the session is to be sealed. What was made and
//! deleted again needs none: a job with a million temporary files does not fill the disk by that.
//!
//! Not held: room for the chunks of partly written inputs that a commit puts together, which are as
//! long as chunks are. A commit that lacks it names the file that it could not fill.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::Staged;
use parking_lot::Mutex;

/// At least so much is held.
const FIRST: u64 = 2 << 20;
/// For records and for what is not counted.
const ANYWAY: u64 = 256 << 10;
/// It grows in pieces of this.
const PIECE: u64 = 1 << 20;
/// Less than this is not asked for.
const LEAST: u64 = 64 << 10;
/// What a changed path costs beyond its name: a line in the manifest, a node in the total, a record of what is
/// clean.
const EACH: u64 = 250;

/// The file that holds the room.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// What is needed, at most.
    needed: u64,
    /// The paths that were told of, and how long they are together.
    paths: u64,
    lengths: u64,
    /// What it has.
    held: u64,
    /// The disk had no more; it is not asked again before so much is needed.
    ask_from: u64,
}

impl Reserve {
    /// The room in the file at `path`, for so many changed paths.
    pub(crate) fn hold(path: &Path, paths: u64) -> Self {
        let reserve = Self {
            path: path.to_owned(),
            state: Mutex::default(),
        };
        {
            let mut state = reserve.state.lock();
            state.needed = ANYWAY + paths * (EACH + 100);
            state.fill(&reserve.path);
        }
        reserve
    }

    /// One that holds nothing, for a session that is only looked at.
    pub(crate) fn none() -> Self {
        Self {
            path: PathBuf::new(),
            state: Mutex::new(State {
                ask_from: u64::MAX,
                ..State::default()
            }),
        }
    }

    /// One more path changed, which has so many bytes. `changed` counts those that are changed now: some may
    /// be gone again.
    pub(crate) fn grow(&self, path_len: u64, changed: impl FnOnce() -> u64) {
        let mut state = self.state.lock();
        state.paths += 1;
        state.lengths += path_len;
        state.needed += cost(path_len);
        if state.needed > state.held && state.needed >= state.ask_from {
            let usual = cost(state.lengths.div_ceil(state.paths));
            state.needed = state.needed.min(ANYWAY + changed().saturating_mul(usual));
            // Not asked again before much more changed.
            if state.needed + PIECE / 2 > state.held {
                state.fill(&self.path);
            }
        }
    }

    /// Gives the room back. Whether there was any.
    pub(crate) fn release(&self) -> bool {
        let mut state = self.state.lock();
        let held = std::mem::take(&mut state.held);
        state.ask_from = u64::MAX;
        let released = match &state.file {
            Some(file) => file.set_len(0).map(|()| held > 0),
            // That of an earlier process, which could not be replaced.
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                removed => removed.map(|()| true),
            },
        };
        released.unwrap_or_else(|error| {
            tracing::warn!(%error, path = %self.path.display(), "cannot give back what was reserved for the commit");
            false
        })
    }

    /// Holds room again, as much as there is.
    pub(crate) fn refill(&self) {
        let mut state = self.state.lock();
        state.fill(&self.path);
    }
}

/// What a changed path of this length needs, in the manifest and in the total.
fn cost(path_len: u64) -> u64 {
    EACH + 2 * path_len
}

impl State {
    fn fill(&mut self, path: &Path) {
        self.ask_from = 0;
        if let Err(error) = self.try_fill(path) {
            self.ask_from = self.needed + PIECE;
            tracing::debug!(%error, held = self.held, needed = self.needed, path = %path.display(), "not all that a commit needs is reserved");
        }
    }

    fn try_fill(&mut self, path: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let staged = Staged::create_in(path.parent().unwrap_or(Path::new(".")))?;
                none.insert(staged.place(path)?)
            }
        };
        let wanted = (self.needed + PIECE / 2).next_multiple_of(PIECE).max(FIRST);
        let mut refused = None;
        let mut more = wanted.saturating_sub(self.held);
        while more >= LEAST {
            match attachfs_durable::reserve(file, self.held + more) {
                Ok(()) => {
                    self.held += more;
                    break;
                }
                // Less is better than nothing.
                Err(error) => refused = Some(error),
            }
            more /= 2;
        }
        refused.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(path: &Path) -> u64 {
        path.metadata().unwrap().len()
    }

    #[test]
    fn it_grows_with_what_there_is_to_be_committed_and_gives_all_of_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = Reserve::hold(&path, 0);
        assert_eq!(len(&path), FIRST);
        for _ in 0..10_000 {
            reserve.grow(100, || 10_000);
        }
        assert!(len(&path) >= 10_000 * (EACH + 200));
        assert!(reserve.release());
        assert_eq!(len(&path), 0);
        assert!(!reserve.release());
        reserve.refill();
        assert!(len(&path) >= 10_000 * (EACH + 200));
    }

    #[test]
    fn what_was_made_and_deleted_again_needs_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = Reserve::hold(&path, 0);
        for _ in 0..100_000 {
            reserve.grow(100, || 20);
        }
        assert_eq!(len(&path), FIRST);
    }

    #[test]
    fn a_session_that_goes_on_holds_room_for_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        drop(Reserve::hold(&path, 0));
        drop(Reserve::hold(&path, 100_000));
        assert!(len(&path) > 20 << 20);
    }
}
