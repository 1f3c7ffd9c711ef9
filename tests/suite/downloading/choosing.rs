//! A part of what a manifest has: what a diff changes, and what patterns choose.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{TIME, into, same, scene, with};
use crate::golden::set_mtime;
use crate::machine::{Machine, args};
use crate::process::said;

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
            said(&mut command).with_code(0);
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
fn a_diff_deletes_by_name_whatever_is_in_the_file_and_can_be_told_not_to() {
    Machine::with_directory(|machine| {
        machine.file("scene/gone", "of the scene");
        machine.file("scene/stays", "stays");
        let base = machine.snapshot(&machine.path("scene"), "base.manifest");
        fs::remove_file(machine.path("scene/gone")).unwrap();
        let now = machine.snapshot(&machine.path("scene"), "now.manifest");
        let diff = machine.path("diff.manifest");
        machine.ok(args!["manifest", "diff", &base, &now, "-o", &diff]);
        let root = machine.dir("root");
        machine.file("root/gone", "of somebody else");
        let kept = with(into(machine, &diff, &root), &["--no-deletes"]);
        machine.ok(kept);
        assert!(root.join("gone").exists());
        machine
            .ok(into(machine, &diff, &root))
            .printing("deleted    1 path");
        assert!(!root.join("gone").exists());
    });
}
