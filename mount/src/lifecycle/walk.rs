//! Where a path leads, without asking any file system that a process serves: one whose process is
//! stopped would not answer, and what it shows is another's word.
//!
//! The path is walked name by name with readlink(2). Before a name is looked at, the kernel's table of
//! mounts says whether something is mounted there. In a mount that a process serves nothing is looked
//! at: the rest of the path is taken as it is written.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::mountinfo::{self, MountEntry};
use super::place::mounts_on_the_way;

/// As many symbolic links as the kernel follows.
const MOST_LINKS: usize = 40;

/// As [`Place`](super::Place), with the line of the table.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) path: PathBuf,
    pub(super) fuse: Option<MountEntry>,
}

impl Walked {
    pub(super) fn along(given: &Path, table: &[MountEntry]) -> io::Result<Self> {
        let mut path = PathBuf::from("/");
        let mut names = VecDeque::new();
        if !given.is_absolute() {
            // The kernel knows it by itself, in a mount too.
            let working = std::env::current_dir()?;
            if !working.is_absolute() {
                // It was detached: no path leads there.
                return Err(io::ErrorKind::NotFound.into());
            }
            push(&mut names, &working);
        }
        push(&mut names, given);
        let mut inside = mountinfo::root(table);
        let mut fuse: Option<&MountEntry> = None;
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                path.pop();
                (inside, fuse) = mounts_on_the_way(table, &path);
                continue;
            }
            path.push(&name);
            let entered = match inside {
                Some(below) => mountinfo::entered(table, below, &path),
                // The root of a process that changed it is in no table.
                None => table.iter().rfind(|entry| entry.mount_point == path),
            };
            if let Some(entry) = entered {
                inside = Some(entry);
                if entry.is_fuse() {
                    fuse = Some(entry);
                }
                continue;
            }
            if fuse.is_some() {
                continue;
            }
            if let Ok(target) = std::fs::read_link(&path) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::other("too many symbolic links"));
                }
                if target.is_absolute() {
                    path = PathBuf::from("/");
                } else {
                    path.pop();
                }
                (inside, fuse) = mounts_on_the_way(table, &path);
                let rest = std::mem::take(&mut names);
                push(&mut names, &target);
                names.extend(rest);
            }
        }
        Ok(Self {
            path,
            fuse: fuse.cloned(),
        })
    }

    /// The FUSE mount whose mount point the path is.
    pub(super) fn mounted_here(&self) -> Option<&MountEntry> {
        let fuse = self.fuse.as_ref();
        fuse.filter(|entry| entry.mount_point == self.path)
    }
}

fn push(names: &mut VecDeque<OsString>, path: &Path) {
    let named = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.extend(named.map(OsStr::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;

    #[test]
    fn links_are_followed_and_what_is_missing_is_taken_as_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", real.join("relative")).unwrap();
        std::os::unix::fs::symlink(real.join("relative"), real.join("absolute")).unwrap();
        for (given, expected) in [
            ("absolute/missing/x", "a/b/missing/x"),
            ("relative/../y", "a/y"),
            ("./a/.", "a"),
            ("missing/../a", "a"),
        ] {
            let place = Place::of(&real.join(given)).unwrap();
            assert_eq!(place.path, real.join(expected), "{given}");
            assert_eq!(place.mount, None, "{given}");
        }
    }

    #[test]
    fn links_that_lead_to_each_other_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        Place::of(&dir.path().join("a")).unwrap_err();
    }

    fn table() -> Vec<MountEntry> {
        let id = "00112233445566778899aabbccddeeff";
        let table = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda rw\n\
             2 1 0:40 / /no/such/ours rw - fuse.attachfs attachfs:{id} rw,user_id=5\n\
             3 1 0:41 / /no/such/foreign rw - fuse.sshfs host:/ rw,user_id=6\n\
             4 3 0:42 / /no/such/foreign/x/ours rw - fuse.attachfs attachfs:read-only:7 rw,user_id=7\n"
        );
        mountinfo::parse(table.as_bytes())
    }

    fn walked(path: &str) -> (PathBuf, Option<u64>) {
        let walked = Walked::along(Path::new(path), &table()).unwrap();
        (walked.path, walked.fuse.map(|entry| entry.id))
    }

    #[test]
    fn in_a_mount_the_path_is_taken_as_it_is_written() {
        for path in ["/no/such/ours", "/no/such/ours/a/b"] {
            assert_eq!(walked(path), (PathBuf::from(path), Some(2)));
        }
        assert_eq!(walked("/no/such/ours/a/../b").1, Some(2));
        assert_eq!(walked("/no/such/ours/.."), ("/no/such".into(), None));
    }

    #[test]
    fn a_mount_of_ours_in_one_of_another_program_is_found() {
        assert_eq!(walked("/no/such/foreign/x").1, Some(3));
        assert_eq!(walked("/no/such/foreign/x/ours/y").1, Some(4));
        assert_eq!(walked("/no/such/foreign/x/ours/../y").1, Some(3));
        assert_eq!(walked("/no/such/foreign/../z"), ("/no/such/z".into(), None));
    }
}
