//! The walk: each directory is read as a whole by one thread, the directories by all cores.
//!
//! Two rules keep the walk inside and finite. A directory is read only if it still is the one that its
//! parent listed (device and inode are compared after opening), so a directory that is moved or
//! replaced meanwhile does not lead the walk elsewhere. And a link is not replaced by a directory
//! where the walk would only repeat itself ([`Inside::repeats`]).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use attachfs_durable::{Kind, Refusal, path_bytes};
use attachfs_manifest::{EscapedBytes, LinkTarget, ManifestPath, Name, PathError, PathFilter};
use parking_lot::Mutex;

use crate::anchor::{Anchor, Folder};
use crate::finish::finish;
use crate::links::{Base, Reach};
use crate::mounts::{Border, Mounts};
use crate::os::{Facts, Identity};
use crate::place::{Inside, Place, Reading, Root, below_slash, facts_at};
use crate::{
    EntryKind, Phase, Progress, ProgressEvent, Reporter, Scan, ScanError, ScanOptions,
    ScannedEntry, ScannedFile, SkipReason, Skipped, SymlinkPolicy, queue,
};

/// Finds everything below `root` that the filter chooses and a manifest can hold.
///
/// Fails on the first directory that cannot be read, entry that vanishes and name that no manifest
/// can hold: a snapshot that silently lacks something would be worse than none. With
/// [`ScanOptions::skip_unreadable`] the first two are listed instead.
pub fn scan(
    root: &Path,
    options: &ScanOptions,
    progress: &dyn Progress,
) -> Result<Scan, ScanError> {
    let root = Root::open(root, options)?;
    let walk = Walk::new(options, &[&root.real], progress)?;
    let found = walk.run(vec![root.place])?;
    finish(root.real, found, options.filter.is_everything())
}

/// What one thread found: its part of a [`Scan`].
#[derive(Debug, Default)]
pub(crate) struct PartialScan {
    pub(crate) entries: Vec<ScannedEntry>,
    pub(crate) skipped: Vec<Skipped>,
}

impl PartialScan {
    pub(crate) fn add(&mut self, path: ManifestPath, kind: EntryKind) {
        self.entries.push(ScannedEntry { path, kind });
    }

    pub(crate) fn skip(&mut self, path: ManifestPath, reason: SkipReason) {
        self.skipped.push(Skipped { path, reason });
    }
}

/// What becomes of a link.
pub(crate) enum Fate {
    Kept(LinkTarget),
    Replaced,
    LeftOut(SkipReason),
}

/// What replaces a link.
pub(crate) enum Followed {
    Dir(Identity, PathBuf),
    File(ScannedFile),
    Nothing(SkipReason),
}

/// The text of a link in a directory.
fn link_text(reading: &Reading, name: &[u8]) -> Result<Vec<u8>, ScanError> {
    reading.dir.read_link(name).map_err(|error| {
        let link = reading.place.real_child(name);
        ScanError::io("read the symbolic link", &link, error)
    })
}

/// Whether the text of a link has a name that is too long for a manifest.
fn names_too_much(link: &Path) -> bool {
    let text = std::fs::read_link(link).unwrap_or_default();
    let too_long = |name| matches!(Name::new(name), Err(PathError::ComponentTooLong(_)));
    text.iter().map(OsStr::as_encoded_bytes).any(too_long)
}

/// The most links that one walk replaces by directories.
const MOST_REPLACED: u64 = 1 << 18;

/// The state that all threads share.
pub(crate) struct Walk<'a> {
    pub(crate) options: &'a ScanOptions,
    /// `/`, for what lies outside of the root.
    pub(crate) slash: Arc<Anchor>,
    pub(crate) mounts: Mounts,
    found: AtomicU64,
    /// How many links were replaced by directories.
    replaced: AtomicU64,
    /// Locked by the thread that calls the listener; other threads skip their turn meanwhile.
    reporter: Mutex<Reporter<'a>>,
}

impl<'a> Walk<'a> {
    /// `roots` are the directories in which the walk begins: absolute, without links.
    pub(crate) fn new(
        options: &'a ScanOptions,
        roots: &[&Path],
        progress: &'a dyn Progress,
    ) -> Result<Self, ScanError> {
        Ok(Self {
            options,
            slash: Arc::new(Anchor::new(PathBuf::from("/"))?),
            mounts: Mounts::read(options.cross_mounts, roots)?,
            found: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            reporter: Mutex::new(Reporter::new(progress, Instant::now())),
        })
    }

