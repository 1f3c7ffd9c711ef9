//! Uploading a folder to S3 and downloading it again, compared with the reference implementations.
//!
//! Ours is the program from its start to its end; the references are libraries that time themselves ([`super::report`]) after they
//! were loaded, and have their own settings. All find, hash and send the same files, which are in the page cache, and get them back
//! from the same objects. *Cold* is without what is remembered of hashes and of the bucket, *warm* with all of it. Large files are
//! downloaded to tmpfs: a disk would be slower than any of the programs.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bucket::{Bucket, in_memory, reach};
use super::harness::{Amount, Memory, PageCache, Rival, Row, Run, Side};
use super::manifests::{OPENJD, PYTHON, once, text};
use super::stage::{Set, Stage, remove};
use super::{process, report};
use crate::peers::Peer;

const GIB: u64 = 1 << 30;
const MEMORY_BAR: u64 = 256 << 20;
/// Of each request, in the row of a store far away.
pub(super) const FAR_MS: u32 = 20;
/// For that row.
const FAR_BAR: Duration = Duration::from_secs(25);

/// The bars are those against Python; that small files are uploaded sooner than by the other one is a bar too.
pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let near = Rc::new(Server::new(0));
    let far = Rc::new(Server::new(FAR_MS));
    let mut rows = Vec::new();
    for (what, python, openjd) in [
        (
            Work::Upload(Set::Small, Caches::Empty),
            1.0 / 12.0,
            Some(1.0),
        ),
        (Work::Upload(Set::Small, Caches::Full), 1.0 / 4.0, None),
        (Work::Upload(Set::Four, Caches::Empty), 1.0 / 4.5, None),
        (Work::Download(Set::Small), 1.0 / 12.0, None),
        (Work::Download(Set::Four), 1.0 / 4.0, None),
    ] {
        for (peer, bar) in [(Peer::Python, Some(python)), (Peer::Openjd, openjd)] {
            rows.push(against(stage, &near, what, peer, bar));
        }
    }
    rows.push(far_away(stage, &far));
    rows
}

/// A server that is started by the first run that needs it, and goes with the last row.
pub(super) struct Server {
    delay_ms: u32,
    bucket: OnceCell<Bucket>,
    /// What is downloaded, with the caches of who uploaded it: of all programs the same objects and the same
    /// manifest. Memory has no room for several.
    filled: RefCell<Vec<(Set, PathBuf)>>,
    /// What the server has room for that it need not find first.
    prepared: RefCell<Vec<Set>>,
}

impl Server {
    pub(super) fn new(delay_ms: u32) -> Self {
        Self {
            delay_ms,
            bucket: OnceCell::new(),
            filled: RefCell::default(),
            prepared: RefCell::default(),
        }
    }

    /// Before the first upload of these files.
    pub(super) fn prepare(&self, stage: &Stage, set: Set) -> Result<()> {
        if self.prepared.borrow().contains(&set) {
            return Ok(());
        }
        let mut lengths = Vec::new();
        lengths_below(&stage.dir(set), &mut lengths)?;
        self.bucket()?.prepare(lengths)?;
        self.prepared.borrow_mut().push(set);
        Ok(())
    }

    fn filled(&self, set: Set, fill: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
        let mut filled = self.filled.borrow_mut();
        if let Some((_, there)) = filled.iter().find(|&&(known, _)| known == set) {
            return Ok(there.clone());
        }
        let there = fill()?;
        filled.push((set, there.clone()));
        Ok(there)
    }

    pub(super) fn bucket(&self) -> Result<&Bucket> {
        if let Some(bucket) = self.bucket.get() {
            return Ok(bucket);
        }
        let bucket = Bucket::start(self.delay_ms)?;
        Ok(self.bucket.get_or_init(|| bucket))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Upload(Set, Caches),
    Download(Set),
}

/// What an upload remembers of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caches {
    Empty,
    Full,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Ours,
    Other(Peer),
}

fn describe(set: Set) -> &'static str {
    match set {
        Set::Four => "4 files of 1 GiB",
        Set::Tiny => "60,000 files of 101 B",
        _ => "5,000 files of 64 KiB",
    }
}

