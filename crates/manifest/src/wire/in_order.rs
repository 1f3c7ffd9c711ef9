//! The entries of a snapshot one after the other, for readers that make something else of them than a [`Snapshot`](crate::Snapshot).
//!
//! A snapshot of ten million files takes a gigabyte, which a reader that wants a tree would need beside the tree. The formats ask for sorted
//! entries, and sorted ones can be checked as they come, all of them against the one before:
//!
//! ```text
//!     a/b          the directory a comes first, which no entry has
//!     a/b-c        a/b is still open: something may lie below it after this
//!     a/b/d        below a file: refused
//!     a/a          not after the one before: refused
//! ```
//!
//! This reader takes what [`decode`](super::decode) takes, or nothing: whatever is wrong or in another order is left to that one, which
//! reads it or says why not.

use super::{Rules, Version, detect, v2023, v2025};
use crate::path::{PathRef, common_prefix, utf16_order};
use crate::snapshot::{Budget, check_node};
use crate::{ChunkSize, Node};

/// Reads a relative snapshot whose entries are in order, and hands out each of them: the one that holds an entry before it, whether the
/// manifest lists that or not. Entries come nearly in the order of [`Snapshot::entries`](crate::Snapshot::entries): a directory that no
/// entry stands for comes when something in it does. Gives how large files are cut, which `take` gets too.
///
/// `None` if it is no such snapshot, or if `take` says so. Then what `take` got before counts for nothing, and [`decode`](super::decode) tells what the
/// manifest is. Memory is what the list of directories of a 2025-12 manifest takes, and the path that is open.
pub fn read_in_order(
    bytes: &[u8],
    take: impl FnMut(ChunkSize, PathRef<'_>, &Node) -> Option<()>,
) -> Option<ChunkSize> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some(dialect) = v2025::guess(text) {
        return v2025::read_in_order(text, dialect, take);
    }
    match detect(text, Rules::Strict) {
        Ok(Version::V2023) => v2023::read_in_order(text, take),
        Ok(Version::V2025(_)) | Err(_) => None,
    }
}

/// Entries that come in order, checked and with the directories that they need.
pub(super) struct InOrder<F> {
    take: F,
    pub(super) chunk_size: ChunkSize,
    pub(super) total_size: u64,
    budget: Budget,
    /// The path of the entry that came last; empty before the first.
    last: Vec<u8>,
    /// The entries whose paths this one begins with, and which something may still lie below.
    open: Vec<Open>,
    /// Whether all entries were as they should be.
    is_right: bool,
}

struct Open {
    path_len: usize,
    is_dir: bool,
}

