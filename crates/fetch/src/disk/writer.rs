//! The thread that writes the files, so that no read waits for the disk.

use std::error::Error;
use std::io;
use std::sync::mpsc::Receiver;

use attachfs_durable::{CacheDirError, ObjectWriter};
use attachfs_manifest::ContentHash;

use super::shared::{Order, Shared};

/// What the thread does, until nobody sends orders any more.
pub(super) fn run(shared: &Shared, orders: &Receiver<Order>) {
    let mut writer = shared.objects.writer();
    super::keeper::look(shared);
    while let Ok(order) = orders.recv() {
        match order {
            Order::Flush(_) => {}
            Order::Object(hash, object) => {
                let len = object.len() as u64;
                if may_write(shared, on_disk(len)) {
                    write(shared, &mut writer, hash, &object);
                }
                shared.done(len);
            }
            Order::Units {
                of,
                first,
                bytes,
                version,
            } => {
                let len = bytes.len() as u64;
                if may_write(shared, len) {
                    let stored = of.store(&mut writer, first, &bytes, version.as_deref());
                    told(shared, stored);
                }
                shared.done(len);
            }
        }
        shared.step();
    }
}

/// How much most file systems take for so many bytes.
fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(4096)
}

/// Whether the disk works and has room. What is not written is counted.
fn may_write(shared: &Shared, len: u64) -> bool {
    let may = shared.health.may_write() && shared.take_room(len);
    if !may {
        shared.counts.dropped.add(1);
    }
    may
}

fn write(shared: &Shared, writer: &mut ObjectWriter, hash: ContentHash, object: &[u8]) {
    let written = writer.write(*hash.as_bytes(), object);
    if written.is_ok() {
        shared.came(hash, on_disk(object.len() as u64), 1);
        shared.counts.written.add(1);
    }
    told(shared, written);
}

/// Counts and tells what became of a write.
fn told(shared: &Shared, written: Result<(), CacheDirError>) {
    let error = match written {
        Ok(()) => return shared.health.worked(),
        Err(error) => error,
    };
    shared.counts.dropped.add(1);
    if let CacheDirError::Io(error) = &error
        && error.kind() == io::ErrorKind::AlreadyExists
    {
        // Only what would be at that name is not kept.
        return tracing::warn!(
            error = error as &(dyn Error + 'static),
            "something that attachfs did not make is in the disk cache; an object is not kept"
        );
    }
    shared.counts.failed.add(1);
    shared.health.failed(&error as &(dyn Error + 'static));
}
