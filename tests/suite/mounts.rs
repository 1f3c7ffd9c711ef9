//! What a mount is found by and how it ends: what is in it tells nothing of it, its process may be [stopped], its path may change, others
//! may have a copy of it; and what whoever starts it, or `run`, leaves behind.

mod stopped;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, Mount, args, skipped, until};
use crate::process::{Running, Said, has_ended, kill, said};

/// A small folder's manifest.
fn base(machine: &Machine) -> PathBuf {
    machine.file("input/a", "a of the input\n");
    machine.file("input/dir/x", "x of the input\n");
    machine.snapshot(&machine.path("input"), "base.manifest")
}

const NOTHING: [PathBuf; 0] = [];

#[test]
fn a_session_description_in_the_input_says_nothing_of_the_mount() {
    Machine::mounting_from_directory(|machine| {
        let other = machine.mount(args![base(machine)], "other");
        fs::write(other.dir.join("of-other"), "").unwrap();
        let crafted = fs::read(other.session_dir.join("session.json")).unwrap();
        for (number, description) in [&b"{\"scene\":1}"[..], &crafted].into_iter().enumerate() {
            let input = format!("input{number}");
            machine.file(format!("{input}/session.json"), description);
            machine.file(format!("{input}/dir/session.json"), description);
            let manifest = machine.snapshot(&machine.path(&input), format!("{number}.manifest"));
            let mount = machine.mount(args![&manifest], format!("mnt{number}"));
            fs::write(mount.dir.join("new"), "new").unwrap();
            let inside = mount.dir.join("dir");
            for name in [&mount.dir, &inside] {
                let status = machine.json(args!["status", name]);
                assert_eq!(status["session"], *mount.session, "{}", name.display());
            }
            let mut here = machine.attachfs(args!["status", "--json", "."]);
            let status = said(here.current_dir(&inside)).with_code(0).json();
            assert_eq!(status["session"], *mount.session);
            let committed = machine.json(args!["commit", &mount.dir]);
            assert_eq!(committed["session"], *mount.session);
            let mut again = machine.attachfs(args!["mount", "--session", &mount.dir]);
            again.arg(machine.dir("again"));
            said(&mut again)
                .with_code(2)
                .saying("a session cannot be there");
            machine.ok(args!["umount", &mount.dir]);
        }
        assert_eq!(machine.json(args!["status", &other.session])["commits"], 0);
        machine.ok(args!["umount", &other.dir]);
    });
}

#[test]
fn a_mount_of_a_session_that_is_not_known_is_named() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let hidden = machine.path("hidden");
        fs::rename(&mount.session_dir, &hidden).unwrap();
        let unknown = machine.says(args!["status", &mount.dir]).with_code(10);
        unknown
            .saying(&mount.session)
            .saying("is not among the sessions");
        fs::rename(&hidden, &mount.session_dir).unwrap();
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn a_mount_whose_parent_was_renamed_is_taken_away_where_it_is() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        for number in 0..4 {
            let mount = machine.mount(args![&manifest], format!("parent{number}/mnt"));
            let parent = machine.path(format!("other{number}"));
            fs::rename(mount.dir.parent().unwrap(), &parent).unwrap();
            let now = parent.join("mnt");
            let status = machine.json(args!["status", &now]);
            assert_eq!(status["mount_point"], now.to_str().unwrap());
            match number {
                0 => {
                    let unmounted = machine.ok(args!["umount", &now]);
                    unmounted.printing(now.to_str().unwrap());
                }
                1 => drop(machine.ok(args!["umount", "--force", &now])),
                2 => drop(machine.ok(args!["umount", &mount.session])),
                _ => kill(mount.pid, Signal::TERM),
            }
            until("the process ends", || has_ended(mount.pid));
            assert_eq!(machine.mounts(), NOTHING, "{number}");
            assert_eq!(fs::read_dir(&now).unwrap().count(), 0);
        }
    });
}

/// Leaves no copy but that of one mount: the others are mounts of other tests.
const KEEP_ONE: &str = "table=$(cat /proc/self/mountinfo)
    echo \"$table\" | while read -r _ _ _ _ at rest; do
        case \"$rest\" in *' - fuse.attachfs '*) test \"$at\" = \"$KEEP\" || umount -l \"$at\";; esac
    done
    ";

