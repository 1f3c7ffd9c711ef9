//! Commits that were interrupted when their manifest was ready: what ends them, and what keeps their session.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{has_ended, kill_and_wait, said};

mounting_from_both_stores![
    objects_that_vanish_once_the_manifest_is_public_are_sent_again_by_the_next_commit,
    an_unmount_keeps_a_session_with_an_unfinished_commit,
    an_unmount_that_was_to_commit_says_that_the_session_was_discarded_meanwhile,
];

fn base(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.file("scene/big", vec![b'b'; 3_000_000]);
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

/// A mount whose process was killed at a step of a commit, after a job had worked in it.
fn killed_at(machine: &Machine, step: &str, at: &str, work: impl FnOnce(&Path)) -> Mount {
    let mut mounting = machine.mounting(args![base(machine)], at);
    mounting.env("ATTACHFS_HALT_AT", step);
    let mount = Mount::of(&said(&mut mounting).with_code(0));
    work(&mount.dir);
    mount.until_all_is_closed(machine);
    let commit = machine.start(machine.attachfs(args!["commit", &mount.dir]));
    until("it is halted", || mount.log().contains("halted at"));
    kill_and_wait(mount.pid);
    commit.wait().with_code(13);
    mount
}

/// The objects that a job adds to the store.
fn added(machine: &Machine, work: impl FnOnce() -> Mount) -> (Mount, BTreeSet<PathBuf>) {
    base(machine);
    let before = machine.objects();
    let mount = work();
    let added: BTreeSet<PathBuf> = &machine.objects() - &before;
    assert!(!added.is_empty());
    (mount, added)
}

fn objects_that_vanish_once_the_manifest_is_public_are_sent_again_by_the_next_commit(
    machine: &Machine,
) {
    use std::os::unix::fs::FileExt as _;

    let (mount, objects) = added(machine, || {
        killed_at(machine, "Sent", "mnt", |root| {
            fs::write(root.join("new"), vec![b'n'; 2_500_000]).unwrap();
            // Of its three objects one is put together of both.
            let big = fs::OpenOptions::new().write(true).open(root.join("big"));
            big.unwrap().write_all_at(b"PART", 1_234_567).unwrap();
        })
    });
    let manifest = machine.published(&mount.session);
    assert_eq!(manifest.len(), 1);
    for object in &objects {
        fs::remove_file(object).unwrap();
    }
    let commit = machine.json(args!["commit", &mount.session]);
    assert_eq!(
        commit["account"]["uploaded_objects"],
        objects.len(),
        "{commit}"
    );
    assert_eq!(machine.published(&mount.session), manifest);
    for object in &objects {
        assert!(object.exists(), "{}", object.display());
    }
    let address = commit["manifest"]["address"].as_str().unwrap();
    let checked = args![
        "manifest",
        "check",
        "--deep",
        "--store",
        machine.store(),
        address
    ];
    machine.ok(checked);

    // What the job wrote over is nowhere: the commit says so, and what to do.
    let (mount, objects) = added(machine, || {
        killed_at(machine, "Sent", "mnt2", |root| {
            fs::write(root.join("frame"), "of the first try").unwrap();
        })
    });
    let object = objects.into_iter().next().unwrap();
    fs::remove_file(&object).unwrap();
    let again = machine.resume(&mount.session_dir, &mount.dir);
    fs::write(again.dir.join("frame"), "of the second one").unwrap();
    again.until_all_is_closed(machine);
    let hash = object.file_stem().unwrap().to_str().unwrap();
    let refused = machine.says(args!["commit", &mount.session]).with_code(13);
    let key = format!("attachfs/{}/1.manifest", mount.session);
    refused
        .saying(&format!("{hash} of \"frame\""))
        .saying(&key)
        .saying("the session is kept");
    let frame = fs::read_to_string(again.dir.join("frame")).unwrap();
    assert_eq!(frame, "of the second one");
    // As it says: the manifest goes, and the commit is begun anew.
    fs::remove_file(machine.store_files().join("Manifests").join(&key)).unwrap();
    machine.ok(args!["umount", "--commit", &mount.session]);
    let published = machine.published(&mount.session);
    assert_eq!(published.len(), 1);
    let text = String::from_utf8_lossy(&published[0].1);
    assert!(text.contains("\"size\":17"), "{text}");
}

fn an_unmount_keeps_a_session_with_an_unfinished_commit(machine: &Machine) {
    // Its manifest may be in the store, and only the session knows whether.
    let mount = killed_at(machine, "Intended", "mnt", |root| {
        fs::write(root.join("new"), "new").unwrap();
    });
    let again = machine.resume(&mount.session_dir, &mount.dir);
    // Nothing is uncommitted any more.
    fs::remove_file(again.dir.join("new")).unwrap();
    let ended = machine.json(args!["umount", &again.dir]);
    assert_eq!(
        (&ended["uncommitted"], &ended["kept"]),
        (&0.into(), &true.into()),
        "{ended}"
    );
    until("its process has ended", || has_ended(again.pid));
    let status = machine.json(args!["status", &mount.session]);
    assert_eq!(status["commit_unfinished"], true);
    // A signal does not end it either.
    let again = machine.resume(&mount.session_dir, &mount.dir);
    crate::process::kill(again.pid, Signal::TERM);
    until("its process has ended", || has_ended(again.pid));
    assert_eq!(machine.published(&mount.session).len(), 0);
    // Finished, and then the file is deleted for its readers, too.
    machine.ok(args!["commit", &mount.session]);
    assert_eq!(machine.published(&mount.session).len(), 2);
    // Now nothing keeps it.
    let again = machine.resume(&mount.session_dir, &mount.dir);
    let ended = machine.json(args!["umount", &again.dir]);
    assert_eq!(ended["kept"], false, "{ended}");
}

fn an_unmount_that_was_to_commit_says_that_the_session_was_discarded_meanwhile(machine: &Machine) {
    for commit in [true, false] {
        let mount = machine.mount(args![base(machine)], format!("mnt-{commit}"));
        fs::write(mount.dir.join("new"), "new").unwrap();
        mount.kill_when_all_is_closed(machine);
        // Another process has the session, so the unmount waits for it.
        let mut committing = machine.attachfs(args!["commit", &mount.session]);
        committing.env("ATTACHFS_HALT_AT", "Planned");
        let mut committing = machine.start(committing);
        committing.wait_for_error("halted at Planned");
        let umount = args!["umount", &mount.session];
        let umount = if commit {
            [&umount[..], &args!["--commit"]].concat()
        } else {
            umount.to_vec()
        };
        let mut umount = machine.start(machine.attachfs(umount));
        umount.wait_for_error(&committing.pid().to_string());
        umount.signal(Signal::STOP);
        committing.signal(Signal::KILL);
        committing.wait();
        machine.ok(args!["discard", "--yes", &mount.session]);
        umount.signal(Signal::CONT);
        let said = umount.wait();
        if commit {
            said.with_code(2)
                .saying("nothing was committed")
                .saying(&mount.session)
                .saying("was discarded");
        } else {
            said.with_code(0).printing("has ended");
        }
        assert_eq!(machine.published(&mount.session), []);
        machine.says(args!["status", &mount.session]).with_code(2);
    }
    // What ended because nothing was in it is no loss.
    assert_eq!(machine.json(args!["list"]), serde_json::json!([]));
}
