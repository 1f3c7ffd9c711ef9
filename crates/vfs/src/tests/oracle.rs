//! Random operations here and on a local disk must give the same, even if the process dies in
//! between.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use attachfs_tree::Special;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, RenameFlags, mknodat, renameat_with};

use super::world::{Given, Kernel, READ_WRITE, Shown, World, bytes, copy_dir, tempdir};
use crate::{Allocation, FsErrorKind, HandleId, SetAttr};

const FILES: [&str; 10] = [
    "a",
    "b",
    "d",
    "e",
    "d/a",
    "d/b",
    "d/e",
    "d/e/a",
    "e/a",
    "missing/x",
];
const LINKS: [&str; 3] = ["l", "d/l", "e/l"];
const SPECIAL: [&str; 3] = ["s", "d/s", "e/s"];
const SLOTS: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    Create(usize, &'static str),
    Open(usize, &'static str, bool),
    Write(usize, u64, usize, u8),
    Cut(usize, u64),
    Allocate(usize, Allocation, u64, u64),
    Read(usize, u64, u32),
    Close(usize),
    Truncate(&'static str, u64),
    Chmod(&'static str, u32),
    Mkdir(&'static str),
    Rmdir(&'static str),
    Unlink(&'static str),
    Rename(&'static str, &'static str),
    Exchange(&'static str, &'static str),
    Link(&'static str, &'static str),
    Symlink(&'static str),
    Special(&'static str, Special),
    /// The process is killed and its session taken over.
    Kill,
    /// The journal is compacted.
    Compact,
}

fn allocation() -> impl Strategy<Value = Allocation> {
    prop::sample::select(vec![
        Allocation::Room { keeps_len: false },
        Allocation::Room { keeps_len: true },
        Allocation::Hole,
        Allocation::Hole,
        Allocation::Zeros { keeps_len: false },
        Allocation::Zeros { keeps_len: true },
    ])
}

fn any_op() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    let file = || prop::sample::select(FILES.to_vec());
    let link = || prop::sample::select(LINKS.to_vec());
    // Names of their own: to open a FIFO would wait for somebody at its other end.
    let special = || prop::sample::select(SPECIAL.to_vec());
    let either = || prop_oneof![5 => file(), 1 => link(), 1 => special()];
    // Around the ends of the base files and of their chunks.
    let offset = || prop_oneof![0..40u64, 990..1010u64, 1990..2600u64];
    prop_oneof![
        4 => (slot(), file()).prop_map(|(slot, at)| Op::Create(slot, at)),
        6 => (slot(), file(), prop::bool::weighted(0.2)).prop_map(|(slot, at, cut)| Op::Open(slot, at, cut)),
        8 => (slot(), offset(), 0..60usize, any::<u8>()).prop_map(|(slot, at, len, byte)| Op::Write(slot, at, len, byte)),
        3 => (slot(), offset()).prop_map(|(slot, size)| Op::Cut(slot, size)),
        3 => (slot(), allocation(), offset(), 1..90u64)
            .prop_map(|(slot, how, at, len)| Op::Allocate(slot, how, at, len)),
        3 => (slot(), offset(), 0..1500u32).prop_map(|(slot, at, len)| Op::Read(slot, at, len)),
        2 => slot().prop_map(Op::Close),
        2 => (file(), offset()).prop_map(|(at, size)| Op::Truncate(at, size)),
        1 => (file(), prop_oneof![Just(0o600), Just(0o755)]).prop_map(|(at, mode)| Op::Chmod(at, mode)),
        2 => file().prop_map(Op::Mkdir),
        1 => file().prop_map(Op::Rmdir),
        2 => either().prop_map(Op::Unlink),
        4 => (file(), file()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (link(), link()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (special(), special()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (special(), special()).prop_map(|(from, to)| Op::Link(from, to)),
        2 => (file(), file()).prop_map(|(one, other)| Op::Exchange(one, other)),
        1 => (link(), link()).prop_map(|(one, other)| Op::Exchange(one, other)),
        1 => (special(), special()).prop_map(|(one, other)| Op::Exchange(one, other)),
        2 => (file(), file()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => link().prop_map(Op::Symlink),
        1 => (special(), prop_oneof![Just(Special::Fifo), Just(Special::Socket)])
            .prop_map(|(at, special)| Op::Special(at, special)),
        1 => Just(Op::Kill),
        1 => Just(Op::Compact),
    ]
}

fn base() -> Vec<(&'static str, Given)> {
    vec![
        ("a", Given::File(bytes(2500))),
        ("b", Given::File(bytes(10))),
        ("d/a", Given::File(bytes(1000))),
        ("d/e/a", Given::File(Vec::new())),
        ("d/l", Given::Link("a")),
        ("e", Given::Dir),
    ]
}

/// The answer of an operation: the bytes that it read, or its error.
type Answer = Result<Vec<u8>, ErrorKind>;

fn disk_kind(error: FsErrorKind) -> ErrorKind {
    match error {
        FsErrorKind::NotFound => ErrorKind::NotFound,
        FsErrorKind::Exists => ErrorKind::AlreadyExists,
        FsErrorKind::NotADirectory => ErrorKind::NotADirectory,
        FsErrorKind::IsADirectory => ErrorKind::IsADirectory,
        FsErrorKind::NotEmpty => ErrorKind::DirectoryNotEmpty,
        FsErrorKind::Invalid => ErrorKind::InvalidInput,
        other => panic!("{other:?}"),
    }
}

impl Op {
    fn here(&self, kernel: &Kernel, slots: &mut [Option<HandleId>; SLOTS]) -> Answer {
        let nothing = |answer: Result<(), FsErrorKind>| answer.map(|()| Vec::new());
        let mut keep = |slot: usize, opened: Result<HandleId, FsErrorKind>| {
            let opened = opened?;
            if let Some(old) = slots[slot].replace(opened) {
                kernel.close(old);
            }
            Ok(Vec::new())
        };
        let answer = match *self {
            Self::Create(slot, at) => keep(slot, kernel.create(at)),
            Self::Open(slot, at, cut) => keep(slot, kernel.open(at, READ_WRITE, cut)),
            Self::Write(slot, at, len, byte) => match slots[slot] {
                Some(handle) => kernel
                    .write(handle, at, &vec![byte; len])
                    .map(|_| Vec::new()),
                None => Ok(Vec::new()),
            },
            Self::Cut(slot, size) => match slots[slot] {
                Some(handle) => {
                    let ino = kernel.vfs.handles.file(handle).unwrap().ino();
                    let set = SetAttr {
                        size: Some(size),
                        ..SetAttr::default()
                    };
                    let cut = kernel.vfs.setattr(ino, set);
                    nothing(cut.map(drop).map_err(|error| error.kind()))
                }
                None => Ok(Vec::new()),
            },
            Self::Allocate(slot, how, at, len) => match slots[slot] {
                Some(handle) => {
                    let done = kernel.vfs.allocate(handle, how, at..at + len);
                    nothing(done.map_err(|error| error.kind()))
                }
                None => Ok(Vec::new()),
            },
            Self::Read(slot, at, len) => match slots[slot] {
                Some(handle) => kernel.read(handle, at, len).map_err(|error| error.kind()),
                None => Ok(Vec::new()),
            },
            Self::Close(slot) => {
                if let Some(handle) = slots[slot].take() {
                    kernel.close(handle);
                }
                Ok(Vec::new())
            }
            Self::Truncate(at, size) => nothing(kernel.truncate(at, size).map(drop)),
            Self::Chmod(at, mode) => nothing(kernel.chmod(at, mode).map(drop)),
            Self::Mkdir(at) => nothing(kernel.mkdir(at)),
            Self::Rmdir(at) => nothing(kernel.rmdir(at)),
            Self::Unlink(at) => nothing(kernel.unlink(at)),
            Self::Rename(from, to) => nothing(kernel.rename(from, to)),
            Self::Exchange(one, other) => nothing(kernel.exchange(one, other)),
            Self::Link(from, to) => nothing(kernel.link(from, to)),
            Self::Symlink(at) => nothing(kernel.symlink(at, "nowhere")),
            Self::Special(at, special) => nothing(kernel.make_special(at, special)),
            Self::Kill => Ok(Vec::new()),
            Self::Compact => {
                kernel.vfs.overlay.as_ref().unwrap().disk.compact().unwrap();
                Ok(Vec::new())
            }
        };
        answer.map_err(disk_kind)
    }

    fn on_disk(&self, root: &Path, slots: &mut [Option<fs::File>; SLOTS]) -> Answer {
        let with = |slot: usize,
                    slots: &[Option<fs::File>; SLOTS],
                    act: &dyn Fn(&fs::File) -> io::Result<Vec<u8>>| {
            slots[slot].as_ref().map_or(Ok(Vec::new()), act)
        };
        let nothing = |answer: io::Result<()>| answer.map(|()| Vec::new());
        let mut options = fs::File::options();
        options.read(true).write(true);
        let answer = match *self {
            Self::Create(slot, at) => options.create_new(true).open(root.join(at)).map(|file| {
                file.set_permissions(fs::Permissions::from_mode(0o644))
                    .unwrap();
                slots[slot] = Some(file);
                Vec::new()
            }),
            Self::Open(slot, at, cut) => options.truncate(cut).open(root.join(at)).map(|file| {
                slots[slot] = Some(file);
                Vec::new()
            }),
            Self::Write(slot, at, len, byte) => with(slot, slots, &|file| {
                file.write_all_at(&vec![byte; len], at).map(|()| Vec::new())
            }),
            Self::Cut(slot, size) => with(slot, slots, &|file| nothing(file.set_len(size))),
            Self::Allocate(slot, how, at, len) => with(slot, slots, &|file| {
                nothing(attachfs_durable::allocate(file, how, at..at + len))
            }),
            Self::Read(slot, at, len) => with(slot, slots, &|file| {
                let mut buffer = vec![0; len as usize];
                let read = file.read_at(&mut buffer, at)?;
                buffer.truncate(read);
                Ok(buffer)
            }),
            Self::Close(slot) => {
                slots[slot] = None;
                Ok(Vec::new())
            }
            Self::Truncate(at, size) => {
                let file = fs::File::options().write(true).open(root.join(at));
                nothing(file.and_then(|file| file.set_len(size)))
            }
            Self::Chmod(at, mode) => nothing(fs::set_permissions(
                root.join(at),
                fs::Permissions::from_mode(mode),
            )),
            Self::Mkdir(at) => nothing(fs::create_dir(root.join(at))),
            Self::Rmdir(at) => nothing(fs::remove_dir(root.join(at))),
            Self::Unlink(at) => nothing(fs::remove_file(root.join(at))),
            Self::Rename(from, to) => nothing(fs::rename(root.join(from), root.join(to))),
            Self::Exchange(one, other) => {
                let (one, other) = (root.join(one), root.join(other));
                let exchange = RenameFlags::EXCHANGE;
                let exchanged = renameat_with(CWD, one, CWD, other, exchange);
                nothing(exchanged.map_err(io::Error::from))
            }
            Self::Link(from, to) => nothing(fs::hard_link(root.join(from), root.join(to))),
            Self::Symlink(at) => nothing(std::os::unix::fs::symlink("nowhere", root.join(at))),
            Self::Special(at, special) => {
                let path = root.join(at);
                let kind = match special {
                    Special::Fifo => FileType::Fifo,
                    Special::Socket => FileType::Socket,
                };
                let made = mknodat(CWD, &path, kind, 0o644.into(), 0).map_err(io::Error::from);
                nothing(
                    made.and_then(|()| {
                        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
                    }),
                )
            }
            Self::Compact => Ok(Vec::new()),
            Self::Kill => {
                *slots = [const { None }; SLOTS];
                Ok(Vec::new())
            }
        };
        answer.map_err(|error| error.kind())
    }
}

fn dump_disk(root: &Path) -> BTreeMap<String, Shown> {
    let mut shown = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_dir() {
                open.push(path.clone());
                Shown::Dir(metadata.nlink() as u32)
            } else if metadata.is_symlink() {
                let text = fs::read_link(&path).unwrap();
                Shown::Link(text.into_os_string().into_encoded_bytes())
            } else if !metadata.is_file() {
                Shown::Special {
                    special: if metadata.file_type().is_fifo() {
                        Special::Fifo
                    } else {
                        Special::Socket
                    },
                    links: metadata.nlink() as u32,
                    mode: metadata.mode() & 0o7777,
                }
            } else {
                Shown::File {
                    bytes: fs::read(&path).unwrap(),
                    links: metadata.nlink() as u32,
                    mode: metadata.mode() & 0o7777,
                }
            };
            let name = path.strip_prefix(root).unwrap();
            shown.insert(name.to_str().unwrap().to_owned(), what);
        }
    }
    shown
}

fn base_on_disk(root: &Path) {
    for (at, given) in base() {
        let path = root.join(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match given {
            Given::Dir => fs::create_dir_all(path).unwrap(),
            Given::File(bytes) | Given::Runnable(bytes) => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }
            Given::Link(target) => {
                let text = std::path::PathBuf::from("..").join(target);
                std::os::unix::fs::symlink(text, path).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_as_on_a_local_disk(ops in prop::collection::vec(any_op(), 1..60)) {
        let world = World::new(&base());
        let disk = tempdir();
        base_on_disk(disk.path());
        let mut session = tempdir();
        let mut kernel = world.create(session.path());
        let mut handles = [None; SLOTS];
        let mut files = [const { None }; SLOTS];
        for op in ops {
            if let Op::Kill = op {
                let next = tempdir();
                copy_dir(session.path(), next.path());
                kernel = world.recover(next.path()).unwrap();
                session = next;
                handles = [None; SLOTS];
            }
            let here = op.here(&kernel, &mut handles);
            let there = op.on_disk(disk.path(), &mut files);
            // Where several errors apply, a kernel chooses by rules of its own.
            if matches!(op, Op::Rename(..) | Op::Exchange(..) | Op::Link(..) | Op::Truncate(..)) {
                prop_assert_eq!(here.is_ok(), there.is_ok(), "{:?}: {:?}, on disk {:?}", op, here, there);
            } else {
                prop_assert_eq!(here, there, "{:?}", op);
            }
        }
        let expected = dump_disk(disk.path());
        prop_assert_eq!(&kernel.dump(), &expected);
        let (_copy, recovered) = world.after_kill(session.path());
        prop_assert_eq!(&recovered.dump(), &expected, "after a kill");
        prop_assert!(recovered.vfs.handles.writers().is_empty());
    }
}