impl<F: FnMut(ChunkSize, PathRef<'_>, &Node) -> Option<()>> InOrder<F> {
    pub(super) fn new(chunk_size: ChunkSize, take: F) -> Self {
        Self {
            take,
            chunk_size,
            total_size: 0,
            budget: Budget::default(),
            last: Vec::new(),
            open: Vec::new(),
            is_right: true,
        }
    }

    /// Takes the next entry. After one that is refused none is taken any more.
    pub(super) fn next(&mut self, path: PathRef<'_>, node: &Node) {
        if self.is_right {
            self.is_right = self.try_next(path, node).is_some();
        }
    }

    /// Says that the entries cannot be taken.
    pub(super) fn refuse(&mut self) {
        self.is_right = false;
    }

    /// Whether all entries were taken, which is asked after the last of them.
    pub(super) fn is_right(&self) -> bool {
        self.is_right
    }

    fn try_next(&mut self, path: PathRef<'_>, node: &Node) -> Option<()> {
        let bytes = path.as_bytes();
        if !self.last.is_empty() && utf16_order(&self.last, bytes).is_ge() {
            return None;
        }
        self.total_size = check_node(path, node, self.chunk_size, self.total_size).ok()?;
        self.budget.give(bytes);
        self.close_before(bytes);
        self.open_above(bytes)?;
        (self.take)(self.chunk_size, path, node)?;
        self.open.push(Open {
            path_len: bytes.len(),
            is_dir: node.is_dir(),
        });
        self.last.clear();
        self.last.extend_from_slice(bytes);
        Some(())
    }

    /// Closes the entries below which nothing comes any more: the paths of those below come before this one.
    fn close_before(&mut self, path: &[u8]) {
        let common = common_prefix(&self.last, path);
        let is_open = |open: &Open| {
            open.path_len <= common && path.get(open.path_len).is_some_and(|&next| next <= b'/')
        };
        while self.open.last().is_some_and(|open| !is_open(open)) {
            self.open.pop();
        }
    }

    /// Hands out the directories above a path that did not come yet.
    fn open_above(&mut self, path: &[u8]) -> Option<()> {
        let Some(parent) = path.iter().rposition(|&byte| byte == b'/') else {
            return Some(());
        };
        if let Some(is_dir) = self.is_open_dir(parent) {
            return is_dir.then_some(());
        }
        let slashes = path.iter().enumerate();
        for (path_len, _) in slashes.filter(|&(_, &byte)| byte == b'/') {
            match self.is_open_dir(path_len) {
                Some(true) => {}
                Some(false) => return None,
                None => {
                    let directory = &path[..path_len];
                    self.budget.add(directory).ok()?;
                    (self.take)(
                        self.chunk_size,
                        PathRef::from_checked(directory),
                        &Node::Dir,
                    )?;
                    let is_dir = true;
                    self.open.push(Open { path_len, is_dir });
                }
            }
        }
        Some(())
    }

    /// Whether the open entry whose path has this length is a directory; `None` if there is no such entry.
    fn is_open_dir(&self, path_len: usize) -> Option<bool> {
        // Each was opened within the one before it, and is closed before that.
        let found = self
            .open
            .binary_search_by_key(&path_len, |open| open.path_len);
        Some(self.open[found.ok()?].is_dir)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_snapshot, chunks, dir, file, link, snapshot};
    use crate::wire::{Format, Manifest, decode, encode_snapshot};
    use crate::{ManifestPath, Snapshot};

    type Entries = Vec<(ManifestPath, Node)>;

    fn read(bytes: &[u8]) -> Option<(ChunkSize, Entries)> {
        let mut entries = Vec::new();
        let chunk_size = read_in_order(bytes, |_, path, node| {
            entries.push((path.to_owned(), node.clone()));
            Some(())
        })?;
        Some((chunk_size, entries))
    }

    /// What the general reader makes of it.
    fn decoded(bytes: &[u8]) -> Snapshot {
        match decode(bytes).unwrap() {
            (_, Manifest::Snapshot(snapshot)) => snapshot,
            (_, Manifest::Diff(_)) => panic!("it is a diff"),
        }
    }

    /// Fails unless both readers find the same, each directory before what is in it.
    fn assert_same(bytes: &[u8]) {
        let (chunk_size, mut entries) = read(bytes).expect("it is in order");
        let whole = decoded(bytes);
        assert_eq!(chunk_size, whole.chunk_size());
        let mut seen = std::collections::HashSet::new();
        for (path, _) in &entries {
            if let Some(parent) = path.borrowed().parent() {
                assert!(
                    seen.contains(&parent.to_owned()),
                    "{path} comes before {parent}"
                );
            }
            seen.insert(path.clone());
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let expected: Entries = whole
            .entries()
            .map(|(path, node)| (path.to_owned(), node))
            .collect();
        assert_eq!(entries, expected);
    }

    fn is_refused(text: &str) {
        assert_eq!(read(text.as_bytes()), None, "{text}");
    }

    proptest! {
        #[test]
        fn a_snapshot_is_read_in_order_as_it_is_read_whole(whole in any_snapshot()) {
            let text = encode_snapshot(&whole, Format::V2025_12).unwrap();
            // A directory that leads to the target of a link may be a file as well.
            let has_links = whole.entries().any(|(_, node)| matches!(node, Node::Symlink(_)));
            if !has_links || read(&text).is_some() {
                assert_same(&text);
            }
            if let Ok(text) = encode_snapshot(&whole, Format::V2023_03_03) {
                assert_same(&text);
            }
        }
    }

    const HASH: &str = "0123456789abcdef0123456789abcdef";

    fn of_2023(paths: &[&str]) -> String {
        let entries: Vec<_> = paths
            .iter()
            .map(|path| format!(r#"{{"hash":"{HASH}","mtime":1,"path":"{path}","size":2}}"#))
            .collect();
        format!(
            r#"{{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[{}],"totalSize":{}}}"#,
            entries.join(","),
            2 * paths.len()
        )
    }

    #[test]
    fn directories_come_before_what_is_in_them_wherever_they_begin() {
        for paths in [
            &[][..],
            &["a"],
            &["a/b/c", "a/b/d", "a/e", "b"],
            // Between a directory and what is in it comes what begins with its name.
            &["a-b", "a-b-c/d", "a/b"],
            &["a/b-/x", "a/b/c", "a/b0"],
            // By UTF-16, U+1F600 comes before U+E000; by bytes after it.
            &["\u{1f600}/a", "\u{e000}/a"],
        ] {
            assert_same(of_2023(paths).as_bytes());
        }
    }

    #[test]
    fn what_is_out_of_order_listed_twice_or_below_a_file_is_left_to_the_general_reader() {
        for paths in [
            &["b", "a"][..],
            &["a", "a"],
            &["a", "a/b"],
            &["a", "a-b", "a/b"],
            &["a/b", "a/b-c/d", "a/b/c/d"],
            &["a/b", "a"],
            &["/a"],
            &["a/../b"],
        ] {
            is_refused(&of_2023(paths));
        }
    }

    #[test]
    fn a_wrong_sum_another_format_and_a_text_that_goes_on_are_left_to_the_general_reader() {
        let right = of_2023(&["a", "b"]);
        assert_same(right.as_bytes());
        is_refused(&right.replace(r#""totalSize":4"#, r#""totalSize":5"#));
        is_refused(&format!("{right} x"));
        is_refused(&right.replace("2023-03-03", "2024-03-03"));
        is_refused("");
        let mut bytes = right.into_bytes();
        bytes[40] = 0xff;
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn what_is_no_relative_snapshot_is_left_to_the_general_reader() {
        let tree = snapshot([("d", dir()), ("d/f", file(1)), ("l", link("d/f"))]);
        assert_same(&encode_snapshot(&tree, Format::V2025_12).unwrap());
        let absolute = encode_snapshot(&tree, Format::V2025_12Absolute).unwrap();
        assert_eq!(read(&absolute), None);
        let diff = tree.diff(&snapshot([("d", dir())]), None);
        let diff = crate::wire::encode_diff(&diff, Format::V2025_12).unwrap();
        assert_eq!(read(&diff), None);
    }

    #[test]
    fn a_directory_that_only_leads_to_a_target_and_is_a_file_is_left_to_the_general_reader() {
        // `cur -> latest/scene`, where `latest` is a link itself.
        let tree = snapshot([
            ("cur", link("latest/scene")),
            ("latest", link("v2")),
            ("v2", dir()),
        ]);
        let text = encode_snapshot(&tree, Format::V2025_12).unwrap();
        assert_eq!(read(&text), None);
        assert_eq!(decoded(&text), tree);
    }

    #[test]
    fn files_in_chunks_are_cut_as_the_manifest_says_before_its_files() {
        let cut = ChunkSize::Bytes(std::num::NonZeroU64::new(10).unwrap());
        let big = ManifestPath::new(b"big").unwrap();
        let tree = Snapshot::new(cut, None, [(big, chunks(25, 3))]).unwrap();
        let text = encode_snapshot(&tree, Format::V2025_12).unwrap();
        assert_same(&text);
        // The size of chunks comes after the files here.
        let text = String::from_utf8(text).unwrap();
        let said = r#""fileChunkSizeBytes":10,"#;
        assert!(text.contains(said), "{text}");
        let moved = text
            .replace(said, "")
            .replace(r#""hashAlg""#, r#""fileChunkSizeBytes":10,"hashAlg""#);
        assert_eq!(decoded(moved.as_bytes()), tree);
        is_refused(&moved);
        // What was cut rightly for the size that counts where none is said is not for this one.
        let tree = snapshot([("big", chunks((256 << 20) + 1, 2))]);
        let text = String::from_utf8(encode_snapshot(&tree, Format::V2025_12).unwrap()).unwrap();
        assert_same(text.as_bytes());
        let said = r#""fileChunkSizeBytes":268435456,"#;
        assert!(text.contains(said), "{text}");
        let other = text
            .replace(said, "")
            .replace(r#""hashAlg""#, r#""fileChunkSizeBytes":10,"hashAlg""#);
        decode(other.as_bytes()).unwrap_err();
        is_refused(&other);
    }

    #[test]
    fn paths_of_a_thousand_directories_each_do_not_fill_the_memory() {
        let paths: Vec<_> = (0..200)
            .map(|i| format!("{i:03}/{}f", "a/".repeat(2000)))
            .collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        is_refused(&of_2023(&paths));
    }

    #[test]
    fn who_takes_the_entries_can_refuse_them() {
        let text = of_2023(&["a", "b", "c"]);
        let mut taken = 0;
        let read = read_in_order(text.as_bytes(), |_, _, _| {
            taken += 1;
            (taken < 2).then_some(())
        });
        assert_eq!((read, taken), (None, 2));
    }
}
