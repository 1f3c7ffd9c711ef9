//! The walk: directories are read one after the other, each below the one that named it.
//!
//! Two rules keep it honest. A directory is read only if it still is the one that its parent listed
//! (device and inode are compared after opening), so nothing that is moved or replaced meanwhile leads
//! the walk elsewhere. And a link that is replaced by a directory never leads into a directory that the
//! walk is already inside of, so the walk ends.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use attachfs_manifest::{EscapedBytes, ManifestPath, Name};
use rustix::io::Errno;

use crate::links::{Base, normalize};
use crate::os::{Identity, Listed, list, look, path_bytes};
use crate::{
    EntryKind, Phase, Progress, ProgressEvent, Reporter, Scan, ScanError, ScannedEntry, SkipReason,
    Skipped,
};

/// What becomes of symbolic links. A link *escapes* if its text leads out of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SymlinkPolicy {
    /// A link that escapes is replaced by what it points to, others stay links.
    #[default]
    CollapseEscaping,
    /// Every link is replaced by what it points to. The only choice for 2023-03-03 manifests.
    CollapseAll,
    /// A link that escapes is left out, others stay links.
    ExcludeEscaping,
    /// Every link is left out.
    ExcludeAll,
}

/// How to scan.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanOptions {
    /// What becomes of symbolic links.
    pub symlinks: SymlinkPolicy,
}

/// Finds everything below `root` that a manifest can hold.
///
/// Fails on the first directory that cannot be read, entry that vanishes and name that no manifest
/// can hold: a snapshot that silently lacks something would be worse than none.
pub fn scan(
    root: &Path,
    options: &ScanOptions,
    progress: &dyn Progress,
) -> Result<Scan, ScanError> {
    let named = std::path::absolute(root).map_err(|e| ScanError::io("find", root, e))?;
    let real = root
        .canonicalize()
        .map_err(|e| ScanError::io("find", root, e))?;
    let Listed::Dir(identity) = look(&real)? else {
        return Err(ScanError::NotADirectory(root.to_owned()));
    };
    let base = Base {
        real: path_bytes(&real).to_vec(),
        alias: Some(normalize(path_bytes(&named))),
        place: None,
        outer: None,
    };
    let mut walk = Walk {
        symlinks: options.symlinks,
        pending: vec![Place {
            real: real.clone(),
            path: None,
            base: Rc::new(base),
            inside: Rc::new(Inside {
                identity,
                outer: None,
            }),
        }],
        entries: Vec::new(),
        skipped: Vec::new(),
    };
    let mut reporter = Reporter::new(progress, Instant::now());
    while let Some(place) = walk.pending.pop() {
        let items_done = walk.entries.len() as u64;
        reporter.poll(Instant::now(), items_done, || ProgressEvent {
            items_done,
            item: Some(EscapedBytes(path_bytes(&place.real)).to_string()),
            ..ProgressEvent::of(Phase::Scan)
        })?;
        walk.directory(&place)?;
    }
    let end = ProgressEvent {
        items_done: walk.entries.len() as u64,
        ..ProgressEvent::of(Phase::Scan)
    };
    reporter.tell(Instant::now(), end)?;
    let Walk {
        mut entries,
        mut skipped,
        ..
    } = walk;
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Scan {
        root: real,
        entries,
        skipped,
    })
}

/// A directory that is to be read.
struct Place {
    /// Absolute, without links.
    real: PathBuf,
    /// Where it is in the manifest; `None` is the root.
    path: Option<ManifestPath>,
    base: Rc<Base>,
    inside: Rc<Inside>,
}

/// The directories that the walk is inside of, the innermost first.
struct Inside {
    identity: Identity,
    outer: Option<Rc<Inside>>,
}

impl Inside {
    fn contains(&self, identity: Identity) -> bool {
        std::iter::successors(Some(self), |inside| inside.outer.as_deref())
            .any(|inside| inside.identity == identity)
    }
}

struct Walk {
    symlinks: SymlinkPolicy,
    pending: Vec<Place>,
    entries: Vec<ScannedEntry>,
    skipped: Vec<Skipped>,
}

