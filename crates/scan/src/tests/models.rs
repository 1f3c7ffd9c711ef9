//! Random trees with links: compares the walk with a simple one that filters afterwards, and a
//! transitive collection with what the kernel finds behind each link.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use attachfs_manifest::{LinkTarget, ManifestPath, PathFilter};
use proptest::prelude::*;
use rustix::io::Errno;
use tempfile::TempDir;

use super::{line, policy, skipped};
use crate::{
    Collection, EntryKind, Scan, ScanOptions, Silent, SkipReason, SymlinkPolicy, scan,
    scan_absolute,
};

#[derive(Debug, Clone)]
enum Thing {
    File,
    Dir,
    /// `@` in the text stands for the folder that holds everything.
    Link(String),
}

type Tree = Vec<(String, Thing)>;

fn any_tree(link: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = Tree> {
    let thing = prop_oneof![
        4 => Just(Thing::File),
        2 => Just(Thing::Dir),
        3 => link.prop_map(Thing::Link),
    ];
    prop::collection::vec((any_path(), thing), 1..14)
}

fn any_path() -> impl Strategy<Value = String> {
    let top = prop::sample::select(vec!["root", "root", "root", "out"]);
    (top, prop::collection::vec("[abc]", 1..4))
        .prop_map(|(top, names)| format!("{top}/{}", names.join("/")))
}

fn any_text() -> impl Strategy<Value = String> + Clone {
    let texts = [
        "a",
        "b/c",
        ".",
        "..",
        "../a",
        "../b/c",
        "../../out",
        "../out/a",
        "../../root/b",
        "./c//",
        "@/out",
        "@/out/b",
        "@/root",
        "@/root/a",
        "none",
        "@/none",
    ];
    prop::sample::select(texts.map(str::to_owned).to_vec())
}

/// Link texts with the same meaning whether or not links on the way are followed.
fn plain_text() -> impl Strategy<Value = String> + Clone {
    let texts = [
        "a",
        "b",
        "c",
        "none",
        "@/out",
        "@/out/a",
        "@/out/b/c",
        "@/root",
        "@/root/a",
        "@/root/b/c",
        "@/far",
        "@/none",
    ];
    prop::sample::select(texts.map(str::to_owned).to_vec())
}

fn plant(tree: &Tree) -> (TempDir, PathBuf) {
    let temp = TempDir::new().unwrap();
    let top = temp.path().canonicalize().unwrap();
    for name in ["root", "out"] {
        fs::create_dir(top.join(name)).unwrap();
    }
    fs::write(top.join("far"), "").unwrap();
    for (path, thing) in tree {
        let path = top.join(path);
        let parent = path.parent().unwrap();
        let through_link = path.ancestors().any(Path::is_symlink);
        if through_link || path.exists() || fs::create_dir_all(parent).is_err() {
            continue;
        }
        match thing {
            Thing::File => fs::write(&path, "").unwrap(),
            Thing::Dir => fs::create_dir(&path).unwrap(),
            Thing::Link(text) => {
                symlink(text.replace('@', top.to_str().unwrap()), &path).unwrap();
            }
        }
    }
    (temp, top)
}

/// A walk that reads everything, one entry after the other.
struct Plain {
    symlinks: SymlinkPolicy,
    lines: BTreeSet<String>,
    skipped: BTreeSet<(String, String)>,
    /// Those of them that are links to directories.
    cut: BTreeSet<String>,
}

/// A directory that the walk is in, and the link that it replaces.
type Outer = (PathBuf, Option<PathBuf>);

/// A directory that links may lead into, and where it is in the manifest.
type Inner = (PathBuf, String);

impl Plain {
    fn directory(&mut self, real: &Path, at: &str, chain: &[Outer], bases: &[Inner]) {
        for entry in fs::read_dir(real).unwrap() {
            let name = entry.unwrap().file_name();
            let path = format!("{at}{}", name.to_str().unwrap());
            let child = real.join(&name);
            let meta = child.symlink_metadata().unwrap();
            if meta.is_symlink() {
                self.link(real, &child, path, chain, bases);
            } else if meta.is_dir() {
                self.lines.insert(format!("{path}/"));
                let chain = [chain, &[(child.clone(), None)]].concat();
                self.directory(&child, &format!("{path}/"), &chain, bases);
            } else {
                self.lines.insert(path);
            }
        }
    }

    fn link(&mut self, dir: &Path, link: &Path, path: String, chain: &[Outer], bases: &[Inner]) {
        let mut full = PathBuf::new();
        for part in dir.join(link.read_link().unwrap()).components() {
            match part {
                Component::ParentDir => drop(full.pop()),
                Component::CurDir => {}
                other => full.push(other),
            }
        }
        let target = bases.iter().rev().find_map(|(real, at)| {
            let rest = full.strip_prefix(real).ok()?;
            let target = format!("{at}{}", rest.display());
            Some(target.trim_end_matches('/').to_owned())
        });
        let is_kept = target.is_some() && self.symlinks != SymlinkPolicy::CollapseAll;
        let is_replaced = matches!(
            self.symlinks,
            SymlinkPolicy::CollapseAll | SymlinkPolicy::CollapseEscaping
        );
        if self.symlinks == SymlinkPolicy::ExcludeAll || !is_kept && !is_replaced {
            self.skip(path, SkipReason::LinkExcluded);
        } else if is_kept {
            let target = target.filter(|target| !target.is_empty());
            let target = target.unwrap_or_else(|| ".".to_owned());
            self.lines.insert(format!("{path} -> {target}"));
        } else {
            self.replace(link, path, chain, bases);
        }
    }

    fn replace(&mut self, link: &Path, path: String, chain: &[Outer], bases: &[Inner]) {
        let real = match link.canonicalize() {
            Ok(real) => real,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                return self.skip(path, SkipReason::LinkCycle);
            }
            Err(_) => return self.skip(path, SkipReason::LinkBroken),
        };
        if !real.is_dir() {
            self.lines.insert(path);
        } else if chain.iter().filter(|(outer, _)| *outer == real).count() == 2
            || chain
                .iter()
                .any(|(_, other)| other.as_deref() == Some(link))
        {
            self.cut.insert(path.clone());
            self.skip(path, SkipReason::LinkCycle);
        } else {
            let at = format!("{path}/");
            self.lines.insert(at.clone());
            let chain = [chain, &[(real.clone(), Some(link.to_owned()))]].concat();
            // The root of the scan is no base for what lies outside of it.
            let outer = if bases[0].1.is_empty() { &[] } else { bases };
            let bases = [outer, &[(real.clone(), at.clone())]].concat();
            self.directory(&real, &at, &chain, &bases);
        }
    }

    fn skip(&mut self, path: String, reason: SkipReason) {
        self.skipped.insert((path, reason.to_string()));
    }

    /// Keeps what the filter chooses, and the directories above that.
    fn choose(&mut self, filter: &PathFilter) {
        let path_of = |line: &str| {
            let path = line.split(" -> ").next().unwrap();
            path.trim_end_matches('/').to_owned()
        };
        let chosen: Vec<String> = self
            .lines
            .iter()
            .filter(|line| match line.strip_suffix('/') {
                Some(dir) => filter.matches_dir(dir.as_bytes()),
                None => filter.matches(path_of(line).as_bytes()),
            })
            .cloned()
            .collect();
        self.lines.retain(|line| {
            chosen.contains(line)
                || line.ends_with('/') && chosen.iter().any(|chosen| chosen.starts_with(line))
        });
        self.skipped.retain(|(path, _)| {
            let path_bytes = path.as_bytes();
            filter.matches(path_bytes)
                || self.cut.contains(path) && filter.may_match_below(path_bytes)
        });
    }
}

