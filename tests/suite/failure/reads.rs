//! Stores that are away, slow or wrong, and manifests that make no sense.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attachfs_test_s3::{Mishap, Rule};
use rustix::io::Errno;
use rustix::process::Signal;

use super::{base, bring_back, errno, take_away};
use crate::machine::{Machine, args, mounting_from_both_stores};
use crate::process::Running;

mounting_from_both_stores![
    objects_that_are_not_what_they_should_be_are_io_errors_that_the_log_explains,
    a_store_that_goes_away_and_comes_back_costs_only_what_was_read_meanwhile,
];

/// Files whose objects are spoiled, one way each. The first is longer than what is verified before its first byte is served.
const SPOILED: [(&str, usize); 6] = [
    ("ranged", 9_000_000),
    ("missing", 40_000),
    ("short", 40_000),
    ("long", 40_000),
    ("altered", 40_000),
    ("empty", 40_000),
];

fn objects_that_are_not_what_they_should_be_are_io_errors_that_the_log_explains(machine: &Machine) {
    for (name, len) in SPOILED {
        let bytes: Vec<u8> = name.bytes().cycle().take(len).collect();
        machine.file(Path::new("input/dir").join(name), bytes);
    }
    machine.file("input/sound", "sound");
    let (input, manifest) = (machine.path("input"), machine.path("base.manifest"));
    machine.ok(args![
        "snapshot",
        input,
        "-o",
        &manifest,
        "--store",
        machine.store()
    ]);
    let listed = machine.json(args!["ls", &manifest, "-R"]);
    let hash_of = |name: &str| {
        let path = format!("dir/{name}");
        let mut lines = listed.as_array().unwrap().iter();
        let line = lines.find(|line| line["path"] == path.as_str()).unwrap();
        line["hash"].as_str().unwrap().to_owned()
    };
    let object = |name: &str| machine.object(&hash_of(name));
    let sound: Vec<_> = SPOILED
        .iter()
        .map(|&(name, _)| fs::read(object(name)).unwrap())
        .collect();
    let spoil = |name: &str| {
        let object = object(name);
        fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
        let file = OpenOptions::new().write(true).open(&object).unwrap();
        match name {
            "missing" => fs::remove_file(&object).unwrap(),
            "short" | "ranged" => file.set_len(30_000).unwrap(),
            "long" => file.set_len(50_000).unwrap(),
            "empty" => file.set_len(0).unwrap(),
            _ => file.write_all_at(b"!", 20_000).unwrap(),
        }
    };
    for (name, _) in SPOILED {
        spoil(name);
    }

    let mount = machine.mount(args![&manifest], "mnt");
    for (name, _) in SPOILED {
        let path = mount.dir.join("dir").join(name);
        let mut buffer = [0; 100];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut buffer, 35_000));
        assert_eq!(errno(read), Some(Errno::IO), "{name}");
        let log = mount.log();
        let line = |text: &str| {
            let mut lines = log.lines();
            lines.any(|line| line.contains(&format!("dir/{name}")) && line.contains(text))
        };
        assert!(line(&hash_of(name)), "{name}: {log}");
        assert!(
            log.contains(&format!("Data/{}.xxh128", hash_of(name))),
            "{name}: {log}"
        );
        if name == "altered" {
            let mut altered = sound[4].clone();
            altered[20_000] = b'!';
            let found = machine.file("altered", altered);
            let folder = machine.dir("found");
            fs::rename(found, folder.join("altered")).unwrap();
            let hashes = machine.path("hashes");
            machine.ok(args!["snapshot", folder, "-o", &hashes]);
            let found = machine.json(args!["ls", hashes]);
            assert!(line(found[0]["hash"].as_str().unwrap()), "{log}");
        }
        assert_eq!(fs::read(mount.dir.join("sound")).unwrap(), b"sound");
    }
    let fetched = machine.json(args!["status", &mount.dir])["fetched"].clone();
    let count = |what: &str| fetched[what].as_u64().unwrap();
    assert!(count("missing") >= 1 && count("damaged") >= 4, "{fetched}");
    machine.ok(args!["status", &mount.dir]).printing("missing");

    // What is mended can be read, without a new mount.
    for ((name, _), bytes) in SPOILED.iter().zip(&sound) {
        fs::write(object(name), bytes).unwrap();
        assert!(
            fs::read(mount.dir.join("dir").join(name)).unwrap() == *bytes,
            "{name}"
        );
    }
    // Without a mount.
    spoil("altered");
    let cat = machine.says(args![
        "cat",
        &manifest,
        "dir/altered",
        "--store",
        machine.store()
    ]);
    cat.with_code(12).saying(&hash_of("altered"));
    spoil("missing");
    let cat = machine.says(args![
        "cat",
        &manifest,
        "dir/missing",
        "--store",
        machine.store()
    ]);
    cat.with_code(11).saying(&hash_of("missing"));
}

