//! The inputs, outputs and references of a job, each below one root.
//!
//! ```text
//!     each path: absolute, without `..`
//!       missing input    -> reference, or a fault        directory as an input -> a fault
//!       below a SHARED location -> skipped, whatever it is
//!       below a LOCAL location  -> its group (the longest path of a location wins)
//!       else                    -> the group of its anchor: `/`, `C:\`, `\\server\share\`
//!     each group: its root is what all its paths are below; the directory of that if it is a file
//! ```
//! So a location's path is not the root: it is where the paths of the group meet. As `prepare_paths_for_upload` of AWS's
//! library; faults are told all at once, and what is left out or becomes a reference is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use attachfs_manifest::FoldedName;

use crate::{FileSystemLocation, ForeignPath, LocationType, PathFormat, StorageProfile};

/// What a job is given, as texts of this machine. Empty ones are left out, and what is there twice counts once.
#[derive(Debug, Clone, Default)]
pub struct AssetPaths<T> {
    /// Files that workers need.
    pub inputs: Vec<T>,
    /// Directories that workers upload from.
    pub outputs: Vec<T>,
    /// What a job speaks of, and needs not to be there.
    pub references: Vec<T>,
}

/// What is at a path, as `stat` says it, which follows links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisk {
    /// Nothing; also a link that leads nowhere.
    Missing,
    /// A directory.
    Directory,
    /// A file.
    File,
}

/// The machine, as far as it has to be known. What is asked for is absolute, and normalized but for the paths of locations:
/// there, a link before `..` is to be followed first.
#[derive(Clone, Copy)]
pub struct Disk<'a> {
    /// Where relative paths begin; absolute. Its format is that of all paths.
    pub working_dir: &'a ForeignPath,
    /// What is at a path. Asked once for each input, and for the root of each group.
    pub what_is: &'a dyn Fn(&ForeignPath) -> OnDisk,
    /// A path with all links followed, as far as it is there. Asked for each path and each location, and only if there are
    /// locations.
    pub resolved: &'a dyn Fn(&ForeignPath) -> ForeignPath,
}

impl fmt::Debug for Disk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("working_dir", &self.working_dir)
            .finish_non_exhaustive()
    }
}

/// How paths are grouped.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupOptions<'a> {
    /// The storage profile of this machine.
    pub profile: Option<&'a StorageProfile>,
    /// A missing input is a fault, not a reference.
    pub require_inputs: bool,
}

/// What a path is to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An input.
    Input,
    /// An output directory.
    Output,
    /// A reference.
    Reference,
}

/// The groups of a job's paths, and what is in none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssetRoots {
    /// Sorted by root, then by location.
    pub roots: Vec<AssetRoot>,
    /// What every machine has, because it lies in a SHARED location; sorted.
    pub skipped: Vec<Skipped>,
    /// Inputs that are missing and became references, those in SHARED locations too; sorted.
    pub demoted: Vec<ForeignPath>,
}

/// Paths that one manifest is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetRoot {
    /// What all the paths are below, or are themselves.
    pub root: ForeignPath,
    /// The name of the LOCAL location that they are in.
    pub location: Option<String>,
    /// Sorted; files, or what else is no directory.
    pub inputs: Vec<ForeignPath>,
    /// Sorted.
    pub outputs: Vec<ForeignPath>,
    /// Sorted.
    pub references: Vec<ForeignPath>,
}

impl AssetRoot {
    /// The output directories as the attachments of a job list them: from the root, with the separators of this machine, `.`
    /// for the root itself. `None` for an output that the root does not hold, which one of a root that is made here always
    /// does.
    pub fn relative_outputs(&self) -> Option<Vec<Vec<u8>>> {
        let outputs = self.outputs.iter();
        outputs
            .map(|output| output.relative_to(&self.root))
            .collect()
    }
}

/// A path that is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The path.
    pub path: ForeignPath,
    /// What it was to be.
    pub role: Role,
    /// The name of the SHARED location that has it.
    pub location: String,
}

