//! What a job needs, makes and speaks of, put into roots. Nothing is written and no store is asked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use attachfs_durable::{path_bytes, path_of_bytes};
use attachfs_jobs::{BundleParameter, BundleReferences, BundleValue, ObjectType};
use attachfs_paths::{
    AssetPaths, AssetRoot, Disk, ForeignPath, GroupOptions, KnownPaths, KnownSource, LocationType,
    OnDisk, PathFormat, UnknownPaths, group_assets,
};
use attachfs_transfer::Progress;
use tokio_util::sync::CancellationToken;

use super::bundle::Bundle;
use super::report::{InputFault, LeftOut, shared, shown};
use super::request::{AssetRequest, PathIsRequired, foreign};
use super::walking::Walked;
use crate::cancel::Cancellable;
use crate::error::Error;

/// One root with its files.
#[derive(Debug, Clone)]
pub struct GatheredRoot {
    pub(super) of: AssetRoot,
    /// The root as text.
    pub root: String,
    /// The output directories from the root.
    pub outputs: Vec<String>,
    /// How many inputs it has.
    pub files: u64,
    /// Their bytes, as long as they were when they were looked at.
    pub bytes: u64,
}

/// What was gathered.
#[derive(Debug, Clone)]
pub struct GatheredAssets {
    /// Sorted.
    pub roots: Vec<GatheredRoot>,
    /// What cannot be used, all of it: with any of these nothing is submitted.
    pub faults: Vec<InputFault>,
    /// What is in no manifest, and why: inputs that are missing, what every machine has, what is no file.
    pub left_out: Vec<LeftOut>,
    /// What somebody has to be asked about.
    pub unknown: UnknownPaths,
    /// Known paths that name no place, escaped for a terminal.
    pub ignored_known: Vec<String>,
    /// The parameters of the bundle with their values.
    pub parameters: Vec<BundleParameter>,
    /// The bundle's template and what else of its files there is.
    pub bundle_files: Vec<PathBuf>,
}

impl GatheredAssets {
    /// Fails if anything cannot be used.
    pub fn require_usable(&self) -> Result<(), Error> {
        match &self.faults[..] {
            [] => Ok(()),
            [InputFault { path, reason }] => Err(Error::usage(format!(
                "{path} cannot be submitted: {reason}"
            ))),
            all => Err(Error::usage(format!(
                "{} paths cannot be submitted",
                all.len()
            ))),
        }
    }
}

/// Finds all files of a submission and groups them by roots. Fails only if the bundle cannot be used, or when it is cancelled: what is
/// wrong with inputs is in the result, all of it.
pub fn gather_assets(
    request: &AssetRequest,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<GatheredAssets, Error> {
    let progress = Cancellable::new(progress, cancel);
    let working_dir = foreign(&request.working_dir);
    let bundle = match &request.bundle {
        None => Bundle::default(),
        Some(folder) => Bundle::read(folder, request, &working_dir)?,
    };
    let mut gathering = Gathering {
        request,
        working_dir: &working_dir,
        paths: AssetPaths::default(),
        faults: BTreeSet::new(),
        left_out: BTreeSet::new(),
    };
    gathering.add(&bundle.references, &progress)?;
    let grouped = gathering.group();
    let known = known_paths(request, &working_dir, &bundle);
    let mut faults = gathering.faults;
    let mut left_out = gathering.left_out;
    left_out.extend(grouped.skipped.iter().map(shared));
    for path in &grouped.demoted {
        let reason = "it is missing".to_owned();
        let path = shown(path);
        match request.required {
            PathIsRequired::Yes => _ = faults.insert(InputFault { path, reason }),
            PathIsRequired::No => {
                let reason = reason + ", and is submitted as a reference";
                left_out.insert(LeftOut { path, reason });
            }
        }
    }
    let unknown = known.unknown(&grouped);
    let mut roots = Vec::new();
    for root in grouped.roots {
        match gathered(root) {
            Ok(root) => roots.push(root),
            Err(fault) => _ = faults.insert(fault),
        }
    }
    let ignored = known.ignored().iter();
    Ok(GatheredAssets {
        roots,
        faults: faults.into_iter().collect(),
        left_out: left_out.into_iter().collect(),
        unknown,
        ignored_known: ignored
            .map(|path| attachfs_manifest::EscapedBytes(path).to_string())
            .collect(),
        parameters: bundle.parameters,
        bundle_files: bundle.files,
    })
}

/// Paths that are being put together.
struct Gathering<'a> {
    request: &'a AssetRequest,
    working_dir: &'a ForeignPath,
    paths: AssetPaths<Vec<u8>>,
    faults: BTreeSet<InputFault>,
    left_out: BTreeSet<LeftOut>,
}

