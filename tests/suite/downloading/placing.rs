//! What is placed, and what of it is fetched for that.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{fetched, into, same, scene, tree, with};
use crate::machine::{Machine, args, on_both_stores};
use crate::process::said;

on_both_stores![
    a_folder_comes_back_as_it_was,
    what_is_there_already_is_not_fetched_again,
    what_differs_is_copied_left_or_replaced,
];

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
