//! Collects what links lead to, and what the links in that lead to, until nothing is missing.
//!
//! As in the reference, a link's target becomes an entry at the path that the link's text names, even
//! if that path leads through another link that is no entry. Two things differ, so that the result is a
//! tree: nothing is collected below a link that is an entry, but at the place where that link leads;
//! and if something was already collected below a link's path, the link becomes a directory. The
//! directories of a collected folder are entries, so that an empty one is not lost.

use std::collections::HashMap;

use attachfs_durable::{Kind, Refusal};
use attachfs_manifest::{LinkTarget, ManifestPath};

use crate::absolute::{DirectoryFinder, Files, path_of};
use crate::mounts::Border;
use crate::place::look;
use crate::walk::PartialScan;
use crate::{EntryKind, ScanError, ScannedEntry, SkipReason};

/// Links that are entries on the way to one target; the kernel follows as many.
const MOST_LINKS: u32 = 40;

/// Adds to what was found everything that its links lead to.
pub(crate) fn pull_in(
    finder: &DirectoryFinder<'_, '_>,
    found: Vec<PartialScan>,
) -> Result<PartialScan, ScanError> {
    let mut pull = Pull {
        finder,
        known: HashMap::new(),
        found: PartialScan::default(),
        links: Vec::new(),
        directories: Vec::new(),
    };
    pull.admit(found);
    loop {
        if let Some(path) = pull.directories.pop() {
            pull.directory(&path)?;
            continue;
        }
        let mut links = std::mem::take(&mut pull.links);
        if links.is_empty() {
            return Ok(pull.found);
        }
        links.sort_unstable();
        links.dedup();
        for target in links {
            pull.target(target)?;
        }
    }
}

/// What is at a path.
enum Known {
    /// An entry that is no link.
    Entry,
    /// A link that leads to this path.
    Link(LinkTarget),
    /// Something below it is an entry.
    Above,
}

struct Pull<'a, 'w> {
    finder: &'a DirectoryFinder<'a, 'w>,
    known: HashMap<ManifestPath, Known>,
    found: PartialScan,
    /// Targets of links that were not examined yet.
    links: Vec<LinkTarget>,
    /// Links that became directories, because something was collected below them.
    directories: Vec<ManifestPath>,
}

impl Pull<'_, '_> {
    /// Adds new entries. The result does not depend on the order of the threads.
    fn admit(&mut self, found: Vec<PartialScan>) {
        let mut entries = Vec::new();
        for mut found in found {
            entries.append(&mut found.entries);
            self.found.skipped.append(&mut found.skipped);
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        for entry in entries {
            self.admit_one(entry);
        }
    }

    fn admit_one(&mut self, entry: ScannedEntry) {
        let known = match &entry.kind {
            EntryKind::Symlink(target) => Known::Link(target.clone()),
            EntryKind::Dir | EntryKind::File(_) => Known::Entry,
        };
        match (self.known.get(&entry.path), &entry.kind) {
            (None, EntryKind::Symlink(target)) => self.links.push(target.clone()),
            (None, _) | (Some(Known::Above), EntryKind::Dir) => {}
            (Some(Known::Above), EntryKind::Symlink(_)) => {
                self.directories.push(entry.path);
                return;
            }
            (Some(_), _) => return,
        }
        for above in entry.path.ancestors() {
            if self.known.contains_key(&above) {
                break;
            }
            self.known.insert(above, Known::Above);
        }
        self.known.insert(entry.path.clone(), known);
        self.found.entries.push(entry);
    }

    fn target(&mut self, target: LinkTarget) -> Result<(), ScanError> {
        let mut target = target;
        for _ in 0..MOST_LINKS {
            let LinkTarget::Below(path) = target else {
                return Ok(());
            };
            match self.around_link(&path)? {
                Some(next) => target = next,
                None => return self.pull(&path),
            }
        }
        Ok(())
    }

    /// Where a path leads that lies below a link which is an entry.
    fn around_link(&self, path: &ManifestPath) -> Result<Option<LinkTarget>, ScanError> {
        let link = |above: ManifestPath| match self.known.get(&above)? {
            Known::Link(target) => Some((above, target)),
            Known::Entry | Known::Above => None,
        };
        let Some((above, target)) = path.ancestors().find_map(link) else {
            return Ok(None);
        };
        let rest = &path.as_bytes()[above.as_bytes().len() + 1..];
        let next = match target {
            LinkTarget::Root => ManifestPath::new(rest),
            LinkTarget::Below(target) => {
                ManifestPath::new(&[target.as_bytes(), b"/", rest].concat())
            }
        };
        next.map(|next| Some(LinkTarget::Below(next)))
            .map_err(|error| ScanError::unrepresentable(&path_of(Some(path)), error))
    }

    fn pull(&mut self, path: &ManifestPath) -> Result<(), ScanError> {
        let is_above = match self.known.get(path) {
            None => false,
            Some(Known::Above) => true,
            Some(Known::Entry | Known::Link(_)) => return Ok(()),
        };
        match self.finder.walk.mounts.around(&path_of(Some(path))) {
            None => {}
            Some((point, Border::Own)) => return Err(ScanError::OwnMount(point.to_owned())),
            Some((_, Border::Other)) => {
                let reason = SkipReason::OtherFileSystem;
                self.found.skip(path.clone(), reason);
                return Ok(());
            }
        }
        let outcome = match look(&path_of(Some(path))) {
            Err(ScanError::Io { source, .. }) if leads_nowhere(&source) => return Ok(()),
            Err(error) => Err(error),
            Ok((Kind::Dir, _)) => return self.directory(path),
            Ok(_) if is_above => return self.directory(path),
            Ok(_) => Files::new(self.finder).one(path),
        };
        match outcome {
            Ok(found) => {
                self.admit(vec![found]);
                Ok(())
            }
            Err(error) => self.excuse(error, path),
        }
    }

    fn directory(&mut self, path: &ManifestPath) -> Result<(), ScanError> {
        let place = self
            .finder
            .directory(Some(path.clone()), &path_of(Some(path)));
        match place {
            Ok(place) => {
                let found = self.finder.walk.run(vec![place])?;
                self.admit(found);
                Ok(())
            }
            Err(error) => self.excuse(error, path),
        }
    }

    fn excuse(&mut self, error: ScanError, path: &ManifestPath) -> Result<(), ScanError> {
        self.finder.walk.excuse(error, Some(path), &mut self.found)
    }
}

fn leads_nowhere(error: &std::io::Error) -> bool {
    matches!(
        Refusal::of(error),
        Some(Refusal::NotThere | Refusal::NotADirectory | Refusal::Link)
    )
}