fn against(
    stage: &Rc<Stage>,
    server: &Rc<Server>,
    work: Work,
    peer: Peer,
    bar: Option<f64>,
) -> Row {
    let (name, set) = match work {
        Work::Upload(set, Caches::Empty) => ("upload of {}, cold caches", set),
        Work::Upload(set, Caches::Full) => ("upload of {}, warm caches", set),
        Work::Download(set) => ("download of {}", set),
    };
    let who = match peer {
        Peer::Python => PYTHON,
        Peer::Openjd => OPENJD,
    };
    let verified = match (work, peer) {
        (Work::Download(_), Peer::Python) => ", which does not verify",
        _ => "",
    };
    Row {
        name: format!("transfer: {}", name.replace("{}", describe(set))),
        compared: format!("the same by {who}{verified}"),
        page_cache: PageCache::Warm,
        touches: if set == Set::Four { 8 * GIB } else { 2 * GIB },
        needs: vec![set],
        rival: Some(Rival::Library(peer)),
        ours: side(stage, server, work, Who::Ours),
        other: side(stage, server, work, Who::Other(peer)),
        bar,
        memory: Memory {
            amount: Amount::Peak,
            bar: Some(MEMORY_BAR),
        },
    }
}

/// What Python takes is known without waiting for it: two requests a file, ten at a time at best. So the other side is the bar.
fn far_away(stage: &Rc<Stage>, server: &Rc<Server>) -> Row {
    let set = Set::Tiny;
    Row {
        name: format!(
            "transfer: upload of {} at {FAR_MS} ms a request, cold caches",
            describe(set)
        ),
        compared: format!("{} s, which nobody measured", FAR_BAR.as_secs()),
        page_cache: PageCache::Warm,
        touches: 2 * GIB,
        needs: vec![set],
        rival: None,
        ours: side(stage, server, Work::Upload(set, Caches::Empty), Who::Ours),
        other: Box::new(|| {
            Ok(Run {
                time: FAR_BAR,
                memory: 0,
            })
        }),
        bar: Some(1.0),
        memory: Memory {
            amount: Amount::Peak,
            bar: Some(MEMORY_BAR),
        },
    }
}

pub(super) fn side(stage: &Rc<Stage>, server: &Rc<Server>, work: Work, who: Who) -> Side {
    let (stage, server) = (Rc::clone(stage), Rc::clone(server));
    let kept = OnceCell::new();
    Box::new(move || {
        let run = OneRun {
            stage: &stage,
            bucket: server.bucket()?,
            who,
        };
        match work {
            Work::Upload(set, Caches::Empty) => {
                server.prepare(&stage, set)?;
                let cache = stage.fresh()?;
                let taken = run.upload(set, &cache)?;
                run.bucket.delete(prefix(&cache)?)?;
                remove(&cache)?;
                Ok(taken)
            }
            Work::Upload(set, Caches::Full) => {
                let fill = || {
                    let cache = stage.fresh()?;
                    run.upload(set, &cache)?;
                    Ok(cache)
                };
                run.upload(set, once(&kept, fill)?)
            }
            Work::Download(set) => {
                let fill = || {
                    let cache = stage.fresh()?;
                    let ours = OneRun {
                        who: Who::Ours,
                        ..run
                    };
                    ours.upload(set, &cache)?;
                    Ok(cache)
                };
                run.download(set, &server.filled(set, fill)?)
            }
        }
    })
}

/// The prefix in the bucket has the name of the directory of the caches, which no other run has.
fn prefix(cache: &Path) -> Result<&str> {
    text(Path::new(
        cache.file_name().context("the caches have no name")?,
    ))
}

/// Where an upload by the program leaves its manifest.
fn manifest(cache: &Path) -> PathBuf {
    cache.join("uploaded.manifest")
}

#[derive(Clone, Copy)]
struct OneRun<'a> {
    stage: &'a Stage,
    bucket: &'a Bucket,
    who: Who,
}

