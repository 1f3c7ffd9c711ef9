//! What a mount tells of where its files come from: `why`, and the extended attributes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use attachfs_manifest::ContentHash;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores};
use crate::process::{Said, said};

const USAGE: i32 = 2;

mounting_from_both_stores![
    attributes_say_the_hash_the_layer_and_what_is_here,
    copies_with_all_attributes_have_none_of_a_mounts,
    why_tells_where_a_file_comes_from,
    why_tells_why_nothing_is_there,
    what_the_kernel_and_programs_ask_of_their_own_accord_costs_a_request_or_two,
];

fn manifest(machine: &Machine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = machine.dir(name);
    for (file, text) in files {
        machine.file(folder.join(file), text);
    }
    machine.snapshot(&folder, format!("{name}.manifest"))
}

/// A mount of two manifests, of which the second hides a file of the first.
fn two_layers(machine: &Machine) -> (Mount, [PathBuf; 2]) {
    let scene = manifest(
        machine,
        "scene",
        &[("a", "of the scene\n"), ("d/b", "hidden\n"), ("d/c", "c\n")],
    );
    let over = manifest(
        machine,
        "over",
        &[("d/b", "of the second\n"), ("e/f", "f\n")],
    );
    (machine.mount(args![&scene, &over], "mnt"), [scene, over])
}

fn attribute(path: &Path, name: &str) -> Result<String, Errno> {
    let mut value = vec![0; 65536];
    let len = rustix::fs::getxattr(path, format!("user.attachfs.{name}"), &mut value[..])?;
    Ok(String::from_utf8(value[..len].to_vec()).unwrap())
}

fn hash_of(text: &str) -> String {
    ContentHash::of(text.as_bytes()).to_string()
}

fn attributes_say_the_hash_the_layer_and_what_is_here(machine: &Machine) {
    let (mount, [scene, over]) = two_layers(machine);
    let at = |name: &str| mount.dir.join(name);
    let layer = |number: u32, manifest: &Path| Ok(format!("{number} {}", manifest.display()));
    assert_eq!(attribute(&at("a"), "hash"), Ok(hash_of("of the scene\n")));
    assert_eq!(attribute(&at("a"), "layer"), layer(1, &scene));
    assert_eq!(
        attribute(&at("d/b"), "hash"),
        Ok(hash_of("of the second\n"))
    );
    assert_eq!(attribute(&at("d/b"), "layer"), layer(2, &over));
    assert_eq!(attribute(&at("d/c"), "layer"), layer(1, &scene));
    assert_eq!(attribute(&at("e"), "layer"), layer(2, &over));
    assert_eq!(attribute(&at("e"), "hash"), Err(Errno::NODATA));
    assert_eq!(attribute(&at("e"), "cached"), Err(Errno::NODATA));
    assert_eq!(attribute(&at(""), "layer"), Err(Errno::NODATA));
    assert_eq!(attribute(&at("a"), "other"), Err(Errno::NODATA));

    assert_eq!(attribute(&at("a"), "cached"), Ok("none".to_owned()));
    fs::read(at("a")).unwrap();
    if machine.is_s3() {
        // The cache is written a little later.
        crate::machine::until("the file is in the cache", || {
            attribute(&at("a"), "cached") == Ok("all".to_owned())
        });
    }

    fs::rename(at("a"), at("moved")).unwrap();
    assert_eq!(attribute(&at("moved"), "layer"), layer(1, &scene));
    fs::write(at("d/c"), "written").unwrap();
    fs::create_dir(at("own")).unwrap();
    fs::write(at("own/file"), "written").unwrap();
    for own in ["d/c", "own/file", "own"] {
        assert_eq!(
            attribute(&at(own), "layer"),
            Ok("local".to_owned()),
            "{own}"
        );
        assert_eq!(attribute(&at(own), "hash"), Err(Errno::NODATA), "{own}");
    }
    assert_eq!(attribute(&at("own/file"), "cached"), Ok("all".to_owned()));

    let added = manifest(machine, "added", &[("moved", "more\n"), ("e/g", "g\n")]);
    machine.ok(args!["add", &added, &mount.dir]);
    assert_eq!(attribute(&at("e/g"), "layer"), layer(3, &added));
    assert_eq!(attribute(&at("moved"), "layer"), layer(1, &scene));
    machine.ok(args!["umount", "--force", &mount.dir]);
}

