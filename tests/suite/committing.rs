//! What commits say and where their manifests go, that they can be read by everyone, and files with holes.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{has_ended, kill_and_wait, said};
use crate::tree::{Detail, Tree};

mounting_from_both_stores![
    a_file_may_replace_the_former_target_of_a_link,
    a_moved_link_and_what_comes_after_it_can_be_read,
    a_commit_whose_answer_was_lost_is_told_again,
    the_manifest_of_a_commit_is_put_where_it_is_wanted,
    a_manifest_is_not_put_over_another_one,
    the_manifest_is_published_by_the_same_command_after_a_kill,
    an_unmount_commits_and_hands_over_the_manifest,
    nothing_is_done_if_the_manifest_has_nowhere_to_go,
    what_is_no_manifest_does_not_give_way_to_one,
    a_path_that_no_manifest_can_hold_is_named_and_nothing_is_lost,
    a_read_only_mount_that_is_to_be_committed_stays,
    a_run_hands_over_its_manifest,
    holes_stay_holes_all_the_way,
];

fn base(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.file("scene/d/b", "bbb");
    machine.file("scene/d/sub/x", "x");
    symlink("sub/x", machine.path("scene/d/l")).unwrap();
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

fn address(commit: &Value) -> String {
    commit["manifest"]["address"].as_str().unwrap().to_owned()
}

/// Fails unless mounting, composing and downloading these manifests give this tree, besides empty
/// directories that lead to the targets of links.
fn assert_reads(machine: &Machine, manifests: &[String], expected: &Tree) {
    let mounted = machine.mount(
        [
            args!["--read-only"].to_vec(),
            manifests.iter().map(Into::into).collect(),
        ]
        .concat(),
        format!("read-{}", manifests.len()),
    );
    let found = Tree::read(&mounted.dir, Detail::Committed);
    found.assert_is(expected);
    machine.ok(args!["umount", &mounted.dir]);
    let manifests: Vec<_> = manifests.iter().map(Into::into).collect();
    let whole = machine.path("whole");
    let compose = [
        args!["manifest", "compose"].to_vec(),
        manifests.clone(),
        args!["-o", &whole].to_vec(),
    ];
    machine.ok(compose.concat());
    for (name, manifests) in [("one", args![&whole].to_vec()), ("all", manifests)] {
        let root = machine.path(format!("{name}-{}", manifests.len()));
        let download = [
            args!["download"].to_vec(),
            manifests,
            args!["--root", &root, "--store", machine.store()].to_vec(),
        ];
        machine.ok(download.concat());
        Tree::read(&root, Detail::Committed).assert_is(expected);
    }
}

fn a_file_may_replace_the_former_target_of_a_link(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    symlink("new/x", mount.dir.join("l")).unwrap();
    let one = machine.json(args!["commit", &mount.dir]);
    machine
        .ok(args!["status", &mount.dir])
        .printing("0 paths not committed");
    fs::remove_file(mount.dir.join("l")).unwrap();
    fs::write(mount.dir.join("new"), "f").unwrap();
    let two = machine.json(args!["commit", &mount.dir]);
    let expected = Tree::read(&mount.dir, Detail::Committed);
    machine.ok(args!["umount", &mount.dir]);
    let manifests = [
        manifest.to_str().unwrap().to_owned(),
        address(&one),
        address(&two),
    ];
    assert_reads(machine, &manifests, &expected);
}

fn a_moved_link_and_what_comes_after_it_can_be_read(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    // It led to "d/sub/x", and leads to "sub/x" from here, where nothing is.
    fs::rename(mount.dir.join("d/l"), mount.dir.join("l")).unwrap();
    let one = machine.json(args!["commit", &mount.dir]);
    fs::remove_file(mount.dir.join("l")).unwrap();
    fs::write(mount.dir.join("sub"), "f").unwrap();
    let two = machine.json(args!["commit", &mount.dir]);
    let expected = Tree::read(&mount.dir, Detail::Committed);
    machine.ok(args!["umount", &mount.dir]);
    let manifests = [
        manifest.to_str().unwrap().to_owned(),
        address(&one),
        address(&two),
    ];
    assert_reads(machine, &manifests, &expected);
}

fn a_commit_whose_answer_was_lost_is_told_again(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    let nothing = machine.json(args!["commit", &mount.dir]);
    assert_eq!(
        (&nothing["manifest"], &nothing["unchanged"]),
        (&Value::Null, &json!(true))
    );
    fs::write(mount.dir.join("new"), "new").unwrap();
    let lost = machine.json(args!["commit", &mount.dir]);
    assert_eq!(lost["unchanged"], false);
    let told = |of: &Value| {
        assert_eq!(of["manifest"], lost["manifest"]);
        assert_eq!(of["unchanged"], true);
    };
    told(&machine.json(args!["commit", &mount.dir]));
    machine
        .ok(args!["commit", &mount.dir])
        .printing("nothing changed since commit 1")
        .printing(&address(&lost));
    fs::write(mount.dir.join("new"), "newer").unwrap();
    let second = machine.json(args!["commit", &mount.dir]);
    let listed = json!([lost["manifest"], second["manifest"]]);
    assert_eq!(listed[1]["generation"], 2);
    assert!(listed[0]["time"].is_i64());
    assert_eq!(
        listed[0]["key"],
        format!("attachfs/{}/1.manifest", mount.session)
    );
    assert_eq!(
        machine.json(args!["status", &mount.dir])["committed"],
        listed
    );
    // And of a session that nobody has mounted.
    kill_and_wait(mount.pid);
    assert_eq!(
        machine.json(args!["status", &mount.session])["committed"],
        listed
    );
    machine
        .ok(args!["status", &mount.session])
        .printing("committed  2 times")
        .printing(&address(&second));
    let again = machine.json(args!["commit", &mount.session]);
    assert_eq!(again["manifest"], second["manifest"]);
    assert_eq!(again["unchanged"], true);
}

/// A manifest that a store has under a key.
fn stored(machine: &Machine, key: &str) -> Vec<u8> {
    fs::read(machine.store_files().join("Manifests").join(key)).unwrap()
}

fn the_manifest_of_a_commit_is_put_where_it_is_wanted(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    let out = machine.path("out.manifest");
    // Nothing was committed: there is nothing to write.
    machine.ok(args!["commit", &mount.dir, "-o", &out]);
    assert!(!out.exists());
    fs::write(mount.dir.join("new"), "new").unwrap();
    let commit = args!["commit", &mount.dir, "-o", &out, "--publish", "mine/out"];
    let said = machine.json(&commit);
    let bytes = &machine.published(&mount.session)[0].1;
    assert_eq!(&fs::read(&out).unwrap(), bytes);
    assert_eq!(&stored(machine, "mine/out"), bytes);
    let published = said["published"].as_str().unwrap();
    assert!(published.ends_with("Manifests/mine/out"), "{published}");
    let piped = machine.ok(args!["commit", &mount.dir, "--json", "-o", "-"]);
    assert_eq!(piped.out.as_bytes(), bytes);
    // Again, when nothing changed, and under one more key.
    fs::remove_file(&out).unwrap();
    assert_eq!(machine.json(&commit)["unchanged"], true);
    assert_eq!(&fs::read(&out).unwrap(), bytes);
    machine
        .ok(args!["commit", &mount.dir, "--publish", "mine/too"])
        .printing("Manifests/mine/too");
    assert_eq!(&stored(machine, "mine/too"), bytes);
}

fn a_manifest_is_not_put_over_another_one(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    let taken = machine.file(
        machine.store_files().join("Manifests/mine/out"),
        "someone else's",
    );
    fs::write(mount.dir.join("new"), "new").unwrap();
    let commit = machine.says(args!["commit", &mount.dir, "--publish", "mine/out"]);
    commit.with_code(12).saying("mine/out");
    assert_eq!(fs::read(&taken).unwrap(), b"someone else's");
    assert_eq!(
        machine.published(&mount.session),
        [],
        "nothing was published"
    );
    machine.ok(args!["commit", &mount.dir, "--publish", "mine/other"]);
    assert_eq!(machine.published(&mount.session).len(), 1);
    let commit = machine.says(args!["commit", &mount.dir, "--publish", "mine/out"]);
    commit.with_code(12).saying("mine/out");
    assert_eq!(fs::read(&taken).unwrap(), b"someone else's");
}

fn the_manifest_is_published_by_the_same_command_after_a_kill(machine: &Machine) {
    let manifest = base(machine);
    for step in ["Intended", "Sent", "Published"] {
        let mut mounting = machine.mounting(args![&manifest], format!("mnt-{step}"));
        mounting.env("ATTACHFS_HALT_AT", step);
        let mount = Mount::of(&said(&mut mounting).with_code(0));
        fs::write(mount.dir.join("new"), step).unwrap();
        let key = format!("mine/{step}");
        let commit = args!["commit", &mount.session, "--publish", &key];
        let committing = machine.start(machine.attachfs(&commit));
        until("it is halted", || mount.log().contains("halted at"));
        kill_and_wait(mount.pid);
        assert_ne!(committing.wait().code, 0);
        machine.ok(&commit);
        let published = machine.published(&mount.session);
        assert_eq!(published.len(), 1);
        assert_eq!(stored(machine, &key), published[0].1);
    }
}

fn an_unmount_commits_and_hands_over_the_manifest(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    let out = machine.path("out.manifest");
    let umount = args![
        "umount",
        &mount.dir,
        "--commit",
        "-o",
        &out,
        "--publish",
        "mine/out"
    ];
    let said = machine.json(umount);
    assert_eq!(said["kept"], false);
    let bytes = &machine.published(&mount.session)[0].1;
    assert_eq!(&fs::read(&out).unwrap(), bytes);
    assert_eq!(&stored(machine, "mine/out"), bytes);
    assert!(!mount.session_dir.exists());
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);

    // What AWS's library reads has what is new, and nothing else.
    let mount = machine.mount(args![&manifest], "mnt");
    fs::write(mount.dir.join("new"), "for them").unwrap();
    let umount = args!["umount", "-o", &out, "--format", "2023-03-03", &mount.dir];
    machine.ok(umount);
    let handed = machine.json(args!["inspect", &out]);
    assert_eq!(
        (&handed["format"], &handed["files"]),
        (&json!("2023-03-03"), &json!(1))
    );

    // A file that cannot be written loses nothing.
    let mount = machine.mount(args![&manifest], "mnt");
    fs::write(mount.dir.join("new"), "newer").unwrap();
    let too_long = machine.path("n".repeat(300));
    let said = machine.says(args!["umount", &mount.dir, "-o", &too_long]);
    assert_ne!(said.code, 0);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    until("the process ends", || has_ended(mount.pid));
    let again = machine.json(args!["commit", &mount.session, "-o", &out]);
    assert_eq!(again["unchanged"], true);
    assert_eq!(
        fs::read(&out).unwrap(),
        machine.published(&mount.session)[0].1
    );
    machine.ok(args!["discard", &mount.session, "--yes"]);

    // The process died: the dead mount goes, and what it had is committed.
    let mount = machine.mount(args![&manifest], "mnt");
    fs::write(mount.dir.join("new"), "newest").unwrap();
    mount.kill_when_all_is_closed(machine);
    let said = machine.json(args!["umount", &mount.dir, "--commit", "-o", &out]);
    assert_eq!(said["was_dead"], true);
    assert_eq!(
        fs::read(&out).unwrap(),
        machine.published(&mount.session)[0].1
    );
}

