//! A job bundle on this machine's disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::path_bytes;
use attachfs_jobs::{
    BundleFile, BundleFiles, BundleParameter, BundleReferences, GivenParameters, JobBundle,
};
use attachfs_paths::ForeignPath;

use super::gathering::AssetRequest;
use crate::error::{Doing as _, Error};

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
                match fs::read(&path) {
                    Ok(bytes) => {
                        *place = Some(bytes);
                        files.push(path);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).doing(|| cannot_read(&path)),
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

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