fn tool(machine: &Machine, arguments: &[&OsStr]) -> Said {
    let (program, arguments) = arguments.split_first().unwrap();
    let mut command = machine.command(program);
    command.args(arguments);
    said(&mut command)
}

fn copies_with_all_attributes_have_none_of_a_mounts(machine: &Machine) {
    let (mount, _) = two_layers(machine);
    for copies in [
        machine.dir("copies"),
        PathBuf::from("/dev/shm").join(&mount.session),
    ] {
        let copy = copies.join("scene");
        fs::create_dir_all(&copies).unwrap();
        let words = [
            OsStr::new("cp"),
            OsStr::new("-a"),
            mount.dir.as_os_str(),
            copy.as_os_str(),
        ];
        let copied = tool(machine, &words).with_code(0);
        assert_eq!(copied.err, "");
        assert_eq!(
            fs::read_to_string(copy.join("d/b")).unwrap(),
            "of the second\n"
        );
        assert_eq!(
            attribute(&copy.join("d/b"), "hash"),
            Err(Errno::NODATA),
            "{}",
            copies.display()
        );
        fs::remove_dir_all(&copies).unwrap();
    }
    machine.ok(args!["umount", &mount.dir]);
}

fn why(machine: &Machine, path: &Path) -> Value {
    machine.json(args!["why", path])
}

fn why_tells_where_a_file_comes_from(machine: &Machine) {
    let (mount, [scene, over]) = two_layers(machine);
    let at = |name: &str| mount.dir.join(name);
    let report = why(machine, &at("d/b"));
    assert_eq!(report["session"], json!(mount.session));
    assert_eq!(report["path"], "d/b");
    assert_eq!(report["uncommitted"], false);
    let shown = &report["shown"];
    assert_eq!(shown["kind"], "file");
    assert_eq!(shown["written"], "nothing");
    assert_eq!(shown["manifest"]["number"], 2);
    assert_eq!(shown["manifest"]["source"], json!(over));
    assert_eq!(
        shown["content"]["hashes"],
        json!([hash_of("of the second\n")])
    );
    assert_eq!(shown["content"]["bytes_here"], 0);
    assert_eq!(shown["content"]["chunks"], 1);
    assert_eq!(report["missing"], Value::Null);
    machine
        .ok(args!["why", at("d/b")])
        .printing(&format!("from       manifest 2, {}\n", over.display()))
        .printing(&format!("hash       {}\n", hash_of("of the second\n")))
        .printing("here       nothing of it\n");

    fs::rename(at("d/c"), at("elsewhere")).unwrap();
    let report = why(machine, &at("elsewhere"));
    assert_eq!(report["shown"]["renamed_from"], "d/c");
    assert_eq!(report["shown"]["manifest"]["source"], json!(scene));
    assert_eq!(report["uncommitted"], true);

    fs::write(at("own"), "own").unwrap();
    mount.until_all_is_closed(machine);
    let report = why(machine, &at("own"));
    assert_eq!(report["shown"]["written"], "all");
    assert_eq!(report["shown"]["manifest"], Value::Null);
    assert_eq!(report["shown"]["content"]["bytes_here"], 3);
    assert_eq!(report["shown"]["content"]["hashes"], json!([]));
    assert_eq!(report["uncommitted"], true);
    machine.ok(args!["commit", &mount.dir]);
    assert_eq!(why(machine, &at("own"))["uncommitted"], false);

    assert_eq!(why(machine, &mount.dir)["shown"]["kind"], "dir");
    machine
        .says(args!["why", machine.path("scene")])
        .with_code(USAGE)
        .saying("is in no mount");
    machine.ok(args!["umount", &mount.dir]);
}

