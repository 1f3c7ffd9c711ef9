//! Random mutations against a naive model: maps of whole directories, bytes one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::testing::{NAMES, any_snapshot, name, time, tree};
use crate::{AttributeChange, DiffLayer, Mapping, Mutation, Source, Timestamp};

/// Where one byte of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Byte {
    Base,
    Zero,
    Scratch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Dir(BTreeMap<Name, Ino>),
    Base(u64),
    Scratch,
    Mapped(Ino, Vec<Byte>),
    Symlink(Vec<u8>),
}

#[derive(Debug, Clone)]
struct Entry {
    thing: Thing,
    attributes: Attributes,
}

/// Everything that exists, without any sharing with a base.
#[derive(Debug, Clone)]
struct Model {
    entries: BTreeMap<Ino, Entry>,
    /// What the base has at each path.
    base: BTreeMap<ManifestPath, Ino>,
    next: u64,
}

impl Model {
    fn new(base: &LayeredBase) -> Self {
        let mut model = Self {
            entries: BTreeMap::new(),
            base: BTreeMap::new(),
            next: 0,
        };
        model.add(base, Ino::ROOT);
        model.base = paths(base);
        model
    }

    fn add(&mut self, base: &LayeredBase, ino: Ino) {
        let mut attributes = Attributes::default();
        let thing = match base.kind(ino).unwrap() {
            BaseKind::Dir => {
                let children = base.children(ino).map(|child| {
                    self.add(base, child);
                    (Name::new(base.name(child).unwrap()).unwrap(), child)
                });
                Thing::Dir(children.collect())
            }
            BaseKind::File {
                size,
                mtime,
                runnable,
            } => {
                attributes.mtime = Some(mtime.into());
                attributes.runnable = runnable;
                Thing::Base(size)
            }
            BaseKind::Symlink(target) => {
                Thing::Symlink(target.relative_to(&base.path(ino).unwrap()))
            }
        };
        self.entries.insert(ino, Entry { thing, attributes });
    }

    fn dir(&self, ino: Ino) -> Option<&BTreeMap<Name, Ino>> {
        match &self.entries.get(&ino)?.thing {
            Thing::Dir(children) => Some(children),
            _ => None,
        }
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.dir(ino).is_some()
    }

    fn names(&self, ino: Ino) -> BTreeSet<(Ino, Name)> {
        let mut names = BTreeSet::new();
        for (&dir, entry) in &self.entries {
            if let Thing::Dir(children) = &entry.thing {
                for (name, _) in children.iter().filter(|(_, child)| **child == ino) {
                    names.insert((dir, name.clone()));
                }
            }
        }
        names
    }

    /// A directory that things can be put in: names lead there.
    fn usable(&self, dir: Ino) -> Option<&BTreeMap<Name, Ino>> {
        let children = self.dir(dir)?;
        self.is_within(dir, Ino::ROOT).then_some(children)
    }

    fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        dir == ancestor
            || self
                .names(dir)
                .iter()
                .any(|&(parent, _)| self.is_within(parent, ancestor))
    }

    fn is_free(&self, parent: Ino, name: &Name) -> bool {
        self.usable(parent)
            .is_some_and(|children| !children.contains_key(name))
    }

    fn is_new(&self, ino: Ino) -> bool {
        ino.overlay_counter()
            .is_some_and(|counter| counter >= self.next)
    }

    fn allows(&self, mutation: &Mutation) -> bool {
        let child = |parent: &Ino, name: &Name| self.usable(*parent)?.get(name).copied();
        match mutation {
            Mutation::CreateFile {
                parent, name, ino, ..
            }
            | Mutation::CreateDir {
                parent, name, ino, ..
            }
            | Mutation::CreateSymlink {
                parent, name, ino, ..
            } => self.is_free(*parent, name) && self.is_new(*ino),
            Mutation::Link {
                ino, parent, name, ..
            } => self.is_free(*parent, name) && !self.is_dir(*ino) && !self.names(*ino).is_empty(),
            Mutation::Unlink { parent, name, .. } => {
                child(parent, name).is_some_and(|ino| !self.is_dir(ino))
            }
            Mutation::RemoveDir { parent, name, .. } => child(parent, name)
                .and_then(|ino| self.dir(ino))
                .is_some_and(BTreeMap::is_empty),
            Mutation::Rename {
                from_parent,
                from_name,
                to_parent,
                to_name,
                ..
            } => {
                let Some(ino) = child(from_parent, from_name) else {
                    return false;
                };
                let Some(there) = self.usable(*to_parent) else {
                    return false;
                };
                if self.is_dir(ino) && self.is_within(*to_parent, ino) {
                    return false;
                }
                match there.get(to_name) {
                    None => true,
                    Some(&target) if target == ino => true,
                    Some(&target) => match self.dir(target) {
                        Some(children) => self.is_dir(ino) && children.is_empty(),
                        None => !self.is_dir(ino),
                    },
                }
            }
            Mutation::SetAttributes { ino, .. } => self.entries.contains_key(ino),
            Mutation::CopyUp { ino, .. } => {
                let is_base = |entry: &Entry| matches!(entry.thing, Thing::Base(_));
                self.entries.get(ino).is_some_and(is_base)
            }
            Mutation::Write { ino, .. } | Mutation::Resize { ino, .. } => self
                .entries
                .get(ino)
                .is_some_and(|entry| matches!(entry.thing, Thing::Mapped(..))),
        }
    }

    fn children(&mut self, dir: Ino, time: Timestamp) -> &mut BTreeMap<Name, Ino> {
        let entry = self.entries.get_mut(&dir).unwrap();
        entry.attributes.mtime = Some(time);
        entry.attributes.ctime = Some(time);
        match &mut entry.thing {
            Thing::Dir(children) => children,
            other => panic!("{other:?}"),
        }
    }

    fn create(
        &mut self,
        (parent, name): (Ino, &Name),
        ino: Ino,
        thing: Thing,
        attributes: Attributes,
        time: Timestamp,
    ) {
        self.children(parent, time).insert(name.clone(), ino);
        let attributes = Attributes {
            mtime: Some(time),
            ctime: Some(time),
            ..attributes
        };
        self.entries.insert(ino, Entry { thing, attributes });
        self.next = ino.overlay_counter().unwrap() + 1;
    }

    fn touch(&mut self, ino: Ino, time: Timestamp) {
        self.entries.get_mut(&ino).unwrap().attributes.ctime = Some(time);
    }

    /// Takes a name away; says whose last one it was.
    fn remove(&mut self, parent: Ino, name: &Name, time: Timestamp) -> Option<Ino> {
        let ino = self.children(parent, time).remove(name).unwrap();
        self.touch(ino, time);
        self.names(ino).is_empty().then_some(ino)
    }

    fn bytes(&mut self, ino: Ino, time: Timestamp) -> &mut Vec<Byte> {
        let entry = self.entries.get_mut(&ino).unwrap();
        entry.attributes.mtime = Some(time);
        entry.attributes.ctime = Some(time);
        match &mut entry.thing {
            Thing::Mapped(_, bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// Applies a mutation that is allowed.
    fn apply(&mut self, mutation: &Mutation) -> Option<Ino> {
        match mutation.clone() {
            Mutation::CreateFile {
                parent,
                name,
                ino,
                attributes,
                time,
            } => self.create((parent, &name), ino, Thing::Scratch, attributes, time),
            Mutation::CreateDir {
                parent,
                name,
                ino,
                attributes,
                time,
            } => {
                let thing = Thing::Dir(BTreeMap::new());
                self.create((parent, &name), ino, thing, attributes, time);
            }
            Mutation::CreateSymlink {
                parent,
                name,
                ino,
                text,
                attributes,
                time,
            } => {
                let thing = Thing::Symlink(text.into());
                self.create((parent, &name), ino, thing, attributes, time);
            }
            Mutation::Link {
                ino,
                parent,
                name,
                time,
            } => {
                self.children(parent, time).insert(name, ino);
                self.touch(ino, time);
            }
            Mutation::Unlink { parent, name, time }
            | Mutation::RemoveDir { parent, name, time } => {
                return self.remove(parent, &name, time);
            }
            Mutation::Rename {
                from_parent,
                from_name,
                to_parent,
                to_name,
                time,
            } => {
                let ino = self.dir(from_parent).unwrap()[&from_name];
                let target = self.dir(to_parent).unwrap().get(&to_name).copied();
                if target == Some(ino) {
                    return None;
                }
                let orphan = target.and_then(|_| self.remove(to_parent, &to_name, time));
                self.children(to_parent, time).insert(to_name, ino);
                self.remove(from_parent, &from_name, time);
                return orphan;
            }
            Mutation::SetAttributes { ino, change, time } => {
                let attributes = &mut self.entries.get_mut(&ino).unwrap().attributes;
                attributes.mode = change.mode.or(attributes.mode);
                attributes.uid = change.uid.or(attributes.uid);
                attributes.gid = change.gid.or(attributes.gid);
                attributes.mtime = change.mtime.or(attributes.mtime);
                attributes.ctime = Some(time);
            }
            Mutation::CopyUp { ino, keep, time } => {
                let Entry { thing, attributes } = self.entries.get_mut(&ino).unwrap();
                let &mut Thing::Base(size) = thing else {
                    panic!("{thing:?}")
                };
                if keep < size {
                    attributes.mtime = Some(time);
                    attributes.ctime = Some(time);
                }
                *thing = if keep == 0 && size > 0 {
                    Thing::Scratch
                } else {
                    Thing::Mapped(ino, vec![Byte::Base; keep.min(size) as usize])
                };
            }
            Mutation::Write {
                ino,
                offset,
                len,
                time,
            } => {
                let (start, end) = (offset as usize, (offset + len) as usize);
                let bytes = self.bytes(ino, time);
                bytes.resize(bytes.len().max(end), Byte::Zero);
                bytes[start..end].fill(Byte::Scratch);
            }
            Mutation::Resize { ino, size, time } => {
                self.bytes(ino, time).resize(size as usize, Byte::Zero);
            }
        }
        None
    }

    fn forget(&mut self, ino: Ino) {
        if self.names(ino).is_empty() {
            self.entries.remove(&ino);
        }
    }
}

/// What a base shows at each path.
fn paths(base: &LayeredBase) -> BTreeMap<ManifestPath, Ino> {
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
    fn flipped(&self, before: &Self) -> Vec<(Ino, Name)> {
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
        let Some(Entry { thing, attributes }) = self.entries.get(&ino) else {
            return false;
        };
        attributes.ctime.is_some()
            || match thing {
                Thing::Dir(children) => children.values().any(|&child| self.is_kept(child)),
                Thing::Base(_) | Thing::Symlink(_) => false,
                Thing::Scratch | Thing::Mapped(..) => true,
            }
    }

    /// The base is now another one.
    fn lay(&mut self, base: &LayeredBase) {
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

/// A mutation that names things by choice among what there is, so that most of them are possible.
#[derive(Debug, Clone)]
struct Op {
    what: u8,
    which: [u8; 3],
    names: [usize; 2],
    numbers: [u64; 2],
}

fn any_op() -> impl Strategy<Value = Op> {
    let parts = (
        0..12u8,
        any::<[u8; 3]>(),
        [0..NAMES.len(), 0..NAMES.len()],
        [0..40u64, 0..20u64],
    );
    parts.prop_map(|(what, which, names, numbers)| Op {
        what,
        which,
        names,
        numbers,
    })
}

impl Op {
    fn mutation(&self, model: &Model, time: Timestamp) -> Mutation {
        let all: Vec<Ino> = model.entries.keys().copied().collect();
        let pick = |from: &[Ino], which: u8| match from {
            // Something that never was, now and then.
            _ if which == 255 => Ino::from_raw(u64::from(which) << 33),
            [] => Ino::ROOT,
            _ => from[usize::from(which) % from.len()],
        };
        let like = |fits: &dyn Fn(&Entry) -> bool, which: u8| {
            let fitting = |ino: &&Ino| which >= 250 || fits(&model.entries[*ino]);
            pick(
                &all.iter().filter(fitting).copied().collect::<Vec<_>>(),
                which,
            )
        };
        let dir = |which| like(&|entry: &Entry| matches!(entry.thing, Thing::Dir(_)), which);
        let [one, two] = self.names.map(|at| name(NAMES[at]));
        let ino = match self.which[2] {
            255 => all.last().copied().unwrap(),
            gap => Ino::from_overlay(model.next + u64::from(gap == 254)),
        };
        let parent = dir(self.which[0]);
        let attributes = Attributes {
            mode: self.numbers[0].is_multiple_of(2).then_some(0o640),
            uid: Some(7),
            ..Attributes::default()
        };
        match self.what {
            0 => Mutation::CreateFile {
                parent,
                name: one,
                ino,
                attributes,
                time,
            },
            1 => Mutation::CreateDir {
                parent,
                name: one,
                ino,
                attributes,
                time,
            },
            2 => Mutation::CreateSymlink {
                parent,
                name: one,
                ino,
                text: (*two.as_bytes()).into(),
                attributes,
                time,
            },
            3 => Mutation::Link {
                ino: like(
                    &|entry: &Entry| !matches!(entry.thing, Thing::Dir(_)),
                    self.which[1],
                ),
                parent,
                name: one,
                time,
            },
            4 => Mutation::Unlink {
                parent,
                name: one,
                time,
            },
            5 => Mutation::RemoveDir {
                parent,
                name: one,
                time,
            },
            6..=8 => Mutation::Rename {
                from_parent: parent,
                from_name: one,
                to_parent: dir(self.which[1]),
                to_name: two,
                time,
            },
            9 => Mutation::SetAttributes {
                ino: pick(&all, self.which[1]),
                change: AttributeChange {
                    mode: Some(0o700),
                    mtime: self.numbers[0].is_multiple_of(2).then_some(time),
                    ..AttributeChange::default()
                },
                time,
            },
            10 => Mutation::CopyUp {
                ino: like(
                    &|entry: &Entry| matches!(entry.thing, Thing::Base(_)),
                    self.which[1],
                ),
                keep: match self.numbers[1] {
                    0..5 => u64::MAX,
                    5..8 => 0,
                    _ => self.numbers[0],
                },
                time,
            },
            _ => {
                let ino = like(
                    &|entry: &Entry| matches!(entry.thing, Thing::Mapped(..)),
                    self.which[1],
                );
                if self.numbers[1].is_multiple_of(3) {
                    Mutation::Resize {
                        ino,
                        size: self.numbers[0],
                        time,
                    }
                } else {
                    Mutation::Write {
                        ino,
                        offset: self.numbers[0],
                        len: self.numbers[1],
                        time,
                    }
                }
            }
        }
    }
}

fn bytes_of(mapping: &Mapping) -> Vec<Byte> {
    let mut bytes = Vec::new();
    for segment in mapping.plan_read(0..mapping.size + 9) {
        assert_eq!(segment.range.start, bytes.len() as u64, "no gaps");
        let byte = match segment.source {
            Source::Base => Byte::Base,
            Source::Zero => Byte::Zero,
            Source::Scratch => Byte::Scratch,
        };
        bytes.resize(segment.range.end as usize, byte);
    }
    bytes
}

fn assert_same(namespace: &Namespace, model: &Model) {
    for (&ino, Entry { thing, attributes }) in &model.entries {
        assert_eq!(namespace.attributes(ino), *attributes, "{ino:?}");
        let names = model.names(ino);
        assert_eq!(
            BTreeSet::from_iter(namespace.names(ino)),
            names,
            "names of {ino:?}"
        );
        let links = if ino == Ino::ROOT { 1 } else { names.len() };
        assert_eq!(namespace.link_count(ino) as usize, links, "{ino:?}");
        let path = namespace.path(ino);
        let is_there = ino != Ino::ROOT && model.is_within(ino, Ino::ROOT);
        assert_eq!(path.is_some(), is_there, "path of {ino:?}");
        let found = path.map(|path| {
            path.components().fold(Ino::ROOT, |dir, name| {
                namespace.lookup(dir, name).expect("a path leads somewhere")
            })
        });
        assert!(found.is_none_or(|found| found == ino), "path of {ino:?}");
        let (kind, content, text) = match thing {
            Thing::Dir(children) => {
                let listing = namespace.list(ino);
                let listed = listing
                    .iter()
                    .map(|entry| (Name::new(entry.name).unwrap(), entry.ino));
                assert_eq!(
                    listed.collect::<Vec<_>>(),
                    Vec::from_iter(children.clone()),
                    "entries of {ino:?}"
                );
                for entry in listing.iter() {
                    assert_eq!(Some(entry.kind), namespace.kind(entry.ino));
                    assert_eq!(namespace.lookup(ino, entry.name), Some(entry.ino));
                }
                for name in NAMES {
                    let is_listed = children.contains_key(name.as_bytes());
                    assert_eq!(namespace.lookup(ino, name.as_bytes()).is_some(), is_listed);
                }
                let parent = names.first().map(|&(parent, _)| parent);
                let parent = if ino == Ino::ROOT { Some(ino) } else { parent };
                assert_eq!(namespace.parent(ino), parent, "{ino:?}");
                (Kind::Dir, None, None)
            }
            Thing::Base(_) => (Kind::File, Some(FileContent::Base), None),
            Thing::Scratch => (Kind::File, Some(FileContent::Scratch), None),
            Thing::Mapped(base, bytes) => {
                let Some(FileContent::Mapped(mapping)) = namespace.content(ino) else {
                    panic!("{ino:?} is not mapped")
                };
                assert_eq!(mapping.base, *base);
                assert_eq!(bytes_of(mapping), *bytes, "bytes of {ino:?}");
                (Kind::File, Some(FileContent::Mapped(mapping.clone())), None)
            }
            Thing::Symlink(text) => (Kind::Symlink, None, Some(text.clone())),
        };
        assert_eq!(namespace.kind(ino), Some(kind), "{ino:?}");
        assert_eq!(namespace.content(ino), content.as_ref(), "{ino:?}");
        assert_eq!(namespace.link_text(ino), text, "{ino:?}");
    }
    assert_eq!(namespace.next_ino(), Ino::from_overlay(model.next));
}

/// All that a namespace knows, for comparing two of them.
fn state(namespace: &Namespace) -> impl PartialEq + std::fmt::Debug + use<> {
    let Namespace {
        base: _,
        inodes,
        entries,
        names,
        next,
    } = namespace.clone();
    (inodes, entries, names, next)
}

/// The base is what a snapshot says, path by path.
fn assert_base_is(base: &LayeredBase, snapshot: &Snapshot) {
    let paths = paths(base);
    assert_eq!(paths.len(), snapshot.len());
    for (path, node) in snapshot.entries() {
        let ino = paths[&path.to_owned()];
        assert_eq!(
            base.place(ino).map(|(_, name)| name.to_vec()),
            Some(path.name().to_vec())
        );
        match (base.kind(ino).unwrap(), node) {
            (BaseKind::Dir, Node::Dir) => {}
            (
                BaseKind::File {
                    size,
                    mtime,
                    runnable,
                },
                Node::File(file),
            ) => {
                assert_eq!(
                    (size, mtime, runnable),
                    (file.size, file.mtime, file.runnable)
                );
                assert_eq!(base.content(ino), Some(file.content));
            }
            (BaseKind::Symlink(target), Node::Symlink(expected)) => assert_eq!(*target, expected),
            (found, expected) => panic!("{path:?}: {found:?}, not {expected:?}"),
        }
    }
}

/// What happens to a namespace.
#[derive(Debug, Clone)]
enum Event {
    Op(Op, bool),
    /// The base becomes this.
    Layer(Snapshot),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (any_op(), any::<bool>()).prop_map(|(op, forget)| Event::Op(op, forget)),
        1 => any_snapshot().prop_map(Event::Layer),
    ]
}

fn layer(from: &Snapshot, to: &Snapshot) -> DiffLayer {
    DiffLayer::new(&to.diff(from, None)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_namespace_is_what_a_naive_model_of_it_is(
        base in any_snapshot(),
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let mut now = base.clone();
        let mut namespace = Namespace::new(tree(&base));
        let mut model = Model::new(namespace.base());
        let mut replayed = Namespace::new(tree(&base));
        let mut forgotten = Vec::new();
        let mut layers = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            match event {
                Event::Op(op, forget) => {
                    let mutation = op.mutation(&model, time(number as i64));
                    let before = state(&namespace);
                    let applied = namespace.apply(&mutation);
                    prop_assert_eq!(applied.is_ok(), model.allows(&mutation), "{:?}: {:?}", mutation, applied);
                    let Ok(orphan) = applied else {
                        prop_assert!(before == state(&namespace), "a refused mutation changes nothing");
                        continue;
                    };
                    prop_assert_eq!(orphan, model.apply(&mutation));
                    prop_assert_eq!(replayed.apply(&mutation), Ok(orphan));
                    if let (Some(orphan), true) = (orphan, forget) {
                        namespace.forget(orphan);
                        model.forget(orphan);
                        forgotten.push(orphan);
                    }
                }
                Event::Layer(to) => {
                    let told = namespace.add_layer(layer(&now, &to)).unwrap();
                    let before = model.clone();
                    model.lay(namespace.base());
                    for (parent, name) in model.flipped(&before) {
                        prop_assert!(told.contains(&(parent, name.clone())), "{parent:?} {name:?} is not told");
                    }
                    replayed.add_layer(layer(&now, &to)).unwrap();
                    layers.push(layer(&now, &to));
                    now = to;
                }
            }
            assert_same(&namespace, &model);
            assert_base_is(namespace.base(), &now);
        }
        assert_changes_make_the_difference(&namespace, &now);
        let mut restored = Namespace::new(tree(&base));
        for layer in layers {
            restored.add_layer(layer).unwrap();
        }
        for part in namespace.state() {
            restored.restore(part);
        }
        prop_assert!(state(&restored) == state(&namespace), "so does restoring its state");
        for ino in forgotten {
            replayed.forget(ino);
        }
        prop_assert!(state(&replayed) == state(&namespace), "replaying gives the same");
    }
}
