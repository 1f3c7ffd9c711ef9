//! The verbs one by one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{address, base_address, diff_address, line};
use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{Said, has_ended, said};
use crate::tree::{Detail, Tree, copy};

mounting_from_both_stores![the_journey_in_steps, a_manifest_is_looked_at_wherever_it_is,];

/// What a commit's diff was made from.
fn parent(machine: &Machine, commit: &Value) -> String {
    let inspected = machine.json(args!["inspect", address(commit)]);
    inspected["parent"].as_str().unwrap().to_owned()
}

/// The hash of the manifest that `snapshot` made.
fn parent_of_base(taken: &Said) -> &str {
    line(taken, "snapshot").rsplit_once(' ').unwrap().1
}

fn the_journey_in_steps(machine: &Machine) {
    let input = machine.dir("input");
    machine.file("input/in", "in");
    machine.file("input/dir/changed", "before");
    let manifest = machine.path("base.manifest");
    let taken = machine.ok(args![
        "snapshot",
        &input,
        "-o",
        &manifest,
        "--store",
        machine.store(),
    ]);
    assert!(line(&taken, "snapshot").starts_with("2 files, 8 B; manifest "));

    let plain = machine.path("plain");
    copy(&input, &plain);
    let mount = machine.mount(args![&manifest], "mnt");
    let (session, at) = (&mount.session, &mount.dir);
    let listed = machine.json(args!["list"]);
    assert_eq!(listed[0]["session"], session.as_str());
    assert_eq!(listed[0]["state"], "mounted");
    assert_eq!(listed[0]["mount_point"], at.to_str().unwrap());
    let both = |write: &dyn Fn(&Path)| {
        write(at);
        write(&plain);
    };
    both(&|root| {
        fs::write(root.join("new"), "new").unwrap();
        fs::write(root.join("dir/changed"), "after").unwrap();
    });
    for name in [
        at.clone().into_os_string(),
        session.into(),
        (&session[..6]).into(),
    ] {
        let status = machine.json(args!["status", &name]);
        assert_eq!(status["session"], session.as_str());
        assert_eq!(status["mounted"], true);
        assert_eq!(status["pid"], mount.pid);
        assert_eq!(status["uncommitted"], 2);
        assert_eq!(status["commits"], 0);
        let diff = machine.json(args!["diff", &name]);
        let changes = json!([
            {"change": "changed", "kind": "file", "path": "dir/changed", "size": 5},
            {"change": "added", "kind": "file", "path": "new", "size": 3},
        ]);
        assert_eq!(diff["changes"], changes);
    }
    machine.ok(args!["status", at]).printing("mounted at");
    machine
        .ok(args!["commit", "--dry-run", at])
        .printing("would commit 2 changed paths: 1 added, 1 changed");
    assert_eq!(machine.published(session).len(), 0);

    // While it is mounted; then what came later, as a second diff.
    let one = machine.json(args!["commit", at]);
    assert_eq!(one["account"]["added"], 1);
    machine
        .ok(args!["commit", session])
        .printing("nothing changed");
    assert_eq!(
        machine.ok(args!["diff", at]).out,
        "would commit nothing: nothing changed\n"
    );
    both(&|root| {
        fs::write(root.join("new"), "newer").unwrap();
        fs::remove_file(root.join("in")).unwrap();
        fs::create_dir(root.join("more")).unwrap();
    });
    let two = machine.json(args!["commit", session]);
    assert_eq!(two["account"]["added"], 1);
    assert_eq!(two["account"]["changed"], 1);
    assert_eq!(two["account"]["deleted"], 1);
    assert_eq!(parent(machine, &one), parent_of_base(&taken));
    let first = address(&one);
    let same = machine.mount(args![&manifest, &first], "same");
    fs::write(same.dir.join("x"), "").unwrap();
    let of_same = machine.json(args!["commit", &same.dir]);
    // The parent of the second is what the base and the first one make together.
    assert_eq!(parent(machine, &two), parent(machine, &of_same));
    // All of it is committed: there is nothing to keep.
    machine.ok(args!["umount", &same.dir]);

    // Unmounted, taken up elsewhere, written to, unmounted, committed by its id.
    both(&|root| fs::rename(root.join("more"), root.join("later")).unwrap());
    let unmounted = machine.ok(args!["umount", at]);
    let unmounted = unmounted
        .printing("unmounted")
        .printing("is kept with 2 changed paths not committed");
    assert_eq!(machine.mounts(), [] as [PathBuf; 0], "{unmounted:#?}");
    until("the process ends", || has_ended(mount.pid));
    machine.ok(args!["list"]).printing("left");
    machine
        .ok(args!["status", session])
        .printing("not mounted; was at");
    machine.ok(args!["diff", session]).printing("+ later/");
    let again = machine.resume(&mount.session_dir, &machine.dir("elsewhere"));
    assert_eq!(&again.session, session);
    Tree::read(&again.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));
    fs::write(again.dir.join("later/still"), "").unwrap();
    fs::write(plain.join("later/still"), "").unwrap();
    let unmounted = machine.json(args!["umount", &session[..8]]);
    assert_eq!(unmounted["kept"], true);
    let three = machine.json(args!["commit", session]);
    assert_eq!(three["account"]["added"], 2);
    machine
        .ok(args!["commit", session])
        .printing("nothing changed");
    let discarded = machine.json(args!["discard", session, "--yes"]);
    assert_eq!(discarded["discarded"], session.as_str());
    assert_eq!(machine.json(args!["list"]), json!([]));

    let layers = args![
        "--commit",
        &manifest,
        address(&one),
        address(&two),
        address(&three)
    ];
    let mount = machine.mount(layers, "mnt");
    Tree::read(&mount.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
    // Mounted with --commit: unmounting commits, and then nothing is to be kept.
    fs::write(mount.dir.join("last"), "last").unwrap();
    let unmounted = machine.ok(args!["umount", &mount.dir]);
    assert!(
        line(&unmounted, "outputs").starts_with("1 added"),
        "{unmounted:#?}"
    );
    let last = machine.ok(args![
        "cat",
        diff_address(&unmounted),
        "last",
        "--store",
        machine.store()
    ]);
    assert_eq!(last.out, "last");
    until("the session is gone", || machine.sessions().is_empty());
}