/// All that is wrong with the inputs; sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputFaults {
    /// Not there, and required.
    pub missing: Vec<ForeignPath>,
    /// Directories: an input is a file.
    pub directories: Vec<ForeignPath>,
}

/// One fault a line, all of them.
impl fmt::Display for InputFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these inputs cannot be used:")?;
        for path in &self.missing {
            write!(f, "\n  missing: {path}")?;
        }
        for path in &self.directories {
            write!(f, "\n  a directory, not a file: {path}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InputFaults {}

/// Groups the paths of a job. Fails only with all that is wrong with its inputs.
pub fn group_assets<T: AsRef<[u8]>>(
    paths: &AssetPaths<T>,
    disk: &Disk<'_>,
    options: &GroupOptions<'_>,
) -> Result<AssetRoots, InputFaults> {
    let mut faults = InputFaults::default();
    let mut grouping = Grouping::new(disk, options);
    let mut references = disk.absolute(&paths.references);
    for path in disk.absolute(&paths.inputs) {
        match (disk.what_is)(&path) {
            OnDisk::File => grouping.add(Role::Input, path),
            OnDisk::Directory => faults.directories.push(path),
            OnDisk::Missing if options.require_inputs => faults.missing.push(path),
            OnDisk::Missing => {
                grouping.demoted.push(path.clone());
                references.insert(path);
            }
        }
    }
    if faults != InputFaults::default() {
        return Err(faults);
    }
    for path in disk.absolute(&paths.outputs) {
        grouping.add(Role::Output, path);
    }
    for path in references {
        grouping.add(Role::Reference, path);
    }
    Ok(grouping.finish())
}

impl Disk<'_> {
    /// The paths that texts stand for, each once.
    fn absolute<T: AsRef<[u8]>>(&self, texts: &[T]) -> BTreeSet<ForeignPath> {
        let texts = texts.iter().map(AsRef::as_ref);
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(|text| self.absolute_path(text)).collect()
    }

    fn absolute_path(&self, text: &[u8]) -> ForeignPath {
        at_one_root(self.working_dir.join(text).normalized())
    }

    /// A path as locations are compared with it.
    fn followed(&self, path: &ForeignPath) -> ForeignPath {
        let resolved = (self.resolved)(path).normalized();
        at_one_root(without_extended_prefix(&resolved))
    }
}

/// `//a` as `/a`: Linux and macOS have one root.
fn at_one_root(path: ForeignPath) -> ForeignPath {
    match path.as_bytes().strip_prefix(b"/") {
        Some(rest) if path.anchor() == b"//" => ForeignPath::parse(path.format(), rest),
        _ => path,
    }
}

/// `\\?\C:\a` as `C:\a`, and `\\?\UNC\server\share` as `\\server\share`: systems answer with such paths.
fn without_extended_prefix(path: &ForeignPath) -> ForeignPath {
    let (format, text) = (path.format(), path.as_bytes());
    if format == PathFormat::Posix {
        return path.clone();
    }
    if let Some(rest) = text.strip_prefix(br"\\?\UNC\") {
        ForeignPath::parse(format, [br"\\", rest].concat())
    } else if let Some(rest) = text.strip_prefix(br"\\?\") {
        ForeignPath::parse(format, rest)
    } else {
        path.clone()
    }
}

/// What a group is found by: the path of its location as the profile has it, or the anchor of its paths.
type GroupKey = Vec<u8>;

/// Groups that are being filled.
struct Grouping<'a> {
    disk: &'a Disk<'a>,
    /// Each with its path as paths are compared with it.
    shared: Vec<(ForeignPath, &'a FileSystemLocation)>,
    /// The longest first: the first one that has a path gets it.
    local: Vec<(ForeignPath, &'a FileSystemLocation)>,
    groups: BTreeMap<GroupKey, Group>,
    skipped: Vec<Skipped>,
    demoted: Vec<ForeignPath>,
}

#[derive(Default)]
struct Group {
    location: Option<String>,
    inputs: Vec<ForeignPath>,
    outputs: Vec<ForeignPath>,
    references: Vec<ForeignPath>,
}

impl<'a> Grouping<'a> {
    fn new(disk: &'a Disk<'a>, options: &GroupOptions<'a>) -> Self {
        let all = options.profile.map_or(&[][..], |of| &of.locations);
        let of = |kind| {
            let mut chosen: Vec<(ForeignPath, &FileSystemLocation)> = Vec::new();
            for location in all.iter().filter(|location| location.kind == kind) {
                let path = disk.followed(&disk.working_dir.join(&location.path));
                // A path that is there twice counts as its last location says.
                let same = chosen
                    .iter_mut()
                    .find(|(_, other)| other.path == location.path);
                match same {
                    Some(other) => *other = (path, location),
                    None => chosen.push((path, location)),
                }
            }
            chosen
        };
        let mut local = of(LocationType::Local);
        // Stable: of two of one length the first one counts. In characters, as AWS's library counts them.
        local.sort_by_key(|(_, location)| std::cmp::Reverse(location.path.chars().count()));
        Self {
            disk,
            shared: of(LocationType::Shared),
            local,
            groups: BTreeMap::new(),
            skipped: Vec::new(),
            demoted: Vec::new(),
        }
    }

    fn add(&mut self, role: Role, path: ForeignPath) {
        let mut location = None;
        if !self.shared.is_empty() || !self.local.is_empty() {
            let followed = self.disk.followed(&path);
            let holds = |of: &&(ForeignPath, _)| followed.is_within(&of.0);
            if let Some((_, shared)) = self.shared.iter().find(holds) {
                let location = shared.name.clone();
                self.skipped.push(Skipped {
                    path,
                    role,
                    location,
                });
                return;
            }
            location = self.local.iter().find(holds).map(|(_, local)| *local);
        }
        let format = path.format();
        let key = match location {
            Some(location) => group_key(format, location.path.as_bytes()),
            None => group_key(format, path.anchor()),
        };
        let group = self.groups.entry(key).or_insert_with(|| Group {
            location: location.map(|location| location.name.clone()),
            ..Group::default()
        });
        match role {
            Role::Input => group.inputs.push(path),
            Role::Output => group.outputs.push(path),
            Role::Reference => group.references.push(path),
        }
    }

    fn finish(mut self) -> AssetRoots {
        let groups = std::mem::take(&mut self.groups).into_values();
        let roots = groups.filter_map(|group| group.finish(self.disk));
        let mut roots: Vec<AssetRoot> = roots.collect();
        roots.sort_by(|one, other| (&one.root, &one.location).cmp(&(&other.root, &other.location)));
        self.skipped.sort();
        AssetRoots {
            roots,
            skipped: self.skipped,
            demoted: self.demoted,
        }
    }
}

impl Group {
    /// Nothing if the paths have nothing in common; but all of a group have their anchor in common.
    fn finish(self, disk: &Disk<'_>) -> Option<AssetRoot> {
        let inputs = self.inputs.iter();
        let paths = inputs.chain(&self.outputs).chain(&self.references);
        let mut root = ForeignPath::common(paths)?;
        if (disk.what_is)(&root) == OnDisk::File {
            root = root.parent();
        }
        Some(AssetRoot {
            root,
            location: self.location,
            inputs: self.inputs,
            outputs: self.outputs,
            references: self.references,
        })
    }
}

/// What has the same key is in one group; on Windows, case and the kind of the separators do not count.
fn group_key(format: PathFormat, text: &[u8]) -> GroupKey {
    match format {
        PathFormat::Posix => text.to_vec(),
        PathFormat::Windows => {
            let text: Vec<u8> = text
                .iter()
                .map(|&b| if b == b'/' { b'\\' } else { b })
                .collect();
            FoldedName::of(&text).into_bytes().into()
        }
    }
}