fn a_store_that_goes_away_and_comes_back_costs_only_what_was_read_meanwhile(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"a of the input\n");
    take_away(machine);
    let begun = Instant::now();
    let read = fs::read(mount.dir.join("dir/x"));
    assert_eq!(errno(read), Some(Errno::IO));
    assert!(begun.elapsed() < Duration::from_mins(1));
    assert!(mount.log().contains("dir/x"), "{}", mount.log());
    // What was read before, names, and what is written need no store.
    assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"a of the input\n");
    assert_eq!(fs::read_dir(mount.dir.join("dir")).unwrap().count(), 1);
    fs::write(mount.dir.join("new"), "new").unwrap();
    fs::rename(mount.dir.join("a"), mount.dir.join("dir/a")).unwrap();
    machine.ok(args!["status", &mount.dir]);
    bring_back(machine);
    assert_eq!(
        fs::read(mount.dir.join("dir/x")).unwrap(),
        b"x of the input\n"
    );
    assert_eq!(
        fs::read(mount.dir.join("dir/a")).unwrap(),
        b"a of the input\n"
    );
    let commit = machine.json(args!["commit", &mount.dir]);
    assert_eq!(commit["account"]["added"], 2);
}

#[test]
fn a_store_that_is_not_there_when_something_begins_is_a_store_error() {
    Machine::with_directory(|machine| {
        let manifest = base(machine);
        let at = machine.dir("mnt");
        let mount = machine.says(args!["mount", "--store", "no/such/store", &manifest, &at]);
        mount.with_code(11).saying("no/such/store");
        let cat = machine.says(args!["cat", &manifest, "a", "--store", "no/such/store"]);
        cat.with_code(11);
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    });
    Machine::with_s3(|machine| {
        let manifest = base(machine);
        let at = machine.dir("mnt");
        let no_bucket = machine.says(args![
            "cat",
            &manifest,
            "a",
            "--store",
            "s3://other-bucket/x"
        ]);
        no_bucket.with_code(11);
        let missing = format!("{}/Manifests/no/such.manifest", machine.store());
        let missing = machine.says(args!["mount", missing, &at]);
        missing.with_code(11).saying("no/such.manifest");
        machine.server().stop();
        let in_store = format!("{}/Manifests/x.manifest", machine.store());
        let mount = machine.says(args!["mount", in_store, &at]).with_code(11);
        mount.saying("x.manifest");
        let input = machine.path("input");
        let snapshot = args!["snapshot", input, "-o", "m", "--store", machine.store()];
        machine.says(snapshot).with_code(11);
        assert!(!machine.path("m").exists());
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        machine.server().start_again();
    });
}