/// A shell in a mount namespace of its own, which has a copy of this mount.
fn in_a_namespace(machine: &Machine, mount: &Mount, script: &str) -> Option<Running> {
    let works = Command::new("unshare").args(["-m", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        skipped("no mount namespace can be made here");
        return None;
    }
    let mut shell = machine.command("unshare");
    shell
        .args(["-m", "sh", "-c"])
        .arg(format!("{KEEP_ONE}{script}"));
    shell.env("KEEP", &mount.dir);
    let mut shell = machine.start(shell);
    shell.wait_for_output("here");
    Some(shell)
}

#[test]
fn a_mount_that_another_namespace_has_too_is_unmounted_and_that_is_said() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let Some(other) = in_a_namespace(machine, &mount, "echo here; exec sleep 1000") else {
            return;
        };
        let unmounted = machine.ok(args!["umount", &mount.dir]);
        let named = format!("in the mount namespace of process {}", other.pid());
        unmounted.printing(&named);
        assert_eq!(machine.mounts(), NOTHING);
        assert_eq!(machine.sessions(), NOTHING);
        other.signal(Signal::KILL);
        other.wait();
    });
}

#[test]
fn what_another_namespace_has_open_is_not_cut_off_unless_it_is_forced() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let script = format!(
            "exec 3> {0}/new; echo new >&3; cd /; echo here; exec sleep 1000",
            mount.dir.display()
        );
        let Some(other) = in_a_namespace(machine, &mount, &script) else {
            return;
        };
        let busy = machine.says(args!["umount", &mount.dir]).with_code(14);
        let named = format!("in the mount namespace of process {}", other.pid());
        busy.saying("was unmounted, but").saying(&named);
        let status = machine.json(args!["status", &mount.session]);
        assert_eq!(status["open"], serde_json::json!(["new"]));
        let forced = machine.json(args!["umount", "--force", &mount.session]);
        assert!(forced["held"][0].as_str().unwrap().contains(&named));
        until("the process ends", || has_ended(mount.pid));
        let diff = machine.ok(args!["diff", &mount.session]);
        diff.printing("1 path open for writing: new");
        other.signal(Signal::KILL);
        other.wait();
    });
}

#[test]
fn a_bind_mount_of_a_mount_is_in_its_way_and_goes_with_it_if_that_is_forced() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can bind");
        return;
    }
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let bound = machine.dir("bound");
        rustix::mount::mount_bind(&mount.dir, &bound).unwrap();
        let busy = machine.says(args!["umount", &mount.dir]).with_code(14);
        busy.saying(bound.to_str().unwrap());
        assert!(mount.dir.join("a").exists());
        machine.ok(args!["umount", "--force", &bound]);
        assert_eq!(machine.mounts(), NOTHING);
        until("the process ends", || has_ended(mount.pid));
    });
}

#[test]
fn a_dead_mount_in_the_way_is_named_with_how_to_remove_it() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        mount.kill_when_all_is_closed(machine);
        let store = machine.store();
        let other = args!["mount", "--store", store, &manifest, &mount.dir];
        let refused = machine.says(&other).with_code(10);
        refused.saying(&format!("`attachfs umount {}`", mount.session));
        assert_eq!(machine.mounts(), std::slice::from_ref(&mount.dir));
        machine.ok(args!["umount", &mount.dir]).printing("detached");
        let other =
            Mount::of(&machine.says(args!["--json"].into_iter().chain(other).collect::<Vec<_>>()));
        machine.ok(args!["umount", &other.dir]);
        machine.ok(args!["diff", &mount.session]).printing("+ new");
    });
}

#[test]
fn a_closed_terminal_unmounts_in_order() {
    Machine::mounting_from_directory(|machine| {
        let mut mount = machine.start(machine.mounting(args!["-f", base(machine)], "mnt"));
        mount.wait_for_output("\n");
        fs::write(machine.path("mnt/new"), "new").unwrap();
        mount.signal(Signal::HUP);
        mount.wait().with_code(0);
        assert_eq!(machine.mounts(), NOTHING);
        assert_eq!(machine.sessions().len(), 1);
    });
}

/// An end of a pipe to write to, if a process has the other end open. As long as it is held, that
/// process waits for more.
fn writer(pipe: &Path) -> Option<OwnedFd> {
    rustix::fs::open(pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).ok()
}