fn nothing_is_done_if_the_manifest_has_nowhere_to_go(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    let session = mount.session.as_str();
    fs::write(mount.dir.join("new"), "new").unwrap();
    fs::write(machine.path("scene/more"), "more").unwrap();
    let (scene, store) = (machine.path("scene"), machine.store());
    let objects = machine.objects();
    let ran = machine.path("ran");
    for out in [machine.path("no/such/dir/out"), machine.dir("taken")] {
        let said = |arguments: Vec<_>| {
            let said = machine.says(arguments);
            assert_ne!(said.code, 0, "{said:#?}");
            said.saying("cannot write the manifest to");
        };
        said(args!["umount", &mount.dir, "-o", &out].to_vec());
        said(args!["commit", &mount.dir, "-o", &out].to_vec());
        said(args!["snapshot", &scene, "--store", &store, "-o", &out].to_vec());
        let run = args!["run", "--input", &scene, "--store", &store, "-o", &out];
        said([run.to_vec(), args!["--", "touch", &ran].to_vec()].concat());
    }
    assert_eq!(machine.mounts(), std::slice::from_ref(&mount.dir));
    assert_eq!(machine.published(session), []);
    assert_eq!(machine.objects(), objects);
    assert!(!ran.exists());
}

fn what_is_no_manifest_does_not_give_way_to_one(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    let notes = machine.file("notes", "precious");
    let (link, dangling) = (machine.path("link"), machine.path("dangling"));
    symlink(&manifest, &link).unwrap();
    symlink("nothing", &dangling).unwrap();
    let pipe = machine.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let before = fs::read(&manifest).unwrap();
    for (out, why) in [
        (&notes, "is no manifest"),
        (&link, "is a symbolic link"),
        (&dangling, "is a symbolic link"),
        (&pipe, "is a pipe"),
    ] {
        for verb in [args!["umount", &mount.dir], args!["commit", &mount.dir]] {
            let refused = machine.says([&verb[..], &args!["-o", out]].concat());
            refused.with_code(2).saying(why);
        }
    }
    assert_eq!(machine.mounts(), std::slice::from_ref(&mount.dir));
    assert_eq!(machine.published(&mount.session), []);
    assert_eq!(fs::read_to_string(&notes).unwrap(), "precious");
    assert_eq!(link.read_link().unwrap(), manifest);
    assert!(dangling.is_symlink());
    assert_eq!(fs::read(&manifest).unwrap(), before);
    // A manifest that a commit could not be made for stays what it is.
    symlink("/outside", mount.dir.join("outgoing")).unwrap();
    let refused = machine.says(args!["umount", &mount.dir, "-o", &manifest]);
    refused.saying("lead out of the mount");
    assert_eq!(fs::read(&manifest).unwrap(), before);
    // An empty file, as `mktemp` makes it, and a manifest give way.
    let empty = machine.file("empty", "");
    for out in [&empty, &manifest] {
        machine.ok(args![
            "commit",
            &mount.session,
            "--symlinks",
            "skip",
            "-o",
            out
        ]);
        let published = &machine.published(&mount.session)[0].1;
        assert_eq!(&fs::read(out).unwrap(), published);
    }
}

