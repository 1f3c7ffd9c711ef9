//! What is sent of a job's outputs while it goes on, and what the commit makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use attachfs_test_s3::{Mishap, Request, Rule};
use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, skipped, until};
use crate::process::{has_ended, kill_and_wait, said};
use crate::tree::{Detail, Tree, copy};
use crate::writers::MAPS;

mounting_from_both_stores![
    outputs_are_in_the_store_before_the_commit_which_sends_only_the_rest,
    an_output_that_changed_after_it_was_sent_is_committed_as_it_is_now,
    an_object_that_vanished_after_it_was_sent_is_sent_again_by_the_commit,
    nothing_is_sent_early_without_output_directories_or_if_it_is_turned_off,
    a_run_sends_early_what_its_patterns_choose,
    a_mount_killed_while_it_sends_early_is_committed_as_if_nothing_had_been_sent,
];

fn base(machine: &Machine) -> PathBuf {
    machine.file("input/scene", "scene");
    machine.file("input/out/input", vec![b'i'; 3_000_000]);
    machine.snapshot(&machine.path("input"), "base.manifest")
}

fn mount(machine: &Machine) -> Mount {
    machine.mount(args!["--output-dir", "out", base(machine)], "mnt")
}

/// What `status` says of it.
fn early(machine: &Machine, mount: &Mount) -> Value {
    machine.json(args!["status", &mount.session])["early_upload"].clone()
}

/// Waits until so many files were sent, and no others wait.
fn until_sent(machine: &Machine, mount: &Mount, files: u64) {
    until(&format!("{files} files are sent"), || {
        let early = early(machine, mount);
        early["files"] == files && early["waiting"] == 0
    });
}

/// The requests for objects with this method so far.
fn requests(machine: &Machine, method: &str) -> usize {
    let is_of_object =
        |request: &&Request| request.method == method && request.path.contains("/Data/");
    let requests = machine.server().requests();
    requests.iter().filter(is_of_object).count()
}

/// Fails unless what was committed last shows this, over the base.
fn assert_committed(machine: &Machine, commit: &Value, expected: &Tree) {
    let diff = commit["manifest"]["address"].as_str().unwrap();
    let manifest = machine.path("base.manifest");
    let both = machine.mount(args!["--read-only", manifest, diff], "both");
    Tree::read(&both.dir, Detail::Committed).assert_is(expected);
    machine.ok(args!["umount", &both.dir]);
}

fn outputs_are_in_the_store_before_the_commit_which_sends_only_the_rest(machine: &Machine) {
    let mount = mount(machine);
    let at = |name: &str| mount.dir.join(name);
    let before = machine.objects();
    fs::write(at("out/frame"), "frame").unwrap();
    fs::create_dir(at("out/deep")).unwrap();
    // Three objects, one of which is a hole. It is open, so that it is not sent, until it has its length.
    let mut long = fs::File::create(at("out/deep/long")).unwrap();
    std::io::Write::write_all(&mut long, &vec![b'l'; 1_000_000]).unwrap();
    long.set_len(2_500_000).unwrap();
    drop(long);
    fs::write(at("scratch"), "made elsewhere").unwrap();
    fs::rename(at("scratch"), at("out/renamed")).unwrap();
    fs::hard_link(at("out/frame"), at("out/again")).unwrap();
    fs::create_dir(at("staged")).unwrap();
    fs::write(at("staged/in"), "in a directory that is renamed").unwrap();
    fs::rename(at("staged"), at("out/staged")).unwrap();
    fs::write(at("outside"), "no output").unwrap();
    // Partly the base's: the commit puts it together.
    let part = fs::OpenOptions::new().write(true).open(at("out/input"));
    std::os::unix::fs::FileExt::write_all_at(&part.unwrap(), b"part", 1_500_000).unwrap();
    let mut deleted = fs::File::create(at("out/deleted")).unwrap();
    std::io::Write::write_all(&mut deleted, b"deleted").unwrap();
    fs::remove_file(at("out/deleted")).unwrap();
    drop(deleted);
    until_sent(machine, &mount, 4);
    let sent = &machine.objects() - &before;
    // frame, renamed, in; and of long what has bytes, the hole, and its end.
    assert_eq!(sent.len(), 6, "{sent:?}");
    let status = machine.ok(args!["status", &mount.dir]);
    status.printing("sent early 4 files, 2.50 MB, not committed yet; 0 files waiting");

    let puts = machine.is_s3().then(|| requests(machine, "PUT"));
    fs::write(at("out/late"), "late").unwrap();
    let expected = Tree::read(&mount.dir, Detail::Committed);
    let commit = machine.json(args!["commit", "--everything", &mount.dir]);
    // late, outside, and the touched piece of input. A commit that is slow to begin finds that late was sent.
    let account = &commit["account"];
    let count = |of: &str| account[of].as_u64().unwrap();
    let sent_early = (count("early_objects"), count("early_bytes"));
    match count("uploaded_objects") {
        3 => assert_eq!(sent_early, (6, 2_500_049), "{commit}"),
        2 => assert!(
            [(6, 2_500_049), (7, 2_500_053)].contains(&sent_early),
            "{commit}"
        ),
        _ => panic!("{commit}"),
    }
    if let Some(before) = puts {
        assert_eq!(requests(machine, "PUT") - before, 3);
    }
    assert_committed(machine, &commit, &expected);
    assert_eq!(early(machine, &mount)["files"], 0);
    // And it goes on.
    fs::write(at("out/next"), "next").unwrap();
    until_sent(machine, &mount, 1);
}

