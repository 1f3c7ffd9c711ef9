//! What the verbs on sessions say: what is so, what a commit would do, and how to go on.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, detach, until};
use crate::process::{Said, has_ended, kill_and_wait, said};

const INTEGRITY: i32 = 12;

fn base(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

fn mounted(machine: &Machine, name: &str) -> Mount {
    machine.mount(args![base(machine)], name)
}

/// What a commit with these options says, and before that the same as a dry run: both stop with the same code and reason, or none does.
fn rehearsed(machine: &Machine, options: &[&str], session: &str) -> (Value, Option<Value>) {
    let mut commit = args!["commit", "--json", session].to_vec();
    commit.extend(options.iter().map(std::ffi::OsString::from));
    let dry = machine.says([&commit[..], &args!["--dry-run"]].concat());
    let done = machine.says(&commit);
    assert_eq!(dry.code, done.code, "{options:?}: {dry:#?} {done:#?}");
    let reason = |text: &str| {
        text.split_once("stop")
            .map(|(_, why)| why.replacen("ped", "", 1))
    };
    assert_eq!(reason(&dry.err), reason(&done.err), "{options:?}");
    let dry = dry.json();
    assert_eq!(dry["would_stop"].is_null(), done.code == 0, "{dry}");
    let done = (done.code == 0).then(|| done.json());
    if let Some(done) = &done {
        for count in [
            "added",
            "changed",
            "deleted",
            "bytes",
            "open",
            "accepted",
            "links",
            "collapsed",
            "not_chosen",
        ] {
            assert_eq!(
                dry["account"][count], done["account"][count],
                "{count}: {dry} {done}"
            );
        }
    }
    (dry, done)
}

#[test]
fn a_dry_run_says_what_the_commit_with_the_same_options_says() {
    Machine::mounting_from_directory(|machine| {
        let mount = mounted(machine, "mnt");
        let session = mount.session.as_str();
        machine.file("outside/one", "one");
        symlink(machine.path("outside"), mount.dir.join("leads-out")).unwrap();
        fs::write(mount.dir.join("new"), "new").unwrap();
        mount.until_all_is_closed(machine);
        for options in [
            &[][..],
            &["--symlinks", "keep"],
            &["--expect-parent", &"0".repeat(32)],
        ] {
            let (dry, _) = rehearsed(machine, options, session);
            assert_eq!(dry["account"]["added"], 1, "{dry}");
            assert_ne!(dry["would_stop"], Value::Null);
        }
        assert_eq!(machine.published(session), []);
        let (dry, done) = rehearsed(machine, &["--symlinks", "collapse"], session);
        assert_eq!(dry["account"]["collapsed"], json!(["leads-out"]));
        assert!(done.is_some());
        // What was open when the process died stops the commit, and is published where it is accepted.
        let open = File::create(mount.dir.join("half")).unwrap();
        until("it is known to be open", || {
            machine.json(args!["status", session])["open"] == json!(["half"])
        });
        kill_and_wait(mount.pid);
        drop(open);
        rehearsed(machine, &[], session);
        let accepting = ["--accept-open", "--symlinks", "collapse"];
        let (dry, done) = rehearsed(machine, &accepting, session);
        assert_eq!(dry["account"]["accepted"], json!(["half"]), "{dry}");
        assert_eq!(done.unwrap()["account"]["added"], 1);
        machine
            .says(args!["commit", "--dry-run", session])
            .with_code(1)
            .printing(
                "would stop; without what stops it, it would commit nothing: nothing changed\n",
            );
    });
}

/// Damages the record that has this in it, and has the journal repaired.
fn cut_off(machine: &Machine, mount: &Mount, at: &[u8]) {
    let journal = mount.session_dir.join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    let found = bytes.windows(at.len()).position(|text| text == at);
    bytes[found.unwrap()] ^= 1;
    fs::write(&journal, bytes).unwrap();
    machine.ok(args!["fsck", "--repair", &mount.session]);
}

#[test]
fn a_dry_run_after_a_repair_and_status_say_that_the_commit_asks() {
    Machine::mounting_from_directory(|machine| {
        let mount = mounted(machine, "mnt");
        let session = mount.session.as_str();
        fs::create_dir(mount.dir.join("first")).unwrap();
        fs::write(mount.dir.join("second"), "second").unwrap();
        mount.kill_when_all_is_closed(machine);
        detach(&mount.dir);
        cut_off(machine, &mount, b"second");
        let status = machine.ok(args!["status", session]);
        status.printing("--accept-open");
        assert_eq!(machine.json(args!["status", session])["cut_off"], true);
        let (dry, _) = rehearsed(machine, &[], session);
        let why = dry["would_stop"]["causes"][0].as_str();
        assert!(
            why.is_some_and(|why| why.contains("the session's journal was damaged")),
            "{dry}"
        );
        let (_, done) = rehearsed(machine, &["--accept-open"], session);
        assert!(done.is_some());
        assert_eq!(machine.json(args!["status", session])["cut_off"], false);
    });
}

#[test]
fn a_commit_after_a_repair_asks_also_if_nothing_is_left_to_commit() {
    Machine::mounting_from_directory(|machine| {
        let mount = mounted(machine, "mnt");
        let session = mount.session.as_str();
        fs::write(mount.dir.join("only"), "only").unwrap();
        mount.kill_when_all_is_closed(machine);
        detach(&mount.dir);
        cut_off(machine, &mount, b"only");
        machine
            .says(args!["commit", session])
            .with_code(14)
            .saying("the session's journal was damaged");
        machine
            .ok(args!["commit", "--accept-open", session])
            .printing("nothing changed");
        // It was accepted.
        machine.ok(args!["commit", session]);
    });
}

#[test]
fn a_commit_that_publishes_nothing_says_why() {
    Machine::mounting_from_directory(|machine| {
        let mount = mounted(machine, "mnt");
        let session = mount.session.as_str();
        machine
            .ok(args!["commit", session])
            .printing("outputs    nothing changed; no manifest was written\n");
        for name in ["one.tmp", "two.tmp"] {
            fs::write(mount.dir.join(name), name).unwrap();
        }
        mount.until_all_is_closed(machine);
        let resumed = machine.ok(args!["commit", "--resume", session]);
        assert!(!resumed.out.contains("nothing changed"), "{resumed:#?}");
        resumed.printing("outputs    no commit to resume\n");
        assert_eq!(
            machine.json(args!["commit", "--resume", session])["nothing_to_resume"],
            true
        );
        for options in [["--include", "*.exr"], ["--exclude", "*.tmp"]] {
            let mut commit = args!["commit", session].to_vec();
            commit.extend(options.map(Into::into));
            let said = machine.ok(&commit);
            assert!(!said.out.contains("nothing changed"), "{said:#?}");
            said.printing("outputs    no change matches the patterns; 2 changed paths are left\n");
            commit.push("--dry-run".into());
            machine.ok(&commit).printing(
                "would commit nothing: no change matches the patterns; 2 changed paths are left\n",
            );
        }
        assert_eq!(machine.published(session), []);
        machine.ok(args!["commit", session]);
        machine
            .ok(args!["commit", "--resume", session])
            .printing("outputs    no commit to resume; commit 1 is the last, and whole\n");
    });
}

#[test]
fn an_unknown_name_keeps_no_other_mount_from_being_ended() {
    Machine::mounting_from_directory(|machine| {
        let mounts = ["one", "two"].map(|name| mounted(machine, name));
        for mount in &mounts {
            fs::write(mount.dir.join("new"), "new").unwrap();
        }
        let unknown = machine.dir("unknown");
        let umount = args![
            "umount",
            "--commit",
            "--json",
            &mounts[0].dir,
            &unknown,
            &mounts[1].dir
        ];
        let said = machine.says(umount).with_code(2);
        let told = said.json();
        assert_eq!(
            (&told["done"], &told["pending"], &told["failed"]),
            (&2.into(), &0.into(), &1.into())
        );
        assert_eq!(told["resume"], Value::Null);
        let states = [0, 1, 2].map(|at| told["mounts"][at]["state"].as_str().unwrap());
        assert_eq!(states, ["done", "failed", "done"]);
        let why = told["mounts"][1]["error"].as_str().unwrap();
        assert!(why.contains("there is no session and no mount"), "{told}");
        said.saying("nothing is lost: 2 done, 1 failed");
        for mount in &mounts {
            assert_eq!(machine.published(&mount.session).len(), 1);
        }
        assert!(machine.mounts().is_empty());
        // Without JSON, and with one that is pending: the line that goes on leaves out the unknown one.
        let mount = mounted(machine, "three");
        let mut used = Command::new("sleep");
        used.arg("600").current_dir(&mount.dir);
        let used = machine.start(used);
        let said = machine.says(args!["umount", &unknown, &mount.dir]);
        let said = said
            .with_code(13)
            .printing("failed     ")
            .printing("pending    ");
        said.saying(&format!(
            "nothing is lost: 0 done, 1 mount pending, 1 failed; go on with `attachfs umount {}`",
            mount.dir.display()
        ));
        used.signal(Signal::KILL);
        used.wait();
    });
}

#[test]
fn a_mount_that_was_detached_already_is_said_to_be_and_how_to_commit_it() {
    Machine::mounting_from_directory(|machine| {
        for by_hand in [false, true] {
            let mount = mounted(machine, "mnt");
            let id = &mount.session[..8];
            let open = File::create(mount.dir.join("new")).unwrap();
            if by_hand {
                detach(&mount.dir);
            } else {
                machine.ok(args!["umount", "--lazy", &mount.dir]);
            }
            let said = machine.says(args!["umount", id]).with_code(14);
            assert!(!said.err.contains("namespace"), "{said:#?}");
            said.saying("was detached already, and is still used")
                .saying(&format!("`attachfs commit {id}` publishes it"))
                .saying(&format!("`attachfs umount --force {id}`"));
            machine
                .ok(args!["status", id])
                .printing("state      not mounted; was at ")
                .printing("detached, it ends when nobody uses it any more");
            let listed = machine.json(args!["list"]);
            assert_eq!(listed[0]["state"], "in use", "{listed}");
            drop(open);
            until("the process ends", || has_ended(mount.pid));
            assert_eq!(machine.json(args!["list"])[0]["state"], "left");
            machine.ok(args!["discard", "--yes", id]);
        }
    });
}

#[test]
fn the_list_tells_a_dead_mount_from_one_that_answers() {
    Machine::mounting_from_directory(|machine| {
        let mount = mounted(machine, "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        assert_eq!(machine.json(args!["list"])[0]["state"], "mounted");
        mount.kill_when_all_is_closed(machine);
        assert_eq!(machine.json(args!["list"])[0]["state"], "dead");
        detach(&mount.dir);
        assert_eq!(machine.json(args!["list"])[0]["state"], "left");
    });
}

#[test]
fn who_joins_an_unmount_is_told_who_is_at_work() {
    Machine::mounting_from_directory(|machine| {
        let mut mounting = machine.mounting(args![base(machine)], "mnt");
        let mount = Mount::of(&said(mounting.env("ATTACHFS_HALT_AT", "Hashed")).with_code(0));
        fs::write(mount.dir.join("new"), "new").unwrap();
        let umount = args!["umount", "--commit", &mount.session];
        let first = machine.start(machine.attachfs(&umount));
        until("it is unmounted", || machine.mounts().is_empty());
        let mut second = machine.start(machine.attachfs(&umount));
        let first_is = format!("process {} (attachfs)", first.pid());
        second.wait_for_error(&format!(
            "another unmount of session {} is at work, which {first_is} asked for; this one waits for it",
            &mount.session[..8]
        ));
        // The process of the mount dies; one of them commits what it left, and both tell the result.
        kill_and_wait(mount.pid);
        let ended = [first.wait(), second.wait()].map(|ended| ended.with_code(0));
        assert_eq!(machine.published(&mount.session).len(), 1, "{ended:#?}");
        for ended in ended {
            ended.printing("1.manifest");
        }
    });
}

#[test]
fn a_name_that_means_nothing_is_told_with_what_is_there() {
    Machine::mounting_from_directory(|machine| {
        machine
            .says(args!["status", "009"])
            .with_code(2)
            .saying("there is no session and no mount \"009\"")
            .saying("the beginning of an id has four digits at least; there are no sessions");
        let mount = mounted(machine, "mnt");
        let there = format!(
            "there are {} at {}",
            &mount.session[..8],
            mount.dir.display()
        );
        let said = machine.says(args!["status", "zzz"]).with_code(2);
        assert!(!said.err.contains("four digits"), "{said:#?}");
        said.saying("no mount \"zzz\"").saying(&there);
        machine
            .says(args!["status", &mount.session[..3]])
            .with_code(2)
            .saying(&format!("four digits at least; {there}"));
    });
}

#[test]
fn an_output_directory_that_can_never_be_one_is_refused_before_anything_is_made() {
    Machine::mounting_from_directory(|machine| {
        machine.file("scene/dir/file", "a file");
        symlink("dir", machine.path("scene/link")).unwrap();
        let manifest = base(machine);
        let at = machine.dir("mnt");
        for (dir, why) in [
            ("", "it is no name"),
            ("/mnt/frames", "it is not relative to the root of the mount"),
            ("dir/../..", "it may lead out of the mount"),
            ("dir/file", "dir/file is a file"),
            ("dir/file/frames", "dir/file is a file"),
            ("link", "link is a symbolic link"),
        ] {
            let mut mounting = machine.mounting(args!["--output-dir", dir, &manifest], "mnt");
            said(&mut mounting).with_code(2).saying(why);
            let run = args![
                "run",
                "--input",
                machine.path("scene"),
                "--output-dir",
                dir,
                "--",
                "true"
            ];
            machine.says(run).with_code(125).saying(why);
            assert!(machine.sessions().is_empty(), "{dir}");
        }
        let mut mounting = machine.mounting(args!["--early-upload-rate", "1M", &manifest], "mnt");
        said(&mut mounting)
            .with_code(2)
            .saying("--early-upload-rate bounds nothing: without --output-dir");
        assert!(machine.mounts().is_empty());
        // One that is not there may come; a commit tells that it did not.
        let mount = machine.mount(args!["--output-dir", "frames", &manifest], "mnt");
        assert_eq!(mount.dir, at);
        machine
            .ok(args!["commit", &mount.session])
            .printing("missing    1 output directory: frames");
    });
}

#[test]
fn every_verb_counts_the_same_changed_paths() {
    Machine::mounting_from_directory(|machine| {
        for name in ["b", "c", "kept"] {
            machine.file(format!("scene/{name}"), name);
        }
        let mount = mounted(machine, "mnt");
        let at = |name: &str| mount.dir.join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("dir/new"), "new").unwrap();
        fs::write(at("a"), "changed").unwrap();
        fs::remove_file(at("b")).unwrap();
        fs::rename(at("c"), at("moved")).unwrap();
        fs::write(at("gone"), "gone").unwrap();
        fs::remove_file(at("gone")).unwrap();
        mount.until_all_is_closed(machine);
        let session = mount.session.as_str();
        // The bytes of what was deleted go a moment later.
        until("what was deleted is gone", || {
            machine.json(args!["list"])[0]["uncommitted_bytes"] == 10
        });
        let counted = || {
            let list = machine.json(args!["list"]);
            let diff = machine.json(args!["diff", session]);
            let changes: Vec<&Value> = diff["changes"].as_array().unwrap().iter().collect();
            assert_eq!(list.as_array().unwrap().len(), 1);
            for (verb, text) in [
                ("list", "6 changed paths not committed"),
                ("status", "6 paths not committed"),
                ("diff", "6 changed paths"),
            ] {
                let mut line = args![verb].to_vec();
                line.extend((verb != "list").then(|| session.into()));
                machine.ok(line).printing(text);
            }
            let status = machine.json(args!["status", session]);
            [
                list[0]["uncommitted"].clone(),
                status["uncommitted"].clone(),
                changes.len().into(),
            ]
        };
        assert_eq!(counted(), [6, 6, 6]);
        kill_and_wait(mount.pid);
        assert_eq!(counted(), [6, 6, 6]);
        let again = machine.resume(&mount.session_dir, &mount.dir);
        let unmounted = machine.ok(args!["umount", &again.dir]);
        unmounted.printing("6 changed paths not committed");
        assert_eq!(counted(), [6, 6, 6]);
        let unmounted = machine.json(args!["umount", session, "--commit"]);
        assert_eq!(unmounted["uncommitted"], 0);
        let account = &unmounted["commit"]["account"];
        let counts = ["added", "changed", "deleted"].map(|count| account[count].as_u64().unwrap());
        assert_eq!(counts.iter().sum::<u64>(), 6, "{account}");
    });
}

#[test]
fn who_looks_at_a_session_that_lost_written_bytes_hears_which_and_who_can_tell_more() {
    Machine::mounting_from_directory(|machine| {
        let mount = mounted(machine, "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        mount.until_all_is_closed(machine);
        let scratch = mount.session_dir.join("scratch");
        for file in fs::read_dir(scratch).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let lost = |said: Said| {
            said.with_code(INTEGRITY)
                .saying("the bytes that were written to \"new\" are missing from the session")
                .saying(&format!("`attachfs fsck {}`", mount.session))
        };
        for verb in ["status", "diff"] {
            let said = lost(machine.says(args![verb, &mount.dir]));
            assert!(!said.err.contains("commit stopped"), "{said:#?}");
        }
        lost(machine.says(args!["commit", &mount.dir])).saying("the commit stopped");
        let said = lost(machine.says(args!["umount", &mount.dir]));
        assert!(!said.err.contains("commit stopped"), "{said:#?}");
        said.printing("unmounted ").printing(" is kept");
        machine.says(args!["fsck", "--repair", &mount.session]);
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("new");
    });
}
