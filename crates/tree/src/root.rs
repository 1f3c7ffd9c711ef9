//! Which directory is shown of a manifest that has the paths of a whole machine.
//!
//! An absolute manifest holds its paths from `/`, or from drives. One directory of it becomes the root
//! of what is shown: everything in the manifest lies there, and its paths lose what leads to it.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    Change, Diff, LinkTarget, ManifestPath, Node, PathError, PathRef, Snapshot, SnapshotBuilder,
    is_drive,
};
use serde::{Deserialize, Serialize};

/// A directory in an absolute manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Root {
    /// Everything: `/`, or all drives.
    Machine,
    /// A directory below, `/proj` or `C:/proj`, as such a manifest holds it: without the first slash.
    Directory(ManifestPath),
}

/// Why a directory cannot be the root of what is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// No directory was given.
    #[error(
        "the manifest has absolute paths; say which directory is the root of what is shown, with `--root {}`", quoted(.0)
    )]
    Missing(Root),
    /// Paths are relative already.
    #[error("`--root` is for manifests of absolute paths, and this one has relative ones")]
    Relative,
    /// The manifest has no such directory.
    #[error("there is no directory {0} in the manifest")]
    NoDirectory(Root),
    /// Some of the manifest would not be seen.
    #[error(
        "{count} entries of the manifest lie outside of {root}, the first is {first}; \
         `attachfs manifest subtree` makes a manifest without them"
    )]
    Outside {
        /// The directory.
        root: Root,
        /// How many entries.
        count: u64,
        /// One of them.
        first: Root,
    },
    /// A link would point nowhere.
    #[error(
        "the link {link} points to {target}, outside of {root}; `attachfs manifest subtree` makes a \
         manifest without such links"
    )]
    Link {
        /// The directory.
        root: Root,
        /// The link.
        link: Root,
        /// What it points to.
        target: Root,
    },
}

/// The text is no absolute directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no absolute directory, such as /proj or C:/proj")]
pub struct ParseRootError {
    text: String,
    #[source]
    source: Option<PathError>,
}

impl FromStr for Root {
    type Err = ParseRootError;

    fn from_str(text: &str) -> Result<Self, ParseRootError> {
        let wrong = |source| ParseRootError {
            text: text.to_owned(),
            source,
        };
        let path = match text.strip_prefix('/') {
            Some(path) => path,
            None if text
                .split('/')
                .next()
                .is_some_and(|first| is_drive(first.as_bytes())) =>
            {
                text
            }
            None => return Err(wrong(None)),
        };
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Ok(Self::Machine);
        }
        let path = ManifestPath::new(path.as_bytes());
        path.map(Self::Directory)
            .map_err(|error| wrong(Some(error)))
    }
}

impl TryFrom<String> for Root {
    type Error = ParseRootError;

    fn try_from(text: String) -> Result<Self, ParseRootError> {
        text.parse()
    }
}

impl From<Root> for String {
    /// A text that [`Root::from_str`] reads as the same directory. [`Display`](fmt::Display) is for
    /// people: it escapes control characters.
    fn from(root: Root) -> Self {
        let Root::Directory(path) = &root else {
            return root.to_string();
        };
        let text = Self::from_utf8_lossy(path.as_bytes());
        if path.components().next().is_some_and(is_drive) {
            text.into_owned()
        } else {
            format!("/{text}")
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("/"),
            Self::Directory(path) if path.components().next().is_some_and(is_drive) => path.fmt(f),
            Self::Directory(path) => write!(f, "/{path}"),
        }
    }
}