/// Makes directories below one another, with a path that no call can be given as a whole.
fn deep(top: &Path, levels: usize) -> String {
    let name = "n".repeat(250);
    let mut dir: OwnedFd = File::open(top).unwrap().into();
    let mut path = String::new();
    for _ in 0..levels {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty()).unwrap();
        path += &format!("/{name}");
    }
    path
}

fn a_path_that_no_manifest_can_hold_is_named_and_nothing_is_lost(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    let top = mount.dir.join("deep");
    fs::create_dir(&top).unwrap();
    let path = format!("deep{}", deep(&top, 17));
    let shown = |session: &std::ffi::OsStr| {
        for hash in [&[][..], &args!["--hash"]] {
            let diff = machine.ok([&args!["diff", session][..], hash].concat());
            diff.printing("+ new").printing(&path).printing("left out");
        }
        let diff = machine.json(args!["diff", session]);
        assert_eq!(diff["account"]["too_long"], json!([path]));
        let status = machine.json(args!["status", session]);
        // The file, and 17 directories of 18.
        assert_eq!(status["uncommitted"], 19);
    };
    shown(mount.dir.as_os_str());
    let refused = machine.says(args!["commit", &mount.dir]).with_code(1);
    refused.saying(&path).saying("nothing was published");
    let ended = machine.says(args!["umount", "--commit", &mount.dir]);
    ended.with_code(1).saying(&path);
    assert_eq!(machine.published(&mount.session), []);
    shown(mount.session.as_ref());
    let mount = machine.resume(&mount.session_dir, &mount.dir);
    fs::rename(
        mount.dir.join("deep").join("n".repeat(250)),
        mount.dir.join("s"),
    )
    .unwrap();
    let commit = machine.json(args!["commit", &mount.dir]);
    assert_eq!(commit["account"]["added"], 19, "{commit}");
    machine.ok(args!["umount", &mount.dir]);
}

