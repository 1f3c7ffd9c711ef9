//! Writing into a mount: by the kernel itself where it may, without privilege, and with the kernel's write-back cache.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use super::harness::{Memory, PageCache, Row, Run};
use super::sides::{Pair, both};
use super::stage::{Set, Stage};
use super::work::{self, LARGE};

/// 6,000 files a second.
const CREATING: Duration = Duration::from_millis(1667);
/// One write of the large file, in bytes.
const WHOLE: &str = "1048576";
const PAGE: &str = "4096";

type Writing = fn(&Stage, &Path) -> Command;

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let row = |name: &str, compared: &str, touches, bar, (ours, other): Pair| Row {
        name: name.to_owned(),
        compared: compared.to_owned(),
        // Nothing of an earlier run is still being written back.
        page_cache: PageCache::Cold,
        touches,
        needs: vec![Set::Little],
        rival: None,
        ours,
        other,
        bar,
        memory: Memory::PEAK,
    };
    let same = "the same on the local disk";
    let creating = || {
        let create = |_: &Stage, dir: &Path| work::command(["create", "created"], &[dir]);
        both(stage, &[], Stage::fresh_on_disk, |_, _| Ok(()), create)
    };
    let mut rows = vec![
        row(
            "create, write, close 10,000 files of 4 KiB",
            same,
            LARGE,
            None,
            creating(),
        ),
        row(
            "create, write, close 10,000 files of 4 KiB",
            &format!("{:.3} s", CREATING.as_secs_f64()),
            LARGE,
            Some(1.0),
            {
                let time = CREATING;
                (creating().0, Box::new(move || Ok(Run { time, memory: 0 })))
            },
        ),
    ];
    let late: &[&str] = &["--writeback-cache"];
    let by_the_daemon = [Some(0.2), None, Some(0.09)];
    let by_the_kernel = [Some(0.2), None, Some(0.6)];
    let mut kinds = vec![
        (Rc::clone(stage), &[][..], "", [0.8, 0.8, 0.75].map(Some)),
        (Rc::clone(stage), late, ", --writeback-cache", by_the_kernel),
    ];
    if fuse_is_for_all() {
        let nobody = Rc::new(stage.unprivileged());
        let name = ", without privilege";
        kinds.push((Rc::clone(&nobody), &[], name, by_the_daemon));
        let name = ", without privilege, --writeback-cache";
        kinds.push((nobody, late, name, by_the_kernel));
    } else {
        println!(
            "left out: writes without privilege, since /dev/fuse is not for all here (`chmod 666 /dev/fuse`)"
        );
    }
    for (stage, options, what, bars) in kinds {
        let works: [(&str, Writing); 3] = [
            ("write of 1 GiB", |_, dir| write_large(dir, "close", WHOLE)),
            ("write of 1 GiB and fsync", |_, dir| {
                write_large(dir, "sync", WHOLE)
            }),
            ("write of 1 GiB, 4 KiB at a time", |_, dir| {
                write_large(dir, "close", PAGE)
            }),
        ];
        // A bar is the part of the local disk's speed that is good enough.
        for ((name, work), part) in works.into_iter().zip(bars) {
            let Some(part) = part else { continue };
            let sides = both(&stage, options, Stage::fresh, |_, _| Ok(()), work);
            let name = format!("{name}{what}");
            rows.push(row(&name, same, 2 * LARGE, Some(1.0 / part), sides));
        }
    }
    rows
}

/// Whether users without privilege may mount.
fn fuse_is_for_all() -> bool {
    let mode = std::fs::metadata("/dev/fuse").map(|device| device.mode());
    mode.is_ok_and(|mode| mode & 0o006 == 0o006)
}

/// Writes the large file, so many bytes at a time.
pub(super) fn write_large(dir: &Path, end: &str, piece: &str) -> Command {
    work::command(["write-large", end, piece], &[&dir.join("large")])
}
