//! What the program says: to whom who set a variable, typed a name or ended a mount.

mod access;
mod ends;
mod failing;
mod foreign_cache;
mod leaving;
mod words;

use std::fs;
use std::os::unix::fs::chown;

use crate::machine::{Machine, Mount, args};
use crate::process::{kill_and_wait, said};

/// Any other user.
const SOMEBODY: u32 = 12_345;

#[test]
fn a_bad_variable_is_told_by_its_name_and_an_empty_one_says_nothing() {
    Machine::with_directory(|machine| {
        let mount = || machine.attachfs(args!["mount", machine.path("no.manifest"), "mnt"]);
        for variable in [
            "ATTACHFS_MAX_CACHE_SIZE",
            "ATTACHFS_CACHE_MIN_FREE",
            "ATTACHFS_PRICE_PER_GB",
            "ATTACHFS_PRICE_PER_1000_GETS",
        ] {
            let bad = said(mount().env(variable, "x y"));
            let bad = bad.with_code(2).saying(variable);
            assert!(bad.err.contains("x y"), "{bad:?}");
            let empty = said(mount().env(variable, ""));
            assert!(!empty.err.contains(variable), "{empty:?}");
            assert!(empty.err.contains("no store of your own"), "{empty:?}");
            // What was typed is to blame for itself.
            let mut typed = machine.attachfs(args!["mount", "--op-timeout", "x", "m", "mnt"]);
            let typed = said(typed.env(variable, "x y")).with_code(2);
            assert!(typed.err.contains("--op-timeout"), "{typed:?}");
            assert!(!typed.err.contains(variable), "{typed:?}");
        }
        let mut usage = machine.attachfs(args!["mount"]);
        let usage = said(usage.env("AWS_CA_BUNDLE", "/bundle")).with_code(2);
        assert!(!usage.err.contains("--ca-bundle"), "{usage:?}");
    });
}

#[test]
fn a_place_where_no_output_can_be_is_a_mistake_of_who_named_it() {
    Machine::mounting_from_directory(|machine| {
        let manifest = machine.snapshot(&machine.dir("input"), "base.manifest");
        let missing = machine.path("missing");
        for (option, name) in [("--record-trace", "t"), ("--report", "r.json")] {
            let place = missing.join(name);
            said(&mut machine.mounting(args![option, &place, &manifest], "mnt")).with_code(2);
            let dir = machine.dir(name);
            said(&mut machine.mounting(args![option, &dir, &manifest], "mnt")).with_code(2);
        }
        let both = machine.path("both.json");
        let both = args!["--record-trace", &both, "--report", &both, &manifest];
        let both = said(&mut machine.mounting(both, "mnt"));
        both.with_code(2).saying("both the trace and a report");
        let mount = machine.mount(args![&manifest], "mnt");
        let page = args!["report", "--html", missing.join("p.html"), &mount.dir];
        machine.says(page).with_code(2);
    });
}

#[test]
fn what_is_in_the_place_of_the_cache_is_an_error_and_what_a_disk_does_a_warning() {
    Machine::mounting_from_s3(|machine| {
        let input = machine.dir("input");
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&input, "base.manifest");
        let mounting = |home: &std::path::Path, at: &str| {
            let mut mounting = machine.mounting(args![&manifest], at);
            said(mounting.env("XDG_CACHE_HOME", home))
        };
        let file = machine.file("file", "of the user");
        mounting(&file, "refused")
            .with_code(1)
            .saying("cannot use the cache");
        assert_eq!(machine.mounts(), [] as [std::path::PathBuf; 0]);
        // No directory can be made there, as on a disk that is read-only.
        let failing = mounting("/proc/nothing".as_ref(), "without").with_code(0);
        let failing = failing.saying("going on without the disk cache");
        let mount = Mount::of(&failing);
        assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"of the input");
        machine.ok(args!["umount", &mount.dir]);
        let missing = machine.path("missing/deep");
        mounting(&missing, "made").with_code(0);
        assert!(missing.is_dir());
        mounting("relative".as_ref(), "relative").with_code(0);
    });
}

