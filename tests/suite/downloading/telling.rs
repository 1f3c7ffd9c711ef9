//! What a download says of itself, to people and to programs.

use std::path::Path;

use serde_json::json;

use super::{into, same, scene, with};
use crate::machine::{Machine, args};

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
