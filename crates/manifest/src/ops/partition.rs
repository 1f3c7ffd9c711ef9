//! A snapshot cut into parts, each with a root of its own.
//!
//! **Law:** if no link leads out of its part, the parts, each joined with its root, merged are the
//! snapshot again.
//!
//! Roots can be given; what lies outside of them gets roots of its own (as in `openjd-snapshots`):
//!
//! * the longest directory that holds all of it, if that is not the root itself;
//! * else, for a relative snapshot of which no roots are given, the root itself;
//! * else the longest common directory of everything with the same first component.
//!
//! A file, a link and an empty directory count: the first two with the directory that they lie in. (The
//! reference counts every directory that is listed, so the root that it derives depends on which
//! are; and for an absolute manifest it derives the root `/`.)
//!
//! Here no entry is in two parts: roots that overlap are refused, also where one was derived.

use crate::path::{PathRef, is_within, parent_of, utf16_order};
use crate::table::Table;
use crate::{ManifestPath, Snapshot, SubtreeError, SymlinkPolicy};

/// How to cut a snapshot into parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionOptions {
    /// Roots, of which none lies below another. Each gives a part, if only an empty one.
    pub roots: Vec<ManifestPath>,
    /// Directories that count when roots are derived, as if they were there: where a job will write,
    /// for example.
    pub referenced: Vec<ManifestPath>,
    /// What becomes of links that lead out of their part.
    pub symlinks: SymlinkPolicy,
    /// Whether the snapshot is one of the root `/` of a machine, which is not to be a root.
    pub is_absolute: bool,
}

/// Why a snapshot cannot be cut into parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// A root lies below another, or is given twice.
    #[error("the root \"{inner}\" is \"{outer}\" or lies below it")]
    Overlap {
        /// The upper one.
        outer: ManifestPath,
        /// The lower one.
        inner: ManifestPath,
    },
    /// Something directly below the root of the snapshot is in none of the given roots, and only
    /// the root of the snapshot could hold it.
    #[error("\"{path}\" lies in none of the roots that were given")]
    Outside {
        /// The entry.
        path: ManifestPath,
    },
    /// A part cannot be cut out.
    #[error("the part with the root {} cannot be cut out", shown(.root.as_ref()))]
    Subtree {
        /// Its root; `None` for the root of the snapshot.
        root: Option<ManifestPath>,
        /// Why.
        #[source]
        source: SubtreeError,
    },
}

fn shown(root: Option<&ManifestPath>) -> String {
    root.map_or_else(
        || "of the manifest".to_owned(),
        |root| format!("\"{root}\""),
    )
}

/// A directory that has to be in a part, or the entry in the root that makes that impossible.
type Place<'a> = (&'a [u8], Option<PathRef<'a>>);

/// The directories that hold something, and those that are empty; the root is empty bytes.
fn places(table: &Table) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = Vec::new();
    for index in 0..table.len() {
        let path = table.path(index);
        let directory = if !table.is_put_dir(index) {
            parent_of(path.as_bytes()).unwrap_or_default()
        } else if table.below(path.as_bytes()).is_empty() {
            path.as_bytes()
        } else {
            continue;
        };
        if places.last().is_none_or(|&(last, _)| last != directory) {
            places.push((directory, Some(path)));
        }
    }
    places
}

/// The longest directory that holds both.
fn common<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let mut directory = a;
    while !is_within(b, directory) {
        directory = parent_of(directory).unwrap_or_default();
    }
    directory
}

fn common_of_all<'a>(mut places: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = places.next()?;
    Some(places.fold(first, |all, place| common(all, place)))
}

fn first_component(directory: &[u8]) -> &[u8] {
    directory
        .split(|&byte| byte == b'/')
        .next()
        .unwrap_or_default()
}

fn root_of(directory: &[u8]) -> Option<ManifestPath> {
    (!directory.is_empty()).then(|| ManifestPath::from_ancestor(directory))
}

