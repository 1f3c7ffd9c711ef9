//! Which paths are meant, said with patterns.
//!
//! The dialect is the one of `deadline manifest snapshot -i/-e`: each pattern is what Python's
//! `glob.glob(pattern, recursive=True)` finds below the root, what is excluded is taken from what is
//! included (`deadline-job-attachments` 0.1.5, `_glob.py`; Python 3.11, `glob.py`):
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
//! through such a link is matched like any other; whether it exists is up to who walks.
//!
//! A pattern is a small machine whose state is the set of components that may come next. A walk
//! carries a [`FilterState`] down the tree, so a name is compared once, and a directory that no
//! pattern leads into, or everything below which is excluded, need not be read.

mod fnmatch;

use crate::EscapedBytes;
use fnmatch::{NamePattern, is_hidden, is_wild};

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
    /// What is meant.
    pub include: Vec<Vec<u8>>,
    /// What is not meant all the same.
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
    /// text; a wildcard in the root's own path is none.
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

    /// Whether anything in this directory or below may be chosen. May say yes for nothing.
    pub fn may_take_below(&self, state: &FilterState) -> bool {
        self.sides.as_ref().is_none_or(|sides| {
            let mut wanted = state.include.iter().peekable();
            if wanted.peek().is_none() {
                return false;
            }
            let covered = state
                .exclude
                .iter()
                .any(|place| sides.exclude.positions[place].covers_visible);
            !covered || wanted.any(|place| sides.include.positions[place].sees_hidden)
        })
    }
}

/// The patterns of one side, their components one after the other.
#[derive(Debug, Clone, Default)]
struct Side {
    positions: Vec<Position>,
    start: Places,
}

/// A component in its pattern.
#[derive(Debug, Clone)]
struct Position {
    component: Component,
    /// No component follows.
    is_last: bool,
    /// This one and all that follow are `**`.
    only_recursive: bool,
    /// This one or one that follows may match a name with a dot.
    sees_hidden: bool,
    /// From here on the pattern matches every path without a name with a dot.
    covers_visible: bool,
    /// The pattern matches directories alone.
    only_dirs: bool,
}

#[derive(Debug, Clone)]
enum Component {
    /// `**`
    Recursive,
    Name(NamePattern),
}

impl Component {
    fn new(text: &[u8]) -> Self {
        if text == b"**" {
            Self::Recursive
        } else {
            Self::Name(NamePattern::new(text))
        }
    }
}

/// A set of positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Places(Vec<u64>);

impl Places {
    fn add(&mut self, place: usize) {
        let word = place / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let rests =
                std::iter::successors(Some(word), |&rest| (rest != 0).then(|| rest & (rest - 1)));
            rests
                .take_while(|&rest| rest != 0)
                .map(move |rest| index * 64 + rest.trailing_zeros() as usize)
        })
    }
}

impl Side {
    /// Adds a pattern. Says whether it leads below the root at all.
    fn add(&mut self, root: Option<&[u8]>, pattern: &[u8]) -> Result<bool, GlobError> {
        let Some(resolved) = resolve(root, pattern)? else {
            return Ok(false);
        };
        let first = self.positions.len();
        // `a/` and `a/.` name the directory; so does `a/..`, another one.
        let last = pattern.rsplit(|&byte| byte == b'/').next();
        let only_dirs = matches!(last, None | Some(b"" | b"." | b".."));
        self.push(resolved.components, only_dirs);
        let mut state = Places::default();
        if self.positions.len() > first {
            self.reach(&mut state, first);
        }
        for name in resolved.root {
            state = self.enter(&state, name);
        }
        let is_reached = state.iter().next().is_some();
        state.iter().for_each(|place| self.start.add(place));
        // A pattern without a component means the root itself, which is no path.
        Ok(is_reached || self.positions.len() == first)
    }

