//! A list of patterns as one machine: which components may come next, and what each name leads to.

use super::GlobError;
use super::fnmatch::{NamePattern, is_hidden, is_wild};

/// The patterns of one side, their components one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    positions: Vec<Position>,
    /// The state in the root.
    pub(super) start: Places,
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
pub(super) struct Places(Vec<u64>);

impl Places {
    fn add(&mut self, place: usize) {
        let word = place / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    fn has(&self, place: usize) -> bool {
        let word = self.0.get(place / 64).copied().unwrap_or_default();
        word >> (place % 64) & 1 == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
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
    pub(super) fn add(&mut self, root: Option<&[u8]>, pattern: &[u8]) -> Result<bool, GlobError> {
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
        let is_reached = !state.is_empty();
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

    /// Adds a position, and those behind it that `**` lets in at once. A position that is already in the
    /// set brought those with it, so a row of `**` costs one step each.
    fn reach(&self, state: &mut Places, mut place: usize) {
        if state.has(place) {
            return;
        }
        state.add(place);
        while let Position {
            component: Component::Recursive,
            is_last: false,
            ..
        } = &self.positions[place]
        {
            place += 1;
            if state.has(place) {
                return;
            }
            state.add(place);
        }
    }

    /// What may come next below a directory of this name.
    pub(super) fn enter(&self, state: &Places, name: &[u8]) -> Places {
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

    /// Whether a name with a dot may be matched from here on.
    pub(super) fn sees_hidden(&self, state: &Places) -> bool {
        state.iter().any(|place| self.positions[place].sees_hidden)
    }

    /// Whether every path without a name with a dot is matched from here on.
    pub(super) fn covers_visible(&self, state: &Places) -> bool {
        state
            .iter()
            .any(|place| self.positions[place].covers_visible)
    }

    /// Whether a pattern ends with this name.
    pub(super) fn takes(&self, state: &Places, name: &[u8], is_dir: bool) -> bool {
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
