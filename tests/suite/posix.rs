//! What a mount has beyond files, directories and links, and what becomes of it in commits and after a kill.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::json;

use crate::machine::{Machine, args};
use crate::process::kill_and_wait;

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
