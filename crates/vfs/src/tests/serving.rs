//! A `Vfs` as an adapter uses it: replies, references, opening and releasing.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ThreadId;

use attachfs_store::CallKind;
use attachfs_store::fault::{Failure, Fault, Rule};
use attachfs_tree::Ino;
use tokio::runtime::{Builder, Runtime};

use super::world::{CHUNK, Given, READ, READ_WRITE, World, bytes, tempdir};
use crate::{
    Attachment, Entry, FileSystem, Found, FsError, FsErrorKind, ListReply, Listed, NewNode, NodeId,
    OpenedFile, ReadOutcome, Reply, Vfs,
};

/// An answer, and the thread that gave it.
pub(super) type Answer<T> = (Result<T, FsError>, ThreadId);

/// A reply that sends its answer into a channel.
pub(super) struct Here<T>(Sender<Answer<T>>);

impl<T: Send + 'static> Reply<T> for Here<T> {
    fn ok(self, value: T) {
        self.0
            .send((Ok(value), std::thread::current().id()))
            .unwrap();
    }

    fn fail(self, error: FsError) {
        self.0
            .send((Err(error), std::thread::current().id()))
            .unwrap();
    }
}

impl Reply<&[u8]> for Here<Vec<u8>> {
    fn ok(self, value: &[u8]) {
        Reply::<Vec<u8>>::ok(self, value.to_vec());
    }

    fn fail(self, error: FsError) {
        Reply::<Vec<u8>>::fail(self, error);
    }
}

pub(super) fn here<T>() -> (Here<T>, Receiver<Answer<T>>) {
    let (sender, receiver) = channel();
    (Here(sender), receiver)
}

/// The answer that is given at once.
pub(super) fn now<T>(ask: impl FnOnce(Here<T>)) -> Result<T, FsError> {
    let (reply, answers) = here();
    ask(reply);
    answers.try_recv().unwrap().0
}

fn lookup(vfs: &Vfs, name: &str) -> Option<Entry> {
    let lookup = |reply| FileSystem::lookup(vfs, NodeId::ROOT, name.as_bytes(), || None, reply);
    now::<Found>(lookup).unwrap().entry
}

fn open(vfs: &Vfs, node: NodeId, write: bool) -> OpenedFile {
    let access = if write { READ_WRITE } else { READ };
    now(|reply| FileSystem::open(vfs, node, access, false, reply)).unwrap()
}

/// Attaches an adapter with a runtime for answers that have to wait.
pub(super) fn serve(vfs: &impl FileSystem) -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_time().build().unwrap();
    vfs.attach(Attachment {
        invalidations: channel().0,
        runtime: runtime.handle().clone(),
        backing: crate::Passthrough::default(),
        tells_opens: true,
        writes_late: false,
    });
    runtime
}

fn world() -> World {
    World::new(&[("input", Given::File(bytes(2500)))])
}

#[test]
fn the_last_close_of_a_file_is_told() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("own", b"own");
    let own = lookup(&kernel.vfs, "own").unwrap().node;
    let (first, second) = (open(&kernel.vfs, own, true), open(&kernel.vfs, own, false));
    let mut last = [first, second].map(|opened| {
        let released = now(|reply| FileSystem::release(&kernel.vfs, opened.handle, reply));
        released.unwrap().last
    });
    assert_eq!(last, [false, true]);
    let again = open(&kernel.vfs, own, false);
    last[0] = now(|reply| FileSystem::release(&kernel.vfs, again.handle, reply))
        .unwrap()
        .last;
    assert!(last[0]);
}

#[test]
fn a_file_without_a_name_exists_until_all_references_are_given_back() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let _told = kernel.attach();
    kernel.put("own", b"own");
    let own = lookup(&kernel.vfs, "own").unwrap().node;
    kernel.unlink("own").unwrap();
    assert!(lookup(&kernel.vfs, "own").is_none());
    let attr = || now(|reply| FileSystem::getattr(&kernel.vfs, own, reply));
    let mut references = 0;
    while let Ok(attr) = attr() {
        assert_eq!((attr.size, attr.nlink), (3, 0));
        FileSystem::forget(&kernel.vfs, own, 1);
        references += 1;
    }
    // `create` and one look-up.
    assert_eq!(references, 2);
    assert_eq!(attr().unwrap_err().kind(), FsErrorKind::NotFound);
}

/// A listing reply with room for a number of entries.
struct Entries {
    found: Vec<(Vec<u8>, Entry)>,
    most: usize,
    reply: Here<Vec<(Vec<u8>, Entry)>>,
}

impl Reply<()> for Entries {
    fn ok(self, (): ()) {
        self.reply.ok(self.found);
    }

    fn fail(self, error: FsError) {
        Reply::<Vec<(Vec<u8>, Entry)>>::fail(self.reply, error);
    }
}

impl ListReply<Listed<'_>> for Entries {
    fn add(&mut self, Listed { name, entry }: Listed<'_>, _: u64) -> bool {
        let room = self.found.len() < self.most;
        if room {
            self.found.push((name.to_vec(), entry));
        }
        room
    }
}

