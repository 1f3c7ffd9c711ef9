//! The error of this crate: what was being done, to which path, and why it failed.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct DurableError {
    /// What was being done, as it follows "cannot".
    pub doing: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl DurableError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// The kind of the cause.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// For functions that return [`io::Error`]: the kind stays, and the text names the path.
impl From<DurableError> for io::Error {
    fn from(error: DurableError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Adds operation and path to the error of a single step.
pub(crate) trait At<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, DurableError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, DurableError> {
        self.map_err(|source| DurableError::new(doing, path, source))
    }
}
