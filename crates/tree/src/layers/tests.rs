use attachfs_manifest::wire::encode_diff;
use attachfs_manifest::{Diff, File, LinkTarget, Mtime, PathRef};
use proptest::prelude::*;

use super::*;
use crate::testing::{CHUNK, any_snapshot, file, link, path, snapshot};

fn layer(snapshot: Snapshot, at: Option<&str>) -> Layer {
    let hash = encoded_hash(&snapshot);
    Layer {
        at: at.map(path),
        ..Layer::root_snapshot(snapshot, hash)
    }
}

fn diff_layer(diff: Diff) -> Layer {
    let bytes = encode_diff(&diff, Format::V2025_12).unwrap();
    Layer {
        manifest: Manifest::Diff(diff),
        hash: ContentHash::of(&bytes),
        at: None,
        is_absolute: false,
    }
}

fn put_together(layers: Vec<Layer>) -> Result<Composed, LayerError> {
    compose(layers, &LayerOptions::default())
}

fn composed<const N: usize>(layers: [Layer; N]) -> Snapshot {
    put_together(layers.into()).unwrap().snapshot
}

fn encoded_hash(snapshot: &Snapshot) -> ContentHash {
    super::encoded_hash(snapshot, Format::V2025_12).unwrap()
}

#[test]
fn one_manifest_is_itself_and_keeps_its_own_hash() {
    let bytes = encode_snapshot(&snapshot([("f", file(25))]), Format::V2025_12).unwrap();
    let made = put_together(vec![Layer::decode(&bytes, None).unwrap()]).unwrap();
    assert_eq!(made.snapshot, snapshot([("f", file(25))]));
    assert_eq!(made.hash, ContentHash::of(&bytes));
}

#[test]
fn the_upper_file_counts_and_directories_are_merged() {
    let lower = snapshot([("d/a", file(1)), ("d/b", file(2)), ("e", Node::Dir)]);
    let upper = snapshot([("d/b", file(3)), ("d/c", file(4))]);
    let made = put_together(vec![layer(lower, None), layer(upper, None)]).unwrap();
    let expected = snapshot([
        ("d/a", file(1)),
        ("d/b", file(3)),
        ("d/c", file(4)),
        ("e", Node::Dir),
    ]);
    assert_eq!(made.hash, encoded_hash(&expected));
    assert_eq!(made.snapshot, expected);
}

#[test]
fn files_and_links_hide_directories_and_are_hidden_by_them() {
    let lower = snapshot([("d/e/a", file(1)), ("d-e", file(2)), ("f", file(3))]);
    let upper = snapshot([("d", link("d-e")), ("f/x", file(4))]);
    assert_eq!(
        composed([layer(lower, None), layer(upper, None)]),
        snapshot([("d", link("d-e")), ("d-e", file(2)), ("f/x", file(4))])
    );
}

#[test]
fn a_layer_moves_into_its_directory_with_its_links() {
    let lower = snapshot([("a", file(1)), ("sub", file(7))]);
    let root = Node::Symlink(LinkTarget::Root);
    let upper = snapshot([("a", file(2)), ("d/l", link("a")), ("r", root)]);
    assert_eq!(
        composed([layer(lower, None), layer(upper, Some("sub/dir"))]),
        snapshot([
            ("a", file(1)),
            ("sub/dir/a", file(2)),
            ("sub/dir/d/l", link("sub/dir/a")),
            ("sub/dir/r", link("sub/dir")),
        ])
    );
}

#[test]
fn an_empty_layer_is_still_a_directory() {
    let made = put_together(vec![layer(snapshot([]), Some("x/y"))]).unwrap();
    assert_eq!(made.snapshot, snapshot([("x/y", Node::Dir)]));
    assert_eq!(made.hash, encoded_hash(&made.snapshot));
}

