//! Sessions on disk: where one is made, whose files it trusts, what is deleted with it, and which sessions are listed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::machine::{Machine, args, mounting_from_both_stores};

mounting_from_both_stores![
    what_was_in_a_directory_survives_an_attempt_to_make_a_session_in_it,
    a_mount_that_fails_leaves_no_session_and_nothing_in_a_directory_that_was_there,
    a_discard_stops_at_what_attachfs_did_not_make,
    nothing_that_another_user_prepared_is_opened_or_written,
    a_session_is_not_looked_for_through_a_prepared_state_directory,
    a_session_whose_directory_is_gone_for_now_is_listed_and_found_again,
    a_session_in_the_place_of_another_is_listed_once_and_is_not_ambiguous,
    what_an_ended_session_published_is_told_until_it_is_pruned,
];

const NOBODY: u32 = 65534;

fn base(machine: &Machine) -> PathBuf {
    machine.file("input/a", "a of the input\n");
    machine.snapshot(&machine.path("input"), "base.manifest")
}

/// Everything below a directory: names, and what files and links hold.
fn content(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.push((path.clone(), String::new()));
            found.extend(content(&path));
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            found.push((path, target.display().to_string()));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found.sort();
    found
}

fn listed(machine: &Machine) -> Vec<(String, String)> {
    let sessions = machine.json(args!["list"]);
    let text = |session: &Value, of: &str| session[of].as_str().unwrap().to_owned();
    let of = |session| (text(session, "session"), text(session, "state"));
    sessions.as_array().unwrap().iter().map(of).collect()
}

fn what_was_in_a_directory_survives_an_attempt_to_make_a_session_in_it(machine: &Machine) {
    let manifest = base(machine);
    machine.file("proj/scratch/work", "precious");
    machine.file("proj/base/0", "precious");
    machine.file("proj/journal", "precious");
    let before = content(&machine.path("proj"));
    for at in ["missing", "mnt"] {
        if at == "mnt" {
            machine.dir(at);
        }
        let mut arguments = args!["mount", "--store", machine.store(), "--session"].to_vec();
        arguments.extend(args![machine.path("proj"), &manifest, machine.path(at)]);
        let said = machine.says(&arguments);
        assert_ne!(said.code, 0, "{said:#?}");
        if at == "mnt" {
            said.saying("is not empty (base, journal, scratch)");
        }
        assert_eq!(content(&machine.path("proj")), before);
    }
    assert!(machine.sessions().is_empty());
}