impl OneRun<'_> {
    fn upload(&self, set: Set, cache: &Path) -> Result<Run> {
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        read_all(&self.stage.dir(set))?;
        let (dir, prefix) = (self.stage.dir(set), prefix(cache)?);
        let run = match self.who {
            Who::Ours => {
                let mut command = self.ours(&["snapshot", "--format", "2023-03-03"], cache)?;
                command.arg("--output").arg(manifest(cache)).arg(&dir);
                process::run(&mut command)?
            }
            Who::Other(Peer::Python) => {
                let words = ["upload", Bucket::NAME, prefix];
                let paths = [dir.as_path(), cache];
                report::python_with(words, &paths, |command| reach(command, self.bucket))?
                    .run(Amount::Peak)
            }
            Who::Other(Peer::Openjd) => {
                let mut request = self.bucket.fields(prefix);
                request["what"] = "upload".into();
                request["folders"] = Value::Array(vec![text(&dir)?.into()]);
                request["cache"] = text(cache)?.into();
                request["fileChunkSizeBytes"] = (-1).into();
                report::openjd(&request, 0)?.run(Amount::Peak)
            }
        };
        self.bucket.check(prefix, self.stage.files(set))?;
        Ok(run)
    }

    fn download(&self, set: Set, filled: &Path) -> Result<Run> {
        let root = match set {
            Set::Four => in_memory("downloaded")?,
            _ => self.stage.fresh_on_disk()?,
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let (manifest, prefix) = (manifest(filled), prefix(filled)?);
        let run = match self.who {
            Who::Ours => {
                // Also of downloads no cache is left by the one before.
                let cache = self.stage.fresh()?;
                let mut command = self.ours(&["download", "--json"], &cache)?;
                command.arg("--store").arg(Bucket::address(prefix));
                command.arg(&manifest).arg("--root").arg(&root);
                let run = process::run(&mut command)?;
                remove(&cache)?;
                run
            }
            Who::Other(Peer::Python) => {
                let words = ["download", Bucket::NAME, prefix];
                let paths = [manifest.as_path(), &root];
                report::python_with(words, &paths, |command| reach(command, self.bucket))?
                    .run(Amount::Peak)
            }
            Who::Other(Peer::Openjd) => {
                let mut request = self.bucket.fields(prefix);
                request["what"] = "download".into();
                request["path"] = text(&manifest)?.into();
                request["root"] = text(&root)?.into();
                report::openjd(&request, 0)?.run(Amount::Peak)
            }
        };
        let (files, bytes) = found(&root)?;
        let expected = found(&self.stage.dir(set))?;
        ensure!(
            (files, bytes) == expected,
            "{files} files with {bytes} bytes were downloaded instead of {expected:?}"
        );
        if set == Set::Four {
            remove(&root)?;
        }
        Ok(run)
    }

    /// The program, with this directory for all that it remembers.
    fn ours(&self, verb: &[&str], cache: &Path) -> Result<Command> {
        let program = self.stage.program();
        // The references are loaded before their time begins, so the program is in memory too.
        process::run(&mut program.command(["--version"]))?;
        let words = self.bucket.words();
        let mut command = program.command(words.iter().chain(verb).copied());
        reach(&mut command, self.bucket);
        command.env("XDG_CACHE_HOME", cache);
        if verb[0] == "snapshot" {
            let store = Bucket::address(prefix(cache)?);
            command
                .arg("--cache-dir")
                .arg(cache)
                .arg("--store")
                .arg(store);
        }
        Ok(command)
    }
}

/// Brings a folder into the page cache.
fn read_all(dir: &Path) -> Result<()> {
    for entry in list(dir)? {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path)?;
        } else {
            let read = fs::File::open(&path)
                .and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
            read.with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    Ok(())
}

/// How many files a folder has, and their bytes.
fn found(dir: &Path) -> Result<(usize, u64)> {
    let mut lengths = Vec::new();
    lengths_below(dir, &mut lengths)?;
    Ok((lengths.len(), lengths.iter().sum()))
}

/// The lengths of all files of a folder.
fn lengths_below(dir: &Path, lengths: &mut Vec<u64>) -> Result<()> {
    for entry in list(dir)? {
        let path = entry.path();
        let meta = entry.metadata();
        let meta = meta.with_context(|| format!("cannot find {}", path.display()))?;
        if meta.is_dir() {
            lengths_below(&path, lengths)?;
        } else {
            lengths.push(meta.len());
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect);
    entries.with_context(|| format!("cannot list {}", dir.display()))
}
