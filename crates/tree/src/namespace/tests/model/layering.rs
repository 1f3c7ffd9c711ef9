//! What the model says of a base that becomes another one.

use super::*;

/// What a base shows at each path.
pub(super) fn paths(base: &LayeredBase) -> BTreeMap<ManifestPath, Ino> {
    let mut paths = BTreeMap::new();
    let mut open = vec![Ino::ROOT];
    while let Some(dir) = open.pop() {
        for child in base.children(dir) {
            paths.insert(base.path(child).unwrap(), child);
            open.push(child);
        }
    }
    paths
}

impl Model {
    /// The names of directories that mean something else than before.
    pub(super) fn flipped(&self, before: &Self) -> Vec<(Ino, Name)> {
        let mut flipped = Vec::new();
        for (&dir, entry) in &before.entries {
            let (Thing::Dir(was), Some(is)) = (&entry.thing, self.dir(dir)) else {
                continue;
            };
            let names: BTreeSet<_> = was.keys().chain(is.keys()).collect();
            let differing = names
                .into_iter()
                .filter(|name| was.get(*name) != is.get(*name));
            flipped.extend(differing.map(|name| (dir, name.clone())));
        }
        flipped
    }

    /// Whether the job changed something, or something in it.
    fn is_kept(&self, ino: Ino) -> bool {
        let Some(Entry {
            thing, attributes, ..
        }) = self.entries.get(&ino)
        else {
            return false;
        };
        attributes.ctime.is_some()
            || match thing {
                Thing::Dir(children) => children.values().any(|&child| self.is_kept(child)),
                Thing::Base(_) | Thing::Symlink(_) => false,
                Thing::Scratch | Thing::Mapped(..) | Thing::Special(_) => true,
            }
    }

    /// The base is now another one.
    pub(super) fn lay(&mut self, base: &LayeredBase) {
        let now = paths(base);
        let all: BTreeSet<_> = self.base.keys().chain(now.keys()).cloned().collect();
        let mut hidden = BTreeSet::new();
        let mut changes = Vec::new();
        for path in all {
            if path.ancestors().any(|dir| hidden.contains(&dir)) {
                continue;
            }
            let (was, is) = (self.base.get(&path).copied(), now.get(&path).copied());
            if was == is {
                continue;
            }
            let parent = match path.parent() {
                None => Some(Ino::ROOT),
                Some(parent) => self.base.get(&parent).copied(),
            };
            // What is in a new directory comes with it, and what was in one that goes stays in it.
            hidden.insert(path.clone());
            if let Some(parent) = parent {
                changes.push((parent, path.name(), was, is));
            }
        }
        let kept: Vec<bool> = changes
            .iter()
            .map(|(_, _, was, _)| was.is_some_and(|was| self.is_kept(was)))
            .collect();
        for ((parent, name, was, is), kept) in changes.into_iter().zip(kept) {
            if parent != Ino::ROOT && self.names(parent).is_empty() {
                continue;
            }
            let Some(Entry {
                thing: Thing::Dir(children),
                ..
            }) = self.entries.get_mut(&parent)
            else {
                continue;
            };
            if children.get(&name).copied() != was || kept {
                continue;
            }
            match is {
                Some(is) => {
                    children.insert(name, is);
                    self.add(base, is);
                }
                None => {
                    children.remove(&name);
                }
            }
        }
        self.base = now;
    }
}
