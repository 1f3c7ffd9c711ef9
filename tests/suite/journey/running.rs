//! `run`.

use std::fs;
use std::path::{Path, PathBuf};

use attachfs_test_s3::{Mishap, Rule};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{base_address, diff_address, line};
use crate::machine::{Machine, args, mounting_from_both_stores};
use crate::process::{Running, has_ended, said};
use crate::programs::program;
use crate::tree::{Detail, Tree, copy};

mounting_from_both_stores![
    a_run_commits_the_frames_that_the_plain_folder_gives,
    a_run_tells_programs_what_it_did,
    a_second_run_sees_what_the_first_one_wrote_and_its_diff_composes,
    what_a_failed_command_wrote_is_kept_and_the_advice_works,
];

/// The folder of the example, on this machine.
fn scene(machine: &Machine) -> PathBuf {
    let scene = Path::new(env!("CARGO_MANIFEST_DIR")).join("scene");
    let folder = machine.path("scene");
    copy(&scene, &folder);
    folder
}

fn a_run_commits_the_frames_that_the_plain_folder_gives(machine: &Machine) {
    let scene = scene(machine);
    let plain = machine.path("plain");
    copy(&scene, &plain);
    let render = args!["scene.json", "frames", "--frames", "1-2"];
    let in_plain = machine
        .command(program("render"))
        .args(&render)
        .current_dir(&plain)
        .output()
        .unwrap();
    assert!(in_plain.status.success(), "{in_plain:?}");
    let before = Tree::read(&scene, Detail::Live);

    let mut run = machine.attachfs(args![
        "run",
        "--input",
        &scene,
        "--output-dir",
        "frames",
        "--store",
        machine.store(),
        "--",
        program("render"),
    ]);
    let ran = said(run.args(&render)).with_code(0);
    assert!(line(&ran, "snapshot").starts_with("5 files, "), "{ran:#?}");
    assert!(line(&ran, "stored").starts_with("5 objects, "), "{ran:#?}");
    assert!(line(&ran, "read").starts_with("4 files, "), "{ran:#?}");
    let outputs = line(&ran, "outputs");
    assert!(
        outputs.starts_with("3 added, 0 changed, 0 deleted, "),
        "{ran:#?}"
    );
    assert!(
        line(&ran, "uploaded").starts_with("2 objects, "),
        "{ran:#?}"
    );
    assert_eq!(line(&ran, "diff").len(), 32, "{ran:#?}");

    Tree::read(&scene, Detail::Live).assert_is(&before);
    machine.ok(args!["list"]).printing("no sessions");
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    let both = args!["--read-only", base_address(&ran), diff_address(&ran)];
    let mount = machine.mount(both, "both");
    Tree::read(&mount.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
    machine.ok(args!["umount", &mount.dir]);
}

fn a_run_tells_programs_what_it_did(machine: &Machine) {
    let input = machine.dir("input");
    machine.file("input/in", "what is read");
    machine.file("input/old", "");
    let run = args![
        "run",
        // What the kernel writes by itself is not counted.
        "--no-passthrough",
        "--input",
        &input,
        "--store",
        machine.store(),
        "--",
        "sh",
        "-c",
        "cat in > out; rm old; echo said >&2",
    ];
    let ran = machine.json(&run);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(ran["exit_code"], 0);
    assert_eq!(ran["signal"], Value::Null);
    assert_eq!(ran["kept"], false);
    assert_eq!(ran["snapshot"]["files"], 2);
    assert_eq!(ran["snapshot"]["uploaded_objects"], 2);
    assert_eq!(ran["counters"]["files_read"], 1);
    assert_eq!(ran["counters"]["bytes_read"], 12);
    assert_eq!(ran["counters"]["bytes_written"], 12);
    assert_eq!(ran["fetched"]["requests"], 1);
    let commit = &ran["commit"];
    assert_eq!(commit["session"], ran["session"]);
    assert_eq!(
        commit["account"],
        json!({
            "added": 1, "changed": 0, "deleted": 1, "bytes": 12,
            "uploaded_objects": 0, "uploaded_bytes": 0, "present_objects": 1, "present_bytes": 12,
            "early_objects": 0, "early_bytes": 0,
            "left_out": [], "links": [], "open": [], "accepted": [],
        })
    );
    let inspected = machine.json(args!["inspect", text(&commit["manifest"]["address"])]);
    assert_eq!(inspected["hash"], commit["manifest"]["hash"]);
    assert_eq!(inspected["kind"], "diff");
    assert_eq!(inspected["parent"], ran["snapshot"]["manifest_hash"]);
    let [base] = &ran["manifests"].as_array().unwrap()[..] else {
        panic!("{ran}");
    };
    let inspected = machine.json(args!["inspect", text(base)]);
    assert_eq!(inspected["hash"], ran["snapshot"]["manifest_hash"]);

    let again = machine.json(&run);
    assert_eq!(again["snapshot"]["uploaded_objects"], 0);
    assert_eq!(again["snapshot"]["present_objects"], 2);
    assert_eq!(again["manifests"], ran["manifests"]);
}

fn a_second_run_sees_what_the_first_one_wrote_and_its_diff_composes(machine: &Machine) {
    let input = machine.dir("input");
    machine.file("input/keep", "keep");
    machine.file("input/dir/gone", "gone");
    machine.file("input/dir/changed", "changed");
    let plain = machine.path("plain");
    copy(&input, &plain);
    let first = "mkdir -p out/sub; echo a > out/a; echo b > out/sub/b; echo c > out/c; ln -s a out/link; echo 1 >> dir/changed";
    let second = "cat out/a out/sub/b dir/changed; readlink out/link; echo more >> out/a; rm -r out/sub; mv out/c out/d; chmod +x out/d; \
                  rm dir/gone; echo 2 >> dir/changed; mkdir empty";
    let in_plain = |script: &str| {
        let mut command = machine.command("sh");
        said(command.args(["-c", script]).current_dir(&plain)).with_code(0)
    };
    in_plain(first);
    let expected = in_plain(second);

    let run = |sources: &[std::ffi::OsString], script: &str| {
        let mut run = machine.attachfs(args!["run", "--store", machine.store()]);
        said(run.args(sources).args(["--", "sh", "-c", script])).with_code(0)
    };
    let one = run(&args!["--input", &input], first);
    let (base, diff) = (base_address(&one), diff_address(&one));
    let two = run(&args!["--manifest", &base, "--manifest", &diff], second);
    assert_eq!(two.out, expected.out);
    let outputs = line(&two, "outputs");
    assert!(
        outputs.starts_with("2 added, 2 changed, 4 deleted, "),
        "{two:#?}"
    );

    let all = args!["--read-only", base, diff, diff_address(&two)];
    let mount = machine.mount(all, "all");
    Tree::read(&mount.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
}

fn what_a_failed_command_wrote_is_kept_and_the_advice_works(machine: &Machine) {
    let input = machine.dir("input");
    machine.file("input/in", "in");
    let run = || {
        let ran = machine.says(args![
            "run",
            "--input",
            &input,
            "--store",
            machine.store(),
            "--",
            "sh",
            "-c",
            "echo half > half; exit 3",
        ]);
        let ran = ran.with_code(3).saying("the command failed");
        let advised = |verb: &str| {
            let advice = format!("`attachfs {verb} ");
            let (_, rest) = ran.err.split_once(&advice).expect(&advice);
            rest.split_once('`').unwrap().0.to_owned()
        };
        (advised("diff"), advised("commit"), advised("discard"))
    };
    let (diff, commit, discard) = run();
    machine.ok(args!["diff", &diff]).printing("+ half  (5 B)");
    let committed = machine.ok(args!["commit", &commit]);
    assert!(line(&committed, "outputs").starts_with("1 added"));
    let status = machine.json(args!["status", &diff]);
    assert_eq!(
        (&status["commits"], &status["mounted"]),
        (&json!(1), &json!(false))
    );
    let session = status["session"].as_str().unwrap().to_owned();
    assert_eq!(machine.published(&session).len(), 1);
    machine
        .ok(args!["commit", &commit])
        .printing("nothing changed");
    assert_eq!(machine.published(&session).len(), 1);
    let refused = machine.says(args!["discard", &discard]);
    refused.with_code(2).saying("--yes");
    machine.ok(args!["discard", &discard, "--yes"]);
    machine.ok(args!["list"]).printing("no sessions");

    let (diff, _, discard) = run();
    machine.ok(args!["discard", &discard, "-y"]);
    machine.says(args!["diff", &diff]).with_code(2);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

#[test]
fn a_run_exits_as_its_command_does_and_with_125_if_it_is_not_the_command_that_failed() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.dir("input");
        let run = |script: &str| {
            machine.says(args![
                "run",
                "--input",
                &input,
                "--store",
                machine.store(),
                "--",
                "sh",
                "-c",
                script,
            ])
        };
        run("exit 7").with_code(7);
        run("exit 0").with_code(0);
        run("kill -KILL $$").with_code(128 + 9);
        run("kill -TERM $$").with_code(128 + 15);

        let of = |arguments: &[std::ffi::OsString]| {
            let mut run = machine.attachfs(args!["run"]);
            said(run.args(arguments)).with_code(125)
        };
        // A command that failed and wrote nothing leaves nothing behind.
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        let no_store = args!["--input", &input, "--store", "s3://", "--", "true"];
        of(&no_store).saying("s3://");
        let store = machine.store();
        let no_input = args!["--input", "no/such/input", "--store", &store, "--", "true"];
        of(&no_input).saying("no/such/input");
        let no_manifest = args!["--manifest", "no.manifest", "--store", &store, "--", "true"];
        of(&no_manifest).saying("no.manifest");
        let output_outside = args![
            "--input",
            &input,
            "--store",
            &store,
            "--output-dir",
            "../out",
            "--",
            "true",
        ];
        of(&output_outside).saying("../out");
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        machine.says(args!["run", "--", "true"]).with_code(2);
    });
}

