//! The files of a bundle, each of which may be JSON or YAML.

use super::error::BundleError;
use crate::documents::Syntax;

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