#[test]
fn several_diffs_in_one_lie_over_their_base() {
    let base = snapshot([("a", file(1)), ("d/b", file(2))]);
    let between = snapshot([("a", file(3)), ("new/x", file(4)), ("d/b", file(2))]);
    let last = snapshot([("d/b", file(5))]);
    let first = between.diff(&base, Some(encoded_hash(&base)));
    let second = last.diff(&between, Some(encoded_hash(&between)));
    // It deletes "new/x", which the base never had.
    let both = first.then(&second).unwrap();
    assert_eq!(
        composed([layer(base.clone(), None), diff_layer(both.clone())]),
        last
    );
    let without = diff_layer(both.with_parent(None));
    let error = put_together(vec![layer(base, None), without]).unwrap_err();
    assert!(
        matches!(error, LayerError::Diff { layer: 2, .. }),
        "{error}"
    );
}

#[test]
fn a_diff_changes_all_that_lies_below_it() {
    let lower = snapshot([("a", file(1)), ("d/b", file(2))]);
    let changes = [
        (path("a"), Change::DeleteFile),
        (path("s/c"), Change::Put(file(3))),
    ];
    let diff = Diff::new(CHUNK, None, changes).unwrap();
    let diff = Layer::decode(&encode_diff(&diff, Format::V2025_12).unwrap(), None).unwrap();
    let placed = layer(snapshot([("x", file(4))]), Some("s"));
    let made = put_together(vec![layer(lower, None), placed, diff]).unwrap();
    let expected = snapshot([("d/b", file(2)), ("s/c", file(3)), ("s/x", file(4))]);
    assert_eq!(made.hash, encoded_hash(&expected));
    assert_eq!(made.snapshot, expected);
}

proptest! {
    #[test]
    fn the_difference_of_two_trees_over_the_one_is_the_other(old in any_snapshot(), new in any_snapshot()) {
        let diff = diff_layer(new.diff(&old, None));
        prop_assert_eq!(composed([layer(old, None), diff]), new);
    }

    #[test]
    fn any_layer_goes_over_any_other_and_is_shown_whole(lower in any_snapshot(), upper in any_snapshot()) {
        let made = composed([layer(lower.clone(), None), layer(upper.clone(), None)]);
        for (path, node) in upper.entries() {
            prop_assert_eq!(made.get(path), Some(node));
        }
        for (path, node) in made.entries() {
            prop_assert!([&lower, &upper].iter().any(|layer| layer.get(path).as_ref() == Some(&node)));
        }
        for (path, node) in lower.entries() {
            let hides = |above: PathRef<'_>| upper.get(above).is_some_and(|node| !node.is_dir());
            let hidden = upper.get(path).is_some() || path.ancestors().any(hides);
            prop_assert!(hidden || made.get(path) == Some(node));
        }
    }
}

#[test]
fn layers_that_make_no_tree_say_which_and_why() {
    assert!(matches!(put_together(Vec::new()), Err(LayerError::None)));
    let diff = snapshot([("a", file(1))]).diff(&snapshot([]), None);
    let bytes = encode_diff(&diff, Format::V2025_12).unwrap();
    assert!(matches!(
        put_together(vec![diff_layer(diff)]),
        Err(LayerError::LoneDiff)
    ));
    match Layer::decode(&bytes, Some(path("d"))) {
        Err(LayerError::PlacedDiff(at)) => assert_eq!(at, path("d")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Layer::decode(b"{}", None),
        Err(LayerError::Decode(_))
    ));

    let gone = Diff::new(CHUNK, None, [(path("b"), Change::DeleteFile)]).unwrap();
    let layers = vec![layer(snapshot([("a", file(1))]), None), diff_layer(gone)];
    match put_together(layers) {
        Err(LayerError::Diff { layer: 2, source }) => {
            assert_eq!(source.path(), Some(&path("b")));
        }
        other => panic!("{other:?}"),
    }

    let layers = vec![
        layer(snapshot([("cut", file(25))]), None),
        layer(whole_files([("whole", 11)]), None),
    ];
    let error = put_together(layers).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer 2 has a chunk size of the whole file, the layers below it of 10 bytes; mount \
         them apart"
    );

    let long = vec!["d"; 2000].join("/");
    let layers = vec![layer(
        snapshot([(&long, Node::Dir)]),
        Some(
            "a-long-name/below-the-root/that-is-too-much-when-put-before-it/as-it-is-longer-than-what-is-left",
        ),
    )];
    assert!(matches!(
        put_together(layers),
        Err(LayerError::Path { layer: 1, .. })
    ));
}

