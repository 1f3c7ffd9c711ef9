//! The end of mounts: interrupted, asked for twice, of many at once, of mounts that are used, and what is left of killed ones.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, skipped, until};
use crate::process::{Running, has_ended, kill, said, stop};

mounting_from_both_stores![
    an_unmount_that_is_interrupted_goes_on_and_is_waited_for_by_the_same_command,
    a_killed_mount_that_was_to_be_committed_is_committed_by_umount,
    a_killed_mount_that_cannot_be_committed_is_pending_and_umount_goes_on_with_it,
    two_unmounts_at_once_both_hand_over_the_manifest,
    many_mounts_are_ended_at_once_and_the_command_goes_on_with_those_that_were_pending,
    a_forced_unmount_of_a_stopped_process_does_not_pass_for_a_commit,
    several_mounts_are_looked_at_before_one_is_touched,
    a_used_mount_is_detached_and_committed_when_nobody_uses_it_any_more,
    who_uses_a_mount_is_waited_for_and_cut_off_after_that,
];

const NOTHING: [PathBuf; 0] = [];

fn base(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

fn address(report: &Value) -> &str {
    report["commit"]["manifest"]["address"].as_str().unwrap()
}

#[test]
fn the_end_of_a_mount_waits_half_a_minute_at_most_for_a_disk_that_hangs() {
    Machine::mounting_from_directory(|machine| {
        let mut mounting = machine.mounting(args![base(machine)], "mnt");
        // The sync of the scratch files' disk, which the end of a mount is to wait for.
        mounting.env("ATTACHFS_HALT_AT", "ScratchAll");
        let mount = Mount::of(&said(&mut mounting).with_code(0));
        fs::write(mount.dir.join("new"), "new").unwrap();
        let since = Instant::now();
        let umount = machine.start(machine.attachfs(args!["umount", &mount.dir]));
        until("it is halted", || mount.log().contains("halted at"));
        umount.wait().with_code(0);
        let waited = since.elapsed();
        assert!(waited > Duration::from_secs(25), "{waited:?}");
        assert!(waited < Duration::from_mins(2), "{waited:?}");
        let log = mount.log();
        assert!(log.contains("may still be lost with the power"), "{log}");
        until("its process has ended", || has_ended(mount.pid));
        // Nothing is lost.
        machine.ok(args!["commit", &mount.session]);
        assert_eq!(machine.published(&mount.session).len(), 1);
    });
}

/// A program whose working directory is in a mount.
fn sleeper(machine: &Machine, mount: &Mount, seconds: &str) -> Running {
    let mut command = machine.command("sleep");
    command.arg(seconds).current_dir(&mount.dir);
    let running = machine.start(command);
    let at = format!("/proc/{}/cwd", running.pid());
    until("it is there", || {
        fs::read_link(&at).is_ok_and(|at| at == mount.dir)
    });
    running
}

/// An unmount with a commit in whose middle the process of the mount is stopped. One that had its commit behind it by then is left to end,
/// and another one is tried.
fn stopped_in_mid_commit(machine: &Machine) -> (Mount, Running) {
    let manifest = base(machine);
    for files in [2000, 4000, 8000, 16_000] {
        let mount = machine.mount(args![&manifest], "mnt");
        for number in 0..files {
            fs::write(mount.dir.join(number.to_string()), number.to_string()).unwrap();
        }
        let umount = machine.attachfs(args!["umount", "--commit", "--json", &mount.dir]);
        let umount = machine.start(umount);
        until("it is unmounted", || machine.mounts() == NOTHING);
        if stop(mount.pid) {
            if machine.published(&mount.session).is_empty() {
                return (mount, umount);
            }
            kill(mount.pid, Signal::CONT);
        }
        umount.wait().with_code(0);
        until("the process ends", || has_ended(mount.pid));
    }
    panic!("all of them were quicker");
}

fn an_unmount_that_is_interrupted_goes_on_and_is_waited_for_by_the_same_command(machine: &Machine) {
    let (mount, first) = stopped_in_mid_commit(machine);
    let umount = args!["umount", "--commit", "--json", &mount.dir];
    first.signal(Signal::INT);
    let id = &mount.session[..8];
    first
        .wait()
        .with_code(15)
        .saying(&format!("process {} (", mount.pid))
        .saying(&format!("goes on unmounting and committing session {id}"))
        .saying(&format!("`attachfs status {id}`"));
    let second = machine.start(machine.attachfs(&umount));
    kill(mount.pid, Signal::CONT);
    let status = machine.says(args!["status", id]);
    // It may have ended meanwhile.
    assert!(
        status.out.contains("committed") || status.out.contains("ended"),
        "{status:?}"
    );
    let second = second.wait().with_code(0).json();
    let published = machine.published(&mount.session);
    assert_eq!(published.len(), 1);
    assert!(address(&second).ends_with("1.manifest"), "{second}");
    // If it came when all was over it is told no more than that.
    assert_ne!(second["kept"], true);
    until("the process ends", || has_ended(mount.pid));
    assert_eq!(machine.sessions(), NOTHING);

    // When all is over the result is told, and nothing is done.
    let third = machine.json(args!["umount", "--commit", &mount.session]);
    assert_eq!(
        (&third["ended"], address(&third)),
        (&Value::Bool(true), address(&second))
    );
    machine
        .ok(args!["umount", "--commit", &mount.dir])
        .printing("has ended")
        .printing(address(&second));
    // The last session at a mount point need not be the one that is meant: its manifest is not handed over as another's.
    let out = machine.path("out");
    let refused = machine.says(args!["umount", "-o", &out, &mount.dir]);
    refused.with_code(2).saying("has ended");
    assert!(!out.exists());
    // What a job wrote there without a mount is nobody's, and not committed.
    fs::write(mount.dir.join("stray"), "of a job whose mount failed").unwrap();
    machine
        .says(args!["umount", "--commit", &mount.dir])
        .with_code(2)
        .saying("files in it that no session has");
    let batch = machine.says(args![
        "umount",
        "--commit",
        "--json",
        &mount.dir,
        &mount.session
    ]);
    batch.with_code(2);
}

fn a_killed_mount_that_was_to_be_committed_is_committed_by_umount(machine: &Machine) {
    let mount = machine.mount(args!["--commit", base(machine)], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    mount.kill_when_all_is_closed(machine);
    let ended = machine.json(args!["umount", &mount.dir]);
    assert_eq!(
        (&ended["was_dead"], &ended["kept"]),
        (&true.into(), &false.into())
    );
    assert_eq!(machine.published(&mount.session).len(), 1);
    assert!(address(&ended).ends_with("1.manifest"));
    assert_eq!((machine.mounts(), machine.sessions()), (vec![], vec![]));
}

fn a_killed_mount_that_cannot_be_committed_is_pending_and_umount_goes_on_with_it(
    machine: &Machine,
) {
    let mount = machine.mount(args!["--commit", base(machine)], "mnt");
    let open = File::create(mount.dir.join("new")).unwrap();
    fs::write(mount.dir.join("done"), "done").unwrap();
    // What the killed process had open for writing may be half written.
    (&open).write_all(b"half").unwrap();
    until("the other file is closed", || {
        machine.json(args!["status", &mount.session])["open"] == json!(["new"])
    });
    crate::process::kill_and_wait(mount.pid);
    drop(open);
    // Nothing has happened that it would have told of.
    fs::write(mount.session_dir.join("log"), "what it told").unwrap();
    let id = &mount.session[..8];
    machine
        .says(args!["umount", &mount.dir])
        .with_code(14)
        .saying("perhaps half written: \"new\"")
        .printing("is kept with 2 changed paths not committed")
        .printing(&format!("attachfs commit {id}"));
    assert_eq!(machine.published(&mount.session).len(), 0);
    assert_eq!(machine.mounts(), NOTHING);
    // The same command would say the same; once it is accepted, umount finds it done.
    machine.ok(args!["commit", "--accept-open", id]);
    let again = machine.json(args!["umount", &mount.session]);
    assert_eq!(
        (&again["was_left"], &again["kept"]),
        (&true.into(), &false.into())
    );
    // The log of the killed process outlives its session.
    let log = fs::read_to_string(again["log"].as_str().unwrap()).unwrap();
    assert_eq!(log, "what it told");
    assert_eq!(machine.published(&mount.session).len(), 1);
    assert_eq!(machine.sessions(), NOTHING);
}

fn two_unmounts_at_once_both_hand_over_the_manifest(machine: &Machine) {
    let manifest = base(machine);
    for round in 0..4 {
        let mount = machine.mount(args![&manifest], format!("mnt{round}"));
        for number in 0..20 * round {
            fs::write(mount.dir.join(number.to_string()), "x").unwrap();
        }
        fs::write(mount.dir.join("new"), round.to_string()).unwrap();
        let outs = [0, 1, 2].map(|number| machine.path(format!("out{round}-{number}")));
        let umount = |out: &PathBuf| {
            let command = machine.attachfs(args!["umount", "-o", out, &mount.dir]);
            machine.start(command)
        };
        let ending = outs.each_ref().map(umount);
        let ended = ending.map(Running::wait);
        // Who came when all was over is told so, and writes nothing.
        let is_late = |said: &crate::process::Said| said.code == 2 && said.err.contains("ended");
        for (said, out) in ended.iter().zip(&outs) {
            assert!(said.code == 0 || is_late(said), "{said:?}");
            if said.code == 0 {
                let published = machine.published(&mount.session);
                assert_eq!(fs::read(out).unwrap(), published[0].1);
            }
        }
        assert_eq!(machine.published(&mount.session).len(), 1);
        assert!(!ended.iter().all(is_late));
        until("the process ends", || has_ended(mount.pid));
        assert_eq!(machine.sessions(), NOTHING);
        let left = fs::read_dir(machine.path("")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| name.starts_with(".staged")).count(), 0);
    }
}

#[test]
fn a_manifest_for_which_there_is_no_room_is_told_before_anything_is_published() {
    Machine::mounting_from_directory(|machine| {
        let disk = machine.dir("disk");
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "small"])
            .arg(&disk)
            .output()
            .unwrap();
        if !made.status.success() {
            return skipped("only root can make a small file system");
        }
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        let full = disk.join("out.manifest");
        let read_only = machine.dir("read-only");
        let bind = Command::new("mount")
            .arg("--bind")
            .args([&read_only, &read_only])
            .status();
        assert!(bind.unwrap().success());
        let remounted = Command::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(&read_only)
            .status();
        assert!(remounted.unwrap().success());
        for out in [&full, &read_only.join("out.manifest")] {
            for verb in ["umount", "commit"] {
                let refused = machine.says(args![verb, &mount.dir, "-o", out]);
                refused.with_code(2).saying("cannot write the manifest to");
            }
            assert!(!out.exists());
        }
        assert_eq!(machine.published(&mount.session), []);
        assert!(machine.mounts().contains(&mount.dir));
        assert_eq!(
            fs::read_dir(&disk).unwrap().count(),
            0,
            "nothing is left there"
        );

        // What cannot be foreseen is told with the address of the manifest.
        let too_long = machine.path("n".repeat(300));
        let late = machine.says(args!["umount", &mount.dir, "-o", &too_long]);
        assert_ne!(late.code, 0);
        let key = format!("Manifests/attachfs/{}/1.manifest", mount.session);
        late.saying("it is published as").saying(&key);
        let out = machine.path("out.manifest");
        let again = machine.json(args!["umount", "-o", &out, &mount.session]);
        assert_eq!(again["kept"], false);
        assert_eq!(
            fs::read(&out).unwrap(),
            machine.published(&mount.session)[0].1
        );
    });
}

