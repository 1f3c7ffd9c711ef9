//! Random mutations against a naive model: maps of whole directories, bytes one by one.

mod comparing;
mod layering;
mod operations;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use comparing::{assert_base_is, assert_same, state};
use layering::paths;
use operations::{Op, any_op};

use super::*;
use crate::testing::{NAMES, any_snapshot, name, time, tree};
use crate::{AttributeChange, DiffLayer, Mapping, Mutation, SegmentSource, Special, Timestamp};

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
    Special(Special),
}

#[derive(Debug, Clone)]
struct Entry {
    thing: Thing,
    attributes: Attributes,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    fn new(thing: Thing, attributes: Attributes) -> Self {
        Self {
            thing,
            attributes,
            xattrs: BTreeMap::new(),
        }
    }
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
        self.entries.insert(ino, Entry::new(thing, attributes));
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
            }
            | Mutation::CreateSpecial {
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
            Mutation::Exchange {
                from_parent,
                from_name,
                to_parent,
                to_name,
                ..
            } => {
                let one = child(from_parent, from_name);
                let other = child(to_parent, to_name);
                one.zip(other).is_some_and(|(one, other)| {
                    !self.is_within(*to_parent, one) && !self.is_within(*from_parent, other)
                })
            }
            Mutation::SetAttributes { ino, .. } | Mutation::SetXattr { ino, .. } => {
                self.entries.contains_key(ino)
            }
            Mutation::RemoveXattr { ino, name, .. } => {
                let has = |entry: &Entry| entry.xattrs.contains_key(&name[..]);
                self.entries.get(ino).is_some_and(has)
            }
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
        self.entries.insert(ino, Entry::new(thing, attributes));
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
            Mutation::CreateSpecial {
                parent,
                name,
                ino,
                special,
                attributes,
                time,
            } => {
                let thing = Thing::Special(special);
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
            Mutation::Exchange {
                from_parent,
                from_name,
                to_parent,
                to_name,
                time,
            } => {
                let one = self.dir(from_parent).unwrap()[&from_name];
                let other = self.dir(to_parent).unwrap()[&to_name];
                if one != other {
                    self.children(from_parent, time).insert(from_name, other);
                    self.children(to_parent, time).insert(to_name, one);
                    self.touch(one, time);
                    self.touch(other, time);
                }
            }
            Mutation::SetAttributes { ino, change, time } => {
                let attributes = &mut self.entries.get_mut(&ino).unwrap().attributes;
                attributes.mode = change.mode.or(attributes.mode);
                attributes.uid = change.uid.or(attributes.uid);
                attributes.gid = change.gid.or(attributes.gid);
                attributes.mtime = change.mtime.or(attributes.mtime);
                attributes.ctime = Some(time);
            }
            Mutation::SetXattr {
                ino,
                name,
                value,
                time,
            } => {
                let xattrs = &mut self.entries.get_mut(&ino).unwrap().xattrs;
                xattrs.insert(name.into(), value.into());
                self.touch(ino, time);
            }
            Mutation::RemoveXattr { ino, name, time } => {
                let xattrs = &mut self.entries.get_mut(&ino).unwrap().xattrs;
                xattrs.remove(&name[..]);
                self.touch(ino, time);
            }
            Mutation::CopyUp { ino, keep, time } => {
                let Entry {
                    thing, attributes, ..
                } = self.entries.get_mut(&ino).unwrap();
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
        assert_same(&restored, &model);
        for ino in forgotten {
            replayed.forget(ino);
        }
        prop_assert!(state(&replayed) == state(&namespace), "replaying gives the same");
    }
}
