//! What a mount has beyond files, directories and links, and what becomes of it in commits and after a kill.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::json;

use crate::machine::{Machine, args, skipped};
use crate::process::{kill_and_wait, said};

fn base(machine: &Machine) -> PathBuf {
    machine.file("scene/a", "aaa");
    machine.file("scene/d/b", "bbb");
    machine.snapshot(&machine.path("scene"), "scene.manifest")
}

fn make_fifo(at: &Path) {
    mknodat(CWD, at, FileType::Fifo, 0o644.into(), 0).unwrap();
}

#[test]
fn fifos_and_sockets_are_named_by_all_verbs_that_tell_of_a_session() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        make_fifo(&mount.dir.join("d/fifo"));
        drop(UnixListener::bind(mount.dir.join("socket")).unwrap());
        std::fs::write(mount.dir.join("d/frame"), "pixels").unwrap();
        let names = json!(["d/fifo", "socket"]);
        mount.until_all_is_closed(machine);
        let status = machine.json(args!["status", &mount.session]);
        assert_eq!(status["special"], names);
        assert_eq!(status["uncommitted"], 1);
        machine
            .ok(args!["status", &mount.session])
            .printing("d/fifo (a FIFO or a socket");
        kill_and_wait(mount.pid);

        let mount = machine.resume(&mount.session_dir, &mount.dir);
        let kind = |name: &str| mount.dir.join(name).symlink_metadata().unwrap().file_type();
        assert!(kind("d/fifo").is_fifo() && kind("socket").is_socket());
        let diff = machine.json(args!["diff", &mount.session]);
        assert_eq!(diff["account"]["special"], names);
        machine
            .ok(args!["diff", &mount.session])
            .printing("2 paths no manifest can hold, FIFOs or sockets: d/fifo, socket");
        let commit = machine.json(args!["commit", &mount.session]);
        assert_eq!(commit["account"]["special"], names);
        assert_eq!(commit["account"]["added"], 1);
        machine
            .ok(args!["commit", &mount.session])
            .printing("FIFOs or sockets: d/fifo, socket");
        let ended = machine.json(args!["umount", &mount.dir]);
        assert_eq!(ended["kept"], false, "nothing is lost with them");
    });
}

/// A program that others wrote to find out whether a file system keeps what it is given; `cargo xtask soak --posix` installs it and
/// runs it for longer.
#[test]
fn fsx_finds_nothing_in_a_mount() {
    let Some(fsx) = std::env::var_os("ATTACHFS_FSX") else {
        return skipped("fsx is not installed: `cargo xtask soak --posix` does that");
    };
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("posix/fsx.toml");
        let mut test = machine.command(&fsx);
        test.args(["-N", "3000", "-S", "1"])
            .arg("-f")
            .arg(config)
            .arg("-P")
            .arg(machine.dir("found"))
            .arg(mount.dir.join("file"));
        said(&mut test).with_code(0);
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn attributes_stay_in_the_session_and_are_in_no_manifest() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        let set = |name: &str, value: &str| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(mount.dir.join(name), "user.mark", value.as_bytes(), flags)
        };
        set("a", "of an input").unwrap();
        std::fs::write(mount.dir.join("new"), "new").unwrap();
        set("new", "of an output").unwrap();
        mount.kill_when_all_is_closed(machine);
        let mount = machine.resume(&mount.session_dir, &mount.dir);
        let get = |dir: &Path, name: &str| {
            let mut value = [0; 99];
            let len = rustix::fs::getxattr(dir.join(name), "user.mark", &mut value[..])?;
            Ok(String::from_utf8(value[..len].to_vec()).unwrap())
        };
        assert_eq!(get(&mount.dir, "a"), Ok("of an input".to_owned()));
        assert_eq!(get(&mount.dir, "new"), Ok("of an output".to_owned()));
        let commit = machine.json(args!["commit", &mount.session]);
        assert_eq!(commit["account"]["added"], 1);
        assert_eq!(
            commit["account"]["changed"], 0,
            "an attribute is no change of a manifest"
        );
        let diff = commit["manifest"]["address"].as_str().unwrap();
        let other = machine.mount(args!["--read-only", &manifest, diff], "other");
        for name in ["a", "new"] {
            assert_eq!(
                get(&other.dir, name),
                Err(rustix::io::Errno::NODATA),
                "{name}"
            );
        }
        machine.ok(args!["umount", &other.dir]);
        machine.ok(args!["umount", &mount.dir]);
    });
}
