//! A directory that keeps the traces of mounts, so that those of one job find the traces of earlier tasks by themselves.
//!
//! ```text
//!     DIR/attachfs-traces                              says that the directory is one of these
//!     DIR/<key>.<milliseconds>.<session>.trace         what that session read
//! ```
//!
//! The key is the hash of what is mounted: of the manifests, where they are placed, and the root that is shown. The newest
//! [`MOST_OF_KEY`] traces of a key and the newest [`MOST_OF_ALL`] traces are kept; what a killed process had staged goes after
//! [`STAGED_FOR`]; a file with another name is left alone. The
//! directory is private: what others could write there would decide what is downloaded.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attachfs_durable::{Kind, OwnDir, is_staged_name};
use attachfs_fetch::Trace;
use attachfs_manifest::ContentHash;
use attachfs_session::{SessionId, SessionMeta};

use super::reading::{ReadTraceError, read};
use crate::error::Error;

/// Several runs, so that one that ended early or read something else does not decide alone.
const MOST_OF_KEY: usize = 4;
/// At most so many traces of all jobs: some hundred megabytes for long ones.
const MOST_OF_ALL: usize = 1000;

/// A trace is written in seconds; a staged file of this age is nobody's any more.
const STAGED_FOR: Duration = Duration::from_hours(24);

const MARKER: &str = "attachfs-traces";
const MARKER_TEXT: &[u8] = b"attachfs keeps traces of mounts here, and removes old ones.\n";
const SUFFIX: &str = ".trace";

/// The traces of mounts like one.
#[derive(Debug)]
pub(super) struct TraceDir {
    dir: OwnDir,
    key: ContentHash,
    session: String,
}

/// The parts of a trace's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    key: ContentHash,
    /// Since 1970.
    millis: u64,
    session: String,
}

impl TraceDir {
    /// Opens the directory for a session that is mounted, and makes it if it is missing or empty. Fails for one that has
    /// anything else in it, or that other users may write to.
    pub(super) fn open(path: &Path, key: ContentHash, session: &SessionId) -> Result<Self, Error> {
        let dir = match OwnDir::claim(path)? {
            Some((dir, _before)) => dir,
            None => OwnDir::open(path)?,
        };
        if dir.kind(OsStr::new(MARKER))? != Some(Kind::File) {
            // Another process may be making it at this moment.
            let names = dir.names()?;
            let is_new = |name: &OsStr| name.to_str().is_some_and(is_staged_name);
            if !names.iter().all(|name| is_new(name) || name == MARKER) {
                let sentence = format!(
                    "{} has files in it, and is no directory of traces",
                    path.display()
                );
                return Err(Error::usage(sentence).advise("name an empty directory, or a new one"));
            }
            dir.publish(MARKER, MARKER_TEXT)?;
        }
        Ok(Self {
            dir,
            key,
            session: session.to_string(),
        })
    }

    /// The traces that are kept of mounts like this one. One that cannot be read is left out.
    pub(super) fn traces(&self) -> Result<Vec<Trace>, Error> {
        let mut traces = Vec::new();
        for (name, _) in self
            .kept()?
            .into_iter()
            .filter(|(_, of)| of.key == self.key)
        {
            let opened = self.dir.open_file(&name).map_err(ReadTraceError::from);
            match opened.and_then(read) {
                Ok(trace) => traces.push(trace),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    path = %self.dir.path().join(&name).display(),
                    "a trace cannot be used"
                ),
            }
        }
        Ok(traces)
    }

    /// Adds the trace of the session, and removes those that are too many.
    pub(super) fn add(&self, text: &str) -> Result<(), Error> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let named = Named {
            key: self.key,
            // A clock that is before 1970 makes it the oldest.
            millis: since.map_or(0, |since| since.as_millis() as u64),
            session: self.session.clone(),
        };
        self.dir.publish(&named.to_string(), text.as_bytes())?;
        for name in too_many(self.kept()?, MOST_OF_KEY, MOST_OF_ALL) {
            self.dir.remove_file(&name)?;
        }
        self.remove_abandoned()
    }

    /// Removes what processes had staged that were killed.
    fn remove_abandoned(&self) -> Result<(), Error> {
        for name in self.dir.names()? {
            let Some(staged) = name.to_str().filter(|name| is_staged_name(name)) else {
                continue;
            };
            let meta = std::fs::symlink_metadata(self.dir.path().join(staged));
            let age = meta
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > STAGED_FOR) {
                self.dir.remove_file(staged)?;
            }
        }
        Ok(())
    }

    /// All traces, the newest first.
    fn kept(&self) -> Result<Vec<(String, Named)>, Error> {
        let mut kept = Vec::new();
        for name in self.dir.names()? {
            let named = name
                .to_str()
                .and_then(|name| Some((name, Named::parse(name)?)));
            let Some((name, named)) = named else {
                continue;
            };
            if self.dir.kind(OsStr::new(name))? == Some(Kind::File) {
                kept.push((name.to_owned(), named));
            }
        }
        kept.sort_by(|(_, a), (_, b)| (b.millis, &b.session).cmp(&(a.millis, &a.session)));
        Ok(kept)
    }
}

/// What identifies the input of a job.
pub(super) fn key_of(meta: &SessionMeta) -> ContentHash {
    let mut text = String::new();
    for manifest in &meta.manifests {
        let at = manifest.at.as_ref().map(ToString::to_string);
        text += &format!("{} {}\n", manifest.hash, at.unwrap_or_default());
    }
    if let Some(root) = &meta.layers.root {
        text += &root.to_string();
    }
    ContentHash::of(text.as_bytes())
}

