//! A short walk over the points at which a process may be killed: some steps, drawn from a seed, each in a session of its own.
//! `cargo xtask soak --faults` walks all of them, with random work over a store that fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use rustix::process::Signal;

use crate::machine::{Machine, args, detach, mounting_from_both_stores, until};
use crate::process::Running;
use crate::random::Random;
use crate::tree::{Detail, Tree, copy};

mounting_from_both_stores![
    who_is_killed_at_a_step_has_lost_nothing_that_returned_and_commits_the_same,
];

/// Steps of a commit, and durable steps to each of which a process comes in [`walk`].
const STEPS: [&str; 24] = [
    "Planned",
    "Hashed",
    "Uploaded",
    "Intended",
    "Sent",
    "Published",
    "StagedContent",
    "StagedLink",
    "StagedName",
    "OwnContent",
    "OwnRename",
    "OwnName",
    "OwnDirName",
    "OwnRemove",
    "ClaimName",
    "RegistryLink",
    "RegistryGone",
    "JournalAppend",
    "JournalSync",
    "ScratchWrite",
    "ScratchLength",
    "ScratchSync",
    "ScratchFirst",
    "ScratchNames",
];
/// So many of them are walked by each test.
const WALKED: usize = 4;

/// What a job does: each is one change of what counts. Names that begin so are those of files that are still being written.
const UNFINISHED: &str = "tmp";
const WORK: [fn(&Path) -> io::Result<()>; 17] = [
    |root| fs::create_dir(root.join("out")),
    |root| {
        let mut file = File::create(root.join("tmp1"))?;
        file.write_all(&[7; 300_000])?;
        file.sync_all()
    },
    |root| fs::rename(root.join("tmp1"), root.join("out/frame")),
    |root| set_len(&root.join("out/frame"), 250_000),
    |root| append(&root.join("changed"), b"and more\n"),
    |root| {
        let part = OpenOptions::new().write(true).open(root.join("big"))?;
        part.write_all_at(b"PART", 1_234_567)
    },
    |root| set_len(&root.join("big"), 2_400_000),
    |root| fs::remove_file(root.join("gone")),
    |root| fs::rename(root.join("moved"), root.join("out/moved")),
    |root| fs::set_permissions(root.join("runs"), fs::Permissions::from_mode(0o755)),
    |root| symlink("frame", root.join("out/link")),
    |root| fs::hard_link(root.join("out/frame"), root.join("out/hard")),
    |root| fs::write(root.join("tmp2"), "over"),
    |root| fs::rename(root.join("tmp2"), root.join("overwritten")),
    |root| set_len(&root.join("dir/x"), 0),
    |root| File::open(root.join("changed"))?.sync_all(),
    |root| File::open(root.join("out"))?.sync_all(),
];

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

fn set_len(path: &Path, len: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(len)
}

/// A session of which some process is to halt at a place.
struct Walk<'a> {
    machine: &'a Machine,
    manifest: &'a Path,
    /// `None` once a process was killed there.
    place: Option<String>,
    session: PathBuf,
    mount: PathBuf,
    /// Where the same is done without attachfs.
    plain: PathBuf,
    /// So much of the work has returned.
    done: usize,
}

/// How a process went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Killed,
    On,
}

