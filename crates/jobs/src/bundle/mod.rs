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
//! parameters are below the bundle; AWS's client leaves those of `parameter_values` to the working directory of the person who submits. What
//! `asset_references` says stays as it is written.
//!
//! Source: `deadline` 0.60.10, `client/job_bundle/` (`loader.py`, `parameters.py`, `submission.py`).

mod error;
mod files;
mod job_bundle;
mod parameters;
mod references;
#[cfg(test)]
mod tests;

pub use error::BundleError;
pub use files::{BundleFile, BundleFiles};
pub use job_bundle::JobBundle;
pub use parameters::{BundleParameter, BundleValue, DataFlow, GivenParameters, ObjectType};
pub use references::BundleReferences;
