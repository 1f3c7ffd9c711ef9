//! `attachfs download`, as its users run it: interrupted anywhere, into folders that somebody else works in, onto disks that are full.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use attachfs_test_s3::{Mishap, Request, Rule};
use rustix::process::Signal;
use serde_json::json;

use crate::golden::set_mtime;
use crate::machine::{Machine, args, on_both_stores, skipped, until};
use crate::process::{Running, said};
use crate::tree::{Detail, Tree};

on_both_stores![
    a_folder_comes_back_as_it_was,
    what_is_there_already_is_not_fetched_again,
    what_differs_is_copied_left_or_replaced,
    a_damaged_object_fails_its_file_and_the_rest_is_placed,
];

/// Of all files, in nanoseconds.
const TIME: i64 = 1_700_000_000_123_456_789;

/// How the names begin of files that are still being filled.
const STAGED: &str = ".attachfs-";

/// A folder with everything that a manifest can hold, and long files.
fn scene(machine: &Machine, name: &str) -> PathBuf {
    let root = machine.dir(name);
    machine.dir(root.join("empty/inner"));
    for at in 0..40_u32 {
        let len = 1000 * at as usize;
        machine.file(
            root.join(format!("many/{}/{at}", at % 3)),
            vec![at as u8; len],
        );
    }
    let long: Vec<u8> = (0..5_000_001_u32).map(|i| (i / 13) as u8).collect();
    machine.file(root.join("long.exr"), &long);
    let run = machine.file(root.join("bin/run.sh"), "run");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../long.exr", root.join("bin/up")).unwrap();
    symlink("run.sh", root.join("bin/in")).unwrap();
    for file in tree(&root).files() {
        set_mtime(&root.join(file), TIME);
    }
    root
}

/// The objects of the scene: 40 small files, the one that runs, and the long one in five pieces.
const OBJECTS: usize = 46;

fn tree(root: &Path) -> Tree {
    Tree::read(root, Detail::Committed)
}

fn same(one: &Path, other: &Path) {
    tree(one).assert_is(&tree(other));
}

