//! A job bundle on this machine's disk.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use attachfs_durable::{open_file, path_bytes};
use attachfs_jobs::{
    BundleFile, BundleFiles, BundleParameter, BundleReferences, GivenParameters, JobBundle,
};
use attachfs_paths::ForeignPath;

use super::request::AssetRequest;
use crate::error::{Doing as _, Error};

/// A document of a bundle is shorter.
const LONGEST_DOCUMENT: u64 = 64 << 20;

/// A bundle that was read.
#[derive(Default)]
pub(super) struct Bundle {
    pub(super) folder: Option<ForeignPath>,
    pub(super) files: Vec<PathBuf>,
    pub(super) parameters: Vec<BundleParameter>,
    pub(super) references: BundleReferences,
}

impl Bundle {
    pub(super) fn read(
        folder: &Path,
        request: &AssetRequest,
        working_dir: &ForeignPath,
    ) -> Result<Self, Error> {
        let at = working_dir.join(path_bytes(folder)).normalized();
        let mut files = Vec::new();
        let mut contents = Vec::new();
        for name in BundleFiles::NAMES {
            let mut pair = [None, None];
            for (place, end) in pair.iter_mut().zip(["json", "yaml"]) {
                let path = folder.join(format!("{name}.{end}"));
                *place = read_document(folder, &path)?;
                if place.is_some() {
                    files.push(path);
                }
            }
            contents.push(pair);
        }
        let file = |index: usize, name| {
            let [json, yaml] = &contents[index];
            BundleFile::one_of(name, json.as_deref(), yaml.as_deref())
        };
        let [template, values, references] = BundleFiles::NAMES;
        let refused = |error| {
            Error::usage(format!("cannot use the job bundle {}", folder.display())).because(error)
        };
        let found = BundleFiles {
            template: file(0, template).map_err(refused)?,
            parameter_values: file(1, values).map_err(refused)?,
            asset_references: file(2, references).map_err(refused)?,
        };
        let bundle = JobBundle::read(&at, &found).map_err(refused)?;
        let given = GivenParameters {
            values: &request.parameters,
            working_dir,
        };
        let (parameters, references) = bundle.assets(&given).map_err(refused)?;
        if let Some(name) = request
            .parameters
            .keys()
            .find(|name| !parameters.iter().any(|of| of.name == **name))
        {
            tracing::warn!(name, "the job bundle has no such parameter");
        }
        Ok(Self {
            folder: Some(at),
            files,
            parameters,
            references,
        })
    }
}

/// Reads a document of a bundle, if the bundle has it. The author of the bundle may be a stranger: a link that leads out of it, a pipe, a device
/// and a file of more than [`LONGEST_DOCUMENT`] bytes are refused, and none of them is waited for.
fn read_document(folder: &Path, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing(|| cannot_read(path)),
    };
    let folder = fs::canonicalize(folder).doing(|| cannot_read(folder))?;
    if !real.starts_with(folder) {
        let why = "it is a link that leads out of the job bundle";
        return Err(Error::usage(format!("{}: {why}", cannot_read(path))));
    }
    let file = open_file(&real).map_err(|error| Error::usage(cannot_read(path)).because(error))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .doing(|| cannot_read(path))?;
    if bytes.len() as u64 > LONGEST_DOCUMENT {
        return Err(Error::usage(format!(
            "{} is longer than a document of a job bundle may be, {LONGEST_DOCUMENT} bytes",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