/// The roots of what lies outside of the given ones, in order.
fn derived(
    snapshot: &Snapshot,
    options: &PartitionOptions,
) -> Result<Vec<Option<ManifestPath>>, PartitionError> {
    let mut places = places(snapshot.table());
    let referenced = options.referenced.iter();
    places.extend(referenced.map(|path| (path.as_bytes(), None)));
    let is_given = |place: &[u8]| {
        options
            .roots
            .iter()
            .any(|root| is_within(place, root.as_bytes()))
    };
    places.retain(|&(place, _)| !is_given(place));
    let Some(all) = common_of_all(places.iter().map(|&(place, _)| place)) else {
        return Ok(Vec::new());
    };
    if !all.is_empty() {
        return Ok(vec![root_of(all)]);
    }
    let in_the_root = places.iter().find(|(place, _)| place.is_empty());
    match in_the_root {
        Some(&(_, Some(path))) if !options.roots.is_empty() => {
            return Err(PartitionError::Outside {
                path: path.to_owned(),
            });
        }
        // A root is a directory, so a file there has no other.
        Some(_) => return Ok(vec![None]),
        None if options.roots.is_empty() && !options.is_absolute => return Ok(vec![None]),
        None => {}
    }
    places.sort_by(|(a, _), (b, _)| {
        let first = |place| first_component(place);
        first(a).cmp(first(b))
    });
    let groups = places.chunk_by(|(a, _), (b, _)| first_component(a) == first_component(b));
    let mut roots: Vec<&[u8]> = groups
        .filter_map(|group| common_of_all(group.iter().map(|&(place, _)| place)))
        .collect();
    roots.sort_by(|a, b| utf16_order(a, b));
    Ok(roots.into_iter().map(root_of).collect())
}

fn check_apart(given: &[ManifestPath], root: &ManifestPath) -> Result<(), PartitionError> {
    for other in given {
        let (outer, inner) = if is_within(root.as_bytes(), other.as_bytes()) {
            (other, root)
        } else if is_within(other.as_bytes(), root.as_bytes()) {
            (root, other)
        } else {
            continue;
        };
        return Err(PartitionError::Overlap {
            outer: outer.clone(),
            inner: inner.clone(),
        });
    }
    Ok(())
}