/// What a download has placed so far; nothing that it is still filling.
fn placed(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        // What is being filled may go while it is looked at.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() && !name.as_bytes().starts_with(STAGED.as_bytes()) => {
                    found.insert(entry.path().strip_prefix(root).unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    found
}

/// The arguments of a download from the machine's store.
fn into(machine: &Machine, manifest: &Path, root: &Path) -> Vec<std::ffi::OsString> {
    args![
        "download",
        manifest,
        "--root",
        root,
        "--store",
        machine.store()
    ]
    .into()
}

fn with(mut arguments: Vec<std::ffi::OsString>, more: &[&str]) -> Vec<std::ffi::OsString> {
    arguments.extend(more.iter().map(Into::into));
    arguments
}

fn a_folder_comes_back_as_it_was(machine: &Machine) {
    let scene = scene(machine, "scene");
    let manifest = machine.snapshot(&scene, "scene.manifest");
    let root = machine.path("new/root");
    let said = machine.json(into(machine, &manifest, &root));
    same(&root, &scene);
    assert_eq!(said["total_files"], 44, "42 files and 2 links");
    assert_eq!(said["processed_files"], 44);
    assert_eq!(said["errors"], json!([]));
    assert_eq!(said["roots"][0]["summary"]["processed_files"], 44);
    machine
        .ok(into(machine, &manifest, &root))
        .printing("skipped    44 files");
    let synced = machine.path("synced");
    machine.ok(with(into(machine, &manifest, &synced), &["--sync"]));
    same(&synced, &scene);
}

/// Starts a download, lets it have the first few objects, and gives it when it has placed some of them and waits for the
/// others.
fn held(machine: &Machine, manifest: &Path, root: &Path) -> Running {
    const FIRST: usize = 8;
    let server = machine.server();
    let (asked, before) = (fetched(machine, 0).len(), placed(root).len());
    let hold = Rule::on("GET", Mishap::Hold).of("/Data/").after(FIRST);
    server.add(hold);
    let download = machine.start(machine.attachfs(into(machine, manifest, root)));
    server.wait_for("it waits for objects", |requests| {
        requests.iter().filter(|of| is_fetch(of)).count() > asked + FIRST
    });
    // At most five of them are pieces of one file.
    until("some files are placed", || placed(root).len() > before + 2);
    download
}

fn is_fetch(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/Data/")
}

/// The objects that were asked for since the first `before` requests for objects.
fn fetched(machine: &Machine, before: usize) -> Vec<String> {
    let requests = machine.server().requests();
    let fetches = requests.iter().filter(|of| is_fetch(of)).skip(before);
    fetches.map(|of| of.path.clone()).collect()
}

/// The objects of a file of the scene.
fn objects_of(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    let pieces = bytes.chunks(1 << 20);
    let hash = |piece| attachfs_manifest::ContentHash::of(piece).to_string();
    pieces.map(hash).collect()
}

#[test]
fn a_download_that_is_killed_again_and_again_ends_with_every_file() {
    Machine::with_s3(|machine| {
        let scene = scene(machine, "scene");
        let whole = tree(&scene);
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let root = machine.path("root");
        let mut rounds = 0;
        loop {
            let finished = placed(&root);
            let asked = fetched(machine, 0).len();
            // Each round finishes up to ten files: so many are left that the next one is held too.
            let is_last = rounds == 3;
            if is_last {
                machine.ok(into(machine, &manifest, &root));
            } else {
                let mut download = held(machine, &manifest, &root);
                assert!(download.is_running());
                download.signal(Signal::KILL);
                download.wait().with_code(137);
                machine.server().heal();
                tree(&root).without(STAGED).assert_is_part_of(&whole);
            }
            let again = fetched(machine, asked);
            for file in finished {
                for object in objects_of(&scene.join(&file)) {
                    let again = again.iter().filter(|path| path.contains(&object));
                    assert_eq!(again.count(), 0, "{} is fetched again", file.display());
                }
            }
            if is_last {
                break;
            }
            rounds += 1;
        }
        same(&root, &scene);
    });
}

#[test]
fn a_cancelled_download_says_how_far_it_came_and_is_finished_by_the_next() {
    Machine::with_s3(|machine| {
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let root = machine.path("root");
        let download = held(machine, &manifest, &root);
        download.signal(Signal::INT);
        let said = download.wait().with_code(15);
        machine.server().heal();
        let files = placed(&root).len();
        said.saying("cancelled")
            .printing(&format!("fetched    {files} files, "))
            .printing("of         44 files, ");
        let there = tree(&root).without(STAGED);
        there.assert_is_part_of(&tree(&scene));
        let said = machine.json(into(machine, &manifest, &root));
        assert_eq!(said["skipped_files"], files);
        same(&root, &scene);
    });
}

#[test]
fn what_a_mount_has_fetched_is_not_fetched_again_by_a_download() {
    Machine::mounting_from_s3(|machine| {
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot_in_pieces(&scene, "scene.manifest", 8 << 20);
        let mount = machine.mount(args![&manifest], "mnt");
        tree(&mount.dir).assert_is(&tree(&scene));
        machine.ok(args!["umount", &mount.session]);
        let before = fetched(machine, 0).len();
        let root = machine.path("root");
        let said = machine.json(into(machine, &manifest, &root));
        assert_eq!(said["processed_files"], 44);
        assert_eq!(fetched(machine, before), [""; 0]);
        same(&root, &scene);
    });
}

#[test]
fn many_files_are_transferred_with_a_low_limit_of_open_files() {
    Machine::with_s3(|machine| {
        let scene = machine.dir("scene");
        for number in 0..600 {
            machine.file(scene.join(number.to_string()), format!("file {number}"));
        }
        let limited = |arguments: &[std::ffi::OsString]| {
            let program = machine.attachfs(arguments);
            let mut command = machine.command("sh");
            command
                .args(["-c", "ulimit -Sn 128 && exec \"$@\"", "sh"])
                .arg(program.get_program())
                .args(program.get_args());
            said(&mut command).with_code(0);
        };
        let (manifest, root) = (machine.path("manifest"), machine.path("root"));
        let store = machine.store();
        limited(&args![
            "snapshot", &scene, "-o", &manifest, "--store", store
        ]);
        limited(&into(machine, &manifest, &root));
        same(&root, &scene);
    });
}

#[test]
fn manifests_of_two_stores_want_to_know_where_the_objects_are() {
    Machine::with_directory(|machine| {
        let one = "s3://one/prefix/Manifests/a";
        let two = "s3://two/prefix/Manifests/b";
        let root = machine.path("root");
        for verb in [
            args!["download", one, two, "--root", &root].to_vec(),
            args!["mount", one, two, machine.dir("mnt")].to_vec(),
        ] {
            let said = machine.says(verb).with_code(2);
            said.saying("s3://one/prefix and s3://two/prefix")
                .saying("--store");
        }
        assert!(!root.exists());
    });
}

#[test]
fn no_store_is_made_to_read_from_it() {
    Machine::with_directory(|machine| {
        let manifest = machine.snapshot(&scene(machine, "scene"), "scene.manifest");
        let root = machine.path("root");
        for verb in [
            args!["download", &manifest, "--root", &root].to_vec(),
            args!["mount", &manifest, machine.dir("mnt")].to_vec(),
            args!["cat", &manifest, "bin/run.sh"].to_vec(),
        ] {
            machine.says(verb).with_code(2).saying("--store");
        }
        assert!(!root.exists() && !machine.path("data").exists());
    });
}

fn what_is_there_already_is_not_fetched_again(machine: &Machine) {
    let scene = scene(machine, "scene");
    let manifest = machine.snapshot(&scene, "scene.manifest");
    let root = machine.path("root");
    machine.ok(into(machine, &manifest, &root));
    fs::remove_dir_all(machine.store_files().join("Data")).unwrap();
    let said = machine.json(into(machine, &manifest, &root));
    assert_eq!(
        (&said["processed_files"], &said["skipped_files"]),
        (&json!(0), &json!(44))
    );
    fs::remove_file(root.join("bin/run.sh")).unwrap();
    let said = machine.says(into(machine, &manifest, &root)).with_code(13);
    said.printing("failed     bin/run.sh: ");
}

fn what_differs_is_copied_left_or_replaced(machine: &Machine) {
    let scene = scene(machine, "scene");
    let manifest = machine.snapshot(&scene, "scene.manifest");
    let root = machine.path("root");
    machine.ok(into(machine, &manifest, &root));
    let mine = root.join("bin/run.sh");
    fs::write(&mine, "mine").unwrap();
    let down = |more: &[&str]| machine.ok(with(into(machine, &manifest, &root), more));
    let left = down(&["--conflict", "skip"]);
    left.printing("skipped    44 files")
        .printing("left       bin/run.sh: there is another file in its place\n");
    let copied = down(&[]);
    copied
        .printing("fetched    1 file")
        .printing("copied     bin/run.sh: run (1).sh\n");
    down(&[]).printing("fetched    0 files");
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert_eq!(
        fs::read_to_string(root.join("bin/run (1).sh")).unwrap(),
        "run"
    );
    down(&["--conflict", "overwrite"]).printing("fetched    1 file");
    fs::remove_file(root.join("bin/run (1).sh")).unwrap();
    same(&root, &scene);
}

fn a_damaged_object_fails_its_file_and_the_rest_is_placed(machine: &Machine) {
    let scene = scene(machine, "scene");
    let manifest = machine.snapshot(&scene, "scene.manifest");
    let hash = attachfs_manifest::ContentHash::of(b"run").to_string();
    fs::write(machine.object(&hash), "ruN").unwrap();
    let root = machine.path("root");
    let said = machine.says(into(machine, &manifest, &root)).with_code(13);
    let said = said.printing("failed     bin/run.sh: ").printing(&hash);
    said.printing(&attachfs_manifest::ContentHash::of(b"ruN").to_string());
    assert!(!root.join("bin/run.sh").exists());
    fs::write(machine.object(&hash), "run").unwrap();
    machine.ok(into(machine, &manifest, &root));
    same(&root, &scene);
}

#[test]
fn a_file_that_breaks_off_is_not_placed_half() {
    Machine::with_s3(|machine| {
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let broken = Rule::on("GET", Mishap::Break { after: 500 });
        // One of them breaks off whenever it is asked for.
        let piece = &objects_of(&scene.join("long.exr"))[2];
        machine.server().add(broken.clone().of(piece));
        let root = machine.path("root");
        let said = machine.says(into(machine, &manifest, &root)).with_code(13);
        said.printing("failed     long.exr: ")
            .printing("fetched    43 files");
        assert!(
            fetched(machine, 0).len() > OBJECTS,
            "it was asked for again"
        );
        let there = tree(&root).without(STAGED);
        assert!(!there.files().contains(Path::new("long.exr")));
        there.assert_is_part_of(&tree(&scene));
        machine.server().heal();
        machine.ok(into(machine, &manifest, &root));
        same(&root, &scene);
        // Ten times, and then no more: what broke off is asked for again, and nothing fails. Two of the objects are so short that
        // they are whole by then.
        let before = fetched(machine, 0).len();
        machine.server().add(broken.of("/Data/").times(10));
        let other = machine.path("other");
        machine.ok(into(machine, &manifest, &other));
        let again = fetched(machine, before).len() - OBJECTS;
        assert!((8..=10).contains(&again), "{again} were asked for again");
        same(&other, &scene);
    });
}

#[test]
fn a_diff_brings_a_folder_up_to_date() {
    Machine::with_directory(|machine| {
        let scene = scene(machine, "scene");
        let base = machine.snapshot(&scene, "base.manifest");
        let root = machine.path("root");
        machine.ok(into(machine, &base, &root));
        fs::remove_dir_all(scene.join("many/1")).unwrap();
        set_mtime(&machine.file(scene.join("long.exr"), "short"), TIME);
        set_mtime(&machine.file(scene.join("added/new"), "new"), TIME);
        let now = machine.snapshot(&scene, "now.manifest");
        let diff = machine.path("diff.manifest");
        machine.ok(args!["manifest", "diff", &base, &now, "-o", &diff]);
        fs::write(root.join("many/1/mine"), "mine").unwrap();
        let overwrite = &["--conflict", "overwrite"];
        let said = machine.ok(with(into(machine, &diff, &root), overwrite));
        said.printing("left       many/1: ")
            .printing("deleted    13 paths");
        fs::remove_dir_all(root.join("many/1")).unwrap();
        same(&root, &scene);
        let layered = machine.path("layered");
        let arguments = args![
            "download",
            &base,
            &diff,
            "--root",
            &layered,
            "--store",
            machine.store()
        ];
        machine.ok(arguments);
        same(&layered, &scene);
    });
}

#[test]
fn several_folders_are_told_one_by_one_and_together() {
    Machine::with_directory(|machine| {
        let (one, two) = (machine.dir("one"), machine.dir("two"));
        machine.file("one/a.exr", "a");
        machine.file("one/a.png", "a png");
        machine.file("two/d/b.exr", "b");
        let maps: Vec<_> = [&one, &two]
            .into_iter()
            .map(|folder| {
                let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
                let manifest = machine.snapshot(folder, format!("{name}.manifest"));
                format!(
                    "{}={}",
                    manifest.display(),
                    machine.path(format!("to-{name}")).display()
                )
            })
            .collect();
        let said = machine.json(args![
            "download",
            "--map",
            &maps[0],
            "--map",
            &maps[1],
            "--include",
            "*.exr",
            "--store",
            machine.store(),
        ]);
        assert_eq!(said["total_files"], 2);
        let files = |at: usize| said["roots"][at]["summary"]["total_files"].clone();
        assert_eq!((files(0), files(1)), (json!(1), json!(1)));
        assert!(machine.path("to-one/a.exr").exists() && machine.path("to-two/d/b.exr").exists());
        assert!(!machine.path("to-one/a.png").exists());
    });
}

#[test]
fn a_folder_whose_name_is_no_text_is_filled_and_told() {
    Machine::with_directory(|machine| {
        machine.file("scene/a", "a");
        let manifest = machine.snapshot(&machine.path("scene"), "scene.manifest");
        let root = machine.path(OsStr::from_bytes(b"r\xffoot"));
        let said = machine.json(into(machine, &manifest, &root));
        let told = said["roots"][0]["root"].as_str().unwrap();
        assert!(told.ends_with("/r\\xffoot"), "{told}");
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "a");
    });
}

