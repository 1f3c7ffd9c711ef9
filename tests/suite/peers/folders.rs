//! Random folders with links, on a real file system, as the program and the references list them.
//!
//! Every folder stands beside another one, `out`, that its links may lead into; nothing leads further.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;

use crate::golden::set_mtime;

/// What lies at a path.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Dir,
    File {
        bytes: Vec<u8>,
        executable: bool,
        /// Nanoseconds.
        mtime: i64,
    },
    /// Its text; `TOP` at its beginning is the directory that holds both folders.
    Link(String),
}

/// By paths that begin with `root/` or `out/`.
pub(super) type Folder = BTreeMap<String, Kind>;

/// Folders are made and programs started, so fewer of them.
pub(super) fn few() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: (usual.cases / 10).max(1),
        max_shrink_iters: 200,
        ..usual
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c.x", ".h", "d e", "\u{e9}", "~"])
}

fn below() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"))
}

fn place() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["root", "root", "root", "out"]),
        below(),
    )
        .prop_map(|(top, below)| format!("{top}/{below}"))
}

fn link() -> impl Strategy<Value = Kind> {
    let start = prop::sample::select(vec![
        "",
        "",
        "./",
        "../",
        "../../",
        "../out/",
        "../../out/",
        "TOP/root/",
        "TOP/out/",
    ]);
    (start, below()).prop_map(|(start, below)| Kind::Link(format!("{start}{below}")))
}

pub(super) fn file() -> impl Strategy<Value = Kind> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    (bytes, any::<bool>(), 0..1_i64 << 60).prop_map(|(bytes, executable, mtime)| Kind::File {
        bytes,
        executable,
        mtime,
    })
}

pub(super) fn folder() -> impl Strategy<Value = Folder> {
    let kind = prop_oneof![4 => file().boxed(), 1 => Just(Kind::Dir).boxed(), 2 => link().boxed()];
    prop::collection::btree_map(place(), kind, 0..14).prop_map(|all| fitting(&all))
}

/// Leaves out what would lie below a file or link.
pub(super) fn fitting(all: &Folder) -> Folder {
    let is_file = |path: &str| matches!(all.get(path), Some(Kind::File { .. } | Kind::Link(_)));
    all.iter()
        .filter(|(path, _)| !above(path).any(is_file))
        .map(|(path, kind)| (path.clone(), kind.clone()))
        .collect()
}

/// The directories of a path, the nearest first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

/// Where a link leads, as text, from the directory that holds both folders; `None` if it leads out of that.
pub(super) fn target(path: &str, text: &str) -> Option<String> {
    let mut parts: Vec<&str> = match text.strip_prefix("TOP/") {
        Some(_) => Vec::new(),
        None => path
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    for part in text.strip_prefix("TOP/").unwrap_or(text).split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

pub(super) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a path is there as a directory, listed or not.
pub(super) fn is_dir(folder: &Folder, path: &str) -> bool {
    matches!(folder.get(path), Some(Kind::Dir)) || folder.keys().any(|other| is_below(other, path))
}

/// The same without the links that are not kept: `keep` gets a link's path and where it leads.
pub(super) fn with_links(folder: &Folder, keep: impl Fn(&Folder, &str, &str) -> bool) -> Folder {
    let mut folder = folder.clone();
    loop {
        let kept = folder.iter().filter(|(path, kind)| match kind {
            Kind::Link(text) => {
                target(path, text).is_some_and(|target| keep(&folder, path, &target))
            }
            _ => true,
        });
        let kept: Folder = kept
            .map(|(path, kind)| (path.clone(), kind.clone()))
            .collect();
        if kept.len() == folder.len() {
            return kept;
        }
        folder = kept;
    }
}

/// Whether a link lies on the way to a path, or at it.
pub(super) fn leads_through_a_link(folder: &Folder, path: &str) -> bool {
    let is_link = |path: &str| matches!(folder.get(path), Some(Kind::Link(_)));
    above(path).chain([path]).any(is_link)
}

/// Whether there is nothing but files in a directory and those below it, and something in each.
pub(super) fn is_plain(folder: &Folder, directory: &str) -> bool {
    let mut below = folder
        .iter()
        .filter(|(path, _)| is_below(path, directory))
        .peekable();
    below.peek().is_some() && below.all(|(_, kind)| matches!(kind, Kind::File { .. }))
}

/// Makes both folders in `top`.
pub(super) fn build(folder: &Folder, top: &Path) {
    for place in ["root", "out"] {
        fs::create_dir_all(top.join(place)).unwrap();
    }
    for (path, kind) in folder {
        let place = top.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match kind {
            Kind::Dir => fs::create_dir_all(place).unwrap(),
            Kind::Link(text) => {
                let text = match text.strip_prefix("TOP") {
                    Some(rest) => format!("{}{rest}", top.to_str().unwrap()),
                    None => text.clone(),
                };
                symlink(text, place).unwrap();
            }
            Kind::File { .. } => write(kind, &place),
        }
    }
}

/// Writes a file, over one that may be there.
pub(super) fn write(kind: &Kind, place: &Path) {
    let Kind::File {
        bytes,
        executable,
        mtime,
    } = kind
    else {
        panic!("only files are written");
    };
    fs::write(place, bytes).unwrap();
    let mode = if *executable { 0o755 } else { 0o644 };
    fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
    set_mtime(place, *mtime);
}
