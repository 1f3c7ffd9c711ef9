//! The thread that writes the files, so that no read waits for the disk.

use std::error::Error;
use std::io;
use std::sync::mpsc::Receiver;

use attachfs_durable::{CacheDirError, ObjectWriter};
use attachfs_manifest::ContentHash;

use super::open_cache::{OpenCache, Order};

/// What the thread does, until nobody sends orders any more.
pub(super) fn run(cache: &OpenCache, orders: &Receiver<Order>) {
    let mut writer = cache.objects.writer();
    super::keeper::look(cache);
    while let Ok(order) = orders.recv() {
        match order {
            Order::Flush(_) => {}
            Order::Object(hash, object) => {
                let len = object.len() as u64;
                if may_write(cache, len, on_disk(len)) {
                    write(cache, &mut writer, hash, &object);
                }
                cache.done(len);
            }
            Order::Units {
                of,
                first,
                bytes,
                version,
            } => {
                let len = bytes.len() as u64;
                if may_write(cache, len, len) {
                    let stored = of.store(&mut writer, first, &bytes, version.as_deref());
                    told(cache, stored, len);
                }
                cache.done(len);
            }
        }
        cache.step();
    }
}

/// How much most file systems take for so many bytes.
fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(4096)
}

/// Whether the disk works and has room for so many bytes, which take so much of it. What is not written is counted.
fn may_write(cache: &OpenCache, len: u64, on_disk: u64) -> bool {
    let may = cache.health.may_write() && cache.take_room(on_disk);
    if !may {
        cache.dropped(len);
    }
    may
}

fn write(cache: &OpenCache, writer: &mut ObjectWriter, hash: ContentHash, object: &[u8]) {
    let written = writer.write(*hash.as_bytes(), object);
    if written.is_ok() {
        cache.came(hash, on_disk(object.len() as u64), 1);
        cache.counts.written.add(1);
    }
    told(cache, written, object.len() as u64);
}

/// Counts and tells what became of a write of so many bytes.
fn told(cache: &OpenCache, written: Result<(), CacheDirError>, len: u64) {
    let error = match written {
        Ok(()) => return cache.health.worked(),
        Err(error) => error,
    };
    cache.dropped(len);
    if let CacheDirError::Io(error) = &error
        && error.kind() == io::ErrorKind::AlreadyExists
    {
        // Only what would be at that name is not kept.
        return tracing::warn!(
            error = error as &(dyn Error + 'static),
            "something that attachfs did not make is in the disk cache; an object is not kept"
        );
    }
    cache.counts.failed.add(1);
    cache.health.failed(&error as &(dyn Error + 'static));
}
