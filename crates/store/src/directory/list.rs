//! Listing a directory store: a walk in the order of keys that takes no more memory than a page.
//!
//! A directory is visited in the order of its names, a subdirectory as if its name ended with a slash: that
//! is the order of the bytes of keys. A page begins where the last one ended, and directories that lie
//! entirely before that are not read. If a directory has more names than fit into a page, as `Data` has,
//! only the first ones are kept and the page ends there.
//!
//! Links are followed, as they are when a manifest is read. An entry that cannot be followed is listed as
//! foreign: a link that leads nowhere or into a circle, a name that is not UTF-8. Garbage collection must not
//! take a manifest that it cannot see for one that does not exist.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{FileStamp, is_staged_name};

use super::{Files, failed, is_missing, open_file, time_of};
use crate::key::DATA_FOLDER;
use crate::{Folder, Listed, ListedName, Page, StoreError};

/// How many entries a page has: reading all names of `Data` again for each page must not add up.
const PAGE: usize = 1 << 16;

/// Sorts after every name in a directory.
const LAST: char = char::MAX;

impl Files {
    pub(super) fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        self.list_pages_of(PAGE, folder, after)
    }

    fn list_pages_of(
        &self,
        room: usize,
        folder: &Folder,
        after: Option<&str>,
    ) -> Result<Page, StoreError> {
        let start = folder.key_start();
        let mut walk = Walk {
            root: &self.root,
            after: after.unwrap_or_default(),
            room,
            page: Page::default(),
            inside: Vec::new(),
        };
        match walk.directory(&start) {
            Ok(()) => Ok(walk.page),
            // Nothing was stored in the folder yet, or the whole store has gone.
            Err(error) if is_missing(error.kind()) => match self.unreadable(&start, error) {
                StoreError::NotFound { .. } => Ok(Page::default()),
                error => Err(error),
            },
            Err(error) => Err(failed(self.what("listing", &start), error)),
        }
    }
}

struct Walk<'a> {
    root: &'a Path,
    after: &'a str,
    room: usize,
    page: Page,
    /// The directories that the walk is in, outermost first, without links in their names.
    inside: Vec<PathBuf>,
}

