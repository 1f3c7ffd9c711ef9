//! What a mount has beyond files, directories and links, and what becomes of it in commits and after a kill.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
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

/// Takes file handles, or opens those that were taken from another mount of the same session, as an NFS server does after a restart.
const HANDLES: &str = r#"
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]
what, root = sys.argv[1:3]
if what == "take":
    taken = {}
    for path in sys.argv[3:]:
        handle, mount = Handle(bytes=128), ctypes.c_int()
        if libc.name_to_handle_at(-100, os.path.join(root, path).encode(), ctypes.byref(handle), ctypes.byref(mount), 0):
            sys.exit(f"{path}: {os.strerror(ctypes.get_errno())}")
        taken[path] = [handle.type, bytes(handle.data[:handle.bytes]).hex()]
    print(json.dumps(taken))
else:
    at, found = os.open(root, os.O_RDONLY), {}
    for path, (kind, data) in json.loads(sys.argv[3]).items():
        data = bytes.fromhex(data)
        handle = Handle(bytes=len(data), type=kind)
        ctypes.memmove(handle.data, data, len(data))
        opened = libc.open_by_handle_at(at, ctypes.byref(handle), os.O_RDONLY)
        if opened < 0:
            found[path] = os.strerror(ctypes.get_errno())
        elif os.path.isdir(f"/proc/self/fd/{opened}"):
            os.fchdir(opened)
            found[path] = [os.getcwd(), sorted(os.listdir("."))]
        else:
            found[path] = os.read(opened, 100).decode()
    print(json.dumps(found))
"#;

#[test]
fn file_handles_lead_to_the_same_files_after_a_remount() {
    Machine::mounting_from_directory(|machine| {
        machine.file("scene/d/e/f", "fff");
        let mount = machine.mount(args![base(machine)], "mnt");
        let at = |path: &str| mount.dir.join(path);
        std::fs::write(at("d/e/out"), "written").unwrap();
        for gone in ["gone", "d/changed"] {
            std::fs::write(at(gone), "old").unwrap();
        }
        let handles = |what: &str, rest: &[&str]| {
            let mut command = machine.command("python3");
            command.args(["-c", HANDLES, what]).arg(&mount.dir);
            said(command.args(rest)).with_code(0).json()
        };
        let paths = [
            "a",
            "d/b",
            "d/e",
            "d/e/f",
            "d/e/out",
            "gone",
            "d/changed",
            "",
        ];
        let taken = handles("take", &paths);
        std::fs::remove_file(at("gone")).unwrap();
        std::fs::remove_file(at("a")).unwrap();
        std::fs::rename(at("d/e"), at("e")).unwrap();
        std::fs::write(at("d/changed"), "new").unwrap();
        mount.kill_when_all_is_closed(machine);
        let mount = machine.resume(&mount.session_dir, &mount.dir);

        let mut taken = taken;
        let root: &mut serde_json::Value = &mut taken["a"].clone();
        // A number that no inode ever had, as another system may send it.
        let data = root[1].as_str().unwrap();
        root[1] = json!(format!("{}{}", "f".repeat(16), &data[16..]));
        taken["never"] = root.clone();
        let found = handles("open", &[&taken.to_string()]);
        let place = |path: &str| mount.dir.join(path).to_str().unwrap().to_owned();
        assert_eq!(
            found,
            json!({
                "": [place("").trim_end_matches('/'), ["d", "e"]],
                "a": "Stale file handle",
                "d/b": "bbb",
                "d/e": [place("e"), ["f", "out"]],
                "d/e/f": "fff",
                "d/e/out": "written",
                "gone": "Stale file handle",
                "d/changed": "new",
                "never": "Stale file handle",
            })
        );
        machine.ok(args!["umount", &mount.dir]);
        // Another session has the same numbers for other files.
        let mount = machine.mount(args![base(machine)], &mount.dir);
        std::fs::write(mount.dir.join("other"), "another session's").unwrap();
        let mut command = machine.command("python3");
        command.args(["-c", HANDLES, "open"]).arg(&mount.dir);
        let found = said(command.arg(taken.to_string())).with_code(0).json();
        for path in ["d/b", "d/e/out", "d/changed", "d/e"] {
            assert_eq!(found[path], "Stale file handle", "{found}");
        }
        machine.ok(args!["umount", &mount.dir]);
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

#[test]
fn set_group_id_of_a_directory_is_kept_and_passed_on() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let shared = mount.dir.join("shared");
        fs::create_dir(&shared).unwrap();
        chown(&shared, None, Some(50)).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).unwrap();
        fs::create_dir(shared.join("below")).unwrap();
        fs::write(shared.join("below/f"), "f").unwrap();
        let shown = |path: &str| {
            let metadata = fs::metadata(mount.dir.join(path)).unwrap();
            (metadata.mode() & 0o7000, metadata.gid())
        };
        assert_eq!(shown("shared"), (0o2000, 50));
        assert_eq!(shown("shared/below"), (0o2000, 50));
        assert_eq!(shown("shared/below/f"), (0, 50));
        machine.ok(args!["commit", &mount.session]);
    });
}