fn an_output_that_changed_after_it_was_sent_is_committed_as_it_is_now(machine: &Machine) {
    let mount = mount(machine);
    let at = |name: &str| mount.dir.join(name);
    for name in ["out/rewritten", "out/appended", "out/touched", "out/kept"] {
        fs::write(at(name), format!("{name} as it was first")).unwrap();
    }
    until_sent(machine, &mount, 4);
    // Of the same length.
    fs::write(at("out/rewritten"), "out/rewritten as it is now..").unwrap();
    let appended = fs::OpenOptions::new().append(true).open(at("out/appended"));
    std::io::Write::write_all(&mut appended.unwrap(), b", and more").unwrap();
    let touched = fs::File::options().write(true).open(at("out/touched"));
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    touched.unwrap().set_modified(time).unwrap();
    let expected = Tree::read(&mount.dir, Detail::Committed);
    let commit = machine.json(args!["commit", &mount.dir]);
    // A commit that is slow to begin finds more of them, which were sent as they are now.
    let count = |of: &str| commit["account"][of].as_u64().unwrap();
    let objects = count("uploaded_objects") + count("present_objects");
    assert_eq!(objects, 4, "{commit}");
    assert!(count("early_objects") >= 2, "{commit}");
    assert_committed(machine, &commit, &expected);
}

fn an_object_that_vanished_after_it_was_sent_is_sent_again_by_the_commit(machine: &Machine) {
    let mount = mount(machine);
    let before = machine.objects();
    fs::write(mount.dir.join("out/a"), "a is removed").unwrap();
    fs::write(mount.dir.join("out/b"), "b is cut").unwrap();
    fs::write(mount.dir.join("out/c"), "c stays").unwrap();
    until_sent(machine, &mount, 3);
    for object in &machine.objects() - &before {
        match fs::read(&object).unwrap().first() {
            Some(b'a') => fs::remove_file(&object).unwrap(),
            Some(b'b') => fs::write(&object, "b").unwrap(),
            _ => {}
        }
    }
    let expected = Tree::read(&mount.dir, Detail::Committed);
    let commit = machine.json(args!["commit", &mount.dir]);
    assert_eq!(commit["account"]["uploaded_objects"], 2, "{commit}");
    assert_eq!(commit["account"]["early_objects"], 1, "{commit}");
    assert_committed(machine, &commit, &expected);
}

fn nothing_is_sent_early_without_output_directories_or_if_it_is_turned_off(machine: &Machine) {
    let manifest = base(machine);
    let before = machine.objects();
    let plain = machine.mount(args![&manifest], "plain");
    let off = args!["--output-dir", "out", "--no-early-upload", &manifest];
    let off = machine.mount(off, "off");
    let mut by_variable = machine.mounting(args!["--output-dir", "out", &manifest], "variable");
    by_variable.env("ATTACHFS_NO_EARLY_UPLOAD", "1");
    let by_variable = Mount::of(&said(&mut by_variable).with_code(0));
    for mount in [&plain, &off, &by_variable] {
        fs::write(mount.dir.join("out/frame"), "not sent").unwrap();
        assert_eq!(early(machine, mount), Value::Null);
    }
    // What is written later to a mount that sends is there.
    let on = machine.mount(args!["--output-dir", "out", &manifest], "on");
    fs::write(on.dir.join("out/frame"), "sent").unwrap();
    until_sent(machine, &on, 1);
    let sent = &machine.objects() - &before;
    assert_eq!(sent.len(), 1, "{sent:?}");
    let bytes = |object: &PathBuf| fs::read(object).unwrap();
    assert_eq!(sent.iter().map(bytes).collect::<Vec<_>>(), [b"sent"]);
    let commit = machine.ok(args!["commit", &on.dir]);
    commit.printing(
        "uploaded   0 objects, 0 B; 1 object, 4 B, was there already, 4 B of that sent while the job ran",
    );
}