#[test]
fn a_name_that_is_listed_with_attributes_is_a_reference_if_it_is_in_the_answer() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("a", b"a");
    kernel.put("b", b"b");
    let _told = kernel.attach();
    let root = now(|reply| FileSystem::opendir(&kernel.vfs, NodeId::ROOT, reply))
        .unwrap()
        .handle;
    let listed = now(|reply| {
        let (found, most) = (Vec::new(), 3);
        let entries = Entries { found, most, reply };
        FileSystem::readdirplus(&kernel.vfs, root, 0, entries);
    });
    let listed = listed.unwrap();
    let names: Vec<_> = listed.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, [&b"."[..], b"..", b"a"]);
    let a = listed[2].1.node;
    let b = kernel.vfs.namespace.read().lookup(Ino::ROOT, b"b").unwrap();
    kernel.vfs.unlink(Ino::ROOT, b"a").unwrap();
    kernel.vfs.unlink(Ino::ROOT, b"b").unwrap();
    let attr = |node| now(|reply| FileSystem::getattr(&kernel.vfs, node, reply));
    assert_eq!(attr(a).unwrap().nlink, 0);
    assert_eq!(attr(b.into()).unwrap_err().kind(), FsErrorKind::NotFound);
    FileSystem::forget(&kernel.vfs, a, 1);
    assert_eq!(attr(a).unwrap_err().kind(), FsErrorKind::NotFound);
}

#[test]
fn references_end_with_the_adapter_and_nameless_files_are_dropped() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let _told = kernel.attach();
    kernel.put("own", b"own");
    kernel.put("named", b"named");
    let [own, named] = ["own", "named"].map(|name| lookup(&kernel.vfs, name).unwrap().node);
    kernel.unlink("own").unwrap();
    kernel.vfs.detach().unwrap();
    let attr = |node| now(|reply| FileSystem::getattr(&kernel.vfs, node, reply));
    assert_eq!(attr(own).unwrap_err().kind(), FsErrorKind::NotFound);
    assert_eq!(attr(named).unwrap().size, 5);
}

#[test]
fn a_read_from_memory_is_answered_at_once_and_any_other_on_another_thread() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let _runtime = serve(&kernel.vfs);
    let input = lookup(&kernel.vfs, "input").unwrap().node;
    let handle = open(&kernel.vfs, input, false).handle;
    let read = || {
        let (reply, answers) = here::<Vec<u8>>();
        FileSystem::read(&kernel.vfs, handle, 0, 10, reply);
        let (read, thread) = answers.recv().unwrap();
        assert_eq!(read.unwrap(), bytes(2500)[..10]);
        thread
    };
    assert_ne!(read(), std::thread::current().id());
    assert_eq!(read(), std::thread::current().id());
}

#[test]
fn a_failed_read_names_the_file() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let _runtime = serve(&kernel.vfs);
    world
        .fault
        .add(Rule::on(CallKind::Get, Fault::Before(Failure::Unreachable)));
    let input = lookup(&kernel.vfs, "input").unwrap().node;
    let handle = open(&kernel.vfs, input, false).handle;
    let (reply, answers) = here::<Vec<u8>>();
    FileSystem::read(&kernel.vfs, handle, 0, 10, reply);
    let error = answers.recv().unwrap().0.unwrap_err();
    assert_eq!(error.path(), Some("input"));
    assert_eq!(error.kind(), FsErrorKind::Io);
}

#[test]
fn a_read_that_waits_for_one_object_holds_no_other_up() {
    let world = World::new(&[
        ("two", Given::File(bytes(2 * CHUNK as usize))),
        (
            "second",
            Given::File(bytes(2 * CHUNK as usize)[CHUNK as usize..].to_vec()),
        ),
    ]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    // A part of the file is written, so that a read of the rest is one of several parts.
    let two = kernel.open("two", READ_WRITE, false).unwrap();
    kernel.write(two, CHUNK - 2, b"xxxx").unwrap();
    world
        .fault
        .add(Rule::on(CallKind::Get, Fault::Hang).times(1));
    let pending = |handle| match kernel.vfs.read(handle, 0, 2 * CHUNK as u32) {
        Ok(ReadOutcome::Pending(read)) => read,
        other => panic!("{other:?}"),
    };
    let hanging = pending(two);
    let second = pending(kernel.open("second", READ, false).unwrap());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let hanging = tokio::spawn(hanging);
        tokio::task::yield_now().await;
        assert_eq!(second.await.unwrap().len() as u64, CHUNK);
        assert!(!hanging.is_finished());
    });
}

#[test]
fn a_file_that_cannot_be_looked_at_is_not_made_and_no_request_leaves_a_reference() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("own", b"own");
    let _told = kernel.attach();
    let root = |name| kernel.vfs.namespace.read().lookup(Ino::ROOT, name);
    let (own, next) = (
        root(b"own").unwrap(),
        kernel.vfs.namespace.read().next_ino(),
    );
    let disk = &kernel.vfs.overlay.as_ref().unwrap().disk;
    let gone = |is_gone| disk.scratch.is_gone.store(is_gone, Ordering::Relaxed);

    gone(true);
    let owner = (0, 0);
    let failures = [
        kernel
            .vfs
            .create_file(Ino::ROOT, b"new", 0o644, owner, READ_WRITE)
            .map(drop),
        kernel.vfs.lookup(Ino::ROOT, b"own").map(drop),
        kernel.vfs.link(own, Ino::ROOT, b"linked").map(drop),
        now(|reply| {
            let new = NewNode {
                mode: 0o644,
                uid: 0,
                gid: 0,
            };
            FileSystem::make_file(&kernel.vfs, NodeId::ROOT, b"new", new, reply);
        })
        .map(drop),
    ];
    gone(false);
    for failed in failures {
        assert_eq!(failed.unwrap_err().kind(), FsErrorKind::Io);
    }
    assert!(!kernel.vfs.is_open());
    assert!(kernel.vfs.handles.writers().is_empty());
    assert_eq!(root(b"new"), None);
    assert!(!disk.scratch.path(next).exists());
    assert!(!kernel.vfs.references.has(own.into()) && !kernel.vfs.references.has(next.into()));
    let (_copy, recovered) = world.after_kill(dir.path());
    let overlay = recovered.vfs.overlay.as_ref().unwrap();
    assert!(overlay.left_open.lock().is_empty());
    kernel.put("new", b"new");
    assert_eq!(kernel.cat("new"), b"new");
}