fn any_policy() -> impl Strategy<Value = SymlinkPolicy> {
    prop::sample::select(vec![
        SymlinkPolicy::CollapseEscaping,
        SymlinkPolicy::CollapseAll,
        SymlinkPolicy::ExcludeEscaping,
        SymlinkPolicy::ExcludeAll,
    ])
}

fn any_filter() -> impl Strategy<Value = PathFilter> {
    let patterns = [
        "**/*", "**", "a/**", "*/b", "**/c", "[ab]/*", "b/", "**/b/**", "c", "b/**/*",
    ];
    let patterns = prop::sample::select(patterns.to_vec());
    let lists = (
        prop::collection::vec(patterns.clone(), 1..3),
        prop::collection::vec(patterns, 0..2),
    );
    prop_oneof![
        Just(PathFilter::everything()),
        lists.prop_map(|(include, exclude)| PathFilter::new(&include, &exclude).unwrap()),
    ]
}

/// Follows a path through the links of an absolute manifest, to the entry where it ends.
fn end_of<'a>(scan: &'a Scan, start: &ManifestPath) -> Option<&'a EntryKind> {
    let entry = |path: &[u8]| {
        let found = scan
            .entries
            .iter()
            .find(|entry| entry.path.as_bytes() == path);
        found.map(|entry| &entry.kind)
    };
    let mut rest: Vec<Vec<u8>> = start.components().rev().map(<[u8]>::to_vec).collect();
    let mut at: Vec<u8> = Vec::new();
    let mut last = None;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let path = match &at[..] {
            b"" => name,
            at => [at, b"/", &name].concat(),
        };
        let kind = entry(&path)?;
        match kind {
            EntryKind::Symlink(_) if links == 40 => return None,
            EntryKind::Symlink(LinkTarget::Root) => at.clear(),
            EntryKind::Symlink(LinkTarget::Below(target)) => {
                links += 1;
                at.clear();
                rest.extend(target.components().rev().map(<[u8]>::to_vec));
            }
            EntryKind::Dir => at = path,
            EntryKind::File(_) if !rest.is_empty() => return None,
            EntryKind::File(_) => {}
        }
        last = Some(kind);
    }
    last
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_walk_finds_what_a_plain_one_finds(
        tree in any_tree(any_text()),
        symlinks in any_policy(),
        filter in any_filter(),
    ) {
        let (_temp, top) = plant(&tree);
        let root = top.join("root");
        let mut plain = Plain {
            symlinks,
            lines: BTreeSet::new(),
            skipped: BTreeSet::new(),
            cut: BTreeSet::new(),
        };
        plain.directory(&root, "", &[(root.clone(), None)], &[(root.clone(), String::new())]);
        plain.choose(&filter);
        let options = ScanOptions { filter, ..policy(symlinks) };
        let scan = scan(&root, &options, &Silent).unwrap();
        let lines: BTreeSet<String> = scan.entries.iter().map(line).collect();
        prop_assert_eq!(lines.len(), scan.entries.len());
        prop_assert_eq!(lines, plain.lines);
        let skipped = skipped(&scan).into_iter();
        let skipped: BTreeSet<_> = skipped.map(|(path, why)| (path, why.to_string())).collect();
        prop_assert_eq!(skipped, plain.skipped);
        prop_assert!(scan.entries.is_sorted_by(|a, b| a.path < b.path));
    }

    #[test]
    fn behind_every_collected_link_is_what_the_kernel_finds(tree in any_tree(plain_text())) {
        let (_temp, top) = plant(&tree);
        let collection = Collection {
            directories: vec![top.join("root")],
            ..Collection::default()
        };
        let options = policy(SymlinkPolicy::TransitiveIncludeTargets);
        let scan = scan_absolute(&collection, &options, &Silent).unwrap();
        for entry in &scan.entries {
            for above in entry.path.ancestors() {
                let kind = scan.entries.iter().find(|entry| entry.path == above);
                prop_assert!(matches!(kind, Some(entry) if entry.kind == EntryKind::Dir));
            }
            let real = Path::new("/").join(entry.path.to_string()).canonicalize();
            match (end_of(&scan, &entry.path), real) {
                (Some(EntryKind::Dir), Ok(real)) => prop_assert!(real.is_dir()),
                (Some(EntryKind::File(file)), Ok(real)) => prop_assert_eq!(file.source(), real),
                (None, Err(_)) => {}
                (found, real) => prop_assert!(false, "{}: {found:?}, {real:?}", line(entry)),
            }
        }
    }
}
