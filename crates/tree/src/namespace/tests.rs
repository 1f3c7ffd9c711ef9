//! What a namespace does, and that its changes make the difference between the base and what it shows.

mod model;

use attachfs_manifest::{
    Change, Content, ContentHash, Diff, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};

use super::*;
use crate::testing::{at, file, link, name, path, snapshot, time, tree};
use crate::{AttributeChange, Mutation, MutationError, PathChange};

/// What a manifest would say of an inode, if it can say it; a content that the base does not have is named after the
/// inode.
fn node_at(namespace: &Namespace, path: &ManifestPath, ino: Ino) -> Option<Node> {
    Some(match namespace.kind(ino).unwrap() {
        Kind::Special(_) => return None,
        Kind::Dir => Node::Dir,
        Kind::Symlink => {
            let text = namespace.link_text(ino).unwrap();
            let target = LinkTarget::resolve(path, &text);
            Node::Symlink(target.unwrap_or_else(|| LinkTarget::Below(crate::testing::path("OUT"))))
        }
        Kind::File => {
            let attributes = namespace.attributes(ino);
            let (content, size) = match namespace.content(ino).unwrap() {
                FileContent::Base => {
                    let layout = namespace.base().layout(ino).unwrap();
                    (namespace.base().content(ino).unwrap(), layout.size())
                }
                FileContent::Scratch => {
                    (Content::Whole(ContentHash::of(&ino.raw().to_le_bytes())), 0)
                }
                FileContent::Mapped(mapping) => (
                    Content::Whole(ContentHash::of(format!("{ino:?}{mapping:?}").as_bytes())),
                    mapping.size,
                ),
            };
            let runnable = attributes
                .mode
                .map_or(attributes.runnable, |mode| mode & 0o111 != 0);
            Node::File(File {
                size,
                mtime: attributes.mtime.map_or(Mtime(0), Mtime::from),
                runnable,
                content,
            })
        }
    })
}

fn shown(namespace: &Namespace) -> Snapshot {
    let mut entries = Vec::new();
    let mut open = vec![(None::<ManifestPath>, Ino::ROOT)];
    while let Some((above, dir)) = open.pop() {
        for entry in namespace.list(dir).iter() {
            let name = Name::new(entry.name).unwrap();
            let path = match &above {
                None => ManifestPath::from_name(&name),
                Some(above) => above.join(&name).unwrap(),
            };
            let node = node_at(namespace, &path, entry.ino);
            entries.extend(node.map(|node| (path.clone(), node)));
            if entry.kind == Kind::Dir {
                open.push((Some(path), entry.ino));
            }
        }
    }
    Snapshot::new(namespace.base().chunk_size(), None, entries).unwrap()
}

/// The changes as a diff without the entries that turn out to be the same. Fails if a change is
/// about something that no mutation touched.
fn diff_of(namespace: &Namespace, base: &Snapshot) -> Diff {
    let mut changes = Vec::new();
    for changed in namespace.changes().paths {
        let was = base.get(&changed.path);
        let is = match changed.change {
            PathChange::Put { ino, base } => {
                assert_eq!(base.is_some(), was.is_some(), "{changed:?}");
                let is = node_at(namespace, &changed.path, ino);
                let touched = namespace.inodes.contains_key(&ino);
                assert!(
                    touched || is != was || base != Some(ino),
                    "{changed:?} is superfluous"
                );
                is
            }
            PathChange::Delete { .. } => {
                assert!(was.is_some(), "{changed:?}");
                None
            }
        };
        if is == was {
            continue;
        }
        if let Some(was) = was
            && is.as_ref().map(Node::is_dir) != Some(was.is_dir())
        {
            let delete = if was.is_dir() {
                Change::DeleteDir
            } else {
                Change::DeleteFile
            };
            changes.push((changed.path.clone(), delete));
        }
        changes.extend(is.map(|is| (changed.path, Change::Put(is))));
    }
    Diff::new(base.chunk_size(), None, changes).unwrap()
}

fn assert_changes_make_the_difference(namespace: &Namespace, base: &Snapshot) {
    let shown = shown(namespace);
    let diff = diff_of(namespace, base);
    assert_eq!(base.apply(&diff).as_ref(), Ok(&shown));
    assert_eq!(diff, shown.diff(base, None), "nothing superfluous");
}