#[test]
fn no_file_of_another_user_is_replaced_by_root() {
    Machine::mounting_from_directory(|machine| {
        if !rustix::process::geteuid().is_root() {
            crate::machine::skipped("only root can give a file away");
            return;
        }
        let manifest = machine.snapshot(&machine.dir("input"), "base.manifest");
        for (option, name, text) in [
            ("--record-trace", "t", "attachfs trace 1\nend 0\n"),
            ("--report", "r.json", "{\"attachfs_report\":1}"),
            ("--report", "empty.json", ""),
        ] {
            let theirs = machine.file(name, text);
            chown(&theirs, Some(SOMEBODY), None).unwrap();
            let refused = said(&mut machine.mounting(args![option, &theirs, &manifest], "mnt"));
            refused.with_code(2).saying("belongs to user 12345");
            assert_eq!(fs::read_to_string(&theirs).unwrap(), text);
        }
    });
}

#[test]
fn umount_names_the_trace_and_says_whether_a_dead_mount_left_anything() {
    Machine::mounting_from_directory(|machine| {
        let manifest = machine.snapshot(&machine.dir("input"), "base.manifest");
        let trace = machine.path("t");
        let traced = machine.mount(args!["--record-trace", &trace, &manifest], "traced");
        let ended = machine.ok(args!["umount", &traced.dir]);
        ended.printing(&format!("trace      {}\n", trace.display()));
        let idle = machine.mount(args![&manifest], "idle");
        kill_and_wait(idle.pid);
        let ended = machine.ok(args!["umount", &idle.dir]);
        let ended = ended.printing("nothing in it is uncommitted");
        assert!(!ended.out.contains("attachfs commit"), "{ended:?}");
        let used = machine.mount(args![&manifest], "used");
        fs::write(used.dir.join("new"), "of the job").unwrap();
        used.kill_when_all_is_closed(machine);
        let ended = machine.ok(args!["umount", &used.dir]);
        ended
            .printing("with 1 changed path not committed")
            .printing("attachfs commit");
    });
}

#[test]
fn control_characters_in_a_mount_point_never_reach_a_terminal() {
    Machine::mounting_from_directory(|machine| {
        let manifest = machine.snapshot(&machine.dir("input"), "base.manifest");
        let name = "bad\u{1b}[2J\nname";
        let mut mounting = machine.attachfs(args![
            "mount",
            "--store",
            machine.store(),
            &manifest,
            machine.dir(name)
        ]);
        let mounted = said(&mut mounting).with_code(0);
        let at = machine.path(name);
        for verb in ["status", "stats", "report", "diff", "layers"] {
            check(&machine.says(args![verb, &at]));
        }
        check(&machine.says(args!["list"]));
        check(&mounted);
        check(&machine.says(args!["umount", &at]));
        check(&machine.says(args!["umount", &at]).with_code(2));
    });
}

fn check(told: &crate::process::Said) {
    for text in [&told.out, &told.err] {
        assert!(!text.contains('\u{1b}'), "{told:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("name")),
            "{told:?}"
        );
    }
}

#[test]
fn a_file_of_another_length_is_not_maybe_the_same() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.dir("input");
        machine.file("input/cut", "a long text");
        machine.file("input/touched", "the same");
        let manifest = machine.snapshot(&input, "base.manifest");
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("cut"), "short").unwrap();
        fs::write(mount.dir.join("touched"), "the same").unwrap();
        let told = machine.ok(args!["diff", &mount.dir]).out;
        let line = |name: &str| told.lines().find(|line| line.contains(name)).unwrap();
        assert!(!line("cut").contains("maybe"), "{told}");
        assert!(line("touched").contains("maybe the same bytes"), "{told}");
    });
}
