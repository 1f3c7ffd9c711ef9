//! Random work, the same in a mount and in a plain folder, with kills, unmounts and commits in between: at any time both are the same,
//! and base and diffs make the same again. A seed that once failed stays in the list.

use std::ffi::OsString;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores};
use crate::process::kill_and_wait;
use crate::tree::{Detail, Tree, copy};

mounting_from_both_stores![random_work_with_kills_and_commits_is_what_it_is_in_a_plain_folder,];

/// SplitMix64, by Sebastiano Vigna: a small generator, good enough to choose what to do.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of few paths, so that they meet each other.
    fn path(&mut self) -> PathBuf {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let depth = 1 + self.below(3);
        (0..depth).map(|_| NAMES[self.below(6) as usize]).collect()
    }

    fn len(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(10),
            1 => self.below(5000),
            2 => self.below(200_000),
            _ => 1_048_576 - 5 + self.below(10),
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
enum Work {
    Write {
        at: PathBuf,
        offset: u64,
        len: u64,
        fill: u8,
    },
    Append {
        at: PathBuf,
        len: u64,
        fill: u8,
    },
    Replace {
        at: PathBuf,
        len: u64,
        fill: u8,
    },
    Truncate {
        at: PathBuf,
        len: u64,
    },
    MakeDir(PathBuf),
    Remove(PathBuf),
    RemoveDir(PathBuf),
    RemoveAll(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Symlink {
        at: PathBuf,
    },
    Mode {
        at: PathBuf,
        mode: u32,
    },
    Time {
        at: PathBuf,
        seconds: u64,
    },
}

impl Work {
    fn random(random: &mut Random) -> Self {
        let at = random.path();
        let fill = random.next() as u8;
        match random.below(20) {
            0..=3 => Self::Write {
                at,
                offset: random.len(),
                len: random.len(),
                fill,
            },
            4 => Self::Append {
                at,
                len: random.len(),
                fill,
            },
            5..=6 => Self::Replace {
                at,
                len: random.len(),
                fill,
            },
            7..=8 => Self::Truncate {
                at,
                len: random.len(),
            },
            9..=10 => Self::MakeDir(at),
            11 => Self::Remove(at),
            12 => Self::RemoveDir(at),
            13 if random.below(4) == 0 => Self::RemoveAll(at),
            13..=15 => Self::Rename {
                from: random.path(),
                to: at,
            },
            16 => Self::Link {
                from: random.path(),
                to: at,
            },
            17 => Self::Symlink { at },
            18 => Self::Mode {
                at,
                mode: if random.below(2) == 0 { 0o755 } else { 0o644 },
            },
            _ => Self::Time {
                at,
                seconds: 1_000_000 + random.below(1_000_000),
            },
        }
    }

    /// Does it; what comes of it must be the same everywhere.
    fn done_in(&self, root: &Path) -> Result<(), Option<i32>> {
        self.attempt(root).map_err(|error| error.raw_os_error())
    }

    fn attempt(&self, root: &Path) -> io::Result<()> {
        let bytes = |len: u64, fill: u8| vec![fill; len as usize];
        match self {
            Self::Write {
                at,
                offset,
                len,
                fill,
            } => {
                let file = OpenOptions::new().write(true).open(root.join(at))?;
                file.write_all_at(&bytes(*len, *fill), *offset)
            }
            Self::Append { at, len, fill } => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(root.join(at));
                io::Write::write_all(&mut file?, &bytes(*len, *fill))
            }
            Self::Replace { at, len, fill } => fs::write(root.join(at), bytes(*len, *fill)),
            Self::Truncate { at, len } => OpenOptions::new()
                .write(true)
                .open(root.join(at))?
                .set_len(*len),
            Self::MakeDir(at) => fs::create_dir(root.join(at)),
            Self::Remove(at) => fs::remove_file(root.join(at)),
            Self::RemoveDir(at) => fs::remove_dir(root.join(at)),
            Self::RemoveAll(at) => fs::remove_dir_all(root.join(at)),
            Self::Rename { from, to } => fs::rename(root.join(from), root.join(to)),
            Self::Link { from, to } => {
                // A link to a link would differ in what it leads to from its other place.
                if root.join(from).is_symlink() {
                    return Ok(());
                }
                fs::hard_link(root.join(from), root.join(to))
            }
            Self::Symlink { at } => symlink("target", root.join(at)),
            Self::Mode { at, mode } => {
                if !root.join(at).is_file() {
                    return Ok(());
                }
                fs::set_permissions(root.join(at), fs::Permissions::from_mode(*mode))
            }
            Self::Time { at, seconds } => {
                if !root.join(at).is_file() {
                    return Ok(());
                }
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
                File::open(root.join(at))?.set_times(FileTimes::new().set_modified(time))
            }
        }
    }
}

fn fill(machine: &Machine, input: &Path, random: &mut Random) {
    for _ in 0..40 {
        let path = input.join(random.path());
        let parent = path.parent().unwrap();
        if fs::create_dir_all(parent).is_ok() && !path.exists() {
            machine.file(path, vec![random.next() as u8; random.len() as usize * 2]);
        }
    }
}

fn random_work_with_kills_and_commits_is_what_it_is_in_a_plain_folder(machine: &Machine) {
    let seeds = match std::env::var("ATTACHFS_SUITE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2],
    };
    for seed in seeds {
        work(machine, seed);
    }
}

#[expect(
    clippy::print_stdout,
    reason = "says where it was, if it fails where the seed is not known"
)]
fn work(machine: &Machine, seed: u64) {
    let mut random = Random(seed);
    let here = PathBuf::from(format!("seed-{seed}"));
    let at = |name: &str| here.join(name);
    let input = machine.dir(at("input"));
    fill(machine, &input, &mut random);
    let manifest = machine.snapshot(&input, at("base.manifest"));
    let plain = machine.path(at("plain"));
    copy(&input, &plain);
    let mut layers: Vec<OsString> = vec!["--read-only".into(), manifest.clone().into()];
    let mut mount = machine.mount(args![&manifest], at("mnt"));
    for round in 0..8 {
        for step in 0..40 {
            let work = Work::random(&mut random);
            let expected = work.done_in(&plain);
            let found = work.done_in(&mount.dir);
            assert_eq!(
                found, expected,
                "seed {seed}, round {round}, step {step}: {work:?}"
            );
        }
        println!("seed {seed}, round {round}");
        let same = || {
            Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));
        };
        // Half of the time the kernel is not asked before, so that what it remembers cannot help.
        if random.below(2) == 0 {
            same();
        }
        let commit = |machine: &Machine, mount: &Mount, layers: &mut Vec<OsString>| {
            layers.extend(new_manifest(machine, mount));
        };
        match random.below(5) {
            0 => same(),
            1 => commit(machine, &mount, &mut layers),
            then => {
                if then == 2 {
                    let unmounted = machine.json(args!["umount", &mount.dir]);
                    assert_eq!(unmounted["kept"], true);
                } else {
                    kill_and_wait(mount.pid);
                }
                if then == 3 {
                    commit(machine, &mount, &mut layers);
                }
                mount = machine.resume(&mount.session_dir, &mount.dir);
                Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));
            }
        }
    }
    layers.extend(new_manifest(machine, &mount));
    machine
        .ok(args!["commit", &mount.session])
        .printing("nothing changed");
    let all = machine.mount(&layers, at("all"));
    Tree::read(&all.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
}

/// Commits; the address of the manifest, unless nothing changed and it is that of the commit before.
fn new_manifest(machine: &Machine, mount: &Mount) -> Option<OsString> {
    let commit = machine.json(args!["commit", "--accept-open", &mount.session]);
    let is_new = commit["unchanged"] == false;
    let address = commit["manifest"]["address"].as_str();
    address.filter(|_| is_new).map(Into::into)
}