fn says(report: &Value) -> Vec<&str> {
    let manifests = report["missing"]["manifests"].as_array().unwrap();
    manifests
        .iter()
        .map(|said| said["says"].as_str().unwrap())
        .collect()
}

fn why_tells_why_nothing_is_there(machine: &Machine) {
    let (mount, _) = two_layers(machine);
    let at = |name: &str| mount.dir.join(name);
    let report = why(machine, &at("d/x/y"));
    assert_eq!(report["shown"], Value::Null);
    assert_eq!(report["missing"]["at"], "d/x");
    assert_eq!(report["missing"]["removed_by_job"], false);
    assert_eq!(says(&report), ["lacks", "lacks"]);
    machine
        .ok(args!["why", at("d/x/y")])
        .printing("because    no manifest has it\n");

    fs::remove_file(at("d/b")).unwrap();
    let report = why(machine, &at("d/b"));
    assert_eq!(report["missing"]["removed_by_job"], true);
    assert_eq!(says(&report), ["has", "has"]);
    assert_eq!(report["uncommitted"], true);
    machine
        .ok(args!["why", at("d/b")])
        .printing("because    the job deleted it\n");

    fs::rename(at("a"), at("renamed")).unwrap();
    let report = why(machine, &at("a"));
    assert_eq!(report["missing"]["renamed_to"], "renamed");

    let over = manifest(
        machine,
        "blocking",
        &[("e", "a file where a directory was\n")],
    );
    machine.ok(args!["add", &over, &mount.dir]);
    let report = why(machine, &at("e/f"));
    assert_eq!(report["missing"]["blocked_by"], "file");
    assert_eq!(says(&report), ["lacks", "has", "blocks"]);
    assert_eq!(report["missing"]["removed_by_job"], false);
    machine
        .ok(args!["why", at("e/f")])
        .printing("because    a manifest hides what another one has\n");
    machine.ok(args!["umount", "--force", &mount.dir]);
}

/// How many reads the process has made: one for each request of the kernel, and some others. `None` where the kernel does
/// not count them.
fn reads_of(mount: &Mount) -> Option<u64> {
    let counts = fs::read_to_string(format!("/proc/{}/io", mount.pid)).ok()?;
    let reads = counts.lines().find_map(|line| line.strip_prefix("syscr: "));
    reads?.parse().ok()
}

fn what_the_kernel_and_programs_ask_of_their_own_accord_costs_a_request_or_two(machine: &Machine) {
    const FILES: u64 = 200;
    const WRITES: u64 = 1000;
    let names: Vec<String> = (0..FILES).map(|number| format!("d/{number}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "text\n")).collect();
    // The kernel would write by itself, and ask for nothing.
    let many = manifest(machine, "many", &files);
    let mount = machine.mount(args!["--no-passthrough", many], "mnt");
    let Some(before) = reads_of(&mount) else {
        return crate::machine::skipped("this kernel does not count reads");
    };
    let during = |work: &dyn Fn()| {
        let before = reads_of(&mount).unwrap();
        work();
        reads_of(&mount).unwrap() - before
    };
    assert!(before > 0);
    // Labels and access control lists are asked for.
    let list = || {
        let dir = mount.dir.join("d");
        let words = [OsStr::new("ls"), OsStr::new("-l"), dir.as_os_str()];
        let listed = tool(machine, &words);
        assert_eq!(listed.with_code(0).out.lines().count() as u64, FILES + 1);
    };
    list();
    let requests = during(&list);
    assert!(
        requests < FILES / 4,
        "{requests} requests for {FILES} files"
    );
    // Capabilities are asked for, since a write takes them away.
    let write = || {
        let file = fs::File::create(mount.dir.join("written")).unwrap();
        for number in 0..WRITES {
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", number).unwrap();
        }
    };
    let requests = during(&write);
    assert!(
        (WRITES..WRITES + WRITES / 4).contains(&requests),
        "{requests} requests for {WRITES} writes"
    );
    machine.ok(args!["umount", "--force", &mount.dir]);
}
