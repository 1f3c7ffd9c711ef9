//! What of a session's changes is committed, in which form, and inputs that cannot be changed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, skipped, until};
use crate::process::{has_ended, kill_and_wait, said};

mounting_from_both_stores![
    patterns_choose_what_a_commit_an_unmount_and_a_run_publish,
    doubtful_outputs_are_named_in_text_and_json,
    a_commit_over_something_else_than_expected_sends_nothing,
    a_commit_that_only_resumes_leaves_later_changes,
    the_manifest_is_handed_over_for_the_library_of_aws,
    inputs_that_are_protected_cannot_be_changed_and_new_files_can_be_made,
    a_file_with_more_than_its_length_says_is_named_and_not_published_without_its_bytes,
    links_that_lead_out_are_replaced_by_what_they_show,
    of_a_link_that_another_user_made_only_what_that_one_may_read_is_committed,
    what_a_link_shows_is_bounded_and_never_looked_up_in_a_mount,
    the_list_of_sessions_tells_how_much_is_uncommitted_and_since_when,
];

fn base(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.file("scene/d/b", "bbb");
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

/// The paths of the files in a manifest.
fn files(machine: &Machine, manifest: impl AsRef<Path>) -> Vec<String> {
    let listed = machine.json(args!["ls", "-R", manifest.as_ref()]);
    let entries = listed.as_array().unwrap().iter();
    let files = entries.filter(|entry| entry["kind"] == "file");
    files
        .map(|entry| entry["path"].as_str().unwrap().to_owned())
        .collect()
}

fn write(mount: &Mount, name: &str, text: &str) {
    let path = mount.dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn patterns_choose_what_a_commit_an_unmount_and_a_run_publish(machine: &Machine) {
    let manifest = base(machine);
    let out = machine.path("out.manifest");
    let mount = machine.mount(args![&manifest], "mnt");
    for name in ["frames/1.exr", "frames/2.exr", "frames/2.tmp", "log"] {
        write(&mount, name, name);
    }
    let choice = args!["--include", "frames/*", "--exclude", "**/*.tmp"].to_vec();
    let dry = machine.ok([
        args!["commit", "--dry-run", &mount.dir].to_vec(),
        choice.clone(),
    ]
    .concat());
    dry.printing("left out   2 paths that the patterns do not choose: frames/2.tmp, log");
    let commit = [
        args!["commit", &mount.dir, "-o", &out].to_vec(),
        choice.clone(),
    ]
    .concat();
    let told = machine.json(&commit);
    assert_eq!(files(machine, &out), ["frames/1.exr", "frames/2.exr"]);
    assert_eq!(
        told["account"]["not_chosen"],
        json!(["frames/2.tmp", "log"])
    );
    for verb in ["commit", "umount"] {
        let bad = machine.says(args![verb, &mount.dir, "--include", "../x"]);
        bad.with_code(2).saying("leads out of the folder");
    }
    let umount = args!["umount", &mount.dir, "-o", &out, "--exclude", "**/*.tmp"];
    let told = machine.json(umount);
    assert_eq!(files(machine, &out), ["log"]);
    // What is left out is not committed, so the session stays.
    assert_eq!(
        (&told["kept"], &told["uncommitted"]),
        (&true.into(), &1.into())
    );
    machine
        .ok(args!["diff", &mount.session])
        .printing("+ frames/2.tmp");
    machine.ok(args!["discard", "--yes", &mount.session]);

    let run = args![
        "run",
        "--input",
        machine.path("scene"),
        "--store",
        machine.store(),
        "-o",
        &out,
        "--exclude",
        "*.log",
        "--",
        "sh",
        "-c",
        "echo x > made; echo y > its.log"
    ];
    let ran = machine.json(run);
    assert_eq!(files(machine, &out), ["made"]);
    assert_eq!(
        (&ran["kept"], &ran["commit"]["account"]["not_chosen"]),
        (&true.into(), &json!(["its.log"]))
    );
}

fn doubtful_outputs_are_named_in_text_and_json(machine: &Machine) {
    let manifest = base(machine);
    let arguments = args!["--output-dir", "frames", "--output-dir", "never", &manifest];
    let mount = machine.mount(arguments, "mnt");
    write(&mount, "frames/full", "x");
    write(&mount, "frames/empty", "");
    write(&mount, "stray", "x");
    let mut open = fs::File::create(mount.dir.join("frames/open")).unwrap();
    open.write_all(b"half").unwrap();
    let said = machine.ok(args!["commit", "--skip-open", &mount.dir]);
    said.printing("left out   1 path outside of the output directories: stray")
        .printing("left out   1 path open for writing: frames/open")
        .printing("empty      1 file without bytes: frames/empty")
        .printing("missing    1 output directory: never");
    drop(open);
    write(&mount, "frames/nothing", "");
    let told = machine.json(args!["umount", "--commit", &mount.dir]);
    let account = &told["commit"]["account"];
    assert_eq!(account["empty"], json!(["frames/nothing"]));
    assert_eq!(account["missing_dirs"], json!(["never"]));
    assert_eq!(account["left_out"], json!(["stray"]));
}

fn a_commit_over_something_else_than_expected_sends_nothing(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    write(&mount, "new", "new");
    let objects = machine.objects();
    let other = "0".repeat(32);
    let refused = machine.says(args!["commit", &mount.dir, "--expect-parent", &other]);
    let refused = refused.with_code(12).saying("nothing was sent");
    assert_eq!(machine.objects(), objects);
    assert_eq!(machine.published(&mount.session), []);
    // It says what it would be.
    let found = refused.err.split("goes over ").nth(1).unwrap();
    let found = found.split(',').next().unwrap();
    let inspected = machine.json(args!["inspect", &manifest]);
    assert_eq!(inspected["hash"], found);
    machine.ok(args!["commit", &mount.dir, "--expect-parent", found]);
    assert_eq!(machine.published(&mount.session).len(), 1);
    machine
        .says(args!["commit", &mount.dir, "--expect-parent", "x"])
        .with_code(2);
}

fn a_commit_that_only_resumes_leaves_later_changes(machine: &Machine) {
    let mut mounting = machine.mounting(args![base(machine)], "mnt");
    mounting.env("ATTACHFS_HALT_AT", "Intended");
    let mount = Mount::of(&said(&mut mounting).with_code(0));
    write(&mount, "one", "1");
    let committing = machine.start(machine.attachfs(args!["commit", &mount.session]));
    until("it is halted", || mount.log().contains("halted at"));
    write(&mount, "two", "2");
    kill_and_wait(mount.pid);
    committing.wait();
    let resumed = machine.json(args!["commit", "--resume", &mount.session]);
    assert_eq!(resumed["unchanged"], false);
    assert_eq!(machine.published(&mount.session).len(), 1);
    machine.ok(args!["diff", &mount.session]).printing("two");
    machine
        .ok(args!["commit", "--resume", &mount.session])
        .saying("no commit was interrupted");
    assert_eq!(machine.published(&mount.session).len(), 1);
    // The process may not have heard that the file was closed.
    machine.ok(args!["commit", "--accept-open", &mount.session]);
    assert_eq!(machine.published(&mount.session).len(), 2);
}

fn the_manifest_is_handed_over_for_the_library_of_aws(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    write(&mount, "out/new", "new");
    write(&mount, "a", "changed");
    fs::remove_file(mount.dir.join("d/b")).unwrap();
    let out = machine.path("out.manifest");
    let commit = args![
        "commit",
        &mount.dir,
        "-o",
        &out,
        "--publish",
        "mine/out",
        "--format",
        "2023-03-03"
    ];
    machine
        .ok(&commit)
        .printing("dropped    1 path, deletions")
        .printing("d/b");
    assert_eq!(files(machine, &out), ["a", "out/new"]);
    let inspected = machine.json(args!["inspect", &out]);
    assert_eq!(inspected["format"], "2023-03-03");
    let stored = machine.store_files().join("Manifests/mine/out");
    assert_eq!(fs::read(stored).unwrap(), fs::read(&out).unwrap());
    symlink("a", mount.dir.join("link")).unwrap();
    let published = machine.published(&mount.session).len();
    let refused = machine.says(&commit);
    assert_ne!(refused.code, 0);
    refused.saying("cannot be written as 2023-03-03");
    assert_eq!(machine.published(&mount.session).len(), published);
}

/// The bytes that `cat` gives of a file of manifests that are laid over each other.
fn shown(machine: &Machine, manifests: &[PathBuf], path: &str) -> String {
    let whole = machine.path("whole");
    let mut compose = args!["manifest", "compose", "-o", &whole].to_vec();
    compose.extend(manifests.iter().map(Into::into));
    machine.ok(compose);
    machine
        .ok(args!["cat", &whole, path, "--store", machine.store()])
        .out
}

fn a_file_with_more_than_its_length_says_is_named_and_not_published_without_its_bytes(
    machine: &Machine,
) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    // Its length is said to be 0.
    symlink("/proc/version", mount.dir.join("kernel")).unwrap();
    let out = machine.path("out.manifest");
    let commit = machine.says(args![
        "commit",
        &mount.dir,
        "-o",
        &out,
        "--symlinks",
        "collapse"
    ]);
    commit
        .with_code(1)
        .saying("/proc/version")
        .saying("more than the 0 bytes");
    assert!(!out.exists() && machine.published(&mount.session).is_empty());
}

fn links_that_lead_out_are_replaced_by_what_they_show(machine: &Machine) {
    let manifest = base(machine);
    let outside = machine.dir("outside");
    machine.file("outside/bin/python", "#!python");
    machine.file("outside/lib/site/mod.py", "import");
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(outside.join("bin/python"), runnable).unwrap();
    symlink("python", outside.join("bin/python3")).unwrap();
    let mount = machine.mount(args![&manifest], "mnt");
    symlink(outside.join("bin/python3"), mount.dir.join("python")).unwrap();
    symlink("../../outside/lib", mount.dir.join("d/lib")).unwrap();
    // A directory of the base, in whose place is a link that shows the same and more.
    let out = machine.path("out.manifest");
    let commit =
        |how: &str| machine.says(args!["commit", &mount.dir, "-o", &out, "--symlinks", how]);
    commit("stop").with_code(1).saying("lead out of the mount");
    let kept = commit("keep").with_code(1);
    kept.saying("cannot hold links that lead out of it")
        .saying("\"python\" ->");
    assert_eq!(machine.published(&mount.session), []);
    commit("collapse")
        .with_code(0)
        .printing("replaced   2 links by what they show");
    assert_eq!(files(machine, &out), ["d/lib/site/mod.py", "python"]);
    let both = [manifest.clone(), out.clone()];
    assert_eq!(shown(machine, &both, "python"), "#!python");
    assert_eq!(shown(machine, &both, "d/lib/site/mod.py"), "import");
    let listed = machine.ok(args!["ls", "-l", &out]);
    assert!(listed.out.contains("python"), "{listed:?}");
    // That is committed. A link that is made anew is not.
    assert_eq!(machine.json(args!["status", &mount.dir])["uncommitted"], 0);
    fs::remove_file(mount.dir.join("python")).unwrap();
    symlink(outside.join("bin/python"), mount.dir.join("python")).unwrap();
    assert_eq!(machine.json(args!["status", &mount.dir])["uncommitted"], 1);
    // The next commit has what changed there since.
    fs::remove_file(outside.join("lib/site/mod.py")).unwrap();
    machine.file("outside/lib/site/new.py", "new");
    let umount = args!["umount", &mount.dir, "-o", &out, "--symlinks", "collapse"];
    let ended = machine.json(umount);
    assert_eq!(ended["kept"], false);
    assert_eq!(files(machine, &out), ["d/lib/site/new.py"]);
    assert_eq!(ended["commit"]["account"]["deleted"], 1);
}

/// Makes a symbolic link as the user `nobody`.
fn link_as_nobody(machine: &Machine, target: &Path, link: &Path) -> bool {
    let mut command = machine.command("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["ln", "-s"]);
    command.arg(target).arg(link);
    said(&mut command).code == 0
}

fn of_a_link_that_another_user_made_only_what_that_one_may_read_is_committed(machine: &Machine) {
    let manifest = base(machine);
    let outside = machine.dir("outside");
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(&machine.path(""), 0o755);
    set(&outside, 0o755);
    let secret = machine.file("outside/secret", "topsecret");
    set(&secret, 0o600);
    let open = machine.file("outside/open", "for everybody");
    let mount = machine.mount(
        args!["--allow-other", "--dir-mode", "777", &manifest],
        "mnt",
    );
    let link = mount.dir.join("link");
    if !link_as_nobody(machine, &secret, &link) {
        return skipped("only root, with setpriv, can act as another user");
    }
    let commit = || machine.says(args!["commit", &mount.dir, "--symlinks", "collapse"]);
    let refusal = "may not be read by the user who made the link";
    commit().with_code(1).saying(refusal);
    fs::remove_file(&link).unwrap();
    assert!(link_as_nobody(machine, &outside, &link));
    commit().with_code(1).saying(refusal);
    fs::remove_file(&link).unwrap();

    // A link in a directory that is shown leads into one that the user may not search.
    let (shown, private) = (machine.dir("shown"), machine.dir("private"));
    set(&shown, 0o755);
    machine.file("private/data", "open, in a private directory");
    set(&private.join("data"), 0o644);
    set(&private, 0o700);
    symlink(private.join("data"), shown.join("inner")).unwrap();
    assert!(link_as_nobody(machine, &shown, &link));
    commit().with_code(1).saying(refusal);
    fs::remove_file(&link).unwrap();

    // All but a group may read it, and the user is in that group.
    let of_group = |name: &str, mode| {
        let path = machine.file(name, "for a group or not");
        std::os::unix::fs::chown(&path, Some(0), Some(65534)).unwrap();
        set(&path, mode);
        path
    };
    let (not_theirs, theirs) = (of_group("but", 0o604), of_group("theirs", 0o640));
    assert!(link_as_nobody(machine, &not_theirs, &link));
    commit().with_code(1).saying(refusal);
    fs::remove_file(&link).unwrap();
    assert_eq!(machine.published(&mount.session), []);
    assert!(link_as_nobody(machine, &open, &link));
    assert!(link_as_nobody(
        machine,
        &theirs,
        &mount.dir.join("of-group")
    ));
    symlink(&secret, mount.dir.join("own")).unwrap();
    commit().with_code(0);
    let diff = machine.published(&mount.session);
    assert_eq!(diff.len(), 1);
    machine.ok(args!["umount", &mount.dir]);
}

fn what_a_link_shows_is_bounded_and_never_looked_up_in_a_mount(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    let other = machine.mount(args![&manifest], "other");
    let outside = machine.dir("outside");
    symlink(&other.dir, outside.join("other")).unwrap();
    symlink(mount.dir.join("d"), outside.join("back")).unwrap();
    symlink("circle", outside.join("circle")).unwrap();
    machine.dir("outside/special");
    let fifo = outside.join("special/fifo");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, 0o600.into(), 0).unwrap();
    machine.dir("outside/loop");
    symlink(outside.join("loop"), outside.join("loop/self")).unwrap();
    machine.dir(format!("outside/deep/{}", "d/".repeat(70)));
    let long = fs::File::create(outside.join("long")).unwrap();
    long.set_len(300 << 30).unwrap();
    for (target, why) in [
        ("other", "a mount of attachfs"),
        ("other/a", "a mount of attachfs"),
        // Through the mount's own process it would wait for itself.
        ("back", "a mount of attachfs"),
        ("circle", "leads in a circle"),
        ("special/fifo", "a FIFO, a socket or a device"),
        ("special", "a FIFO, socket or device"),
        ("loop", "leads in a circle"),
        ("deep", "directories deep"),
        ("long", "more than 100000 files or 256 GiB"),
        ("missing", "cannot look at"),
    ] {
        let link = mount.dir.join("link");
        symlink(outside.join(target), &link).unwrap();
        let said = machine.says(args!["commit", &mount.dir, "--symlinks", "collapse"]);
        assert_ne!(said.code, 0, "{target}");
        said.saying("\"link\" ->").saying(why);
        assert_eq!(machine.published(&mount.session), [], "{target}");
        fs::remove_file(link).unwrap();
    }
    machine.ok(args!["umount", &other.dir]);
    // What is left out is not committed, so the session stays.
    symlink(&outside, mount.dir.join("link")).unwrap();
    write(&mount, "new", "new");
    let ended = machine.json(args![
        "umount",
        "--commit",
        "--symlinks",
        "skip",
        &mount.dir
    ]);
    assert_eq!(
        (&ended["kept"], &ended["uncommitted"]),
        (&true.into(), &1.into())
    );
    assert_eq!(machine.published(&mount.session).len(), 1);
}

fn refused(done: io::Result<()>) {
    let error = done.unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::PERM), "{error}");
}

