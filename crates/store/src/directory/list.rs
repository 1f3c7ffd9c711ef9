//! Listing a directory store: a walk in the order of keys that takes no more memory than a page.
//!
//! A directory is visited in the order of its names, a subdirectory as if its name ended with a slash: that
//! is the order of the bytes of keys. A page begins where the last one ended, so directories that lie
//! wholly before that are not read. Of a directory with more names than a page has room for, as `Data` has,
//! only the first ones are kept, and the page ends there.

use std::fs;
use std::io;
use std::path::Path;

use attachfs_durable::FileStamp;

use super::{Files, failed, is_missing, open_file, time_of};
use crate::{Folder, Listed, Page, StoreError};

/// How many entries a page has: reading all names of `Data` again for each page must not add up.
const PAGE: usize = 1 << 16;

/// Comes after all that follows a directory's slash.
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
        };
        match walk.directory(&start) {
            Ok(()) => Ok(walk.page),
            // Nothing was ever stored there, or there is no store any more.
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
}

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.page.next.is_some()
    }

    /// Visits what is in a directory, whose key ends with a slash.
    fn directory(&mut self, key: &str) -> io::Result<()> {
        let (names, are_all) = self.first_names(key)?;
        let mut last = None;
        for name in names {
            match name.strip_suffix('/') {
                Some(_) => match self.directory(&name) {
                    // Removed meanwhile.
                    Err(error) if is_missing(error.kind()) => {}
                    walked => walked?,
                },
                None => self.file(&name)?,
            }
            if self.is_full() {
                return Ok(());
            }
            last = Some(name);
        }
        if !are_all {
            // What was kept did not fill the page: there are directories without files.
            let last = last.map(|name| format!("{name}{LAST}"));
            let last_entry = self.page.entries.last().map(|last| last.key.clone());
            self.page.next = last_entry.or(last);
        }
        Ok(())
    }

    /// The keys of the first entries of a directory that come after where the page begins, sorted, those of
    /// directories with a slash; and whether these are all. There are more than the page has room for,
    /// if there are that many.
    fn first_names(&self, dir: &str) -> io::Result<(Vec<String>, bool)> {
        let most = self.room - self.page.entries.len() + 1;
        let mut names = Vec::new();
        let mut are_all = true;
        for entry in fs::read_dir(self.root.join(dir))? {
            let entry = entry?;
            let name = entry.file_name();
            // A key is text; and what is on its way in is not there yet.
            let Some(name) = name.to_str().filter(|name| !name.starts_with(".stag")) else {
                continue;
            };
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            let key = format!("{dir}{name}{slash}");
            let comes_after = *key > *self.after || (slash == "/" && self.after.starts_with(&key));
            if comes_after {
                names.push(key);
            }
            if names.len() >= 2 * most {
                names.select_nth_unstable(most - 1);
                names.truncate(most);
                are_all = false;
            }
        }
        names.sort_unstable();
        Ok((names, are_all))
    }

    fn file(&mut self, key: &str) -> io::Result<()> {
        let (_, stamp): (_, FileStamp) = match open_file(&self.root.join(key)) {
            Err(error) if is_missing(error.kind()) => return Ok(()),
            opened => opened?,
        };
        if self.page.entries.len() == self.room {
            // There is one more.
            self.page.next = self.page.entries.last().map(|last| last.key.clone());
            return Ok(());
        }
        let entry = Listed::new(key.to_owned(), stamp.size, Some(time_of(&stamp)));
        self.page.entries.push(entry);
        Ok(())
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
        fs::write(dir.path().join("Manifests/a/.staged-x"), "half").unwrap();
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