#[test]
fn patterns_are_held_against_the_place_where_files_are_however_the_folder_is_spelled() {
    Machine::with_directory(|machine| {
        for name in ["a.exr", "b.exr"] {
            machine.file(format!("scene/{name}"), name);
        }
        let manifest = machine.snapshot(&machine.path("scene"), "scene.manifest");
        machine.dir("real/work");
        symlink("real", machine.path("link")).unwrap();
        let real = machine.path("real").canonicalize().unwrap();
        for (at, root) in ["../one", "../../link/two"].into_iter().enumerate() {
            let folder = real.join(["one", "two"][at]);
            let chosen = format!("{}/a*", folder.display());
            let arguments = with(
                into(machine, &manifest, Path::new(root)),
                &["--include", &chosen],
            );
            let mut command = machine.attachfs(arguments);
            command.current_dir(machine.path("real/work"));
            crate::process::said(&mut command).with_code(0);
            assert!(folder.join("a.exr").exists() && !folder.join("b.exr").exists());
        }
    });
}

#[test]
fn a_file_makes_way_for_a_directory_in_which_the_patterns_choose_something() {
    Machine::with_directory(|machine| {
        machine.file("scene/f", "f");
        let base = machine.snapshot(&machine.path("scene"), "base.manifest");
        let root = machine.path("root");
        machine.ok(into(machine, &base, &root));
        fs::remove_file(machine.path("scene/f")).unwrap();
        machine.file("scene/f/g.exr", "g");
        machine.file("scene/f/h.png", "h");
        let now = machine.snapshot(&machine.path("scene"), "now.manifest");
        let diff = machine.path("diff.manifest");
        machine.ok(args!["manifest", "diff", &base, &now, "-o", &diff]);
        let none = with(into(machine, &diff, &root), &["--include", "*.tif"]);
        machine.ok(none);
        assert!(root.join("f").is_file());
        let some = with(into(machine, &diff, &root), &["--include", "*.exr"]);
        machine.ok(some);
        assert!(root.join("f/g.exr").exists() && !root.join("f/h.png").exists());
    });
}

