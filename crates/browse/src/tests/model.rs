//! Trees of manifests against a plain model: a map of paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{Change, ChunkSize, Diff, ManifestPath, Node, Snapshot};
use attachfs_tree::Timestamp;
use proptest::prelude::*;

use super::{file, path};
use crate::tree::{Item, Layers, Origin, Tree};

type Model = BTreeMap<String, Node>;

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn any_node() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => "[xyz]{1,3}".prop_map(|text| file(&text)),
        1 => Just(Node::Dir),
        1 => any_path().prop_map(|to| Node::Symlink(attachfs_manifest::LinkTarget::Below(path(&to)))),
    ]
}

/// What fits together; what does not is left out.
fn any_manifest() -> impl Strategy<Value = Option<Manifest>> {
    let nodes = prop::collection::btree_map(any_path(), any_node(), 0..6);
    let deleted = prop::collection::btree_map(any_path(), any::<bool>(), 0..4);
    (nodes, deleted, any::<bool>()).prop_map(|(nodes, deleted, is_diff)| {
        if !is_diff {
            let entries = nodes.into_iter().map(|(at, node)| (path(&at), node));
            let made = Snapshot::new(ChunkSize::WholeFile, None, entries);
            return made.ok().map(Manifest::Snapshot);
        }
        let deleted = deleted.into_iter().map(|(at, is_dir)| {
            let change = if is_dir {
                Change::DeleteDir
            } else {
                Change::DeleteFile
            };
            (path(&at), change)
        });
        let put = nodes
            .into_iter()
            .map(|(at, node)| (path(&at), Change::Put(node)));
        let made = Diff::new(ChunkSize::WholeFile, None, deleted.chain(put));
        made.ok().map(Manifest::Diff)
    })
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn put(model: &mut Model, at: &ManifestPath, node: Node) {
    let mut above: Vec<_> = at.ancestors().map(|dir| dir.to_string()).collect();
    if node == Node::Dir {
        above.push(at.to_string());
    } else {
        let at = at.to_string();
        model.retain(|other, _| !is_below(other, &at));
        model.insert(at, node);
    }
    for dir in above {
        model.insert(dir, Node::Dir);
    }
}

fn apply(model: &mut Model, manifest: &Manifest) {
    match manifest {
        Manifest::Snapshot(snapshot) => {
            for (at, node) in snapshot.entries() {
                put(model, &at.to_owned(), node);
            }
        }
        Manifest::Diff(diff) => {
            let changes: Vec<_> = diff
                .changes()
                .map(|(at, change)| (at.to_owned(), change))
                .collect();
            for (at, change) in &changes {
                let at = at.to_string();
                let is_file = model.get(&at).is_some_and(|node| !node.is_dir());
                if *change == Change::DeleteFile && is_file {
                    model.remove(&at);
                }
            }
            let mut dirs: Vec<_> = changes
                .iter()
                .filter(|(_, change)| *change == Change::DeleteDir)
                .map(|(at, _)| at.to_string())
                .collect();
            dirs.sort_by_key(|dir| std::cmp::Reverse(dir.matches('/').count()));
            for dir in dirs {
                let is_dir = model.get(&dir).is_some_and(Node::is_dir);
                if is_dir && !model.keys().any(|other| is_below(other, &dir)) {
                    model.remove(&dir);
                }
            }
            for (at, change) in changes {
                if let Change::Put(node) = change {
                    put(model, &at, node);
                }
            }
        }
    }
}

fn shown(tree: &Tree, dir: u32, above: &str, all: &mut Model) {
    let mut last: Option<&[u8]> = None;
    for (name, item) in tree.entries(dir) {
        assert!(
            last.is_none_or(|last| *last < **name),
            "in order, each once"
        );
        last = Some(name);
        let name = String::from_utf8(name.to_vec()).unwrap();
        let at = if above.is_empty() {
            name
        } else {
            format!("{above}/{name}")
        };
        let node = match item {
            Item::Dir(below) => {
                assert_eq!(tree.dir_at(at.as_bytes()), Some(*below));
                shown(tree, *below, &at, all);
                Node::Dir
            }
            Item::File(file) => {
                assert_eq!(tree.dir_at(at.as_bytes()), None);
                Node::File(attachfs_manifest::File {
                    size: file.size,
                    mtime: file.mtime,
                    runnable: file.runnable,
                    content: file.content.clone(),
                })
            }
            Item::Link(target, _) => Node::Symlink(target.clone()),
        };
        all.insert(at, node);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_tree_is_what_its_manifests_make_one_after_another(
        manifests in prop::collection::vec(any_manifest(), 0..6),
    ) {
        let (mut layers, mut model) = (Layers::default(), Model::new());
        let key = Arc::new("k".parse().unwrap());
        for (number, manifest) in manifests.iter().flatten().enumerate() {
            let time = Timestamp { seconds: number as i64, nanoseconds: 0 };
            layers.add(manifest, &Origin { key: Arc::clone(&key), time });
            apply(&mut model, manifest);
        }
        let tree = layers.finish();
        let mut found = Model::new();
        shown(&tree, Tree::ROOT, "", &mut found);
        prop_assert_eq!(found, model);
    }
}