/// A snapshot of files of these lengths, none of them cut.
fn whole_files<const N: usize>(files: [(&str, u64); N]) -> Snapshot {
    let files = files.map(|(text, size)| {
        let content = Content::Whole(ContentHash::of(text.as_bytes()));
        let (mtime, runnable) = (Mtime(1), false);
        let file = File {
            size,
            mtime,
            runnable,
            content,
        };
        (path(text), Node::File(file))
    });
    Snapshot::new(ChunkSize::WholeFile, None, files).unwrap()
}

#[test]
fn layers_with_different_chunk_sizes_mix_if_no_file_is_cut_differently() {
    let cut = || layer(snapshot([("cut", file(25))]), None);
    let short = || layer(whole_files([("short", 10)]), None);
    let long = || layer(whole_files([("long", 11)]), None);
    for (layers, chunk_size) in [
        (vec![short(), cut()], CHUNK),
        (vec![cut(), short()], CHUNK),
        (
            vec![short(), layer(snapshot([("f", file(3))]), None)],
            ChunkSize::WholeFile,
        ),
        (
            vec![long(), layer(snapshot([("f", file(3))]), None)],
            ChunkSize::WholeFile,
        ),
        (
            vec![layer(snapshot([("f", file(3))]), None), long()],
            ChunkSize::WholeFile,
        ),
    ] {
        let made = put_together(layers.clone()).unwrap().snapshot;
        assert_eq!(made.chunk_size(), chunk_size);
        for layer in layers {
            let Manifest::Snapshot(layer) = layer.manifest else {
                panic!()
            };
            assert!(
                layer
                    .entries()
                    .all(|(path, node)| made.get(path) == Some(node))
            );
        }
    }
    for layers in [vec![long(), cut()], vec![short(), cut(), long()]] {
        let last = layers.len();
        assert!(matches!(
            put_together(layers),
            Err(LayerError::ChunkSize { layer, .. }) if layer == last
        ));
    }
}

/// What a layer of a random stack is.
#[derive(Debug, Clone)]
enum Plan {
    Snapshot(Snapshot, Option<ManifestPath>),
    /// The diff that leads from what there is so far to this.
    To(Snapshot),
    Diff(Diff),
}

fn any_path() -> impl Strategy<Value = ManifestPath> {
    let name = prop::sample::select(vec!["a", "a-b", "b", "\u{e9}"]);
    prop::collection::vec(name, 1..4).prop_map(|names| path(&names.join("/")))
}

fn any_node() -> impl Strategy<Value = Node> {
    prop_oneof![
        3 => Just(Node::Dir),
        3 => (0_u64..15).prop_map(file),
        1 => Just(Node::Symlink(LinkTarget::Root)),
        2 => any_path().prop_map(|target| Node::Symlink(LinkTarget::Below(target))),
    ]
}

fn any_tree() -> impl Strategy<Value = Snapshot> {
    prop::collection::btree_map(any_path(), any_node(), 0..10).prop_map(|all| {
        let is_file = |path: &ManifestPath| all.get(path).is_some_and(|node| !node.is_dir());
        let fits = |path: &ManifestPath| !path.ancestors().any(|above| is_file(&above));
        let entries = all.iter().filter(|(path, _)| fits(path));
        let entries = entries.map(|(path, node)| (path.clone(), node.clone()));
        Snapshot::new(CHUNK, None, entries.collect::<Vec<_>>()).unwrap()
    })
}

fn any_diff() -> impl Strategy<Value = Diff> {
    let change = prop_oneof![
        1 => Just(Change::DeleteDir),
        1 => Just(Change::DeleteFile),
        3 => any_node().prop_map(Change::Put),
    ];
    let changes = prop::collection::vec((any_path(), change), 0..6);
    let diff = changes.prop_filter_map("the changes contradict each other", |changes| {
        Diff::new(CHUNK, None, changes).ok()
    });
    let between = (any_tree(), any_tree()).prop_map(|(old, new)| new.diff(&old, None));
    // The parent is not checked here, but what a diff may do depends on whether it names one.
    let parent = prop::option::of(Just(ContentHash::of(b"parent")));
    (prop_oneof![3 => diff, 1 => between], parent)
        .prop_map(|(diff, parent)| diff.with_parent(parent))
}

