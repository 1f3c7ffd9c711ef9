//! The thread that writes the files, so that no read waits for the disk.

use std::error::Error;
use std::io;
use std::sync::mpsc::Receiver;

use attachfs_durable::{CacheDirError, ObjectWriter};
use attachfs_manifest::ContentHash;

use super::cache_core::{CacheCore, Order};

/// What the thread does, until nobody sends orders any more.
pub(super) fn run(core: &CacheCore, orders: &Receiver<Order>) {
    let mut writer = core.objects.writer();
    super::keeper::look(core);
    while let Ok(order) = orders.recv() {
        match order {
            Order::Flush(_) => {}
            Order::Object(hash, object) => {
                let len = object.len() as u64;
                if may_write(core, on_disk(len)) {
                    write(core, &mut writer, hash, &object);
                }
                core.done(len);
            }
            Order::Units {
                of,
                first,
                bytes,
                version,
            } => {
                let len = bytes.len() as u64;
                if may_write(core, len) {
                    let stored = of.store(&mut writer, first, &bytes, version.as_deref());
                    told(core, stored);
                }
                core.done(len);
            }
        }
        core.step();
    }
}

/// How much most file systems take for so many bytes.
fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(4096)
}

/// Whether the disk works and has room. What is not written is counted.
fn may_write(core: &CacheCore, len: u64) -> bool {
    let may = core.health.may_write() && core.take_room(len);
    if !may {
        core.counts.dropped.add(1);
    }
    may
}

fn write(core: &CacheCore, writer: &mut ObjectWriter, hash: ContentHash, object: &[u8]) {
    let written = writer.write(*hash.as_bytes(), object);
    if written.is_ok() {
        core.came(hash, on_disk(object.len() as u64), 1);
        core.counts.written.add(1);
    }
    told(core, written);
}

/// Counts and tells what became of a write.
fn told(core: &CacheCore, written: Result<(), CacheDirError>) {
    let error = match written {
        Ok(()) => return core.health.worked(),
        Err(error) => error,
    };
    core.counts.dropped.add(1);
    if let CacheDirError::Io(error) = &error
        && error.kind() == io::ErrorKind::AlreadyExists
    {
        // Only what would be at that name is not kept.
        return tracing::warn!(
            error = error as &(dyn Error + 'static),
            "something that attachfs did not make is in the disk cache; an object is not kept"
        );
    }
    core.counts.failed.add(1);
    core.health.failed(&error as &(dyn Error + 'static));
}
