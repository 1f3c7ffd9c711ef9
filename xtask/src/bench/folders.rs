//! Making a manifest of a folder, comparing the two, and hashing: the program, compared with the reference implementations.
//!
//! Ours is the program from its start to its end, the references are libraries that time themselves ([`super::report`]) after
//! they were loaded. Nothing is created in a timed run but the manifest and, cold, the cache of hashes.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::harness::{Amount, Memory, PageCache, Rival, Row, Run, Side};
use super::manifests::{OPENJD, PYTHON, once, text};
use super::stage::{Set, Stage, remove};
use super::{process, report};
use crate::cargo::shown;
use crate::peers::Peer;

const GIB: u64 = 1 << 30;
/// Of the fastest that Python was seen to be, with the four files.
const PYTHON_THREADS: &str = "2";

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (cache, bar) in [
        (HashCache::Empty, 1.0 / 15.0),
        (HashCache::Full, 1.0 / 20.0),
    ] {
        for peer in Peer::ALL {
            rows.push(snapshot(stage, cache, peer, bar));
        }
    }
    for peer in Peer::ALL {
        rows.push(diff(stage, peer));
    }
    for peer in Peer::ALL {
        rows.push(hash(stage, peer));
    }
    rows
}

/// The bars are those against Python.
fn row(name: &str, set: Set, peer: Peer, bar: f64, (ours, other): (Side, Side)) -> Row {
    let (who, bar) = match peer {
        Peer::Python => (PYTHON, Some(bar)),
        Peer::Openjd => (OPENJD, None),
    };
    Row {
        name: name.to_owned(),
        compared: format!("the same by {who}"),
        page_cache: PageCache::Warm,
        touches: GIB,
        needs: vec![set],
        rival: Some(Rival::Library(peer)),
        ours,
        other,
        bar,
        memory: Memory::PEAK,
    }
}

/// What a snapshot finds in the cache of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HashCache {
    /// Nothing, and nothing is in the page cache.
    Empty,
    /// The hash of each file. The page cache is as the run before left it.
    Full,
}

fn snapshot(stage: &Rc<Stage>, cache: HashCache, peer: Peer, bar: f64) -> Row {
    let (state, page_cache) = match cache {
        HashCache::Empty => ("cold", PageCache::Cold),
        HashCache::Full => ("hash cache full", PageCache::Warm),
    };
    let other = match peer {
        Peer::Python => python_snapshot,
        Peer::Openjd => openjd_snapshot,
    };
    let sides = (
        with_cache(stage, cache, our_snapshot),
        with_cache(stage, cache, other),
    );
    let name = format!("manifest: snapshot of 100,000 small files (2023-03-03), {state}");
    Row {
        page_cache,
        ..row(&name, Set::ManyOf2023, peer, bar, sides)
    }
}

/// Takes a snapshot with this directory as the cache of hashes.
type TakeSnapshot = fn(&Stage, &Path) -> Result<Run>;

fn with_cache(stage: &Rc<Stage>, cache: HashCache, take: TakeSnapshot) -> Side {
    let (stage, filled) = (Rc::clone(stage), OnceCell::new());
    Box::new(move || match cache {
        HashCache::Empty => {
            let dir = stage.fresh()?;
            let run = take(&stage, &dir)?;
            remove(&dir)?;
            Ok(run)
        }
        HashCache::Full => {
            let fill = || {
                let dir = stage.fresh()?;
                take(&stage, &dir)?;
                Ok(dir)
            };
            take(&stage, once(&filled, fill)?)
        }
    })
}

fn our_snapshot(stage: &Stage, cache: &Path) -> Result<Run> {
    // The references are loaded before their time begins, so the program is in memory too.
    process::run(&mut stage.program().command(["--version"]))?;
    let made = stage.fresh()?;
    let mut command = stage.program().command(["snapshot", "--format"]);
    command.args(["2023-03-03", "--cache-dir"]).arg(cache);
    command.arg("--output").arg(&made).arg(stage.dir(Set::Many));
    let run = process::run(&mut command)?;
    check_manifest(stage, &made)?;
    remove(&made)?;
    Ok(run)
}

fn python_snapshot(stage: &Stage, cache: &Path) -> Result<Run> {
    let dir = stage.fresh()?;
    let report = report::python(["snapshot"], &[&stage.dir(Set::Many), cache, &dir])?;
    let made = fs::read_dir(&dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .next()
        .context("no manifest was made")??;
    check_manifest(stage, &made.path())?;
    remove(&dir)?;
    Ok(report.run(Amount::Peak))
}

/// It writes 2025-12, and only into memory: the manifest that this leaves cannot be checked.
fn openjd_snapshot(stage: &Stage, cache: &Path) -> Result<Run> {
    let request = json!({
        "what": "collect",
        "folders": [text(&stage.dir(Set::Many))?],
        "cache": text(cache)?,
        "fileChunkSizeBytes": -1,
    });
    Ok(report::openjd(&request, 0)?.run(Amount::Peak))
}

/// All manifests of a folder are the same bytes, whoever makes them.
fn check_manifest(stage: &Stage, made: &Path) -> Result<()> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let expected = stage.manifest(Set::ManyOf2023);
    ensure!(
        read(made)? == read(&expected)?,
        "{} is not {}",
        made.display(),
        expected.display()
    );
    Ok(())
}