impl Walk<'_> {
    /// A command whose process halts at the place.
    fn halting(&self, mut command: Command) -> Running {
        if let Some(place) = &self.place {
            command.env("ATTACHFS_HALT_AT", place);
        }
        self.machine.start(command)
    }

    /// Waits until something is so, and kills the process if it halts before.
    fn until(&mut self, what: &str, process: &Running, mut is_so: impl FnMut() -> bool) -> Went {
        let name = self.place.as_deref().unwrap_or_default();
        let said = format!("halted at {}", name.split(':').next().unwrap());
        let is_wanted = self.place.is_some();
        let mut has_halted = false;
        until(what, || {
            let is_so = is_so();
            has_halted = is_wanted && process.so_far().1.contains(&said);
            has_halted || is_so
        });
        if !has_halted {
            return Went::On;
        }
        self.place = None;
        process.signal(Signal::KILL);
        Went::Killed
    }

    /// Runs a command that may be killed where it halts.
    fn run(&mut self, command: Command) -> Went {
        let mut running = self.halting(command);
        let pid = running.pid();
        let went = self.until("a command ends", &running, || {
            crate::process::has_ended(pid)
        });
        assert!(!running.is_running() || went == Went::Killed);
        let said = running.wait();
        if went == Went::On {
            said.with_code(0);
        }
        went
    }

    /// Mounts a new session, or the one that is there, and waits until it can be used.
    fn mount(&mut self) -> Running {
        loop {
            let mut arguments = args![
                "mount",
                "--json",
                "--foreground",
                "--session",
                &self.session
            ]
            .to_vec();
            if !self.session.join("session.json").exists() {
                arguments.extend(args!["--store", self.machine.store(), self.manifest]);
            }
            arguments.push(self.mount.clone().into());
            let mut running = self.halting(self.machine.attachfs(arguments));
            let pid = running.pid();
            let mut is_ready = false;
            let went = self.until("it is mounted", &running, || {
                is_ready = running.so_far().0.ends_with('\n');
                is_ready || crate::process::has_ended(pid)
            });
            if went == Went::On {
                assert!(running.is_running(), "{:?}", running.so_far());
                return running;
            }
            running.wait();
            detach(&self.mount);
        }
    }

    /// Does what is left of the work, in the mount and then in the plain folder.
    fn work(&mut self, mounted: &Running) -> Went {
        let (mount, plain, begun) = (self.mount.clone(), self.plain.clone(), self.done);
        let (went, done) = std::thread::scope(|scope| {
            let working = scope.spawn(move || {
                let mut done = begun;
                for work in &WORK[begun..] {
                    if work(&mount).is_err() {
                        break;
                    }
                    work(&plain).unwrap();
                    done += 1;
                }
                done
            });
            let went = self.until("the work is done", mounted, || working.is_finished());
            (went, working.join().unwrap())
        });
        self.done = done;
        assert!(went == Went::Killed || done == WORK.len(), "{done}");
        went
    }

    /// The mount has what the plain folder has, or that and the work that was under way when the process was killed.
    fn compare(&mut self) {
        let read = |root: &Path| Tree::read(root, Detail::Live).without(UNFINISHED);
        let found = read(&self.mount);
        if found != read(&self.plain)
            && let Some(under_way) = WORK.get(self.done)
        {
            under_way(&self.plain).unwrap();
            self.done += 1;
        }
        found.assert_is(&read(&self.plain));
    }

    /// What was published is what is in the plain folder.
    fn compare_published(&self, number: usize) {
        let status = self.machine.json(args!["status", &self.session]);
        let published = status["committed"].as_array().unwrap();
        let mut arguments = args!["--read-only", self.manifest].to_vec();
        let addresses = published.iter().map(|commit| commit["address"].as_str());
        arguments.extend(addresses.map(|address| address.unwrap().into()));
        let look = self.machine.mount(arguments, format!("look{number}"));
        Tree::read(&look.dir, Detail::Committed)
            .assert_is(&Tree::read(&self.plain, Detail::Committed));
        self.machine.ok(args!["umount", &look.dir]);
    }

    /// From the first mount to the last commit, with the process killed at the place at most once.
    fn live(&mut self) {
        let mounted = self.mount();
        let went = self.live_mounted(&mounted);
        if went == Went::On {
            mounted.wait().with_code(0);
        } else {
            mounted.wait();
            detach(&self.mount);
        }
        let commit = args!["commit", "--accept-open", &self.session];
        if self.place.is_some() {
            self.run(self.machine.attachfs(&commit));
        }
        let mounted = self.mount();
        self.compare();
        while self.done < WORK.len() {
            assert_eq!(self.work(&mounted), Went::On);
        }
        fs::write(self.mount.join("last"), "last").unwrap();
        fs::write(self.plain.join("last"), "last").unwrap();
        self.compare();
        self.machine.ok(args!["umount", &self.mount]);
        mounted.wait();
        self.machine.ok(commit);
    }

    fn live_mounted(&mut self, mounted: &Running) -> Went {
        if self.work(mounted) == Went::Killed {
            return Went::Killed;
        }
        // The process of the mount commits.
        let commit = self
            .machine
            .attachfs(args!["commit", "--wait", "20", &self.mount]);
        let commit = self.machine.start(commit);
        let asking = commit.pid();
        let went = self.until("it is committed", mounted, || {
            crate::process::has_ended(asking)
        });
        let said = commit.wait();
        if went == Went::Killed {
            return went;
        }
        said.with_code(0);
        for root in [&self.mount, &self.plain] {
            fs::write(root.join("tmp3"), "unfinished").unwrap();
        }
        let umount = self.machine.attachfs(args!["umount", &self.mount]);
        let umount = self.machine.start(umount);
        let asking = umount.pid();
        let went = self.until("it is unmounted", mounted, || {
            crate::process::has_ended(asking)
        });
        umount.wait();
        went
    }

    /// Deletes the session.
    fn discard(&mut self) {
        let discard = args!["discard", "--yes", &self.session];
        if self.run(self.machine.attachfs(&discard)) == Went::Killed
            && self.session.join("session.json").exists()
        {
            self.machine.ok(discard);
        }
        assert!(!self.session.join("session.json").exists());
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a test that fails shows what it had printed"
)]
fn who_is_killed_at_a_step_has_lost_nothing_that_returned_and_commits_the_same(machine: &Machine) {
    const SEED: &str = "ATTACHFS_WALK_SEED";
    let seed = std::env::var(SEED).ok().map_or_else(
        || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.unwrap().as_millis() as u64 % 1_000_000
        },
        |seed| seed.parse().unwrap(),
    );
    println!("{SEED}={seed} does the same again");
    machine.file("input/big", vec![b'b'; 2_500_000]);
    for name in ["gone", "moved", "changed", "overwritten", "runs", "dir/x"] {
        machine.file(Path::new("input").join(name), name);
    }
    let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
    let mut random = Random::new(seed);
    let mut steps = STEPS.to_vec();
    for number in 0..WALKED {
        let step = steps.remove(random.below(steps.len() as u64) as usize);
        let is_of_commit = STEPS[..6].contains(&step);
        let is_after = !is_of_commit && random.below(2) == 0;
        let place = match (is_of_commit, is_after) {
            (true, _) => step.to_owned(),
            (false, false) => format!("{step}:1"),
            (false, true) => format!("{step}:1:after"),
        };
        println!("{place}");
        let mut walk = Walk {
            machine,
            manifest: &manifest,
            place: Some(place.clone()),
            session: machine.path(format!("session{number}")),
            mount: machine.dir(format!("mnt{number}")),
            plain: machine.path(format!("plain{number}")),
            done: 0,
        };
        copy(&machine.path("input"), &walk.plain);
        walk.live();
        walk.compare_published(number);
        walk.discard();
        assert_eq!(walk.place, None, "nobody came to {place}");
    }
}