/// A namespace that numbers and times its mutations itself.
struct Session {
    namespace: Namespace,
    base: Snapshot,
    clock: i64,
}

impl Session {
    fn new<const N: usize>(entries: [(&str, Node); N]) -> Self {
        let base = snapshot(entries);
        let namespace = Namespace::new(tree(&base));
        Self {
            namespace,
            base,
            clock: 0,
        }
    }

    fn at(&self, text: &str) -> Ino {
        let found = path(text)
            .components()
            .try_fold(Ino::ROOT, |dir, name| self.namespace.lookup(dir, name));
        found.unwrap_or_else(|| panic!("nothing at {text}"))
    }

    fn split<'a>(&self, text: &'a str) -> (Ino, &'a str) {
        match text.rsplit_once('/') {
            Some((dir, name)) => (self.at(dir), name),
            None => (Ino::ROOT, text),
        }
    }

    fn apply(&mut self, mutation: Mutation) -> Result<Option<Ino>, MutationError> {
        self.clock += 1;
        self.namespace.apply(&mutation)
    }

    fn mkdir(&mut self, text: &str) -> Ino {
        let (parent, last) = self.split(text);
        let ino = self.namespace.next_ino();
        let create = Mutation::CreateDir {
            parent,
            name: name(last),
            ino,
            attributes: Attributes::default(),
            time: time(self.clock),
        };
        self.apply(create).unwrap();
        ino
    }

    fn create(&mut self, text: &str) -> Ino {
        let (parent, last) = self.split(text);
        let ino = self.namespace.next_ino();
        let create = Mutation::CreateFile {
            parent,
            name: name(last),
            ino,
            attributes: Attributes::default(),
            time: time(self.clock),
        };
        self.apply(create).unwrap();
        ino
    }

    fn unlink(&mut self, text: &str) -> Option<Ino> {
        let (parent, last) = self.split(text);
        let unlink = Mutation::Unlink {
            parent,
            name: name(last),
            time: time(self.clock),
        };
        self.apply(unlink).unwrap()
    }

    fn rmdir(&mut self, text: &str) -> Result<Option<Ino>, MutationError> {
        let (parent, last) = self.split(text);
        let remove = Mutation::RemoveDir {
            parent,
            name: name(last),
            time: time(self.clock),
        };
        self.apply(remove)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<Option<Ino>, MutationError> {
        let ((from_parent, from), (to_parent, to)) = (self.split(from), self.split(to));
        let rename = Mutation::Rename {
            from_parent,
            from_name: name(from),
            to_parent,
            to_name: name(to),
            time: time(self.clock),
        };
        self.apply(rename)
    }

    fn copy_up(&mut self, text: &str) -> Ino {
        let ino = self.at(text);
        let copy = Mutation::CopyUp {
            ino,
            keep: u64::MAX,
            time: time(self.clock),
        };
        self.apply(copy).unwrap();
        ino
    }

    /// Path by path: `+` for what is put, `-` for what is gone.
    fn diff(&self) -> Vec<String> {
        assert_changes_make_the_difference(&self.namespace, &self.base);
        let sign = |change: &Change| if change.as_put().is_some() { '+' } else { '-' };
        diff_of(&self.namespace, &self.base)
            .changes()
            .map(|(path, change)| format!("{}{path}", sign(&change)))
            .collect()
    }
}

#[test]
fn a_base_directory_moves_with_all_that_is_in_it() {
    let mut session = Session::new([("d/e/x", file(3)), ("d/y", file(4)), ("z", file(5))]);
    let x = session.at("d/e/x");
    session.mkdir("new");
    session.rename("d", "new/d").unwrap();
    assert_eq!(session.at("new/d/e/x"), x);
    assert_eq!(session.namespace.path(x), Some(path("new/d/e/x")));
    assert_eq!(
        session.diff(),
        [
            "-d",
            "-d/e",
            "-d/e/x",
            "-d/y",
            "+new",
            "+new/d",
            "+new/d/e",
            "+new/d/e/x",
            "+new/d/y"
        ]
    );
    session.rename("new/d", "d").unwrap();
    session.rmdir("new").unwrap();
    assert_eq!(session.diff(), [""; 0], "back where it was");
}