#[test]
fn a_mount_whose_starter_goes_before_it_is_ready_never_appears() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let pipe = machine.path("pipe.manifest");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            let starter = machine.start(machine.mounting(args![&pipe], "mnt"));
            let mut held = None;
            until("the manifest is read", || {
                held = writer(&pipe);
                held.is_some()
            });
            starter.signal(signal);
            let ended = starter.wait();
            if signal != Signal::KILL {
                assert_eq!(ended.code, 15, "{ended:?}");
                assert!(writer(&pipe).is_none(), "{signal:?}: it is still there");
            }
            until("nobody reads the manifest any more", || {
                writer(&pipe).is_none()
            });
            drop(held);
            assert_eq!(machine.mounts(), NOTHING);
            assert_eq!(machine.sessions(), NOTHING);
        }
    });
}

#[test]
fn names_after_two_dashes_are_mounted_in_the_background() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args!["--", &manifest], "mnt");
        assert_eq!(machine.mounts(), [machine.path("mnt")]);
        machine.ok(args!["umount", &mount.dir]);
    });
}

/// The background process as it is started by `mount`, and the other end of its standard output.
fn background(machine: &Machine, mut mount: Command) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    mount
        .arg("--daemon")
        .stdout(Stdio::from(OwnedFd::from(theirs)));
    let log = File::create(machine.path("background.err")).unwrap();
    (mount.stderr(log).spawn().unwrap(), ours)
}

#[test]
fn a_mount_that_nobody_has_heard_of_is_undone() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let (mut child, socket) = background(machine, machine.mounting(args![&manifest], "mnt"));
        let mut line = String::new();
        BufReader::new(&socket).read_line(&mut line).unwrap();
        assert!(line.contains("mount_point"), "{line}");
        assert_eq!(machine.mounts(), [machine.path("mnt")]);
        drop(socket);
        assert!(!child.wait().unwrap().success());
        assert_eq!(machine.mounts(), NOTHING);
        assert_eq!(machine.sessions(), NOTHING);
        // A session that was taken up is kept.
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.dir]);
        let resume = args!["mount", "--session", &mount.session_dir, &mount.dir];
        let (mut child, socket) = background(machine, machine.attachfs(resume));
        BufReader::new(&socket).read_line(&mut line).unwrap();
        drop(socket);
        child.wait().unwrap();
        assert_eq!(machine.mounts(), NOTHING);
        machine.ok(args!["diff", &mount.session]).printing("+ new");
    });
}

#[test]
fn a_log_that_cannot_be_written_leaves_nothing_behind() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let log = machine.path("no/such/log");
        let failed = said(&mut machine.mounting(args!["--log", &log, &manifest], "mnt"));
        failed.with_code(1).saying("cannot open the log");
        assert_eq!(machine.mounts(), NOTHING);
        assert_eq!(machine.sessions(), NOTHING);
    });
}

/// Runs a script in the folder of the manifest.
fn run(machine: &Machine, script: &str) -> Said {
    machine.file("input/a", "a of the input\n");
    let mut run = machine.attachfs(args!["run", "--store", machine.store(), "--input"]);
    run.arg(machine.path("input"));
    said(run.args(["--", "sh", "-c", script]))
}

/// What a script leaves behind, which does not hold this test's pipes.
const LEFT: &str = "sleep 1000 > /dev/null 2>&1 < /dev/null &";

#[test]
fn a_run_commits_although_its_command_left_something_running() {
    Machine::mounting_from_directory(|machine| {
        let ran = run(machine, &format!("echo x > f; {LEFT} exit 0")).with_code(0);
        ran.saying("sleep (process").saying("1 added");
        assert_eq!(machine.sessions(), NOTHING);
        assert_eq!(machine.mounts(), NOTHING);
        run(machine, &format!("{LEFT} exit 3")).with_code(3);
        assert_eq!(machine.sessions(), NOTHING);
    });
}

#[test]
fn a_run_leaves_out_what_is_still_being_written_and_says_so() {
    Machine::mounting_from_directory(|machine| {
        let script = format!("echo x > f; exec 5> half; echo y >&5; {LEFT} exit 0");
        let ran = run(machine, &script).with_code(125);
        ran.saying("1 added").saying("open for writing: half");
        let [session] = &machine.sessions()[..] else {
            panic!("the session is kept");
        };
        let diff = machine.ok(args!["diff", session]);
        let diff = diff.printing("1 path open for writing: half");
        assert!(!diff.out.contains("+ f"), "{diff:?}");
    });
}

