//! An input that is written stays the same file to every program that knows it: editors, locks, and whoever reads it
//! while it grows.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores};
use crate::process::said;

mounting_from_both_stores![
    vim_saves_an_input_in_every_way_it_knows,
    locks_on_an_input_keep_writers_out,
    tail_follows_an_input_that_grows,
    readers_and_writers_of_an_input_share_it,
    rsync_and_tar_leave_what_is_the_same_alone,
];

fn mounted(machine: &Machine) -> Mount {
    let input = machine.dir("input");
    for name in ["a.txt", "dir/b.txt"] {
        machine.file(input.join(name), "first\nsecond\n");
    }
    let manifest = machine.snapshot(&input, "base.manifest");
    machine.mount(args![&manifest], "mnt")
}

fn ino(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn unmount(machine: &Machine, mount: &Mount) {
    machine.ok(args!["umount", &mount.dir]);
    machine.ok(args!["discard", "--yes", &mount.session]);
}

fn vim_saves_an_input_in_every_way_it_knows(machine: &Machine) {
    for backup_copy in [
        "yes",
        "no",
        "auto",
        "auto,breaksymlink",
        "breakhardlink,auto",
    ] {
        let mount = mounted(machine);
        let file = mount.dir.join("a.txt");
        fs::hard_link(&file, mount.dir.join("linked")).unwrap();
        for (file, lines) in [("a.txt", 3), ("dir/b.txt", 3), ("a.txt", 4)] {
            let file = mount.dir.join(file);
            let edited = said(
                machine
                    .command("vim")
                    .args(["-u", "NONE", "-i", "NONE", "-n", "-es"])
                    .arg("-c")
                    .arg(format!(
                        "set nocompatible backup writebackup backupcopy={backup_copy}"
                    ))
                    .args([
                        "-c",
                        "normal Goadded",
                        "-c",
                        "write",
                        "-c",
                        "write",
                        "-c",
                        "quit",
                    ])
                    .arg(&file)
                    .stdin(Stdio::null()),
            );
            assert_eq!(edited.code, 0, "{backup_copy}: {edited:#?}");
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(text.lines().count(), lines, "{backup_copy}: {text:?}");
            assert!(text.ends_with("added\n"), "{backup_copy}: {text:?}");
        }
        unmount(machine, &mount);
    }
}

fn locks_on_an_input_keep_writers_out(machine: &Machine) {
    let mount = mounted(machine);
    let file = mount.dir.join("a.txt");
    let lock = |kind: &str| {
        let mut flock = Command::new("flock");
        let flock = flock.args(["--nonblock", "--conflict-exit-code", "9", kind]);
        said(flock.arg(&file).arg("true")).code
    };
    // Held by a reader from before somebody opens the file for writing.
    let reader = File::open(&file).unwrap();
    reader.lock_shared().unwrap();
    let writer = OpenOptions::new().write(true).open(&file).unwrap();
    assert!(
        writer.try_lock().is_err(),
        "the same file, so the same lock"
    );
    writer.write_all_at(b"FIRST", 0).unwrap();
    assert_eq!(lock("--exclusive"), 9);
    assert_eq!(lock("--shared"), 0);
    drop((reader, writer));
    assert_eq!(lock("--exclusive"), 0);

    // The other kind of locks, which a process has: fcntl(2).
    let python = |holder: &str, asker: &str| {
        let script = format!(
            "import fcntl, os, sys\n\
             held = open(sys.argv[1], '{holder}')\n\
             fcntl.lockf(held, fcntl.LOCK_SH if '{holder}' == 'r' else fcntl.LOCK_EX)\n\
             if os.fork():\n    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n\
             other = open(sys.argv[1], '{asker}')\n\
             try:\n    fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
             except OSError:\n    os._exit(9)\n\
             os._exit(0)\n"
        );
        let path = mount.dir.join("dir/b.txt");
        said(Command::new("python3").args(["-c", &script]).arg(path)).code
    };
    assert_eq!(python("r", "r+"), 9);
    assert_eq!(python("r+", "a"), 9);
    unmount(machine, &mount);
}

/// Ends when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // That it has ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tail_follows_an_input_that_grows(machine: &Machine) {
    let mount = mounted(machine);
    let file = mount.dir.join("a.txt");
    let mut tail = Command::new("tail");
    tail.args(["-n", "+1", "-s", "0.05", "--follow=descriptor"])
        .arg(&file)
        .stdout(Stdio::piped());
    let mut tail = Running(tail.spawn().unwrap());
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!([next(), next()], ["first", "second"]);
    for line in ["third", "fourth"] {
        let mut file = OpenOptions::new().append(true).open(&file).unwrap();
        writeln!(file, "{line}").unwrap();
        drop(file);
        assert_eq!(next(), line);
    }
    drop(tail);
    unmount(machine, &mount);
}

