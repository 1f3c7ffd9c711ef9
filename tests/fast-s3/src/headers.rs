//! What a client said of an object and gets back with it: `Content-Type`, `x-amz-meta-*` and a few more.
//!
//! They are kept as an extended attribute of the object's file, which is renamed with it, so that an object and what was said of it
//! appear together. Most objects have none.

use std::fs::File;
use std::io;

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

const ATTRIBUTE: &str = "user.attachfs.fast-s3";
/// S3 allows 2 KiB of metadata.
const LONGEST: usize = 8 << 10;
const KEPT: [&str; 4] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-language",
];

/// Names in lower case, and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ObjectHeaders(Vec<(String, String)>);

impl ObjectHeaders {
    /// Those of a request's headers that are kept.
    pub(crate) fn of_request<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let kept = all.filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let is_kept = name.starts_with("x-amz-meta-") || KEPT.contains(&name.as_str());
            is_kept.then(|| (name, value.to_owned()))
        });
        Self(kept.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Writes them to the file of an object. A file system that has no room for them is an error.
    pub(crate) fn attach(&self, file: &File) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut lines = String::new();
        for (name, value) in self.iter() {
            lines.push_str(&format!("{name}:{value}\n"));
        }
        Ok(fsetxattr(
            file,
            ATTRIBUTE,
            lines.as_bytes(),
            XattrFlags::empty(),
        )?)
    }

    /// Removes those that a file has of another object.
    pub(crate) fn detach(file: &File) -> io::Result<()> {
        match fremovexattr(file, ATTRIBUTE) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Those of an object's file.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        let mut text = [0; LONGEST];
        let length = match fgetxattr(file, ATTRIBUTE, &mut text[..]) {
            Ok(length) => length,
            // A file that someone put there, or one of which nothing was said.
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&text[..length]);
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let pairs = lines.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self(pairs.collect()))
    }
}