    fn push(&mut self, components: Vec<Component>, only_dirs: bool) {
        let first = self.positions.len();
        let mut last: Option<Position> = None;
        for component in components.into_iter().rev() {
            let is_recursive = matches!(component, Component::Recursive);
            let sees_hidden = match &component {
                Component::Recursive => false,
                Component::Name(name) => name.sees_hidden(),
            };
            let ends_with_star = last.as_ref().is_some_and(|last| {
                last.is_last && matches!(&last.component, Component::Name(name) if name.is_star())
            });
            let covers = is_recursive
                && !only_dirs
                && (ends_with_star || last.as_ref().is_none_or(|last| last.covers_visible));
            let position = Position {
                is_last: last.is_none(),
                only_recursive: is_recursive
                    && last.as_ref().is_none_or(|last| last.only_recursive),
                sees_hidden: sees_hidden || last.as_ref().is_some_and(|last| last.sees_hidden),
                covers_visible: covers,
                only_dirs,
                component,
            };
            self.positions.extend(last.replace(position));
        }
        self.positions.extend(last);
        self.positions[first..].reverse();
    }

    /// Adds a position, and those behind it that `**` lets in at once.
    fn reach(&self, state: &mut Places, mut place: usize) {
        state.add(place);
        while let Position {
            component: Component::Recursive,
            is_last: false,
            ..
        } = &self.positions[place]
        {
            place += 1;
            state.add(place);
        }
    }

    fn enter(&self, state: &Places, name: &[u8]) -> Places {
        let mut inside = Places::default();
        for place in state.iter() {
            let position = &self.positions[place];
            match &position.component {
                Component::Recursive if !is_hidden(name) => self.reach(&mut inside, place),
                Component::Name(pattern) if !position.is_last && pattern.matches(name) => {
                    self.reach(&mut inside, place + 1);
                }
                Component::Recursive | Component::Name(_) => {}
            }
        }
        inside
    }

    fn takes(&self, state: &Places, name: &[u8], is_dir: bool) -> bool {
        state.iter().any(|place| {
            let position = &self.positions[place];
            if position.only_dirs && !is_dir {
                return false;
            }
            match &position.component {
                Component::Recursive => position.only_recursive && !is_hidden(name),
                // `a/**` matches the directory `a` too, and no file `a`.
                Component::Name(pattern) => {
                    let ends =
                        position.is_last || is_dir && self.positions[place + 1].only_recursive;
                    ends && pattern.matches(name)
                }
            }
        })
    }
}

/// A pattern without `.`, `..` and empty components.
struct Resolved<'a> {
    /// What the pattern matches before it is below the root.
    root: Vec<&'a [u8]>,
    components: Vec<Component>,
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
}