fn mounts_with_work(machine: &Machine, names: &[&str]) -> Vec<Mount> {
    let manifest = base(machine);
    let mount = |name: &&str| {
        let mount = machine.mount(args![&manifest], name);
        fs::write(mount.dir.join("new"), name).unwrap();
        mount
    };
    names.iter().map(mount).collect()
}

fn many_mounts_are_ended_at_once_and_the_command_goes_on_with_those_that_were_pending(
    machine: &Machine,
) {
    let mounts = mounts_with_work(machine, &["one", "two", "three"]);
    let busy = sleeper(machine, &mounts[1], "600");
    let dirs: Vec<_> = mounts
        .iter()
        .map(|mount| mount.dir.clone().into())
        .collect();
    let umount = [args!["umount", "--commit"].to_vec(), dirs].concat();
    let with_json = [umount.clone(), args!["--json"].to_vec()].concat();
    let said = machine.says(&with_json).with_code(13);
    let told = said.json();
    let resume = format!("attachfs umount --commit {}", mounts[1].dir.display());
    assert_eq!((&told["done"], &told["pending"]), (&2.into(), &1.into()));
    assert_eq!(told["resume"], resume.as_str());
    let said = said.saying(&format!(
        "nothing is lost: 2 done, 1 mount pending; go on with `{resume}`"
    ));
    said.saying("sleep");
    for (number, mount) in mounts.iter().enumerate() {
        let of = &told["mounts"][number];
        assert_eq!(of["name"], mount.dir.to_str().unwrap());
        let is_done = number != 1;
        assert_eq!(of["state"], if is_done { "done" } else { "pending" });
        assert_eq!(
            machine.published(&mount.session).len(),
            usize::from(is_done)
        );
        if is_done {
            assert!(address(&of["report"]).contains(&mount.session));
        } else {
            assert!(of["error"].as_str().unwrap().contains("sleep"), "{of}");
        }
    }
    assert_eq!(machine.mounts(), [mounts[1].dir.clone()]);
    // Who types the line has the options of the command that did not get there: otherwise more would be committed.
    let more = args!["--exclude", "x y*", "--symlinks", "skip", "--timeout", "1"].to_vec();
    let said = machine.says([umount.clone(), more].concat()).with_code(13);
    said.saying(
        "go on with `attachfs umount --commit --timeout 1 --exclude 'x y*' --symlinks skip ",
    );
    busy.signal(Signal::KILL);
    busy.wait();
    let said = machine.ok(&umount);
    said.printing(&format!("unmounted  {}", mounts[1].dir.display()))
        .printing(&format!("ended      {}", mounts[0].dir.display()));
    assert_eq!(machine.published(&mounts[1].session).len(), 1);
    assert_eq!(machine.mounts(), NOTHING);
    until("their sessions are gone", || machine.sessions() == NOTHING);
}