fn a_read_only_mount_that_is_to_be_committed_stays(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args!["--read-only", &manifest], "mnt");
    let out = machine.path("out.manifest");
    for how in [args!["--commit"].to_vec(), args!["-o", &out].to_vec()] {
        let umount = [args!["umount", &mount.dir].to_vec(), how].concat();
        machine.says(umount).with_code(2).saying("read-only");
        assert_eq!(machine.mounts(), std::slice::from_ref(&mount.dir));
    }
    machine.ok(args!["umount", &mount.dir]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

fn a_run_hands_over_its_manifest(machine: &Machine) {
    base(machine);
    let out = machine.path("out.manifest");
    let run = args![
        "run",
        "--input",
        machine.path("scene"),
        "--store",
        machine.store(),
        "-o",
        &out,
        "--publish",
        "mine/out",
        "--format",
        "2023-03-03",
        "--",
        "sh",
        "-c",
        "echo new > new"
    ];
    machine.json(run);
    let bytes = fs::read(&out).unwrap();
    assert_eq!(stored(machine, "mine/out"), bytes);
    let handed = machine.json(args!["inspect", &out]);
    assert_eq!(
        (&handed["format"], &handed["files"]),
        (&json!("2023-03-03"), &json!(1))
    );
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

/// The room that a file, or everything below a directory, takes on the disk.
fn room(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mut room = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            room += room_if_there(&entry.unwrap().path());
        }
    }
    room
}