/// `None` if the pattern needs the root's path, which is not known.
fn resolve<'a>(
    root: Option<&'a [u8]>,
    pattern: &'a [u8],
) -> Result<Option<Resolved<'a>>, GlobError> {
    let root_parts: Vec<&[u8]> = root.map(parts).into_iter().flatten().collect();
    let is_absolute = pattern.starts_with(b"/");
    if is_absolute && root.is_none() {
        return Ok(None);
    }
    // How many of the root's parts the pattern still begins with, and its own after them.
    let mut kept = if is_absolute { 0 } else { root_parts.len() };
    let mut own: Vec<&[u8]> = Vec::new();
    for part in parts(pattern) {
        if part != b".." {
            own.push(part);
            continue;
        }
        match own.pop() {
            Some(parent) if is_wild(parent) => {
                return Err(GlobError::ParentOfWildcard(pattern.into()));
            }
            Some(_) => {}
            None if root.is_none() => return Ok(None),
            None => kept = kept.saturating_sub(1),
        }
    }
    let own = own.into_iter().map(Component::new);
    if !is_absolute && kept == root_parts.len() {
        return Ok(Some(Resolved {
            root: Vec::new(),
            components: own.collect(),
        }));
    }
    let literal = |part: &&[u8]| Component::Name(NamePattern::literal(part));
    let components = root_parts[..kept].iter().map(literal).chain(own).collect();
    Ok(Some(Resolved {
        root: root_parts,
        components,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> PathFilter {
        PathFilter::new(include, exclude).unwrap()
    }

    fn chosen<'a>(filter: &PathFilter, paths: &[&'a str]) -> Vec<&'a str> {
        let chosen = |path: &&&str| filter.matches(path.as_bytes());
        paths.iter().filter(chosen).copied().collect()
    }

    const PATHS: [&str; 8] = [
        ".hid",
        "[br]/z.txt",
        "a.txt",
        "d/.hd/x.exr",
        "d/b.exr",
        "d/e/c.tmp",
        "lnkd/b.exr",
        "lnkf",
    ];

    #[test]
    fn the_default_chooses_what_has_no_dot() {
        let config = GlobConfig::default();
        let filter = PathFilter::new(&config.include, &config.exclude).unwrap();
        let expected = [
            "[br]/z.txt",
            "a.txt",
            "d/b.exr",
            "d/e/c.tmp",
            "lnkd/b.exr",
            "lnkf",
        ];
        assert_eq!(chosen(&filter, &PATHS), expected);
        assert_eq!(chosen(&PathFilter::everything(), &PATHS), PATHS);
    }

    #[test]
    fn two_stars_stand_for_any_number_of_directories() {
        assert_eq!(
            chosen(&filter(&["**/*.txt"], &[]), &PATHS),
            ["[br]/z.txt", "a.txt"]
        );
        assert_eq!(
            chosen(&filter(&["d/**"], &[]), &PATHS),
            ["d/b.exr", "d/e/c.tmp"]
        );
        assert_eq!(chosen(&filter(&["d/*"], &[]), &PATHS), ["d/b.exr"]);
        assert_eq!(chosen(&filter(&["**/.hd/*"], &[]), &PATHS), ["d/.hd/x.exr"]);
        assert_eq!(chosen(&filter(&["a.txt/**"], &[]), &PATHS), [""; 0]);
        assert_eq!(chosen(&filter(&["a**"], &[]), &PATHS), ["a.txt"]);
        assert_eq!(
            chosen(&filter(&["d/**/**/e/**/c.tmp"], &[]), &PATHS),
            ["d/e/c.tmp"]
        );
    }

    #[test]
    fn what_is_excluded_is_taken_from_what_is_included() {
        let filter = filter(&["**/*"], &["d/**", "**/*.txt"]);
        assert_eq!(chosen(&filter, &PATHS), ["lnkd/b.exr", "lnkf"]);
    }

    #[test]
    fn dots_and_repeated_slashes_in_a_pattern_mean_nothing() {
        assert_eq!(
            chosen(&filter(&[".//d/./x/../b.exr"], &[]), &PATHS),
            ["d/b.exr"]
        );
    }

    #[test]
    fn a_slash_at_the_end_means_a_directory() {
        let filter = filter(&["d/", "lnkf/."], &[]);
        assert_eq!(chosen(&filter, &PATHS), [""; 0]);
        assert!(filter.matches_dir(b"d"));
        assert!(!filter.matches_dir(b"e"));
    }

    #[test]
    fn a_directory_is_chosen_by_a_pattern_that_ends_in_two_stars() {
        assert!(filter(&["d/**"], &[]).matches_dir(b"d"));
        assert!(filter(&["d/**"], &[]).matches_dir(b"d/e"));
        assert!(!filter(&["**/*"], &["d/**"]).matches_dir(b"d"));
        assert!(filter(&["**/*"], &["d/**/*"]).matches_dir(b"d"));
    }

    #[test]
    fn a_directory_that_nothing_leads_into_need_not_be_read() {
        let only = filter(&["d/*.exr"], &[]);
        assert!(only.may_match_below(b"d"));
        assert!(!only.may_match_below(b"e"));
        assert!(!only.may_match_below(b"d/e"));
        let without = filter(&["**/*"], &["**/node_modules/**", "cache/**/*"]);
        assert!(!without.may_match_below(b"a/node_modules"));
        assert!(!without.may_match_below(b"cache/x"));
        assert!(!without.may_match_below(b".git"));
        assert!(without.may_match_below(b"a"));
    }

    #[test]
    fn an_excluded_directory_is_read_if_hidden_names_in_it_are_included() {
        let filter = filter(&["**/*", "**/.keep"], &["d/**"]);
        assert!(filter.may_match_below(b"d"));
        assert!(filter.matches(b"d/.keep"));
        assert!(!filter.matches(b"d/x"));
    }

    #[test]
    fn a_pattern_may_name_the_root_if_it_is_known() {
        for pattern in [
            "../snap/a.txt",
            "/tmp/jav/snap/a.txt",
            "/tmp/*/snap/a.*",
            "../../../tmp/**/a.txt",
        ] {
            let filter = PathFilter::for_root(b"/tmp/jav/snap", &[pattern], &[]).unwrap();
            assert_eq!(chosen(&filter, &PATHS), ["a.txt"], "{pattern}");
        }
        let odd = PathFilter::for_root(b"/tmp/[x]", &["*.txt", "../[[]x]/lnkf"], &[]).unwrap();
        assert_eq!(chosen(&odd, &PATHS), ["a.txt", "lnkf"]);
    }

    #[test]
    fn a_pattern_that_leads_out_is_refused_and_excludes_nothing() {
        for pattern in ["../x", "/x", "d/../../x"] {
            let error = PathFilter::new(&[pattern], &[]).unwrap_err();
            assert_eq!(error, GlobError::LeadsOut(pattern.as_bytes().into()));
            assert!(error.to_string().contains(pattern));
            let filter = filter(&["a.txt"], &[pattern]);
            assert_eq!(chosen(&filter, &PATHS), ["a.txt"]);
        }
        let error = PathFilter::for_root(b"/r", &["../other/x"], &[]).unwrap_err();
        assert!(matches!(error, GlobError::LeadsOut(_)));
        let error = PathFilter::new(&["*/../x"], &[]).unwrap_err();
        assert!(matches!(error, GlobError::ParentOfWildcard(_)));
    }

    #[test]
    fn many_patterns_need_more_than_one_word() {
        let patterns: Vec<String> = (0..100).map(|n| format!("d{n}/**/x")).collect();
        let filter = PathFilter::new(&patterns, &[]).unwrap();
        assert!(filter.matches(b"d99/a/x"));
        assert!(!filter.matches(b"d100/a/x"));
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "ab", ".h", ".a"]).prop_map(str::to_owned)
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let parts = ["a", "*", "**", ".*", "?", "[!a]", "a*", ".h"];
        prop::collection::vec(prop::sample::select(parts.to_vec()), 1..4)
            .prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #[test]
        fn nothing_is_chosen_below_a_directory_that_need_not_be_read(
            include in prop::collection::vec(any_pattern(), 0..3),
            exclude in prop::collection::vec(any_pattern(), 0..3),
            path in prop::collection::vec(any_name(), 1..5),
        ) {
            let filter = PathFilter::new(&include, &exclude).unwrap();
            let whole = path.join("/");
            if filter.matches(whole.as_bytes()) || filter.matches_dir(whole.as_bytes()) {
                for depth in 1..path.len() {
                    prop_assert!(filter.may_match_below(path[..depth].join("/").as_bytes()));
                }
            }
        }

        #[test]
        fn any_bytes_are_a_pattern(pattern: Vec<u8>, path: Vec<u8>) {
            if let Ok(filter) = PathFilter::for_root(b"/r", &[pattern], &[]) {
                filter.matches(&path);
                filter.may_match_below(&path);
            }
        }
    }
}