#[test]
fn a_new_directory_in_the_place_of_a_removed_one_shows_only_what_differs() {
    let mut session = Session::new([("d/kept", file(3)), ("d/gone", file(4)), ("e", Node::Dir)]);
    session.rename("d/kept", "kept").unwrap();
    session.unlink("d/gone");
    session.rmdir("d").unwrap();
    session.mkdir("d");
    assert_eq!(session.namespace.list(session.at("d")).len(), 0);
    session.rename("kept", "d/kept").unwrap();
    session.create("d/new");
    assert_eq!(session.diff(), ["-d/gone", "+d/new"]);
}

#[test]
fn a_file_in_the_place_of_a_directory_deletes_what_was_in_it() {
    let mut session = Session::new([("d/x", file(3)), ("f", file(4))]);
    session.rename("d", "moved").unwrap();
    session.rename("f", "d").unwrap();
    session.mkdir("f");
    session.create("f/x");
    assert_eq!(
        session.diff(),
        ["-d", "+d", "-d/x", "-f", "+f", "+f/x", "+moved", "+moved/x"]
    );
}

#[test]
fn a_copied_up_file_keeps_its_number_and_its_names() {
    let mut session = Session::new([("f", file(20)), ("d", Node::Dir)]);
    let (ino, dir) = (session.at("f"), session.at("d"));
    let link = Mutation::Link {
        ino,
        parent: dir,
        name: name("second"),
        time: time(0),
    };
    session.apply(link).unwrap();
    session.copy_up("f");
    assert_eq!((session.at("f"), session.at("d/second")), (ino, ino));
    assert_eq!(session.namespace.link_count(ino), 2);
    let again = Mutation::CopyUp {
        ino,
        keep: 0,
        time: time(0),
    };
    assert_eq!(session.apply(again), Err(MutationError::WrongContent(ino)));
    assert_eq!(session.unlink("f"), None);
    assert_eq!(session.unlink("d/second"), Some(ino));
}

#[test]
fn a_base_file_without_names_is_gone_once_it_is_forgotten() {
    let mut session = Session::new([("f", file(20))]);
    let ino = session.copy_up("f");
    assert_eq!(session.unlink("f"), Some(ino));
    assert_eq!(
        session.namespace.kind(ino),
        Some(Kind::File),
        "somebody may have it open"
    );
    session.namespace.forget(ino);
    assert_eq!(session.namespace.kind(ino), None);
    assert_eq!(session.namespace.content(ino), None);
    assert_eq!(
        session
            .namespace
            .touched()
            .filter(|(touched, _)| *touched == ino)
            .count(),
        0
    );
    assert_eq!(session.diff(), ["-f"]);
}

#[test]
fn a_base_link_keeps_its_text_when_it_moves() {
    let mut session = Session::new([("d/l", link("d/x")), ("d/x", file(1)), ("e", Node::Dir)]);
    let moved = session.at("d/l");
    session.rename("d/l", "e/l").unwrap();
    assert_eq!(session.namespace.link_text(moved), Some(b"x".to_vec()));
    assert_eq!(
        node_at(&session.namespace, &path("e/l"), moved),
        Some(link("e/x")),
        "so that it leads elsewhere"
    );
    assert_eq!(session.diff(), ["-d/l", "+e/l"]);
}

#[test]
fn a_directory_does_not_move_below_itself() {
    let mut session = Session::new([("d/e", Node::Dir)]);
    let dir = session.at("d");
    for to in ["d/e/f", "d/f"] {
        assert_eq!(
            session.rename("d", to),
            Err(MutationError::BelowItself(dir))
        );
    }
    assert_eq!(session.rename("d", "d"), Ok(None));
    let below = session.at("d/e");
    assert_eq!(
        session.rename("d/e", "d"),
        Err(MutationError::NotEmpty(dir)),
        "{below:?} lies in it"
    );
}