#[test]
fn copies_are_listed_for_programs_all_of_them_and_for_people_the_first_twenty() {
    Machine::with_directory(|machine| {
        for at in 10..35 {
            machine.file(format!("scene/{at}"), format!("{at}"));
            machine.file(format!("root/{at}"), "mine");
        }
        let manifest = machine.snapshot(&machine.path("scene"), "scene.manifest");
        let root = machine.path("root");
        let said = machine.json(into(machine, &manifest, &root));
        let copied = said["roots"][0]["copied"].as_array().unwrap();
        assert_eq!(copied.len(), 25);
        assert_eq!(copied[0], json!({"path": "10", "as": "10 (1)"}));
        let skip = with(into(machine, &manifest, &root), &["--conflict", "skip"]);
        let said = machine.json(&skip);
        assert_eq!(said["roots"][0]["left"].as_array().unwrap().len(), 25);
        let said = machine.ok(&skip);
        assert_eq!(said.out.matches("left  ").count(), 20);
        said.printing("and 5 more");
    });
}

#[test]
fn a_download_that_stops_tells_how_far_it_came() {
    Machine::with_directory(|machine| {
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let file = machine.file("file", "in the way");
        let first = machine.path("first");
        let map = |root: &Path| format!("{}={}", manifest.display(), root.display());
        let arguments = args![
            "download",
            "--map",
            map(&first),
            "--map",
            map(&file),
            "--store",
            machine.store(),
        ];
        let said = machine.says(&arguments).with_code(1);
        said.printing("fetched    44 files")
            .saying("cannot open the folder");
        same(&first, &scene);
        let said = machine.says([&arguments[..], &args!["--json"]].concat());
        let account = said.with_code(1).json();
        assert_eq!(account["skipped_files"], 44);
        assert_eq!(account["roots"][0]["summary"]["skipped_files"], 44);
    });
}

