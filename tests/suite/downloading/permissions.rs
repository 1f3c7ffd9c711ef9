//! Permissions and groups of what is made.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{into, scene, with};
use crate::machine::{Machine, skipped};
use crate::process::said;

#[test]
fn permissions_and_group_are_given_to_what_is_made() {
    Machine::with_directory(|machine| {
        let scene = scene(machine, "scene");
        let manifest = machine.snapshot(&scene, "scene.manifest");
        let root = machine.path("root");
        let Some(gid) = other_group() else {
            skipped("there is no other group that may be given");
            return;
        };
        let group = gid.to_string();
        let more = [
            "--group",
            &group,
            "--add-file-mode",
            "020",
            "--add-dir-mode",
            "0070",
        ];
        machine.ok(with(into(machine, &manifest, &root), &more));
        let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode();
        for name in ["bin/run.sh", "bin", "empty/inner", ""] {
            assert_eq!(fs::metadata(root.join(name)).unwrap().gid(), gid, "{name}");
        }
        assert_eq!(mode("bin/run.sh") & 0o020, 0o020);
        assert_eq!(mode("bin") & 0o070, 0o070);
        assert_eq!(mode("") & 0o070, 0o070);
    });
}

/// A group other than that of this process, which it may give files to.
fn other_group() -> Option<u32> {
    let own = rustix::process::getegid().as_raw();
    if rustix::process::geteuid().is_root() {
        return Some(own + 12_345);
    }
    let groups = rustix::process::getgroups().unwrap();
    let mut groups = groups.into_iter().map(rustix::process::Gid::as_raw);
    groups.find(|&group| group != own)
}

#[test]
fn a_group_that_cannot_be_had_is_told_with_its_reason() {
    Machine::with_directory(|machine| {
        let manifest = machine.snapshot(&machine.dir("scene"), "scene.manifest");
        let root = machine.path("root");
        let getent = machine.file("broken/getent", "#!/bin/sh\necho no database >&2; exit 3");
        fs::set_permissions(&getent, fs::Permissions::from_mode(0o755)).unwrap();
        for (group, path, code, why) in [
            (
                "no such group here",
                None,
                2,
                "there is no group \"no such group here\"",
            ),
            ("4294967295", None, 2, "4294967295"),
            ("staff", Some("nowhere"), 1, "No such file"),
            ("staff", Some("broken"), 1, "no database"),
        ] {
            let download = with(into(machine, &manifest, &root), &["--group", group]);
            let mut command = machine.attachfs(download);
            if let Some(path) = path {
                command.env("PATH", machine.path(path));
            }
            said(&mut command).with_code(code).saying(why);
        }
        assert!(!root.exists());
    });
}