impl Walk {
    fn directory(&mut self, place: &Place) -> Result<(), ScanError> {
        for (name, listed) in list(&place.real, place.inside.identity)? {
            let real = place.real.join(OsStr::from_bytes(&name));
            let path = Name::new(&name).and_then(|name| match &place.path {
                None => Ok(ManifestPath::from_name(&name)),
                Some(parent) => parent.join(&name),
            });
            let path = path.map_err(|source| ScanError::Unrepresentable {
                path: real.clone(),
                source,
            })?;
            match listed {
                Listed::Symlink(text) => self.link(place, &real, path, &text)?,
                other => self.found(place, &place.base, real, path, other),
            }
        }
        Ok(())
    }

    /// Takes up something that is no link.
    fn found(
        &mut self,
        place: &Place,
        base: &Rc<Base>,
        real: PathBuf,
        path: ManifestPath,
        listed: Listed,
    ) {
        let kind = match listed {
            Listed::File(file) => EntryKind::File(file),
            Listed::Dir(identity) => {
                let outer = Some(Rc::clone(&place.inside));
                self.pending.push(Place {
                    real,
                    path: Some(path.clone()),
                    base: Rc::clone(base),
                    inside: Rc::new(Inside { identity, outer }),
                });
                EntryKind::Dir
            }
            Listed::Special | Listed::Symlink(_) => return self.skip(path, SkipReason::Special),
        };
        self.entries.push(ScannedEntry { path, kind });
    }

    fn link(
        &mut self,
        place: &Place,
        real: &Path,
        path: ManifestPath,
        text: &[u8],
    ) -> Result<(), ScanError> {
        match self.symlinks {
            SymlinkPolicy::ExcludeAll => {
                self.skip(path, SkipReason::LinkExcluded);
                return Ok(());
            }
            SymlinkPolicy::CollapseAll => return self.collapse(place, real, path),
            SymlinkPolicy::CollapseEscaping | SymlinkPolicy::ExcludeEscaping => {}
        }
        let target = place
            .base
            .target(path_bytes(&place.real), text)
            .map_err(|source| ScanError::Unrepresentable {
                path: real.to_owned(),
                source,
            })?;
        match target {
            Some(target) => {
                self.entries.push(ScannedEntry {
                    path,
                    kind: EntryKind::Symlink(target),
                });
            }
            None if self.symlinks == SymlinkPolicy::CollapseEscaping => {
                self.collapse(place, real, path)?;
            }
            None => self.skip(path, SkipReason::LinkExcluded),
        }
        Ok(())
    }

    /// Takes up what a link points to in its place.
    fn collapse(
        &mut self,
        place: &Place,
        link: &Path,
        path: ManifestPath,
    ) -> Result<(), ScanError> {
        let target = match link.canonicalize() {
            Ok(target) => target,
            Err(error) => {
                let reason = match Errno::from_io_error(&error) {
                    Some(Errno::NOENT | Errno::NOTDIR) => SkipReason::LinkBroken,
                    Some(Errno::LOOP) => SkipReason::LinkCycle,
                    _ => return Err(ScanError::io("follow the symbolic link", link, error)),
                };
                self.skip(path, reason);
                return Ok(());
            }
        };
        let listed = look(&target)?;
        let base = match &listed {
            Listed::Dir(identity) if place.inside.contains(*identity) => {
                self.skip(path, SkipReason::LinkCycle);
                return Ok(());
            }
            Listed::Dir(_) => Rc::new(Base {
                real: path_bytes(&target).to_vec(),
                alias: None,
                place: Some(path.clone()),
                outer: place.base.place.is_some().then(|| Rc::clone(&place.base)),
            }),
            _ => Rc::clone(&place.base),
        };
        self.found(place, &base, target, path, listed);
        Ok(())
    }

