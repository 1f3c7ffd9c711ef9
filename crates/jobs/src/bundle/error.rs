//! What can be wrong with a bundle.

use crate::documents::DocumentError;

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
    /// A given value that its parameter cannot have.
    #[error("the value {value:?} of the parameter {name} is no list of paths in JSON")]
    Value {
        /// The parameter.
        name: String,
        /// What was given.
        value: String,
    },
}