#[test]
fn an_unmounted_session_is_kept_until_it_is_committed_or_discarded() {
    Machine::mounting_from_directory(|machine| {
        let manifest = machine.snapshot(&machine.dir("input"), "base");
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        let unmounted = machine.ok(args!["umount", &mount.dir]);
        unmounted.printing("is kept with 1 changed path not committed");
        machine
            .says(args!["umount", &mount.dir])
            .with_code(2)
            .saying("is not mounted");
        machine.ok(args!["commit", &mount.session]);
        assert_eq!(machine.sessions().len(), 1);
        machine.ok(args!["discard", &mount.session, "--yes"]);
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);

        // By umount(8), which knows nothing of sessions.
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        said(machine.command("fusermount3").arg("-u").arg(&mount.dir)).with_code(0);
        until("the process ends", || has_ended(mount.pid));
        machine.ok(args!["diff", &mount.session]).printing("+ new");

        // With nothing written there is nothing to keep.
        let mount = machine.mount(args![&manifest], "another");
        machine.ok(args!["umount", &mount.dir]);
        until("the session is gone", || machine.sessions().len() == 1);
    });
}

#[test]
fn only_the_output_directories_are_committed_and_the_rest_is_kept() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.dir("input");
        machine.file("input/in", "in");
        let manifest = machine.snapshot(&input, "base");
        let mount = machine.mount(args!["--output-dir", "out", "--commit", &manifest], "mnt");
        fs::create_dir(mount.dir.join("out")).unwrap();
        fs::write(mount.dir.join("out/wanted"), "wanted").unwrap();
        fs::write(mount.dir.join("in"), "aside").unwrap();
        let unmounted = machine.json(args!["umount", &mount.dir]);
        assert_eq!(unmounted["kept"], true);
        assert_eq!(unmounted["uncommitted"], 1);
        assert_eq!(unmounted["commit"]["account"]["added"], 2);
        assert_eq!(unmounted["commit"]["account"]["left_out"], json!(["in"]));
        // Committing it as before would leave it again: the advice has the option that it takes.
        let again = machine.ok(args!["commit", &mount.session]);
        again.printing(" publishes what is outside, too");
        let rest = machine.json(args!["commit", "--everything", &mount.session]);
        assert_eq!(rest["account"]["changed"], 1);
        assert_eq!(rest["account"]["added"], 0);

        let mount = machine.mount(args!["--output-dir", "out", "--commit", &manifest], "mnt");
        fs::write(mount.dir.join("in"), "aside").unwrap();
        let umount = machine.ok(args!["umount", &mount.dir]);
        let id = &mount.session[..8];
        umount.printing(&format!("attachfs commit --everything {id}"));
        let script = "echo 1 > in; echo 1 > out/x";
        let run = args!["run", "--input", &input, "--store", machine.store()].to_vec();
        let what = args!["--output-dir", "out", "--", "sh", "-c", script].to_vec();
        let ran = machine.ok([run, what].concat());
        ran.saying("`attachfs commit --everything ");

        let nothing = machine.says(args!["mount", "--session", "none", machine.dir("at")]);
        nothing.with_code(2).saying("there is no session in none");
    });
}