#[test]
fn a_run_that_is_told_to_stop_stops_its_command_and_keeps_what_it_wrote() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.dir("input");
        let run = machine.attachfs(args![
            "run",
            "--input",
            &input,
            "--store",
            machine.store(),
            "--",
            "sh",
            "-c",
            "echo half > half; echo $$ > pid; cat pid; exec sleep 1000",
        ]);
        let mut run: Running = machine.start(run);
        run.wait_for_output("\n");
        let command: u32 = run.so_far().0.trim().parse().unwrap();
        run.signal(Signal::TERM);
        let ran = run.wait().with_code(128 + 15);
        assert!(has_ended(command));
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        let [session] = &machine.sessions()[..] else {
            panic!("one session is kept: {ran:#?}");
        };
        machine.ok(args!["diff", session]).printing("+ half  (5 B)");
    });
}

#[test]
fn a_run_says_nothing_of_files_that_came_and_went() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/in", "in");
        for script in [
            "true",
            "echo x > tmp; rm tmp",
            "echo x > tmp; rm tmp in; echo y > out",
        ] {
            let input = machine.path("input");
            let store = machine.store();
            let ran = machine.ok(args![
                "run", "--input", input, "--store", store, "--", "sh", "-c", script
            ]);
            assert!(
                ran.err.lines().all(|line| line.starts_with("attachfs: ")),
                "{ran:#?}"
            );
            assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        }
    });
}