/// The names of those that are to be removed. `kept` has the newest first.
fn too_many(kept: Vec<(String, Named)>, most_of_key: usize, most_of_all: usize) -> Vec<String> {
    let mut of_key = HashMap::<ContentHash, usize>::new();
    let mut of_all = 0;
    let goes = |(name, named): (String, Named)| {
        let of_key = of_key.entry(named.key).or_default();
        if *of_key == most_of_key || of_all == most_of_all {
            return Some(name);
        }
        *of_key += 1;
        of_all += 1;
        None
    };
    kept.into_iter().filter_map(goes).collect()
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:013}.{}{SUFFIX}",
            self.key, self.millis, self.session
        )
    }
}

impl Named {
    /// `None` for a name that attachfs does not give.
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('.');
        let named = Self {
            key: parts.next()?.parse().ok()?,
            millis: parts.next()?.parse().ok()?,
            session: parts.next()?.to_owned(),
        };
        let is_session = named.session.parse::<SessionId>().is_ok();
        (is_session && named.to_string() == name).then_some(named)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use attachfs_fetch::TracedRange;

    use super::*;

    fn key(number: u8) -> ContentHash {
        ContentHash::from_bytes([number; 16])
    }

    fn open(path: &Path, number: u8) -> Result<TraceDir, Error> {
        TraceDir::open(path, key(number), &SessionId::from_random([number; 16]))
    }

    fn trace(end: u64) -> Trace {
        let range = TracedRange {
            hash: key(9),
            range: 0..end,
            after: Duration::ZERO,
        };
        Trace {
            ranges: vec![range],
            dropped: 0,
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let names = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn traces_of_the_same_input_are_found_again_and_those_of_another_are_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("deep/traces");
        let first = open(&path, 1).unwrap();
        assert_eq!(first.traces().unwrap(), []);
        first.add(&trace(5).encode()).unwrap();
        assert_eq!(open(&path, 1).unwrap().traces().unwrap(), [trace(5)]);
        assert_eq!(open(&path, 2).unwrap().traces().unwrap(), []);
        attachfs_durable::check_own_dir(&path).unwrap();
    }

    #[test]
    fn old_traces_are_removed_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("traces");
        let dir = open(&path, 1).unwrap();
        let old = |session: u8| Named {
            key: key(1),
            millis: u64::from(session),
            session: key(session).to_string(),
        };
        for session in 1..=5 {
            fs::write(path.join(old(session).to_string()), trace(1).encode()).unwrap();
        }
        let foreign = ["notes.trace", "x", &format!("{}.5.me.trace", key(1))].map(str::to_owned);
        for name in &foreign {
            fs::write(path.join(name), "of the user").unwrap();
        }
        dir.add(&trace(7).encode()).unwrap();
        let left = names(&path);
        assert!(foreign.iter().all(|name| left.contains(name)), "{left:?}");
        for session in 1..=5 {
            let name = old(session).to_string();
            assert_eq!(left.contains(&name), session > 2, "{name}");
        }
        assert_eq!(dir.traces().unwrap().len(), MOST_OF_KEY);
    }

    #[test]
    fn what_a_killed_process_had_staged_long_ago_is_removed_and_what_is_being_written_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("traces");
        let dir = open(&path, 1).unwrap();
        let [old, new] = [1, 2].map(|_| dir.dir.stage(b"half a trace").unwrap());
        let file = fs::File::options()
            .write(true)
            .open(path.join(&old))
            .unwrap();
        file.set_modified(SystemTime::now() - 2 * STAGED_FOR)
            .unwrap();
        dir.add(&trace(5).encode()).unwrap();
        let left = names(&path);
        assert!(left.contains(&new) && !left.contains(&old), "{left:?}");
    }

    #[test]
    fn the_newest_traces_of_each_input_stay_and_the_newest_of_all() {
        let named = |(millis, of): (u64, u8)| {
            let named = Named {
                key: key(of),
                millis,
                session: String::new(),
            };
            (millis.to_string(), named)
        };
        let kept = [(9, 1), (8, 2), (7, 1), (6, 1), (5, 2), (4, 3), (3, 3)].map(named);
        assert_eq!(too_many(kept.to_vec(), 2, 9), ["6"]);
        assert_eq!(too_many(kept.to_vec(), 2, 4), ["6", "4", "3"]);
    }

    #[test]
    fn a_damaged_trace_is_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("traces");
        let dir = open(&path, 1).unwrap();
        dir.add(&trace(5).encode()).unwrap();
        let bad = Named {
            key: key(1),
            millis: 1,
            session: key(5).to_string(),
        };
        fs::write(path.join(bad.to_string()), "attachfs trace 1\nno").unwrap();
        assert_eq!(dir.traces().unwrap(), [trace(5)]);
    }

    #[test]
    fn a_directory_with_files_of_somebody_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("home");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine"), "").unwrap();
        let error = open(&path, 1).unwrap_err().to_string();
        assert!(error.contains("is no directory of traces"), "{error}");
        assert_eq!(names(&path), ["mine"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_to_and_a_link_are_refused() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("traces");
        open(&path, 1).unwrap();
        let link = temp.path().join("link");
        symlink(&path, &link).unwrap();
        open(&link, 1).unwrap_err();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        open(&path, 1).unwrap_err();
    }
}