#[test]
fn manifests_of_one_folder_go_together_however_it_is_spelled() {
    Machine::with_directory(|machine| {
        let folder = machine.dir("folder");
        machine.file("folder/a", "a");
        let base = machine.snapshot(&folder, "base.manifest");
        machine.file("folder/b", "b");
        let now = machine.snapshot(&folder, "now.manifest");
        machine.dir("real");
        symlink("real", machine.path("link")).unwrap();
        for (one, other) in [("new", "./new"), ("new", "real/../new"), ("link", "real")] {
            let maps = [(&base, one), (&now, other)]
                .map(|(manifest, root)| format!("{}={root}", manifest.display()));
            let [one, other] = maps;
            let store = machine.store();
            let arguments = args!["download", "--map", one, "--map", other, "--store", store];
            let mut command = machine.attachfs(arguments);
            command.arg("--json").current_dir(machine.path(""));
            let said = said(&mut command).with_code(0).json();
            assert_eq!(said["roots"].as_array().unwrap().len(), 1, "{said}");
            assert_eq!(said["total_files"], 2);
        }
    });
}

#[test]
fn a_manifest_of_absolute_paths_wants_to_know_which_of_them_becomes_the_folder() {
    Machine::with_directory(|machine| {
        let scene = scene(machine, "scene");
        let collected = machine.path("collected");
        machine.ok(args![
            "manifest",
            "collect",
            "--absolute",
            &scene,
            "-o",
            &collected
        ]);
        let manifest = machine.path("absolute");
        machine.ok(args!["manifest", "hash", &collected, "-o", &manifest]);
        machine.ok(args![
            "snapshot",
            &scene,
            "-o",
            machine.path("whole"),
            "--chunk-size",
            "none",
            "--store",
            machine.store(),
        ]);
        let root = machine.path("root");
        let said = machine.says(into(machine, &manifest, &root)).with_code(2);
        said.saying("--from");
        assert!(!root.exists());
        let from = scene.to_str().unwrap();
        machine.ok(with(into(machine, &manifest, &root), &["--from", from]));
        same(&root, &scene);
    });
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_fetched() {
    Machine::with_directory(|machine| {
        let small = machine.dir("small");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&small)
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            skipped("only root can make a small disk");
            return;
        }
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let said = machine.says(into(machine, &manifest, &small)).with_code(1);
        said.saying("not enough room").saying("are available");
        let there = fs::read_dir(&small).unwrap().count();
        Command::new("umount").arg(&small).output().unwrap();
        assert_eq!(there, 0);
    });
}