    fn skip(&mut self, path: ManifestPath, reason: SkipReason) {
        self.skipped.push(Skipped { path, reason });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use attachfs_durable::FileStamp;
    use attachfs_manifest::LinkTarget;
    use tempfile::TempDir;

    use super::*;
    use crate::Silent;

    fn scanned(root: &Path, symlinks: SymlinkPolicy) -> Scan {
        scan(root, &ScanOptions { symlinks }, &Silent).unwrap()
    }

    /// One line an entry: `d/`, `f` or `l -> target`.
    fn lines(scan: &Scan) -> Vec<String> {
        let line = |entry: &ScannedEntry| match &entry.kind {
            EntryKind::Dir => format!("{}/", entry.path),
            EntryKind::File(_) => entry.path.to_string(),
            EntryKind::Symlink(LinkTarget::Root) => format!("{} -> .", entry.path),
            EntryKind::Symlink(LinkTarget::Below(target)) => format!("{} -> {target}", entry.path),
        };
        scan.entries.iter().map(line).collect()
    }

    fn skipped(scan: &Scan) -> Vec<(String, SkipReason)> {
        scan.skipped
            .iter()
            .map(|skipped| (skipped.path.to_string(), skipped.reason))
            .collect()
    }

    /// A folder `root` with a neighbour `out`.
    fn folder() -> (TempDir, PathBuf) {
        let temp = TempDir::new().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/f"), "f").unwrap();
        fs::create_dir_all(temp.path().join("out/sub")).unwrap();
        fs::write(temp.path().join("out/x"), "x").unwrap();
        fs::write(temp.path().join("out/sub/y"), "y").unwrap();
        (temp, root)
    }

    #[test]
    fn entries_come_in_the_order_of_the_formats() {
        let temp = TempDir::new().unwrap();
        for name in ["a", "a-b"] {
            fs::create_dir(temp.path().join(name)).unwrap();
            fs::write(temp.path().join(name).join("c"), "").unwrap();
        }
        for name in ["\u{e000}", "\u{10000}", "a.txt"] {
            fs::write(temp.path().join(name), "").unwrap();
        }
        let found = lines(&scanned(temp.path(), SymlinkPolicy::default()));
        let expected = [
            "a/",
            "a-b/",
            "a-b/c",
            "a.txt",
            "a/c",
            "\u{10000}",
            "\u{e000}",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_is_described_by_its_metadata() {
        let (_temp, root) = folder();
        fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o610)).unwrap();
        let scan = scanned(&root, SymlinkPolicy::default());
        let EntryKind::File(file) = &scan.entries[2].kind else {
            panic!("{:?}", scan.entries)
        };
        assert_eq!((file.size, file.runnable), (1, true));
        assert_eq!(file.source, root.canonicalize().unwrap().join("d/f"));
        let (opened, now) = file.open().unwrap();
        assert_eq!(now, *file);
        assert_eq!(FileStamp::of(&opened).unwrap(), file.stamp);
    }

    #[test]
    fn what_a_link_that_escapes_points_to_takes_its_place() {
        let (_temp, root) = folder();
        symlink("../out", root.join("o")).unwrap();
        symlink("../out/x", root.join("x")).unwrap();
        symlink("d", root.join("l")).unwrap();
        let scan = scanned(&root, SymlinkPolicy::CollapseEscaping);
        let expected = [
            "d/", "d/e/", "d/f", "l -> d", "o/", "o/sub/", "o/sub/y", "o/x", "x",
        ];
        assert_eq!(lines(&scan), expected);
        assert!(skipped(&scan).is_empty());
    }

    #[test]
    fn a_link_inside_what_took_a_links_place_stays_one_if_it_points_into_it() {
        let (temp, root) = folder();
        symlink("../x", temp.path().join("out/sub/in")).unwrap();
        symlink("../../root/d/f", temp.path().join("out/sub/back")).unwrap();
        symlink("../out", root.join("o")).unwrap();
        let found = lines(&scanned(&root, SymlinkPolicy::CollapseEscaping));
        assert!(found.contains(&"o/sub/in -> o/x".to_owned()), "{found:?}");
        assert!(found.contains(&"o/sub/back".to_owned()), "{found:?}");
    }

    #[test]
    fn every_link_is_replaced_where_none_may_remain() {
        let (_temp, root) = folder();
        symlink("d", root.join("l")).unwrap();
        symlink("f", root.join("d/g")).unwrap();
        let scan = scanned(&root, SymlinkPolicy::CollapseAll);
        assert_eq!(
            lines(&scan),
            ["d/", "d/e/", "d/f", "d/g", "l/", "l/e/", "l/f", "l/g"]
        );
    }

    #[test]
    fn links_are_left_out_with_their_reason() {
        let (_temp, root) = folder();
        symlink("../out", root.join("o")).unwrap();
        symlink("d", root.join("l")).unwrap();
        let escaping = scanned(&root, SymlinkPolicy::ExcludeEscaping);
        assert_eq!(lines(&escaping), ["d/", "d/e/", "d/f", "l -> d"]);
        assert_eq!(
            skipped(&escaping),
            [("o".to_owned(), SkipReason::LinkExcluded)]
        );
        let all = scanned(&root, SymlinkPolicy::ExcludeAll);
        assert_eq!(lines(&all), ["d/", "d/e/", "d/f"]);
        assert_eq!(skipped(&all).len(), 2);
    }

    #[test]
    fn a_broken_link_is_kept_inside_and_reported_outside() {
        let (_temp, root) = folder();
        symlink("nothing", root.join("inside")).unwrap();
        symlink("../nothing", root.join("outside")).unwrap();
        let scan = scanned(&root, SymlinkPolicy::CollapseEscaping);
        assert_eq!(lines(&scan), ["d/", "d/e/", "d/f", "inside -> nothing"]);
        assert_eq!(
            skipped(&scan),
            [("outside".to_owned(), SkipReason::LinkBroken)]
        );
    }

    #[test]
    fn circles_end() {
        let (temp, root) = folder();
        symlink("..", root.join("d/up")).unwrap();
        symlink("self", root.join("self")).unwrap();
        symlink("../../root", temp.path().join("out/sub/root")).unwrap();
        symlink("../out", root.join("o")).unwrap();
        let scan = scanned(&root, SymlinkPolicy::CollapseAll);
        let cycles = ["d/up", "o/sub/root", "self"].map(|p| (p.to_owned(), SkipReason::LinkCycle));
        assert_eq!(skipped(&scan), cycles);
        let kept = lines(&scanned(&root, SymlinkPolicy::CollapseEscaping));
        assert!(kept.contains(&"d/up -> .".to_owned()), "{kept:?}");
    }

    #[test]
    fn what_is_no_file_is_reported() {
        let (_temp, root) = folder();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        let scan = scanned(&root, SymlinkPolicy::default());
        assert_eq!(skipped(&scan), [("socket".to_owned(), SkipReason::Special)]);
    }

    #[test]
    fn the_root_may_be_named_by_a_link() {
        let (temp, root) = folder();
        let alias = temp.path().join("alias");
        symlink(&root, &alias).unwrap();
        symlink(alias.join("d/f"), root.join("l")).unwrap();
        let found = lines(&scanned(&alias, SymlinkPolicy::default()));
        assert_eq!(found, ["d/", "d/e/", "d/f", "l -> d/f"]);
    }

    #[test]
    fn a_root_that_is_no_folder_is_refused() {
        let (_temp, root) = folder();
        let error = scan(&root.join("d/f"), &ScanOptions::default(), &Silent).unwrap_err();
        assert!(matches!(error, ScanError::NotADirectory(_)), "{error}");
        let error = scan(&root.join("none"), &ScanOptions::default(), &Silent).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn a_listener_can_cancel() {
        struct Never;
        impl Progress for Never {
            fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
                ControlFlow::Break(())
            }
        }
        let (_temp, root) = folder();
        let error = scan(&root, &ScanOptions::default(), &Never).unwrap_err();
        assert!(matches!(error, ScanError::Cancelled(_)));
    }

    #[test]
    fn a_file_swapped_for_a_link_is_not_opened() {
        let (temp, root) = folder();
        let scan = scanned(&root, SymlinkPolicy::default());
        fs::remove_file(root.join("d/f")).unwrap();
        symlink(temp.path().join("out/x"), root.join("d/f")).unwrap();
        let EntryKind::File(file) = &scan.entries[2].kind else {
            panic!("{:?}", scan.entries)
        };
        assert!(matches!(file.open().unwrap_err(), ScanError::Replaced(_)));
    }

    #[test]
    fn a_directory_swapped_for_a_link_is_not_passed_through() {
        let (temp, root) = folder();
        let scan = scanned(&root, SymlinkPolicy::default());
        fs::rename(root.join("d"), temp.path().join("moved")).unwrap();
        symlink(temp.path().join("moved"), root.join("d")).unwrap();
        let EntryKind::File(file) = &scan.entries[2].kind else {
            panic!("{:?}", scan.entries)
        };
        assert!(matches!(file.open().unwrap_err(), ScanError::Replaced(_)));
    }

    #[test]
    fn another_directory_under_the_same_name_is_not_read() {
        let (_temp, root) = folder();
        let Listed::Dir(other) = look(&root.join("d/e")).unwrap() else {
            panic!("a directory")
        };
        assert!(matches!(
            list(&root.join("d"), other),
            Err(ScanError::Replaced(_))
        ));
    }
}