/// What a name in a directory is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    /// It exists, but cannot be read.
    Foreign,
}

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.page.next.is_some()
    }

    /// Visits what is in a directory, whose key ends with a slash.
    fn directory(&mut self, key: &str) -> io::Result<()> {
        self.inside.push(fs::canonicalize(self.root.join(key))?);
        let walked = self.names_in(key);
        self.inside.pop();
        walked
    }

    fn names_in(&mut self, key: &str) -> io::Result<()> {
        let (names, are_all) = self.first_names(key)?;
        let mut last = None;
        for (name, kind) in names {
            match kind {
                Kind::Directory => match self.directory(&name) {
                    // Removed meanwhile, or not a directory any more.
                    Err(error) if is_missing(error.kind()) => {}
                    walked => walked?,
                },
                Kind::File => self.file(&name)?,
                Kind::Foreign => self.foreign(&name),
            }
            if self.is_full() {
                return Ok(());
            }
            last = Some(name);
        }
        if !are_all {
            // Directories without files left room in the page.
            let last = last.map(|name| format!("{name}{LAST}"));
            let last_entry = self.page.entries.last().map(|last| last.key.clone());
            self.page.next = last_entry.or(last);
        }
        Ok(())
    }

    /// The keys of the first entries of a directory that come after where the page begins, sorted, those of
    /// directories with a slash; and whether these are all. There are more than the page has room for,
    /// if there are that many.
    fn first_names(&self, dir: &str) -> io::Result<(Vec<(String, Kind)>, bool)> {
        let most = self.room - self.page.entries.len() + 1;
        let mut names = Vec::new();
        let mut are_all = true;
        for entry in fs::read_dir(self.root.join(dir))? {
            let entry = entry?;
            let file_name = entry.file_name();
            let name = file_name.to_string_lossy();
            let kind = match file_name.to_str() {
                Some(_) => self.kind(&entry)?,
                None => Kind::Foreign,
            };
            // Staged files are not in the store yet.
            let is_staging = match kind {
                Kind::Directory => dir == DATA_FOLDER && name == ".staging",
                Kind::File => is_staged_name(&name),
                Kind::Foreign => false,
            };
            if is_staging {
                continue;
            }
            let is_directory = kind == Kind::Directory;
            let slash = if is_directory { "/" } else { "" };
            let key = format!("{dir}{name}{slash}");
            let comes_after = *key > *self.after || (is_directory && self.after.starts_with(&key));
            if comes_after {
                names.push((key, kind));
            }
            if names.len() >= 2 * most {
                names.select_nth_unstable_by(most - 1, |(a, _), (b, _)| a.cmp(b));
                names.truncate(most);
                are_all = false;
            }
        }
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok((names, are_all))
    }

    /// What an entry is, after links. One that was removed meanwhile counts as a file.
    fn kind(&self, entry: &fs::DirEntry) -> io::Result<Kind> {
        let direct = entry.file_type()?;
        if !direct.is_symlink() {
            return Ok(if direct.is_dir() {
                Kind::Directory
            } else if direct.is_file() {
                Kind::File
            } else {
                Kind::Foreign
            });
        }
        // The link cannot be followed: it exists, and what it leads to is unknown.
        let Ok(target) = fs::canonicalize(entry.path()) else {
            return Ok(Kind::Foreign);
        };
        if !target.is_dir() {
            return Ok(if target.is_file() {
                Kind::File
            } else {
                Kind::Foreign
            });
        }
        let leads_back = self.inside.iter().any(|outer| outer.starts_with(&target));
        Ok(if leads_back {
            Kind::Foreign
        } else {
            Kind::Directory
        })
    }

    fn file(&mut self, key: &str) -> io::Result<()> {
        let (_, stamp): (_, FileStamp) = match open_file(&self.root.join(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if is_missing(error.kind()) => {
                self.foreign(key);
                return Ok(());
            }
            opened => opened?,
        };
        self.add(Listed::new(
            key.to_owned(),
            stamp.size,
            Some(time_of(&stamp)),
        ));
        Ok(())
    }

    fn foreign(&mut self, key: &str) {
        self.add(Listed {
            key: key.to_owned(),
            name: ListedName::Foreign,
            len: 0,
            modified: None,
        });
    }

    fn add(&mut self, entry: Listed) {
        if self.page.entries.len() == self.room {
            // Another entry follows.
            self.page.next = self.page.entries.last().map(|last| last.key.clone());
        } else {
            self.page.entries.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryStore;

    fn keys(store: &DirectoryStore, room: usize, folder: &Folder) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let page = store
                .files
                .list_pages_of(room, folder, after.as_deref())
                .unwrap();
            assert!(page.entries.len() <= room);
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            match page.next {
                None => return keys,
                next => after = next,
            }
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_bytes_whatever_the_length_of_pages() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(dir.path()).unwrap();
        let names = [
            "a-b/x", "a/b", "a/c/d", "a/c/e", "a.b", "a0", "b/c", "\u{e9}",
        ];
        for name in names {
            let path = dir.path().join("Manifests").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        fs::create_dir_all(dir.path().join("Manifests/empty/empty")).unwrap();
        fs::write(dir.path().join("Manifests/a/.staged-0123456789aB"), "half").unwrap();
        let mut expected = names.map(|name| format!("Manifests/{name}"));
        expected.sort_unstable();
        let all = Folder::Manifests("".parse().unwrap());
        for room in 1..10 {
            assert_eq!(keys(&store, room, &all), expected, "pages of {room}");
        }
        let below = Folder::Manifests("a".parse().unwrap());
        let expected = ["a/b", "a/c/d", "a/c/e"].map(|name| format!("Manifests/{name}"));
        assert_eq!(keys(&store, 2, &below), expected);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_behind_a_link_is_listed_and_what_cannot_be_followed_is_foreign() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let away = tempfile::tempdir().unwrap();
        fs::write(away.path().join("m"), "m").unwrap();
        let store = DirectoryStore::open(dir.path()).unwrap();
        let manifests = dir.path().join("Manifests");
        fs::create_dir_all(manifests.join(".stage-1")).unwrap();
        fs::write(manifests.join(".stage-1/x"), "x").unwrap();
        fs::write(manifests.join(OsStr::from_bytes(b"latin-\xe9")), "").unwrap();
        symlink(away.path(), manifests.join("farm")).unwrap();
        symlink(away.path().join("m"), manifests.join("link")).unwrap();
        symlink("nowhere", manifests.join("broken")).unwrap();
        symlink(&manifests, away.path().join("back")).unwrap();
        let all = Folder::Manifests("".parse().unwrap());
        let listed = store.files.list(&all, None).unwrap().entries;
        let listed: Vec<_> = listed
            .iter()
            .map(|entry| (&*entry.key, entry.name == ListedName::Foreign))
            .collect();
        let expected = [
            ("Manifests/.stage-1/x", false),
            ("Manifests/broken", true),
            ("Manifests/farm/back", true),
            ("Manifests/farm/m", false),
            ("Manifests/latin-\u{fffd}", true),
            ("Manifests/link", false),
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn a_store_that_is_gone_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let store = DirectoryStore::create(&root).unwrap();
        assert_eq!(
            store.files.list(&Folder::Data, None).unwrap(),
            Page::default()
        );
        fs::remove_dir(&root).unwrap();
        store.files.list(&Folder::Data, None).unwrap_err();
    }
}
