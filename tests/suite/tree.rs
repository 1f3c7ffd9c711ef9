//! What is in a directory, to be compared with what is in another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How much of a tree counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// All that a mount keeps while it is there: permissions and the number of names too.
    Live,
    /// What a manifest holds.
    Committed,
}

/// A time so far from now was set by someone; other times are those of the writes and differ from tree to tree.
const SET: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Dir {
        permissions: Option<u32>,
    },
    File {
        len: u64,
        hash: u64,
        /// Execute bits only, in what a manifest holds.
        permissions: u32,
        names: Option<u64>,
        /// Microseconds, if it was set.
        mtime: Option<i64>,
    },
    Link(PathBuf),
    Other,
}

/// Everything below a directory, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Reads all of it, contents included.
    pub(crate) fn read(root: &Path, detail: Detail) -> Self {
        let mut found = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(root.join(&dir)).unwrap() {
                let path = dir.join(entry.unwrap().file_name());
                let read = Entry::read(&root.join(&path), detail);
                if matches!(read, Entry::Dir { .. }) {
                    open.push(path.clone());
                }
                let before = found.insert(path, read);
                assert_eq!(before, None, "a name is listed twice in {}", dir.display());
            }
        }
        Self(found)
    }

    /// Its files, links not counted.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let files = self.0.iter();
        let files = files.filter(|(_, entry)| matches!(entry, Entry::File { .. }));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// What is left of it without what has such a name.
    pub(crate) fn without(mut self, begins: &str) -> Self {
        let begins = begins.as_bytes();
        let name = |path: &Path| path.file_name().unwrap().as_bytes().to_owned();
        self.0.retain(|path, _| !name(path).starts_with(begins));
        self
    }

    /// What is left of it without this path.
    pub(crate) fn without_path(mut self, path: &Path) -> Self {
        self.0.remove(path);
        self
    }

    /// Fails the test, naming the differences, unless the trees are the same.
    #[track_caller]
    pub(crate) fn assert_is(&self, expected: &Self) {
        self.assert_alike(expected, self.0.keys().chain(expected.0.keys()));
    }

    /// Fails the test, naming the differences, unless all that is here is in the other tree too.
    #[track_caller]
    pub(crate) fn assert_is_part_of(&self, expected: &Self) {
        self.assert_alike(expected, self.0.keys());
    }

    #[track_caller]
    fn assert_alike<'a>(&self, expected: &Self, paths: impl Iterator<Item = &'a PathBuf>) {
        let mut differences = String::new();
        let paths: BTreeSet<_> = paths.collect();
        for path in paths {
            let (is, should) = (self.0.get(path), expected.0.get(path));
            if is != should {
                let _ = write!(
                    differences,
                    "\n{}:\n   is {is:?}\n   should be {should:?}",
                    path.display()
                );
            }
        }
        assert!(differences.is_empty(), "the trees differ{differences}");
    }
}

impl Entry {
    fn read(path: &Path, detail: Detail) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        let live = detail == Detail::Live;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Self::Dir {
                permissions: live.then_some(metadata.mode() & 0o7777),
            };
        }
        if kind.is_symlink() {
            return Self::Link(fs::read_link(path).unwrap());
        }
        if kind.is_fifo() || kind.is_socket() {
            return Self::Other;
        }
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(metadata.len(), bytes.len() as u64, "{}", path.display());
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let mtime = metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1000;
        let mask = if live { 0o7777 } else { 0o111 };
        let mut permissions = metadata.mode() & mask;
        if !live && permissions != 0 {
            permissions = 0o111;
        }
        Self::File {
            len: metadata.len(),
            hash: hasher.finish(),
            permissions,
            names: live.then_some(metadata.nlink()),
            mtime: was_set(metadata.modified().unwrap()).then_some(mtime),
        }
    }
}

fn was_set(time: SystemTime) -> bool {
    let now = SystemTime::now();
    let distance = now.duration_since(time).or(time.duration_since(now));
    distance.is_ok_and(|distance| distance > SET)
}

/// Gives a file the time of its last change.
pub(crate) fn set_modified(path: &Path, time: SystemTime) {
    let times = FileTimes::new().set_modified(time);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// Copies a folder with all that it has.
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).output();
    let copied = copied.unwrap();
    assert!(copied.status.success(), "{copied:?}");
}

#[test]
fn times_that_were_set_are_compared_and_those_of_writes_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let tree = |name: &str, time: SystemTime| {
        let root = folder.path().join(name);
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "").unwrap();
        set_modified(&root.join("file"), time);
        Tree::read(&root, Detail::Committed)
    };
    let now = SystemTime::now();
    let set = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(tree("one", now), tree("two", now - Duration::from_secs(5)));
    assert_ne!(tree("a", set), tree("b", set + Duration::from_micros(1)));
    assert_ne!(tree("c", set), tree("d", now));
}
