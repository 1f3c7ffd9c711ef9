//! A power loss at each step of a compaction, while another thread writes and syncs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;

use attachfs_durable::steps::{Recorder, Step};
use attachfs_tree::Ino;
use parking_lot::Mutex;

use super::disk::{Chance, Disk, Image};
use super::{base, text};
use crate::tests::compacting::{change, until};
use crate::tests::world::{READ_WRITE, tempdir};

/// The steps of a compaction that replaces a short journal: the second sync of the successor comes while other syncs
/// wait, and during the rename all changes wait.
const STEPS: [Step; 5] = [
    Step::CompactedContent,
    Step::CompactedContent,
    Step::StagedRename,
    Step::CompactedRest,
    Step::CompactedName,
];
/// How many files are written and synced at each step.
const FILES: usize = 3;
/// How many possible disks are tried for each moment.
const DISKS: usize = 24;

/// Files whose fsync has returned, by name.
type Synced = BTreeMap<String, Vec<u8>>;

#[test]
fn what_was_synced_during_a_compaction_survives_a_power_loss_at_any_of_its_steps() {
    let (world, dir) = (base(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    change(&kernel, "f", 100);
    kernel.vfs.fsyncdir().unwrap();
    let disk = Arc::new(Mutex::new(Disk::new(dir.path())));
    let steps = Recorder::on(dir.path());
    let watched = disk.clone();
    steps.watch(move |when, taken| watched.lock().step(when, taken));
    let synced = Mutex::new(Synced::new());
    let mut moments: Vec<(Synced, Image)> = Vec::new();
    let mut look = || {
        // Before the image: what is synced between the two is in the image only.
        let synced = synced.lock().clone();
        moments.push((synced, disk.lock().image()));
    };
    std::thread::scope(|scope| {
        let (files, wanted) = channel();
        let (vfs, synced) = (&kernel.vfs, &synced);
        let writing = scope.spawn(move || {
            for number in wanted {
                let name = format!("synced.{number}");
                let made = vfs.create_file(Ino::ROOT, name.as_bytes(), 0o644, (0, 0), READ_WRITE);
                let handle = made.unwrap().1.handle;
                let bytes = text(number, 40);
                vfs.write(handle, 0, &bytes).unwrap();
                vfs.fsync(handle, true).unwrap();
                synced.lock().insert(name, bytes);
                vfs.release(handle).unwrap();
            }
        });
        let mut paused = steps.pause(STEPS[0]);
        let compacting = scope.spawn(|| {
            let overlay = vfs.overlay.as_ref().unwrap();
            overlay.disk.compact()
        });
        for (at, step) in STEPS.into_iter().enumerate() {
            paused.wait();
            for number in 0..FILES {
                files.send(at * FILES + number).unwrap();
            }
            if at == 0 {
                // These are in the old journal, durably. Later ones wait in their fsync.
                until(|| synced.lock().len() == FILES);
            }
            if step != Step::StagedRename {
                change(&kernel, "f", 20);
            }
            look();
            if let Some(&next) = STEPS.get(at + 1) {
                // The next one is there before this one goes on.
                paused = steps.pause(next);
            }
        }
        drop(paused);
        compacting.join().unwrap().unwrap();
        drop(files);
        writing.join().unwrap();
        look();
    });
    assert_eq!(synced.lock().len(), FILES * STEPS.len());
    for (at, (synced, image)) in moments.iter().enumerate() {
        let mut chance = Chance(at as u64);
        for _ in 0..DISKS {
            let lost = image.lose_power(dir.path(), &mut chance);
            let recovered = world.recover(lost.dir.path()).unwrap();
            for (name, bytes) in synced {
                let found = recovered.stat(name).map(|_| recovered.cat(name));
                assert_eq!(found.as_ref(), Ok(bytes), "{name}, step {at}");
            }
        }
    }
}
