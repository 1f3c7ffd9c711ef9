//! Names of copies: of what is placed beside something else that has its name.

use std::collections::HashSet;
use std::io;

use attachfs_durable::HeldDir;
use attachfs_manifest::ManifestPath;

use super::paths::{joined, parent_bytes};

/// What stands before the number of a copy.
const COPY: &str = " (";
/// Of UTF-8, in bytes.
const LONGEST_CHAR: usize = 4;
/// The longest name of a path, in bytes (`formats.md`).
const LONGEST_NAME: u64 = 255;

/// The names that copies may have.
#[derive(Debug)]
pub(super) struct CopyNames {
    /// Paths of the manifest that look like those of copies: no copy gets one of them.
    reserved: HashSet<ManifestPath>,
    /// In bytes.
    longest: usize,
}

impl CopyNames {
    /// For copies below `root`, beside what is `wanted` there. Blocks.
    pub(super) fn new<'a>(root: &HeldDir, wanted: impl Iterator<Item = &'a ManifestPath>) -> Self {
        let longest = root.longest_name().unwrap_or(LONGEST_NAME);
        let may_be_copies = wanted.filter(|path| may_be_copy_name(path.borrowed().name()));
        Self {
            reserved: may_be_copies.cloned().collect(),
            longest: longest.min(LONGEST_NAME) as usize,
        }
    }

    /// The names that copies of what should be at `path` can have, one after the other, and their paths.
    pub(super) fn of(
        &self,
        path: &ManifestPath,
    ) -> impl Iterator<Item = io::Result<(Vec<u8>, ManifestPath)>> {
        let copies = (1..).map(|number| {
            let name = copy_name(path.borrowed().name(), number, self.longest);
            let path = ManifestPath::new(&joined(parent_bytes(path.borrowed()), &name));
            let path = path.map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error));
            Ok((name, path?))
        });
        copies.filter(|copy| {
            let is_reserved = |(_, path): &(_, _)| self.reserved.contains(path);
            !copy.as_ref().is_ok_and(is_reserved)
        })
    }
}

/// The name of copy `number` of a file: `stem (number).suffix`. What the suffix is, Python's
/// `PurePath.suffix` says (`deadline-job-attachments` 0.1.5, `_get_new_copy_file_path`): from the last
/// dot on, unless that is the first or the last character.
///
/// A name that would be longer than `longest` bytes has a shorter stem; one that is nearly all suffix is
/// shortened at its end.
fn copy_name(name: &[u8], number: u64, longest: usize) -> Vec<u8> {
    let mark = format!("{COPY}{number})");
    let dot = name.iter().rposition(|&byte| byte == b'.');
    let dot = dot.filter(|&dot| {
        let shortest = dot.min(LONGEST_CHAR) + mark.len() + name.len() - dot;
        dot > 0 && dot + 1 < name.len() && shortest <= longest
    });
    let (stem, suffix) = name.split_at(dot.unwrap_or(name.len()));
    let room = longest.saturating_sub(mark.len() + suffix.len());
    [shortened(stem, room), mark.as_bytes(), suffix].concat()
}

/// The first bytes of a name, at most so many, without part of a character at their end.
fn shortened(name: &[u8], most: usize) -> &[u8] {
    if name.len() <= most {
        return name;
    }
    let continues = |end: &usize| name[*end] & 0b1100_0000 == 0b1000_0000;
    let end = (0..=most)
        .rev()
        .take(LONGEST_CHAR)
        .find(|end| !continues(end));
    &name[..end.unwrap_or(most)]
}

/// Whether [`copy_name`] could make this name of another. It may say so of more.
fn may_be_copy_name(name: &[u8]) -> bool {
    name.windows(COPY.len()).any(|part| part == COPY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_named_as_the_python_client_names_it() {
        for (name, copy) in [
            ("a.exr", "a (1).exr"),
            ("a.tar.gz", "a.tar (1).gz"),
            ("a", "a (1)"),
            ("a.", "a. (1)"),
            (".bashrc", ".bashrc (1)"),
            ("..a", ". (1).a"),
            (".a.b", ".a (1).b"),
        ] {
            assert_eq!(
                copy_name(name.as_bytes(), 1, 255),
                copy.as_bytes(),
                "{name}"
            );
            assert!(may_be_copy_name(copy.as_bytes()) && !may_be_copy_name(name.as_bytes()));
        }
        assert_eq!(copy_name(b"a.b", 12, 255), b"a (12).b");
    }

    #[test]
    fn a_copy_of_a_long_name_has_a_shorter_stem_of_whole_characters() {
        for (name, copy) in [
            ("abcdefgh.e", "abcd (1).e"),
            ("abcdefghij", "abcdef (1)"),
            ("abcä\u{f6}fgh.e", "abc (1).e"),
            ("a.bcdefghi", "a.bcde (1)"),
        ] {
            let made = copy_name(name.as_bytes(), 1, 10);
            assert_eq!(str::from_utf8(&made), Ok(copy), "{name}");
        }
        assert_eq!(copy_name(b"\x80\x80\x80\x80\x80\x80\x80", 1, 10).len(), 10);
    }
}
