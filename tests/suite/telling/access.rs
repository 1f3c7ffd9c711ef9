//! Options of S3 where the process of a mount does the work, and would not hear of them.

use std::ffi::OsString;
use std::fs;

use crate::machine::{Machine, args};
use crate::process::said;

#[test]
fn options_of_s3_that_a_mounts_process_would_not_use_are_refused_before_anything_is_done() {
    Machine::mounting_from_s3(|machine| {
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "by the job").unwrap();
        mount.until_all_is_closed(machine);
        let at = mount.dir.as_os_str();
        let options: [(&str, &[&str]); 5] = [
            ("--endpoint-url", &["--endpoint-url", "http://127.0.0.1:1"]),
            ("--sse", &["--sse", "aws:kms"]),
            ("--profile", &["--profile", "nosuch"]),
            (
                "--expected-bucket-owner",
                &["--expected-bucket-owner", "111122223333"],
            ),
            ("--max-bandwidth", &["--max-bandwidth", "5MB"]),
        ];
        for (option, typed) in options {
            let typed: Vec<OsString> = typed.iter().map(OsString::from).collect();
            for verb in [
                &args!["commit", at][..],
                &args!["commit", "--dry-run", at],
                &args!["umount", "--commit", at],
                &args!["umount", at],
                &args!["status", at],
                &args!["diff", at],
                &args!["layers", at],
                &args!["stats", at],
                &args!["report", at],
                &args!["discard", "--yes", at],
            ] {
                let refused = machine.says([verb, &typed[..]].concat()).with_code(2);
                let refused = refused.saying(option).saying("go with `mount`");
                assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
            }
        }
        let beside = args!["commit", at, "--max-bandwidth", "5MB", "--min-rate", "1MB"];
        machine
            .says(beside)
            .with_code(2)
            .saying("--max-bandwidth, --min-rate would not be used");
        assert_eq!(machine.published(&mount.session), [], "nothing was done");
        // What variables and profiles say is meant for those who reach S3 themselves.
        let mut status = machine.attachfs(args!["status", at]);
        let status = status
            .env("AWS_CA_BUNDLE", machine.file("bundle.pem", "none"))
            .env("AWS_PROFILE", "nosuch")
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        said(status).with_code(0);
        // The mount's own are no others.
        let own = args!["commit", at, "--endpoint-url", machine.server().endpoint()];
        machine.ok(own).printing("outputs    1 added");
        assert_eq!(machine.published(&mount.session).len(), 1);
    });
}

#[test]
fn a_session_that_is_taken_up_with_other_options_is_known_by_those() {
    Machine::mounting_from_s3(|machine| {
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "by the job").unwrap();
        mount.kill_when_all_is_closed(machine);
        // No process has it: this one does the work, and uses what it is told.
        let status = args!["status", &mount.session, "--max-bandwidth", "5MB"];
        machine.ok(status);
        let session = mount.session_dir.as_os_str();
        machine.ok(args![
            "mount",
            "--max-bandwidth",
            "5MB",
            "--session",
            session,
            &mount.dir
        ]);
        machine.ok(args!["status", &mount.session, "--max-bandwidth", "5MB"]);
        machine
            .says(args!["status", &mount.session, "--max-bandwidth", "6MB"])
            .with_code(2);
    });
}
