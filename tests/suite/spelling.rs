//! `--case-insensitive`: names that are written in another case than they are.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};

mounting_from_both_stores![
    a_scene_finds_its_files_in_any_case,
    what_is_made_in_another_case_is_the_file_that_is_there,
    what_is_removed_in_another_case_is_gone_in_every_case,
    case_does_not_count_in_layers_that_are_added_nor_after_a_kill,
    a_command_runs_in_a_folder_in_which_case_does_not_count,
];

fn scene(machine: &Machine) -> PathBuf {
    let folder = machine.dir("scene");
    for (file, text) in [
        ("Textures/Wood.PNG", "wood\n"),
        ("README", "first\n"),
        ("Readme", "second\n"),
        ("\u{c9}t\u{e9}.txt", "summer\n"),
    ] {
        machine.file(folder.join(file), text);
    }
    machine.snapshot(&folder, "scene.manifest")
}

fn mounted(machine: &Machine) -> Mount {
    machine.mount(args!["--case-insensitive", scene(machine)], "mnt")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn missing(path: impl AsRef<Path>) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn a_scene_finds_its_files_in_any_case(machine: &Machine) {
    let strict = machine.mount(args![scene(machine)], "strict");
    assert!(missing(strict.dir.join("textures")));
    machine.ok(args!["umount", &strict.dir]);

    let mount = machine.mount(
        args!["--case-insensitive", machine.path("scene.manifest")],
        "mnt",
    );
    let at = |name: &str| mount.dir.join(name);
    for name in [
        "Textures/Wood.PNG",
        "textures/wood.png",
        "TEXTURES/WOOD.png",
        "textures/Wood.PNG",
    ] {
        assert_eq!(text(at(name)), "wood\n", "{name}");
    }
    assert_eq!(text(at("\u{e9}T\u{c9}.TXT")), "summer\n");
    assert_eq!(text(at("README")), "first\n");
    assert_eq!(text(at("Readme")), "second\n");
    assert_eq!(text(at("readme")), "first\n", "the first of two");
    assert_eq!(
        names(&mount.dir),
        ["README", "Readme", "Textures", "\u{c9}t\u{e9}.txt"]
    );
    assert_eq!(names(&at("TEXTURES")), ["Wood.PNG"]);
    let why = machine.json(args!["why", at("textures/wood.png")]);
    assert_eq!(why["path"], "Textures/Wood.PNG");
    machine.ok(args!["umount", &mount.dir]);
}

fn what_is_made_in_another_case_is_the_file_that_is_there(machine: &Machine) {
    let mount = mounted(machine);
    let at = |name: &str| mount.dir.join(name);
    assert!(missing(at("new.txt")));
    fs::write(at("New.TXT"), "new\n").unwrap();
    assert_eq!(text(at("new.txt")), "new\n", "it was missing a moment ago");
    fs::write(at("NEW.txt"), "again\n").unwrap();
    assert_eq!(text(at("New.TXT")), "again\n");
    let mut appended = fs::OpenOptions::new();
    let mut appended = appended
        .append(true)
        .create(true)
        .open(at("TEXTURES/wood.png"))
        .unwrap();
    appended.write_all(b"more\n").unwrap();
    drop(appended);
    assert_eq!(text(at("Textures/Wood.PNG")), "wood\nmore\n");
    let exists = |made: io::Result<()>| made.unwrap_err().kind() == io::ErrorKind::AlreadyExists;
    assert!(exists(fs::File::create_new(at("new.TXT")).map(drop)));
    assert!(exists(fs::create_dir(at("TEXTURES"))));
    assert!(exists(std::os::unix::fs::symlink("x", at("TEXTURES"))));
    assert!(exists(fs::hard_link(at("README"), at("new.TXT"))));
    assert_eq!(
        names(&mount.dir),
        [
            "New.TXT",
            "README",
            "Readme",
            "Textures",
            "\u{c9}t\u{e9}.txt"
        ]
    );
    mount.until_all_is_closed(machine);
    machine.ok(args!["commit", &mount.dir]);
    let again = machine.json(args!["diff", &mount.dir]);
    assert_eq!(again["changes"].as_array().unwrap().len(), 0, "{again}");
    machine.ok(args!["umount", &mount.dir]);
}

fn what_is_removed_in_another_case_is_gone_in_every_case(machine: &Machine) {
    let mount = mounted(machine);
    let at = |name: &str| mount.dir.join(name);
    // The kernel knows the name as it is written, and is told to forget it.
    assert_eq!(text(at("Textures/Wood.PNG")), "wood\n");
    fs::remove_file(at("textures/WOOD.png")).unwrap();
    until("the name as it is written is gone", || {
        missing(at("Textures/Wood.PNG"))
    });
    assert!(missing(at("textures/wood.png")));
    fs::remove_dir(at("TEXTURES")).unwrap();
    assert!(missing(at("Textures")) && missing(at("textures")));

    fs::write(at("other"), "other\n").unwrap();
    fs::rename(at("OTHER"), at("\u{e9}t\u{e9}.TXT")).unwrap();
    assert_eq!(names(&mount.dir), ["README", "Readme", "\u{c9}t\u{e9}.txt"]);
    until("the name that was replaced leads to the new file", || {
        text(at("\u{c9}t\u{e9}.txt")) == "other\n" && text(at("\u{e9}t\u{e9}.TXT")) == "other\n"
    });
    until("the name that was renamed is gone", || missing(at("other")));
    machine.ok(args!["umount", "--force", &mount.dir]);
}

fn case_does_not_count_in_layers_that_are_added_nor_after_a_kill(machine: &Machine) {
    let mount = mounted(machine);
    let at = |name: &str| mount.dir.join(name);
    assert!(missing(at("textures/stone.png")));
    assert_eq!(text(at("readme")), "first\n");
    let folder = machine.dir("more");
    machine.file(folder.join("Textures/Stone.png"), "stone\n");
    machine.file(folder.join("readme"), "added\n");
    let more = machine.snapshot(&folder, "more.manifest");
    machine.ok(args!["add", more, &mount.dir]);
    assert_eq!(text(at("textures/STONE.PNG")), "stone\n");
    assert_eq!(text(at("readme")), "added\n", "it is written so now");
    assert_eq!(text(at("rEADME")), "first\n");

    mount.kill_when_all_is_closed(machine);
    let again = machine.resume(&mount.session_dir, &mount.dir);
    assert_eq!(text(again.dir.join("TEXTURES/stone.PNG")), "stone\n");
    machine.ok(args!["umount", &again.dir]);
}

fn a_command_runs_in_a_folder_in_which_case_does_not_count(machine: &Machine) {
    scene(machine);
    let scene = machine.path("scene");
    let run = |option: &[&str]| {
        let mut arguments = args!["run", "--store", machine.store(), "--input", &scene].to_vec();
        arguments.extend(option.iter().map(Into::into));
        arguments.extend(args!["--", "cat", "textures/WOOD.PNG"]);
        machine.says(arguments)
    };
    run(&["--case-insensitive"]).with_code(0).printing("wood\n");
    run(&[]).with_code(1).saying("No such file");
}