fn a_forced_unmount_of_a_stopped_process_does_not_pass_for_a_commit(machine: &Machine) {
    let mounts = mounts_with_work(machine, &["one", "two"]);
    assert!(stop(mounts[0].pid));
    let forced = args![
        "umount",
        "--force",
        "--commit",
        &mounts[0].dir,
        &mounts[1].dir
    ];
    let told = machine.says(forced).with_code(13);
    told.saying("nothing was committed")
        .saying("1 done, 1 mount pending")
        .saying(&format!(
            "umount --commit --force {}",
            &mounts[0].session[..8]
        ));
    assert_eq!(machine.published(&mounts[0].session), []);
    assert_eq!(machine.published(&mounts[1].session).len(), 1);
    kill(mounts[0].pid, Signal::CONT);
    until("its process has ended", || has_ended(mounts[0].pid));
    machine.ok(args!["commit", &mounts[0].session]);
    assert_eq!(machine.published(&mounts[0].session).len(), 1);
}

fn several_mounts_are_looked_at_before_one_is_touched(machine: &Machine) {
    let mounts = mounts_with_work(machine, &["one", "two"]);
    let (one, two) = (&mounts[0].dir, &mounts[1].dir);
    let out = machine.path("out");
    for wrong in [
        args!["umount", one, two, "-o", &out].to_vec(),
        args!["umount", one, two, "--publish", "mine/out"].to_vec(),
        args!["umount", one, two, "--include", "../x"].to_vec(),
        args!["umount", "--lazy", "--force", one].to_vec(),
        args!["umount"].to_vec(),
    ] {
        machine.says(wrong).with_code(2);
        let mut there = machine.mounts();
        there.sort();
        assert_eq!(there, [one.clone(), two.clone()]);
    }
    for mount in &mounts {
        assert_eq!(machine.published(&mount.session), []);
    }
    // One that is named twice is ended once.
    let told = machine.json(args!["umount", "--commit", one, &mounts[0].session, two]);
    assert_eq!(told["mounts"].as_array().unwrap().len(), 2);
    assert_eq!(told["done"], 2);
}

