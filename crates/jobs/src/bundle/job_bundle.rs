//! A bundle that was read, and all that it says of files.

use attachfs_paths::ForeignPath;

use super::error::BundleError;
use super::files::{BundleFile, BundleFiles};
use super::parameters::{self, BundleParameter, GivenParameters};
use super::references::{self, BundleReferences};
use crate::documents::read_document;

/// The only version of job templates.
const VERSION: &str = "jobtemplate-2023-09";

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