fn a_run_sends_early_what_its_patterns_choose(machine: &Machine) {
    let manifest = base(machine);
    let before = machine.objects();
    // Ends when the mount knows that a file was sent, and not when its object is there: in between a commit only finds it.
    let script = format!(
        "echo no > out/frame.tmp; echo yes > out/frame.png
         until '{}' status . | grep -q 'sent early 1 file'; do sleep 0.1; done",
        crate::programs::program("attachfs").display(),
    );
    let run = args![
        "run",
        "--manifest",
        &manifest,
        "--output-dir",
        "out",
        "--exclude",
        "**/*.tmp",
        "--store",
        machine.store(),
        "--",
        "sh",
        "-c",
        script
    ];
    let ran = machine.json(run);
    let account = &ran["commit"]["account"];
    assert_eq!(account["early_objects"], 1, "{ran}");
    assert_eq!(account["uploaded_objects"], 0, "{ran}");
    assert_eq!(account["not_chosen"][0], "out/frame.tmp", "{ran}");
    let sent = &machine.objects() - &before;
    let bytes: Vec<_> = sent
        .iter()
        .map(|object| fs::read(object).unwrap())
        .collect();
    assert_eq!(bytes, [b"yes\n"]);
}

fn a_mount_killed_while_it_sends_early_is_committed_as_if_nothing_had_been_sent(machine: &Machine) {
    let manifest = base(machine);
    let not_yet = args!["--output-dir", "out", "--no-early-upload", &manifest];
    let mount = machine.mount(not_yet, "mnt");
    for number in 0..20 {
        let name = format!("out/frame-{number}");
        fs::write(mount.dir.join(name), format!("frame {number}")).unwrap();
    }
    fs::write(mount.dir.join("out/long"), vec![b'l'; 2_500_000]).unwrap();
    machine.ok(args!["umount", &mount.dir]);
    until("the process ends", || has_ended(mount.pid));
    let (store, saved) = (machine.store_files(), machine.dir("saved"));
    copy(&mount.session_dir, &saved.join("session"));
    copy(&store, &saved.join("store"));
    machine.ok(args!["commit", &mount.session]);
    let undisturbed = machine.published(&mount.session);
    let objects: BTreeSet<PathBuf> = machine.objects();

    for (step, is_taken_up) in [
        ("EarlyHashed", false),
        ("EarlySent", false),
        ("EarlyHashed", true),
        ("EarlySent", true),
    ] {
        for (from, to) in [("session", &mount.session_dir), ("store", &store)] {
            if to.exists() {
                fs::remove_dir_all(to).unwrap();
            }
            copy(&saved.join(from), to);
        }
        let resume = args![
            "mount",
            "--json",
            "--session",
            &mount.session_dir,
            &mount.dir
        ];
        let mut command = machine.attachfs(resume);
        let halting = Mount::of(&said(command.env("ATTACHFS_HALT_AT", step)).with_code(0));
        let halted = format!("halted at {step}");
        until(&halted, || halting.log().contains(&halted));
        // The job goes on.
        fs::read(halting.dir.join("out/long")).unwrap();
        kill_and_wait(halting.pid);
        assert_eq!(machine.published(&mount.session), []);
        if is_taken_up {
            let again = machine.resume(&mount.session_dir, &mount.dir);
            until_sent(machine, &again, 21);
            let commit = machine.json(args!["commit", &again.dir]);
            assert_eq!(commit["account"]["uploaded_objects"], 0, "{commit}");
            kill_and_wait(again.pid);
        } else {
            machine.ok(args!["umount", &mount.dir]).printing("had died");
            machine.ok(args!["commit", &mount.session]);
        }
        assert!(machine.published(&mount.session) == undisturbed, "{step}");
        assert_eq!(machine.objects(), objects, "{step}");
    }
}

