//! Objects in the order of their keys, page by page.
//!
//! The order is that of the keys' bytes. In a directory it is that of the names with a slash behind those of directories: `a-b` stands
//! before `a/b`. A directory is read again for each page, and only those are looked into that can have keys of the page.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::objects::{STAGED, etag};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) prefix: &'a str,
    /// Only `/`, or empty for none.
    pub(crate) delimiter: &'a str,
    /// Only keys and common prefixes behind this one.
    pub(crate) after: &'a str,
    pub(crate) most: usize,
}

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) is_truncated: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Object {
        key: String,
        size: u64,
        /// Seconds since 1970.
        modified: i64,
        etag: String,
    },
    CommonPrefix(String),
}

impl Entry {
    /// What the next page is asked to begin after.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object { key, .. } => key,
            Self::CommonPrefix(prefix) => prefix,
        }
    }
}

/// Lists a bucket's directory.
pub(crate) fn list(bucket: &Path, asked: &Asked<'_>) -> io::Result<Page> {
    let mut page = Page::default();
    if asked.most > 0 {
        walk(bucket, "", asked, &mut page)?;
    }
    Ok(page)
}

/// `base` is what all keys of this directory begin with: empty, or with a slash at its end.
fn walk(dir: &Path, base: &str, asked: &Asked<'_>, page: &mut Page) -> io::Result<()> {
    for name in sorted_names(dir)? {
        if page.is_truncated {
            return Ok(());
        }
        let name = format!("{base}{name}");
        let is_dir = name.ends_with('/');
        let leads_there = is_dir && asked.prefix.starts_with(name.as_str());
        if !leads_there && !name.starts_with(asked.prefix) {
            continue;
        }
        let path = dir.join(&name[base.len()..]);
        if !is_dir {
            if name.as_str() > asked.after {
                add_object(&path, name, asked, page)?;
            }
        } else if asked.delimiter == "/" && !leads_there {
            let is_behind = name.as_str() > asked.after || asked.after.starts_with(name.as_str());
            if is_behind && name != asked.after && has_objects(&path)? {
                add(Entry::CommonPrefix(name), asked, page);
            }
        } else if name.as_str() > asked.after || asked.after.starts_with(name.as_str()) {
            walk(&path, &name, asked, page)?;
        }
    }
    Ok(())
}

/// The names in a directory, those of directories with a slash. What is not there, or not any more, is empty.
fn sorted_names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A name that is not UTF-8 is no key's.
        let Ok(mut name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with(STAGED) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn add_object(path: &Path, key: String, asked: &Asked<'_>, page: &mut Page) -> io::Result<()> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        // Deleted since the directory was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let object = Entry::Object {
        key,
        size: found.len(),
        modified: found.mtime(),
        etag: etag(&found),
    };
    add(object, asked, page);
    Ok(())
}

fn add(entry: Entry, asked: &Asked<'_>, page: &mut Page) {
    if page.entries.len() < asked.most {
        page.entries.push(entry);
    } else {
        page.is_truncated = true;
    }
}

/// A directory that has only empty ones is nothing to S3.
fn has_objects(dir: &Path) -> io::Result<bool> {
    for name in sorted_names(dir)? {
        if !name.ends_with('/') || has_objects(&dir.join(&name))? {
            return Ok(true);
        }
    }
    Ok(false)
}
