//! Room on the session's disk that is reserved for its commit.
//!
//! A job may fill the disk. A commit writes little into the session (its manifest, the total of its changes, its
//! records), but must be able to write it: so a file reserves the room. It grows with the changes to commit, and is
//! emptied when a commit writes, or when the disk is full and the session is to be sealed. Files that were made and
//! deleted again need no room: a job with a million temporary files does not fill the disk by that.
//!
//! There is no reserve for the chunks of partly written inputs that a commit assembles, which may
//! be large. A commit without room for them names the file that it could not write.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{Staged, check_own_file};
use parking_lot::Mutex;

/// The least reserve.
const FIRST: u64 = 2 << 20;
/// A fixed amount for records and other small writes.
const ANYWAY: u64 = 256 << 10;
/// The steps in which it grows.
const PIECE: u64 = 1 << 20;
/// Smaller amounts are not reserved.
const LEAST: u64 = 64 << 10;
/// The room for a changed path, beyond its name: a line in the manifest, a node in the total, an entry in the
/// record of clean files.
const EACH: u64 = 250;

/// The file that reserves the room.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// The room that is needed, at most.
    needed: u64,
    /// The number of changed paths, and their length together.
    paths: u64,
    lengths: u64,
    /// The room that is reserved.
    held: u64,
    /// The disk was full; no more is reserved until this much is needed.
    ask_from: u64,
    /// How often the room was freed.
    released: u64,
}

impl Reserve {
    /// Reserves room in the file at `path`, for this many changed paths.
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

    /// An empty reserve, for a session that is only looked at.
    pub(crate) fn none() -> Self {
        Self {
            path: PathBuf::new(),
            state: Mutex::new(State {
                ask_from: u64::MAX,
                ..State::default()
            }),
        }
    }

    /// Adds a changed path of this length. `changed` is the present number of changed paths: some changes
    /// may have been undone.
    pub(crate) fn grow(&self, path_len: u64, changed: impl FnOnce() -> u64) {
        let mut state = self.state.lock();
        state.paths += 1;
        state.lengths += path_len;
        state.needed += cost(path_len);
        if state.needed > state.held && state.needed >= state.ask_from {
            let usual = cost(state.lengths.div_ceil(state.paths));
            state.needed = state.needed.min(ANYWAY + changed().saturating_mul(usual));
            // No more is reserved until many more paths changed.
            if state.needed + PIECE / 2 > state.held {
                state.fill(&self.path);
            }
        }
    }

    /// Frees the room. Returns whether there was any.
    pub(crate) fn release(&self) -> bool {
        let mut state = self.state.lock();
        let held = std::mem::take(&mut state.held);
        state.ask_from = u64::MAX;
        state.released += 1;
        let released = match &state.file {
            Some(file) => file.set_len(0).map(|()| held > 0),
            // The file of an earlier process, which could not be replaced.
            None => match remove(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                removed => removed.map(|()| true),
            },
        };
        released.unwrap_or_else(|error| {
            tracing::warn!(%error, path = %self.path.display(), "cannot give back what was reserved for the commit");
            false
        })
    }

    /// Frees the room while `work` is done, and reserves it again unless somebody else has freed it meanwhile. `None` if there is none.
    pub(crate) fn lend<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if !self.release() {
            return None;
        }
        let released = self.state.lock().released;
        let done = work();
        let mut state = self.state.lock();
        if state.released == released {
            state.fill(&self.path);
        }
        Some(done)
    }

    /// Reserves the room again, or as much as the disk has.
    pub(crate) fn refill(&self) {
        let mut state = self.state.lock();
        state.fill(&self.path);
    }
}

/// Removes a file. What is no file of this user's somebody else put there: it stays.
fn remove(path: &Path) -> io::Result<()> {
    check_own_file(path)?;
    std::fs::remove_file(path)
}

/// The room that a changed path of this length needs, in the manifest and in the total.
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
                check_own_file(path)?;
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
                // A smaller reserve is better than none.
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
    fn the_reserve_grows_with_the_changes_and_is_freed_completely() {
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
    #[cfg(unix)]
    fn what_somebody_put_in_the_place_of_the_reserve_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("reserve"), dir.path().join("other"));
        std::fs::write(&other, "a user's").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let reserve = Reserve::hold(&path, 10);
        assert!(!reserve.release());
        reserve.refill();
        assert_eq!(std::fs::read_link(&path).unwrap(), other);
        assert_eq!(std::fs::read(&path).unwrap(), b"a user's");
    }

    #[test]
    fn files_made_and_deleted_again_need_no_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = Reserve::hold(&path, 0);
        for _ in 0..100_000 {
            reserve.grow(100, || 20);
        }
        assert_eq!(len(&path), FIRST);
    }

    #[test]
    fn a_recovered_session_reserves_room_for_its_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        drop(Reserve::hold(&path, 0));
        drop(Reserve::hold(&path, 100_000));
        assert!(len(&path) > 20 << 20);
    }
}