fn any_plan() -> impl Strategy<Value = Plan> {
    prop_oneof![
        3 => any_tree().prop_map(|tree| Plan::Snapshot(tree, None)),
        2 => (any_tree(), any_path()).prop_map(|(tree, at)| Plan::Snapshot(tree, Some(at))),
        5 => any_tree().prop_map(Plan::To),
        2 => any_diff().prop_map(Plan::Diff),
    ]
}

/// The layers of a plan. Half of the diffs are as they are read, with the directories that a manifest
/// lists.
fn planned(plans: Vec<(Plan, bool)>) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (plan, is_read) in plans {
        let diff = match plan {
            Plan::Snapshot(tree, at) => {
                let hash = encoded_hash(&tree);
                layers.push(Layer {
                    at,
                    ..Layer::root_snapshot(tree, hash)
                });
                continue;
            }
            Plan::To(tree) => match reference::compose(&layers) {
                Ok(so_far) => tree.diff(&so_far, None),
                Err(_) => continue,
            },
            Plan::Diff(diff) => diff,
        };
        // Not every diff in memory can be read again.
        let read = encode_diff(&diff, Format::V2025_12).unwrap();
        layers.push(match Layer::decode(&read, None) {
            Ok(layer) if is_read => layer,
            _ => diff_layer(diff),
        });
    }
    layers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn a_walk_over_all_layers_gives_what_one_layer_after_another_gives(
        lowest in any_tree(),
        plans in prop::collection::vec((any_plan(), any::<bool>()), 1..7),
    ) {
        let mut stack = vec![(Plan::Snapshot(lowest, None), false)];
        stack.extend(plans);
        let layers = planned(stack);
        let options = LayerOptions { ignore_parent: true, ..LayerOptions::default() };
        match (compose(layers.clone(), &options), reference::compose(&layers)) {
            (Ok(made), Ok(expected)) => prop_assert_eq!(made.snapshot, expected),
            (Err(made), Err(expected)) => prop_assert_eq!(format!("{made:?}"), format!("{expected:?}")),
            (made, expected) => prop_assert!(false, "{:?} is not {:?}", made, expected),
        }
    }
}

/// A diff that puts a file and names this parent.
fn made_from(parent: ContentHash, name: &str, size: u64) -> Layer {
    let changes = [(path(name), Change::Put(file(size)))];
    diff_layer(Diff::new(CHUNK, Some(parent), changes).unwrap())
}

#[test]
fn a_diff_goes_over_what_it_says_it_was_made_from() {
    let base = || layer(snapshot([("a", file(1))]), None);
    let first = || made_from(base().hash, "b", 2);
    let both = || encoded_hash(&composed([base(), first()]));
    let expected = snapshot([("a", file(1)), ("b", file(2)), ("c", file(3))]);
    // Commits name the composed snapshot, other tools the manifest before.
    for parent in [both(), first().hash] {
        let layers = [base(), first(), made_from(parent, "c", 3)];
        assert_eq!(composed(layers), expected);
    }
    let placed = layer(snapshot([("x", file(4))]), Some("s"));
    let whole = encoded_hash(&composed([base(), placed.clone()]));
    composed([base(), placed, made_from(whole, "c", 3)]);
}

#[test]
fn the_parent_may_be_known_by_its_canonical_form() {
    let base = snapshot([("a", file(1))]);
    let mut spaced = encode_snapshot(&base, Format::V2025_12).unwrap();
    spaced.push(b'\n');
    let layers = [
        Layer::decode(&spaced, None).unwrap(),
        made_from(encoded_hash(&base), "b", 2),
    ];
    assert_eq!(composed(layers), snapshot([("a", file(1)), ("b", file(2))]));
}

