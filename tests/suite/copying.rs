//! Manifests on their way into a session: through pipes, too long ones, and a process that ends before they are there.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::machine::{Machine, Mount, args, until};
use crate::process::{kill_and_wait, said};

const TEXT: &str = "a of the input\n";

fn base(machine: &Machine) -> PathBuf {
    machine.file("input/a", TEXT);
    machine.snapshot(&machine.path("input"), "base.manifest")
}

/// A pipe, and who sends something into it that is not the end of a manifest.
fn pipe(machine: &Machine) -> (PathBuf, File) {
    let path = machine.path("pipe");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let open = File::options().read(true).write(true).open(&path);
    (path, open.unwrap())
}

/// Sends more than is written at once.
fn send_some(pipe: &mut File) {
    pipe.write_all(&vec![b' '; 3 << 20]).unwrap();
}

/// Nothing is mounted, and no session is there.
#[track_caller]
fn nothing_is_left(machine: &Machine) {
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
}

/// The file of a session that is being filled.
fn being_filled(session: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(session.join("base")).ok()?.flatten();
    let is_staged = |name: &str| name.starts_with(".staged-");
    let found = files.find(|entry| entry.file_name().to_str().is_some_and(is_staged))?;
    Some(found.path()).filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0))
}

#[test]
fn a_manifest_on_standard_input_is_mounted_and_kept_in_the_session() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        for arguments in [args!["-"].as_slice(), &args!["--foreground", "-"]] {
            let is_background = arguments.len() == 1;
            let mut command = machine.mounting(arguments, "mnt");
            command.stdin(Stdio::piped());
            let mnt = machine.path("mnt");
            if is_background {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            }
            let mut child = command.spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(&fs::read(&manifest).unwrap()).unwrap();
            drop(input);
            until("it is mounted", || mnt.join("a").exists());
            assert_eq!(fs::read_to_string(mnt.join("a")).unwrap(), TEXT);
            let status = machine.json(args!["status", &mnt]);
            assert_eq!(status["manifests"][0], "-");
            let session = machine.sessions().remove(0);
            assert_eq!(
                fs::read(session.join("base/0")).unwrap(),
                fs::read(&manifest).unwrap()
            );
            machine.ok(args!["umount", &mnt]);
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn nothing_on_standard_input_is_no_manifest_and_leaves_nothing() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        said(&mut machine.mounting(args!["-"], "mnt"))
            .with_code(2)
            .saying("there is no manifest on standard input");
        nothing_is_left(machine);
    });
}

#[test]
fn who_is_killed_while_a_manifest_comes_leaves_none_and_its_session_can_be_made_again() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let session = machine.path("session");
        let (path, mut pipe) = pipe(machine);
        let command = machine.mounting(args!["--foreground", "--session", &session, path], "mnt");
        let running = machine.start(command);
        send_some(&mut pipe);
        until("a part is copied", || being_filled(&session).is_some());
        kill_and_wait(running.pid());
        running.wait().with_code(137);

        assert!(!session.join("base/0").exists() && !session.join("session.json").exists());
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        machine.says(args!["status", &session]).with_code(2);
        let mount = machine.mount(args!["--session", &session, &manifest], "mnt");
        assert_eq!(fs::read_to_string(mount.dir.join("a")).unwrap(), TEXT);
        let kept: Vec<_> = fs::read_dir(session.join("base")).unwrap().collect();
        assert_eq!(kept.len(), 1);
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn who_interrupts_a_mount_whose_manifest_does_not_come_leaves_nothing() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let (path, mut pipe) = pipe(machine);
        for options in [args!["--foreground"].as_slice(), &[]] {
            let arguments = [options, &args![&path]].concat();
            let running = machine.start(machine.mounting(arguments, "mnt"));
            send_some(&mut pipe);
            until("a part is copied", || {
                let sessions = machine.sessions();
                sessions
                    .iter()
                    .any(|session| being_filled(session).is_some())
            });
            running.signal(Signal::INT);
            running.wait().with_code(15);
            nothing_is_left(machine);
        }
    });
}

#[test]
fn a_manifest_that_is_longer_than_may_be_is_refused_and_leaves_nothing() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let long = machine.path("long");
        File::create(&long).unwrap().set_len((2 << 30) + 1).unwrap();
        let said = said(&mut machine.mounting(args![&long], "mnt"));
        assert_ne!(said.code, 0);
        said.saying("longer than a manifest may be");
        nothing_is_left(machine);
        // What only looks at manifests holds them in memory.
        File::create(&long).unwrap().set_len((1 << 30) + 1).unwrap();
        for verb in ["ls", "inspect"] {
            let said = machine.says(args![verb, &long]);
            assert_ne!(said.code, 0, "{verb}");
            said.saying("longer than a manifest may be");
        }
    });
}

#[test]
fn what_is_no_manifest_is_refused_and_leaves_nothing() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let no_manifest = machine.file("no.manifest", "{\"manifestVersion\":");
        said(&mut machine.mounting(args![&no_manifest], "mnt"))
            .with_code(12)
            .saying("is no manifest that can be used");
        nothing_is_left(machine);
        let there = machine.dir("there");
        said(&mut machine.mounting(args!["--session", &there, &no_manifest], "mnt")).with_code(12);
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
    });
}

#[test]
fn a_manifest_in_another_order_shows_the_same() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/b", "b of the input\n");
        machine.file("input/d/x", "x of the input\n");
        let manifest = base(machine);
        let text = fs::read_to_string(&manifest).unwrap();
        let mut said: serde_json::Value = serde_json::from_str(&text).unwrap();
        let files = said["files"].as_array_mut().unwrap();
        assert_eq!(files.len(), 3);
        files.reverse();
        let other = machine.file("other.manifest", said.to_string());
        let shown = |manifest: &Path| {
            let mount: Mount = machine.mount(args!["--read-only", manifest], "mnt");
            let names = ["a", "b", "d/x"].map(|name| {
                let path = mount.dir.join(name);
                (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().len())
            });
            machine.ok(args!["umount", &mount.dir]);
            names
        };
        assert_eq!(shown(&manifest), shown(&other));
    });
}

#[test]
fn who_interrupts_the_copying_of_a_long_manifest_is_heard_at_once() {
    Machine::mounting_from_directory(|machine| {
        // No file of a manifest has to be there: it takes seconds to copy, whatever is in it.
        let manifest = machine.path("long");
        let file = File::create(&manifest).unwrap();
        file.set_len((2 << 30) - 1).unwrap();
        let arguments = args!["--foreground", "--no-probe", &manifest];
        let running = machine.start(machine.mounting(arguments, "mnt"));
        until("a part is copied", || {
            let sessions = machine.sessions();
            sessions
                .iter()
                .any(|session| being_filled(session).is_some())
        });
        let interrupted = Instant::now();
        running.signal(Signal::INT);
        running.wait().with_code(15);
        assert!(interrupted.elapsed() < Duration::from_secs(5));
        nothing_is_left(machine);
    });
}