impl Snapshot {
    /// This snapshot as parts: those of the roots that are given, in their order, then those of
    /// derived ones, in the order of their paths. `None` stands for the root of the snapshot itself.
    ///
    /// Parts are cut out by [`Snapshot::subtree`], so they have no parent. An empty snapshot has no
    /// parts but the given ones.
    pub fn partition(
        &self,
        options: &PartitionOptions,
    ) -> Result<Vec<(Option<ManifestPath>, Self)>, PartitionError> {
        for (index, root) in options.roots.iter().enumerate() {
            check_apart(&options.roots[..index], root)?;
        }
        let derived = derived(self, options)?;
        for root in derived.iter().flatten() {
            check_apart(&options.roots, root)?;
        }
        let given = options.roots.iter().cloned().map(Some);
        given
            .chain(derived)
            .map(|root| {
                let part = self.subtree(root.as_ref(), options.symlinks);
                match part {
                    Ok(part) => Ok((root, part)),
                    Err(source) => Err(PartitionError::Subtree { root, source }),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merge;
    use crate::testing::{any_snapshot, dir, file, link, path, snapshot};

    fn roots(tree: &Snapshot, options: &PartitionOptions) -> Vec<String> {
        let parts = tree.partition(options).unwrap();
        let root = |(root, _): &(Option<ManifestPath>, Snapshot)| {
            root.as_ref()
                .map_or_else(|| ".".to_owned(), ToString::to_string)
        };
        parts.iter().map(root).collect()
    }

    fn given<const N: usize>(roots: [&str; N]) -> PartitionOptions {
        PartitionOptions {
            roots: roots.map(path).into(),
            ..PartitionOptions::default()
        }
    }

    fn absolute() -> PartitionOptions {
        PartitionOptions {
            is_absolute: true,
            ..PartitionOptions::default()
        }
    }

    proptest! {
        #[test]
        fn parts_joined_with_their_roots_are_the_whole(
            tree in any_snapshot(),
            is_absolute in any::<bool>(),
            given in 0_usize..3,
        ) {
            let symlinks = SymlinkPolicy::ExcludeAll;
            let tree = tree.subtree(None, symlinks).unwrap();
            let directories = tree.entries().filter(|(_, node)| node.is_dir());
            let roots = directories.map(|(path, _)| path.to_owned()).take(given).collect();
            let options = PartitionOptions { roots, symlinks, is_absolute, ..Default::default() };
            let parts = match tree.partition(&options) {
                Ok(parts) => parts,
                Err(PartitionError::Overlap { .. } | PartitionError::Outside { .. }) => {
                    prop_assert!(given > 0);
                    return Ok(());
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            let joined: Vec<Snapshot> = parts
                .iter()
                .map(|(root, part)| match root {
                    Some(root) => part.join(root).unwrap(),
                    None => part.clone(),
                })
                .collect();
            let all: Vec<&Snapshot> = joined.iter().collect();
            let files = |tree: &Snapshot| tree.entries().filter(|(_, n)| !n.is_dir()).count();
            prop_assert_eq!(parts.iter().map(|(_, part)| files(part)).sum::<usize>(), files(&tree));
            match merge(&all).unwrap() {
                Some(merged) => prop_assert_eq!(merged, tree),
                None => prop_assert!(tree.is_empty()),
            }
        }
    }

    #[test]
    fn the_root_is_the_longest_common_directory() {
        let two = snapshot([("p/s/a/x", file(1)), ("p/s/b/x", file(1))]);
        assert_eq!(roots(&two, &PartitionOptions::default()), ["p/s"]);
        let empty = snapshot([("p/s/e", dir())]);
        assert_eq!(roots(&empty, &PartitionOptions::default()), ["p/s/e"]);
        let nothing = snapshot([]);
        assert_eq!(roots(&nothing, &PartitionOptions::default()), [""; 0]);
        let similar = snapshot([("p/ab/x", file(1)), ("p/a/x", file(1))]);
        assert_eq!(roots(&similar, &PartitionOptions::default()), ["p"]);
    }

    #[test]
    fn without_a_common_directory_an_absolute_manifest_has_a_root_for_each_first_component() {
        let tree = snapshot([
            ("home/me/a", file(1)),
            ("home/me/b/c", file(1)),
            ("mnt/x/y", file(1)),
        ]);
        assert_eq!(roots(&tree, &absolute()), ["home/me", "mnt/x"]);
        assert_eq!(roots(&tree, &PartitionOptions::default()), ["."]);
        let with_file = snapshot([("f", file(1)), ("d/x", file(1))]);
        assert_eq!(roots(&with_file, &absolute()), ["."]);
    }

    #[test]
    fn what_lies_outside_of_the_given_roots_gets_roots_of_its_own() {
        let tree = snapshot([
            ("a/x", file(1)),
            ("b/d/x", file(1)),
            ("b/d/y", file(1)),
            ("c/x", file(1)),
        ]);
        assert_eq!(roots(&tree, &given(["c", "a"])), ["c", "a", "b/d"]);
        assert_eq!(roots(&tree, &given(["none"])), ["none", "a", "b/d", "c"]);
        let with_file = snapshot([("f", file(1)), ("a/x", file(1)), ("b/x", file(1))]);
        let error = PartitionError::Outside { path: path("f") };
        assert_eq!(with_file.partition(&given(["a"])), Err(error));
    }

    #[test]
    fn roots_that_overlap_are_refused_with_both_named() {
        let tree = snapshot([("a/x", file(1)), ("a/b/y", file(1))]);
        let overlap = |outer, inner| {
            let (outer, inner) = (path(outer), path(inner));
            Err(PartitionError::Overlap { outer, inner })
        };
        assert_eq!(tree.partition(&given(["a/b", "a"])), overlap("a", "a/b"));
        assert_eq!(tree.partition(&given(["a", "a"])), overlap("a", "a"));
        // Derived, for `a/x`.
        assert_eq!(tree.partition(&given(["a/b"])), overlap("a", "a/b"));
    }

    #[test]
    fn directories_that_are_only_referenced_count() {
        let tree = snapshot([("p/scene/render/out", file(1))]);
        let options = PartitionOptions {
            referenced: vec![path("p/scene/assets/tex.png")],
            ..PartitionOptions::default()
        };
        assert_eq!(roots(&tree, &options), ["p/scene"]);
    }

    #[test]
    fn links_between_parts_follow_the_policy() {
        let tree = snapshot([("a/l", link("b/f")), ("b/f", file(7))]);
        let parts = tree.partition(&given(["a", "b"])).unwrap();
        assert_eq!(
            parts,
            [
                (Some(path("a")), snapshot([("l", file(7))])),
                (Some(path("b")), snapshot([("f", file(7))])),
            ]
        );
        let options = PartitionOptions {
            symlinks: SymlinkPolicy::Preserve,
            ..PartitionOptions::default()
        };
        assert!(matches!(
            tree.partition(&options),
            Err(PartitionError::Subtree { root: None, .. })
        ));
    }
}
