//! Mounting, compared with what has to be done today before a job can start: putting its files on the local disk.

use std::rc::Rc;
use std::time::Instant;

use super::harness::{Memory, PageCache, Row, Run, Side};
use super::process::{self, peak_while};
use super::stage::{Set, Stage};
use super::work;

/// From the start of the program until a directory of the mount is listed. The other side makes the same tree of empty files,
/// without a byte in them: no program that puts real files there can be faster.
pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    vec![Row {
        name: "mount of 100,000 files, until a directory is listed".to_owned(),
        compared: "making them on the local disk, empty".to_owned(),
        page_cache: PageCache::Cold,
        touches: 1 << 30,
        needs: vec![Set::Many],
        rival: None,
        ours: mounting(stage),
        other: making(stage),
        bar: None,
        memory: Memory::PEAK,
    }]
}

fn mounting(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let session = stage.fresh()?;
        let start = Instant::now();
        let mut mount = stage.start_mount(Set::Many, &stage.store(), &session)?;
        let (peak, listed) = peak_while(mount.process(), || {
            mount.wait_until_ready()?;
            process::run(&mut work::command(
                ["list"],
                &[&mount.point().join("d0500")],
            ))
        });
        let time = start.elapsed();
        listed?;
        mount.unmount()?;
        Ok(Run { time, memory: peak })
    })
}

fn making(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        process::run(&mut work::command(
            ["create-names"],
            &[&stage.fresh_on_disk()?],
        ))
    })
}