/// Quoted for a shell.
fn quoted(root: &Root) -> String {
    let text = root.to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Where a path lies.
enum Side<'a> {
    /// The directory itself, or above it.
    Above,
    Below(PathRef<'a>),
    Outside,
}

impl Root {
    /// What is shown of an absolute manifest: all of it, with this directory as its root.
    pub fn show(&self, manifest: Manifest) -> Result<Manifest, RootError> {
        let Self::Directory(directory) = self else {
            return Ok(manifest);
        };
        Ok(match manifest {
            Manifest::Snapshot(snapshot) => {
                Manifest::Snapshot(self.show_snapshot(directory, &snapshot)?)
            }
            Manifest::Diff(diff) => Manifest::Diff(self.show_diff(directory, &diff)?),
        })
    }

    fn show_snapshot(
        &self,
        directory: &ManifestPath,
        snapshot: &Snapshot,
    ) -> Result<Snapshot, RootError> {
        if snapshot.get(directory) != Some(Node::Dir) {
            return Err(RootError::NoDirectory(self.clone()));
        }
        let mut outside = Outside::default();
        let mut shown = SnapshotBuilder::with_capacity(snapshot.len());
        for (path, node) in snapshot.entries() {
            match side(path, directory) {
                Side::Above => {}
                Side::Outside => outside.count(path),
                Side::Below(rest) => {
                    let pushed = shown.push(rest, self.show_node(directory, path, node)?);
                    pushed.expect("it was in a snapshot with a longer path");
                }
            }
        }
        outside.check(self)?;
        let shown = shown.finish(snapshot.chunk_size(), None);
        Ok(shown.expect("it is a part of a snapshot"))
    }

    fn show_diff(&self, directory: &ManifestPath, diff: &Diff) -> Result<Diff, RootError> {
        let mut outside = Outside::default();
        let mut shown = Vec::with_capacity(diff.len());
        for (path, change) in diff.changes() {
            match side(path, directory) {
                Side::Above if change == Change::Put(Node::Dir) => {}
                Side::Above | Side::Outside => outside.count(path),
                Side::Below(rest) => {
                    let change = match change {
                        Change::Put(node) => Change::Put(self.show_node(directory, path, node)?),
                        change => change,
                    };
                    shown.push((rest.to_owned(), change));
                }
            }
        }
        outside.check(self)?;
        let shown = Diff::new(diff.chunk_size(), diff.parent(), shown);
        Ok(shown.expect("it is a part of a diff"))
    }

    fn show_node(
        &self,
        directory: &ManifestPath,
        path: PathRef<'_>,
        node: Node,
    ) -> Result<Node, RootError> {
        let Node::Symlink(target) = node else {
            return Ok(node);
        };
        let shown = match &target {
            LinkTarget::Below(target) if target == directory => Some(LinkTarget::Root),
            LinkTarget::Below(target) => {
                let rest = target.borrowed().within(directory.borrowed());
                rest.map(|rest| LinkTarget::Below(rest.to_owned()))
            }
            LinkTarget::Root => None,
        };
        shown.map(Node::Symlink).ok_or_else(|| RootError::Link {
            root: self.clone(),
            link: Self::Directory(path.to_owned()),
            target: match target {
                LinkTarget::Root => Self::Machine,
                LinkTarget::Below(target) => Self::Directory(target),
            },
        })
    }

    /// The deepest directory that holds all files, all links with what they point to, and all empty
    /// directories of absolute manifests.
    pub fn common<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Self {
        let mut common: Option<Option<ManifestPath>> = None;
        let mut meet = |directory: Option<PathRef<'_>>| {
            common = Some(match &common {
                None => directory.map(PathRef::to_owned),
                Some(common) => common
                    .as_ref()
                    .zip(directory)
                    .and_then(|(common, directory)| {
                        let with_itself =
                            |path: PathRef<'_>| path == *common || common.borrowed().is_below(path);
                        let mut all = std::iter::once(directory).chain(directory.ancestors());
                        all.find(|path| with_itself(*path)).map(PathRef::to_owned)
                    }),
            });
        };
        for manifest in manifests {
            let entries: Vec<(PathRef<'_>, Option<Node>)> = match manifest {
                Manifest::Snapshot(snapshot) => snapshot
                    .entries()
                    .map(|(path, node)| (path, Some(node)))
                    .collect(),
                Manifest::Diff(diff) => {
                    let node = |change| match change {
                        Change::Put(node) => Some(node),
                        Change::DeleteDir | Change::DeleteFile => None,
                    };
                    diff.changes()
                        .map(|(path, change)| (path, node(change)))
                        .collect()
                }
            };
            let parents: HashSet<_> = entries
                .iter()
                .filter_map(|(path, _)| path.parent())
                .collect();
            for (path, node) in entries {
                match node {
                    Some(Node::Dir) if parents.contains(&path) => {}
                    Some(Node::Dir) => meet(Some(path)),
                    Some(Node::Symlink(LinkTarget::Root)) => meet(None),
                    Some(Node::Symlink(LinkTarget::Below(target))) => {
                        meet(path.parent());
                        meet(Some(target.borrowed()));
                    }
                    Some(Node::File(_)) | None => meet(path.parent()),
                }
            }
        }
        common.flatten().map_or(Self::Machine, Self::Directory)
    }
}

fn side<'a>(path: PathRef<'a>, directory: &ManifestPath) -> Side<'a> {
    match path.within(directory.borrowed()) {
        Some(rest) => Side::Below(rest),
        None if path == *directory || directory.borrowed().is_below(path) => Side::Above,
        None => Side::Outside,
    }
}

/// What lies outside.
#[derive(Default)]
struct Outside {
    count: u64,
    first: Option<ManifestPath>,
}

impl Outside {
    fn count(&mut self, path: PathRef<'_>) {
        self.count += 1;
        self.first.get_or_insert_with(|| path.to_owned());
    }

