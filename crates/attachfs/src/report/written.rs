//! What is told of a report that a mount was to write.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What became of a report that was to be written when a mount ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenReport {
    /// The file.
    #[serde(with = "attachfs_session::path_json")]
    pub file: PathBuf,
    /// Why it was not written.
    pub failure: Option<String>,
}
