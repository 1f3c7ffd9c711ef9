//! What is counted of the operations of a file system.

use std::sync::Arc;
use std::time::Duration;

use attachfs_store::CallKind;

use super::serving::{here, now, serve};
use super::world::{Given, READ, World, bytes, settings};
use crate::{Counted, FileSystem, FsErrorKind, NewNode, NodeId, Operation, OperationCounts, Vfs};

const LEN: u32 = 500;

fn counted() -> (World, Counted<Vfs>) {
    let world = World::new(&[("input", Given::File(bytes(LEN as usize)))]);
    let vfs = Vfs::read_only(world.tree.clone(), world.fetcher(), settings());
    (world, Counted::new(Arc::new(vfs)))
}

fn open(fs: &Counted<Vfs>) -> crate::HandleId {
    let found = now(|reply| fs.lookup(NodeId::ROOT, b"input", || None, reply));
    let node = found.unwrap().entry.unwrap().node;
    let opened = now(|reply| fs.open(node, READ, false, reply));
    opened.unwrap().handle
}

#[test]
fn each_operation_is_counted_once_with_its_time_and_its_failure() {
    let (_world, fs) = counted();
    let runtime = serve(&fs);
    let handle = open(&fs);
    let absent = now(|reply| fs.lookup(NodeId::ROOT, b"absent", || None, reply));
    assert!(absent.unwrap().entry.is_none());
    // From the store, and then from memory.
    for _ in 0..2 {
        let (reply, answers) = here();
        fs.read(handle, 0, 2 * LEN, reply);
        let read: Vec<u8> = answers.recv().unwrap().0.unwrap();
        assert_eq!(read.len(), LEN as usize);
    }
    let new = NewNode {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    now(|reply| fs.mkdir(NodeId::ROOT, b"dir", new, reply)).unwrap_err();
    now(|reply| fs.release(handle, reply)).unwrap();
    drop(runtime);
    let operations = fs.operations();
    let all = operations.so_far();
    let of = |operation| -> &OperationCounts {
        all.iter().find(|of| of.operation == operation).unwrap()
    };
    let counts = all.iter().map(|of| (of.operation, of.took.count));
    let expected = [
        (Operation::Lookup, 2),
        (Operation::Mkdir, 1),
        (Operation::Open, 1),
        (Operation::Read, 2),
        (Operation::Release, 1),
    ];
    assert_eq!(counts.collect::<Vec<_>>(), expected);
    assert_eq!(of(Operation::Mkdir).failed, [(FsErrorKind::ReadOnly, 1)]);
    assert_eq!(of(Operation::Read).failed, []);
    assert!(of(Operation::Read).took.longest > Duration::ZERO);
    assert_eq!(operations.bytes_read(), 2 * u64::from(LEN));
    assert_eq!(operations.names_missing(), 1);
    assert_eq!(operations.under_way(), 0);
}

#[test]
fn an_operation_whose_reply_is_dropped_is_counted_as_failed() {
    let (world, fs) = counted();
    let runtime = serve(&fs);
    let handle = open(&fs);
    let _hold = world.record.hold(CallKind::Get);
    let (reply, answers) = here::<Vec<u8>>();
    fs.read(handle, 0, LEN, reply);
    assert_eq!(fs.operations().under_way(), 1);
    // With it go the tasks that wait.
    drop(runtime);
    answers.recv().unwrap_err();
    let operations = fs.operations();
    assert_eq!(operations.under_way(), 0);
    let all = operations.so_far();
    let read = all.iter().find(|of| of.operation == Operation::Read);
    assert_eq!(read.unwrap().failed, [(FsErrorKind::Io, 1)]);
}