impl Gathering<'_> {
    fn add(&mut self, of: &BundleReferences, progress: &dyn Progress) -> Result<(), Error> {
        let request = self.request;
        let bytes = |texts: &[String]| -> Vec<Vec<u8>> {
            texts.iter().map(|text| text.as_bytes().to_vec()).collect()
        };
        let named = |paths: &[PathBuf]| -> Vec<Vec<u8>> {
            paths.iter().map(|path| path_bytes(path).to_vec()).collect()
        };
        self.paths = AssetPaths {
            inputs: bytes(&of.input_files),
            outputs: [bytes(&of.outputs), named(&request.outputs)].concat(),
            references: [bytes(&of.references), named(&request.references)].concat(),
        };
        let mut walked = Walked::default();
        if let Some(bundle) = &request.bundle {
            for path in walked.check_bundle(&self.local(path_bytes(bundle))) {
                let reason = "it is a link that leads out of the job bundle".to_owned();
                self.fault(&foreign(&path), reason);
            }
        }
        for text in bytes(&of.input_directories) {
            self.take_directory(&text, &mut walked, progress)?;
        }
        for text in named(&request.inputs) {
            if self.local(&text).is_dir() {
                self.take_directory(&text, &mut walked, progress)?;
            } else {
                self.paths.inputs.push(text);
            }
        }
        let inputs = walked.files.iter().map(|path| path_bytes(path).to_vec());
        self.paths.inputs.extend(inputs);
        for (path, reason) in walked.left_out {
            let path = shown(&foreign(&path));
            let reason = reason.to_owned();
            self.left_out.insert(LeftOut { path, reason });
        }
        for (path, error) in walked.unreadable {
            self.fault(&foreign(&path), format!("it cannot be read: {error}"));
        }
        Ok(())
    }

    /// Where a text leads here.
    fn local(&self, text: &[u8]) -> PathBuf {
        path_of_bytes(self.working_dir.join(text).as_bytes())
    }

    fn fault(&mut self, path: &ForeignPath, reason: String) {
        let path = shown(path);
        self.faults.insert(InputFault { path, reason });
    }

    /// Takes the files of a directory. One that is empty is a reference, and so is one that is missing, or that is a fault.
    fn take_directory(
        &mut self,
        text: &[u8],
        walked: &mut Walked,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let directory = self.local(text);
        if !directory.is_dir() {
            let path = self.working_dir.join(text).normalized();
            let reason = "there is no such directory".to_owned();
            match self.request.required {
                PathIsRequired::Yes => self.fault(&path, reason),
                PathIsRequired::No => {
                    let path = shown(&path);
                    let reason = reason + ", and it is submitted as a reference";
                    self.left_out.insert(LeftOut { path, reason });
                    self.paths.references.push(text.to_vec());
                }
            }
        } else if !walked.walk(&directory, progress)? {
            self.paths.references.push(text.to_vec());
        }
        Ok(())
    }

    /// Groups what can be used; the rest are faults.
    fn group(&mut self) -> attachfs_paths::AssetRoots {
        let inputs = std::mem::take(&mut self.paths.inputs);
        let mut usable = Vec::with_capacity(inputs.len());
        for text in inputs {
            let path = self.working_dir.join(&text).normalized();
            let at = path_of_bytes(path.as_bytes());
            match fs::metadata(&at) {
                Ok(found) if found.is_dir() => {
                    self.fault(&path, "it is a directory, not a file".to_owned());
                }
                Ok(found) if !found.is_file() => {
                    self.fault(&path, "it is neither a file nor a directory".to_owned());
                }
                Err(error) if !is_missing(&error) => {
                    self.fault(&path, format!("it cannot be looked at: {error}"));
                }
                Ok(_) | Err(_) => usable.push(text),
            }
        }
        self.paths.inputs = usable;
        let real = RefCell::new(BTreeMap::new());
        let disk = Disk {
            working_dir: self.working_dir,
            what_is: &what_is,
            resolved: &|path| resolved(path, &mut real.borrow_mut()),
        };
        let options = GroupOptions {
            profile: self.request.profile.as_ref(),
            require_inputs: false,
        };
        match group_assets(&self.paths, &disk, &options) {
            Ok(roots) => roots,
            // Only if a file became a directory since it was looked at.
            Err(faults) => {
                for path in &faults.directories {
                    self.fault(path, "it is a directory, not a file".to_owned());
                }
                attachfs_paths::AssetRoots::default()
            }
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn what_is(path: &ForeignPath) -> OnDisk {
    match fs::metadata(path_of_bytes(path.as_bytes())) {
        Ok(found) if found.is_dir() => OnDisk::Directory,
        Ok(_) => OnDisk::File,
        Err(_) => OnDisk::Missing,
    }
}

/// A path with its links followed, as far as it is there. Directories are remembered: many files have the same one.
fn resolved(path: &ForeignPath, known: &mut BTreeMap<ForeignPath, PathBuf>) -> ForeignPath {
    let at = path_of_bytes(path.as_bytes());
    if let Ok(real) = fs::canonicalize(&at) {
        return foreign(&real);
    }
    let parent = path.parent();
    let (Some(name), true) = (at.file_name(), parent != *path) else {
        return path.clone();
    };
    let above = match known.get(&parent) {
        Some(above) => above.clone(),
        None => {
            let above = path_of_bytes(resolved(&parent, known).as_bytes());
            known.insert(parent, above.clone());
            above
        }
    };
    foreign(&above.join(name))
}

/// What nobody has to be asked about.
fn known_paths(request: &AssetRequest, working_dir: &ForeignPath, bundle: &Bundle) -> KnownPaths {
    // What a person typed is known, from wherever it was typed.
    let absolute = |path: &PathBuf| working_dir.join(path_bytes(path)).as_bytes().to_vec();
    let typed: Vec<(Vec<u8>, bool)> = (request.inputs.iter())
        .map(|path| (absolute(path), !request.working_dir.join(path).is_dir()))
        .chain(request.outputs.iter().map(|path| (absolute(path), false)))
        .collect();
    let options = request
        .known
        .iter()
        .map(|path| KnownSource::Option(path_bytes(path)));
    let locations = request
        .profile
        .iter()
        .flat_map(|profile| &profile.locations);
    let locations = locations
        .filter(|of| of.kind == LocationType::Local)
        .map(|of| KnownSource::Location(of.path.as_bytes()));
    let given = bundle.parameters.iter();
    let given = given.filter(|of| request.parameters.contains_key(&of.name));
    let parameters = given.flat_map(|of| {
        let paths = match &of.value {
            BundleValue::Path(path) => std::slice::from_ref(path),
            BundleValue::Paths(paths) => &paths[..],
            BundleValue::Missing | BundleValue::Other(_) => &[],
        };
        paths.iter().map(|path| match of.object {
            ObjectType::File => KnownSource::FileParameter(path.as_bytes()),
            ObjectType::Directory => KnownSource::DirectoryParameter(path.as_bytes()),
        })
    });
    let typed = typed.iter().map(|(path, is_file)| match is_file {
        true => KnownSource::FileParameter(path),
        false => KnownSource::Option(path),
    });
    let folder = bundle.folder.iter();
    let folder = folder.map(|folder| KnownSource::Bundle(folder.as_bytes()));
    let sources = options
        .chain(folder)
        .chain(locations)
        .chain(typed)
        .chain(parameters);
    let home = request.home.as_deref().map(path_bytes);
    KnownPaths::new(PathFormat::HOST, home, sources)
}

/// A root with the lengths of its files, as a document can name it.
fn gathered(of: AssetRoot) -> Result<GatheredRoot, InputFault> {
    let not_text = |path: &ForeignPath| InputFault {
        path: shown(path),
        reason: "it is not UTF-8, and a job's attachments are text".to_owned(),
    };
    let root = of
        .root
        .to_str()
        .ok_or_else(|| not_text(&of.root))?
        .to_owned();
    let mut outputs = Vec::new();
    for output in of.relative_outputs().unwrap_or_default() {
        let text = String::from_utf8(output);
        outputs.push(
            text.map_err(|error| {
                not_text(&ForeignPath::parse(PathFormat::HOST, error.as_bytes()))
            })?,
        );
    }
    let bytes = of.inputs.iter().map(|input| {
        let found = fs::metadata(path_of_bytes(input.as_bytes()));
        found.map_or(0, |found| found.len())
    });
    let bytes = bytes.fold(0, u64::saturating_add);
    Ok(GatheredRoot {
        files: of.inputs.len() as u64,
        bytes,
        root,
        outputs,
        of,
    })
}