#[test]
fn permissions_and_group_are_given_to_what_is_made() {
    Machine::with_directory(|machine| {
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let root = machine.path("root");
        let Some(gid) = other_group() else {
            skipped("there is no other group that may be given");
            return;
        };
        let group = gid.to_string();
        let more = [
            "--group",
            &group,
            "--add-file-mode",
            "020",
            "--add-dir-mode",
            "0070",
        ];
        machine.ok(with(into(machine, &manifest, &root), &more));
        let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode();
        for name in ["bin/run.sh", "bin", "empty/inner", ""] {
            assert_eq!(fs::metadata(root.join(name)).unwrap().gid(), gid, "{name}");
        }
        assert_eq!(mode("bin/run.sh") & 0o020, 0o020);
        assert_eq!(mode("bin") & 0o070, 0o070);
        assert_eq!(mode("") & 0o070, 0o070);
    });
}

/// A group other than that of this process, which it may give files to.
fn other_group() -> Option<u32> {
    let own = rustix::process::getegid().as_raw();
    if rustix::process::geteuid().is_root() {
        return Some(own + 12_345);
    }
    let groups = rustix::process::getgroups().unwrap();
    let mut groups = groups.into_iter().map(rustix::process::Gid::as_raw);
    groups.find(|&group| group != own)
}

#[test]
fn a_group_that_cannot_be_had_is_told_with_its_reason() {
    Machine::with_directory(|machine| {
        let manifest = machine.snapshot(&machine.dir("scene"), "scene.manifest");
        let root = machine.path("root");
        let getent = machine.file("broken/getent", "#!/bin/sh\necho no database >&2; exit 3");
        fs::set_permissions(&getent, fs::Permissions::from_mode(0o755)).unwrap();
        for (group, path, code, why) in [
            (
                "no such group here",
                None,
                2,
                "there is no group \"no such group here\"",
            ),
            ("4294967295", None, 2, "4294967295"),
            ("staff", Some("nowhere"), 1, "No such file"),
            ("staff", Some("broken"), 1, "no database"),
        ] {
            let download = with(into(machine, &manifest, &root), &["--group", group]);
            let mut command = machine.attachfs(download);
            if let Some(path) = path {
                command.env("PATH", machine.path(path));
            }
            said(&mut command).with_code(code).saying(why);
        }
        assert!(!root.exists());
    });
}

#[test]
fn paths_that_are_too_long_for_the_folder_are_refused() {
    Machine::with_directory(|machine| {
        let scene = machine.dir("scene");
        let deep: PathBuf = std::iter::repeat_n("d".repeat(200), 19).collect();
        machine.file(scene.join("a"), "a");
        machine.dir(scene.join(deep));
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let root = machine.path("r".repeat(200)).join("r".repeat(200));
        let said = machine.says(into(machine, &manifest, &root)).with_code(2);
        said.saying("too long");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    });
}