fn readers_and_writers_of_an_input_share_it(machine: &Machine) {
    let mount = mounted(machine);
    let file = mount.dir.join("a.txt");
    let before = ino(&file);
    let reader = File::open(&file).unwrap();
    let read = || {
        let mut bytes = [0; 32];
        let len = reader.read_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    assert_eq!(read(), "first\nsecond\n");
    let writer = OpenOptions::new().write(true).open(&file).unwrap();
    assert_eq!(read(), "first\nsecond\n", "opening changes nothing");
    writer.write_all_at(b"FIRST", 0).unwrap();
    assert_eq!(read(), "FIRST\nsecond\n");
    writer.set_len(5).unwrap();
    assert_eq!(read(), "FIRST");
    drop(writer);
    fs::write(&file, "anew").unwrap();
    assert_eq!(read(), "anew");
    assert_eq!(
        (ino(&file), reader.metadata().unwrap().ino()),
        (before, before)
    );
    let found = said(Command::new("find").arg(&mount.dir).args([
        "-inum",
        &before.to_string(),
        "-printf",
        "%P\n",
    ]));
    assert_eq!(found.out, "a.txt\n");
    fs::remove_file(&file).unwrap();
    assert_eq!(read(), "anew");
    drop(reader);
    unmount(machine, &mount);
}

fn rsync_and_tar_leave_what_is_the_same_alone(machine: &Machine) {
    let mount = mounted(machine);
    let file = mount.dir.join("a.txt");
    let before = ino(&file);
    let from = machine.dir("from");
    machine.file(from.join("a.txt"), "first\nsecond\nthird\n");
    machine.file(from.join("dir/b.txt"), "first\nsecond\n");
    let times = fs::FileTimes::new().set_modified(
        fs::metadata(mount.dir.join("dir/b.txt"))
            .unwrap()
            .modified()
            .unwrap(),
    );
    File::open(from.join("dir/b.txt"))
        .unwrap()
        .set_times(times)
        .unwrap();
    let synced = said(
        Command::new("rsync")
            .args(["--recursive", "--times", "--inplace", "--itemize-changes"])
            .arg(from.join(""))
            .arg(&mount.dir),
    );
    assert_eq!(synced.code, 0, "{synced:#?}");
    assert!(!synced.out.contains("b.txt"), "{synced:#?}");
    assert_eq!(fs::read(&file).unwrap(), b"first\nsecond\nthird\n");
    assert_eq!(ino(&file), before);
    let archive = machine.path("archive.tar");
    let packed = said(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&mount.dir)
            .arg("."),
    );
    assert_eq!((packed.code, &*packed.err), (0, ""));
    let same = said(
        Command::new("tar")
            .arg("-df")
            .arg(&archive)
            .arg("-C")
            .arg(&mount.dir),
    );
    assert_eq!((same.code, &*same.out, &*same.err), (0, "", ""));
    let again = said(
        Command::new("tar")
            .args(["--overwrite", "-xf"])
            .arg(&archive)
            .arg("-C")
            .arg(&mount.dir),
    );
    assert_eq!((again.code, &*again.err), (0, ""));
    assert_eq!(ino(&file), before);
    unmount(machine, &mount);
}