#[test]
fn a_run_that_is_told_to_stop_while_it_commits_leaves_the_commit_to_be_repeated() {
    Machine::mounting_from_s3(|machine| {
        machine.file("input/in", "in");
        let input = machine.path("input");
        machine.ok(args![
            "snapshot",
            &input,
            "-o",
            "base",
            "--store",
            machine.store()
        ]);
        machine
            .server()
            .add(Rule::on("PUT", Mishap::Silence).of("/Data/"));
        for signal in [Signal::INT, Signal::TERM] {
            let before = machine.server().requests().len();
            let run = args![
                "run",
                "--input",
                &input,
                "--store",
                machine.store(),
                "--",
                "sh",
                "-c",
                "echo new > new"
            ];
            let run: Running = machine.start(machine.attachfs(run));
            machine.server().wait_for("the upload", |requests| {
                let mut since = requests[before..].iter();
                since.any(|request| request.method == "PUT" && request.path.contains("/Data/"))
            });
            run.signal(signal);
            let ran = run.wait().with_code(125);
            let ran = ran.saying("the commit stopped").saying("publishes it");
            assert_eq!(machine.mounts(), [] as [PathBuf; 0], "{ran:#?}");
        }
        machine.server().heal();
        for session in machine.sessions() {
            machine.ok(args!["commit", session]).printing("1 added");
        }
    });
}

#[test]
fn a_run_without_a_store_uses_one_of_its_own_and_says_what_it_copies() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.dir("input");
        machine.file("input/in", "in");
        let ran = machine.ok(args!["run", "--input", &input, "--", "cp", "in", "out"]);
        let diff = diff_address(&ran);
        assert!(Path::new(&diff).starts_with(machine.path("data")), "{diff}");
        let out = machine.ok(args!["cat", &diff, "out"]);
        assert_eq!(out.out, "in");
        // What is in the store is not the user's file itself.
        let names =
            |path: &Path| std::os::unix::fs::MetadataExt::nlink(&fs::metadata(path).unwrap());
        assert_eq!(names(&input.join("in")), 1);
    });
}