#[test]
fn a_diff_of_something_else_is_refused_unless_that_is_ignored() {
    let base = layer(snapshot([("a", file(1))]), None);
    let first = made_from(base.hash, "b", 2);
    let whole = encoded_hash(&composed([base.clone(), first.clone()]));
    let sibling = made_from(base.hash, "c", 3);
    let other = ContentHash::of(b"other");
    for (layers, number, said, there) in [
        (
            vec![base.clone(), made_from(other, "b", 2)],
            2,
            other,
            base.hash,
        ),
        (vec![base.clone(), first, sibling], 3, base.hash, whole),
    ] {
        match put_together(layers.clone()) {
            Err(LayerError::Parent {
                layer,
                expected,
                found,
            }) => assert_eq!((layer, expected, found), (number, said, there)),
            other => panic!("{other:?}"),
        }
        let ignoring = LayerOptions {
            ignore_parent: true,
            ..LayerOptions::default()
        };
        let made = compose(layers.clone(), &ignoring).unwrap().snapshot;
        assert_eq!(made, reference::compose(&layers).unwrap());
    }
}

/// The layer of an absolute manifest.
fn absolute(manifest: &Manifest) -> Layer {
    let bytes = attachfs_manifest::wire::encode(manifest, Format::V2025_12Absolute).unwrap();
    Layer::decode(&bytes, None).unwrap()
}

fn absolute_snapshot<const N: usize>(entries: [(&str, Node); N]) -> Layer {
    absolute(&Manifest::Snapshot(snapshot(entries)))
}

fn below(root: &str) -> LayerOptions {
    LayerOptions {
        root: Some(root.parse().unwrap()),
        ..LayerOptions::default()
    }
}

#[test]
fn absolute_layers_are_put_together_before_one_directory_of_them_is_shown() {
    let base = absolute_snapshot([("proj/a", file(1)), ("proj/d/l", link("proj/a"))]);
    let changes = [
        (path("proj/a"), Change::Put(file(2))),
        (path("proj/d/l"), Change::DeleteFile),
    ];
    let diff = Diff::new(CHUNK, Some(base.hash), changes).unwrap();
    let diff = absolute(&Manifest::Diff(diff));
    let shown = compose(vec![base.clone()], &below("/proj/")).unwrap();
    let expected = snapshot([("a", file(1)), ("d/l", link("a"))]);
    assert_eq!(shown.hash, encoded_hash(&expected));
    assert_eq!(shown.snapshot, expected);
    let changed = compose(vec![base.clone(), diff.clone()], &below("/proj")).unwrap();
    let expected = snapshot([("a", file(2)), ("d", Node::Dir)]);
    assert_eq!(changed.snapshot, expected);
    let whole = compose(vec![base.clone()], &below("/")).unwrap().snapshot;
    assert_eq!(
        whole,
        snapshot([("proj/a", file(1)), ("proj/d/l", link("proj/a"))])
    );

    // A commit of what is shown is a relative diff of it.
    let commit = made_from(changed.hash, "new", 3);
    let layers = vec![base.clone(), diff, commit.clone()];
    let made = compose(layers, &below("/proj")).unwrap().snapshot;
    let expected = snapshot([("a", file(2)), ("d", Node::Dir), ("new", file(3))]);
    assert_eq!(made, expected);
    let layers = vec![base.clone(), commit];
    match compose(layers, &below("/proj")) {
        Err(LayerError::Parent { layer, found, .. }) => assert_eq!((layer, found), (2, shown.hash)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn absolute_layers_over_relative_ones_are_refused() {
    let base = || absolute_snapshot([("proj/x/a", file(1)), ("proj/x/b/c", file(2))]);
    let relative = || layer(snapshot([("a", file(1))]), None);
    match put_together(vec![base(), relative()]) {
        Err(LayerError::Root(error @ RootError::Missing(_))) => {
            assert!(
                error.to_string().ends_with("with `--root /proj/x`"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    let options = below("/proj/x");
    assert!(matches!(
        compose(vec![relative()], &options),
        Err(LayerError::Root(RootError::Relative))
    ));
    assert!(matches!(
        compose(vec![relative(), base()], &options),
        Err(LayerError::AbsoluteOverRelative(2))
    ));
    let bytes = encode_snapshot(&snapshot([("a", file(1))]), Format::V2025_12Absolute).unwrap();
    assert!(matches!(
        Layer::decode(&bytes, Some(path("d"))),
        Err(LayerError::PlacedAbsolute(at)) if at == path("d")
    ));
}