fn assert_protected(mount: &Mount) {
    let at = |name: &str| mount.dir.join(name);
    refused(OpenOptions::new().write(true).open(at("a")).map(drop));
    refused(OpenOptions::new().append(true).open(at("a")).map(drop));
    refused(fs::write(at("a"), "new"));
    refused(fs::remove_file(at("a")));
    refused(fs::rename(at("a"), at("z")));
    refused(fs::rename(at("d"), at("z")));
    refused(fs::set_permissions(
        at("a"),
        fs::Permissions::from_mode(0o600),
    ));
    refused(fs::remove_file(at("d/b")));
    refused(fs::hard_link(at("a"), at("d/linked")));
    fs::write(at("replacing"), "x").unwrap();
    refused(fs::rename(at("replacing"), at("a")));
    fs::remove_file(at("replacing")).unwrap();
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "aaa");
}

fn inputs_that_are_protected_cannot_be_changed_and_new_files_can_be_made(machine: &Machine) {
    let mount = machine.mount(args!["--protect-inputs", base(machine)], "mnt");
    assert_protected(&mount);
    write(&mount, "d/new", "new");
    write(&mount, "d/dir/more", "more");
    fs::write(mount.dir.join("d/new"), "newer").unwrap();
    fs::rename(mount.dir.join("d/dir"), mount.dir.join("moved")).unwrap();
    fs::remove_file(mount.dir.join("moved/more")).unwrap();
    mount.kill_when_all_is_closed(machine);
    // The session keeps it.
    let mount = machine.resume(&mount.session_dir, &mount.dir);
    assert_protected(&mount);
    fs::write(mount.dir.join("d/new"), "newest").unwrap();
    let out = machine.path("out.manifest");
    machine.ok(args!["umount", "-o", &out, &mount.dir]);
    assert_eq!(files(machine, &out), ["d/new"]);
    let run = args![
        "run",
        "--input",
        machine.path("scene"),
        "--store",
        machine.store(),
        "--protect-inputs",
        "--",
        "sh",
        "-c",
        "echo x > made && echo y > a"
    ];
    let ran = machine.says(run);
    assert_ne!(ran.code, 0);
    ran.saying("ot permitted");
}

fn the_list_of_sessions_tells_how_much_is_uncommitted_and_since_when(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    let listed = || -> Value {
        let list = machine.json(args!["list"]);
        list[0].clone()
    };
    assert_eq!(listed()["uncommitted"], 0);
    write(&mount, "one", "1234567");
    assert_eq!(
        (&listed()["uncommitted"], &listed()["uncommitted_bytes"]),
        (&1.into(), &7.into())
    );
    machine.ok(args!["commit", &mount.dir]);
    assert_eq!(listed()["uncommitted"], 0);
    write(&mount, "two", "123");
    mount.kill_when_all_is_closed(machine);
    let left = listed();
    assert_eq!(
        (&left["uncommitted"], &left["uncommitted_bytes"]),
        (&1.into(), &3.into())
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.unwrap().as_secs() as i64 - left["changed"].as_i64().unwrap();
    assert!((0..300).contains(&age), "{left}");
    machine
        .ok(args!["list"])
        .printing("(1 changed path not committed, 3 B written; last change ")
        .printing(" ago)");
    assert!(has_ended(mount.pid));
}