    fn check(self, root: &Root) -> Result<(), RootError> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(RootError::Outside {
                root: root.clone(),
                count: self.count,
                first: Root::Directory(first),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CHUNK, file, link, path, snapshot};

    fn root(text: &str) -> Root {
        text.parse().unwrap()
    }

    fn shown(text: &str, whole: Snapshot) -> Result<Manifest, RootError> {
        root(text).show(Manifest::Snapshot(whole))
    }

    #[test]
    fn a_root_is_an_absolute_directory() {
        for (text, shown) in [
            ("/", "/"),
            ("//", "/"),
            ("/a/b/", "/a/b"),
            ("C:", "C:"),
            ("C:/a b/", "C:/a b"),
        ] {
            assert_eq!(root(text).to_string(), shown);
            assert_eq!(root(shown), root(text));
        }
        for text in ["", "a", "a/b", ".", "/a/../b", "/a//b", "CD:/a", "\\a"] {
            text.parse::<Root>().unwrap_err();
        }
    }

    #[test]
    fn a_root_that_is_written_down_is_read_as_the_same_directory() {
        for text in [
            "/",
            "/a",
            "C:/a",
            "/back\\slash",
            "/e\u{1b}[m",
            "/\u{202e}x",
            "C:/\u{e9}\n",
        ] {
            let written = String::from(root(text));
            assert_eq!(written, text);
            assert_eq!(root(&written), root(text));
        }
    }

    #[test]
    fn paths_and_links_are_shown_as_they_lie_below_the_root() {
        let whole = snapshot([
            ("C:/p/d/f", file(1)),
            ("C:/p/all", link("C:/p")),
            ("C:/p/d-e", link("C:/p/d/f")),
        ]);
        let expected = snapshot([
            ("all", Node::Symlink(LinkTarget::Root)),
            ("d-e", link("d/f")),
            ("d/f", file(1)),
        ]);
        assert_eq!(shown("C:/p", whole), Ok(Manifest::Snapshot(expected)));
    }

    #[test]
    fn a_diff_is_shown_without_the_directories_that_lead_to_it() {
        let changes = [
            (path("p"), Change::Put(Node::Dir)),
            (path("p/x"), Change::DeleteDir),
            (path("p/y/f"), Change::Put(file(1))),
        ];
        let diff = Diff::new(CHUNK, None, changes).unwrap();
        let expected = [
            (path("x"), Change::DeleteDir),
            (path("y/f"), Change::Put(file(1))),
        ];
        let expected = Diff::new(CHUNK, None, expected).unwrap();
        let made = root("/p").show(Manifest::Diff(diff.clone()));
        assert_eq!(made, Ok(Manifest::Diff(expected)));
        let error = root("/p/x").show(Manifest::Diff(diff)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 entries of the manifest lie outside of /p/x, the first is /p/x; `attachfs manifest \
             subtree` makes a manifest without them"
        );
    }

    #[test]
    fn a_root_that_would_hide_entries_is_refused() {
        let whole = || snapshot([("p/f", file(1)), ("p/l", link("q")), ("q/a", file(1))]);
        let error = shown("/q", whole()).unwrap_err();
        let (root, first) = (root("/q"), root("/p"));
        assert_eq!(
            error,
            RootError::Outside {
                root: root.clone(),
                count: 3,
                first
            }
        );
        assert!(matches!(
            shown("/p", whole()),
            Err(RootError::Link { link, target, .. })
                if (link.to_string(), target.to_string()) == ("/p/l".into(), "/q".into())
        ));
        for text in ["/p/f", "/x"] {
            assert!(matches!(
                shown(text, whole()),
                Err(RootError::NoDirectory(_))
            ));
        }
        assert_eq!(shown("/", whole()), Ok(Manifest::Snapshot(whole())));
    }

    #[test]
    fn the_common_directory_holds_everything_and_can_be_shown() {
        for (whole, common) in [
            (snapshot([]), "/"),
            (snapshot([("a/b", Node::Dir)]), "/a/b"),
            (snapshot([("a/b/f", file(1))]), "/a/b"),
            (snapshot([("a/b/f", file(1)), ("a/bc/f", file(1))]), "/a"),
            (snapshot([("a/b/f", file(1)), ("a/c", Node::Dir)]), "/a"),
            (snapshot([("a/b/l", link("a/x/y"))]), "/a"),
            (snapshot([("a/b/l", link("a/b"))]), "/a/b"),
            (snapshot([("a/f", file(1)), ("b/f", file(1))]), "/"),
            (snapshot([("C:/a/f", file(1))]), "C:/a"),
        ] {
            let found = Root::common([&Manifest::Snapshot(whole.clone())]);
            assert_eq!(found.to_string(), common);
            // A link's target may be a directory that no manifest lists.
            found.show(Manifest::Snapshot(whole)).unwrap();
        }
        assert_eq!(quoted(&root("/it's/a b")), "'/it'\\''s/a b'");
    }
}
