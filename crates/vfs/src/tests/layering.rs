//! Manifests that are added to a file system in use.

use attachfs_manifest::{Change, ChunkSize, Content, Diff, File, Mtime, Node};

use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, path, tempdir};
use crate::{FsErrorKind, Invalidation};

fn world() -> World {
    World::new(&[
        ("d/kept", Given::File(bytes(100))),
        ("d/other", Given::File(bytes(200))),
        ("d/written", Given::File(bytes(300))),
        ("gone", Given::File(bytes(400))),
    ])
}

/// A file whose bytes are those of `d/kept`, which the store has.
fn file(world: &World) -> Node {
    let kept = ["d", "kept"]
        .iter()
        .fold(attachfs_tree::Ino::ROOT, |dir, name| {
            world.tree.child(dir, name.as_bytes()).unwrap()
        });
    Node::File(File {
        size: 100,
        mtime: Mtime(7_000_000),
        runnable: false,
        content: world.tree.content(kept).unwrap(),
    })
}

fn diff(world: &World, chunk_size: ChunkSize) -> Diff {
    let put = |at: &str, node: Node| (path(at), Change::Put(node));
    let changes = [
        put("d/other", file(world)),
        put("d/written", file(world)),
        put("new", Node::Dir),
        put("new/file", file(world)),
        (path("gone"), Change::DeleteFile),
    ];
    Diff::new(chunk_size, None, changes).unwrap()
}

fn assert_laid(kernel: &Kernel) {
    let old = bytes(100);
    assert_eq!(kernel.cat("new/file"), old);
    assert_eq!(kernel.cat("d/other"), old);
    assert_eq!(kernel.stat("gone"), Err(FsErrorKind::NotFound));
    let written = [b"job".as_slice(), &bytes(300)[3..]].concat();
    assert_eq!(kernel.cat("d/written"), written, "what the job wrote stays");
}

#[test]
fn a_layer_that_is_added_shows_at_once_and_after_a_kill_and_renumbers_nothing() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("d/written", 0, b"job");
    let told = kernel.attach();
    let before = ["d", "d/kept", "d/written"].map(|at| kernel.stat(at).unwrap().ino);
    let reader = kernel.open("d/other", READ, false).unwrap();
    kernel
        .vfs
        .add_layer(&diff(&world, world.tree.chunk_size()))
        .unwrap();
    assert_laid(&kernel);
    let after = ["d", "d/kept", "d/written"].map(|at| kernel.stat(at).unwrap().ino);
    assert_eq!(before, after);
    assert_eq!(
        kernel.read(reader, 0, 200).unwrap(),
        bytes(200),
        "who has it open goes on"
    );
    let mut names: Vec<_> = Kernel::told(&told)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names, ["gone", "new", "other"]);
    kernel.patch("new/file", 0, b"2");
    let shown = kernel.dump();
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), shown);
    assert_eq!(recovered.stat("d/written").unwrap().ino, before[2]);
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Windows replaces a file that is open, Wine does not"
)]
fn a_compacted_journal_still_knows_its_layers() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("d/written", 0, b"job");
    kernel
        .vfs
        .add_layer(&diff(&world, world.tree.chunk_size()))
        .unwrap();
    kernel.vfs.writable().unwrap().disk.compact().unwrap();
    let handle = kernel.open("new/file", READ_WRITE, false).unwrap();
    kernel.close(handle);
    drop(kernel);
    let recovered = world.recover(dir.path()).unwrap();
    assert_laid(&recovered);
    assert_eq!(recovered.vfs.layers().unwrap().len(), 1);
}

#[test]
fn a_layer_that_was_altered_is_an_error_that_names_its_file() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel
        .vfs
        .add_layer(&diff(&world, world.tree.chunk_size()))
        .unwrap();
    drop(kernel);
    let file = dir.path().join("layers/1");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.push(b' ');
    std::fs::write(&file, bytes).unwrap();
    let error = world.recover(dir.path()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause
            .replace('\\', "/")
            .contains("layers/1 has been altered"),
        "{error}: {cause}"
    );
}

#[test]
fn a_layer_that_cannot_be_laid_over_the_base_changes_nothing() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let shown = kernel.dump();
    kernel
        .vfs
        .add_layer(&diff(&world, ChunkSize::WholeFile))
        .unwrap_err();
    assert_eq!(kernel.dump(), shown);
    let layers = std::fs::read_dir(dir.path().join("layers")).unwrap();
    assert_eq!(layers.count(), 0);
}

#[test]
fn an_unhashed_file_in_a_layer_is_refused() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let unhashed = Node::File(File {
        size: 1,
        mtime: Mtime(0),
        runnable: false,
        content: Content::Unhashed,
    });
    let changes = [(path("x"), Change::Put(unhashed))];
    let diff = Diff::new(world.tree.chunk_size(), None, changes).unwrap();
    let error = kernel.vfs.add_layer(&diff).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Invalid);
}

/// What the base would be with these changes, laid over it.
fn lay(world: &World, kernel: &Kernel, changes: Vec<(attachfs_manifest::ManifestPath, Change)>) {
    let diff = Diff::new(world.tree.chunk_size(), None, changes).unwrap();
    kernel.vfs.add_layer(&diff).unwrap();
}

#[test]
fn a_layer_that_only_deletes_in_a_directory_numbers_its_files_alike_after_a_kill() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let put = |at: &str| (path(at), Change::Put(file(&world)));
    let deleted = (path("d/other"), Change::DeleteFile);
    lay(&world, &kernel, vec![deleted, put("e"), put("f"), put("g")]);
    kernel.patch("f", 0, b"job");
    let shown = kernel.dump();
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), shown);
}

#[test]
fn an_input_that_a_layer_deleted_can_be_written_by_who_has_it_open_and_goes_with_them() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let reader = kernel.open("gone", READ, false).unwrap();
    let ino = kernel.stat("gone").unwrap().ino;
    lay(&world, &kernel, vec![(path("gone"), Change::DeleteFile)]);
    // As through /proc/self/fd.
    let writer = kernel.vfs.open(ino, READ_WRITE, false).unwrap().handle;
    assert_eq!(kernel.write(writer, 0, b"late"), Ok(4));
    assert_eq!(kernel.read(reader, 0, 4).unwrap(), b"late");
    kernel.close(writer);
    kernel.close(reader);
    kernel.vfs.seal().unwrap();
    let shown = kernel.dump();
    drop(kernel);
    let recovered = world.recover(dir.path()).unwrap();
    assert_eq!(recovered.dump(), shown);
}

#[test]
fn a_layer_is_added_when_the_kernel_has_dropped_the_old_names() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let sent = kernel.attach_silently();
    let layer = diff(&world, world.tree.chunk_size());
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| kernel.vfs.add_layer(&layer).unwrap());
        let (mut names, mut acknowledgement) = (Vec::new(), None);
        let mut listings = Vec::new();
        // Each name and listing twice: at once, and when listings from before have arrived.
        while names.len() < 8 || listings.len() < 2 {
            match sent.recv().unwrap() {
                Invalidation::Answer(asked) => {
                    assert_eq!(names.len(), 4, "the first are before the question");
                    acknowledgement = Some(asked);
                }
                Invalidation::Name { name, .. } => names.push(name.to_string()),
                Invalidation::Listing { dir, after } => listings.push((dir, after)),
                other @ (Invalidation::Pages { .. } | Invalidation::Attributes { .. }) => {
                    panic!("{other:?}")
                }
            }
        }
        assert!(!adding.is_finished());
        acknowledgement.unwrap().done();
    });
}
