//! Patterns that choose paths.
//!
//! The dialect is the one of `deadline manifest snapshot -i/-e`: each pattern is what Python's
//! `glob.glob(pattern, recursive=True)` finds below the root, and excluded paths are taken out of
//! the included ones (`deadline-job-attachments` 0.1.5, `_glob.py`; Python 3.11, `glob.py`):
//!
//! ```text
//! *  ?  [a-z]  [!a-z]   within one name, as fnmatch reads them
//! **                    as a whole component: any number of directories, none too; at the end of a
//!                       pattern every file and directory at any depth below
//! .name                 names that begin with a dot are found only by a component that does
//! name/                 only directories
//! ```
//!
//! Nothing here touches a file system. Python follows links to directories while it looks, so a path
//! through such a link is matched like any other; whether it exists is for the walk to find out.
//!
//! A list of patterns is a small machine whose state is the set of components that may come next. A
//! walk carries a [`FilterState`] down the tree, so a name is compared once, and a directory that
//! no pattern leads into, or everything below which is excluded, need not be read.

mod download;
mod fnmatch;
mod machine;
#[cfg(test)]
mod tests;

use crate::EscapedBytes;
pub use download::DownloadFilter;
use machine::{Places, Side};

/// Why patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// A pattern of included paths that names nothing below the root.
    #[error("the pattern \"{}\" leads out of the folder", EscapedBytes(.0))]
    LeadsOut(Box<[u8]>),
    /// `..` after a wildcard: what it means would depend on what is there.
    #[error("the pattern \"{}\" has \"..\" after a wildcard", EscapedBytes(.0))]
    ParentOfWildcard(Box<[u8]>),
}

/// Lists of patterns, as a user or a configuration gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobConfig {
    /// Patterns of the paths to choose.
    pub include: Vec<Vec<u8>>,
    /// Patterns of the paths to take out of those.
    pub exclude: Vec<Vec<u8>>,
}

impl Default for GlobConfig {
    /// Everything whose path has no name with a dot at its beginning (`**/*`).
    fn default() -> Self {
        Self {
            include: vec![b"**/*".to_vec()],
            exclude: Vec::new(),
        }
    }
}

/// A choice of paths.
#[derive(Debug, Clone, Default)]
pub struct PathFilter {
    /// `None` chooses everything.
    sides: Option<Sides>,
}

#[derive(Debug, Clone)]
struct Sides {
    include: Side,
    exclude: Side,
}

/// Where a walk through a [`PathFilter`] is: in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterState {
    include: Places,
    exclude: Places,
}

impl PathFilter {
    /// Chooses every path, names with a dot too.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Chooses what one of `include` matches and none of `exclude`. Patterns are relative; one that
    /// is absolute or goes above the root is refused if it is included, and excludes nothing.
    pub fn new<P: AsRef<[u8]>>(include: &[P], exclude: &[P]) -> Result<Self, GlobError> {
        Self::build(None, include, exclude)
    }

    /// [`PathFilter::new`] for a root whose absolute path is known, so that patterns may name it:
    /// `/data/scene/*.exr` and `../scene/*.exr` lead below the root `/data/scene`. `..` is resolved as
    /// text; in the root's own path `*`, `?` and `[` are ordinary characters.
    pub fn for_root<P: AsRef<[u8]>>(
        root: &[u8],
        include: &[P],
        exclude: &[P],
    ) -> Result<Self, GlobError> {
        Self::build(Some(root), include, exclude)
    }

    fn build<P: AsRef<[u8]>>(
        root: Option<&[u8]>,
        include: &[P],
        exclude: &[P],
    ) -> Result<Self, GlobError> {
        let mut sides = Sides {
            include: Side::default(),
            exclude: Side::default(),
        };
        for pattern in include.iter().map(AsRef::as_ref) {
            if !sides.include.add(root, pattern)? {
                return Err(GlobError::LeadsOut(pattern.into()));
            }
        }
        for pattern in exclude.iter().map(AsRef::as_ref) {
            sides.exclude.add(root, pattern)?;
        }
        Ok(Self { sides: Some(sides) })
    }

    /// Whether this chooses every path.
    pub fn is_everything(&self) -> bool {
        self.sides.is_none()
    }

    /// Whether the file or link at `path` (components separated by `/`, from the root) is chosen.
    pub fn matches(&self, path: &[u8]) -> bool {
        let (state, name) = self.above(path);
        self.takes_file(&state, name)
    }

    /// Whether the directory at `path` is chosen for itself. What lies below it is another question.
    pub fn matches_dir(&self, path: &[u8]) -> bool {
        let (state, name) = self.above(path);
        self.takes_dir(&state, name)
    }

    /// Whether anything below the directory at `path` may be chosen. If not, it need not be read.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        let (state, name) = self.above(path);
        self.may_take_below(&self.enter(&state, name))
    }

    fn above<'a>(&self, path: &'a [u8]) -> (FilterState, &'a [u8]) {
        let mut state = self.start();
        let mut rest = path;
        while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
            state = self.enter(&state, &rest[..slash]);
            rest = &rest[slash + 1..];
        }
        (state, rest)
    }

    /// The state in the root.
    pub fn start(&self) -> FilterState {
        let start = |side: fn(&Sides) -> &Side| {
            self.sides
                .as_ref()
                .map_or_else(Places::default, |sides| side(sides).start.clone())
        };
        FilterState {
            include: start(|sides| &sides.include),
            exclude: start(|sides| &sides.exclude),
        }
    }

    /// The state in the directory `name` of the directory that `state` stands for.
    #[must_use]
    pub fn enter(&self, state: &FilterState, name: &[u8]) -> FilterState {
        match &self.sides {
            None => state.clone(),
            Some(sides) => FilterState {
                include: sides.include.enter(&state.include, name),
                exclude: sides.exclude.enter(&state.exclude, name),
            },
        }
    }

    /// Whether the file or link `name` in this directory is chosen.
    pub fn takes_file(&self, state: &FilterState, name: &[u8]) -> bool {
        self.takes(state, name, false)
    }

    /// Whether the directory `name` in this directory is chosen for itself.
    pub fn takes_dir(&self, state: &FilterState, name: &[u8]) -> bool {
        self.takes(state, name, true)
    }

    fn takes(&self, state: &FilterState, name: &[u8], is_dir: bool) -> bool {
        self.sides.as_ref().is_none_or(|sides| {
            sides.include.takes(&state.include, name, is_dir)
                && !sides.exclude.takes(&state.exclude, name, is_dir)
        })
    }

    /// Whether anything in this directory or below may be chosen. A yes may turn out wrong, a no
    /// never does.
    pub fn may_take_below(&self, state: &FilterState) -> bool {
        self.sides.as_ref().is_none_or(|sides| {
            let wants_hidden = sides.include.sees_hidden(&state.include);
            let all_visible_excluded = sides.exclude.covers_visible(&state.exclude);
            !state.include.is_empty() && (wants_hidden || !all_visible_excluded)
        })
    }
}
