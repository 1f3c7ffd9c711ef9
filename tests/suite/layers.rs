//! Manifests over one another: what is mounted, and what is refused with a way out.

use std::fs;
use std::path::{Path, PathBuf};

use attachfs_manifest::wire::{Format, Manifest, decode, encode, encode_snapshot};
use attachfs_manifest::{Content, LinkTarget, ManifestPath, Node, Snapshot};
use serde_json::json;

use crate::machine::{Machine, args};
use crate::process::{Said, said};
use crate::tree::{Detail, Tree};

/// Exit codes of the program.
const USAGE: i32 = 2;
const INTEGRITY: i32 = 12;

/// A folder whose objects are in the store, and its manifest.
fn scene(machine: &Machine) -> (PathBuf, PathBuf) {
    machine.file("scene/a", "a file");
    machine.file("scene/d/b", vec![7; 2 << 20]);
    std::os::unix::fs::symlink("d/b", machine.path("scene/l")).unwrap();
    let scene = machine.path("scene");
    let manifest = machine.snapshot(&scene, "scene.manifest");
    (scene, manifest)
}

fn read(manifest: &Path) -> Snapshot {
    match decode(&fs::read(manifest).unwrap()).unwrap().1 {
        Manifest::Snapshot(snapshot) => snapshot,
        Manifest::Diff(_) => panic!("{} is a diff", manifest.display()),
    }
}

/// The manifest as one of absolute paths, the folder being `at`.
fn made_absolute(manifest: &Path, at: &str) -> PathBuf {
    let snapshot = read(manifest);
    let at = ManifestPath::new(at.as_bytes()).unwrap();
    let below = |path: &ManifestPath| path.below(&at).unwrap();
    let entries = snapshot.entries().map(|(path, node)| {
        let node = match node {
            Node::Symlink(LinkTarget::Below(target)) => {
                Node::Symlink(LinkTarget::Below(below(&target)))
            }
            node => node,
        };
        (below(&path.to_owned()), node)
    });
    let absolute = Snapshot::new(snapshot.chunk_size(), None, entries).unwrap();
    let path = manifest.with_extension("absolute");
    fs::write(
        &path,
        encode_snapshot(&absolute, Format::V2025_12Absolute).unwrap(),
    )
    .unwrap();
    path
}

/// What `mount` says where it mounts nothing.
fn refused(machine: &Machine, arguments: &[&Path], code: i32) -> Said {
    let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
    let said = said(&mut machine.mounting(arguments, "refused")).with_code(code);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    said
}

#[test]
fn a_directory_of_an_absolute_manifest_is_mounted_as_the_root() {
    Machine::mounting_from_directory(|machine| {
        let (scene, manifest) = scene(machine);
        let absolute = made_absolute(&manifest, "projects/it's/scene");
        refused(machine, &[&absolute], USAGE)
            .saying("the manifest has absolute paths")
            .saying("--root '/projects/it'\\''s/scene'");
        let root = |root: &'static str| Path::new(root);
        let (flag, elsewhere) = (root("--root"), root("/projects/other"));
        refused(machine, &[flag, elsewhere, &absolute], USAGE)
            .saying("there is no directory /projects/other in the manifest");
        let at_file = root("/projects/it's/scene/d");
        refused(machine, &[flag, at_file, &absolute], USAGE)
            .saying("lie outside of /projects/it's/scene/d, the first is /projects/it's/scene/a")
            .saying("attachfs manifest subtree");
        refused(machine, &[flag, at_file, &manifest], USAGE).saying("this one has relative ones");

        let at = root("/projects/it's/scene");
        let mount = machine.mount(args![flag, at, &absolute], "mnt");
        assert_eq!(
            Tree::read(&mount.dir, Detail::Committed),
            Tree::read(&scene, Detail::Committed)
        );
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.session]);
        // The session knows its root.
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"a file");
        let commit = machine.json(args!["commit", &mount.session]);
        let diff = commit["manifest"]["address"].as_str().unwrap();
        let both = machine.mount(args![flag, at, &absolute, diff], "both");
        assert_eq!(
            Tree::read(&both.dir, Detail::Committed),
            Tree::read(&mount.dir, Detail::Committed)
        );

        let whole = machine.mount(args![flag, "/", &absolute], "whole");
        let below = whole.dir.join("projects/it's/scene");
        assert_eq!(
            Tree::read(&below, Detail::Committed),
            Tree::read(&scene, Detail::Committed)
        );
    });
}