fn a_mount_that_fails_leaves_no_session_and_nothing_in_a_directory_that_was_there(
    machine: &Machine,
) {
    let manifest = base(machine);
    machine.file("full/x", "in the way");
    let empty = machine.dir("empty");
    for (session, at) in [
        (Some(&empty), "full"),
        (Some(&empty), "missing"),
        (Some(&machine.path("new")), "full"),
        (None, "full"),
        (None, "missing"),
    ] {
        let mut arguments = args!["mount", "--store", machine.store()].to_vec();
        if let Some(session) = session {
            arguments.extend(args!["--session", session]);
        }
        arguments.extend(args![&manifest, machine.path(at)]);
        machine.says(&arguments).with_code(10);
        assert!(content(&empty).is_empty());
        assert_eq!(mode(&empty), 0o755);
        assert!(!machine.path("new").exists());
        assert!(machine.sessions().is_empty());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn a_discard_stops_at_what_attachfs_did_not_make(machine: &Machine) {
    let manifest = base(machine);
    let (session, scratch) = (machine.path("session"), machine.path("fast"));
    let mount = machine.mount(
        args!["--session", &session, "--scratch-dir", &scratch, &manifest],
        "mnt",
    );
    fs::write(mount.dir.join("new"), "new").unwrap();
    machine.ok(args!["umount", &mount.dir]);
    let notes = machine.file("session/base/notes.txt", "precious");
    let outside = machine.file("outside/4000000000000000", "precious");
    let own = scratch.join(&mount.session);
    let aside = machine.path("aside");
    let before = content(&session);

    let discard = || machine.says(args!["discard", "--yes", &mount.session]);
    discard()
        .with_code(1)
        .saying("nothing was deleted")
        .saying("base/notes.txt");
    assert_eq!(content(&session), before);
    assert_eq!(content(&own).len(), 1);
    fs::remove_file(&notes).unwrap();

    // Scratch files that became a link to somebody else's.
    fs::rename(&own, &aside).unwrap();
    symlink(outside.parent().unwrap(), &own).unwrap();
    assert_ne!(discard().code, 0);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
    fs::remove_file(&own).unwrap();
    fs::rename(&aside, &own).unwrap();

    discard().with_code(0);
    assert!(!session.exists() && !own.exists());
    assert!(scratch.exists());
    assert!(listed(machine).is_empty());
}

fn nothing_that_another_user_prepared_is_opened_or_written(machine: &Machine) {
    let manifest = base(machine);
    let victim = machine.file("victim", "precious");
    let sticky = machine.dir("sticky");
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
    let planted = machine.dir("sticky/planted/scratch");
    symlink(&victim, planted.join("4000000000000000")).unwrap();
    let empty = machine.dir("sticky/empty");
    let link = sticky.join("link");
    symlink(machine.dir("elsewhere"), &link).unwrap();
    let log = sticky.join("log");
    symlink(&victim, &log).unwrap();
    let foreign = machine.file("sticky/foreign", "");
    let fifo = sticky.join("fifo");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, 0o666.into(), 0).unwrap();
    for path in [planted.parent().unwrap(), &empty, &foreign] {
        // Only root can give files away, and only then is there another user to fear.
        if chown(path, Some(NOBODY), None).is_err() {
            crate::machine::skipped("this user cannot make files of another one");
            return;
        }
    }
    let mount = |option: &str, path: &Path| {
        let at = machine.dir("mnt");
        let mut arguments = args!["mount", "--store", machine.store()].to_vec();
        arguments.extend(args![option, path, &manifest, at]);
        let said = machine.says(&arguments);
        assert_ne!(said.code, 0, "{said:#?}");
        assert!(machine.mounts().is_empty(), "{said:#?}");
        said
    };
    mount("--session", planted.parent().unwrap()).saying("belongs to user 65534");
    mount("--session", &empty).saying("belongs to user 65534");
    mount("--session", &link).saying("it is a symbolic link");
    mount("--log", &log).saying("it is a symbolic link");
    mount("--log", &foreign).saying("belongs to user 65534");
    mount("--log", &fifo).saying("it is no regular file");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(fs::metadata(&foreign).unwrap().len(), 0);
    assert!(content(&machine.path("elsewhere")).is_empty());

    // A session of this user's that was given to another one, or in whose place there is another one's.
    let place = machine.path("session");
    let left = machine.mount(args!["--session", &place, &manifest], "mnt");
    fs::write(left.dir.join("new"), "new").unwrap();
    left.kill_when_all_is_closed(machine);
    chown(&place, Some(NOBODY), None).unwrap();
    for verb in ["status", "diff", "commit", "umount"] {
        let said = machine.says(args![verb, &place]);
        assert_ne!(said.code, 0, "{said:#?}");
        said.saying("belongs to user 65534");
    }
    let said = machine.says(args!["discard", "--yes", &place]);
    assert_ne!(said.code, 0, "{said:#?}");
    chown(&place, Some(0), None).unwrap();
    machine.ok(args!["commit", &left.session]);
}

fn a_session_is_not_looked_for_through_a_prepared_state_directory(machine: &Machine) {
    let manifest = base(machine);
    let state = machine.dir("state/attachfs/sessions");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o1777)).unwrap();
    machine
        .says(args!["list"])
        .with_code(1)
        .saying("other users may write to it (mode 1777)");
    let mut mounting = machine.mounting(args![&manifest, "--session", machine.path("s")], "mnt");
    let said = crate::process::said(&mut mounting);
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(machine.mounts().is_empty());
}

