//! The pieces of work.
//!
//! | word | inside the time | before it | checked after it |
//! |---|---|---|---|
//! | `decode` | the text in memory to a checked manifest | reading the file | it has entries |
//! | `encode` | the manifest to its text in the format it had, in memory | reading and decoding | the text is the file's, byte by byte |
//! | `tree` | reading the file, decoding, layering as a mount does, building the tree, letting go of all but that | | it has entries |
//! | `index-save` | the tree to a file, durably | the same as `tree` | |
//! | `index-open` | opening a saved index as a mount does, and finding one path: its kind and where its bytes are | | it is a file |
//! | `map` | the rules to a trie, then each path through it to its place | reading the rules and the paths, a line each | every path had a rule |
//! | `rewrite` | (2023-03-03 to 2025-12: makes a file to measure with) | | |

use std::fs;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use attachfs_durable::{OwnFile, publish};
use attachfs_manifest::wire::{self, Format, Manifest};
use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_paths::{Mapping, PathFormat, parse_rules};
use attachfs_tree::{
    BaseTree, Composed, IndexIdentity, IndexSource, Ino, Layer, LayerOptions, compose,
};
use clap::Subcommand;
use serde::Serialize;

use crate::measure::{Figures, measured};

/// What the saved index is said to be made of; a mount takes a hash of its manifests.
const LAYERS: ContentHash = ContentHash::from_bytes([0x5a; 16]);

#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// Reads a manifest and checks it
    Decode { file: PathBuf },
    /// Writes a manifest
    Encode { file: PathBuf },
    /// Makes the tree that a mount of the manifest serves
    Tree { file: PathBuf },
    /// Saves that tree
    IndexSave { file: PathBuf, index: PathBuf },
    /// Opens a saved tree and finds a file in it
    IndexOpen { index: PathBuf, path: String },
    /// Maps the paths of a file by the rules of another one
    Map { rules: PathBuf, paths: PathBuf },
    /// Writes a 2023-03-03 manifest as 2025-12; nothing is timed
    Rewrite { file: PathBuf, to: PathBuf },
}

/// The line that is printed.
#[derive(Debug, Default, Serialize)]
struct Report {
    seconds: f64,
    /// Length of the text that was read or made, in bytes.
    text: u64,
    /// The peak of anonymous memory, in bytes.
    peak_anon: u64,
    /// Bytes kept for each entry.
    kept: f64,
    /// How many pages of the index were looked at, its header left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
}

impl Report {
    fn new(figures: Figures, text: u64, entries: usize) -> Self {
        Self {
            seconds: figures.seconds,
            text,
            peak_anon: figures.peak_anon,
            kept: figures.kept as f64 / entries.max(1) as f64,
            pages: None,
        }
    }
}

/// Does it and gives the line to print.
pub(crate) fn run(work: &Work) -> Result<String> {
    let report = match work {
        Work::Decode { file } => decode(file)?,
        Work::Encode { file } => encode(file)?,
        Work::Tree { file } => tree(file)?,
        Work::IndexSave { file, index } => index_save(file, index)?,
        Work::IndexOpen { index, path } => index_open(index, path)?,
        Work::Map { rules, paths } => map(rules, paths)?,
        Work::Rewrite { file, to } => rewrite(file, to)?,
    };
    Ok(serde_json::to_string(&report)?)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn entries(manifest: &Manifest) -> Result<usize> {
    let count = match manifest {
        Manifest::Snapshot(snapshot) => snapshot.len(),
        Manifest::Diff(diff) => diff.changes().count(),
    };
    ensure!(count > 0, "the manifest is empty");
    Ok(count)
}

fn decode(file: &Path) -> Result<Report> {
    let text = read(file)?;
    let (manifest, figures) = measured(|| Ok(wire::decode(&text)?.1))?;
    Ok(Report::new(figures, text.len() as u64, entries(&manifest)?))
}

fn encode(file: &Path) -> Result<Report> {
    let (format, manifest) = wire::decode(&read(file)?)?;
    let (made, figures) = measured(|| Ok(wire::encode(&manifest, format)?))?;
    ensure!(
        made == read(file)?,
        "what was encoded is not what was decoded"
    );
    Ok(Report::new(figures, made.len() as u64, entries(&manifest)?))
}

/// The tree of a file, and the length of the file.
fn build(file: &Path) -> Result<(BaseTree, ContentHash, u64)> {
    let text = read(file)?;
    let layer = Layer::decode(&text, None)?;
    let Composed { snapshot, hash } = compose(vec![layer], &LayerOptions::default())?;
    Ok((BaseTree::build(&snapshot)?, hash, text.len() as u64))
}

fn tree(file: &Path) -> Result<Report> {
    let ((tree, _, text), figures) = measured(|| build(file))?;
    ensure!(!tree.is_empty(), "the manifest is empty");
    Ok(Report::new(figures, text, tree.len()))
}

fn index_save(file: &Path, path: &Path) -> Result<Report> {
    let (tree, composed, text) = build(file)?;
    let layers = LAYERS;
    let ((), figures) = measured(|| {
        let identity = IndexIdentity { layers, composed };
        let index = tree.index(&identity).context("the tree has no index")?;
        Ok(publish(path, |file| {
            index.write(|part| file.write_all(part))
        })?)
    })?;
    Ok(Report::new(figures, text, tree.len()))
}

/// A file that counts how often it was read.
#[derive(Debug)]
struct Counted {
    file: OwnFile,
    reads: Arc<AtomicU64>,
}

impl IndexSource for Counted {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.file.read_at(offset, len).map(Vec::from)
    }
}

