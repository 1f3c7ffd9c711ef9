//! Mounting, compared with what has to be done today before a job can start: putting its files on the local disk.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::harness::{Memory, PageCache, Row, Run, Side};
use super::manifests::text;
use super::process::{self, peak_while};
use super::stage::{Set, Stage, remove};
use super::work;

/// A mount of many entries, from the start of the program until a directory is listed.
#[derive(Debug, Clone, Copy)]
struct Mounting {
    set: Set,
    /// Below the mount.
    dir: &'static str,
    /// Of that directory.
    entries: &'static str,
    /// The same manifest was mounted before.
    again: bool,
}

const MANY: Mounting = Mounting {
    set: Set::Many,
    dir: "d0500",
    entries: "100",
    again: false,
};
const MILLION: Mounting = Mounting {
    set: Set::Entries,
    dir: "shots/sq000/sh0000/beauty/v003",
    entries: "1000",
    again: false,
};
const MIB: u64 = 1 << 20;

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let within = |name: &str, mounting: Mounting, millis: u64, memory: u64| {
        let time = Duration::from_millis(millis);
        Row {
            bar: Some(1.0),
            ..row(
                stage,
                name,
                mounting,
                &format!("{:.1} s", time.as_secs_f64()),
                Box::new(move || Ok(Run { time, memory: 0 })),
                Some(memory),
            )
        }
    };
    vec![
        // The other side makes the same tree of empty files, without a byte in them: no program that puts real files there can be
        // faster.
        row(
            stage,
            "100,000 files",
            MANY,
            "making them on the local disk, empty",
            making(stage),
            None,
        ),
        within("1,000,000 files, first", MILLION, 500, 100 * MIB),
        within(
            "1,000,000 files, again",
            Mounting {
                again: true,
                ..MILLION
            },
            100,
            100 * MIB,
        ),
        // Only its memory has a bar. The time beside it is that of ten times as many entries.
        Row {
            bar: None,
            ..within(
                "10,000,000 files",
                Mounting {
                    set: Set::TenMillion,
                    ..MILLION
                },
                5000,
                1024 * MIB,
            )
        },
    ]
}

fn row(
    stage: &Rc<Stage>,
    name: &str,
    mounting: Mounting,
    compared: &str,
    other: Side,
    memory: Option<u64>,
) -> Row {
    Row {
        name: format!("mount of {name}, until a directory is listed"),
        compared: compared.to_owned(),
        page_cache: PageCache::Cold,
        touches: 1 << 30,
        needs: vec![mounting.set],
        rival: None,
        ours: ours(stage, mounting),
        other,
        bar: None,
        memory: Memory {
            bar: memory,
            ..Memory::PEAK
        },
    }
}

fn ours(stage: &Rc<Stage>, mounting: Mounting) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let cache = stage.fresh()?;
        if mounting.again {
            mount(&stage, mounting, &cache, End::Saved)?;
        }
        let run = mount(&stage, mounting, &cache, End::Now)?;
        remove(&cache)?;
        Ok(run)
    })
}

/// When a mount is unmounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Now,
    /// When its tree was saved, which nobody waits for who works in a mount.
    Saved,
}

fn mount(stage: &Stage, mounting: Mounting, cache: &Path, end: End) -> Result<Run> {
    let session = stage.fresh()?;
    let options = ["--cache-dir", text(cache)?];
    let start = Instant::now();
    let mut mount = stage.start_mount(mounting.set, &stage.store(), &session, &options)?;
    let (peak, listed) = peak_while(mount.process(), || {
        mount.wait_until_ready()?;
        let dir = mount.point().join(mounting.dir);
        let mut list = work::command(["list", mounting.entries], &[&dir]);
        process::run(&mut list)
    });
    let time = start.elapsed();
    listed?;
    if end == End::Saved {
        wait_for_tree(cache)?;
    }
    mount.unmount()?;
    Ok(Run { time, memory: peak })
}

/// Waits until there is the index of a tree in a cache directory.
pub(super) fn wait_for_tree(cache: &Path) -> Result<()> {
    let trees = cache.join("index");
    let is_saved = || {
        let mut entries = fs::read_dir(&trees).into_iter().flatten().flatten();
        entries.any(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_saved() {
        ensure!(
            Instant::now() < deadline,
            "no tree is saved in {}",
            trees.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn making(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        process::run(&mut work::command(
            ["create", "names"],
            &[&stage.fresh_on_disk()?],
        ))
    })
}