    pub(crate) fn filter(&self) -> &'a PathFilter {
        &self.options.filter
    }

    /// Reads these directories and everything below them.
    pub(crate) fn run(&self, first: Vec<Place>) -> Result<Vec<PartialScan>, ScanError> {
        let found = queue::run(first, |place, found: &mut PartialScan, more| {
            let before = found.entries.len();
            let place = Arc::new(place);
            if let Err(error) = self.directory(&place, found, more) {
                self.excuse(error, place.path.as_ref(), found)?;
            }
            self.tell((found.entries.len() - before) as u64, &place)
        })?;
        self.tell_end()?;
        Ok(found)
    }

    /// Lists an error instead of failing, if that was asked for and is possible.
    pub(crate) fn excuse(
        &self,
        error: ScanError,
        path: Option<&ManifestPath>,
        found: &mut PartialScan,
    ) -> Result<(), ScanError> {
        match (error.skip_reason(), path) {
            (Some(reason), Some(path)) if self.options.skip_unreadable => {
                found.skip(path.clone(), reason);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn tell(&self, more: u64, place: &Place) -> Result<(), ScanError> {
        self.found.fetch_add(more, Ordering::Relaxed);
        let Some(mut reporter) = self.reporter.try_lock() else {
            return Ok(());
        };
        let items_done = self.found.load(Ordering::Relaxed);
        reporter.poll(Instant::now(), items_done, || ProgressEvent {
            items_done,
            item: Some(EscapedBytes(path_bytes(&place.real())).to_string()),
            ..ProgressEvent::of(Phase::Scan)
        })?;
        Ok(())
    }

    /// Tells the listener that the walk is done.
    fn tell_end(&self) -> Result<(), ScanError> {
        let event = ProgressEvent {
            items_done: self.found.load(Ordering::Relaxed),
            ..ProgressEvent::of(Phase::Scan)
        };
        Ok(self.reporter.lock().tell(Instant::now(), event)?)
    }

    fn directory(
        &self,
        place: &Arc<Place>,
        found: &mut PartialScan,
        more: &mut Vec<Place>,
    ) -> Result<(), ScanError> {
        let mut reading = Reading::open(place)?;
        let names = reading.dir.list();
        let names =
            names.map_err(|error| ScanError::io("read the folder", &place.real(), error))?;
        if let Some(path) = place.path.as_ref().filter(|_| place.is_taken) {
            found.add(path.clone(), EntryKind::Dir);
        }
        found.entries.reserve(names.len());
        for (name, kind) in names.iter() {
            let taken = match self.mounts.at(place, name) {
                Some(border) => self.border(&mut reading, name, kind, border, found),
                None => self.entry(&mut reading, name, kind, found, more),
            };
            if let Err(error) = taken {
                // An entry without a path in a manifest is reported under its directory's path.
                let path = reading.path(name).ok();
                self.excuse(error, path.as_ref().or(place.path.as_ref()), found)?;
            }
        }
        reading.end(found);
        Ok(())
    }

    /// Handles a mount point that the walk does not go into, without looking at it.
    fn border(
        &self,
        reading: &mut Reading,
        name: &[u8],
        kind: Option<Kind>,
        border: Border,
        found: &mut PartialScan,
    ) -> Result<(), ScanError> {
        let place = Arc::clone(&reading.place);
        if kind.is_some_and(|kind| !self.wants(&place, name, kind)) {
            return Ok(());
        }
        match border {
            Border::Own => Err(ScanError::OwnMount(place.real_child(name))),
            Border::Other => {
                let path = reading.path(name)?;
                if kind == Some(Kind::Dir) && self.filter().takes_dir(&place.state, name) {
                    found.add(path.clone(), EntryKind::Dir);
                }
                found.skip(path, SkipReason::OtherFileSystem);
                Ok(())
            }
        }
    }

    /// Whether something of this kind, or anything below it, may be chosen.
    fn wants(&self, place: &Place, name: &[u8], kind: Kind) -> bool {
        let filter = self.filter();
        if filter.is_everything() {
            return true;
        }
        let as_file = kind != Kind::Dir && filter.takes_file(&place.state, name);
        let as_dir = matches!(kind, Kind::Dir | Kind::Link)
            && (filter.takes_dir(&place.state, name)
                || filter.may_take_below(&filter.enter(&place.state, name)));
        as_file || as_dir
    }

    /// Handles one name of a directory. `kind` is its kind as listed in the directory.
    pub(crate) fn entry(
        &self,
        reading: &mut Reading,
        name: &[u8],
        kind: Option<Kind>,
        found: &mut PartialScan,
        more: &mut Vec<Place>,
    ) -> Result<(), ScanError> {
        let place = Arc::clone(&reading.place);
        if kind.is_some_and(|kind| !self.wants(&place, name, kind)) {
            return Ok(());
        }
        let facts = reading.facts_at(name)?;
        let kind_now = facts.kind;
        if Some(kind_now) != kind && !self.wants(&place, name, kind_now) {
            return Ok(());
        }
        match kind_now {
            Kind::File => reading.file(name, &Facts::of(&facts))?,
            Kind::Dir => {
                let inner = Place {
                    anchor: Arc::clone(&place.anchor),
                    below: place.child_below(name),
                    path: Some(reading.path(name)?),
                    base: Arc::clone(&place.base),
                    inside: place.inside.enter(Identity::of(&facts), None),
                    state: self.filter().enter(&place.state, name),
                    is_taken: self.filter().takes_dir(&place.state, name),
                };
                self.enter(inner, found, more);
            }
            Kind::Link => {
                self.link(reading, name, Identity::of(&facts), found, more)?;
            }
            Kind::Other => found.skip(reading.path(name)?, SkipReason::Special),
        }
        Ok(())
    }

    /// Queues a directory for reading, unless nothing in it can be chosen.
    fn enter(&self, place: Place, found: &mut PartialScan, more: &mut Vec<Place>) {
        if self.filter().may_take_below(&place.state) {
            more.push(place);
        } else if let Some(path) = place.path.filter(|_| place.is_taken) {
            found.add(path, EntryKind::Dir);
        }
    }

    fn link(
        &self,
        reading: &mut Reading,
        name: &[u8],
        link: Identity,
        found: &mut PartialScan,
        more: &mut Vec<Place>,
    ) -> Result<(), ScanError> {
        let path = reading.path(name)?;
        let place = &reading.place;
        let is_chosen = self.filter().takes_file(&place.state, name);
        match self.fate(reading, name)? {
            Fate::Kept(target) if is_chosen => found.add(path, EntryKind::Symlink(target)),
            Fate::LeftOut(reason) if is_chosen => found.skip(path, reason),
            Fate::Kept(_) | Fate::LeftOut(_) => {}
            Fate::Replaced => match self.follow_within(reading, name)? {
                Followed::Dir(identity, _) if place.inside.repeats(identity, link) => {
                    let state = self.filter().enter(&place.state, name);
                    if is_chosen || self.filter().may_take_below(&state) {
                        found.skip(path, SkipReason::LinkCycle);
                    }
                }
                Followed::Dir(identity, real) => {
                    let inside = place.inside.enter(identity, Some(link));
                    let inner = self.replacing(place, name, path, inside, &real)?;
                    self.enter(inner, found, more);
                }
                Followed::File(file) if is_chosen => found.add(path, EntryKind::File(file)),
                Followed::Nothing(reason) if is_chosen => found.skip(path, reason),
                Followed::File(_) | Followed::Nothing(_) => {}
            },
        }
        Ok(())
    }

    /// What the policy does with a link.
    pub(crate) fn fate(&self, reading: &Reading, name: &[u8]) -> Result<Fate, ScanError> {
        let if_escaping = match self.options.symlinks {
            SymlinkPolicy::ExcludeAll => return Ok(Fate::LeftOut(SkipReason::LinkExcluded)),
            SymlinkPolicy::CollapseAll => return Ok(Fate::Replaced),
            SymlinkPolicy::CollapseEscaping => Fate::Replaced,
            // A policy that keeps all links has a base that reaches everywhere, so no link escapes.
            SymlinkPolicy::ExcludeEscaping
            | SymlinkPolicy::Preserve
            | SymlinkPolicy::TransitiveIncludeTargets => Fate::LeftOut(SkipReason::LinkExcluded),
        };
        let place = &reading.place;
        let text = link_text(reading, name)?;
        match place.base.target(&place.origin_of_links(), &text) {
            Ok(target) => Ok(target.map_or(if_escaping, Fate::Kept)),
            // No manifest can hold such a name, so nothing is lost with the link.
            Err(PathError::ComponentTooLong(_)) => Ok(Fate::LeftOut(SkipReason::LinkTooLong)),
            Err(error) => {
                let link = place.real_child(name);
                Err(ScanError::unrepresentable(&link, error))
            }
        }
    }

    /// What a link points to in the end. Targets in mounts that the walk does not go into are not
    /// looked at.
    fn follow_within(&self, reading: &Reading, name: &[u8]) -> Result<Followed, ScanError> {
        let place = &reading.place;
        if self.mounts.is_empty() {
            return self.follow(place, name);
        }
        let text = link_text(reading, name)?;
        let mut around = self.mounts.around_link(place, &text);
        let mut followed = Followed::Nothing(SkipReason::OtherFileSystem);
        if around.is_none() {
            followed = self.follow(place, name)?;
            around = match &followed {
                Followed::Dir(_, real) => self.mounts.around(real),
                Followed::File(file) => self.mounts.around(&file.source()),
                Followed::Nothing(_) => None,
            };
        }
        match around {
            None => Ok(followed),
            Some((point, Border::Own)) => Err(ScanError::OwnMount(point.to_owned())),
            Some((_, Border::Other)) => Ok(Followed::Nothing(SkipReason::OtherFileSystem)),
        }
    }

    /// What a link points to in the end.
    pub(crate) fn follow(&self, place: &Place, name: &[u8]) -> Result<Followed, ScanError> {
        let link = place.real_child(name);
        let target = match link.canonicalize() {
            Ok(target) => target,
            Err(error) => match Refusal::of(&error) {
                Some(Refusal::NotThere | Refusal::NotADirectory) => {
                    return Ok(Followed::Nothing(SkipReason::LinkBroken));
                }
                Some(Refusal::Link) => return Ok(Followed::Nothing(SkipReason::LinkCycle)),
                Some(Refusal::NameTooLong) if names_too_much(&link) => {
                    return Ok(Followed::Nothing(SkipReason::LinkTooLong));
                }
                _ => return Err(ScanError::io("follow the symbolic link", &link, error)),
            },
        };
        let facts = facts_at(&target)?;
        Ok(match facts.kind {
            Kind::Dir => Followed::Dir(Identity::of(&facts), target),
            Kind::File => Followed::File(self.lone_file(&target, &Facts::of(&facts))),
            Kind::Link => return Err(ScanError::Replaced(target)),
            Kind::Other => Followed::Nothing(SkipReason::Special),
        })
    }

    /// The directory `real` in the place of the link `name`. Folders that link to one another can have
    /// an astronomical number of paths, so the number of such directories is limited.
    pub(crate) fn replacing(
        &self,
        place: &Place,
        name: &[u8],
        path: ManifestPath,
        inside: Arc<Inside>,
        real: &Path,
    ) -> Result<Place, ScanError> {
        if self.replaced.fetch_add(1, Ordering::Relaxed) >= MOST_REPLACED {
            return Err(ScanError::TooManyLinks(place.real_child(name)));
        }
        let is_replaced = matches!(&place.base.reach, Reach::Folder { place: Some(_), .. });
        let base = Base {
            reach: Reach::Folder {
                real: path_bytes(real).to_vec(),
                alias: None,
                place: Some(path.clone()),
            },
            outer: is_replaced.then(|| Arc::clone(&place.base)),
        };
        Ok(Place {
            anchor: Arc::clone(&self.slash),
            below: below_slash(real).into(),
            path: Some(path),
            base: Arc::new(base),
            inside,
            state: self.filter().enter(&place.state, name),
            is_taken: self.filter().takes_dir(&place.state, name),
        })
    }

    /// A file whose absolute path has no links in it.
    fn lone_file(&self, real: &Path, facts: &Facts) -> ScannedFile {
        let name = real.file_name().map_or(&b""[..], OsStr::as_encoded_bytes);
        let folder = Folder {
            anchor: Arc::clone(&self.slash),
            below: real.parent().map_or(&b""[..], below_slash).into(),
            names: name.into(),
        };
        ScannedFile::new(Arc::new(folder), (0, name.len() as u8), facts)
    }
}