#[test]
fn nothing_is_made_in_a_removed_directory() {
    let mut session = Session::new([("d", Node::Dir)]);
    let base_dir = session.at("d");
    session.rmdir("d").unwrap();
    let new_dir = session.mkdir("d");
    session.rmdir("d").unwrap();
    for dir in [base_dir, new_dir] {
        let create = Mutation::CreateFile {
            parent: dir,
            name: name("x"),
            ino: session.namespace.next_ino(),
            attributes: Attributes::default(),
            time: time(0),
        };
        assert_eq!(session.apply(create), Err(MutationError::NoInode(dir)));
    }
}

#[test]
fn numbers_that_journals_cannot_hold_are_refused() {
    let mut session = Session::new([]);
    for raw in [0, 1, 99, 1 << 63, u64::MAX] {
        let create = Mutation::CreateDir {
            parent: Ino::ROOT,
            name: name("x"),
            ino: Ino::from_raw(raw),
            attributes: Attributes::default(),
            time: time(0),
        };
        let taken = Err(MutationError::InodeTaken(Ino::from_raw(raw)));
        assert_eq!(session.apply(create), taken);
    }
}

/// The stack of a thread that answers requests or runs a commit.
fn on_a_small_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn_scoped(scope, test).unwrap();
    });
}

#[test]
fn the_deepest_tree_that_a_manifest_can_hold_needs_no_deep_stack() {
    on_a_small_stack(|| {
        let deep = vec!["d"; 2048].join("/");
        let mut session = Session::new([(&deep, file(1)), ("e", Node::Dir)]);
        session.unlink(&deep);
        session.rename("d", "f").unwrap();
        assert_eq!(session.namespace.changes().paths.len(), 2047 * 2 + 1);
    });
}

#[test]
fn what_is_deeper_than_any_manifest_is_named_once_and_hides_no_other_change() {
    on_a_small_stack(|| {
        let mut session = Session::new([]);
        let mut make = |parent, text| {
            let ino = session.namespace.next_ino();
            let create = Mutation::CreateDir {
                parent,
                name: name(text),
                ino,
                attributes: Attributes::default(),
                time: time(0),
            };
            session.apply(create).unwrap();
            ino
        };
        make(Ino::ROOT, "e");
        let mut parent = Ino::ROOT;
        for _ in 0..20_000 {
            parent = make(parent, "d");
        }
        let changes = session.namespace.changes();
        let [path] = &changes.too_long[..] else {
            panic!("{:?}", changes.too_long);
        };
        assert_eq!(*path, vec!["d"; 2049].join("/").into_bytes());
        let last = changes.paths.last().unwrap();
        assert_eq!(
            (changes.paths.len(), last.path.to_string()),
            (2049, "e".to_owned())
        );
    });
}

#[test]
fn what_changed_is_found_without_looking_at_the_rest() {
    let flat: Vec<_> = (0..50_000)
        .map(|number| (path(&format!("d/{number}")), file(1)))
        .collect();
    let base = Snapshot::new(crate::testing::CHUNK, None, flat).unwrap();
    let tree = tree(&base);
    let mut session = Session {
        namespace: Namespace::new(tree.clone()),
        base,
        clock: 0,
    };
    let touch = Mutation::SetAttributes {
        ino: at(&tree, "d/77"),
        change: AttributeChange {
            mode: Some(0o755),
            ..AttributeChange::default()
        },
        time: time(1),
    };
    session.apply(touch).unwrap();
    session.create("d/new");
    let changes = session.namespace.changes().paths;
    let paths: Vec<_> = changes.iter().map(|c| c.path.to_string()).collect();
    assert_eq!(paths, ["d/77", "d/new"]);
}

#[test]
fn a_copy_shares_everything_until_one_of_both_changes() {
    let mut session = Session::new([("d/f", file(1))]);
    session.create("d/new");
    session.copy_up("d/f");
    let frozen = session.namespace.clone();
    let shares = |live: &Namespace| {
        live.inodes.ptr_eq(&frozen.inodes)
            && live.entries.ptr_eq(&frozen.entries)
            && live.names.ptr_eq(&frozen.names)
    };
    assert!(shares(&session.namespace));
    session.unlink("d/new");
    assert!(!shares(&session.namespace));
    assert!(frozen.lookup(session.at("d"), b"new").is_some());
}
