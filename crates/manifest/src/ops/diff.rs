//! What changed from one snapshot to another.
//!
//! **Law:** `base.apply(&new.diff(&base, None))` is `new`, except for its parent; by another
//! comparison ([`DiffOptions`]) it is a snapshot that does not differ from `new` by that comparison.
//!
//! Both are sorted alike, so this is one merge, and entries that say the same are not unpacked.

use crate::path::PathRef;
use crate::table::Table;
use crate::{Change, Content, ContentHash, Diff, File, Node, Snapshot};

/// Which differences of two files count. Links differ if their targets do, and a change of kind
/// always counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum By {
    /// Anything that a manifest says of a file.
    #[default]
    Everything,
    /// The size, and the time if it is more than one microsecond off: turning nanoseconds into
    /// microseconds and back can be off by one. (`deadline-job-attachments` 0.1.5, `_diff.py`: what
    /// `manifest diff` does.)
    SizeAndMtime,
    /// The content, whatever the times are (`manifest diff --force-rehash`). Two files without a
    /// hash are compared by [`By::SizeAndMtime`]; a file differs from one that is cut otherwise.
    Hash,
}

/// How to compare two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DiffOptions {
    /// Which differences of two files count.
    pub compare: By,
    /// For a snapshot that was taken where files have no execute bit (Windows): the bit does not
    /// count as a difference, and a file that changed otherwise keeps the bit that it had.
    pub preserve_runnable: bool,
}

/// How far apart two times may be and still be the same to [`By::SizeAndMtime`].
const SAME_MTIME_MICROSECONDS: u64 = 1;

impl DiffOptions {
    fn files_differ(self, was: &File, is: &File) -> bool {
        let about_differs =
            was.size != is.size || was.mtime.0.abs_diff(is.mtime.0) > SAME_MTIME_MICROSECONDS;
        match self.compare {
            By::Everything => {
                (was.size, was.mtime, &was.content) != (is.size, is.mtime, &is.content)
                    || (!self.preserve_runnable && was.runnable != is.runnable)
            }
            By::SizeAndMtime => about_differs,
            By::Hash => match (&was.content, &is.content) {
                (Content::Unhashed, Content::Unhashed) => about_differs,
                (was_content, content) => was.size != is.size || was_content != content,
            },
        }
    }

    fn differ(self, was: &Node, is: &Node) -> bool {
        match (was, is) {
            (Node::File(was), Node::File(is)) => self.files_differ(was, is),
            (was, is) => was != is,
        }
    }

    /// What is to be put where `was` gave way to `is`.
    fn put(self, was: &Node, is: Node) -> Node {
        match (was, is) {
            (Node::File(was), Node::File(is)) if self.preserve_runnable => Node::File(File {
                runnable: was.runnable,
                ..is
            }),
            (_, is) => is,
        }
    }
}

impl Snapshot {
    /// What changed from `parent` to this snapshot: `parent.apply(&diff)` is this snapshot again,
    /// except for [`Snapshot::parent`], provided that both cut files alike. `parent_hash` is the
    /// hash of the parent's encoded form, to be written into the diff.
    ///
    /// A file differs if anything that the manifest says of it does. A deleted directory is listed
    /// with everything that was in it. (`openjd-snapshots` refuses to compare a snapshot that has
    /// hashes with one that has none; here a file that lost its hash is a changed file.)
    pub fn diff(&self, parent: &Self, parent_hash: Option<ContentHash>) -> Diff {
        self.diff_by(parent, parent_hash, DiffOptions::default())
    }

    /// [`Snapshot::diff`] where only some differences count. A file that does not differ is not
    /// mentioned, so the parent's entry stays.
    pub fn diff_by(
        &self,
        parent: &Self,
        parent_hash: Option<ContentHash>,
        options: DiffOptions,
    ) -> Diff {
        let mut changes = Table::default();
        let mut add = |path: PathRef<'_>, change| {
            let added = changes.push(path, change);
            added.expect("two snapshots in memory have paths that fit into a diff");
        };
        let (old, new) = (parent.table(), self.table());
        let mut at = 0;
        for index in 0..new.len() {
            let path = new.path(index);
            let mut has_old = false;
            while at < old.len() {
                // Most paths are in both, and equal bytes are found sooner than their order.
                has_old = old.path(at) == path;
                if has_old || old.path(at) > path {
                    break;
                }
                add(old.path(at), deletion(old, at));
                at += 1;
            }
            if !has_old {
                add(path, new.change(index));
                continue;
            }
            let was = at;
            at += 1;
            if new.says_the_same(index, old, was) {
                continue;
            }
            let (Some(was_node), Some(node)) = (old.node(was), new.node(index)) else {
                continue;
            };
            if !options.differ(&was_node, &node) {
                continue;
            }
            if was_node.is_dir() != node.is_dir() {
                add(path, deletion(old, was));
            }
            add(path, Change::Put(options.put(&was_node, node)));
        }
        for gone in at..old.len() {
            add(old.path(gone), deletion(old, gone));
        }
        Diff::from_sorted(self.chunk_size(), parent_hash, changes)
    }
}

