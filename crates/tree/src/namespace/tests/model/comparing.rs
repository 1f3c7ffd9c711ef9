//! A namespace held against the model.

use super::*;

pub(super) fn bytes_of(mapping: &Mapping) -> Vec<Byte> {
    let mut bytes = Vec::new();
    for segment in mapping.plan_read(0..mapping.size + 9) {
        assert_eq!(segment.range.start, bytes.len() as u64, "no gaps");
        let byte = match segment.source {
            SegmentSource::Base => Byte::Base,
            SegmentSource::Zero => Byte::Zero,
            SegmentSource::Scratch => Byte::Scratch,
        };
        bytes.resize(segment.range.end as usize, byte);
    }
    bytes
}

pub(super) fn assert_same(namespace: &Namespace, model: &Model) {
    for (&ino, entry) in &model.entries {
        let Entry {
            thing,
            attributes,
            xattrs,
        } = entry;
        assert_eq!(namespace.attributes(ino), *attributes, "{ino:?}");
        let found = namespace.xattrs(ino);
        let found = found.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), *xattrs, "{ino:?}");
        for name in NAMES {
            let value = xattrs.get(name.as_bytes()).map(|value| &value[..]);
            assert_eq!(namespace.xattr(ino, name.as_bytes()), value, "{ino:?}");
        }
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
        let is_reachable = is_there || ino == Ino::ROOT;
        assert_eq!(namespace.is_reachable(ino), is_reachable, "{ino:?}");
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
                let dirs = children.values().filter(|child| model.is_dir(**child));
                assert_eq!(
                    namespace.subdirectories(ino) as usize,
                    dirs.count(),
                    "directories in {ino:?}"
                );
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
            Thing::Special(special) => (Kind::Special(*special), None, None),
        };
        assert_eq!(namespace.kind(ino), Some(kind), "{ino:?}");
        assert_eq!(namespace.content(ino), content.as_ref(), "{ino:?}");
        assert_eq!(namespace.link_text(ino), text, "{ino:?}");
    }
    assert_eq!(namespace.next_ino(), Ino::from_overlay(model.next));
}

/// All that a namespace knows, for comparing two of them.
pub(super) fn state(namespace: &Namespace) -> impl PartialEq + std::fmt::Debug + use<> {
    let Namespace {
        base: _,
        inodes,
        entries,
        names,
        subdirectories: _,
        xattrs,
        next,
    } = namespace.clone();
    (inodes, entries, names, xattrs, next)
}

/// The base is what a snapshot says, path by path.
pub(super) fn assert_base_is(base: &LayeredBase, snapshot: &Snapshot) {
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
