//! What the library does with a manifest of 1,000,000 entries in memory, compared with the reference implementations.
//!
//! All sides time themselves ([`super::report`]): starting a program and, unless the row says so, reading its input are not counted.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::json;

use super::harness::{Amount, Memory, PageCache, Rival, Row, Side};
use super::stage::{Set, Stage};
use super::{entries, report};
use crate::peers::Peer;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

pub(super) const PYTHON: &str = "deadline-job-attachments (Python)";
pub(super) const OPENJD: &str = "openjd-snapshots (Rust)";

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let over_text = Memory {
        amount: Amount::OverText,
        bar: None,
    };
    vec![
        Row {
            bar: Some(1.0 / 7.0),
            memory: Memory {
                bar: Some(100 * MIB),
                ..over_text
            },
            ..against_python(stage, "decode", "decode and check", Amount::OverText)
        },
        against_openjd(stage, "decode", "decode and check", Set::Entries),
        against_openjd(stage, "decode", "decode and check", Set::EntriesOf2025),
        tree(stage),
        index(stage),
        Row {
            bar: Some(1.0 / 12.0),
            ..against_python(stage, "encode", "encode", Amount::Peak)
        },
        against_openjd(stage, "encode", "encode", Set::EntriesOf2025),
    ]
}

fn row(name: String, compared: String, needs: Set, (ours, other): (Side, Side)) -> Row {
    Row {
        name,
        compared,
        page_cache: PageCache::Warm,
        // What the hungriest side takes.
        touches: 3 * GIB,
        needs: vec![needs],
        rival: None,
        ours,
        other,
        bar: None,
        memory: Memory::PEAK,
    }
}

fn named(what: &str, set: Set) -> String {
    let format = match set {
        Set::EntriesOf2025 => "2025-12",
        _ => "2023-03-03",
    };
    format!("manifest: {what} 1,000,000 entries ({format})")
}

fn ours(stage: &Rc<Stage>, word: &'static str, set: Set, amount: Amount) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || Ok(report::library([word], &[&stage.manifest(set)])?.run(amount)))
}

fn python(stage: &Rc<Stage>, word: &'static str, amount: Amount) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || Ok(report::python([word], &[&stage.manifest(Set::Entries)])?.run(amount)))
}

fn against_python(stage: &Rc<Stage>, word: &'static str, what: &str, amount: Amount) -> Row {
    let set = Set::Entries;
    let sides = (ours(stage, word, set, amount), python(stage, word, amount));
    Row {
        rival: Some(Rival::Library(Peer::Python)),
        memory: Memory { amount, bar: None },
        ..row(
            named(what, set),
            format!("the same by {PYTHON}"),
            set,
            sides,
        )
    }
}

/// Its driver writes 2025-12 only.
fn against_openjd(stage: &Rc<Stage>, word: &'static str, what: &str, set: Set) -> Row {
    let amount = match word {
        "decode" => Amount::OverText,
        _ => Amount::Peak,
    };
    let other = Rc::clone(stage);
    let other: Side = Box::new(move || {
        let path = other.manifest(set);
        let request = json!({ "what": word, "path": text(&path)? });
        Ok(report::openjd(&request, length(&path)?)?.run(amount))
    });
    let sides = (ours(stage, word, set, amount), other);
    Row {
        rival: Some(Rival::Library(Peer::Openjd)),
        memory: Memory { amount, bar: None },
        ..row(
            named(what, set),
            format!("the same by {OPENJD}"),
            set,
            sides,
        )
    }
}

/// The program that is to be beaten five times cannot be had from a registry. Where it took 2.7 s, Python took 2.1 s to decode the
/// same manifest; so 2.7 s / 5 is 0.26 of that.
fn tree(stage: &Rc<Stage>) -> Row {
    let (set, amount) = (Set::Entries, Amount::EachEntry);
    let sides = (
        ours(stage, "tree", set, amount),
        python(stage, "decode", amount),
    );
    Row {
        rival: Some(Rival::Library(Peer::Python)),
        bar: Some(0.26),
        memory: Memory {
            amount,
            bar: Some(100),
        },
        ..row(
            named("tree, ready to serve, of", set),
            format!("decoding alone by {PYTHON}"),
            set,
            sides,
        )
    }
}

/// The index is saved before the first run. That only the pages on the way to the file are read shows in what is kept.
fn index(stage: &Rc<Stage>) -> Row {
    let (set, amount) = (Set::Entries, Amount::EachEntry);
    let (opening, saved) = (Rc::clone(stage), OnceCell::new());
    let opened: Side = Box::new(move || {
        let index = once(&saved, || save(&opening, set))?;
        let path = entries::path(opening.entries() / 2);
        Ok(report::library(["index-open"], &[index, Path::new(&path)])?.run(amount))
    });
    let sides = (opened, ours(stage, "tree", set, amount));
    Row {
        bar: Some(1.0 / 20.0),
        memory: Memory {
            amount,
            bar: Some(5),
        },
        ..row(
            named("saved index, until a file is found in it, of", set),
            "making the tree from the manifest".to_owned(),
            set,
            sides,
        )
    }
}

fn save(stage: &Stage, set: Set) -> Result<PathBuf> {
    let index = stage.fresh()?;
    report::library(["index-save"], &[&stage.manifest(set), &index])?;
    let first = entries::path(stage.entries() / 2);
    let opened = report::library(["index-open"], &[&index, Path::new(&first)])?;
    if let Some(pages) = opened.pages {
        let size = length(&index)? as f64 / MIB as f64;
        println!("  {pages} pages of an index of {size:.1} MiB are looked at");
    }
    Ok(index)
}

/// What is made before the first run and used by all.
pub(super) fn once(
    made: &OnceCell<PathBuf>,
    make: impl FnOnce() -> Result<PathBuf>,
) -> Result<&Path> {
    if let Some(path) = made.get() {
        return Ok(path);
    }
    let path = make()?;
    Ok(made.get_or_init(|| path))
}

/// A path as a driver's request has it.
pub(super) fn text(path: &Path) -> Result<&str> {
    let text = path.to_str();
    text.with_context(|| format!("{} is not UTF-8", path.display()))
}

pub(super) fn length(path: &Path) -> Result<u64> {
    let meta = fs::metadata(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(meta.len())
}