fn index_open(index: &Path, path: &str) -> Result<Report> {
    let path = ManifestPath::new(path.as_bytes())?;
    let reads = Arc::new(AtomicU64::new(0));
    let ((tree, pages), figures) = measured(|| {
        let source = Counted {
            file: OwnFile::open(index)?,
            reads: Arc::clone(&reads),
        };
        let tree = BaseTree::open(Box::new(source), LAYERS, Box::new(|_| None))?;
        let opened = reads.load(Ordering::Relaxed);
        let mut at = Some(Ino::ROOT);
        for name in path.as_bytes().split(|&byte| byte == b'/') {
            at = at.and_then(|dir| tree.child(dir, name));
        }
        let found = at.and_then(|ino| tree.layout(ino));
        ensure!(found.is_some(), "{path} is not a file of the index");
        Ok((tree, reads.load(Ordering::Relaxed) - opened))
    })?;
    let mut report = Report::new(figures, 0, tree.len());
    report.pages = Some(pages);
    Ok(report)
}

fn map(rules: &Path, paths: &Path) -> Result<Report> {
    let rules = parse_rules(&read(rules)?)?;
    let text = read(paths)?;
    let paths: Vec<&[u8]> = text.trim_ascii_end().split(|&byte| byte == b'\n').collect();
    let (mapped, figures) = measured(|| {
        let mapping = Mapping::new(&rules, PathFormat::Posix)?;
        let mut mapped = 0;
        for path in &paths {
            mapped += usize::from(black_box(mapping.map(path)?).is_some());
        }
        Ok(mapped)
    })?;
    ensure!(mapped == paths.len(), "{mapped} paths have a rule");
    Ok(Report::new(figures, text.len() as u64, mapped))
}

fn rewrite(file: &Path, to: &Path) -> Result<Report> {
    let (_, manifest) = wire::decode(&read(file)?)?;
    let text = wire::encode(&manifest, Format::V2025_12)?;
    fs::write(to, &text).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(Report {
        text: text.len() as u64,
        ..Report::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        r#"{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":["#,
        r#"{"hash":"0123456789abcdef0123456789abcdef","mtime":5,"path":"a/b/c","size":7}],"totalSize":7}"#
    );

    fn said(work: &Work) -> serde_json::Value {
        serde_json::from_str(&run(work).unwrap()).unwrap()
    }

    #[test]
    fn each_piece_of_work_says_what_it_took() {
        let temp = tempfile::tempdir().unwrap();
        let (file, index) = (temp.path().join("text"), temp.path().join("index"));
        let newer = temp.path().join("newer");
        fs::write(&file, TEXT).unwrap();
        run(&Work::Rewrite {
            file: file.clone(),
            to: newer.clone(),
        })
        .unwrap();
        for file in [file, newer] {
            let len = fs::metadata(&file).unwrap().len();
            let works = [
                Work::Decode { file: file.clone() },
                Work::Encode { file: file.clone() },
                Work::Tree { file: file.clone() },
                Work::IndexSave {
                    file,
                    index: index.clone(),
                },
            ];
            for work in works {
                let said = said(&work);
                assert_eq!(said["text"], len, "{work:?}");
                assert!(said["seconds"].as_f64().unwrap() > 0.0, "{work:?}");
                assert!(said["peak_anon"].as_u64().unwrap() > 0, "{work:?}");
            }
        }
        let path = "a/b/c".to_owned();
        // Records, names and hashes; there are no links.
        assert_eq!(said(&Work::IndexOpen { index, path })["pages"], 3);
    }

    #[test]
    fn paths_are_mapped_if_all_have_a_rule() {
        let temp = tempfile::tempdir().unwrap();
        let (rules, paths) = (temp.path().join("rules"), temp.path().join("paths"));
        let rule = r#"{"source_path_format":"posix","source_path":"/a","destination_path":"/b"}"#;
        fs::write(&rules, format!("[{rule}]")).unwrap();
        let work = Work::Map {
            rules,
            paths: paths.clone(),
        };
        fs::write(&paths, "/a/b\n/a/c\n").unwrap();
        assert!(said(&work)["seconds"].as_f64().unwrap() > 0.0);
        fs::write(&paths, "/a/b\n/b/c\n").unwrap();
        let error = run(&work).unwrap_err();
        assert_eq!(error.to_string(), "1 paths have a rule");
    }

    #[test]
    fn a_path_that_is_not_there_is_no_measurement() {
        let temp = tempfile::tempdir().unwrap();
        let (file, index) = (temp.path().join("text"), temp.path().join("index"));
        fs::write(&file, TEXT).unwrap();
        run(&Work::IndexSave {
            file,
            index: index.clone(),
        })
        .unwrap();
        let path = "a/b".to_owned();
        let error = run(&Work::IndexOpen { index, path }).unwrap_err();
        assert_eq!(error.to_string(), "a/b is not a file of the index");
    }
}