fn a_session_whose_directory_is_gone_for_now_is_listed_and_found_again(machine: &Machine) {
    let manifest = base(machine);
    let disk = machine.dir("disk");
    let place = disk.join("session");
    let mount = machine.mount(args!["--session", &place, &manifest], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    machine.ok(args!["umount", &mount.dir]);
    let id = mount.session.clone();
    let other = machine.mount(args![&manifest], "other");

    fs::rename(&disk, machine.path("unplugged")).unwrap();
    for _ in 0..2 {
        let states = listed(machine);
        assert_eq!(states.len(), 2, "{states:?}");
        assert!(states.contains(&(id.clone(), "unreachable".to_owned())));
        assert!(states.contains(&(other.session.clone(), "mounted".to_owned())));
    }
    machine
        .ok(args!["list"])
        .printing(&format!("{id} unreachable in {}", place.display()))
        .saying("is its disk mounted?");
    for (verb, name) in [
        ("status", PathBuf::from(&id)),
        ("commit", PathBuf::from(&id[..8])),
        ("diff", place.clone()),
    ] {
        machine
            .says(args![verb, name])
            .with_code(1)
            .saying(&format!("session {id} in {} cannot be", place.display()));
    }
    machine.ok(args!["list", "--prune"]).printing(&id);
    assert_eq!(listed(machine).len(), 2);
    machine.ok(args!["status", &other.dir]);
    machine.ok(args!["umount", &other.dir]);

    fs::rename(machine.path("unplugged"), &disk).unwrap();
    assert_eq!(listed(machine), [(id.clone(), "left".to_owned())]);
    machine
        .says(args!["discard", "--forget", &id])
        .with_code(2)
        .saying("only one that cannot be reached is forgotten");
    machine.ok(args!["commit", &id]);

    fs::rename(&disk, machine.path("unplugged")).unwrap();
    machine.ok(args!["discard", "--forget", &id]);
    assert!(listed(machine).is_empty());
    assert!(machine.path("unplugged/session/session.json").exists());
}

fn a_session_in_the_place_of_another_is_listed_once_and_is_not_ambiguous(machine: &Machine) {
    let manifest = base(machine);
    let place = machine.path("session");
    let mount = || {
        let mount = machine.mount(args!["--session", &place, &manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.dir]);
        mount.session
    };
    let first = mount();
    fs::remove_dir_all(&place).unwrap();
    let second = mount();
    let states = listed(machine);
    assert_eq!(states.len(), 2, "{states:?}");
    assert!(states.contains(&(first.clone(), "lost".to_owned())));
    assert!(states.contains(&(second.clone(), "left".to_owned())));
    for name in [second.as_str(), &second[..8], "mnt"] {
        let status = machine.json(args!["status", name]);
        assert_eq!(status["session"], second.as_str());
    }
    machine
        .says(args!["status", &first])
        .with_code(1)
        .saying(&format!("session {first} is lost"))
        .saying(&second);
    let pruned = machine.json(args!["list", "--prune"]);
    assert_eq!(pruned["replaced"][0], first.as_str());
    assert_eq!(listed(machine), [(second, "left".to_owned())]);
}

fn what_an_ended_session_published_is_told_until_it_is_pruned(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    let id = mount.session.clone();
    let mut addresses = Vec::new();
    for text in ["one", "two"] {
        fs::write(mount.dir.join("new"), text).unwrap();
        let report = machine.json(args!["commit", &mount.dir]);
        addresses.push(report["manifest"]["address"].as_str().unwrap().to_owned());
    }
    machine.ok(args!["umount", &mount.dir]);
    assert!(listed(machine).is_empty());

    let ended = machine.json(args!["status", &id[..8]]);
    assert_eq!(ended["session"], id.as_str());
    let told: Vec<_> = ended["commits"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 2);
    for ((number, commit), address) in told.iter().enumerate().zip(&addresses) {
        assert_eq!(commit["generation"], number + 1);
        assert_eq!(commit["address"], address.as_str());
    }
    machine.ok(args!["status", &id]).printing(&addresses[1]);
    // Who asks for anything else, with the id or where it was mounted, hears where to look.
    let at = mount.dir.display().to_string();
    for verb in ["commit", "umount", "diff", "discard"] {
        for name in [&id[..8], id.as_str(), at.as_str()] {
            let said = machine.says(args![verb, name]).with_code(2);
            said.saying(&format!("session {id} has ended; `attachfs status {id}`"));
        }
    }

    // One that was committed without a mount, and then discarded.
    let left = machine.mount(args![&manifest], "mnt");
    fs::write(left.dir.join("other"), "other").unwrap();
    left.kill_when_all_is_closed(machine);
    let report = machine.json(args!["commit", &left.session]);
    let address = report["manifest"]["address"].as_str().unwrap();
    machine.ok(args!["discard", "--yes", &left.session]);
    machine
        .ok(args!["list", "--ended"])
        .printing(address)
        .printing(&addresses[0]);

    // One that published nothing leaves nothing.
    let nothing = machine.mount(args![&manifest], "mnt");
    machine.ok(args!["umount", &nothing.dir]);
    assert_eq!(
        machine
            .json(args!["list", "--ended"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
    machine
        .ok(args!["list", "--prune"])
        .printing("2 ended sessions");
    machine.says(args!["status", &id]).with_code(2);
    machine
        .ok(args!["list", "--ended"])
        .printing("no ended sessions");
}

#[test]
fn a_session_that_is_taken_up_refuses_options_of_new_ones() {
    Machine::mounting_from_directory(|machine| {
        let place = machine.path("session");
        let left = machine.mount(args!["--session", &place, base(machine)], "mnt");
        fs::write(left.dir.join("new"), "new").unwrap();
        left.kill_when_all_is_closed(machine);
        for option in [
            &["--read-only"][..],
            &["--commit"],
            &["--output-dir", "out"],
            &["--store", "elsewhere"],
            &["--ignore-parent"],
        ] {
            let mut arguments = args!["mount", "--session", &place, machine.dir("again")].to_vec();
            arguments.extend(option.iter().map(Into::into));
            let refused = machine.says(&arguments).with_code(2);
            refused.saying(&format!("leave out {}", option[0]));
        }
        machine.ok(args!["commit", &left.session]);
    });
}

#[test]
fn a_manifest_is_written_over_manifests_and_nothing_else() {
    Machine::mounting_from_directory(|machine| {
        let (folder, thesis) = (machine.dir("folder"), machine.path("thesis"));
        fs::write(&thesis, "three years of work").unwrap();
        let over = args!["snapshot", &folder, "--output", &thesis];
        machine.says(over).with_code(2).saying("is no manifest");
        assert_eq!(fs::read_to_string(&thesis).unwrap(), "three years of work");
        let manifest = machine.path("manifest");
        for _ in 0..2 {
            machine.ok(args!["snapshot", &folder, "--output", &manifest]);
        }
        fs::write(&thesis, "").unwrap();
        machine.ok(args!["manifest", "compose", &manifest, "--output", &thesis]);
    });
}
