//! Many paths through many mapping rules, compared with the library of AWS, which has a trie, too.
//!
//! ```text
//! X:\Projects\Show03\sq012\sh0140 -> /mnt/show03/012/140                10,000 rules, one a shot
//! x:/projects/Show03/SQ012/sh0140/beauty/v003/beauty.1001.exr           a hundred paths each, written as people write them
//! ```
//! The bar is absolute, half a second. Where Python took 6.6 s, that is 0.075 of it.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::harness::{Amount, Memory, PageCache, Rival, Row, Side};
use super::manifests::{PYTHON, once};
use super::report;
use super::stage::Stage;
use crate::peers::Peer;

const RULES: usize = 10_000;
const PATHS_EACH: usize = 100;
const SHOTS_EACH: usize = 20;
const SEQUENCES_EACH: usize = 50;
const MIB: u64 = 1 << 20;

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let files = Rc::new(OnceCell::new());
    let amount = Amount::Peak;
    let (ours, of_ours) = (Rc::clone(stage), Rc::clone(&files));
    let ours: Side = Box::new(move || {
        let dir = once(&of_ours, || write(&ours))?;
        let files = [dir.join("rules"), dir.join("paths")];
        Ok(report::library(["map"], &files.each_ref().map(PathBuf::as_path))?.run(amount))
    });
    let (python, of_python) = (Rc::clone(stage), files);
    let python: Side = Box::new(move || {
        let dir = once(&of_python, || write(&python))?;
        let files = [dir.join("rules"), dir.join("paths")];
        Ok(report::python(["map"], &files.each_ref().map(PathBuf::as_path))?.run(amount))
    });
    vec![Row {
        name: "paths: 10,000 mapping rules over 1,000,000 paths of Windows".to_owned(),
        compared: format!("the same by {PYTHON}"),
        page_cache: PageCache::Warm,
        touches: 500 * MIB,
        needs: Vec::new(),
        rival: Some(Rival::Library(Peer::Python)),
        ours,
        other: python,
        bar: Some(0.075),
        memory: Memory { amount, bar: None },
    }]
}

/// The show, the sequence and the shot of a rule.
fn shot(rule: usize) -> (usize, usize, usize) {
    let (sequence, shot) = (rule / SHOTS_EACH, rule % SHOTS_EACH * 10);
    (sequence / SEQUENCES_EACH, sequence % SEQUENCES_EACH, shot)
}

fn rule(number: usize) -> Value {
    let (show, sequence, shot) = shot(number);
    json!({
        "source_path_format": "windows",
        "source_path": format!(r"X:\Projects\Show{show:02}\sq{sequence:03}\sh{shot:04}"),
        "destination_path": format!("/mnt/show{show:02}/{sequence:03}/{shot}"),
    })
}

/// Neighbours are of different rules, as they are not where one folder after the other is mapped: that is the harder case.
fn path(number: usize) -> String {
    let (show, sequence, shot) = shot(number % RULES);
    let frame = 1001 + number / RULES;
    format!("x:/projects/Show{show:02}/SQ{sequence:03}/sh{shot:04}/beauty/v003/beauty.{frame}.exr")
}

/// The directory of both files.
fn write(stage: &Stage) -> Result<PathBuf> {
    let dir = stage.fresh()?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let rules: Value = (0..RULES).map(rule).collect();
    fs::write(dir.join("rules"), rules.to_string()).context("cannot write the rules")?;
    let mut out = BufWriter::new(File::create(dir.join("paths")).context("cannot make a file")?);
    for number in 0..RULES * PATHS_EACH {
        writeln!(out, "{}", path(number)).context("cannot write the paths")?;
    }
    out.flush().context("cannot write the paths")?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_paths() {
        assert_eq!(
            rule(RULES - 1)["source_path"],
            r"X:\Projects\Show09\sq049\sh0190"
        );
        assert_eq!(
            path(RULES * PATHS_EACH - 1),
            "x:/projects/Show09/SQ049/sh0190/beauty/v003/beauty.1100.exr"
        );
        let sources: std::collections::BTreeSet<_> = (0..RULES).map(shot).collect();
        assert_eq!(sources.len(), RULES);
    }
}
