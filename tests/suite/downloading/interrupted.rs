//! Downloads that are ended, and objects that break off or are damaged: the next download goes on.

use std::fs;
use std::path::Path;

use attachfs_test_s3::{Mishap, Rule};
use rustix::process::Signal;

use super::{OBJECTS, STAGED, fetched, into, is_fetch, objects_of, placed, same, scene, tree};
use crate::machine::{Machine, on_both_stores, until};
use crate::process::Running;

on_both_stores![a_damaged_object_fails_its_file_and_the_rest_is_placed];

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
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        Machine::with_s3(|machine| {
            let scene = scene(machine, "scene");
            let manifest = machine.snapshot(&scene, "scene.manifest");
            let root = machine.path("root");
            let download = held(machine, &manifest, &root);
            download.signal(signal);
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
