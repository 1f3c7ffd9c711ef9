//! What a commit leaves, or would stop at: told before, and with the way out.

use std::fs;
use std::os::unix::fs::symlink;

use crate::machine::{Machine, args};

#[test]
fn a_dry_run_stops_where_the_commit_does_and_names_the_way_out() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args![&manifest], "mnt");
        symlink("/etc/passwd", mount.dir.join("leads-out")).unwrap();
        let commit = args!["commit", &mount.dir].to_vec();
        let dry = [&commit[..], &args!["--dry-run"]].concat();
        let skip = args!["--symlinks", "skip"];
        let stopped = machine.says(&commit);
        let told = machine.says(&dry).with_code(stopped.code);
        assert_ne!(stopped.code, 0);
        for said in [stopped, told.saying("the commit would stop")] {
            said.saying("lead out of the mount: ")
                .saying("leads-out")
                .saying("--symlinks skip");
        }
        machine.ok([&dry[..], &skip].concat());
        // A file that is open for writing stops it as well.
        let open = fs::File::create(mount.dir.join("open")).unwrap();
        let stopped = machine.says([&commit[..], &skip].concat()).with_code(14);
        stopped.saying("open");
        let told = machine.says([&dry[..], &skip].concat()).with_code(14);
        told.saying("open for writing: \"open\"; `commit --skip-open`");
        machine.ok([&dry[..], &skip, &args!["--skip-open"]].concat());
        assert_eq!(machine.published(&mount.session), []);
        drop(open);
        mount.until_all_is_closed(machine);
        machine.ok([&commit[..], &skip].concat());
    });
}

#[test]
fn what_is_only_outside_of_the_output_directories_is_committed_with_everything() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/frames/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        for (path, advised) in [("outside", "commit --everything"), ("frames/new", "commit")] {
            let mount = machine.mount(args!["--output-dir", "frames", &manifest], "mnt");
            fs::write(mount.dir.join(path), "by the job").unwrap();
            mount.until_all_is_closed(machine);
            let ended = machine.ok(args!["umount", &mount.dir]);
            let id = &mount.session[..8];
            ended.printing(&format!("attachfs {advised} {id}\n"));
            machine.ok(args!["discard", "--yes", &mount.session]);
        }
    });
}
