//! Files in scratch that the kernel reads and writes by itself: which are offered, what is recorded before, and who may be writing
//! unseen.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

use attachfs_durable::{Leasing, ReadLease};
use attachfs_tree::Ino;
use tempfile::TempDir;

use super::serving::now;
use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, copy_dir};
use crate::serving::SHORTEST_BACKED;
use crate::{
    Access, Created, FileSystem, Found, FsErrorKind, HandleId, NewNode, NodeId, NotQuiescent,
    OpenedFile, Released,
};

const WRITE: Access = Access {
    read: false,
    ..READ_WRITE
};
const SYNC: Access = Access {
    sync: true,
    ..READ_WRITE
};

/// A file system, served by an adapter that takes what it is offered. `None` where its disk does not tell who writes.
struct Served {
    world: World,
    dir: TempDir,
    kernel: Kernel,
}

/// Not the tests' usual place, which may be in memory.
fn on_disk() -> TempDir {
    tempfile::tempdir().unwrap()
}

impl Served {
    fn new() -> Option<Self> {
        let world = World::new(&[("input", Given::File(bytes(2500)))]);
        let dir = on_disk();
        let kernel = world.create(&dir.path().join("session"));
        let scratch = &kernel.vfs.writable().unwrap().disk.scratch;
        if !scratch.tells_writers() {
            println!("skipped: the file system of temporary files does not tell who writes");
            return None;
        }
        // What is told is not looked at.
        drop(kernel.attach());
        Some(Self { world, dir, kernel })
    }

    fn create(&self, name: &str, access: Access) -> Created {
        let new = NewNode {
            mode: 0o644,
            uid: 0,
            gid: 0,
        };
        let create = |reply| {
            FileSystem::create(
                &self.kernel.vfs,
                NodeId::ROOT,
                name.as_bytes(),
                new,
                access,
                reply,
            );
        };
        now(create).unwrap()
    }

    fn found(&self, name: &str) -> crate::Entry {
        let vfs = &self.kernel.vfs;
        let lookup = |reply| FileSystem::lookup(vfs, NodeId::ROOT, name.as_bytes(), || None, reply);
        now::<Found>(lookup).unwrap().entry.unwrap()
    }

    fn try_open(
        &self,
        name: &str,
        access: Access,
        truncate: bool,
    ) -> Result<OpenedFile, FsErrorKind> {
        let node = self.found(name).node;
        let open = |reply| FileSystem::open(&self.kernel.vfs, node, access, truncate, reply);
        now(open).map_err(|error| error.kind())
    }

    fn open(&self, name: &str, access: Access, truncate: bool) -> OpenedFile {
        self.try_open(name, access, truncate).unwrap()
    }

    fn close(&self, handle: HandleId) {
        now::<Released>(|reply| FileSystem::release(&self.kernel.vfs, handle, reply)).unwrap();
    }

    fn ino(&self, name: &str) -> Ino {
        self.found(name).attr.ino
    }

    /// As a mapping that outlived its handle, or a program that outlived an earlier process.
    fn written_unseen(&self, name: &str) -> File {
        let path: PathBuf = self.kernel.vfs.open_scratch(self.ino(name)).unwrap().1;
        File::options().write(true).open(path).unwrap()
    }
}

/// Whether the kernel has it.
fn take(opened: &OpenedFile) -> bool {
    let backing = opened.backing.as_ref();
    backing.is_some_and(|backing| backing.taken_by(|_| Some(())).is_some())
}

#[test]
fn the_kernel_gets_files_that_are_all_in_scratch_and_whoever_opens_one_first_decides() {
    let Some(served) = Served::new() else {
        return;
    };
    // Made, and made anew.
    let made = served.create("made", WRITE).opened;
    assert!(take(&made));
    for access in [READ, READ_WRITE, WRITE] {
        let later = served.open("made", access, false);
        assert!(take(&later), "all who open it have the same");
        served.close(later.handle);
    }
    served.close(made.handle);
    let part = served.open("input", READ_WRITE, false);
    assert!(!take(&part), "some of its bytes are the input's");
    served.close(part.handle);
    assert_eq!(served.kernel.vfs.counters().passthrough_scratch_opens, 4);

    // A short one that is read first is served here, who writes it meanwhile, too.
    served.kernel.put("short", b"short");
    served.kernel.put("long", &bytes(SHORTEST_BACKED as usize));
    let reader = served.open("short", READ, false);
    let writer = served.open("short", READ_WRITE, false);
    assert!(!take(&reader) && !take(&writer));
    served.close(reader.handle);
    assert!(
        !take(&served.open("short", WRITE, false)),
        "it is still open"
    );
    let reader = served.open("long", READ, false);
    assert!(take(&reader) && take(&served.open("long", WRITE, false)));
}