#[test]
fn a_run_that_is_told_to_stop_exits_as_its_command_does() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.file("input/a", "").parent().unwrap().to_owned();
        for (script, code) in [("trap 'exit 7' TERM;", 7), ("", 128 + 15)] {
            let script = format!("{script} {LEFT} echo here; wait");
            let store = machine.store();
            let run = args![
                "run", "--store", store, "--input", &input, "--", "sh", "-c", script
            ];
            let mut run = machine.start(machine.attachfs(run));
            run.wait_for_output("here");
            run.signal(Signal::TERM);
            run.wait().with_code(code);
            assert_eq!(machine.mounts(), NOTHING);
        }
    });
}

#[test]
fn a_run_tells_a_command_that_is_not_there_from_one_that_cannot_be_run() {
    Machine::mounting_from_directory(|machine| {
        let input = machine.file("input/a", "").parent().unwrap().to_owned();
        for (command, code) in [("./missing", 127), ("no-such-program", 127), ("./a", 126)] {
            let store = machine.store();
            let ran = machine.says(args![
                "run", "--store", store, "--input", &input, "--", command
            ]);
            ran.with_code(code).saying(command);
        }
        assert_eq!(machine.sessions(), NOTHING);
    });
}

#[test]
fn a_mount_does_not_keep_what_its_starter_had_open() {
    if Command::new("flock").arg("-V").output().is_err() {
        skipped("there is no flock");
        return;
    }
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mounting(args![&manifest], "mnt");
        let mut locked = machine.command("flock");
        locked.arg(machine.path("lk")).arg(mount.get_program());
        let mount = Mount::of(&said(locked.args(mount.get_args())).with_code(0));
        let mut free = machine.command("flock");
        said(free.arg("-n").arg(machine.path("lk")).arg("true")).with_code(0);
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn a_mount_is_not_bound_by_the_limits_and_the_umask_of_its_starter() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mounting(args![&manifest], "mnt");
        let mut limited = machine.command("sh");
        limited.args(["-c", "ulimit -S -f 8; umask 0; exec \"$@\"", "sh"]);
        let mount = {
            limited.arg(mount.get_program()).args(mount.get_args());
            Mount::of(&said(&mut limited).with_code(0))
        };
        let mut large = File::create(mount.dir.join("large")).unwrap();
        large.write_all(&vec![1; 1 << 20]).unwrap();
        drop(large);
        let status = fs::read_to_string(format!("/proc/{}/status", mount.pid)).unwrap();
        assert!(status.contains("Umask:\t0077"), "{status}");
        assert_eq!(
            fs::read_link(format!("/proc/{}/cwd", mount.pid)).unwrap(),
            Path::new("/")
        );
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn a_mount_point_that_is_not_utf_8_works_like_any_other() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let at = machine.path(OsStr::from_bytes(b"m\xff"));
        let bytes = at.as_os_str().as_bytes().iter();
        let hex = bytes.fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let is_at = |value: &Value| assert_eq!(value["mount_point"]["hex"], hex, "{value}");
        let mounted = said(&mut machine.mounting(args![&manifest], &at))
            .with_code(0)
            .json();
        is_at(&mounted);
        assert_eq!(machine.mounts(), std::slice::from_ref(&at));
        fs::write(at.join("new"), "new").unwrap();
        is_at(&machine.json(args!["status", &at]));
        machine.ok(args!["status", &at]);
        is_at(&machine.json(args!["list"])[0]);
        machine.ok(args!["list"]);
        machine.ok(args!["commit", &at]);
        machine.ok(args!["umount", &at]);
        assert_eq!(machine.mounts(), NOTHING);
        // The session, taken up there again.
        let session = mounted["session_dir"].as_str().unwrap();
        assert!(!Path::new(session).exists());
        is_at(&machine.json(args!["list", "--ended"])[0]);
        machine.ok(args!["list", "--ended"]);
    });
}

#[test]
fn a_mount_that_cannot_be_told_of_is_not_made() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        for more in [args![].to_vec(), args!["--foreground"].to_vec()] {
            let mut mount = machine.mounting([&more[..], &args![&manifest]].concat(), "mnt");
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut child = mount.stdout(full).stderr(Stdio::null()).spawn().unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1), "{more:?}");
            assert_eq!(machine.mounts(), NOTHING, "{more:?}");
            assert_eq!(machine.sessions(), NOTHING, "{more:?}");
        }
    });
}

#[test]
fn a_run_outlives_what_a_terminal_sends_to_quit() {
    Machine::mounting_from_directory(|machine| {
        let said = run(machine, "kill -QUIT $PPID; echo x > new");
        said.with_code(0).saying("1 added");
        assert_eq!(machine.mounts(), NOTHING);
    });
}
