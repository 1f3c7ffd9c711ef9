//! Random operations, a power loss at any durable step or between, and what a recovery finds.

mod compacting;
mod disk;
mod salvaging;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use attachfs_durable::steps::{Recorder, When};
use attachfs_tree::{Ino, Kind};
use parking_lot::Mutex;
use proptest::prelude::*;

use self::disk::{Chance, Disk, Image};
use super::world::{Given, Kernel, READ_WRITE, World, bytes, tempdir};
use crate::Allocation;

const FILES: [&str; 6] = ["a", "b", "c", "e", "n/a", "n/b"];
/// How many possible disks are tried for each moment.
const DISKS: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// A new file, written in two pieces.
    Create(&'static str, usize),
    /// A file that is there is emptied and written again.
    Rewrite(&'static str, usize),
    Overwrite(&'static str, u64, usize),
    Punch(&'static str, u64, usize),
    Truncate(&'static str, u64),
    Rename(&'static str, &'static str),
    Exchange(&'static str, &'static str),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    Fsync(&'static str),
    Fsyncdir,
    Reap,
    Compact,
}

fn any_op() -> impl Strategy<Value = Op> {
    let file = || prop::sample::select(FILES.to_vec());
    let len = || 1..90_usize;
    let offset = || prop_oneof![0..100_u64, 980..1020_u64];
    prop_oneof![
        6 => (file(), len()).prop_map(|(at, len)| Op::Create(at, len)),
        2 => (file(), len()).prop_map(|(at, len)| Op::Rewrite(at, len)),
        4 => (file(), offset(), len()).prop_map(|(at, offset, len)| Op::Overwrite(at, offset, len)),
        2 => (file(), offset(), len()).prop_map(|(at, offset, len)| Op::Punch(at, offset, len)),
        2 => (file(), offset()).prop_map(|(at, len)| Op::Truncate(at, len)),
        5 => (file(), file()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (file(), file()).prop_map(|(one, other)| Op::Exchange(one, other)),
        1 => (file(), file()).prop_map(|(from, to)| Op::Link(from, to)),
        2 => file().prop_map(Op::Unlink),
        4 => file().prop_map(Op::Fsync),
        1 => Just(Op::Fsyncdir),
        2 => Just(Op::Reap),
        1 => Just(Op::Compact),
    ]
}

/// Bytes that no other operation writes, and no zeros.
fn text(number: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| 1 + ((number * 37 + at * 11) % 255) as u8;
    (0..len).map(byte).collect()
}

impl Op {
    /// Runs the operation, whether it succeeds or not.
    fn run(&self, kernel: &Kernel, number: usize) {
        let write = |handle, offset, data: &[u8]| {
            kernel.write(handle, offset, data).unwrap();
        };
        match *self {
            Self::Create(at, len) => {
                if let Ok(handle) = kernel.create(at) {
                    let text = text(number, len);
                    let (one, two) = text.split_at(len / 2);
                    write(handle, 0, one);
                    write(handle, one.len() as u64, two);
                    kernel.close(handle);
                }
            }
            Self::Rewrite(at, len) => {
                if let Ok(handle) = kernel.open(at, READ_WRITE, true) {
                    write(handle, 0, &text(number, len));
                    kernel.close(handle);
                }
            }
            Self::Overwrite(at, offset, len) => {
                if let Ok(handle) = kernel.open(at, READ_WRITE, false) {
                    write(handle, offset, &text(number, len));
                    kernel.close(handle);
                }
            }
            Self::Punch(at, offset, len) => {
                if let Ok(handle) = kernel.open(at, READ_WRITE, false) {
                    let range = offset..offset + len as u64;
                    kernel
                        .vfs
                        .allocate(handle, Allocation::Hole, range)
                        .unwrap();
                    kernel.close(handle);
                }
            }
            Self::Truncate(at, len) => drop(kernel.truncate(at, len)),
            Self::Rename(from, to) => drop(kernel.rename(from, to)),
            Self::Exchange(one, other) => drop(kernel.exchange(one, other)),
            Self::Link(from, to) => drop(kernel.link(from, to)),
            Self::Unlink(at) => drop(kernel.unlink(at)),
            Self::Fsync(at) => {
                if let Ok(handle) = kernel.open(at, READ_WRITE, false) {
                    kernel.vfs.fsync(handle, number.is_multiple_of(2)).unwrap();
                    kernel.close(handle);
                }
            }
            Self::Fsyncdir => kernel.vfs.fsyncdir().unwrap(),
            Self::Reap => {
                let overlay = kernel.vfs.overlay.as_ref().unwrap();
                overlay.reaper.reap_now();
            }
            Self::Compact => {
                let overlay = kernel.vfs.overlay.as_ref().unwrap();
                overlay.disk.compact().unwrap();
            }
        }
    }

    /// The path whose bytes and name the operation makes durable.
    fn promises(&self) -> Option<&'static str> {
        match self {
            Self::Fsync(at) => Some(at),
            _ => None,
        }
    }

    /// Whether what was at a path is there, or what is there now, and nothing between, once it was done.
    fn replaces(&self, at: &str) -> bool {
        match self {
            Self::Rename(_, to) => *to == at,
            Self::Exchange(one, other) => *one == at || *other == at,
            _ => false,
        }
    }
}

/// The files of a mount by path, with their bytes.
type State = BTreeMap<String, (Ino, Vec<u8>)>;

fn state(kernel: &Kernel) -> State {
    let mut state = State::new();
    for at in FILES {
        if let Ok(attr) = kernel.stat(at)
            && attr.kind == Kind::File
        {
            state.insert(at.to_owned(), (attr.ino, kernel.cat(at)));
        }
    }
    state
}

/// Whether a file that a path led to in one of these states was written to meanwhile, under whichever name.
fn writes_to_files_at(at: &str, states: &[State]) -> bool {
    let mut led_to = states.iter().filter_map(|state| Some(state.get(at)?.0));
    led_to.any(|file| {
        let all = states.iter().flat_map(BTreeMap::values);
        let mut contents = all.filter(|(ino, _)| *ino == file).map(|(_, bytes)| bytes);
        let first = contents.next();
        contents.any(|bytes| Some(bytes) != first)
    })
}

/// A session in use, whose disk is watched.
struct Watched {
    disk: Disk,
    chance: Chance,
    /// The number of the running operation.
    number: usize,
    images: Vec<(usize, Image)>,
}

/// The history: the state before the first operation and after each, and the recorded moments with the operation
/// that ran.
struct Past {
    ops: Vec<Op>,
    states: Vec<State>,
    images: Vec<(usize, Image)>,
}

fn live(world: &World, root: &Path, ops: &[Op], seed: u64) -> Past {
    let kernel = world.create(root);
    kernel.mkdir("n").unwrap();
    kernel.vfs.fsyncdir().unwrap();
    let watched = Arc::new(Mutex::new(Watched {
        disk: Disk::new(root),
        chance: Chance(seed),
        number: 0,
        images: Vec::new(),
    }));
    let steps = Recorder::on(root);
    let hears = watched.clone();
    steps.watch(move |when, taken| {
        let mut watched = hears.lock();
        watched.disk.step(when, taken);
        if when == When::Before && watched.chance.one_in(12) {
            let image = watched.disk.image();
            let number = watched.number;
            watched.images.push((number, image));
        }
    });
    let mut states = vec![state(&kernel)];
    for (number, op) in ops.iter().enumerate() {
        watched.lock().number = number;
        op.run(&kernel, number);
        states.push(state(&kernel));
    }
    drop(steps);
    let mut watched = watched.lock();
    let last = watched.disk.image();
    watched.images.push((ops.len(), last));
    Past {
        ops: ops.to_vec(),
        states,
        images: std::mem::take(&mut watched.images),
    }
}

impl Past {
    /// All contents that a path had up to an operation: of each file that it ever led to, under any name.
    fn versions(&self, at: &str, under_way: usize) -> Vec<&[u8]> {
        let states = &self.states[..=(under_way + 1).min(self.ops.len())];
        let led_to = states.iter().filter_map(|state| Some(state.get(at)?.0));
        let led_to: BTreeSet<Ino> = led_to.collect();
        let files = states.iter().flat_map(BTreeMap::values);
        files
            .filter(|(ino, _)| led_to.contains(ino))
            .map(|(_, bytes)| bytes.as_slice())
            .collect()
    }

    /// Checks the recovered state against the promises and against everything that ever was.
    fn check(&self, under_way: usize, found: &State, has_unsynced_records: bool) {
        for (at, (_, bytes)) in found {
            let versions = self.versions(at, under_way);
            assert!(!versions.is_empty(), "{at} never was");
            for (offset, byte) in bytes.iter().enumerate() {
                let was = versions.iter().any(|was| was.get(offset) == Some(byte));
                assert!(was || *byte == 0, "byte {offset} of {at} never was: {byte}");
            }
        }
        for at in FILES {
            let promised = (0..under_way).rev().find(|&number| {
                let there = self.states[number + 1].contains_key(at);
                there && self.ops[number].promises() == Some(at)
            });
            let Some(promised) = promised else {
                continue;
            };
            let since = &self.states[promised + 1..=(under_way + 1).min(self.ops.len())];
            let before = since[0].get(at);
            let changed = since
                .windows(2)
                .enumerate()
                .filter(|(_, states)| states[0].get(at) != states[1].get(at));
            let changes: Vec<&Op> = changed
                .map(|(number, _)| &self.ops[promised + 1 + number])
                .collect();
            let now = found.get(at).map(|(_, bytes)| bytes);
            if changes.is_empty() {
                let before = before.map(|(_, bytes)| bytes);
                assert_eq!(now, before, "{at} was synced by operation {promised}");
            } else if changes.iter().all(|op| op.replaces(at))
                && !has_unsynced_records
                && !writes_to_files_at(at, since)
            {
                let is_one = since
                    .iter()
                    .any(|state| state.get(at).map(|(_, bytes)| bytes) == now);
                assert!(
                    is_one,
                    "{at} is neither what it was nor what replaced it: {now:?}"
                );
            }
        }
    }
}

fn base() -> World {
    World::new(&[
        ("a", Given::File(bytes(1100))),
        ("b", Given::File(bytes(20))),
    ])
}

/// Runs the operations, loses power at each of the moments, and recovers.
fn crash(ops: &[Op], seed: u64) {
    let (world, dir) = (base(), tempdir());
    let past = live(&world, dir.path(), ops, seed);
    let mut chance = Chance(!seed);
    for (under_way, image) in &past.images {
        for _ in 0..DISKS {
            let lost = image.lose_power(dir.path(), &mut chance);
            let recovered = world.recover(lost.dir.path());
            let recovered = recovered.unwrap_or_else(|error| {
                panic!(
                    "during operation {under_way}: {error}: {:?}",
                    std::error::Error::source(&error)
                )
            });
            past.check(*under_way, &state(&recovered), lost.has_unsynced_records);
        }
    }
}

/// The number of cases in a test run; a soak sets it by the environment.
fn cases() -> ProptestConfig {
    let config = ProptestConfig {
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig {
            cases: 40,
            ..config
        },
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn synced_data_survives_a_power_loss_at_any_step(
        ops in prop::collection::vec(any_op(), 1..25),
        seed in any::<u64>(),
    ) {
        crash(&ops, seed);
    }
}