#[test]
fn the_kernel_gets_an_input_that_is_emptied_as_it_is_opened() {
    let Some(served) = Served::new() else {
        return;
    };
    let emptied = served.open("input", WRITE, true);
    assert!(take(&emptied));
    // As the kernel does.
    let path = served
        .kernel
        .vfs
        .open_scratch(served.ino("input"))
        .unwrap()
        .1;
    std::fs::write(path, b"by the kernel").unwrap();
    assert_eq!(served.kernel.cat("input"), b"by the kernel");
    assert_eq!(served.found("input").attr.size, 13);
}

#[test]
fn nobody_who_is_refused_or_does_without_is_given_files() {
    let Some(served) = Served::new() else {
        return;
    };
    let made = served.create("refused", WRITE).opened;
    let refused = made.backing.as_ref().unwrap().taken_by(|_| None::<()>);
    assert!(refused.is_none());
    assert!(!take(&served.open("refused", READ, false)));
    assert_eq!(served.kernel.write(made.handle, 0, b"here"), Ok(4));
    let _runtime = super::serving::serve(&served.kernel.vfs);
    assert!(served.create("other", WRITE).opened.backing.is_none());
}

#[test]
fn what_the_kernel_may_write_is_recorded_as_open_before_it_does() {
    let Some(served) = Served::new() else {
        return;
    };
    served.kernel.put("again", b"1");
    let again = served.open("again", WRITE, false);
    assert!(take(&again));
    let left = |kernel: &Kernel| kernel.vfs.freeze().unwrap().left_open().len();
    let (_copy, recovered) = served.world.after_kill(&served.dir.path().join("session"));
    assert_eq!(left(&recovered), 1);
    served.close(again.handle);
    let (_copy, recovered) = served.world.after_kill(&served.dir.path().join("session"));
    assert_eq!(left(&recovered), 0);
}

#[test]
fn names_and_records_are_durable_before_somebody_writes_durably_by_the_kernel() {
    let Some(served) = Served::new() else {
        return;
    };
    served.kernel.put("again", b"1");
    let disk = &served.kernel.vfs.writable().unwrap().disk;
    disk.sync().unwrap();
    let plain = served.open("again", WRITE, false);
    assert!(take(&plain) && !disk.is_synced());
    assert!(take(&served.open("again", SYNC, false)));
    assert!(disk.is_synced());
    assert!(take(&served.create("made", SYNC).opened));
    assert!(disk.is_synced());
}

#[test]
fn a_file_is_quiescent_once_nobody_has_it_open_for_writing_here_or_elsewhere() {
    let Some(served) = Served::new() else {
        return;
    };
    let vfs = &served.kernel.vfs;
    let made = served.create("made", READ_WRITE).opened;
    assert!(take(&made));
    let ino = served.ino("made");
    assert!(matches!(vfs.quiesce(ino), Err(NotQuiescent::Open)));
    // Readers do not matter, although they share the node with who wrote.
    let reader = served.open("made", READ, false);
    served.close(made.handle);
    assert!(vfs.quiesce(ino).unwrap().still().unwrap());
    let unseen = served.written_unseen("made");
    assert!(matches!(vfs.quiesce(ino), Err(NotQuiescent::Elsewhere)));
    drop(unseen);
    let quiescent = vfs.quiesce(ino).unwrap();
    assert!(quiescent.still().unwrap());
    served.close(reader.handle);
    assert!(quiescent.still().unwrap());
}

