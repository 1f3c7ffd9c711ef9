//! What cannot be done, told before anything is fetched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{into, same, scene, with};
use crate::machine::{Machine, args, skipped};

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