fn deletion(table: &Table, index: usize) -> Change {
    if table.is_put_dir(index) {
        Change::DeleteDir
    } else {
        Change::DeleteFile
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_snapshot, file, link, path, snapshot, unhashed, variant};

    fn changed(base: &Snapshot, new: &Snapshot, options: DiffOptions) -> Vec<String> {
        let diff = new.diff_by(base, None, options);
        diff.changes().map(|(path, _)| path.to_string()).collect()
    }

    fn by(compare: By) -> DiffOptions {
        DiffOptions {
            compare,
            preserve_runnable: false,
        }
    }

    fn any_options() -> impl Strategy<Value = DiffOptions> {
        let compare = prop::sample::select(vec![By::Everything, By::SizeAndMtime, By::Hash]);
        (compare, any::<bool>()).prop_map(|(compare, preserve_runnable)| DiffOptions {
            compare,
            preserve_runnable,
        })
    }

    proptest! {
        #[test]
        fn applying_a_difference_gives_what_does_not_differ_from_the_new_snapshot(
            base in any_snapshot(),
            new in any_snapshot(),
            options in any_options(),
        ) {
            let applied = base.apply(&new.diff_by(&base, None, options)).unwrap();
            prop_assert!(new.diff_by(&applied, None, options).is_empty());
        }

        #[test]
        fn nothing_differs_from_itself_by_any_comparison(
            tree in any_snapshot(),
            options in any_options(),
        ) {
            prop_assert!(tree.diff_by(&tree, None, options).is_empty());
        }
    }

    #[test]
    fn a_directory_that_becomes_a_file_is_deleted_and_put() {
        let old = snapshot([("a/b", file(1))]);
        let new = snapshot([("a", file(2))]);
        let diff = new.diff(&old, None);
        let changes = diff
            .changes()
            .map(|(path, change)| (path.to_owned(), change));
        assert_eq!(
            changes.collect::<Vec<_>>(),
            [
                (path("a"), Change::DeleteDir),
                (path("a"), Change::Put(file(2))),
                (path("a/b"), Change::DeleteFile),
            ]
        );
    }

    #[test]
    fn each_comparison_sees_what_it_is_for() {
        let base = snapshot([
            ("bit", variant(10, false, 0)),
            ("content", variant(10, false, 0)),
            ("one_us", variant(10, false, 0)),
            ("two_us", variant(10, false, 0)),
            ("size", file(1)),
            ("link", link("size")),
        ]);
        let new = snapshot([
            ("bit", variant(10, true, 0)),
            ("content", variant(10, false, 1)),
            ("one_us", variant(11, false, 0)),
            ("two_us", variant(8, false, 0)),
            ("size", file(2)),
            ("link", link("bit")),
        ]);
        assert_eq!(
            changed(&base, &new, by(By::Everything)),
            ["bit", "content", "link", "one_us", "size", "two_us"]
        );
        assert_eq!(
            changed(&base, &new, by(By::SizeAndMtime)),
            ["link", "size", "two_us"]
        );
        assert_eq!(
            changed(&base, &new, by(By::Hash)),
            ["content", "link", "size"]
        );
    }

    #[test]
    fn without_hashes_the_content_is_told_by_size_and_time() {
        let base = snapshot([("a", unhashed(1)), ("b", unhashed(1)), ("c", unhashed(1))]);
        let new = snapshot([("a", unhashed(1)), ("b", unhashed(2)), ("c", file(1))]);
        assert_eq!(changed(&base, &new, by(By::Hash)), ["b", "c"]);
    }

    #[test]
    fn where_files_have_no_execute_bit_they_keep_the_one_they_had() {
        let base = snapshot([("a", variant(1, true, 0)), ("b", variant(1, true, 0))]);
        let new = snapshot([("a", variant(1, false, 0)), ("b", variant(1, false, 1))]);
        let options = DiffOptions {
            preserve_runnable: true,
            ..DiffOptions::default()
        };
        let diff = new.diff_by(&base, None, options);
        let changes: Vec<_> = diff.changes().collect();
        let kept = Change::Put(variant(1, true, 1));
        assert_eq!(changes, [(path("b").borrowed(), kept)]);
    }
}
