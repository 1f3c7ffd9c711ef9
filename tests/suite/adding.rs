//! Manifests that are added to a mount while it is used.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};

const USAGE: i32 = 2;
const STORE: i32 = 11;
const INTEGRITY: i32 = 12;

mounting_from_both_stores![
    an_added_manifest_shows_at_once_under_names_that_were_missing_too,
    an_added_manifest_survives_a_kill_and_a_commit_goes_over_it,
    a_manifest_that_takes_the_place_of_another_hides_it,
    a_mount_that_nobody_can_write_to_shows_what_is_added,
    what_cannot_be_added_changes_nothing,
    what_a_killed_process_left_half_done_goes_when_its_session_is_taken_up,
];

/// A mount of two manifests, and a third one that is not mounted.
struct Step {
    mount: Mount,
    second: PathBuf,
}

fn manifest(machine: &Machine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = machine.dir(name);
    for (file, text) in files {
        machine.file(folder.join(file), text);
    }
    machine.snapshot(&folder, format!("{name}.manifest"))
}

fn step(machine: &Machine, options: &[&str]) -> Step {
    let scene = [
        ("scene.json", "scene\n"),
        ("frames/1", "first of the scene\n"),
        ("frames/job", "the job writes this\n"),
    ];
    let scene = manifest(machine, "scene", &scene);
    let textures = manifest(machine, "textures", &[("wood", "wood\n")]);
    let second = [
        ("frames/1", "first of step 1\n"),
        ("frames/2", "second of step 1\n"),
        ("frames/job", "step 1 has another\n"),
        ("cache/deep/x", "x\n"),
    ];
    let second = manifest(machine, "second", &second);
    let mut arguments: Vec<_> = options.iter().map(Into::into).collect();
    let mut placed = textures.into_os_string();
    placed.push("=tex");
    arguments.extend([scene.into(), placed]);
    Step {
        mount: machine.mount(&arguments, "mnt"),
        second,
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn sources(machine: &Machine, session: impl AsRef<OsStr>) -> Vec<(u64, String)> {
    let layers = machine.json(args!["layers", session.as_ref()]);
    let layers = layers["manifests"].as_array().unwrap();
    let shown = layers.iter().map(|layer| {
        let source = Path::new(layer["source"].as_str().unwrap());
        let name = source.file_stem().unwrap().to_str().unwrap();
        (layer["number"].as_u64().unwrap(), name.to_owned())
    });
    shown.collect()
}

fn an_added_manifest_shows_at_once_under_names_that_were_missing_too(machine: &Machine) {
    let Step { mount, second } = step(machine, &[]);
    let at = |name: &str| mount.dir.join(name);
    let scene = fs::metadata(at("scene.json")).unwrap().ino();
    let mut reader = File::open(at("frames/1")).unwrap();
    assert!(!at("frames/2").exists() && !at("cache").exists());
    assert_eq!(fs::read_dir(at("frames")).unwrap().count(), 2);

    let added = machine.json(args!["add", &second, &mount.dir]);
    assert_eq!(added["added"][0]["number"], 3, "{added}");
    assert_eq!(text(at("frames/2")), "second of step 1\n");
    assert_eq!(text(at("cache/deep/x")), "x\n");
    assert_eq!(fs::read_dir(at("frames")).unwrap().count(), 3);
    assert_eq!(text(at("frames/1")), "first of step 1\n");
    let mut open = String::new();
    reader.read_to_string(&mut open).unwrap();
    assert_eq!(
        open, "first of the scene\n",
        "an open file stays what it was"
    );
    drop(reader);
    assert_eq!(fs::metadata(at("scene.json")).unwrap().ino(), scene);
    assert_eq!(
        sources(machine, &mount.dir),
        [(1, "scene"), (2, "textures"), (3, "second")]
            .map(|(number, name)| (number, name.to_owned()))
    );
    machine.ok(args!["umount", &mount.dir]);
}

fn an_added_manifest_survives_a_kill_and_a_commit_goes_over_it(machine: &Machine) {
    let Step { mount, second } = step(machine, &[]);
    fs::write(mount.dir.join("frames/job"), "written by the job\n").unwrap();
    machine.ok(args!["add", &second, &mount.dir]);
    fs::write(mount.dir.join("cache/deep/y"), "y\n").unwrap();
    mount.kill_when_all_is_closed(machine);
    assert_eq!(sources(machine, &mount.session).len(), 3);

    let mount = machine.resume(&mount.session_dir, &mount.dir);
    let expected = [
        ("frames/1", "first of step 1\n"),
        ("frames/job", "written by the job\n"),
        ("cache/deep/x", "x\n"),
        ("cache/deep/y", "y\n"),
    ];
    for (name, bytes) in expected {
        assert_eq!(text(mount.dir.join(name)), bytes, "{name}");
    }
    let third = manifest(machine, "third", &[("third", "third\n")]);
    machine.ok(args!["add", &third, &mount.session]);
    let diff = machine.path("diff.manifest");
    machine.ok(args!["umount", "--commit", "-o", &diff, &mount.dir]);
    let changes = machine.json(args!["ls", "--recursive", &diff]);
    let paths = changes.as_array().unwrap().iter();
    let mut paths: Vec<_> = paths.map(|line| line["path"].as_str().unwrap()).collect();
    paths.retain(|path| !["frames", "cache", "cache/deep"].contains(path));
    assert_eq!(paths, ["cache/deep/y", "frames/job"]);
    // What readers put together is what the mount showed.
    let mut placed = machine.path("textures.manifest").into_os_string();
    placed.push("=tex");
    let stack =
        ["scene.manifest", "second.manifest", "third.manifest"].map(|name| machine.path(name));
    let [scene, second, third] = stack;
    let again = machine.mount(args![scene, placed, second, third, diff], "again");
    for (name, bytes) in expected {
        assert_eq!(text(again.dir.join(name)), bytes, "{name}");
    }
    machine.ok(args!["umount", &again.dir]);
}

fn a_manifest_that_takes_the_place_of_another_hides_it(machine: &Machine) {
    let Step { mount, second } = step(machine, &[]);
    let at = |name: &str| mount.dir.join(name);
    let changed = [
        ("scene.json", "scene of version 2\n"),
        ("frames/3", "third\n"),
    ];
    let changed = manifest(machine, "changed", &changed);
    machine.ok(args!["add", &second, &mount.dir]);
    let report = machine.json(args!["add", "--replace", "1", &changed, &mount.dir]);
    assert_eq!(report["replaced"]["number"], 1, "{report}");
    assert_eq!(text(at("scene.json")), "scene of version 2\n");
    // It lies where the other one did: below what was added before.
    assert_eq!(text(at("frames/1")), "first of step 1\n");
    assert_eq!(text(at("frames/3")), "third\n");
    let name = machine.path("second.manifest");
    machine.ok(args!["add", "--replace", name, &changed, &mount.dir]);
    assert!(!at("frames/1").exists() && !at("cache").exists());
    assert_eq!(
        sources(machine, &mount.dir),
        [(4, "changed"), (2, "textures"), (5, "changed")]
            .map(|(number, name)| (number, name.to_owned()))
    );
    machine.ok(args!["umount", &mount.dir]);
}

fn a_mount_that_nobody_can_write_to_shows_what_is_added(machine: &Machine) {
    let Step { mount, second } = step(machine, &["--read-only"]);
    assert!(!mount.dir.join("frames/2").exists());
    machine.ok(args!["add", &second, &mount.dir]);
    assert_eq!(text(mount.dir.join("frames/2")), "second of step 1\n");
    machine.ok(args!["umount", &mount.dir]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

const NOTHING: [String; 0] = [];

/// The files of manifests that were added, or were to be.
fn kept(mount: &Mount) -> Vec<String> {
    let Ok(files) = fs::read_dir(mount.session_dir.join("layers")) else {
        return Vec::new();
    };
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".manifest") || name.starts_with(".staged-"))
        .collect()
}

fn what_a_killed_process_left_half_done_goes_when_its_session_is_taken_up(machine: &Machine) {
    let Step { mount, second } = step(machine, &[]);
    machine.ok(args!["add", &second, &mount.dir]);
    fs::write(mount.dir.join("written"), "by the job").unwrap();
    machine.ok(args!["commit", &mount.dir]);
    mount.kill_when_all_is_closed(machine);
    let shown = kept(&mount);
    let at = |name: &str| mount.session_dir.join(name);
    let staged = ".staged-0123456789ab";
    let refused = format!("layers/{}.manifest", "0".repeat(32));
    let left = [
        &format!("commits/{staged}"),
        &format!("layers/{staged}"),
        &refused,
    ];
    for name in left {
        fs::write(at(name), "half").unwrap();
    }
    fs::write(at("commits/.staged-mine"), "precious").unwrap();
    // Who only looks changes nothing.
    machine.ok(args!["status", &mount.session]);
    assert!(left.iter().all(|name| at(name).exists()));
    let mount = machine.resume(&mount.session_dir, &mount.dir);
    assert!(left.iter().all(|name| !at(name).exists()));
    assert_eq!(kept(&mount), shown);
    assert_eq!(text(mount.dir.join("frames/2")), "second of step 1\n");
    assert_eq!(text(at("commits/.staged-mine")), "precious");
    fs::remove_file(at("commits/.staged-mine")).unwrap();
    machine.ok(args!["umount", &mount.dir]);
}

fn what_cannot_be_added_changes_nothing(machine: &Machine) {
    let Step { mount, second } = step(machine, &[]);
    let before = sources(machine, &mount.dir);
    let refused = |arguments: &[std::ffi::OsString], code: i32, text: &str| {
        machine.says(arguments).with_code(code).saying(text);
        assert_eq!(sources(machine, &mount.dir), before);
        assert!(!mount.dir.join("frames/2").exists());
        assert_eq!(kept(&mount), NOTHING);
    };
    refused(
        &args!["add", "--replace", "9", &second, &mount.dir],
        USAGE,
        "no manifest with the number 9",
    );
    let half = fs::read(&second).unwrap();
    let half = machine.file("half.manifest", &half[..half.len() / 2]);
    refused(&args!["add", &half, &mount.dir], INTEGRITY, "half.manifest");
    // A diff over something else.
    let other = manifest(machine, "other", &[("a", "a\n")]);
    let newer = [("a", "a\n"), ("b", "b\n")];
    let newer = manifest(machine, "newer", &newer);
    let diff = machine.path("other-diff.manifest");
    machine.ok(args!["manifest", "diff", &other, &newer, "-o", &diff]);
    refused(
        &args!["add", &diff, &mount.dir],
        INTEGRITY,
        "was made from a manifest",
    );
    for object in machine.objects() {
        fs::remove_file(object).unwrap();
    }
    refused(&args!["add", &second, &mount.dir], STORE, "has none of");
    machine.ok(args!["add", "--no-probe", &second, &mount.dir]);
    assert!(mount.dir.join("frames/2").exists());
    // The same bytes once more, refused: what the mount shows keeps its file.
    let shown = kept(&mount);
    assert_eq!(shown.len(), 1, "{shown:?}");
    let again = machine.says(args!["add", "--replace", "9", &second, &mount.dir]);
    again.with_code(USAGE);
    assert_eq!(kept(&mount), shown);
    // What is not committed keeps the session.
    fs::write(mount.dir.join("written"), "by the job").unwrap();
    machine.ok(args!["umount", "--force", &mount.dir]);
    let said = machine.says(args!["add", &second, &mount.session]);
    said.with_code(USAGE).saying("is not mounted");
}

/// Waits for as long as a mount keeps open what nobody reads, and then some.
fn idle(machine: &Machine, mount: &Mount) {
    let since = std::time::Instant::now();
    until("nobody has read anything for long", || {
        machine.ok(args!["status", &mount.session]);
        since.elapsed().as_secs() > 17
    });
}

#[test]
fn what_is_added_while_a_listing_is_half_read_has_no_name_met_twice_or_left_out() {
    Machine::mounting_from_directory(|machine| {
        let names: Vec<_> = (10_000..13_000)
            .map(|number| format!("many/f{number}"))
            .collect();
        let of = |names: &[String]| {
            names
                .iter()
                .map(|name| (name.as_str().to_owned(), ""))
                .collect::<Vec<_>>()
        };
        let make = |name: &str, names: &[String]| {
            let files = of(names);
            let files: Vec<_> = files
                .iter()
                .map(|(name, text)| (name.as_str(), *text))
                .collect();
            manifest(machine, name, &files)
        };
        let first = make("first", &names[50..]);
        let fewer = make("fewer", &names[100..]);
        let more = make("more", &names[..50]);
        let modes = [&[][..], &args!["--read-only", "--no-open"]];
        let added = [(&fewer, &args!["--replace", "1"][..]), (&more, &[])];
        for (mode, (added, how)) in modes
            .iter()
            .flat_map(|mode| added.map(|added| (mode, added)))
        {
            let is_unopened = !mode.is_empty();
            let mount = machine.mount([mode, &args![&first][..]].concat(), "mnt");
            let many = mount.dir.join("many");
            let list = || {
                fs::read_dir(&many)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
            };
            assert_eq!(list().count(), 2950);
            assert_eq!(list().count(), 2950);
            let mut half_read = list();
            let mut met = vec![half_read.next().unwrap()];
            if is_unopened {
                // The kernel has it, and the process lets go of what nobody asks for.
                list().count();
                idle(machine, &mount);
            }
            machine.ok([&args!["add"], how, &args![added, &mount.dir]].concat());
            // The kernel would keep what this lists for the other handle.
            list().count();
            met.extend(half_read);
            let listed = met.len();
            met.sort();
            met.dedup();
            assert_eq!(met.len(), listed, "no name is met twice");
            let throughout = names[100..]
                .iter()
                .map(|name| name["many/".len()..].to_owned());
            for name in throughout {
                assert!(
                    met.binary_search(&name.clone().into()).is_ok(),
                    "{name} is left out"
                );
            }
            machine.ok(args!["umount", &mount.dir]);
        }
    });
}

#[test]
fn a_manifest_of_another_format_takes_the_place_of_one_where_no_file_is_cut() {
    Machine::mounting_from_directory(|machine| {
        let whole = |name: &str, text: &str| {
            let folder = machine.dir(name);
            machine.file(folder.join("f"), text);
            let to = machine.path(format!("{name}.manifest"));
            let store = args!["--store", machine.store(), "--format", "2023-03-03"];
            machine.ok([&args!["snapshot", &folder, "-o", &to], &store[..]].concat());
            to
        };
        let cut = manifest(machine, "cut", &[("f", "first\n")]);
        let whole = whole("whole", "second\n");
        for (first, second) in [(&cut, &whole), (&whole, &cut)] {
            let mount = machine.mount(args![first], "mnt");
            let before = text(mount.dir.join("f"));
            machine.ok(args!["add", "--replace", "1", second, &mount.dir]);
            assert_ne!(text(mount.dir.join("f")), before);
            machine.ok(args!["umount", &mount.dir]);
        }
    });
}