#[test]
fn an_absolute_manifest_is_looked_at_below_its_root() {
    Machine::mounting_from_directory(|machine| {
        let (_, manifest) = scene(machine);
        let absolute = made_absolute(&manifest, "C:/scene");
        let (ls, cat) = (args!["ls"], args!["cat", "--store", machine.store()]);
        for verb in [&ls[..], &cat] {
            machine
                .says([verb, &args![&absolute, "a"]].concat())
                .with_code(USAGE)
                .saying("--root C:/scene");
            machine
                .says([verb, &args!["--root", "/scene", &manifest, "a"]].concat())
                .with_code(USAGE)
                .saying("relative");
        }
        let listed = machine.ok(args!["ls", "--root", "C:/scene/", &absolute]);
        assert_eq!(listed.out, "a\nd/\nl\n");
        let listed = machine.ok(args!["ls", "-R", "--root", "/", &absolute, "C:/scene/d"]);
        assert_eq!(listed.out, "C:/scene/d/b\n");
        let root = args![
            "cat",
            "--store",
            machine.store(),
            "--root",
            "C:/scene",
            &absolute,
            "a"
        ];
        assert_eq!(machine.ok(root).out, "a file");
        let ran = machine.ok(args![
            "run",
            "--store",
            machine.store(),
            "--manifest",
            &absolute,
            "--root",
            "C:/scene",
            "--",
            "cat",
            "a"
        ]);
        assert_eq!(ran.out, "a file");
    });
}

#[test]
fn a_diff_goes_only_over_what_it_was_made_from_unless_that_is_ignored() {
    Machine::mounting_from_directory(|machine| {
        let (_, manifest) = scene(machine);
        let mut diffs = Vec::new();
        for name in ["one", "two"] {
            let mount = machine.mount(args![&manifest], name);
            fs::write(mount.dir.join(name), name).unwrap();
            let commit = machine.json(args!["commit", &mount.session]);
            diffs.push(PathBuf::from(
                commit["manifest"]["address"].as_str().unwrap(),
            ));
            machine.ok(args!["umount", &mount.session]);
        }
        let [one, two] = &diffs[..] else { panic!() };
        refused(machine, &[&manifest, one, two], INTEGRITY)
            .saying("layer 3, a diff, was made from a manifest with the hash")
            .saying("--ignore-parent");
        let ignore = "--ignore-parent";
        let mount = machine.mount(args![ignore, &manifest, one, two], "both");
        let names = ["one", "two"].map(|name| fs::read_to_string(mount.dir.join(name)).unwrap());
        assert_eq!(names, ["one", "two"]);
        fs::write(mount.dir.join("three"), "three").unwrap();
        machine.ok(args!["umount", &mount.session]);

        let with_flag = args![
            "mount",
            "--session",
            &mount.session_dir,
            ignore,
            machine.dir("more")
        ];
        machine
            .says(with_flag)
            .with_code(USAGE)
            .saying("it began with");

        // The session knows that it is ignored, mounted and not.
        machine.ok(args!["diff", &mount.session]).printing("three");
        let again = machine.resume(&mount.session_dir, &machine.dir("again"));
        fs::write(again.dir.join("four"), "four").unwrap();
        let commit = machine.json(args!["commit", &again.session]);
        assert_eq!(commit["account"]["added"], json!(2));

        let store = machine.store();
        let run = args![
            "run",
            "--store",
            &store,
            "--manifest",
            &manifest,
            "--manifest",
            one,
            "--manifest",
            two
        ];
        let then = args!["--", "cat", "one", "two"];
        machine
            .says([&run[..], &then].concat())
            .with_code(125)
            .saying(ignore);
        let ran = machine.ok([&run[..], &args![ignore], &then].concat());
        assert_eq!(ran.out, "onetwo");
    });
}

#[test]
fn a_manifest_with_files_that_have_no_hash_is_refused_with_the_way_to_hash_them() {
    Machine::with_directory(|machine| {
        let (_, manifest) = scene(machine);
        let whole = read(&manifest);
        for (names, expected) in [
            (vec!["a"], "the file \"a\" has no hash"),
            (vec!["a", "d/b"], "\"a\" and 1 more files have no hash"),
        ] {
            let entries = whole.entries().map(|(path, node)| {
                let node = match node {
                    Node::File(mut file) if names.contains(&path.to_string().as_str()) => {
                        file.content = Content::Unhashed;
                        Node::File(file)
                    }
                    node => node,
                };
                (path.to_owned(), node)
            });
            let unhashed = Snapshot::new(whole.chunk_size(), None, entries).unwrap();
            let bytes = encode(&Manifest::Snapshot(unhashed), Format::V2025_12).unwrap();
            let path = machine.file("unhashed.manifest", bytes);
            refused(machine, &[&path], USAGE)
                .saying(expected)
                .saying("`attachfs manifest hash`");
        }
    });
}