#[test]
fn a_read_from_a_store_that_is_silent_holds_up_nobody() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"a of the input\n");
        machine.server().add(Rule::on("GET", Mishap::Silence));
        let before = machine.server().requests().len();
        let mut reader = machine.command("cat");
        reader.arg(mount.dir.join("dir/x"));
        let mut reader: Running = machine.start(reader);
        machine
            .server()
            .wait_for("the request", |requests| requests.len() > before);
        let begun = Instant::now();
        fs::write(mount.dir.join("new"), "new").unwrap();
        assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"a of the input\n");
        machine.ok(args!["status", &mount.dir]);
        machine.ok(args!["commit", &mount.dir]);
        assert!(reader.is_running());
        // Who waits can be killed, and the mount can go.
        reader.signal(Signal::KILL);
        reader.wait().with_code(128 + 9);
        machine.ok(args!["umount", &mount.dir]);
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn what_reads_a_mount_sees_all_of_a_file_whose_reader_is_slow() {
    Machine::mounting_from_s3(|machine| {
        let bytes: Vec<u8> = (0..20_000_000_u32)
            .map(|i| (i >> 8) as u8 ^ i as u8)
            .collect();
        machine.file("input/large", &bytes);
        let (input, manifest) = (machine.path("input"), machine.path("base.manifest"));
        machine.ok(args![
            "snapshot",
            input,
            "-o",
            &manifest,
            "--store",
            machine.store()
        ]);
        // Each answer breaks once on its way.
        machine.server().add(
            Rule::on("GET", Mishap::Break { after: 100_000 })
                .of("/Data/")
                .times(2),
        );
        let mount = machine.mount(args!["--read-only", &manifest], "mnt");
        let mut file = File::open(mount.dir.join("large")).unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    });
}

#[test]
fn manifests_that_make_no_sense_are_refused_naming_the_entry() {
    Machine::with_directory(|machine| {
        let hash = "0".repeat(32);
        let entry =
            |path: &str| format!(r#"{{"hash":"{hash}","mtime":1,"path":"{path}","size":1}}"#);
        let v2023 = |entries: &[String]| {
            format!(
                r#"{{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[{}],"totalSize":1}}"#,
                entries.join(",")
            )
        };
        let v2025 = |dirs: &str, files: &str| {
            format!(
                r#"{{"dirs":[{dirs}],"files":[{files}],"hashAlg":"xxh128","specificationVersion":"relative-manifest-snapshot-beta-2025-12","totalSize":1}}"#
            )
        };
        let file =
            |name: &str| format!(r#"{{"hash":"{hash}","mtime":1,"name":"{name}","size":1}}"#);
        let sound = v2023(&[entry("sound")]);
        let cases = [
            (sound[..sound.len() - 20].to_owned(), ""),
            (String::new(), ""),
            ("[]".to_owned(), ""),
            (sound.replace("2023-03-03", "2099-01-01"), "2099-01-01"),
            (sound.replace("xxh128", "md5"), "md5"),
            (v2023(&[entry("fine"), entry("a/../../up")]), "a/../../up"),
            (v2023(&[entry("/abs/olute")]), "/abs/olute"),
            (v2023(&[entry("twice"), entry("twice")]), "twice"),
            (v2023(&[entry("file"), entry("file/below")]), "file"),
            (v2023(&[entry("nul\\u0000nul")]), "nul"),
            (v2023(&[entry("a//b")]), "a//b"),
            (v2023(&[entry(&"x".repeat(300))]), "xxx"),
            (sound.replace(&hash, "../../etc/passwd"), "sound"),
            (sound.replace(r#""mtime":1,"#, ""), "sound"),
            (v2025("", &file("..")), ".."),
            (v2025(r#"{"name":".."}"#, &file("$0/x")), ".."),
            (v2025("", &file("$7/lost")), "$7/lost"),
            (v2025("", &[file("two"), file("two")].join(",")), "two"),
            (
                v2025(
                    "",
                    r#"{"name":"out","symlink":{"name":"../../etc/passwd"}}"#,
                ),
                "out",
            ),
        ];
        let at = machine.dir("mnt");
        machine.file("sound", &sound);
        machine.ok(args!["inspect", machine.path("sound")]);
        for (text, named) in cases {
            let manifest = machine.file("bad.manifest", &text);
            let mount = args!["mount", "--store", machine.store(), &manifest, &at];
            let refused = [
                machine.says(mount),
                machine.says(args!["ls", &manifest]),
                machine.says(args!["inspect", &manifest]),
            ];
            for said in refused {
                assert_eq!(said.code, 12, "{text}: {said:?}");
                assert!(
                    said.err.contains("bad.manifest") && said.err.contains(named),
                    "{text}: {said:?}"
                );
                assert_eq!(said.err.lines().count(), 1, "{said:?}");
            }
        }
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    });
}