/// The same of what may go at any moment.
fn room_if_there(path: &Path) -> u64 {
    if path.exists() { room(path) } else { 0 }
}

const MIB: u64 = 1 << 20;
/// The length of the files with holes.
const LONG: u64 = 128 * MIB;

fn holes_stay_holes_all_the_way(machine: &Machine) {
    let scene = machine.dir("scene");
    let sparse = File::create(scene.join("sparse")).unwrap();
    sparse.set_len(LONG).unwrap();
    sparse.write_all_at(b"middle", LONG / 2).unwrap();
    machine.file("scene/small", "small");
    let manifest = machine.path("scene.manifest");
    let store = machine.store();
    machine.ok(args![
        "snapshot",
        &scene,
        "-o",
        &manifest,
        "--store",
        &store,
        "--chunk-size",
        "16777216"
    ]);
    // Eight chunks, of which seven are the same zeros.
    let objects = |machine: &Machine| machine.objects().len();
    assert_eq!(objects(machine), 3);

    let mount = machine.mount(args![&manifest], "mnt");
    let small = OpenOptions::new().write(true).open(mount.dir.join("small"));
    small.unwrap().set_len(LONG).unwrap();
    let new = File::create(mount.dir.join("new")).unwrap();
    new.set_len(LONG).unwrap();
    drop(new);
    let diff = machine.json(args!["diff", &mount.dir]);
    let lines = json!([
        {"change": "added", "kind": "file", "path": "new", "size": LONG},
        {"change": "changed", "kind": "file", "path": "small", "size": LONG},
    ]);
    assert_eq!((&diff["changes"], &diff["hashed"]), (&lines, &json!(false)));
    let work = mount.session_dir.join("commits");
    machine.json(args!["diff", &mount.dir, "--hash"]);
    assert!(room(&work) < MIB, "a diff writes nothing");
    let commit = machine.json(args!["commit", &mount.dir]);
    assert_eq!(commit["account"]["bytes"], 2 * LONG);
    assert_eq!(
        objects(machine),
        4,
        "the chunk that begins with what was there is new"
    );
    let expected = Tree::read(&mount.dir, Detail::Committed);
    assert!(room(&mount.session_dir) < 4 * MIB);
    machine.ok(args!["umount", &mount.dir]);

    let root = machine.path("downloaded");
    machine.ok(args![
        "download",
        &manifest,
        address(&commit),
        "--root",
        &root,
        "--store",
        &store
    ]);
    Tree::read(&root, Detail::Committed).assert_is(&expected);
    assert!(room(&root) < 4 * MIB, "{}", room(&root));
}
