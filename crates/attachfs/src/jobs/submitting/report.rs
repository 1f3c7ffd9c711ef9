//! What is told of a submission.

use attachfs_manifest::EscapedBytes;
use attachfs_paths::{ForeignPath, Role, Skipped};
use serde::Serialize;
use serde_json::Value;

/// An input that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct InputFault {
    /// The path, escaped for a terminal.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A path that is in no manifest, which is no fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// The path, escaped for a terminal.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What was submitted, or would be, of one root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubmittedRoot {
    /// The root.
    pub root: String,
    /// The name of the LOCAL location that it is in.
    pub location: Option<String>,
    /// Files in its manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories that workers upload from, relative to the root.
    pub outputs: Vec<String>,
    /// The key of the manifest below `Manifests/`; none without inputs, and in a dry run.
    pub manifest: Option<String>,
    /// The hash of the manifest's bytes.
    pub manifest_hash: Option<String>,
    /// Files that were read; the hashes of the others were remembered.
    pub read_files: u64,
    /// Objects that were sent.
    pub uploaded_objects: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Objects that the store had.
    pub present_objects: u64,
    /// Their bytes.
    pub present_bytes: u64,
}

/// What a submission did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Submission {
    /// The attachments document, byte for byte as AWS's library writes it, without a line end; none in a dry run.
    #[serde(rename = "attachments", serialize_with = "as_json")]
    pub document: Option<String>,
    /// Each root, sorted.
    pub roots: Vec<SubmittedRoot>,
    /// What is in none of them.
    pub skipped: Vec<LeftOut>,
}

#[expect(clippy::ref_option, reason = "serde gives the field as it is")]
fn as_json<S: serde::Serializer>(document: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    let parsed = document.as_deref().map(serde_json::from_str::<Value>);
    let parsed = parsed.transpose().map_err(serde::ser::Error::custom)?;
    parsed.serialize(to)
}

/// A path as a person reads it.
pub(super) fn shown(path: &ForeignPath) -> String {
    EscapedBytes(path.as_bytes()).to_string()
}

/// A path that every machine has.
pub(super) fn shared(skipped: &Skipped) -> LeftOut {
    let role = match skipped.role {
        Role::Input => "input",
        Role::Output => "output directory",
        Role::Reference => "reference",
    };
    LeftOut {
        path: shown(&skipped.path),
        reason: format!(
            "{role} in the SHARED location {:?}: every machine has it",
            skipped.location
        ),
    }
}