#[test]
fn relative_paths_mean_the_working_directory_of_whoever_mounts() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/in", "in");
        machine.dir("mnt");
        machine.ok(args!["snapshot", "input", "-o", "base", "--store", "store"]);
        let mounted = machine.ok(args![
            "mount",
            "--json",
            "--store",
            "store",
            "--session",
            "session",
            "--scratch-dir",
            "scratch",
            "--cache-dir",
            "cached",
            "--log",
            "here.log",
            "base",
            "mnt",
        ]);
        let mount = Mount::of(&mounted);
        assert_eq!(mount.dir, machine.path("mnt"));
        assert_eq!(mount.session_dir, machine.path("session"));
        for number in 0..3 {
            fs::write(machine.path(format!("mnt/{number}")), "new").unwrap();
            let mut commit = machine.attachfs(args!["commit", "."]);
            said(commit.current_dir(&mount.dir))
                .with_code(0)
                .printing("1 added");
        }
        assert_eq!(machine.published(&mount.session).len(), 3);
        fs::write(machine.path("mnt/last"), "new").unwrap();
        machine.ok(args!["umount", "mnt"]);
        machine.ok(args!["commit", "session"]).printing("1 added");
        machine.ok(args!["mount", "--session", "session", "mnt"]);
        assert_eq!(fs::read(machine.path("mnt/last")).unwrap(), b"new");
        assert!(machine.path("here.log").exists());
    });
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    Machine::with_directory(|machine| {
        machine.file("input/large", vec![b'x'; 5_000_000]);
        let manifest = machine.snapshot(&machine.path("input"), "base");
        for verb in [
            args!["ls", &manifest].to_vec(),
            args!["cat", &manifest, "large", "--store", machine.store()].to_vec(),
        ] {
            let mut child = machine
                .attachfs(&verb)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{verb:?}: {output:?}"
            );
        }
    });
}

#[test]
fn nobody_can_write_to_a_read_only_mount() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.dir("input");
        machine.file("input/dir/in", "in");
        let manifest = machine.snapshot(&input, "base");
        let mount = machine.mount(args!["--read-only", &manifest], "mnt");
        let file = mount.dir.join("dir/in");
        let errors = [
            fs::write(&file, "x"),
            fs::write(mount.dir.join("new"), "x"),
            fs::create_dir(mount.dir.join("new")),
            fs::remove_file(&file),
            fs::remove_dir_all(mount.dir.join("dir")),
            fs::rename(&file, mount.dir.join("new")),
            std::os::unix::fs::symlink("in", mount.dir.join("new")),
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)),
        ];
        for (number, result) in errors.into_iter().enumerate() {
            let kind = result.unwrap_err().kind();
            assert_eq!(kind, std::io::ErrorKind::ReadOnlyFilesystem, "{number}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"in");
        let status = machine.json(args!["status", &mount.dir]);
        assert_eq!(status["read_only"], true);
        machine
            .says(args!["commit", &mount.dir])
            .with_code(2)
            .saying("read-only");
        let unmounted = machine.json(args!["umount", &mount.dir]);
        assert_eq!(unmounted["kept"], false);
        until("the session is gone", || machine.sessions().is_empty());
    });
}