#[test]
fn who_opens_a_file_for_writing_ends_its_quiescence_and_waits_for_nobody() {
    let Some(served) = Served::new() else {
        return;
    };
    let vfs = &served.kernel.vfs;
    served.kernel.put("made", b"1");
    let ino = served.ino("made");
    let quiescent = vfs.quiesce(ino).unwrap();
    let second = vfs.quiesce(ino).unwrap();
    let (done, is_done) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = served.open("made", WRITE, false);
            // No byte is written, and it is closed.
            served.close(writer.handle);
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(20)).unwrap();
    });
    assert!(!quiescent.still().unwrap() && !second.still().unwrap());
    assert!(vfs.quiesce(ino).unwrap().still().unwrap());
    // A change of its bytes or its time shows as well.
    let quiescent = vfs.quiesce(ino).unwrap();
    served.kernel.truncate("made", 5).unwrap();
    assert!(!quiescent.still().unwrap());
}

#[test]
fn attributes_of_a_file_that_may_be_mapped_are_not_kept_until_nobody_can_write_to_it() {
    let Some(served) = Served::new() else {
        return;
    };
    let only_written = served.create("written", WRITE);
    assert!(take(&only_written.opened) && only_written.entry.attr.lasting);
    let made = served.create("made", READ_WRITE);
    assert!(take(&made.opened));
    assert!(!served.found("made").attr.lasting);
    let unseen = served.written_unseen("made");
    served.close(made.opened.handle);
    assert!(!served.found("made").attr.lasting);
    // Who reads it then sees what is being written, however short it is.
    let reader = served.open("made", READ, false);
    assert!(take(&reader));
    served.close(reader.handle);
    drop(unseen);
    assert!(served.found("made").attr.lasting);
    assert!(!take(&served.open("made", READ, false)));
}

#[test]
fn a_file_that_may_be_written_unseen_is_not_quiet_once_nothing_tells_who_writes() {
    let Some(served) = Served::new() else {
        return;
    };
    let vfs = &served.kernel.vfs;
    let made = served.create("made", READ_WRITE).opened;
    assert!(take(&made));
    served.close(made.handle);
    let scratch = &vfs.writable().unwrap().disk.scratch;
    scratch.tells_no_more.store(true, Relaxed);
    let ino = served.ino("made");
    assert!(vfs.is_written_unseen(ino));
    assert!(matches!(vfs.quiesce(ino), Err(NotQuiescent::Elsewhere)));
    // Of a file that only this process has written its own handles say all.
    served.kernel.put("served", b"here");
    assert!(vfs.quiesce(served.ino("served")).is_ok());
    assert!(!vfs.is_written_unseen(served.ino("served")));

    scratch.tells_no_more.store(false, Relaxed);
    assert!(vfs.quiesce(ino).is_ok());
    assert!(!vfs.is_written_unseen(ino));
}

#[test]
fn an_open_waits_for_the_lease_of_somebody_else_and_does_not_fail() {
    let Some(served) = Served::new() else {
        return;
    };
    served.kernel.put("f", b"bytes");
    let path = served.kernel.vfs.open_scratch(served.ino("f")).unwrap().1;
    let lease = ReadLease::new(File::open(path).unwrap());
    assert_eq!(lease.take().unwrap(), Leasing::Granted);
    let is_given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while lease.holds() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Much longer than a thread needs that runs.
            std::thread::sleep(Duration::from_millis(400));
            is_given_up.store(true, SeqCst);
            lease.give_up();
        });
        let opened = served.open("f", READ_WRITE, false);
        assert!(is_given_up.load(SeqCst));
        served.close(opened.handle);
    });
}

#[test]
fn who_outlived_the_process_that_served_a_file_may_be_writing_it_unseen() {
    let Some(served) = Served::new() else {
        return;
    };
    let made = served.create("made", WRITE).opened;
    assert!(take(&made));
    let ino = served.ino("made");
    let Served { world, dir, kernel } = served;
    let copy = on_disk();
    let session = copy.path().join("session");
    std::fs::create_dir(&session).unwrap();
    copy_dir(&dir.path().join("session"), &session);
    let recovered = world.recover(&session).unwrap();
    drop(kernel);
    let path = recovered.vfs.open_scratch(ino).unwrap().1;
    let unseen = File::options().write(true).open(path).unwrap();
    drop(recovered.attach());
    let served = Served {
        world,
        dir: copy,
        kernel: recovered,
    };
    assert!(!served.found("made").attr.lasting);
    let vfs = &served.kernel.vfs;
    assert!(matches!(vfs.quiesce(ino), Err(NotQuiescent::Elsewhere)));
    drop(unseen);
    assert!(served.found("made").attr.lasting);
}