fn a_used_mount_is_detached_and_committed_when_nobody_uses_it_any_more(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    let mut open = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(mount.dir.join("new"))
        .unwrap();
    open.write_all(b"one ").unwrap();
    let detached = machine.says(args!["umount", "--lazy", "--commit", "--json", &mount.dir]);
    let detached = detached.with_code(13).json();
    assert_eq!(detached["detached"], true);
    let me = format!("process {},", std::process::id());
    let users = detached["users"].as_array().unwrap();
    assert!(
        users
            .iter()
            .any(|user| user.as_str().unwrap().contains(&me)),
        "{detached}"
    );
    assert_eq!(machine.mounts(), NOTHING);
    machine
        .ok(args!["status", &mount.session])
        .printing("detached, it ends when nobody uses it any more");
    // Another mount takes its place meanwhile.
    let other = machine.mount(args![&manifest], "mnt");
    machine.ok(args!["umount", &other.dir]);
    open.write_all(b"two").unwrap();
    drop(open);
    until("the process ends", || has_ended(mount.pid));
    let published = machine.published(&mount.session);
    assert_eq!(published.len(), 1);
    let text = String::from_utf8_lossy(&published[0].1).into_owned();
    assert!(text.contains("\"size\":7"), "{text}");
    assert_eq!(machine.sessions(), NOTHING);

    // Nobody uses it: it ends at once. And without a commit nothing is pending.
    let mount = machine.mount(args![&manifest], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    let ended = machine.json(args!["umount", "--lazy", "--commit", &mount.dir]);
    assert_eq!(
        (&ended["detached"], &ended["kept"]),
        (&false.into(), &false.into())
    );
    assert_eq!(machine.published(&mount.session).len(), 1);
    let mount = machine.mount(args![&manifest], "mnt");
    let open = File::create(mount.dir.join("new")).unwrap();
    machine
        .ok(args!["umount", "--lazy", &mount.dir])
        .printing("detached")
        .printing(&me);
    drop(open);
    until("the process ends", || has_ended(mount.pid));
    assert_eq!(machine.published(&mount.session), []);
    machine.ok(args!["diff", &mount.session]).printing("+ new");
}

fn who_uses_a_mount_is_waited_for_and_cut_off_after_that(machine: &Machine) {
    let mounts = mounts_with_work(machine, &["one", "two"]);
    let waited_for = sleeper(machine, &mounts[0], "600");
    machine.says(args!["umount", &mounts[0].dir]).with_code(14);
    let umount = args!["umount", "--timeout", "200", &mounts[0].dir];
    let mut waiting = machine.start(machine.attachfs(umount));
    // It has had the time of this one to be refused.
    machine.says(args!["umount", &mounts[0].dir]).with_code(14);
    assert!(waiting.is_running());
    waited_for.signal(Signal::KILL);
    waited_for.wait();
    waiting.wait().with_code(0);
    let mut endless = sleeper(machine, &mounts[1], "600");
    let busy = machine.says(args!["umount", "--timeout", "1", &mounts[1].dir]);
    busy.with_code(14).saying("sleep");
    machine.ok(args![
        "umount",
        "--timeout",
        "1",
        "--force",
        "--commit",
        &mounts[1].dir
    ]);
    assert_eq!(machine.published(&mounts[1].session).len(), 1);
    assert!(endless.is_running());
    assert_eq!(machine.mounts(), NOTHING);
    endless.signal(Signal::KILL);
}

#[test]
fn verbs_that_ask_a_process_in_its_last_moments_go_on_with_the_session() {
    Machine::mounting_from_directory(|machine| {
        let base = base(machine);
        for (round, verb) in ["status", "diff", "commit", "commit"]
            .into_iter()
            .enumerate()
        {
            let mount = machine.mount(args![&base], format!("mnt{round}"));
            fs::write(mount.dir.join("new"), "new").unwrap();
            mount.until_all_is_closed(machine);
            assert!(stop(mount.pid));
            let asking = machine.start(machine.attachfs(args![verb, &mount.session]));
            until("it waits for an answer", || is_connected(asking.pid()));
            // It ends as soon as it goes on, and may or may not hear the verb before.
            kill(mount.pid, Signal::TERM);
            kill(mount.pid, Signal::CONT);
            asking.wait().with_code(0);
            machine.ok(args!["commit", &mount.session]);
            assert_eq!(machine.published(&mount.session).len(), 1);
        }
    });
}

fn is_connected(pid: u32) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut targets = open
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.any(|target| target.to_string_lossy().starts_with("socket:"))
}