#[test]
fn manifests_are_mounted_over_each_other_and_in_directories() {
    Machine::mounting_from_directory(|machine| {
        let (one, two) = (machine.dir("one"), machine.dir("two"));
        machine.file("one/a", "a of one");
        machine.file("one/both", "both of one");
        machine.file("two/both", "both of two");
        machine.file("two/sub/deep", "deep of two");
        let one = machine.snapshot(&one, "one.manifest");
        let two = machine.snapshot(&two, "two.manifest");
        let mut placed = two.clone().into_os_string();
        placed.push("=assets/tex");
        let mount = machine.mount(args!["--read-only", &one, placed, &two], "mnt");
        let read = |path: &str| fs::read_to_string(mount.dir.join(path)).unwrap();
        assert_eq!(read("a"), "a of one");
        assert_eq!(read("both"), "both of two");
        assert_eq!(read("assets/tex/both"), "both of two");
        assert_eq!(read("assets/tex/sub/deep"), "deep of two");
        assert_eq!(read("sub/deep"), "deep of two");
    });
}

fn a_manifest_is_looked_at_wherever_it_is(machine: &Machine) {
    let input = machine.dir("input");
    machine.file("input/dir/small", "small");
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    machine.file("input/large", &large);
    std::os::unix::fs::symlink("dir/small", input.join("link")).unwrap();
    fs::create_dir(input.join("empty")).unwrap();
    let file = machine.snapshot(&input, "base.manifest");
    let ran = machine.ok(args![
        "run",
        "--input",
        &input,
        "--store",
        machine.store(),
        "--",
        "true"
    ]);
    let mut sources = vec![base_address(&ran), file.to_str().unwrap().to_owned()];
    assert!(ran.err.contains("nothing changed"), "{ran:#?}");
    sources.push("-".to_owned());
    for source in sources {
        let look = |verb: &str, rest: &[&str]| {
            let mut command = machine.attachfs(args![verb]);
            command.arg(&source).args(rest);
            if source == "-" {
                command.stdin(Stdio::piped());
            }
            let mut child = command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(&fs::read(&file).unwrap()).unwrap();
            }
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{source} {output:?}");
            output.stdout
        };
        let text = |verb, rest: &[&str]| String::from_utf8(look(verb, rest)).unwrap();
        assert_eq!(text("ls", &[]), "dir/\nempty/\nlarge\nlink\n", "{source}");
        assert_eq!(text("ls", &["dir"]), "dir/small\n");
        assert_eq!(
            text("ls", &["-R"]),
            "dir/\ndir/small\nempty/\nlarge\nlink\n"
        );
        let long = text("ls", &["-l", "-R"]);
        assert!(
            long.contains("-> dir/small") && long.contains(" 3000000 "),
            "{long}"
        );
        let listed: Value = serde_json::from_str(&text("ls", &["-R", "--json"])).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 5);
        assert_eq!(listed[1]["size"], 5);
        let inspected = text("inspect", &[]);
        assert!(
            inspected.contains("2 files, 2 directories, 1 link"),
            "{inspected}"
        );
        let inspected: Value = serde_json::from_str(&text("inspect", &["--json"])).unwrap();
        assert_eq!(inspected["files"], 2);
        let store = machine.store();
        assert!(look("cat", &["large", "--store", &store]) == large);
        assert_eq!(text("cat", &["dir/small", "--store", &store]), "small");
        if source.starts_with("s3://") {
            assert_eq!(text("cat", &["dir/small"]), "small");
        }
    }
    let no = machine.says(args!["cat", &file, "no/such", "--store", machine.store()]);
    no.with_code(2).saying("no/such");
    let dir = machine.says(args!["cat", &file, "dir", "--store", machine.store()]);
    dir.with_code(2).saying("is a directory");
    machine.says(args!["ls", &file, "no/such"]).with_code(2);
}