#[test]
fn who_writes_to_a_mapping_is_not_sent_early_before_it_ends() {
    Machine::mounting_from_directory(|machine| {
        if Command::new("python3").arg("--version").output().is_err() {
            skipped("there is no python3, which maps files");
            return;
        }
        let mount = mount(machine);
        let before = machine.objects();
        fs::write(mount.dir.join("probe"), "probe").unwrap();
        let stats = machine.json(args!["stats", &mount.dir]);
        fs::remove_file(mount.dir.join("probe")).unwrap();
        if stats["passthrough"]["scratch_opens"] == 0 {
            skipped("the kernel takes no scratch files from a process of this user here");
            return;
        }
        let mut python = machine.command("python3");
        python.args(["-c", MAPS]).current_dir(&mount.dir);
        python.stdin(Stdio::piped());
        let mut mapper = machine.start(python);
        mapper.wait_for_output("mapped");
        mount.until_all_is_closed(machine);
        // Written later, and sent.
        for name in ["out/one", "out/two"] {
            fs::write(mount.dir.join(name), name).unwrap();
        }
        until("both are sent", || early(machine, &mount)["files"] == 2);
        for object in &machine.objects() - &before {
            assert!(fs::read(&object).unwrap().starts_with(b"out/"));
        }
        mapper.type_keys("\n\n");
        mapper.wait_for_output("written 1");
        mapper.signal(Signal::KILL);
        mapper.wait();
        until("what was mapped is sent", || {
            early(machine, &mount)["files"] == 3
        });
        let expected = Tree::read(&mount.dir, Detail::Committed);
        let commit = machine.json(args!["commit", &mount.dir]);
        assert_eq!(commit["account"]["uploaded_objects"], 0, "{commit}");
        assert_committed(machine, &commit, &expected);
    });
}

/// Fails if it takes longer than this.
fn within<T>(most: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    let took = began.elapsed();
    assert!(took < most, "{what} took {took:?}");
    done
}

#[test]
fn a_store_that_never_answers_delays_neither_the_job_nor_the_end_of_the_mount() {
    Machine::mounting_from_s3(|machine| {
        let mount = mount(machine);
        machine
            .server()
            .add(Rule::on("PUT", Mishap::Silence).of("Data"));
        machine
            .server()
            .add(Rule::on("HEAD", Mishap::Silence).of("Data"));
        fs::write(mount.dir.join("out/frame"), "frame").unwrap();
        let is_early = |request: &Request| {
            request.path.contains("/Data/") && ["PUT", "HEAD"].contains(&request.method.as_str())
        };
        let asked = |requests: &[Request]| requests.iter().any(is_early);
        machine.server().wait_for("it is being sent", asked);
        let job = |root: &Path| {
            for number in 0..200 {
                fs::write(root.join(format!("out/{number}")), "more").unwrap();
            }
            fs::write(root.join("out/frame"), "again").unwrap();
            fs::read(root.join("scene")).unwrap();
        };
        within(Duration::from_mins(1), "the job", || job(&mount.dir));
        let umount = || machine.ok(args!["umount", &mount.dir]);
        within(Duration::from_mins(1), "the end of the mount", umount);
        until("the process ends", || has_ended(mount.pid));
        machine.server().heal();
        let commit = machine.json(args!["commit", &mount.session]);
        assert_eq!(commit["account"]["uploaded_objects"], 2, "{commit}");
    });
}

#[test]
fn a_store_that_refuses_is_told_once_and_asked_again_later() {
    Machine::mounting_from_s3(|machine| {
        let mount = mount(machine);
        let denied = Mishap::Error {
            status: 403,
            code: "AccessDenied",
        };
        machine.server().add(Rule::on("PUT", denied).of("Data"));
        for number in 0..40 {
            fs::write(mount.dir.join(format!("out/{number}")), number.to_string()).unwrap();
        }
        until("it is refused", || {
            early(machine, &mount)["trouble"].is_string()
        });
        let status = machine.ok(args!["status", &mount.dir]);
        status.printing("the store takes none now: ");
        machine.server().heal();
        until_sent(machine, &mount, 40);
        assert_eq!(early(machine, &mount)["trouble"], Value::Null);
        let log = mount.log();
        let told = log.matches("outputs cannot be sent before the commit");
        assert_eq!(told.count(), 1, "{log}");
        machine.ok(args!["umount", &mount.dir]);
    });
}