/// Nothing has changed, and that is what has to be said.
fn diff(stage: &Rc<Stage>, peer: Peer) -> Row {
    let name = "manifest: diff with 100,000 small files, nothing changed";
    let ours = side(stage, our_diff);
    let other = match peer {
        Peer::Python => side(stage, python_diff),
        Peer::Openjd => side(stage, openjd_diff),
    };
    row(name, Set::ManyOf2023, peer, 1.0 / 60.0, (ours, other))
}

fn side(stage: &Rc<Stage>, work: fn(&Stage) -> Result<Run>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || work(&stage))
}

fn our_diff(stage: &Stage) -> Result<Run> {
    let mut command = stage.program().command(["manifest", "diff", "--json"]);
    command.arg(stage.manifest(Set::ManyOf2023));
    command.arg("--root").arg(stage.dir(Set::Many));
    let (run, output) = process::run_hearing(&mut command)?;
    let said: Value = serde_json::from_str(&output)
        .with_context(|| format!("{} said: {output}", shown(&command)))?;
    for kind in ["new", "modified", "deleted"] {
        let list = said.get(kind).and_then(Value::as_array);
        let is_empty = list.is_some_and(Vec::is_empty);
        ensure!(is_empty, "{} found changes", shown(&command));
    }
    Ok(run)
}

fn python_diff(stage: &Stage) -> Result<Run> {
    let paths = [&stage.manifest(Set::ManyOf2023), &stage.dir(Set::Many)];
    let report = report::python(["diff"], &paths.map(PathBuf::as_path))?;
    Ok(report.run(Amount::Peak))
}

/// It has no such operation, but the two of which one would be made: collecting without hashing, and comparing two manifests.
/// Their times are added; the manifest is there before, decoded.
fn openjd_diff(stage: &Stage) -> Result<Run> {
    let dir = stage.dir(Set::Many);
    let collect = json!({
        "what": "collect",
        "folders": [text(&dir)?],
        "hash": false,
        "fileChunkSizeBytes": -1,
    });
    let manifest = stage.manifest(Set::ManyOf2023);
    let manifest = text(&manifest)?;
    let compare = json!({
        "what": "diff",
        "parent": manifest,
        "current": manifest,
        "ignore_hashes": true,
    });
    let collected = report::openjd(&collect, 0)?.run(Amount::Peak);
    let compared = report::openjd(&compare, 0)?.run(Amount::Peak);
    Ok(Run {
        time: collected.time + compared.time,
        memory: collected.memory.max(compared.memory),
    })
}

/// The files are read before each run.
fn hash(stage: &Rc<Stage>, peer: Peer) -> Row {
    let ours = side(stage, |stage| {
        read_all(stage)?;
        our_hashes(stage)
    });
    let other = match peer {
        Peer::Python => side(stage, python_hashes),
        Peer::Openjd => side(stage, openjd_hashes),
    };
    row(
        "manifest: hash of 4 files of 1 GiB, warm",
        Set::Four,
        peer,
        1.0,
        (ours, other),
    )
}

fn read_all(stage: &Stage) -> Result<()> {
    for path in stage.four() {
        File::open(&path)
            .and_then(|mut file| io::copy(&mut file, &mut io::sink()))
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(())
}

fn our_hashes(stage: &Stage) -> Result<Run> {
    let (cache, made) = (stage.fresh()?, stage.fresh()?);
    let mut command = stage.program().command(["manifest", "hash"]);
    command.arg(stage.manifest(Set::Four));
    command.arg("--root").arg(stage.dir(Set::Four));
    command.args(["--force-rehash", "--cache-dir"]).arg(&cache);
    command.arg("--output").arg(&made);
    let run = process::run(&mut command)?;
    let text = fs::read_to_string(&made).context("no manifest was made")?;
    let hashes = text.matches(r#""hash":"#).count();
    ensure!(hashes == 4, "{hashes} files were hashed instead of 4");
    remove(&cache)?;
    remove(&made)?;
    Ok(run)
}

fn python_hashes(stage: &Stage) -> Result<Run> {
    read_all(stage)?;
    let files = stage.four();
    let files = files.each_ref().map(PathBuf::as_path);
    Ok(report::python(["hash", PYTHON_THREADS], &files)?.run(Amount::Peak))
}

fn openjd_hashes(stage: &Stage) -> Result<Run> {
    read_all(stage)?;
    let files = stage.four();
    let files = files.each_ref().map(|path| path.as_os_str());
    let files: Option<Vec<&str>> = files.into_iter().map(OsStr::to_str).collect();
    let request = json!({
        "what": "collect",
        "folders": [],
        "files": files.context("the files' names are not UTF-8")?,
        "fileChunkSizeBytes": -1,
    });
    Ok(report::openjd(&request, 0)?.run(Amount::Peak))
}
