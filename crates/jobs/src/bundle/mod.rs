//! Job bundles: a folder with a template, the values of its parameters, and the files that the job needs and makes.
//!
//! ```text
//!     template.yaml|json            parameterDefinitions: PATH parameters say what flows where (dataFlow, objectType)
//!     parameter_values.yaml|json    parameterValues
//!     asset_references.yaml|json    assetReferences: inputs (filenames, directories), outputs (directories), referencedPaths
//!           `--> JobBundle::assets: input files, input directories, output directories, references
//! ```
//!
//! Nothing here looks at a disk: the caller reads the files, and knows the folder's absolute path. Relative values of PATH
//! parameters are below the bundle; AWS's client leaves those of `parameter_values` to the working directory of whoever submits. What
//! `asset_references` says stays as it is written.
//!
//! Source: `deadline` 0.60.10, `client/job_bundle/` (`loader.py`, `parameters.py`, `submission.py`).

mod parameters;
mod references;
#[cfg(test)]
mod tests;

use attachfs_paths::{AssetPaths, ForeignPath};

use crate::documents::{DocumentError, Syntax, read_document};

pub use parameters::{BundleParameter, BundleValue, DataFlow, GivenParameters, ObjectType};

/// The only version of job templates.
const VERSION: &str = "jobtemplate-2023-09";

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file of it cannot be used.
    #[error("the job bundle cannot be used")]
    Document(#[from] DocumentError),
    /// A file is there twice, and nobody knows which counts.
    #[error("the job bundle has both {0}.json and {0}.yaml: only one of them may be there")]
    Twice(&'static str),
    /// There is no template.
    #[error("the job bundle has neither template.json nor template.yaml")]
    NoTemplate,
    /// The default of a PATH parameter is not in the bundle.
    #[error(
        "the default of the parameter {name} is {path:?}: it has to be a relative path that stays in the job bundle"
    )]
    Default {
        /// The parameter.
        name: String,
        /// Its default.
        path: String,
    },
    /// A parameter without a value and a default.
    #[error("the parameter {0} has no value, neither a default nor one that was given")]
    NoValue(String),
    /// A value that was given and is none for its parameter.
    #[error("the value {value:?} of the parameter {name} is no list of paths in JSON")]
    Value {
        /// The parameter.
        name: String,
        /// What was given.
        value: String,
    },
}

/// A file of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct BundleFile<'a> {
    /// How it is written, which its name tells.
    pub syntax: Syntax,
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> BundleFile<'a> {
    /// The one of two files that is there; an error if both are. `name` is that of the files without the extension.
    pub fn one_of(
        name: &'static str,
        json: Option<&'a [u8]>,
        yaml: Option<&'a [u8]>,
    ) -> Result<Option<Self>, BundleError> {
        let file = |syntax| move |bytes| Self { syntax, bytes };
        match (json, yaml) {
            (Some(_), Some(_)) => Err(BundleError::Twice(name)),
            (json, yaml) => Ok(json
                .map(file(Syntax::Json))
                .or(yaml.map(file(Syntax::Yaml)))),
        }
    }
}

/// The files of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct BundleFiles<'a> {
    /// `template`.
    pub template: Option<BundleFile<'a>>,
    /// `parameter_values`.
    pub parameter_values: Option<BundleFile<'a>>,
    /// `asset_references`.
    pub asset_references: Option<BundleFile<'a>>,
}

impl BundleFiles<'_> {
    /// The names of the files, without `.json` or `.yaml`.
    pub const NAMES: [&'static str; 3] = ["template", "parameter_values", "asset_references"];
}

/// A bundle that was read.
#[derive(Debug, Clone)]
pub struct JobBundle {
    /// The name of the job, if the template has one; it may have expressions in it.
    pub name: Option<String>,
    /// The parameters of the template, in its order, with the values that the bundle gives them.
    pub parameters: Vec<BundleParameter>,
    /// What `asset_references` says, as it is written there.
    pub references: BundleReferences,
    /// Whether values of PATH parameters may be URIs, which are no files.
    allows_uris: bool,
}

/// What a job needs, makes and speaks of. Texts of the machine that the bundle is on, in the order of their bytes, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleReferences {
    /// Files that workers need.
    pub input_files: Vec<String>,
    /// Directories of which workers need everything.
    pub input_directories: Vec<String>,
    /// Directories that workers upload from.
    pub outputs: Vec<String>,
    /// Paths that are spoken of.
    pub references: Vec<String>,
}

impl BundleReferences {
    /// For grouping. The files of the input directories have to be added to the inputs; a directory that is missing or
    /// empty is a reference.
    pub fn paths(&self) -> AssetPaths<String> {
        AssetPaths {
            inputs: self.input_files.clone(),
            outputs: self.outputs.clone(),
            references: self.references.clone(),
        }
    }

    fn all(&mut self) -> [&mut Vec<String>; 4] {
        [
            &mut self.input_files,
            &mut self.input_directories,
            &mut self.outputs,
            &mut self.references,
        ]
    }

    fn sort(&mut self) {
        for paths in self.all() {
            paths.sort_unstable();
            paths.dedup();
        }
    }
}

impl JobBundle {
    /// Reads the files of the bundle in `folder`, an absolute path.
    pub fn read(folder: &ForeignPath, files: &BundleFiles<'_>) -> Result<Self, BundleError> {
        let BundleFile { syntax, bytes } = files.template.ok_or(BundleError::NoTemplate)?;
        let mut template = read_document("the job template", syntax, bytes, |template| {
            let version = template.get("specificationVersion")?;
            if version.text()? != VERSION {
                return Err(version.wrong("\"jobtemplate-2023-09\""));
            }
            parameters::read_template(template)
        })?;
        if let Some(BundleFile { syntax, bytes }) = files.parameter_values {
            let name = "the document of parameter values";
            read_document(name, syntax, bytes, |values| {
                parameters::read_values(values, &mut template)
            })?;
        }
        let references = match files.asset_references {
            None => BundleReferences::default(),
            Some(BundleFile { syntax, bytes }) => read_document(
                "the document of asset references",
                syntax,
                bytes,
                references::read,
            )?,
        };
        Ok(Self {
            parameters: parameters::in_bundle(folder, &mut template)?,
            name: template.name,
            references,
            allows_uris: template.allows_uris,
        })
    }

    /// Everything that the job needs, makes and speaks of: the references, and what PATH parameters say. Values that were
    /// given with the submission take the place of the bundle's. A parameter without a value is an error.
    pub fn assets(
        &self,
        given: &GivenParameters<'_>,
    ) -> Result<(Vec<BundleParameter>, BundleReferences), BundleError> {
        let mut assets = self.references.clone();
        let mut parameters = self.parameters.clone();
        for parameter in &mut parameters {
            parameters::give(parameter, given, self.allows_uris)?;
            let format = given.working_dir.format();
            parameters::add(parameter, format, self.allows_uris, &mut assets)?;
        }
        assets.sort();
        Ok((parameters, assets))
    }
}
